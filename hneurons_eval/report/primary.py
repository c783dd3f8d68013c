"""The primary outcomes of all sweeps of a run together: which effects are left after Holm's correction over tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hneurons_eval.analysis.dose_response import LEVEL, sets_needed, smallest_p
from hneurons_eval.analysis.tests import holm
from hneurons_eval.report.verdicts import kinds_of, p_text, title_of


@dataclass(frozen=True)
class Primary:
    """The primary outcome of one sweep.

    Attributes:
        task: its title.
        outcome: its name, with the series it is of where there are several.
        p: of an effect of these neurons, as `<outcome>_slope_p` of `dose_response`.
        corrected: after Holm's correction over the sweeps.
        floor: the smallest corrected p that its control sets could show.
    """

    task: str
    outcome: str
    p: float
    corrected: float
    floor: float


def primaries(sweeps: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]]) -> list[Primary]:
    """The primary outcome of each sweep that has one and was compared with control sets.

    Args:
        sweeps: title and figures by series of each.
    """
    found = []
    for title, by_series in sweeps:
        for series, figures in by_series.items():
            for name in figures:
                outcome = name.removesuffix("_slope_primary")
                if outcome != name and f"{outcome}_slope_p" in figures:
                    label = f"{title_of(outcome)}{f' ({series})' if series else ''}"
                    fewest = min(kinds_of(figures).values())
                    found.append((title, label, figures[f"{outcome}_slope_p"], smallest_p(fewest)))
    p = holm([one[2] for one in found])
    return [
        Primary(title, label, own, float(corrected), min(1.0, floor * len(found)))
        for (title, label, own, floor), corrected in zip(found, p, strict=True)
    ]


def sentence(found: Sequence[Primary]) -> str:
    """Which primary outcomes show an effect after the correction; empty for fewer than two sweeps."""
    if len(found) < 2:
        return ""
    told = "; ".join(f"{one.task}, {one.outcome}: p {p_text(one.p)}, corrected {one.corrected:.3f}" for one in found)
    left = sum(one.corrected <= LEVEL for one in found)
    short = any(one.p <= LEVEL < one.corrected and one.floor > LEVEL for one in found)
    needed = f" So few control sets cannot show {LEVEL} after it; controls={sets_needed(len(found))} can."
    return (
        f"Over the primary outcomes of {len(found)} sweeps, after Holm's correction {left or 'none'} "
        f"show{'s' if left == 1 else ''} an effect of these neurons ({told}).{needed if short else ''}"
    )
