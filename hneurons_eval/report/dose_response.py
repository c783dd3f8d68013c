"""What a sweep over alpha shows, in words, tables and a figure, from its figures alone."""

import math
from collections.abc import Mapping, Sequence

from hneurons_eval.dose_response import AMOUNTS, NO_OP, alphas_of, series_of
from hneurons_eval.markdown import picture, table
from hneurons_eval.report.figures import dose_response as draw

Figures = Mapping[str, float]
SIDE = ("unparsed", "not_attempted", "truncated", "degenerate")
"""Outcomes that can make, or hide, an effect."""
TITLES = {
    "compliance": "compliance",
    "compliance_of_all": "compliance, unparsed counted as not compliant",
    "accuracy": "accuracy",
    "attempt_rate": "answers attempted",
    "hallucination_rate": "hallucinated answers",
    "unparsed": "unparsed",
    "not_attempted": "not attempted",
    "truncated": "stopped by the limit on tokens",
    "degenerate": "degenerate text",
    "response_tokens": "tokens in a response",
}


def title_of(outcome: str) -> str:
    """An outcome's name for people."""
    return TITLES.get(outcome, outcome.replace("_", " "))


def outcomes_of(figures: Figures) -> list[str]:
    """The outcomes that have a curve, in the order of the figures.

    Compliance of all answers is left out where everything was parsed, since it is compliance then.
    """
    names = dict.fromkeys(name.split("@")[0] for name in figures if "@" in name)
    curved = [name for name in names if f"{name}_low@1" in figures or f"{name}_slope" in figures]
    return [name for name in curved if not (name.endswith("_of_all") and _same(figures, name))]


def _same(figures: Figures, of_all: str) -> bool:
    plain = of_all.removesuffix("_of_all")
    return all(figures.get(f"{plain}@{a:g}") == figures[f"{of_all}@{a:g}"] for a in alphas_of(figures, of_all))


def headlines_of(figures: Figures) -> list[str]:
    """The outcomes that are reported in full: those with differences to the no-op."""
    return [name for name in outcomes_of(figures) if alphas_of(figures, f"{name}_difference")]


def verdict(figures: Figures, outcome: str) -> tuple[str, str]:
    """What the slope of an outcome says: `effect`, `shared`, `artefact`, `none` or `unknown`, and a sentence.

    `effect`: the interval leaves out 0, and no more than one in twenty random sets moves the outcome as far.
    `shared`: random sets move it as far. `artefact`: answers without a verdict, cut off or broken change with alpha as
    well, enough to make the slope.
    """
    name, unit = f"{outcome}_slope", "" if outcome in AMOUNTS else " points"
    if name not in figures or not math.isfinite(figures.get(f"{name}_low", math.nan)):
        return "unknown", f"{title_of(outcome)}: too few answers for a slope"
    # A curve that is flat may have a slope of 1e-15 by rounding, which is none.
    value, low, high = (round(figures[f"{name}{part}"], 9) for part in ("", "_low", "_high"))
    said = f"{title_of(outcome)} changes by {value:+.2f}{unit} per unit of alpha [{low:+.2f}, {high:+.2f}]"
    if low <= 0 <= high:
        seen = figures.get(f"{name}_detectable")
        could = f"; a slope of {seen:.2f} would have been seen in four of five such samples" if seen else ""
        return "none", f"{said}: no effect seen{could}"
    doubtful = [
        side
        for side in SIDE
        if side in outcomes_of(figures)
        and abs(figures.get(f"{side}_slope", 0.0)) >= abs(value) / 2
        and figures.get(f"{side}_slope_low", 0.0) * figures.get(f"{side}_slope_high", 0.0) > 0
    ]
    edges = [figures.get(f"{outcome}_of_all_slope_{edge}", 0.0) for edge in ("low", "high")]
    if doubtful and not all(edge * value > 0 for edge in edges):
        names = " and ".join(title_of(side) for side in doubtful)
        return "artefact", f"{said}, but so does the share of {names}: it may be no more than that"
    p, sets = figures.get(f"{name}_p_control"), int(figures.get("control_sets", 0))
    if p is None:
        return "unknown", f"{said}; without control sets it cannot be told from what any neurons would do"
    spread = f"{figures[f'{name}_control_low']:+.2f} to {figures[f'{name}_control_high']:+.2f}"
    if p > 0.05:
        fewest = f" ({sets} sets cannot show less than p = {1 / (sets + 1):.3f})" if 1 / (sets + 1) > 0.05 else ""
        return "shared", f"{said}; random sets of the same size do the like ({spread}, p = {p:.3f}){fewest}"
    return "effect", f"{said}; {sets} random sets of the same size: {spread} (p = {p:.3f})"


def account(title: str, figures: Figures, headlines: Sequence[str]) -> str:
    """Markdown: for each series what was found in a sentence, the figure, the tables."""
    parts = [f"# {title}", f"Alpha {NO_OP:g} is the untouched model. Intervals are 95 %, paired by question."]
    for series, own in series_of(figures).items():
        if "items" not in own:
            continue
        shown = [name for name in headlines if name in outcomes_of(own)]
        if series:
            parts.append(f"## {series}")
        parts.append(f"{int(own['items'])} questions, {int(own['control_sets'])} random control sets of the same size.")
        parts.append("\n".join(f"- {sentence(own, name)}" for name in shown))
        parts.append(picture(draw(own, shown), f"dose-response of {title}"))
        parts += [headline_table(own, name) for name in shown]
        parts.append(side_table(own, [name for name in outcomes_of(own) if name not in shown]))
    return "\n\n".join(parts)


def sentence(figures: Figures, outcome: str) -> str:
    """The verdict on an outcome, in words."""
    kind, said = verdict(figures, outcome)
    mark = {"effect": "**effect**", "shared": "no effect of these neurons", "artefact": "doubtful", "none": "none"}
    return f"{mark.get(kind, 'unknown')}: {said}."


Cells = tuple[list[str], list[list[str]]]
"""The header of a table, and its rows."""


def headline_table(figures: Figures, outcome: str) -> str:
    """An outcome at each alpha, against the no-op and against the control sets, in markdown."""
    return table(*headline_cells(figures, outcome))


def headline_cells(figures: Figures, outcome: str) -> Cells:
    """An outcome at each alpha, against the no-op and against the control sets."""
    scale, digits = (1.0, 1) if outcome in AMOUNTS else (100.0, 1)
    rows = []
    for alpha in alphas_of(figures, outcome):
        at = f"@{alpha:g}"
        row = [f"{alpha:g}", _interval(figures, outcome, at, scale, digits)]
        if alpha == NO_OP:
            row += ["no-op", "", "", "", ""]
        else:
            row += [
                _interval(figures, f"{outcome}_difference", at, scale, digits, sign=True),
                _band(figures, outcome, at, scale),
                _number(figures, f"{outcome}_p_control{at}", "{:.3f}"),
                _number(figures, f"{outcome}_p{at}", "{:.3f}"),
                _number(figures, f"{outcome}_detectable{at}", "{:.1f}", scale),
            ]
        rows.append(row)
    header = [
        "alpha", f"{title_of(outcome)}{'' if outcome in AMOUNTS else ', %'}", "against the no-op",
        "random sets: mean (range)", "p (sets)", "p (McNemar, Holm)", "detectable",
    ]  # fmt: skip
    return header, rows


def side_table(figures: Figures, outcomes: Sequence[str]) -> str:
    """The other outcomes: a row each, a column for each alpha, and the slope; in markdown."""
    return table(*side_cells(figures, outcomes)) if outcomes else ""


def side_cells(figures: Figures, outcomes: Sequence[str]) -> Cells:
    """The other outcomes: a row each, a column for each alpha, and the slope."""
    alphas = sorted({alpha for name in outcomes for alpha in alphas_of(figures, name)})
    rows = []
    for name in outcomes:
        scale, form = (1.0, "{:.1f}") if name in AMOUNTS else (100.0, "{:.1f}")
        unit = "" if name in AMOUNTS else ", %"
        rows.append(
            [
                f"{title_of(name)}{unit}",
                *(_number(figures, f"{name}@{alpha:g}", form, scale) for alpha in alphas),
                _interval(figures, f"{name}_slope", "", 1.0, 2, sign=True),
                _number(figures, f"{name}_slope_p_control", "{:.3f}"),
            ]
        )
    return ["other outcomes", *(f"{alpha:g}" for alpha in alphas), "slope", "p (sets)"], rows


def _interval(figures: Figures, name: str, at: str, scale: float, digits: int, sign: bool = False) -> str:
    if f"{name}{at}" not in figures:
        return "—"
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    value, low, high = (scale * figures.get(f"{name}{part}{at}", math.nan) for part in ("", "_low", "_high"))
    text = form.format(value)
    return text if math.isnan(low) or math.isnan(high) else f"{text} [{form.format(low)}, {form.format(high)}]"


def _band(figures: Figures, outcome: str, at: str, scale: float) -> str:
    if f"{outcome}_control{at}" not in figures:
        return "—"
    mean, low, high = (scale * figures[f"{outcome}_control{part}{at}"] for part in ("", "_low", "_high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _number(figures: Figures, name: str, form: str, scale: float = 1.0) -> str:
    return form.format(scale * figures[name]) if name in figures else "—"
