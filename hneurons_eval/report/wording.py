"""Statuses, numbers and names as every part of a report writes them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

Figures = Mapping[str, float]
Cells = tuple[list[str], list[list[str]]]
"""Header and rows of a table."""
Line = dict[str, str]
"""One line of the overview: `status`, `what`, `figure` and `sentence`."""
STATUSES = {"green": "ok", "amber": "caution", "red": "failed", "grey": "no verdict"}
"""Word of each status."""
STYLES = {"green": "bold green", "amber": "yellow", "red": "bold red", "grey": "dim"}
"""How each status is printed on a terminal."""
KINDS = {"uniform": "uniform", "layer": "layer-matched", "contribution": "contribution-matched", "sd": "sd-matched"}
"""Kinds of random control sets; a kind that is not here goes by its own name."""


@dataclass(frozen=True)
class StageFigures:
    """A stage or a sweep; also a log with risks (stage `risk`) or of the task `drift`.

    Attributes:
        stage: name of its task.
        figures: metrics by name.
        location: its log.
        facts: what else its log says: model, neuron file, probe, which neurons are scaled; of drift the checkpoints.
        title: of the stage, with what it was run on where that matters; empty: its name.
        sweep: whether it scales neurons by several factors.
        status: how its log ended.
        logs: of an external task, title and location of each.
        details: answers that have a risk (`ScoredAnswer`); of drift `[layer, mean rank of the neurons, of the others]`.
    """

    stage: str
    figures: Figures
    location: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    sweep: bool = False
    status: str = "success"
    logs: Sequence[tuple[str, str]] = ()
    details: Sequence[Any] = ()

    @property
    def name(self) -> str:
        """Title, else the name of the task."""
        return self.title or self.stage

    @property
    def scaled(self) -> str:
        """Which neurons a sweep scales, in words; empty where its log does not say."""
        return self.facts.get("scaled", "")


def line(status: str, what: str, figure: str, sentence: str) -> Line:
    """One line of the overview."""
    return {"status": status, "what": what, "figure": figure, "sentence": sentence}


def is_number(value: Any) -> TypeGuard[float]:
    """An int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def interval(figures: Figures, name: str, scale: float = 1.0, digits: int = 3, sign: bool = False, at: str = "") -> str:
    """`0.787 [0.742, 0.829]` of `<name><at>`, `<name>_low<at>` and `<name>_high<at>`; a dash where it is missing."""
    if f"{name}{at}" not in figures:
        return "—"
    form = f"{'+' if sign else ''}.{digits}f"
    value, low, high = (scale * figures.get(f"{name}{end}{at}", math.nan) for end in ("", "_low", "_high"))
    # By rounding, the slope of a flat curve may be -1e-15, which would be written as -0.
    value, *ends = (0.0 if abs(one) < 1e-9 else one for one in (value, low, high))
    return f"{value:{form}}" if any(map(math.isnan, ends)) else f"{value:{form}} [{ends[0]:{form}}, {ends[1]:{form}}]"


def p_value(p: float | None, floor: float = 0.0) -> str:
    """`0.123`, or `≤ 0.050 (floor)` where so few sets or shuffles cannot show a smaller p; a dash for None."""
    if p is None:
        return "—"
    if floor and p <= floor + 1e-9:
        return f"≤ {math.ceil(1000 * floor - 1e-6) / 1000:.3f} (floor)"
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def p_equals(p: float | None, floor: float = 0.0) -> str:
    """`p = 0.123`, `p < 0.001` or `p ≤ 0.050 (floor)`."""
    text = p_value(p, floor)
    return f"p {text}" if text[0] in "<≤" else f"p = {text}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """`a, b and c`."""
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
