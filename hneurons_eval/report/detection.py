"""How well answers were told apart, as tables and sentences, from the figures of `evaluation.detection` alone."""

import math
from collections.abc import Mapping, Sequence

from hneurons_eval.analysis.dose_response import series_of

Figures = Mapping[str, float]
Cells = tuple[list[str], list[list[str]]]
"""Header and rows of a table."""
LEVEL = 0.05

KINDS = {
    "uniform": "uniform",
    "layer": "layer-matched",
    "contribution": "contribution-matched",
    "sd": "sd-matched",
}
"""Kinds of control sets, for people."""
BASELINES = {
    "positive": "its positive weights alone (the H-neurons)",
    "negative": "its negative weights alone",
    "scalars": "log-probability, entropy, length jointly",
    "scalars_and_probe": "these and the probe jointly",
    "logprob": "mean log-probability of the answer",
    "sequence_logprob": "sequence log-probability of the answer",
    "min_logprob": "least likely token's log-probability",
    "entropy": "mean entropy of the answer",
    "sequence_entropy": "summed entropy of the answer",
    "length": "response length",
    "question_length": "question length",
    "dense": "all neurons, L2",
    "prompt": "all neurons over the prompt, L2",
    "hidden": "last hidden state, L2",
}
"""What the probe is compared with, for people."""
PARTS = ("positive", "negative", "scalars_and_probe")
"""Baselines that are parts or extensions of the probe, and no rivals."""
SCALARS = ("logprob", "sequence_logprob", "min_logprob", "entropy", "sequence_entropy", "length", "question_length")
"""Baselines of one number, of which `scalars` is the joint classifier."""
RIVALS = tuple(name for name in BASELINES if name not in (*PARTS, "dense"))
"""Baselines that use no contributions of the answer: a probe that does not beat them shows nothing of its own."""
AUDITS = {
    "balance": "one class is rare",
    "calibration": "the probabilities are no better than a constant, or not calibrated",
    "length": "length tells the label, part of what the probe tells is length, or its neurons follow length",
    "relation": "the relation tells the label",
    "leftover": "answers are to questions of relations that were trained on",
    "span": "spans are missing, or nearly all are the whole response",
    "template": "the other tokens are nearly all prompt and template",
}


def interval(figures: Figures, name: str, scale: float = 1.0, digits: int = 3, sign: bool = False) -> str:
    """`0.787 [0.742, 0.829]`, or a dash where the figure is missing."""
    if name not in figures:
        return "—"
    plus = "+" if sign else ""
    text = f"{scale * figures[name]:{plus}.{digits}f}"
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    if low is None or high is None or low != low or high != high:
        return text
    return f"{text} [{scale * low:{plus}.{digits}f}, {scale * high:{plus}.{digits}f}]"


def p_text(figures: Figures, name: str, sets: float | None = None) -> str:
    """A p-value; `≤ 0.010 (floor)` where no smaller one is possible with so many sets."""
    if name not in figures:
        return "—"
    value = figures[name]
    if sets and value <= 1 / (sets + 1) + 1e-12:
        return f"≤ {math.ceil(1000 / (sets + 1) - 1e-9) / 1000:.3f} (floor)"
    return f"{value:.3f}"


def probe_name(figures: Figures) -> str:
    """`probe: 17 neurons, 6 positive`, as far as the figures know."""
    if "neurons" not in figures:
        return "probe"
    return f"probe: {int(figures['neurons'])} neurons, {int(figures.get('positive_neurons', 0))} positive"


def by_question_set(figures: Figures) -> dict[str, dict[str, float]]:
    """Figures of detection by question set; all under "" where there is only one."""
    named = series_of(figures)
    common = named.pop("", {})
    return {name: {**common, **own} for name, own in named.items()} or {"": common}


def detection_cells(figures: Figures) -> Cells:
    """The probe beside baselines, with 95 % intervals by question."""
    rows = [
        [probe_name(figures), interval(figures, "auroc"), "", p_text(figures, "auroc_p", figures.get("auroc_shuffles"))]
    ]
    for name, label in BASELINES.items():
        if f"{name}_auroc" in figures:
            apart = interval(figures, f"{name}_difference", sign=True)
            if name == "scalars_and_probe" and "added" in figures:
                apart = f"adds {interval(figures, 'added', sign=True)}"
            rows.append([label, interval(figures, f"{name}_auroc"), apart, ""])
    return ["", "AUROC", "probe minus it", "p"], rows


def sets_cells(figures: Figures) -> Cells:
    """Neurons chosen on one half of the answers and fitted on the other, beside control sets of their size."""
    rows = []
    for selection, label in (("probe", "neurons with a weight"), ("positive", "positive ones (H-neurons)")):
        if f"{selection}_refit_auroc" not in figures:
            continue
        rows.append([label, interval(figures, f"{selection}_refit_auroc"), "", ""])
        for kind, name in KINDS.items():
            own = f"{selection}_{kind}"
            if f"{own}_auroc" in figures:
                sets = figures.get(f"{own}_sets", 0)
                title = f"  {int(sets)} {name} sets of that size"
                apart = interval(figures, f"{own}_difference", sign=True)
                rows.append([title, interval(figures, f"{own}_auroc"), apart, p_text(figures, f"{own}_p", sets)])
    return ["chosen on one half, fitted on the other", "AUROC", "neurons minus sets", "p"], rows


def detection_note(figures: Figures) -> str:
    """Over what the figures of detection were taken, the calls, and the calibration."""
    if "auroc" not in figures:
        known = f"; pooled over relations {interval(figures, 'auroc_pooled')}" if "auroc_pooled" in figures else ""
        return f"{int(figures.get('answers', 0))} answers, too few of one class within any relation for an AUROC{known}"
    parts = []
    if "relations" in figures:
        parts.append(
            f"AUROC is the mean within {int(figures['relations'])} relations "
            f"({int(figures['answers_in_relations'])} answers); weighted by pairs {figures['auroc_weighted']:.3f}"
        )
        if "auroc_relations_low" in figures:
            parts.append(
                f"over other relations [{figures['auroc_relations_low']:.3f}, {figures['auroc_relations_high']:.3f}]"
            )
        parts.append(f"pooled {interval(figures, 'auroc_pooled')}")
    else:
        parts.append("AUROC over all answers")
    if figures.get("widening", 1.0) > 1:
        parts.append(f"intervals are widened by {figures['widening']:.2f} for what refitting varies")
    parts.append(
        f"{int(figures['answers'])} answers, {int(figures.get('hallucinated', 0))} hallucinated: balanced accuracy "
        f"{interval(figures, 'balanced_accuracy')}, accuracy {figures.get('accuracy', math.nan):.3f} "
        f"(majority class {figures.get('majority_accuracy', math.nan):.3f})"
    )
    skill, error, null = (
        figures.get(name, math.nan) for name in ("brier_skill", "calibration_error", "calibration_error_null")
    )
    parts.append(f"Brier skill {skill:+.3f} (0: a constant), calibration error {error:.3f} (perfect: {null:.3f})")
    return "; ".join(parts)


def hardest_kind(figures: Figures, selection: str = "probe") -> str | None:
    """The kind of control sets with the largest p; of equals the one with the greatest AUROC."""
    ps = {kind: figures[f"{selection}_{kind}_p"] for kind in KINDS if f"{selection}_{kind}_p" in figures}
    return max(ps, key=lambda kind: (ps[kind], figures[f"{selection}_{kind}_auroc"])) if ps else None


def verdicts(figures: Figures) -> list[tuple[str, str]]:
    """Does the probe detect, does it add to the scalars, are its neurons better than others of equal size.

    Returns:
        for each question that the figures can answer, `green` (shown), `amber` (not shown) or `red` (the opposite, or
        no better than chance), and a sentence.
    """
    if "auroc" not in figures:
        return []
    found = [_detects(figures)]
    if "added" in figures:
        found.append(_adds(figures))
    for selection, who in (("probe", "The probe's neurons"), ("positive", "Its positive neurons")):
        if (kind := hardest_kind(figures, selection)) is not None:
            found.append(_better_than_sets(figures, selection, who, kind))
    return found


def _detects(figures: Figures) -> tuple[str, str]:
    p = p_text(figures, "auroc_p", figures.get("auroc_shuffles"))
    said = f"AUROC {interval(figures, 'auroc')}, p {p} with labels shuffled"
    if not figures.get("auroc_p", 1.0) <= LEVEL or not figures.get("auroc_low", math.nan) > 0.5:
        return "red", f"The probe is not shown to detect hallucinations ({said})."
    if figures.get("auroc_relations_low", 1.0) <= 0.5:
        return "amber", f"The probe detects in these relations ({said}); for others the interval reaches .5."
    return "green", f"The probe detects hallucinations ({said})."


def _adds(figures: Figures) -> tuple[str, str]:
    said = f"AUROC {interval(figures, 'added', sign=True)}"
    if "added_relations_low" in figures:
        said += f"; over relations [{figures['added_relations_low']:+.3f}, {figures['added_relations_high']:+.3f}]"
    best = max(SCALARS, key=lambda name: figures.get(f"{name}_auroc", 0.0))
    if figures.get(f"{best}_auroc", 0.0) >= figures.get("scalars_and_probe_auroc", 1.0):
        # A joint classifier may carry over badly to other relations, and is then no rival to be proud of.
        alone = f"{BASELINES[best]} alone reaches {figures[f'{best}_auroc']:.3f}"
        return (
            "amber",
            f"It is not shown to add to log-probability, entropy and length: {alone} ({said} to them jointly).",
        )
    if figures.get("added_low", math.nan) > 0:
        wide = figures.get("added_relations_low", 1.0) <= 0
        more = ", in these relations; for others the interval holds 0" if wide else ""
        return "amber" if wide else "green", f"It adds to log-probability, entropy and length{more} ({said})."
    if figures.get("added_high", math.nan) < 0:
        return "red", f"It makes log-probability, entropy and length worse ({said})."
    return "amber", f"It is not shown to add to log-probability, entropy and length ({said})."


def _better_than_sets(figures: Figures, selection: str, who: str, kind: str) -> tuple[str, str]:
    refit, p = figures.get(f"{selection}_refit_auroc", math.nan), figures[f"{selection}_{kind}_p"]
    own = f"{selection}_{kind}"
    said = (
        f"AUROC {refit:.3f}, {KINDS[kind]} sets {interval(figures, f'{own}_auroc')}, "
        f"p {p_text(figures, f'{own}_p', figures.get(f'{own}_sets'))}"
    )
    if p <= LEVEL:
        return "green", f"{who} tell more than others of equal size, even the hardest to beat ({said})."
    return "amber", f"{who} are not shown to tell more than others of equal size ({said})."


def better_and_not(figures: Figures, names: Sequence[str] = RIVALS) -> tuple[list[str], list[str]]:
    """Baselines that the probe beats, and those that it is not shown to beat: by the paired interval."""
    known = [name for name in names if f"{name}_difference_low" in figures]
    beaten = [name for name in known if figures[f"{name}_difference_low"] > 0]
    return [BASELINES[name] for name in beaten], [BASELINES[name] for name in known if name not in beaten]
