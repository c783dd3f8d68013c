"""Parameters of sweeps over alpha: factors, number of random sets, and the series of each task."""

from collections.abc import Sequence
from typing import TypeAlias

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA
from hneurons_eval.models.neuron_set import check_alpha
from hneurons_eval.util.errors import UsageError, usage_errors

Alphas: TypeAlias = str | float | list[float] | list[str]
"""Factors as a task takes them: `0,0.5,1`, one number, or a list."""
ALPHAS = "0,0.5,1,1.5,2,2.5,3"
CONTROLS = 39
"""Random sets of a kind by default: the fewest with which a two-sided rank p, 2 / (sets + 1), can be .05."""
SERIES = {"faitheval": ("plain", "resist"), "sycophancy": ("open", "choice"), "truthfulqa": ("mc", "open")}
"""What a task reports for itself: prompts, kinds of question, forms of answer. The primary outcome is of the first."""
SUMMARY = "dose-response"
"""The id of the sample in which the log of a sweep tells what all samples show together."""


def parse_alphas(alphas: str | float | Sequence[float | str]) -> list[float]:
    """Ascending factors with the baseline 1 among them, from `0,0.5,1` or a list.

    Raises:
        UsageError: none, or one that is negative or not a number.
    """
    parts = alphas.split(",") if isinstance(alphas, str) else alphas if isinstance(alphas, list | tuple) else [alphas]
    with usage_errors():
        values = sorted(
            {check_alpha(part.strip() if isinstance(part, str) else part) for part in parts} | {BASELINE_ALPHA}
        )
    if len(values) < 2:
        raise UsageError("alphas should name at least one factor beside the baseline 1, for example alphas=0,0.5,2")
    return values
