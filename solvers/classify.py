"""Fit the probe on captured answers, keep it, and give each answer its held-out probability."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import numpy as np
from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import display_counter

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.artifacts.logs import captured_answers, read_stage
from hneurons_eval.artifacts.paths import content_key, probe_directory, save_neurons, store_of
from hneurons_eval.artifacts.pipeline_steps import probe_settings
from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.cli.doctor import fits_of_search
from hneurons_eval.data.questions import ANSWER_ONLY
from hneurons_eval.judging.rule import judge_by_rule
from hneurons_eval.models.controls import KINDS
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.files import ACTIVITY, BASELINES, NEURONS, SHUFFLED
from hneurons_eval.util.packing import pack

if TYPE_CHECKING:
    # Loaded where it is used: numba and scipy take a second, and every inspect command imports this module.
    from hneurons_eval.probe.baseline_classifiers import Scores
    from hneurons_eval.probe.nested_cv import Identified, Search
    from hneurons_eval.probe.settings import Settings
    from hneurons_eval.probe.variation import Variation


MIN_RELATIONS = 5
"""With fewer relations, questions are held out instead of relations."""


@solver
def classify(
    features: str,
    mode: str = "3-vs-1",
    penalty: str = "l1",
    C: float | str = "auto",
    folds: int = 10,
    controls: int = 100,
    seed: int = 0,
) -> Solver:
    """Look up each answer's held-out probability; the first sample fits, the others wait for it.

    The arguments are those of the task.
    """
    settings = probe_settings(mode, penalty, C, folds, controls, seed)
    rows = captured_answers(read_stage(features, "capture", "features"))
    lock = anyio.Lock()
    place = {row.id: number for number, row in enumerate(rows)}
    found: list[Found] = []

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        async with lock:
            if not found:
                found.append(await identify(rows, settings, get_model()))
                labels = [LABELS[row.label] for row in rows]
                transcript().info(await anyio.to_thread.run_sync(_summary, found[0], labels), source="probe")
        one = found[0]
        number = place[str(state.sample_id)]
        row, identified = rows[number], one.identified
        state.output = ModelOutput.from_content(str(state.model), row.response)
        state.output.metadata = {
            "hneurons": {
                "probability": float(identified.probabilities[number]),
                "prediction": int(identified.predictions[number]),
                "threshold": float(identified.probe.threshold_),
                "label": row.label,
                "fold": int(identified.fold_of[number]),
                **described_scores(identified.scores, number),
                "selected": pack(one.selected[number]),
                "top_neurons": one.top_neurons[number],
                "probe": one.summary,
                **{name: getattr(row, name) for name in KEPT},
            }
        }
        return state

    return solve


KEPT = ("span", "prompt_tokens", "response_tokens", "answer_tokens", "whole_response")
"""Fields of an answer that the audits need."""


@dataclass(frozen=True)
class Found:
    """Result of the fit, which the first sample makes for all.

    Attributes:
        identified: all figures.
        variation: stability under other answers and shuffled labels; None with `l2`.
        summary: of the probe, for the log.
        selected: contributions of the probe's neurons, `[answers, selected]`.
        top_neurons: those with the most weight in each answer: (layer, index, weight, contribution).
    """

    identified: "Identified"
    variation: "Variation | None"
    summary: dict[str, Any]
    selected: np.ndarray
    top_neurons: list[list[tuple[int, int, float, float]]]


async def identify(rows: Sequence[AnswerRecord], settings: "Settings", model: Model) -> Found:
    """Fit on captured answers, choose C, and keep probe, baselines and neurons as artifacts."""
    layout = model.api.engine.layout  # pyright: ignore[reportAttributeAccessIssue]
    report_progress(
        f"{len(rows)} answers x {layout.total:,} neurons: {fits_of_search(settings)} fits choose C and test the probe; "
        f"then {settings.controls} random sets of each of {len(KINDS)} kinds, {settings.resamples} half-samples and "
        f"{settings.repeats} bootstrap samples. Quicker: C=NUMBER, fewer controls"
    )
    search = await anyio.to_thread.run_sync(_load, rows, settings)
    await anyio.to_thread.run_sync(lambda: search.fit(report_progress))
    suppressed = None
    if settings.needs_model:
        suppressed = await _suppressed_accuracies(search, rows, layout.widths, model)
    report_progress("choosing C")
    identified = await anyio.to_thread.run_sync(
        lambda: search.choose(layout.widths, model.name, suppressed, report_progress)
    )
    key = content_key(
        kind="probe-v3",
        model=model.api.engine.fingerprint,  # pyright: ignore[reportAttributeAccessIssue]
        settings=[str(value) for value in vars(settings).values()],
        features=[row.contributions for row in rows],
        labels=[row.label for row in rows],
    )
    directory = probe_directory(key)
    variation = None
    if settings.penalty == "l1" and settings.resamples:
        from hneurons_eval.probe.variation import vary

        variation = await anyio.to_thread.run_sync(lambda: vary(search, identified, report_progress))
    summary = await anyio.to_thread.run_sync(_keep, identified, variation, rows, settings, layout.total, directory)
    chosen = np.flatnonzero(identified.probe.coef_) if settings.penalty == "l1" else np.zeros(0, np.int64)
    answers = search.data.answers
    return Found(identified, variation, summary, answers[:, chosen], identified.probe.top_neurons(answers))


def _load(rows: Sequence[AnswerRecord], settings: "Settings") -> "Search":
    from hneurons_eval.probe.baselines import prompt_model, scalar_inputs
    from hneurons_eval.probe.nested_cv import Search
    from hneurons_eval.probe.training_sets import Answers

    report_progress(f"reading contributions of {len(rows)} answers")
    keys = [row.contributions for row in rows]
    store = store_of(keys)
    labels = np.array([LABELS[row.label] for row in rows])
    both = len(set(labels.tolist())) == 2
    # The prompts' contributions are forgotten before the others are read.
    prompt = prompt_model(store.matrix(keys, "prompt"), labels) if both else None
    X = np.empty((len(rows) * (2 if settings.mode == "3-vs-1" else 1), store.spec.neurons), np.float32)
    store.matrix(keys, "answer", out=X[: len(rows)])
    if settings.mode == "3-vs-1":
        store.matrix(keys, "other", out=X[len(rows) :])
    hidden = [state for key in keys if (state := store.extras(key).get("hidden")) is not None]
    relations = [row.relation for row in rows]
    questions = [row.normalised_question for row in rows]
    # Relations make groups where every answer has one and there are enough of them.
    related = all(relations) and len(set(relations)) >= MIN_RELATIONS
    return Search(
        Answers(
            X,
            labels,
            np.array(relations if related else questions),
            np.array(questions),
            scalar_inputs([vars(row) for row in rows]),
            np.stack(hidden) if len(hidden) == len(keys) else None,
            prompt,
        ),
        settings,
    )


async def _suppressed_accuracies(
    search: "Search", rows: Sequence[AnswerRecord], widths: Sequence[int], model: Model
) -> list[list[float]]:
    """Closed-book accuracy with each candidate set suppressed, on training questions of each fit."""
    from hneurons_eval.probe.nested_cv import SUPPRESSION_QUESTIONS

    candidates = search.candidates(widths, model.name)
    scores: list[list[float]] = [[0.0] * len(sets) for sets in candidates]
    done = 0
    total = sum(len(sets) for sets in candidates)

    async def one(fit: int, k: int, neurons: NeuronSet, questions: Sequence[AnswerRecord]) -> None:
        nonlocal done
        digest = save_neurons(neurons)
        right = [0]

        async def ask(row: AnswerRecord) -> None:
            output = await model.generate(
                [ChatMessageUser(content=row.question + ANSWER_ONLY)],
                config=GenerateConfig(
                    temperature=0.0,
                    max_tokens=24,
                    extra_body={"hneurons": {"neurons": digest, "alpha": 0.0}},
                ),
            )
            right[0] += judge_by_rule(output.completion, row.aliases) == "correct"

        async with anyio.create_task_group() as group:
            for row in questions:
                group.start_soon(ask, row)
        scores[fit][k] = right[0] / max(len(questions), 1)
        done += 1
        report_progress(f"suppressing candidates: {done} of {total} sets")

    rng = np.random.default_rng(search.settings.seed)
    async with anyio.create_task_group() as group:
        for fit, (sets, training) in enumerate(zip(candidates, search.training_groups(), strict=True)):
            # Answers to questions on invented things have no accepted answers to be held against.
            own = [row for row, name in zip(rows, search.data.groups, strict=True) if name in training and row.aliases]
            chosen = [own[i] for i in rng.permutation(len(own))[:SUPPRESSION_QUESTIONS]]
            for k, neurons in enumerate(sets):
                group.start_soon(one, fit, k, neurons, chosen)
    return scores


ENDS = ("low", "median", "high")


def _keep(
    identified: "Identified",
    variation: "Variation | None",
    rows: Sequence[AnswerRecord],
    settings: "Settings",
    total: int,
    directory: Path,
) -> dict[str, Any]:
    from hneurons_eval.models.controls import save_activity

    probe = identified.probe
    probe.metadata = {
        "mode": settings.mode,
        "reduce": store_of([rows[0].contributions]).spec.reduce,
        "training_questions": sorted({row.normalised_question for row in rows}),
        "curve": identified.curve,
        "C_by_fold": identified.C_by_fold,
        "neurons_by_fold": identified.neurons_by_fold,
    }
    neurons = probe.neurons("both") if settings.penalty == "l1" else None
    if neurons is not None and variation is not None:
        neurons = replace(neurons, stability=variation.stability[neurons.flat(NeuronLayout(probe.widths))])
    probe.save(directory, neurons)
    identified.baselines.save(directory / BASELINES)
    save_activity(directory / ACTIVITY, identified.activity.mean, identified.activity.deviation)
    if variation is not None:
        variation.shuffled.save(directory / SHUFFLED)
    summary: dict[str, Any] = {
        "directory": str(directory),
        "mode": settings.mode,
        "penalty": settings.penalty,
        "C": float(probe.C_),
        "C_by_fold": identified.C_by_fold,
        "neurons_by_fold": identified.neurons_by_fold,
        "positive_by_fold": identified.positive_by_fold,
        **_spread("fold_neurons", identified.neurons_by_fold),
        "threshold": probe.threshold_,
        "threshold_source": probe.threshold_source_,
        "total_neurons": total,
    }
    if neurons is not None:
        summary |= {
            "neurons": len(neurons),
            "positive_neurons": len(neurons.positive),
            "share": len(neurons) / total,
            "share_per_mille": 1000 * len(neurons) / total,
            "neurons_file": str(directory / NEURONS),
            "neurons_digest": save_neurons(neurons.positive),
        }
        if variation is not None:
            summary |= _varied(variation, neurons, rows, identified.fold_of.tolist())
    return summary


def _varied(
    variation: "Variation", neurons: NeuronSet, rows: Sequence[AnswerRecord], folds: Sequence[int]
) -> dict[str, Any]:
    """Part of the summary on other answers and shuffled labels."""
    from hneurons_eval.analysis.detection import null_aurocs
    from hneurons_eval.probe.stability import STABLE

    assert neurons.stability is not None
    null, sampled = variation.shuffled_stability, variation.resampled
    relations = [row.relation for row in rows]
    return {
        "stable_neurons": int((neurons.stability > STABLE).sum()),
        "shuffled_neurons": float(null.chosen.mean()),
        "shuffled_stable_neurons": float(null.stable.mean()),
        "null_aurocs": null_aurocs(variation.null_labels, variation.null_scores, relations, folds).tolist(),
        "resamples": len(sampled),
        **_spread("resampled_neurons", [one.neurons for one in sampled]),
        **_spread("resampled_positive", [one.positive for one in sampled]),
        **_spread("resampled_auroc", [one.auroc for one in sampled if np.isfinite(one.auroc)]),
        "resampled_better": sum(one.p <= 0.05 for one in sampled),
    }


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The least, the median and the greatest of some figures."""
    if not len(values):
        return {}
    return {f"{name}_{end}": float(value) for end, value in zip(ENDS, np.quantile(values, [0, 0.5, 1]), strict=True)}


def _summary(found: Found, labels: Sequence[int]) -> str:
    from hneurons_eval.report.search_summary import search_summary

    return search_summary(found.identified, labels, found.variation, found.summary["directory"])


def described_scores(scores: "Scores", number: int) -> dict[str, Any]:
    """One answer's scores by baselines and random sets, for the log."""
    return {
        "baselines": {name: float(values[number]) for name, values in scores.plain.items()},
        "sets": {
            name: {
                "refit": finite(one.chosen[number]),
                "controls": {kind: pack(sets[:, number]) for kind, sets in one.controls.items()},
            }
            for name, one in scores.sets.items()
        },
    }


def finite(value: float) -> float | None:
    """A number for a log, None for what is not one."""
    return float(value) if np.isfinite(value) else None


def report_progress(message: str, counter: str = "probe") -> None:
    """Show the progress of a long step in Inspect's display, or as a line where that shows no counters."""
    from inspect_ai.util import display_type

    # The display delays messages that come too fast, for which it needs the event loop.
    try:
        anyio.lowlevel.current_token()
    except RuntimeError:  # a worker thread
        anyio.from_thread.run_sync(display_counter, counter, message)
    else:
        display_counter(counter, message)
    if display_type() in ("plain", "none", "log"):
        print(f"{counter}: {message}", flush=True)
