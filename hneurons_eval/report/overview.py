"""The overview of a report: a line for each stage, audit and sweep, and the answer that they give together.

Green: what was found stands against what it was compared with. Amber: read the sentence before believing it. Red: it
failed. Grey: nothing to judge, as where no effect was seen.
"""

import math
from collections.abc import Sequence

from hneurons_eval.analysis.dose_response import LEVEL, series_of
from hneurons_eval.report import drift_section, risk_section
from hneurons_eval.report.detection import BASELINES, by_question_set, unbeaten, verdicts
from hneurons_eval.report.verdicts import VERDICTS, Primary, headlines_of, title_of, verdict
from hneurons_eval.report.wording import Figures, Line, StageFigures, interval, line

FEW = 50
"""Questions in the smaller class below which a probe has little to learn from."""
UNPARSED = 0.05
SPAN_COVERAGE = 0.95


def answer(stages: Sequence[StageFigures], primary: Sequence[Primary]) -> str:
    """What the stages show and what not, in one line; empty without detection and sweeps."""
    claims: list[tuple[str, bool]] = []
    tried = [
        (stage.stage, figures)
        for stage in stages
        for figures in list(by_question_set(stage.figures).values())[:1]
        if stage.stage in ("probe", "detect") and verdicts(figures)
    ]
    if tried:
        stage, figures = tried[-1]
        (status, _), *more = verdicts(figures)
        on = "fresh answers" if stage == "detect" else "held-out questions"
        claims.append((f"the probe detects hallucinations (AUROC {interval(figures, 'auroc')}, {on})", status != "red"))
        if "added" in figures:
            claims.append(("it adds to log-probability, entropy and length", more.pop(0)[0] == "green"))
        if more:
            claims.append(("its neurons beat random ones", more[0][0] == "green"))
    if sweeps := [stage for stage in stages if stage.sweep]:
        names = [one.task for one in primary if one.corrected <= LEVEL and one.verdict == "effect"]
        which = f": {', '.join(names)}" if names else ""
        claims.append((f"scaling them has an effect ({len(names)} of {len(sweeps)} sweeps{which})", bool(names)))
    parts = []
    for word, wanted in (("Shown", True), ("Not shown", False)):
        if told := "; ".join(claim for claim, is_shown in claims if is_shown is wanted):
            parts.append(f"{word}: {told}.")
    return " ".join(parts)


def overview(stages: Sequence[StageFigures]) -> list[Line]:
    """A line for each stage, in the order of the stages; audits follow the detection that they are of."""
    found: list[Line] = []
    for stage in stages:
        if stage.sweep:
            found += _sweep(stage)
        elif stage.stage == "risk":
            found.append(risk_section.overview_line(stage))
        elif stage.stage == "drift":
            found.append(drift_section.overview_line(stage))
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
    status, why = "green", ""
    if not fewer:
        status, why = "red", ": without both there is nothing to tell apart"
    elif fewer < FEW:
        status, why = "amber", f": {fewer} of the rarer class are few to learn from"
    elif unparsed > UNPARSED:
        status, why = "amber", f": {100 * unparsed:.0f} % could not be judged"
    said = f"{right} right, {wrong} wrong (in all samples of a question), {rest}{why}."
    return line(status, "questions", f"{total}", said)


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
        said = "No neuron has a positive weight, so there is nothing to scale; try a larger C."
        return line("red", "neurons", "0", said)
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
    few = 2 * stable < found
    said += ". Which neurons are found depends on the questions." if few else "."
    return line("amber" if few else "green", "neurons", f"{found}", said)


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
            mark, status = VERDICTS[kind]
            what = f"{stage.name}{f' ({series})' if series else ''}: {title_of(outcome)}"
            found.append(line(status, what, mark, f"{said[:1].upper()}{said[1:]}."))
    return found or [line("grey", stage.name, "", f"Its log has no figures; its status is {stage.status}.")]


MISSING = {
    "collect": "how many questions were answered right and wrong is not known",
    "capture": "how many answers trained the probe is not known",
    "probe": "the search for neurons and detection on held-out questions cannot be shown",
    "detect": "detection has not been tried on fresh answers",
    "a sweep": "what scaling the neurons does has not been tried",
}
"""What a report lacks without the log of a stage."""


def missing(stages: Sequence[StageFigures]) -> list[str]:
    """A sentence for each stage of which there is no log."""
    names = {name for stage in stages for name in (stage.stage, "a sweep" if stage.sweep else "")}
    return [f"No log of {name}: {what}." for name, what in MISSING.items() if name not in names]
