"""What the slope of an outcome says: one of a few verdicts and a sentence, from the figures of a sweep alone.

And what the primary outcomes of several sweeps say together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hneurons_eval.analysis.dose_response import AMOUNTS, LEVEL, SIGNED, alphas_of, sets_needed, smallest_p
from hneurons_eval.analysis.tests import holm
from hneurons_eval.report.wording import KINDS, Figures, interval, p_equals

SIDE = ("unparsed", "not_attempted", "truncated", "degenerate")
"""Outcomes that can make, or hide, an effect."""
RIVALS = {
    "compliance": {"neutral_change": 1, "corrected": 1},
    "compliance_beyond_neutral": {"neutral_change": -1, "corrected": 1},
}
"""Outcomes that explain an outcome where they change with it (1) or against it (-1); they stand in its sentence."""
TITLES = {
    "compliance_beyond_neutral": "compliance beyond a neutral re-ask",
    "neutral_change": "right answers that end wrong when merely asked again",
    "corrected": "wrong answers corrected",
    "attempt_rate": "answers attempted",
    "hallucination_rate": "hallucinated answers",
    "truncated": "stopped by the limit on tokens",
    "degenerate": "degenerate text",
    "response_tokens": "tokens in a response",
}
VERDICTS = {
    "effect": ("effect", "green"),
    "spared": ("less than random sets", "amber"),
    "shared": ("no more than random sets", "amber"),
    "undecided": ("undecided", "amber"),
    "artefact": ("doubtful", "amber"),
    "none": ("no effect seen", "grey"),
    "unknown": ("cannot tell", "grey"),
}
"""Words and status of each verdict."""


def title_of(outcome: str) -> str:
    """An outcome's name for people."""
    return TITLES.get(outcome, outcome.replace("_", " "))


def outcomes_of(figures: Figures) -> list[str]:
    """The outcomes that have a curve, in the order of the figures."""
    names = dict.fromkeys(name.split("@")[0] for name in figures if "@" in name)
    return [name for name in names if f"{name}_low@1" in figures or f"{name}_slope" in figures]


def headlines_of(figures: Figures) -> list[str]:
    """The outcomes that are reported in full: those with differences to baseline, but for what another one shows."""
    names = [name for name in outcomes_of(figures) if alphas_of(figures, f"{name}_difference")]
    return [name for place, name in enumerate(names) if not _adds_nothing(figures, name, names[:place])]


def _adds_nothing(figures: Figures, name: str, before: list[str]) -> bool:
    """No answer changes, or the outcome is 1 minus one of those before it."""
    if not before or f"{name}_slope_primary" in figures:
        return False
    if f"{name}_slope_changeable" in figures:
        return True
    alphas = alphas_of(figures, name)
    return any(
        alphas == alphas_of(figures, other)
        and all(abs(figures[f"{name}@{alpha:g}"] + figures[f"{other}@{alpha:g}"] - 1) < 1e-9 for alpha in alphas)
        for other in before
    )


def kinds_of(figures: Figures) -> dict[str, int]:
    """How many random control sets there are of each kind."""
    prefix = "control_sets_"
    return {name.removeprefix(prefix): int(value) for name, value in figures.items() if name.startswith(prefix)}


def sets_by_kind(figures: Figures) -> dict[str, str]:
    """`39 layer-matched` of each kind; only `39` of sets of which nothing but the name says that they are random."""
    return {
        kind: f"{number} {KINDS.get(kind, kind)}" if kind != "random" else f"{number}"
        for kind, number in kinds_of(figures).items()
    }


def floor_of(figures: Figures) -> float:
    """The smallest p that the control sets can show: of the kind of which there are fewest."""
    return smallest_p(min(kinds_of(figures).values(), default=0))


def verdict(figures: Figures, outcome: str, scaled: str = "") -> tuple[str, str]:
    """What the slope of an outcome says: one of `VERDICTS`, and a sentence.

    - `effect`: the interval of the slope leaves out 0, whatever unparsed answers count as, and so few random sets of
      any kind move the outcome as far in the same direction that p is at most .05, two-sided, on the hardest kind;
      after Holm's correction for outcomes that are not primary.
    - `spared`: the neurons do less than nearly all random sets of every kind.
    - `shared`: random sets move it as far.
    - `undecided`: no random set moves it as far, but there are too few sets for p to reach .05; or the correction
      leaves p above .05.
    - `artefact`: unparsed, truncated or degenerate answers change with alpha as well, enough to make the slope.
    - `none`: no slope to be seen. `unknown`: too few answers, or no control sets.

    `figures` are of one series; `scaled` says in words which neurons are scaled.
    """
    name = f"{outcome}_slope"
    if name not in figures or not math.isfinite(figures.get(f"{name}_low", math.nan)):
        return "unknown", f"{title_of(outcome)}: too few answers for a slope"
    value, own = round(figures[name], 9), _sign(figures, name)
    said = _said(figures, outcome, scaled)
    bounds = [f"{name}_missing{counted}" for counted in "01" if f"{name}_missing{counted}" in figures]
    if any(_sign(figures, bound) != own for bound in bounds):
        low, high = (_slope(figures, bound) for bound in bounds)
        least = -1 if outcome in SIGNED else 0
        return "artefact", (
            f"{said}, over the questions that could be judged at every alpha. Counting all other answers as {least} "
            f"gives {low}, as 1 {high}: answers that cannot be judged may explain it"
        )
    if own and (sides := _sides(figures, outcome, value, bool(bounds))):
        names = " and ".join(map(title_of, sides))
        return "artefact", f"{said}, but so does the share of {names}, which may explain it"
    if _is_spared(figures, name, value):
        return "spared", f"{said}; random sets of the same size change it more: {_sets(figures, name)}"
    if not own:
        return "none", f"{said}{_detectable(figures, name, outcome)}"
    if f"{name}_p" not in figures:
        return "unknown", f"{said}; without random sets nothing shows that other neurons would not do the same"
    return _against(figures, name, value, said)


def _against(figures: Figures, name: str, value: float, said: str) -> tuple[str, str]:
    """Verdict on a slope whose interval leaves out 0."""
    p, over = figures[f"{name}_p"], int(figures.get(f"{name}_holm_over", 1))
    final = figures.get(f"{name}_p_holm", p)
    after = f"; {p_equals(final)} after Holm over {over} other outcomes" if over > 1 else ""
    if final <= LEVEL:
        return "effect", f"{said}; {_sets(figures, name)}{after}"
    kinds, holm_over = kinds_of(figures), f" after Holm over {over} outcomes" if over > 1 else ""
    end, way = ("high", 1) if value > 0 else ("low", -1)
    beyond_all = all(way * value > way * figures[f"{name}_{kind}_{end}"] for kind in kinds)
    smallest = min(1.0, floor_of(figures) * over)
    if beyond_all and smallest > LEVEL:
        return "undecided", (
            f"{said}; no random set does as much ({_sets(figures, name)}), but {min(kinds.values())} sets cannot "
            f"decide: the smallest p is {smallest:.3f}{holm_over}; controls={sets_needed(over)} can show {LEVEL}"
        )
    if p <= LEVEL:
        return "undecided", f"{said}; {_sets(figures, name)}, but {p_equals(final)}{holm_over}"
    return "shared", f"{said}; random sets of the same size change it as much: {_sets(figures, name)}"


def _said(figures: Figures, outcome: str, scaled: str) -> str:
    """The slope in words, with the slopes of what may explain it."""
    unit = "" if outcome in AMOUNTS else " points"
    role = " (primary outcome)" if f"{outcome}_slope_primary" in figures else ""
    slope = _slope(figures, f"{outcome}_slope").replace(" [", f"{unit} per unit of alpha [", 1)
    others = [name for name in RIVALS.get(outcome, ()) if f"{name}_slope" in figures]
    beside = "; ".join(f"{title_of(name)}: {_slope(figures, f'{name}_slope')}" for name in others)
    said = f"{title_of(outcome)}{role} changes by {slope}"
    return said + (f", scaling {scaled}" if scaled else "") + (f" ({beside})" if beside else "")


def _slope(figures: Figures, name: str) -> str:
    return interval(figures, name, digits=2, sign=True)


def _detectable(figures: Figures, name: str, outcome: str) -> str:
    seen, most = figures.get(f"{name}_detectable"), figures.get(f"{name}_changeable")
    said = f"; no answer changed, so at most {100 * most:.1f} % of items can change (95 %)" if most is not None else ""
    if seen is None:
        return f"{said}; so few answers cannot show any slope"
    return f"{said}; detectable with 80 % power: a slope of {seen:.2f}{'' if outcome in AMOUNTS else ' points'}"


def _sides(figures: Figures, outcome: str, value: float, bounded: bool) -> list[str]:
    """Outcomes that change enough to make a slope; unparsed answers are dealt with where the slope has bounds."""
    ways = dict.fromkeys(SIDE, 0) | RIVALS.get(outcome, {})  # 0: a change either way explains the outcome
    if bounded:
        del ways["unparsed"]
    found = []
    for side, way in ways.items():
        slope = figures.get(f"{side}_slope", 0.0)
        explains = way == 0 or way * value * slope > 0
        if explains and abs(slope) >= abs(value) / 2 and _sign(figures, f"{side}_slope"):
            found.append(side)
    return found


def _is_spared(figures: Figures, name: str, value: float) -> bool:
    """Nearly all random sets of every kind move the outcome, all one way, and the neurons less or not."""
    medians = [figures[f"{name}_{kind}"] for kind in kinds_of(figures) if f"{name}_{kind}" in figures]
    p = figures.get(f"{name}_p_control", 1.0) * figures.get(f"{name}_holm_over", 1.0)
    if p > LEVEL or len({median > 0 for median in medians}) != 1:
        return False
    # A slope in the other direction is an effect of its own, if it is one.
    return min(map(abs, medians)) > abs(value) and _sign(figures, name) * medians[0] >= 0


def _sets(figures: Figures, name: str) -> str:
    """`39 contribution-matched sets -0.5 to +0.6 (p = 0.123)`, of each kind."""
    parts, numbers = [], kinds_of(figures)
    for kind, sets in sets_by_kind(figures).items():
        low, high = figures[f"{name}_{kind}_low"], figures[f"{name}_{kind}_high"]
        p = p_equals(figures[f"{name}_p_{kind}"], smallest_p(numbers[kind]))
        parts.append(f"{sets} random sets {low:+.2f} to {high:+.2f} ({p})")
    return ", ".join(parts)


def _sign(figures: Figures, name: str) -> int:
    """The sign that both ends of an interval have; 0 where it holds 0, or is not known."""
    low, high = (round(figures.get(f"{name}_{end}", 0.0), 9) for end in ("low", "high"))
    return 1 if low > 0 else -1 if high < 0 else 0


# --- several sweeps --------------------------------------------------------------------------------------


class Primary(NamedTuple):
    """The primary outcome of one sweep: task, outcome, p before and after Holm's correction, its floor, the verdict."""

    task: str
    outcome: str
    p: float
    corrected: float
    floor: float
    verdict: str


def primaries(sweeps: Sequence[tuple[str, Mapping[str, Figures]]]) -> list[Primary]:
    """The primary outcome of each sweep (title, figures by series) that has one and was compared with control sets."""
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


def over_sweeps(found: Sequence[Primary]) -> str:
    """Which primary outcomes show an effect after Holm's correction over sweeps; empty for fewer than two sweeps."""
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
