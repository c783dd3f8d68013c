"""The primary outcomes of all sweeps of a run together, after Holm's correction over sweeps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hneurons_eval.analysis.dose_response import LEVEL, sets_needed
from hneurons_eval.analysis.tests import holm
from hneurons_eval.report.verdicts import floor_of, title_of, verdict
from hneurons_eval.report.wording import Figures, p_equals


class Primary(NamedTuple):
    """The primary outcome of one sweep: task, outcome, p before and after Holm's correction, its floor, the verdict."""

    task: str
    outcome: str
    p: float
    corrected: float
    floor: float
    verdict: str


def primaries(sweeps: Sequence[tuple[str, Mapping[str, Figures]]]) -> list[Primary]:
    """The primary outcome of each sweep that has one and was compared with control sets.

    Args:
        sweeps: title and figures by series of each.
    """
    found = [
        (title, series, name.removesuffix("_slope_primary"), figures)
        for title, by_series in sweeps
        for series, figures in by_series.items()
        for name in figures
        if name.endswith("_slope_primary") and f"{name.removesuffix('_primary')}_p" in figures
    ]
    ps = [figures[f"{outcome}_slope_p"] for _, _, outcome, figures in found]
    return [
        Primary(
            title,
            f"{title_of(outcome)}{f' ({series})' if series else ''}",
            p,
            float(corrected),
            min(1.0, floor_of(figures) * len(found)),
            verdict(figures, outcome)[0],
        )
        for (title, series, outcome, figures), p, corrected in zip(found, ps, holm(ps), strict=True)
    ]


def sentence(found: Sequence[Primary]) -> str:
    """Which primary outcomes show an effect after the correction; empty for fewer than two sweeps."""
    if len(found) < 2:
        return ""
    told = "; ".join(f"{one.task}, {one.outcome}: {p_equals(one.p)}, corrected {one.corrected:.3f}" for one in found)
    left = sum(one.corrected <= LEVEL for one in found)
    short = any(one.p <= LEVEL < one.corrected and one.floor > LEVEL for one in found)
    needed = f" So few control sets cannot show {LEVEL} after it; controls={sets_needed(len(found))} can."
    return (
        f"Primary outcomes of {len(found)} sweeps: after Holm's correction {left or 'none'} "
        f"show{'s' if left == 1 else ''} an effect of these neurons ({told}).{needed if short else ''}"
    )
