"""The overview of a report: a line for each stage, audit and sweep, and the answer that they give together.

Green: what was found stands against what it was compared with. Amber: read the sentence before believing it. Red: it
failed. Grey: nothing to judge, as where no effect was seen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hneurons_eval.analysis.dose_response import LEVEL, series_of
from hneurons_eval.report.detection import BASELINES, by_question_set, unbeaten, verdicts
from hneurons_eval.report.primary import Primary
from hneurons_eval.report.verdicts import VERDICTS, headlines_of, title_of, verdict
from hneurons_eval.report.wording import Figures, Line, interval, line

FEW = 50
"""Questions in the smaller class below which a probe has little to learn from."""
UNPARSED = 0.05
SPAN_COVERAGE = 0.95


@dataclass(frozen=True)
class StageFigures:
    """One finished stage.

    Attributes:
        stage: name of its task.
        figures: metrics by name.
        location: its log.
        facts: what else its log says: model, neuron file, probe, which neurons are scaled.
        title: of the stage, with what it was run on where that matters; empty: its name.
        sweep: whether it scales neurons by several factors.
        status: how its log ended.
        logs: of an external task, title and location of each.
    """

    stage: str
    figures: Figures
    location: str
    facts: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    sweep: bool = False
    status: str = "success"
    logs: Sequence[tuple[str, str]] = ()

    @property
    def name(self) -> str:
        """For people."""
        return self.title or self.stage

    @property
    def scaled(self) -> str:
        """Which neurons a sweep scales, in words; empty where its log does not say."""
        return self.facts.get("scaled", "")


def answer(stages: Sequence[StageFigures], primary: Sequence[Primary]) -> str:
    """What the stages show and what not, in one line; empty without detection and sweeps."""
    claims: list[tuple[str, bool]] = []
    tried = [stage for stage in stages if stage.stage in ("probe", "detect") and verdicts(_first(stage))]
    if tried:
        on = "fresh answers" if tried[-1].stage == "detect" else "held-out questions"
        figures = _first(tried[-1])
        (status, _), *more = verdicts(figures)
        auroc = interval(figures, "auroc")
        claims.append((f"the probe detects hallucinations (AUROC {auroc}, {on})", status != "red"))
        if "added" in figures:
            claims.append(("it adds to log-probability, entropy and length", more.pop(0)[0] == "green"))
        if more:
            claims.append(("its neurons beat random ones", more[0][0] == "green"))
    if sweeps := [stage for stage in stages if stage.sweep]:
        names = [one.task for one in primary if one.corrected <= LEVEL and one.verdict == "effect"]
        which = f": {', '.join(names)}" if names else ""
        claims.append((f"scaling them has an effect ({len(names)} of {len(sweeps)} sweeps{which})", bool(names)))
    shown, not_shown = ("; ".join(claim for claim, is_shown in claims if is_shown is one) for one in (True, False))
    parts = [f"Shown: {shown}." if shown else "", f"Not shown: {not_shown}." if not_shown else ""]
    return " ".join(part for part in parts if part)


def _first(stage: StageFigures) -> Figures:
    return next(iter(by_question_set(stage.figures).values()))


def overview(stages: Sequence[StageFigures]) -> list[Line]:
    """A line for each stage, in the order of the stages; audits follow the detection that they are of."""
    found: list[Line] = []
    for stage in stages:
        if stage.sweep:
            found += _sweep(stage)
        elif not stage.figures:
            found.append(line("red", stage.name, "", f"Its log has no figures; its status is {stage.status}."))
        elif stage.stage == "collect":
            found.append(_questions(stage.figures))
        elif stage.stage == "capture":
            found.append(_captured(stage.figures))
        elif stage.stage == "probe":
            found.append(_neurons(stage.figures))
            found += _detections(stage, "held-out questions")
        elif stage.stage == "detect":
            found += _detections(stage, f"fresh answers{stage.name.removeprefix('detect')}")
    return found


def _questions(figures: Figures) -> Line:
    total, right, wrong = (int(figures.get(name, 0)) for name in ("questions", "right", "wrong"))
    unparsed, fewer = figures.get("unparsed", 0) / max(total, 1), min(right, wrong)
    rest = ", ".join(f"{int(figures.get(name, 0))} {name}" for name in ("mixed", "refused", "unparsed"))
    said = f"{right} right, {wrong} wrong (in all samples of a question), {rest}"
    status, why = "green", ""
    if not fewer:
        status, why = "red", ": without both there is nothing to tell apart"
    elif fewer < FEW:
        status, why = "amber", f": {fewer} of the rarer class are few to learn from"
    elif unparsed > UNPARSED:
        status, why = "amber", f": {100 * unparsed:.0f} % could not be judged"
    return line(status, "questions", f"{total}", f"{said}{why}.")


def _captured(figures: Figures) -> Line:
    faithful, hallucinated = (int(figures.get(name, 0)) for name in ("faithful", "hallucinated"))
    coverage, whole = figures.get("span_coverage", 0.0), figures.get("whole_response", 0.0)
    status = "red" if not min(faithful, hallucinated) else "green" if coverage >= SPAN_COVERAGE else "amber"
    said = (
        f"{faithful} faithful and {hallucinated} hallucinated answers, balanced within relations. A span was found in "
        f"{100 * coverage:.1f} % of the responses; it is the whole response in {100 * whole:.1f} %."
    )
    return line(status, "training answers", f"{faithful + hallucinated}", said)


def _neurons(figures: Figures) -> Line:
    if "neurons" not in figures:
        return line("grey", "neurons", "all", "The probe weighs all neurons and selects none (penalty l2).")
    found, positive = int(figures["neurons"]), int(figures.get("positive_neurons", 0))
    if not positive:
        return line(
            "red", "neurons", "0", "No neuron has a positive weight, so there is nothing to scale; try a larger C."
        )
    stable = int(figures.get("stable_neurons", 0))
    said = (
        f"{found} of {int(figures.get('total_neurons', 0)):,} neurons have a weight "
        f"({100 * figures.get('share', 0.0):.3f} %): {positive} positive (the H-neurons), {found - positive} negative"
    )
    if "C" in figures:
        said += f"; C = {figures['C']:.4g}"
    if "fold_neurons_low" in figures:
        said += f"; the probes of the folds have {_range(figures, 'fold_neurons')}"
    said += f". Selected again in most refits on half of the questions: {stable}"
    if "shuffled_stable_neurons" in figures:
        said += f" (with shuffled labels {figures['shuffled_stable_neurons']:.1f} of {figures['shuffled_neurons']:.1f})"
    if "resamples" in figures:
        said += (
            f". On {int(figures['resamples'])} bootstrap samples, C chosen anew: {_range(figures, 'resampled_neurons')}"
            f" neurons, {_range(figures, 'resampled_positive')} positive, AUROC on the answers left out "
            f"{_range(figures, 'resampled_auroc', 2)}; better than sd-matched sets (p <= .05) in "
            f"{int(figures['resampled_better'])}"
        )
    if 2 * stable >= found:
        return line("green", "neurons", f"{found}", f"{said}.")
    return line("amber", "neurons", f"{found}", f"{said}. Which neurons are found depends on the questions.")


def _range(figures: Figures, name: str, digits: int = 0) -> str:
    low, middle, high = (figures.get(f"{name}_{end}", math.nan) for end in ("low", "median", "high"))
    return f"{low:.{digits}f} to {high:.{digits}f} (median {middle:.{digits}f})"


def _detections(stage: StageFigures, on: str) -> list[Line]:
    found = []
    for name, figures in by_question_set(stage.figures).items():
        where = f"{on}: {name}" if name else on
        found.append(_detection(f"detection, {where}", figures))
        audits = audit_sentences(figures)
        flagged = [audit for audit in audits if figures[f"audit_{audit}"]]
        found += [line("amber", f"{audit} audit, {where}", "", audits[audit]) for audit in flagged]
        if passed := [audit for audit in audits if audit not in flagged]:
            named = f"{', '.join(passed)} audit{'s' if len(passed) > 1 else ''}, {where}"
            found.append(line("green", named, "", " ".join(audits[audit] for audit in passed)))
    return found


def _detection(what: str, figures: Figures) -> Line:
    if "auroc" not in figures:
        answers = int(figures.get("answers", 0))
        return line("grey", what, "too few", f"{answers} answers are too few of one class for an AUROC.")
    said = verdicts(figures)
    statuses, sentences, rivals = {status for status, _ in said}, [told for _, told in said], unbeaten(figures)
    if rivals:
        sentences.append(f"Not shown to be better than {rivals}.")
    if not any(f"{name}_auroc" in figures for name in BASELINES):
        sentences.append("Compared with no baseline.")
        statuses.add("amber")
    status = "red" if said[0][0] == "red" else "amber" if statuses & {"amber", "red"} or rivals else "green"
    return line(status, what, f"AUROC {interval(figures, 'auroc')}", " ".join(sentences))


def audit_sentences(figures: Figures) -> dict[str, str]:
    """What each audit whose flag is among the figures found, in a sentence."""

    def number(name: str) -> float:
        return figures.get(name, math.nan)

    relation = f"AUROC {number('relation_auroc'):.2f}, p = {number('relation_p'):.3g}"
    easy = "; mode 3-vs-1 then sets answers against prompts, which is easy" if figures.get("audit_template") else ""
    said = {
        "balance": f"{100 * number('hallucinated_share'):.0f} % of the answers are hallucinated.",
        "length": _length_sentence(figures),
        "relation": f"The relation alone tells the label ({relation})."
        if figures.get("audit_relation")
        else "The relation alone is not shown to tell the label.",
        "span": f"A span in {100 * number('span_coverage'):.1f} % of the answers; it is the whole response in "
        f"{100 * number('whole_response'):.1f} %.",
        "template": f"{100 * number('template_share'):.0f} % of the other tokens are prompt and template{easy}.",
        "calibration": f"Brier skill {number('brier_skill'):+.3f} (below 0: worse than a constant); calibration error "
        f"{number('calibration_error'):.3f}, of perfect probabilities {number('calibration_error_null'):.3f}.",
        "leftover": f"{100 * number('leftover_share'):.0f} % of the answers are to questions of relations that were "
        "trained on.",
    }  # fmt: skip
    flags = [name.removeprefix("audit_") for name in figures if name.startswith("audit_")]
    return {name: said.get(name, "See the log of the probe.") for name in flags}


def _length_sentence(figures: Figures) -> str:
    """What the audit of length found; its intervals are of 98 %."""
    parts = [f"AUROC of response length alone {interval(figures, 'length_alone_auroc', digits=2)}"]
    if "auroc_given_length" in figures:
        parts.append(f"of the probe among answers of one length {interval(figures, 'auroc_given_length', digits=2)}")
    if "follow_length" in figures:
        counts = [int(figures[name]) for name in ("audited_neurons", "follow_length", "follow_truth")]
        parts.append("of {} neurons {} follow length more than truth, {} truth more than length".format(*counts))
    return "; ".join(parts) + "."


def _sweep(stage: StageFigures) -> list[Line]:
    found = []
    for series, own in series_of(stage.figures).items():
        for outcome in headlines_of(own):
            kind, said = verdict(own, outcome, stage.scaled)
            what = f"{stage.name}{f' ({series})' if series else ''}: {title_of(outcome)}"
            mark, status = VERDICTS[kind]
            found.append(line(status, what, mark, f"{said[:1].upper()}{said[1:]}."))
    return found or [line("grey", stage.name, "", f"Its log has no figures; its status is {stage.status}.")]


MISSING = {
    "collect": "how many questions were answered right and wrong is not known",
    "capture": "how many answers trained the probe is not known",
    "probe": "the search for neurons and detection on held-out questions cannot be shown",
    "detect": "detection has not been tried on fresh answers",
}
"""What a report lacks without the log of a stage."""


def missing(stages: Sequence[StageFigures]) -> list[str]:
    """A sentence for each stage of which there is no log."""
    names = {stage.stage for stage in stages}
    found = [f"No log of {name}: {what}." for name, what in MISSING.items() if name not in names]
    if not any(stage.sweep for stage in stages):
        found.append("No log of a sweep: what scaling the neurons does has not been tried.")
    return found
