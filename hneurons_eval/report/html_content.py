"""What a report says, as plain JSON values: from the figures of stages, the answers in their logs, and the neurons.

```python
said = content(stages, {"detect.eval": answers_in(log)}, found_neurons(summary, [Path("logs")]))
json.dumps(said, allow_nan=False)
```
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.artifacts import artifact_root
from hneurons_eval.dose_response import series_of
from hneurons_eval.evaluation import LABELS
from hneurons_eval.neurons import NeuronSet, NeuronSetError
from hneurons_eval.packed import unpack
from hneurons_eval.probe import Probe, ProbeError
from hneurons_eval.report.dose_response import (
    headline_cells,
    headlines_of,
    outcomes_of,
    side_cells,
    title_of,
    verdict,
)
from hneurons_eval.report.html_glance import audit_sentences, counted, glance, missing
from hneurons_eval.report.summary import MARKS, StageFigures, by_question_set, detection_cells, detection_note
from hneurons_eval.statistics import auroc

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

MOST_NEURONS = 20
"""Neurons in the table of the strongest."""
MOST_ANSWERS = 3
"""Answers that are shown of each neuron, and of each kind."""


@dataclass(frozen=True)
class FoundNeurons:
    """The neurons and the path of a probe, as far as its files are there.

    Attributes:
        neurons: with weights, and with stability where their file is there.
        widths: neurons in each layer.
        curve: a point for each C of the path.
        C: the one that was taken.
        files: where they were read.
    """

    neurons: NeuronSet | None = None
    widths: tuple[int, ...] = ()
    curve: Sequence[Mapping[str, float]] = ()
    C: float = math.nan
    files: tuple[str, ...] = field(default=())


def content(
    stages: Sequence[StageFigures],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    found: FoundNeurons,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """All that a report says; JSON, where a number that is not finite is null.

    Args:
        stages: as `summary.print_summary` takes them.
        answers: by the location of a log, what `answers_in` reads from it.
        found: what `found_neurons` reads.
        notes: sentences on logs that could not be read as a sweep.
    """
    tried = [stage for stage in stages if stage.stage in ("probe", "detect") and stage.figures]
    last = answers.get(tried[-1].location, ()) if tried else ()
    lights = glance(stages)
    said = {
        "format": "hneurons-report",
        "version": 1,
        "model": next((stage.facts["model"] for stage in stages if stage.facts.get("model")), "the model"),
        "glance": lights,
        "lights": counted(lights),
        "missing": missing(stages),
        "notes": list(notes),
        "identification": _identification(found, last),
        "detection": [one for stage in tried for one in _detection(stage, answers.get(stage.location, ()))],
        "sweeps": [_sweep(stage) for stage in stages if stage.sweep],
        "examples": examples(last),
        "logs": [
            {
                "stage": stage.stage,
                "title": stage.name,
                "location": stage.location,
                "status": stage.status,
                "figures": dict(stage.figures),
            }
            for stage in stages
        ],
    }
    return _finite(said)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- answers ---------------------------------------------------------------------------------------------


def answers_in(log: "EvalLog") -> list[dict[str, Any]]:
    """The classified answers of a log of `probe` or `detect`: what was asked and said, the label and the probability.

    What does not fit, in a log that another program wrote, is left out.
    """
    found = []
    for sample in log.samples or []:
        score = (sample.scores or {}).get("detected")
        details = (score.metadata or {}) if score else {}
        p, label = details.get("probability"), details.get("label")
        if score is None or label not in LABELS or isinstance(p, bool) or not isinstance(p, int | float):
            continue
        response = str(score.answer or "")
        found.append(
            {
                "question": str(details.get("question") or ""),
                "response": response,
                "span": _span(details.get("span"), len(response)),
                "label": label,
                "probability": float(p),
                "called": "hallucinated" if details.get("prediction") else "faithful",
                "dataset": str(details.get("dataset") or ""),
                "selected": details.get("selected"),
            }
        )
    return found


def probe_summary_in(log: "EvalLog") -> dict[str, Any]:
    """The account of the probe that a log of `probe` or `detect` carries; empty without one."""
    of_task = (log.eval.metadata or {}).get("probe")
    if isinstance(of_task, dict):
        return of_task
    for sample in log.samples or []:
        for score in (sample.scores or {}).values():
            if isinstance(of_sample := (score.metadata or {}).get("probe"), dict):
                return of_sample
    return {}


def _span(value: Any, length: int) -> list[int] | None:
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(type(end) is int for end in value)
    return list(value) if whole and 0 <= value[0] < value[1] <= length else None


def examples(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind of call, right or wrong, the answers of which the probe was surest."""
    kinds = (
        ("hallucinated, and called so", "hallucinated", "hallucinated"),
        ("hallucinated, but called faithful", "hallucinated", "faithful"),
        ("right, and called faithful", "faithful", "faithful"),
        ("right, but called hallucinated", "faithful", "hallucinated"),
    )
    found = []
    for kind, label, called in kinds:
        own = [one for one in answers if one["label"] == label and one["called"] == called]
        own.sort(key=lambda one: one["probability"], reverse=called == "hallucinated")
        first = list({one["question"]: one for one in reversed(own)}.values())[::-1][:MOST_ANSWERS]
        shown = [{key: value for key, value in one.items() if key != "selected"} for one in first]
        found.append({"kind": kind, "of": len(own), "answers": shown})
    return found if answers else []


# --- neurons ---------------------------------------------------------------------------------------------


def found_neurons(summary: Mapping[str, Any], near: Sequence[Path]) -> FoundNeurons:
    """The neurons and the path that an account of a probe names, as far as they can be read.

    Args:
        summary: `directory` and `neurons_file`, as `probe_summary_in` gives them.
        near: files or directories, in or above which a relative name is looked for.
    """
    probe, neurons, files = None, None, []
    if directory := _located(summary.get("directory"), near):
        try:
            probe = Probe.load(directory)
            neurons = probe.neurons() if probe.penalty_ == "l1" else None
            files.append(str(directory))
        except (ProbeError, NeuronSetError, ValueError, OSError):
            probe = None
    if file := _located(summary.get("neurons_file"), near):
        try:
            neurons = NeuronSet.load(file)
            files.append(str(file))
        except (NeuronSetError, OSError):
            pass  # those of the probe stand, without their stability
    if neurons is not None and not len(neurons):
        neurons = None
    widths = probe.widths if probe else tuple((neurons.widths or ()) if neurons else ())
    curve = probe.metadata.get("curve") if probe else None
    usable = isinstance(curve, list) and all(isinstance(point, dict) and "C" in point for point in curve)
    return FoundNeurons(neurons, widths, curve or () if usable else (), probe.C_ if probe else math.nan, tuple(files))


def _located(name: Any, near: Sequence[Path]) -> Path | None:
    """A file or directory where it was written, or below an ancestor of what is near, or among the artifacts."""
    if not name or not isinstance(name, str):
        return None
    path = Path(name)
    places = [path]
    if not path.is_absolute():
        places += [parent / path for one in near for parent in one.absolute().parents]
    places.append(artifact_root().joinpath(*path.parts[-3:]))
    return next((place for place in places if place.exists()), None)


def _identification(found: FoundNeurons, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    neurons = found.neurons
    if neurons is None and not found.curve:
        return None
    said: dict[str, Any] = {
        "files": found.files,
        "C": found.C,
        "curve": [dict(p) for p in found.curve],
        "neurons": None,
    }
    if neurons is None:
        return said
    return said | {
        "widths": found.widths,
        "neurons": {
            "layers": neurons.layers.tolist(),
            "indices": neurons.indices.tolist(),
            "weights": None if neurons.weights is None else neurons.weights.tolist(),
            "stability": None if neurons.stability is None else neurons.stability.tolist(),
        },
        "strongest": strongest(neurons, answers),
    }


def strongest(neurons: NeuronSet, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The neurons of the largest weights, each with the answers that drive it most and its AUROC alone."""
    matrix, rows = _contributions(answers, len(neurons))
    labels = [LABELS[row["label"]] for row in rows]
    weights = neurons.weights if neurons.weights is not None else np.zeros(len(neurons))
    found = []
    for place in np.argsort(-weights, kind="stable")[:MOST_NEURONS].tolist():
        driven = []
        for row in np.argsort(-matrix[:, place], kind="stable").tolist() if len(rows) else []:
            one = rows[row]
            if one["question"] in [other["question"] for other in driven]:
                continue
            kept = {key: one[key] for key in ("question", "response", "span", "label", "probability")}
            driven.append({**kept, "contribution": float(matrix[row, place])})
            if len(driven) == MOST_ANSWERS:
                break
        found.append(
            {
                "layer": int(neurons.layers[place]),
                "neuron": int(neurons.indices[place]),
                "weight": None if neurons.weights is None else float(neurons.weights[place]),
                "stability": None if neurons.stability is None else float(neurons.stability[place]),
                "auroc": auroc(labels, matrix[:, place]) if len(set(labels)) == 2 else None,
                "answers": driven,
            }
        )
    return found


def _contributions(
    answers: Sequence[Mapping[str, Any]], neurons: int
) -> tuple[NDArray[np.float64], list[Mapping[str, Any]]]:
    """What the neurons contributed to each answer `[answers, neurons]`, and the answers of which that is known."""
    vectors, rows = [], []
    for one in answers:
        try:
            vector = unpack(str(one["selected"] or ""))
        except ValueError:
            continue
        if len(vector) == neurons and np.isfinite(vector).all():
            vectors.append(vector)
            rows.append(one)
    return np.array(vectors).reshape(len(rows), neurons), rows


# --- detection and sweeps --------------------------------------------------------------------------------


def _detection(stage: StageFigures, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    how = "fresh answers" if stage.stage == "detect" else "questions held out"
    found = []
    for name, figures in by_question_set(stage.figures).items():
        own = [one for one in answers if not name or one["dataset"] == name]
        header, rows = detection_cells(figures)
        found.append(
            {
                "title": f"{stage.name}{f', {name}' if name else ''}: {how}",
                "figures": figures,
                "header": header,
                "rows": rows if "auroc" in figures else [],
                "note": detection_note(figures),
                "audits": [
                    {"name": audit, "flagged": bool(figures[f"audit_{audit}"]), "sentence": sentence}
                    for audit, sentence in audit_sentences(figures).items()
                ],
                "labels": [LABELS[one["label"]] for one in own],
                "probabilities": [round(one["probability"], 4) for one in own],
            }
        )
    return found


def _sweep(stage: StageFigures) -> dict[str, Any]:
    series = []
    for name, own in series_of(stage.figures).items():
        if "items" not in own:
            continue
        headlines = headlines_of(own)
        others = [outcome for outcome in outcomes_of(own) if outcome not in headlines]
        outcomes = []
        for outcome in headlines:
            kind, sentence = verdict(own, outcome)
            header, rows = headline_cells(own, outcome)
            outcomes.append(
                {
                    "outcome": outcome,
                    "title": title_of(outcome),
                    "verdict": kind,
                    "mark": MARKS[kind][0],
                    "sentence": sentence,
                    "header": header,
                    "rows": rows,
                }
            )
        header, rows = side_cells(own, others) if others else ([], [])
        series.append(
            {
                "name": name,
                "questions": int(own["items"]),
                "control_sets": int(own.get("control_sets", 0)),
                "outcomes": outcomes,
                "others": {"header": header, "rows": rows},
                "figures": own,
            }
        )
    return {"title": stage.name, "status": stage.status, "series": series}
