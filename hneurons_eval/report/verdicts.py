"""What the slope of an outcome says: one of a few verdicts and a sentence, from the figures of a sweep alone."""

import math

from hneurons_eval.analysis.dose_response import AMOUNTS, LEVEL, SIGNED, alphas_of, sets_needed, smallest_p
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
    return [name for place, name in enumerate(names) if not _is_shown(figures, name, names[:place])]


def _is_shown(figures: Figures, name: str, before: list[str]) -> bool:
    """Whether an outcome adds nothing to those before it: no answer changes, or it is 1 minus one of them."""
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


def floor_of(figures: Figures) -> float:
    """The smallest p that the control sets can show: of the kind of which there are fewest."""
    return smallest_p(min(kinds_of(figures).values(), default=0))


def verdict(figures: Figures, outcome: str, scaled: str = "") -> tuple[str, str]:
    """What the slope of an outcome says: one of `VERDICTS`, and a sentence.

    - `effect`: the interval of the slope leaves out 0, whatever unparsed answers count as, and so few random sets of
      any kind move the outcome as far in the same direction that p is at most .05, two-sided, on the hardest kind; of
      outcomes that are not primary after Holm's correction.
    - `spared`: the neurons do less than nearly all random sets of every kind.
    - `shared`: random sets move it as far.
    - `undecided`: no random set moves it as far, but there are too few sets for p to reach .05; or the correction
      leaves p above .05.
    - `artefact`: unparsed, truncated or degenerate answers change with alpha as well, enough to make the slope.
    - `none`: no slope to be seen. `unknown`: too few answers, or no control sets.

    Args:
        figures: of one series.
        outcome: its name.
        scaled: which neurons are scaled, in words.
    """
    name = f"{outcome}_slope"
    if name not in figures or not math.isfinite(figures.get(f"{name}_low", math.nan)):
        return "unknown", f"{title_of(outcome)}: too few answers for a slope"
    value, own = round(figures[name], 9), _sign(figures, name)
    said = _said(figures, outcome, scaled)
    bounds = {counted: f"{name}_missing{counted}" for counted in "01" if f"{name}_missing{counted}" in figures}
    signs = {own, *(_sign(figures, bound) for bound in bounds.values())}
    if len(signs) > 1:
        low, high = (_slope(figures, bound) for bound in bounds.values())
        least = -1 if outcome in SIGNED else 0
        return "artefact", (
            f"{said}, over the questions that could be judged at every alpha. Counting all other answers as {least} "
            f"gives {low}, as 1 {high}: answers that cannot be judged may explain it"
        )
    if own and (sides := _sides(figures, outcome, value, bool(bounds))):
        names = " and ".join(title_of(side) for side in sides)
        return "artefact", f"{said}, but so does the share of {names}, which may explain it"
    if _is_spared(figures, name, value):
        return "spared", f"{said}; random sets of the same size change it more: {_sets(figures, name)}"
    if not own:
        return "none", f"{said}{_detectable(figures, name, outcome)}"
    if f"{name}_p" not in figures:
        return "unknown", f"{said}; without random sets nothing shows that other neurons would not do the same"
    return _against(figures, name, value, said)


def _against(figures: Figures, name: str, value: float, said: str) -> tuple[str, str]:
    """The verdict on a slope whose interval leaves out 0, by the control sets."""
    p, over = figures[f"{name}_p"], int(figures.get(f"{name}_holm_over", 1))
    final = figures.get(f"{name}_p_holm", p)
    after = f"; {p_equals(final)} after Holm over {over} other outcomes" if over > 1 else ""
    if final <= LEVEL:
        return "effect", f"{said}; {_sets(figures, name)}{after}"
    kinds = kinds_of(figures)
    beyond_all = all(
        value > figures[f"{name}_{kind}_high"] if value > 0 else value < figures[f"{name}_{kind}_low"] for kind in kinds
    )
    fewest = min(kinds.values())
    smallest = min(1.0, smallest_p(fewest) * over)
    if beyond_all and smallest > LEVEL:
        holm = f" after Holm over {over} outcomes" if over > 1 else ""
        return "undecided", (
            f"{said}; no random set does as much ({_sets(figures, name)}), but {fewest} sets cannot decide: the "
            f"smallest p is {smallest:.3f}{holm}; controls={sets_needed(over)} can show {LEVEL}"
        )
    if p <= LEVEL:
        return "undecided", f"{said}; {_sets(figures, name)}, but {p_equals(final)} after Holm over {over} outcomes"
    return "shared", f"{said}; random sets of the same size change it as much: {_sets(figures, name)}"


def _said(figures: Figures, outcome: str, scaled: str) -> str:
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
    """The smallest slope that such a sample could show."""
    unit = "" if outcome in AMOUNTS else " points"
    seen, most = figures.get(f"{name}_detectable"), figures.get(f"{name}_changeable")
    none = f"; no answer changed, so at most {100 * most:.1f} % of items can change (95 %)" if most is not None else ""
    if seen is None:
        return f"{none}; so few answers cannot show any slope"
    return f"{none}; detectable with 80 % power: a slope of {seen:.2f}{unit}"


def _sides(figures: Figures, outcome: str, value: float, bounded: bool) -> list[str]:
    """Outcomes that change enough to make a slope; unparsed answers are dealt with where the slope has bounds."""
    sides = [side for side in SIDE if not (side == "unparsed" and bounded)]
    sides += [
        rival for rival, way in RIVALS.get(outcome, {}).items() if way * value * figures.get(f"{rival}_slope", 0.0) > 0
    ]
    return [
        side
        for side in sides
        if abs(figures.get(f"{side}_slope", 0.0)) >= abs(value) / 2 and _sign(figures, f"{side}_slope")
    ]


def _is_spared(figures: Figures, name: str, value: float) -> bool:
    """Whether nearly all random sets of every kind move an outcome, all one way, and the neurons less or not."""
    medians = [figures[f"{name}_{kind}"] for kind in kinds_of(figures) if f"{name}_{kind}" in figures]
    p = figures.get(f"{name}_p_control", 1.0) * figures.get(f"{name}_holm_over", 1.0)
    ahead = all(abs(median) > abs(value) for median in medians)
    same = len({median > 0 for median in medians}) == 1
    # A slope in the other direction is an effect of its own, if it is one.
    opposite = bool(medians) and _sign(figures, name) * medians[0] < 0
    return bool(medians) and p <= LEVEL and ahead and same and not opposite


def _sets(figures: Figures, name: str) -> str:
    """`39 contribution-matched sets -0.5 to +0.6 (p = 0.123)`, of each kind."""
    parts = []
    for kind, number in kinds_of(figures).items():
        low, high = figures[f"{name}_{kind}_low"], figures[f"{name}_{kind}_high"]
        p = p_equals(figures[f"{name}_p_{kind}"], smallest_p(number))
        parts.append(f"{number} {kind_title(kind)}random sets {low:+.2f} to {high:+.2f} ({p})")
    return ", ".join(parts)


def kind_title(kind: str) -> str:
    """`layer-matched `; empty for sets of which only the name says that they are random."""
    return "" if kind == "random" else f"{KINDS.get(kind, kind)} "


def _sign(figures: Figures, name: str) -> int:
    """The sign that both ends of an interval have; 0 where it holds 0, or is not known."""
    low, high = (round(figures.get(f"{name}_{end}", 0.0), 9) for end in ("low", "high"))
    return 1 if low > 0 else -1 if high < 0 else 0
