"""Was a hallucinated answer told from a faithful one; the table of figures beside all baselines."""

from typing import Any, cast

from inspect_ai.scorer import CORRECT, INCORRECT, Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.evaluation import detection
from hneurons_eval.questions import normalise_question
from hneurons_eval.scorers.captured import LABELS

__all__ = ["LABELS", "detected", "detection_figures"]


@metric(name="detection")
def detection_figures() -> Metric:
    """AUROC and accuracy with intervals, beside random neurons, length and mean log-probability."""
    seen: dict[int, dict[str, float]] = {}

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        # Called after every sample while the task runs; the bootstrap is worth its time only at round numbers.
        details = [d for score in scores if (d := score.score.metadata or {}).get("probability") is not None]
        if len(details) not in seen:
            seen.clear()
            seen[len(details)] = _figures(details)
        return dict(seen[len(details)])

    return cast(Metric, compute)


def _figures(details: list[dict[str, Any]]) -> dict[str, float]:
    if not details:
        return {}
    names = set.intersection(*(set(detail.get("baselines") or {}) for detail in details))
    controls = [detail.get("random") for detail in details]
    refit = [detail.get("refit") for detail in details]
    figures = detection(
        [LABELS[detail["label"]] for detail in details],
        [detail["probability"] for detail in details],
        [detail["prediction"] for detail in details],
        [normalise_question(detail["question"]) for detail in details],
        [detail.get("relation") for detail in details],
        {name: [detail["baselines"][name] for detail in details] for name in sorted(names)},
        list(zip(*controls, strict=True)) if all(controls) else None,  # pyright: ignore
        cast(Any, refit) if all(value is not None for value in refit) else None,
    )
    probe = details[0].get("probe") or {}
    for name in ("neurons", "share", "C", "threshold", "total_neurons"):
        if isinstance(probe.get(name), int | float):
            figures[name] = probe[name]
    return figures


@scorer(metrics=[detection_figures()])
def detected() -> Scorer:
    """C where the probe's call agrees with the label; the probability that the answer is hallucinated."""

    async def score(state: TaskState, target: Target) -> Score:
        found = dict((state.output.metadata or {}).get("hneurons", {}))
        if found.get("probability") is None:
            return Score.unscored(
                reason=str(found.get("skipped") or "no_response"),
                answer=state.output.completion,
                explanation=f"not classified: {found.get('skipped') or 'no contributions'}",
                metadata={**found, "question": state.metadata["question"]},
            )
        called = "hallucinated" if found["prediction"] else "faithful"
        return Score(
            value=CORRECT if called == found["label"] else INCORRECT,
            answer=state.output.completion,
            explanation=f"probability of hallucination {found['probability']:.2f}: {called}, labelled {found['label']}",
            metadata={
                **found,
                "question": state.metadata["question"],
                "relation": state.metadata.get("relation"),
            },
        )

    return score
