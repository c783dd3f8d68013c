"""What a sweep over alpha shows, in words, tables and a figure, from its figures alone."""

import math
from collections.abc import Mapping, Sequence

from hneurons_eval.analysis.dose_response import AMOUNTS, BASELINE_ALPHA, alphas_of, series_of
from hneurons_eval.report.figures import dose_response as draw
from hneurons_eval.report.verdicts import KIND_TITLES, MARKS, floor_of, kinds_of, outcomes_of, p_text, title_of, verdict
from hneurons_eval.util.markdown import picture, table

Figures = Mapping[str, float]


def account(title: str, figures: Figures, headlines: Sequence[str], scaled: str = "") -> str:
    """Markdown: for each series what was found in a sentence, the figure, the tables.

    Args:
        title: the heading.
        figures: of all series.
        headlines: outcomes that are reported in full.
        scaled: which neurons are scaled, in words.
    """
    parts = [
        f"# {title}",
        f"Alpha {BASELINE_ALPHA:g} is the untouched model. Intervals are 95 %, paired by question; slopes are over the "
        "questions that could be judged at every alpha.",
    ]
    if scaled:
        parts.insert(1, f"Scaled: {scaled}.")
    for series, own in series_of(figures).items():
        if "items" not in own:
            continue
        shown = [name for name in headlines if name in outcomes_of(own)]
        if series:
            parts.append(f"## {series}")
        parts.append(f"{int(own['items'])} questions, {sets_in_words(own)}.")
        parts.append("\n".join(f"- {sentence(own, name, scaled)}" for name in shown))
        parts.append(picture(draw(own, shown), f"dose-response of {title}"))
        parts += [headline_table(own, name) for name in shown]
        parts.append(side_table(own, [name for name in outcomes_of(own) if name not in shown]))
    return "\n\n".join(parts)


def sets_in_words(figures: Figures) -> str:
    """`39 contribution-matched random sets of the same size`."""
    kinds = [f"{number} {KIND_TITLES.get(kind, kind)}".strip() for kind, number in kinds_of(figures).items()]
    return f"{' and '.join(kinds)} random sets of the same size" if kinds else "no random sets"


def sentence(figures: Figures, outcome: str, scaled: str = "") -> str:
    """The verdict on an outcome, in words."""
    kind, said = verdict(figures, outcome, scaled)
    mark = MARKS[kind][0]
    return f"{f'**{mark}**' if kind == 'effect' else mark}: {said}."


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
        if alpha == BASELINE_ALPHA:
            row += ["no-op", "", "", "", ""]
        else:
            row += [
                _interval(figures, f"{outcome}_difference", at, scale, digits, sign=True),
                _band(figures, outcome, at, scale),
                _p(figures, f"{outcome}_p_control{at}", floor_of(figures)),
                _p(figures, f"{outcome}_p{at}"),
                _number(figures, f"{outcome}_detectable{at}", "{:.1f}", scale),
            ]
        rows.append(row)
    header = [
        "alpha", f"{title_of(outcome)}{'' if outcome in AMOUNTS else ', %'}", "against the no-op",
        "random sets: median (range)", "p (sets)", "p (paired, Holm)", "detectable",
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
                _p(figures, f"{name}_slope_p_control", floor_of(figures)),
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


def _p(figures: Figures, name: str, floor: float = 0.0) -> str:
    return p_text(figures[name], floor).removeprefix("= ") if name in figures else "—"
