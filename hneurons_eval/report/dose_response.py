"""What a sweep over alpha shows, in words, tables and a figure, from its figures alone."""

from collections.abc import Sequence

from hneurons_eval.analysis.dose_response import AMOUNTS, BASELINE_ALPHA, LEVEL, alphas_of, series_of, sets_needed
from hneurons_eval.report.figures import dose_response as draw
from hneurons_eval.report.verdicts import VERDICTS, floor_of, headlines_of, outcomes_of, sets_by_kind, title_of, verdict
from hneurons_eval.report.wording import Cells, Figures, interval, p_value
from hneurons_eval.util.markdown import picture, table

GLOSSARY = (
    f"Alpha {BASELINE_ALPHA:g} is the baseline: the model as it is.",
    "difference: to the baseline, in points, paired by question, with its 95 % interval.",
    "random sets: median and range of the same difference for control sets of as many random neurons.",
    "p (sets): two-sided rank of the neurons among the random sets of the hardest kind, not corrected over alphas; "
    f"too few: fewer than {sets_needed()} sets of a kind cannot show p ≤ {LEVEL}.",
    "p (paired): sign flips of questions (McNemar's exact test), Holm-corrected over alphas.",
    "detectable: the smallest difference found with 80 % power.",
    "slope: points per unit of alpha, over the questions that could be judged at every alpha.",
)
"""What the columns of the tables mean."""


def summary(title: str, figures: Figures, scaled: str = "") -> str:
    """Markdown: for each series what was found in a sentence, the figure, the tables.

    `scaled` says in words which neurons are scaled.
    """
    parts = [f"# {title}", *([f"Scaled: {scaled}."] if scaled else [])]
    for series, own in series_of(figures).items():
        if "items" not in own:
            continue
        shown = headlines_of(own)
        if series:
            parts.append(f"## {series}")
        parts.append(f"{int(own['items'])} questions, {sets_in_words(own)}.")
        told = [verdict(own, name, scaled) for name in shown]
        parts.append("\n".join(f"- **{VERDICTS[kind][0]}**: {said}." for kind, said in told))
        parts.append(picture(draw(own, shown), f"dose-response of {title}"))
        parts += [table(*headline_cells(own, name)) for name in shown]
        if others := [name for name in outcomes_of(own) if name not in shown]:
            parts.append(table(*side_cells(own, others)))
    return "\n\n".join([*parts, "\n".join(f"- {said}" for said in GLOSSARY)])


def sets_in_words(figures: Figures, external: bool = False) -> str:
    """`39 contribution-matched random sets of the same size`, or that there are none and how to add some."""
    if kinds := sets_by_kind(figures):
        return f"{' and '.join(kinds.values())} random sets of the same size"
    how = "run the task with -M neurons=RANDOM.json at the same alphas" if external else "-T controls=39"
    return f"no random control sets (to add some: {how})"


def headline_cells(figures: Figures, outcome: str) -> Cells:
    """An outcome at each alpha, against the baseline and against the control sets."""
    scale = 1.0 if outcome in AMOUNTS else 100.0
    rows = []
    for alpha in alphas_of(figures, outcome):
        at = f"@{alpha:g}"
        against = [
            interval(figures, f"{outcome}_difference", scale, 1, sign=True, at=at),
            _band(figures, outcome, at, scale),
            _p_sets(figures, f"{outcome}_p_control{at}"),
            p_value(figures.get(f"{outcome}_p{at}")),
            interval(figures, f"{outcome}_detectable", scale, 1, at=at),
        ]
        shown = ["baseline", "", "", "", ""] if alpha == BASELINE_ALPHA else against
        rows.append([f"{alpha:g}", interval(figures, outcome, scale, 1, at=at), *shown])
    level = title_of(outcome) if outcome in AMOUNTS else f"{title_of(outcome)}, % of questions"
    header = ["alpha", level, "difference", "random sets: median (range)", "p (sets)", "p (paired)", "detectable"]
    return header, rows


def side_cells(figures: Figures, outcomes: Sequence[str]) -> Cells:
    """The other outcomes: a row each, a column for each alpha, and the slope."""
    alphas = sorted({alpha for name in outcomes for alpha in alphas_of(figures, name)})
    rows = []
    for name in outcomes:
        scale, unit = (1.0, "") if name in AMOUNTS else (100.0, ", %")
        levels = [figures.get(f"{name}@{alpha:g}") for alpha in alphas]
        shown = ["—" if level is None else f"{scale * level:.1f}" for level in levels]
        slope = interval(figures, f"{name}_slope", digits=2, sign=True)
        rows.append([f"{title_of(name)}{unit}", *shown, slope, _p_sets(figures, f"{name}_slope_p_control")])
    return ["other outcomes", *(f"alpha {alpha:g}" for alpha in alphas), "slope", "p (sets)"], rows


def _p_sets(figures: Figures, name: str) -> str:
    """A p by rank among control sets, where there are enough for p <= .05."""
    floor = floor_of(figures)
    return "too few" if name in figures and floor > LEVEL else p_value(figures.get(name), floor)


def _band(figures: Figures, outcome: str, at: str, scale: float) -> str:
    if f"{outcome}_control{at}" not in figures:
        return "—"
    middle, low, high = (scale * figures[f"{outcome}_control{part}{at}"] for part in ("", "_low", "_high"))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"
