"""What metrics have in common: the answers that were classified, and figures that are kept until something is new."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

from inspect_ai.scorer import Metric, SampleScore


def classified(scores: Sequence[SampleScore]) -> list[dict[str, Any]]:
    """Details of the answers that have a probability of hallucination."""
    return [found for score in scores if (found := score.score.metadata or {}).get("probability") is not None]


def kept_figures(
    figures: Callable[[list[SampleScore]], dict[str, float]], state: Callable[[list[SampleScore]], Hashable]
) -> Metric:
    """A metric that is computed only when `state` changes.

    Inspect calls metrics after every sample while a task runs; a bootstrap is worth its time only for something new.
    """
    seen: dict[Hashable, dict[str, float]] = {}

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        now = state(scores)
        if now not in seen:
            seen.clear()
            seen[now] = figures(scores)
        return dict(seen[now])

    return cast(Metric, compute)
