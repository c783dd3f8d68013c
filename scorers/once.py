"""Metrics that are computed only when there are new scores."""

from collections.abc import Callable
from typing import Any, cast

from inspect_ai.scorer import Metric, SampleScore


def computed_once(figures: Callable[[list[SampleScore]], dict[str, float]]) -> Metric:
    """A metric that keeps its last figures: Inspect asks after every sample, and a bootstrap takes time.

    Args:
        figures: from the scores of all samples so far.
    """
    last: list[Any] = [None, {}]

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        key = [(score.sample_id, str(score.score.value)) for score in scores]
        if key != last[0]:
            last[:] = key, figures(scores)
        return dict(last[1])

    return cast(Metric, compute)
