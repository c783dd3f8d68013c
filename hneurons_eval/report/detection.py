"""How well answers were told apart, as tables and sentences, from the figures of `analysis.detection` alone."""

import math
from collections.abc import Sequence

from hneurons_eval.analysis.dose_response import LEVEL, series_of
from hneurons_eval.report.wording import KINDS, Cells, Figures, interval, listed, p_equals, p_value

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
SCALARS = ("logprob", "sequence_logprob", "min_logprob", "entropy", "sequence_entropy", "length", "question_length")
"""Baselines of one number, of which `scalars` is the joint classifier."""
RIVALS = tuple(name for name in BASELINES if name not in ("positive", "negative", "scalars_and_probe", "dense"))
"""Baselines that use no contributions of the answer: a probe that does not beat them shows nothing of its own."""
GLOSSARY = (
    "AUROC: probability that a hallucinated answer gets the higher value than a faithful one; 0.5 is chance.",
    "probe minus it: difference of the AUROCs on the same answers; an interval above 0 favours the probe.",
    "p: of the probe, by shuffling labels; of its neurons, one-sided against the random sets, over sets and answers; "
    "(floor): so few shuffles or sets cannot show a smaller one.",
    "relation: the kind of question, such as capital-of. Held out: each relation (else question) is judged by a probe "
    "that was trained without it.",
    "neurons minus sets: both selected or drawn on one half of the answers and refitted (L2) on the other.",
    "Brier skill: 0 is a constant probability, 1 perfect.",
)
"""What the columns of the tables mean."""


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
    rows = [[probe_name(figures), interval(figures, "auroc"), "", p_value(*_shuffled(figures))]]
    for name, label in BASELINES.items():
        if f"{name}_auroc" in figures:
            adds = name == "scalars_and_probe" and "added" in figures
            apart = interval(figures, "added" if adds else f"{name}_difference", sign=True)
            apart = f"adds {apart}" if adds else apart
            rows.append([label, interval(figures, f"{name}_auroc"), apart, ""])
    return ["", "AUROC", "probe minus it", "p"], rows


def sets_cells(figures: Figures) -> Cells:
    """Neurons chosen on one half of the answers and refitted on the other, beside control sets of their size."""
    rows = []
    for selection, label in (("probe", "neurons with a weight"), ("positive", "positive ones (H-neurons)")):
        if f"{selection}_refit_auroc" not in figures:
            continue
        rows.append([label, interval(figures, f"{selection}_refit_auroc"), "", ""])
        for kind, name in KINDS.items():
            own = f"{selection}_{kind}"
            if f"{own}_auroc" in figures:
                sets = int(figures.get(f"{own}_sets", 0))
                apart = interval(figures, f"{own}_difference", sign=True)
                p = p_value(figures.get(f"{own}_p"), _floor(sets))
                rows.append([f"  {sets} {name} sets of that size", interval(figures, f"{own}_auroc"), apart, p])
    return ["selected on one half, refitted (L2) on the other", "AUROC", "neurons minus sets", "p"], rows


def _floor(shuffles: float) -> float:
    """The smallest one-sided p that so many shuffles or sets can show; 0 where their number is not known."""
    return 1 / (shuffles + 1) if shuffles else 0.0


def _shuffled(figures: Figures) -> tuple[float | None, float]:
    """p of the probe with labels shuffled, and the smallest one that so many shuffles can show."""
    return figures.get("auroc_p"), _floor(figures.get("auroc_shuffles", 0))


def detection_note(figures: Figures) -> str:
    """Over what the figures of detection were taken, the calls, and the calibration."""
    answers, pooled = int(figures.get("answers", 0)), interval(figures, "auroc_pooled")
    if "auroc" not in figures:
        known = f" Pooled over relations: {pooled}." if "auroc_pooled" in figures else ""
        return f"{answers} answers: too few of one class within any relation for an AUROC.{known}"
    over = "AUROC over all answers"
    if "relations" in figures:
        over = (
            f"AUROC: mean within {int(figures['relations'])} relations ({int(figures['answers_in_relations'])} answers)"
            f"; weighted by pairs {figures['auroc_weighted']:.3f}; pooled {pooled}"
        )
        if "auroc_relations_low" in figures:
            over += f"; over other relations {_ends(figures, 'auroc_relations')}"
    if figures.get("widening", 1.0) > 1:
        over += f"; intervals widened by {figures['widening']:.2f} for what refitting varies"
    accuracy, majority, skill, error, null = (
        figures.get(name, math.nan)
        for name in ("accuracy", "majority_accuracy", "brier_skill", "calibration_error", "calibration_error_null")
    )
    return (
        f"{over}. {answers} answers, {int(figures.get('hallucinated', 0))} hallucinated: balanced accuracy "
        f"{interval(figures, 'balanced_accuracy')}, accuracy {accuracy:.3f} (majority class {majority:.3f}). "
        f"Brier skill {skill:+.3f}, calibration error {error:.3f} (of perfect probabilities {null:.3f})."
    )


def _ends(figures: Figures, name: str, form: str = ".3f") -> str:
    return f"[{figures[f'{name}_low']:{form}}, {figures[f'{name}_high']:{form}}]"


def verdicts(figures: Figures) -> list[tuple[str, str]]:
    """Does the probe detect, does it add to the scalars, are its neurons better than others of equal size.

    A status for each question that the figures can answer, and a sentence: `green` shown, `amber` not shown, `red` the
    opposite, or no better than chance.
    """
    if "auroc" not in figures:
        return []
    found = [_detects(figures)]
    if "added" in figures:
        found.append(_adds(figures))
    for selection, who in (("probe", "The probe's neurons"), ("positive", "Its positive neurons")):
        kinds = [kind for kind in KINDS if f"{selection}_{kind}_p" in figures]
        if kinds:
            found.append(_better_than_sets(figures, selection, who, kinds))
    return found


def _detects(figures: Figures) -> tuple[str, str]:
    said = f"{p_equals(*_shuffled(figures))} with labels shuffled"
    if not figures.get("auroc_p", 1.0) <= LEVEL or not figures.get("auroc_low", math.nan) > 0.5:
        return "red", f"The probe is not shown to detect hallucinations ({said})."
    if figures.get("auroc_relations_low", 1.0) <= 0.5:
        return "amber", f"The probe detects hallucinations in these relations ({said}); for others it is not shown."
    return "green", f"The probe detects hallucinations ({said})."


def _adds(figures: Figures) -> tuple[str, str]:
    to = "to log-probability, entropy and length"
    said = f"AUROC {interval(figures, 'added', sign=True)}"
    if "added_relations_low" in figures:
        said += f"; over relations {_ends(figures, 'added_relations', '+.3f')}"
    best = max(SCALARS, key=lambda name: figures.get(f"{name}_auroc", 0.0))
    if figures.get(f"{best}_auroc", 0.0) >= figures.get("scalars_and_probe_auroc", 1.0):
        # A joint classifier may carry over badly to other relations, and is then no rival to be proud of.
        alone = f"{BASELINES[best]} alone reaches {figures[f'{best}_auroc']:.3f}"
        return "amber", f"It is not shown to add {to}: {alone} (jointly {said})."
    if figures.get("added_low", math.nan) > 0:
        if figures.get("added_relations_low", 1.0) <= 0:
            return "amber", f"It adds {to} in these relations; for others it is not shown ({said})."
        return "green", f"It adds {to} ({said})."
    if figures.get("added_high", math.nan) < 0:
        return "red", f"It makes log-probability, entropy and length worse ({said})."
    return "amber", f"It is not shown to add {to} ({said})."


def _better_than_sets(figures: Figures, selection: str, who: str, kinds: Sequence[str]) -> tuple[str, str]:
    """Against the hardest kind: that of the largest p, of equals that of the greatest AUROC."""
    kind = max(kinds, key=lambda kind: (figures[f"{selection}_{kind}_p"], figures[f"{selection}_{kind}_auroc"]))
    own = f"{selection}_{kind}"
    said = (
        f"AUROC {figures.get(f'{selection}_refit_auroc', math.nan):.3f}, {KINDS[kind]} sets "
        f"{interval(figures, f'{own}_auroc')}, {p_equals(figures[f'{own}_p'], _floor(figures.get(f'{own}_sets', 0)))}"
    )
    if figures[f"{own}_p"] <= LEVEL:
        return "green", f"{who} beat random ones ({said})."
    return "amber", f"{who} are not shown to beat random ones ({said})."


def unbeaten(figures: Figures) -> str:
    """The baselines that the probe is not shown to beat, by the paired interval, in words; empty without any."""
    known = [name for name in RIVALS if f"{name}_difference_low" in figures]
    names = [BASELINES[name] for name in known if not figures[f"{name}_difference_low"] > 0]
    return f"any of the {len(known)} baselines" if len(names) == len(known) > 1 else listed(names)
