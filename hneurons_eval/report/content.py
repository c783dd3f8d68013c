"""What a report says, as plain JSON values: from the figures of stages, the answers in their logs, and the neurons.

```python
said = content(stages, {"detect.eval": answers_in(log)}, found_neurons(summary, [Path("logs")]))
```
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.analysis.dose_response import series_of
from hneurons_eval.artifacts.logs import tried_answers
from hneurons_eval.report import drift_section, risk_section
from hneurons_eval.report.detection import by_question_set, detection_cells, detection_note, sets_cells, verdicts
from hneurons_eval.report.dose_response import headline_cells, sets_in_words, side_cells
from hneurons_eval.report.found_neurons import first_of_each_question, identification
from hneurons_eval.report.overview import answer, audit_sentences, missing, overview
from hneurons_eval.report.verdicts import VERDICTS, headlines_of, outcomes_of, over_sweeps, primaries, title_of, verdict
from hneurons_eval.report.wording import Figures, Line, StageFigures, is_number

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.artifacts.references import Reference


def content(
    stages: Sequence[StageFigures],
    answers: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    found: "Reference | None" = None,
    notes: Sequence[str] = (),
    lines: Sequence[Line] = (),
) -> dict[str, Any]:
    """All that a report says; JSON, where a number that is not finite is null.

    `answers` are by the location of their log; `notes` are sentences on logs that could not be read as a sweep,
    `lines` those of the overview on single logs of external tasks.
    """
    tried = [stage for stage in stages if stage.stage in ("probe", "detect") and stage.figures]
    answers = answers or {}
    last = answers.get(tried[-1].location, ()) if tried else ()
    primary = primaries([(stage.name, series_of(stage.figures)) for stage in stages if stage.sweep])
    said = {
        "format": "hneurons-report",
        "version": 2,
        "model": next((stage.facts["model"] for stage in stages if stage.facts.get("model")), "the model"),
        "answer": answer(stages, primary),
        "overview": [*overview(stages), *lines],
        "missing": missing(stages),
        "notes": notes,
        "files": {name: stage.facts[name] for stage in stages for name in ("neurons", "probe") if name in stage.facts},
        "identification": identification(found, last),
        "detection": [one for stage in tried for one in _detection(stage, answers.get(stage.location, ()))],
        "sweeps": [_sweep(stage) for stage in stages if stage.sweep],
        "over_sweeps": over_sweeps(primary),
        "risk": [risk_section.section(stage) for stage in stages if stage.stage == "risk" and not stage.sweep],
        "drift": [drift_section.section(stage) for stage in stages if stage.stage == "drift" and not stage.sweep],
        "examples": examples(last),
        "logs": [
            {
                "stage": stage.stage,
                "title": title,
                "location": location,
                "status": stage.status,
                "figures": stage.figures,
            }
            for stage in stages
            for title, location in stage.logs or ((stage.name, stage.location),)
        ],
    }
    return json.loads(json.dumps(said), parse_constant=lambda name: None)


# --- answers ---------------------------------------------------------------------------------------------


def answers_in(log: "EvalLog") -> list[dict[str, Any]]:
    """The classified answers of a log of `probe` or `detect`: what was asked and said, the label and the probability.

    What does not fit, in a log that another program wrote, is left out.
    """
    found = []
    for one in tried_answers(log):
        if one.label not in LABELS or not is_number(one.probability):
            continue
        found.append(
            {
                "question": str(one.question),
                "response": one.response,
                "span": _span(one.span, len(one.response)),
                "label": one.label,
                "probability": float(one.probability),
                "called": "hallucinated" if one.prediction else "faithful",
                "dataset": str(one.dataset),
                "selected": one.selected,
            }
        )
    return found


def _span(value: Any, length: int) -> list[int] | None:
    whole = isinstance(value, list | tuple) and len(value) == 2 and all(type(end) is int for end in value)
    return list(value) if whole and 0 <= value[0] < value[1] <= length else None


def examples(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind of call, right or wrong, the answers of which the probe was surest."""
    kinds = {
        ("hallucinated", "hallucinated"): "hallucinated, and called so",
        ("hallucinated", "faithful"): "hallucinated, but called faithful",
        ("faithful", "faithful"): "right, and called faithful",
        ("faithful", "hallucinated"): "right, but called hallucinated",
    }
    found = []
    for (label, called), kind in kinds.items():
        own = [one for one in answers if one["label"] == label and one["called"] == called]
        own.sort(key=lambda one: one["probability"], reverse=called == "hallucinated")
        first = [{k: v for k, v in one.items() if k != "selected"} for one in first_of_each_question(own)]
        found.append({"kind": kind, "of": len(own), "answers": first})
    return found if answers else []


# --- detection and sweeps --------------------------------------------------------------------------------


def _detection(stage: StageFigures, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    how = "fresh answers" if stage.stage == "detect" else "held-out questions"
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
                "sets": sets_cells(figures),
                "verdicts": verdicts(figures),
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
        header, rows = side_cells(own, others) if others else ([], [])
        series.append(
            {
                "name": name,
                "questions": int(own["items"]),
                "control_sets": int(own.get("control_sets", 0)),
                "sets": sets_in_words(own, bool(stage.logs)),
                "outcomes": [_outcome(own, outcome, stage.scaled) for outcome in headlines],
                "others": {"header": header, "rows": rows},
                "figures": own,
            }
        )
    return {"title": stage.name, "status": stage.status, "scaled": stage.scaled, "series": series}


def _outcome(figures: Figures, outcome: str, scaled: str) -> dict[str, Any]:
    kind, sentence = verdict(figures, outcome, scaled)
    mark, status = VERDICTS[kind]
    header, rows = headline_cells(figures, outcome)
    said = {"outcome": outcome, "title": title_of(outcome), "verdict": kind, "mark": mark, "status": status}
    return said | {"sentence": sentence, "header": header, "rows": rows}
