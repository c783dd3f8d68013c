"""Was a hallucinated answer told from a faithful one; the table of figures beside all baselines, and the audits."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import LABELS, Detected, detection
from hneurons_eval.analysis.metrics import headline_first
from hneurons_eval.data.questions import normalise_question
from hneurons_eval.models.controls import KINDS
from hneurons_eval.scorers.figures import classified, kept_figures
from hneurons_eval.util.markdown import marked, quoted, table
from hneurons_eval.util.packing import unpack

if TYPE_CHECKING:
    from hneurons_eval.analysis.audits import Audit


LEVEL = 0.05
OF_PROBE = (
    "neurons",
    "positive_neurons",
    "share",
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
        return headline_first(_all_figures(scores), "auroc", "accuracy")

    return kept_figures(figures, lambda scores: (len(scores), len(classified(scores))))


def _all_figures(scores: list[SampleScore]) -> dict[str, float]:
    sets: dict[str, list[SampleScore]] = defaultdict(list)
    for score in scores:
        sets[str((score.score.metadata or {}).get("dataset") or "")].append(score)
    found: dict[str, float] = {}
    for name, answers in sets.items():
        own, here = [answer.score.metadata or {} for answer in answers], classified(answers)
        prefix = f"{name}/" if len(sets) > 1 else ""
        figures = _figures(here) | _skipped(own)
        if "brier_skill" in figures:
            figures["audit_calibration"] = float(figures["brier_skill"] < 0 or figures["calibration_p"] <= LEVEL)
        if any("trained_relation" in detail for detail in here):
            leftover = float(np.mean([bool(detail.get("trained_relation")) for detail in here]))
            figures |= {"leftover_share": leftover, "audit_leftover": float(leftover > 0)}
        for audit in audits_of(own):
            figures |= {f"audit_{audit.name}": float(audit.flagged)}
            figures |= {k: v for k, v in audit.figures.items() if k not in figures}
        found |= {prefix + key: value for key, value in figures.items()}
    probe = next((detail["probe"] for detail in classified(scores) if detail.get("probe")), {})
    return found | {name: probe[name] for name in OF_PROBE if isinstance(probe.get(name), int | float)}


def _skipped(details: list[dict[str, Any]]) -> dict[str, float]:
    """Answers that were not classified, by reason."""
    reasons = Counter(str(detail["skipped"]).replace(" ", "_") for detail in details if detail.get("skipped"))
    return {f"skipped_{reason}": float(count) for reason, count in sorted(reasons.items())}


def _figures(details: list[dict[str, Any]]) -> dict[str, float]:
    if not details:
        return {}
    folds = [detail.get("fold") for detail in details]
    null = (details[0].get("probe") or {}).get("null_aurocs")
    return detection(
        Detected(
            [LABELS[detail["label"]] for detail in details],
            [detail["probability"] for detail in details],
            [detail["prediction"] for detail in details],
            [normalise_question(detail["question"]) for detail in details],
            [detail.get("relation") for detail in details],
            {name: [row["baselines"][name] for row in details] for name in sorted(_in_all(details, "baselines"))},
            compared_sets(details),
            None if None in folds else folds,
            null if null and None not in folds else None,
        )
    )


def _in_all(details: Sequence[Mapping[str, Any]], key: str) -> set[str]:
    """The names under a key that all answers have."""
    return set.intersection(*(set(detail.get(key) or {}) for detail in details)) if details else set()


def compared_sets(details: Sequence[Mapping[str, Any]]) -> dict[str, tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
    """Of each selection that all answers were scored by: its scores `[answers]` and its sets' `[sets, answers]`."""
    shared = _in_all(details, "sets")
    found = {}
    for name in sorted(shared, reverse=True):  # probe, positive
        of_answers = [detail["sets"][name] for detail in details]
        refit = np.array([np.nan if one["refit"] is None else one["refit"] for one in of_answers], np.float64)
        kinds = [kind for kind in KINDS if all(kind in one["controls"] for one in of_answers)]
        found[name] = (refit, {k: np.stack([unpack(one["controls"][k]) for one in of_answers], axis=1) for k in kinds})
    return found


def audits_of(details: list[dict[str, Any]]) -> "list[Audit]":
    """What could mislead in these answers; see `hneurons_eval.analysis.audits`."""
    from hneurons_eval.analysis import audits
    from hneurons_eval.analysis.length_audit import length_audit

    rows = [detail for detail in details if detail.get("probability") is not None]
    if not rows:
        return []
    y = np.array([LABELS[row["label"]] for row in rows])
    questions = np.array([normalise_question(row["question"]) for row in rows])
    # The neurons were chosen on the answers of the probe's own log; only those of other tasks have a verdict.
    neurons = [row.get("selected") if "verdict" in row else None for row in rows]
    selected = np.stack([unpack(text) for text in cast(list[str], neurons)]) if all(neurons) else None
    lengths, probabilities = ([row[name] for row in rows] for name in ("response_tokens", "probability"))
    found = [
        audits.class_balance(y),
        length_audit(y, lengths, questions, probabilities, selected),
        audits.label_from_group(y, [row.get("relation") for row in rows], "relation", questions),
        audits.spans(
            sum(detail.get("skipped") == "span missing" for detail in details),
            [bool(row.get("whole_response")) for row in rows],
        ),
        audits.template_share(*([row[f"{part}_tokens"] for row in rows] for part in ("prompt", "response", "answer"))),
    ]
    return [audit for audit in found if audit.figures]


@scorer(metrics=[detection_figures()])
def detected() -> Scorer:
    """C where the probe's call agrees with the label, I where not, N for answers that are not classified."""

    async def score(state: TaskState, target: Target) -> Score:
        found = dict((state.output.metadata or {}).get("hneurons", {}))
        about = {key: state.metadata.get(key) for key in ("question", "relation", "dataset")}
        kept = found | about
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
