"""Stage 3: find the neurons, and say how well they tell hallucinated from faithful answers they never saw."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import display_counter

from hneurons_eval.artifacts import content_key, load_contributions, probe_directory, save_neurons
from hneurons_eval.files import write_text_atomically
from hneurons_eval.judging import judge_by_rule
from hneurons_eval.neurons import NeuronSet
from hneurons_eval.provider_limits import MOST_CONNECTIONS
from hneurons_eval.questions import ANSWER_ONLY, normalise_question
from hneurons_eval.refusals import Refused, refusing
from hneurons_eval.scorers.detected import LABELS, detected
from hneurons_eval.tasks.stage_logs import StageScore, check_same_model, read_stage, samples_of

if TYPE_CHECKING:
    # Loaded where it is used: numba and scipy take a second, and every inspect command imports this module.
    from hneurons_eval.identification import Identified, Search, Settings

FEWEST_RELATIONS = 5
"""With fewer relations, questions are held out instead of relations."""
SUPPRESSION_QUESTIONS = 100
"""Training questions on which `C=auto` tries the model with the candidates suppressed."""


@task
def probe(
    features: str = "",
    mode: str = "3-vs-1",
    penalty: str = "l1",
    C: float | str = "auto",
    folds: int = 10,
    controls: int = 20,
    seed: int = 0,
) -> Task:
    """Train the sparse classifier and report it on answers whose whole relation (else question) was held out.

    The samples of the log are the captured answers, each with the probability given by a probe that saw nothing
    of its relation. The probe that is kept is trained on all of them; its neurons are those with positive weight.

    Args:
        features: the log of `capture`, or a directory that holds it.
        mode: `3-vs-1` (the paper's: hallucinated answer tokens against faithful ones and all other tokens) or
            `1-vs-1` (hallucinated against faithful answer tokens).
        penalty: `l1` (few neurons) or `l2` (a detector only).
        C: `auto` (the paper's: held-out accuracy + accuracy with the candidates suppressed), `accuracy` (held-out
            accuracy), or a number as in scikit-learn. Always chosen without the answers it is reported on.
        folds: relations (else questions) are held out in this many parts.
        controls: random neuron sets to compare with.
        seed: of folds and random sets.
    """
    settings = settings_from(mode, penalty, C, folds, controls, seed)
    log = read_stage(features, "capture", "features")
    check_same_model(log, "features")
    rows = captured_rows(log)
    labels = {str(row.metadata["label"]) for row in rows}
    for label in LABELS:
        if label not in labels:
            raise Refused(f"features has no {label} answers; a probe needs both classes: collect more questions")
    return Task(
        dataset=MemoryDataset([_sample(row) for row in rows], name=log.eval.dataset.name),
        solver=classify(log.location, **{key: value for key, value in vars(settings).items() if key != "inner_folds"}),
        scorer=detected(),
        config=GenerateConfig(max_connections=MOST_CONNECTIONS),
        metadata={"source": log.location, "reduce": (log.eval.metadata or {}).get("reduce", "mean")},
    )


def settings_from(
    mode: str,
    penalty: str,
    C: float | str,
    folds: int,
    controls: int,
    seed: int,
) -> "Settings":
    """The task's parameters, checked.

    Raises:
        Refused: one of them is out of range.
    """
    from hneurons_eval.identification import Mode, Penalty, Settings

    with contextlib.suppress(ValueError):
        C = float(C)
    with refusing():
        return Settings(cast(Mode, mode), cast(Penalty, penalty), C, folds, controls=controls, seed=seed)


def _sample(row: StageScore) -> Sample:
    details = row.metadata
    return Sample(
        id=row.sample_id,
        input=details["question"],
        target=details["label"],
        metadata={"question": details["question"], "relation": details.get("relation")},
    )


def captured_rows(log: EvalLog) -> list[StageScore]:
    """The answers of a capture log that have contributions, in the order of their ids."""
    rows = [
        StageScore(str(sample.id), score)
        for sample in samples_of(log)
        if (score := (sample.scores or {}).get("captured")) and (score.metadata or {}).get("contributions")
    ]
    return sorted(rows, key=lambda row: row.sample_id)


@solver
def classify(
    features: str,
    mode: str = "3-vs-1",
    penalty: str = "l1",
    C: float | str = "auto",
    folds: int = 10,
    controls: int = 20,
    seed: int = 0,
) -> Solver:
    """Look up each answer's held-out probability; the first sample fits, the others wait for it.

    The arguments are those of the task.
    """
    settings = settings_from(mode, penalty, C, folds, controls, seed)
    rows = captured_rows(read_stage(features, "capture", "features"))
    lock = anyio.Lock()
    place = {row.sample_id: number for number, row in enumerate(rows)}
    found: list[tuple[Identified, dict[str, Any]]] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        async with lock:
            if not found:
                found.append(await identify(rows, settings, get_model()))
        identified, summary = found[0]
        number = place[str(state.sample_id)]
        details = rows[number].metadata
        probability = float(identified.probabilities[number])
        state.output = ModelOutput.from_content(str(state.model), rows[number].score.answer or "")
        state.output.metadata = {
            "hneurons": {
                "probability": probability,
                "prediction": int(identified.predictions[number]),
                "label": details["label"],
                "refit": _finite(identified.refit[number]),
                "random": [float(value) for value in identified.random[:, number]],
                "baselines": {
                    "length": float(identified.length[number]),
                    "logprob": float(identified.logprob[number]),
                },
                "span": details["span"],
                "probe": summary,
            }
        }
        return state

    return solve


async def identify(
    rows: Sequence[StageScore], settings: "Settings", model: Model
) -> tuple["Identified", dict[str, Any]]:
    """Fit on captured answers, choose C, and keep probe and neurons as artifacts.

    Returns:
        what was found, and a short account of it for the log.
    """
    layout = model.api.engine.layout  # pyright: ignore[reportAttributeAccessIssue]
    search = await anyio.to_thread.run_sync(_load, rows, settings)
    await anyio.to_thread.run_sync(lambda: search.fit(report_progress))
    suppressed = None
    if settings.needs_model:
        suppressed = await _suppressed_accuracies(search, rows, layout.widths, model)
    report_progress("choosing C, fitting controls and baselines")
    identified = await anyio.to_thread.run_sync(lambda: search.choose(layout.widths, model.name, suppressed))
    key = content_key(
        kind="probe-v1",
        model=model.api.engine.fingerprint,  # pyright: ignore[reportAttributeAccessIssue]
        settings=[str(value) for value in vars(settings).values()],
        features=[row.metadata["contributions"] for row in rows],
        labels=[row.metadata["label"] for row in rows],
    )
    directory = probe_directory(key)
    summary = await anyio.to_thread.run_sync(_keep, identified, rows, settings, layout.total, directory)
    return identified, summary


def _load(rows: Sequence[StageScore], settings: "Settings") -> "Search":
    from hneurons_eval.identification import Search

    report_progress(f"reading contributions of {len(rows)} answers")
    answers = others = np.zeros((0, 0), np.float32)
    for number, row in enumerate(rows):
        own = load_contributions(row.metadata["contributions"])
        if not number:
            answers, others = (np.empty((len(rows), own.values.shape[1]), np.float32) for _ in range(2))
        answers[number], others[number] = own.region("answer"), own.region("other")
    relations = [row.metadata.get("relation") for row in rows]
    # Relations make groups where every answer has one and there are enough of them.
    related = all(relations) and len(set(relations)) >= FEWEST_RELATIONS
    groups = relations if related else [normalise_question(row.metadata["question"]) for row in rows]
    return Search(
        answers,
        others,
        np.array([LABELS[row.metadata["label"]] for row in rows]),
        np.array(groups),
        np.array([row.metadata["response_tokens"] for row in rows], float),
        np.array([row.metadata["mean_logprob"] for row in rows], float),
        settings,
    )


async def _suppressed_accuracies(
    search: "Search", rows: Sequence[StageScore], widths: Sequence[int], model: Model
) -> list[list[float]]:
    """Closed-book accuracy with each candidate set suppressed, on training questions of each fit."""
    candidates = search.candidates(widths, model.name)
    scores: list[list[float]] = [[0.0] * len(sets) for sets in candidates]
    done = 0
    total = sum(len(sets) for sets in candidates)

    async def one(fit: int, k: int, neurons: NeuronSet, questions: Sequence[StageScore]) -> None:
        nonlocal done
        digest = save_neurons(neurons)
        right = [0]

        async def ask(row: StageScore) -> None:
            output = await model.generate(
                [ChatMessageUser(content=row.metadata["question"] + ANSWER_ONLY)],
                config=GenerateConfig(
                    temperature=0.0,
                    max_tokens=24,
                    extra_body={"hneurons": {"neurons": digest, "alpha": 0.0}},
                ),
            )
            right[0] += judge_by_rule(output.completion, row.metadata["aliases"]) == "correct"

        async with anyio.create_task_group() as group:
            for row in questions:
                group.start_soon(ask, row)
        scores[fit][k] = right[0] / len(questions)
        done += 1
        report_progress(f"suppressing candidates: {done} of {total} sets")

    rng = np.random.default_rng(search.settings.seed)
    async with anyio.create_task_group() as group:
        for fit, (sets, training) in enumerate(zip(candidates, search.training_groups(), strict=True)):
            own = [row for row, name in zip(rows, search.groups, strict=True) if name in training]
            chosen = [own[i] for i in rng.permutation(len(own))[:SUPPRESSION_QUESTIONS]]
            for k, neurons in enumerate(sets):
                group.start_soon(one, fit, k, neurons, chosen)
    return scores


def _keep(
    identified: "Identified", rows: Sequence[StageScore], settings: "Settings", total: int, directory: Path
) -> dict[str, Any]:
    probe = identified.probe
    probe.metadata = {
        "mode": settings.mode,
        "training_questions": sorted({normalise_question(row.metadata["question"]) for row in rows}),
        "curve": identified.curve,
        "C_by_fold": identified.C_by_fold,
        "neurons_by_fold": identified.neurons_by_fold,
    }
    probe.save(directory)
    summary: dict[str, Any] = {
        "directory": str(directory),
        "mode": settings.mode,
        "penalty": settings.penalty,
        "C": float(probe.C_),
        "C_by_fold": identified.C_by_fold,
        "neurons_by_fold": identified.neurons_by_fold,
        "threshold": probe.threshold_,
        "total_neurons": total,
    }
    if settings.penalty == "l1":
        neurons = probe.neurons()
        file = directory.parent / f"{directory.name}.neurons.json"
        neurons.save(file)
        summary |= {
            "neurons": len(neurons),
            "share": len(neurons) / total,
            "neurons_file": str(file),
            "neurons_digest": save_neurons(neurons),
        }
    write_text_atomically(directory.parent / f"{directory.name}.curve.json", json.dumps(identified.curve, indent=1))
    return summary


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def report_progress(message: str) -> None:
    """Show where a long step stands, in Inspect's display and as a line where that shows no counters."""
    display_counter("probe", message)
    from inspect_ai.util import display_type

    if display_type() in ("plain", "none", "log"):
        print(f"probe: {message}", flush=True)
