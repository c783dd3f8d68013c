"""Scorer of `drift`: the mean rank of a layer's neurons; metrics of the whole comparison."""

from typing import Any, cast

from inspect_ai.scorer import NOANSWER, Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.metrics import headline_first


@metric(name="drift")
def drift_figures() -> Metric:
    """Mean normalised rank, its interval, and p for each kind of random sets; several checkpoints by name."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        found: dict[str, float] = {}
        for details in (score.score.metadata or {} for score in scores):
            found |= cast(dict[str, float], details.get("figures") or {})
        return headline_first(found, "mean_rank")

    return cast(Metric, compute)


@scorer(metrics=[drift_figures()])
def drifted() -> Scorer:
    """Mean normalised rank of the neurons (0 changed most, 1 least), N for a layer that has none of them."""

    async def score(state: TaskState, target: Target) -> Score:
        found: dict[str, Any] = dict((state.output.metadata or {}).get("hneurons", {}))
        rank = found.get("mean_rank")
        return Score(
            value=NOANSWER if rank is None else float(rank),
            answer=state.output.completion,
            explanation=str(found["summary"]),
            metadata={key: value for key, value in found.items() if key != "summary"},
        )

    return score
