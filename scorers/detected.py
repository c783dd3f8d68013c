"""Detection of hallucinated answers: figures beside control sets and baselines, and the audits."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import LABELS, Detected, detection
from hneurons_eval.analysis.metrics import headline_first
from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.models.controls import KINDS
from hneurons_eval.scorers.once import computed_once
from hneurons_eval.util.markdown import marked, quoted, table
from hneurons_eval.util.packing import unpack

if TYPE_CHECKING:
    from hneurons_eval.analysis.audits import Audit


LEVEL = 0.05
FIRST = (
    *(f"{name}{end}" for name in ("auroc", "auroc_pooled", "balanced_accuracy") for end in ("", "_low", "_high")),
    "auroc_p",
    "probe_p",
    "positive_p",
    "answers",
    "hallucinated",
    "neurons",
    "positive_neurons",
    "share_per_mille",
    "C",
)
"""Figures that stand first among the metrics, where there are any; comparisons and audits follow."""
OF_PROBE = (
    "neurons",
    "positive_neurons",
    "share",
    "share_per_mille",
    "C",
    "threshold",
    "total_neurons",
    "stable_neurons",
    "shuffled_stable_neurons",
    "shuffled_neurons",
    "resamples",
    "resampled_better",
    *(f"resampled_{name}_{end}" for name in ("neurons", "positive", "auroc") for end in ("low", "median", "high")),
    *(f"fold_neurons_{end}" for end in ("low", "median", "high")),
)
"""Figures of the probe itself, from its summary."""


@metric(name="detection")
def detection_figures() -> Metric:
    """AUROC, accuracy and calibration with intervals, beside control sets and baselines; audits.

    Where a log holds answers to several question sets, each set's figures carry its name: `triviaqa/auroc`.
    """

    def figures(scores: list[SampleScore]) -> dict[str, float]:
        found = _all_figures([AnswerRecord.of(score.score.metadata) for score in scores])
        first = {name: found[name] for name in FIRST if name in found}
        return headline_first(first | found, "auroc", "accuracy")

    return computed_once(figures)


def _all_figures(rows: Sequence[AnswerRecord]) -> dict[str, float]:
    names = list(dict.fromkeys(row.dataset for row in rows))
    found: dict[str, float] = {}
    for name in names:
        own = [row for row in rows if row.dataset == name]
        here = [row for row in own if row.probability is not None]
        prefix = f"{name}/" if len(names) > 1 else ""
        figures = _figures(here) | _skipped(own)
        if "brier_skill" in figures:
            figures["audit_calibration"] = float(figures["brier_skill"] < 0 or figures["calibration_p"] <= LEVEL)
        if any(row.trained_relation is not None for row in here):
            leftover = float(np.mean([bool(row.trained_relation) for row in here]))
            figures |= {"leftover_share": leftover, "audit_leftover": float(leftover > 0)}
        for audit in audits_of(own):
            figures |= {f"audit_{audit.name}": float(audit.flagged)}
            figures |= {k: v for k, v in audit.figures.items() if k not in figures}
        found |= {prefix + key: value for key, value in figures.items()}
    probe = next((row.probe for row in rows if row.probe and row.probability is not None), {})
    return found | {name: probe[name] for name in OF_PROBE if isinstance(probe.get(name), int | float)}


def _skipped(rows: Sequence[AnswerRecord]) -> dict[str, float]:
    """Answers that were not classified, by reason."""
    reasons = Counter(row.skipped.replace(" ", "_") for row in rows if row.skipped)
    return {f"skipped_{reason}": float(count) for reason, count in sorted(reasons.items())}


def _figures(rows: Sequence[AnswerRecord]) -> dict[str, float]:
    if not rows:
        return {}
    names = set.intersection(*(set(row.baselines) for row in rows))
    folds = [row.fold for row in rows]
    null = rows[0].probe.get("null_aurocs")
    return detection(
        Detected(
            *calls_of(rows),
            [row.relation for row in rows],
            {name: [row.baselines[name] for row in rows] for name in sorted(names)},
            compared_sets(rows),
            None if None in folds else folds,
            null if null and None not in folds else None,
        )
    )


def calls_of(rows: Sequence[AnswerRecord]) -> tuple[list[int], list[float], list[int], list[str]]:
    """Labels (1 = hallucinated), probabilities, predictions and questions of classified answers."""
    return (
        [LABELS[row.label] for row in rows],
        [float(row.probability or 0.0) for row in rows],
        [int(row.prediction or 0) for row in rows],
        [row.normalised_question for row in rows],
    )


def compared_sets(rows: Sequence[AnswerRecord]) -> dict[str, tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
    """Scores of each selection that all answers have: its own `[answers]`, and its random sets' `[sets, answers]`."""
    shared = set.intersection(*(set(row.sets) for row in rows)) if rows else set()
    found = {}
    for name in sorted(shared, reverse=True):  # probe, positive
        of_answers = [row.sets[name] for row in rows]
        refit = np.array([np.nan if one["refit"] is None else one["refit"] for one in of_answers], np.float64)
        kinds = [kind for kind in KINDS if all(kind in one["controls"] for one in of_answers)]
        found[name] = (refit, {k: np.stack([unpack(one["controls"][k]) for one in of_answers], axis=1) for k in kinds})
    return found


def audits_of(tried: Sequence[AnswerRecord]) -> "list[Audit]":
    """Audits of these answers; see `hneurons_eval.analysis.audits`."""
    from hneurons_eval.analysis import audits
    from hneurons_eval.analysis.length_audit import length_audit

    rows = [row for row in tried if row.probability is not None]
    if not rows:
        return []
    labels, probabilities, _, questions = calls_of(rows)
    y, questions = np.array(labels), np.array(questions)
    # The neurons were chosen on the answers of the probe's own log; only those of other tasks have a verdict.
    neurons = [row.selected if row.verdict is not None else None for row in rows]
    selected = np.stack([unpack(text) for text in cast(list[str], neurons)]) if all(neurons) else None
    found = [
        audits.class_balance(y),
        length_audit(y, [row.response_tokens for row in rows], questions, probabilities, selected),
        audits.label_from_group(y, [row.relation for row in rows], "relation", questions),
        audits.spans(
            sum(row.skipped == "span missing" for row in tried),
            [bool(row.whole_response) for row in rows],
        ),
        audits.template_share(
            [row.prompt_tokens for row in rows],
            [row.response_tokens for row in rows],
            [row.answer_tokens for row in rows],
        ),
    ]
    return [audit for audit in found if audit.figures]


@scorer(metrics=[detection_figures()])
def detected() -> Scorer:
    """C where the probe's call agrees with the label, I where not, N for answers that are not classified."""

    async def score(state: TaskState, target: Target) -> Score:
        found = dict((state.output.metadata or {}).get("hneurons", {}))
        kept = found | {key: state.metadata.get(key) for key in ("question", "relation", "dataset")}
        if "trained_relation" in state.metadata:
            kept["trained_relation"] = state.metadata["trained_relation"]
        response = state.output.completion
        if found.get("probability") is None:
            reason = str(found.get("skipped") or "no contributions")
            text, details = f"not classified: {reason}\n\n{quoted(response)}", kept | {"skipped": reason}
            if reason == "unparsed":
                return Score.unscored(reason="grader_failed", answer=response, explanation=text, metadata=details)
            # A value, so that metrics see it: Inspect shows them no score without one.
            return Score(value=NOANSWER, answer=response, explanation=text, metadata=details)
        called = "hallucinated" if found["prediction"] else "faithful"
        return Score(
            value=CORRECT if called == found["label"] else INCORRECT,
            answer=response,
            explanation=explained(found, called, response),
            metadata={key: value for key, value in kept.items() if key != "top_neurons"},
        )

    return score


def explained(found: dict[str, Any], called: str, response: str) -> str:
    """Markdown: the call, the response with its answer marked, and the neurons that weighed most."""
    lines = [
        f"**Probability of hallucination {found['probability']:.2f}**"
        f" (threshold {found['threshold']:.2f}): {called}; labelled {found['label']}",
        quoted(marked(response, found.get("span"))),
    ]
    if found.get("top_neurons"):
        header = ["layer", "neuron", "weight", "contribution", "weight × contribution"]
        rows = [
            [str(layer), str(index), f"{weight:+.3g}", f"{value:.3g}", f"{weight * value:+.3f}"]
            for layer, index, weight, value in found["top_neurons"]
        ]
        lines.append(table(header, rows))
    return "\n\n".join(lines)
