"""A pipeline at a glance: each stage, audit and sweep as green, amber, red or grey, with a sentence that says why.

Green: what was found stands against what it was compared with. Amber: look here before believing it. Red: it failed.
Grey: nothing to judge, as where no effect was seen.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hneurons_eval.analysis.dose_response import series_of
from hneurons_eval.report.detection import BASELINES, better_and_not, by_question_set, interval, verdicts
from hneurons_eval.report.summary import StageFigures
from hneurons_eval.report.verdicts import MARKS, headlines_of, title_of, verdict

Figures = Mapping[str, float]
Light = dict[str, str]
"""`light`, `what`, `figure` and `sentence`, of one line of the glance."""
FEW = 50
"""Questions in the smaller class below which a probe has little to learn from."""
UNPARSED = 0.05
SPAN_COVERAGE = 0.95
LIGHT_OF_VERDICT = {
    "effect": "green",
    "spared": "amber",
    "shared": "amber",
    "undecided": "amber",
    "artefact": "amber",
    "none": "grey",
    "unknown": "grey",
}


def glance(stages: Sequence[StageFigures]) -> list[Light]:
    """A line for each stage, in the order of the stages; audits follow the detection that they are of."""
    found: list[Light] = []
    for stage in stages:
        if stage.sweep:
            found += _sweep(stage)
        elif not stage.figures:
            found.append(
                _light("red", stage.name, "no figures", f"Its log has no figures; its status is {stage.status}.")
            )
        elif stage.stage == "collect":
            found.append(_questions(stage.figures))
        elif stage.stage == "capture":
            found.append(_captured(stage.figures))
        elif stage.stage == "probe":
            found.append(_neurons(stage.figures))
            found += _detections(stage, "detection, questions held out")
        elif stage.stage == "detect":
            found += _detections(stage, "detection, fresh answers")
    return found


def _light(light: str, what: str, figure: str, sentence: str) -> Light:
    return {"light": light, "what": what, "figure": figure, "sentence": sentence}


def _questions(figures: Figures) -> Light:
    total, right, wrong = (int(figures.get(name, 0)) for name in ("questions", "right", "wrong"))
    unparsed, fewer = figures.get("unparsed", 0) / max(total, 1), min(right, wrong)
    said = f"{right} were answered right in every draw and {wrong} wrong in every draw"
    if not fewer:
        return _light("red", "questions", f"{total}", f"{said}: without both there is nothing to tell apart.")
    if fewer < FEW:
        return _light("amber", "questions", f"{total}", f"{said}: {fewer} of the rarer are few to learn from.")
    if unparsed > UNPARSED:
        return _light("amber", "questions", f"{total}", f"{said}, but {100 * unparsed:.0f} % could not be judged.")
    return _light("green", "questions", f"{total}", f"{said}.")


def _captured(figures: Figures) -> Light:
    faithful, hallucinated = (int(figures.get(name, 0)) for name in ("faithful", "hallucinated"))
    coverage, whole = figures.get("span_coverage", 0.0), figures.get("whole_response", 0.0)
    light = "red" if not min(faithful, hallucinated) else "green" if coverage >= SPAN_COVERAGE else "amber"
    said = (
        f"{faithful} faithful and {hallucinated} hallucinated answers train the probe; the answer was found in "
        f"{100 * coverage:.1f} % of the responses, and was the whole response in {100 * whole:.1f} %."
    )
    return _light(light, "yield", f"{faithful + hallucinated}", said)


def _neurons(figures: Figures) -> Light:
    if "neurons" not in figures:
        return _light("grey", "neurons", "all", "The probe weighs all neurons and selects none (penalty l2).")
    found, positive = int(figures["neurons"]), int(figures.get("positive_neurons", 0))
    if not positive:
        return _light(
            "red", "neurons", "0", "No neuron has a positive weight: there is nothing to scale. Try a larger C."
        )
    stable = int(figures.get("stable_neurons", 0))
    said = (
        f"{found} of {int(figures.get('total_neurons', 0)):,} neurons have a weight "
        f"({1000 * figures.get('share', 0.0):.2f} per mille), {positive} of them positive; {stable} are chosen again "
        "in more than half of the half-samples"
    )
    if "shuffled_stable_neurons" in figures:
        said += f", with shuffled labels {figures['shuffled_stable_neurons']:.1f}"
    if "resampled_neurons_low" in figures:
        low, high = (int(figures[f"resampled_neurons_{end}"]) for end in ("low", "high"))
        said += f"; on resampled answers {low} to {high} neurons are chosen"
    if 2 * stable >= found:
        return _light("green", "neurons", f"{found}", f"{said}.")
    return _light("amber", "neurons", f"{found}", f"{said}: which neurons they are depends on what was asked.")


def _detections(stage: StageFigures, what: str) -> list[Light]:
    found = []
    for name, figures in by_question_set(stage.figures).items():
        label = f"{what}: {name}" if name else what
        found.append(_detection(label, figures))
        audits = audit_sentences(figures)
        flagged = [audit for audit in audits if figures[f"audit_{audit}"]]
        found += [_light("amber", f"audit: {audit}", "", audits[audit]) for audit in flagged]
        if passed := [audit for audit in audits if audit not in flagged]:
            named = f"audits: {', '.join(passed)}"
            found.append(_light("green", named, "", " ".join(audits[audit] for audit in passed)))
    return found


def _detection(what: str, figures: Figures) -> Light:
    if "auroc" not in figures:
        answers = int(figures.get("answers", 0))
        return _light("grey", what, "", f"{answers} answers are too few of one class for an AUROC.")
    figure = f"AUROC {interval(figures, 'auroc')}"
    said = verdicts(figures)
    lights = [light for light, _ in said]
    _, unbeaten = better_and_not(figures)
    sentences = [sentence for _, sentence in said]
    if unbeaten:
        sentences.append(f"Not shown to be better than {_listed(unbeaten)}.")
    if not any(f"{name}_auroc" in figures for name in BASELINES):
        sentences.append("Compared with no baseline.")
        unbeaten = ["anything"]
    light = "red" if lights[0] == "red" else "amber" if "amber" in lights or "red" in lights or unbeaten else "green"
    return _light(light, what, figure, " ".join(sentences))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def audit_sentences(figures: Figures) -> dict[str, str]:
    """What each audit whose flag is among the figures found, in a sentence."""

    def number(name: str) -> float:
        return figures.get(name, math.nan)

    said = {
        "balance": f"{100 * number('hallucinated_share'):.0f} % of the answers are hallucinated.",
        "length": _length_sentence(figures),
        "relation": f"The relation alone tells the label with AUROC {number('relation_auroc'):.2f} "
        f"(p = {number('relation_p'):.3g})."
        if figures.get("audit_relation")
        else "The relation alone is not shown to tell the label.",
        "span": f"A span in {100 * number('span_coverage'):.1f} % of the answers; it is the whole response in "
        f"{100 * number('whole_response'):.1f} %.",
        "template": f"{100 * number('template_share'):.0f} % of the other tokens are prompt and template"
        + ("; mode 3-vs-1 then sets answers against prompts, which is easy." if figures.get("audit_template") else "."),
    }  # fmt: skip
    said["calibration"] = (
        f"Brier skill {number('brier_skill'):+.3f} (below 0: worse than a constant); calibration error "
        f"{number('calibration_error'):.3f}, of perfect probabilities {number('calibration_error_null'):.3f}."
    )
    said["leftover"] = (
        f"{100 * number('leftover_share'):.0f} % of the answers are to questions of relations that were trained on."
    )
    flags = [name.removeprefix("audit_") for name in figures if name.startswith("audit_")]
    return {name: said.get(name, "See the log of the probe.") for name in flags}


def _length_sentence(figures: Figures) -> str:
    """What the audit of length found; its intervals are of 98 %."""

    def interval_of(name: str) -> str:
        low, high = (figures.get(f"{name}{end}", math.nan) for end in ("_low", "_high"))
        return f"{figures.get(name, math.nan):.2f} [{low:.2f}, {high:.2f}]"

    parts = [f"Response length alone tells the label with AUROC {interval_of('length_alone_auroc')}"]
    if "auroc_given_length" in figures:
        parts.append(f"the probe tells answers of one length apart with {interval_of('auroc_given_length')}")
    if "follow_length" in figures:
        counts = [int(figures[name]) for name in ("audited_neurons", "follow_length", "follow_truth")]
        parts.append("of {} neurons {} follow length more than truth, {} truth more than length".format(*counts))
    return "; ".join(parts) + "."


def _sweep(stage: StageFigures) -> list[Light]:
    found = []
    for series, own in series_of(stage.figures).items():
        for outcome in headlines_of(own):
            kind, said = verdict(own, outcome, stage.scaled)
            what = f"{stage.name}{f' ({series})' if series else ''}: {title_of(outcome)}"
            found.append(_light(LIGHT_OF_VERDICT[kind], what, MARKS[kind][0], f"{said[:1].upper()}{said[1:]}."))
    return found or [_light("grey", stage.name, "no figures", f"Its log has no figures; its status is {stage.status}.")]


def missing(stages: Iterable[StageFigures]) -> list[str]:
    """A sentence for each stage of which there is no log."""
    there = list(stages)
    names = {stage.stage for stage in there}
    said = {
        "collect": "No log of collect: how many questions were answered right and wrong is not known.",
        "capture": "No log of capture: how many answers trained the probe is not known.",
        "probe": "No log of probe: the search for neurons, and detection with questions held out, cannot be shown.",
        "detect": "No log of detect: detection has not been tried on fresh answers.",
    }
    found = [sentence for name, sentence in said.items() if name not in names]
    if not any(stage.sweep for stage in there):
        found.append("No log of a sweep: what scaling the neurons does has not been tried.")
    return found


def counted(lights: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many lines have each light."""
    return {name: sum(one["light"] == name for one in lights) for name in ("green", "amber", "red", "grey")}
