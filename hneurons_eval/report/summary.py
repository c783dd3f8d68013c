"""The figures of a pipeline's logs as one table on the terminal.

Takes the metrics of each stage as plain dicts; reading logs is the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hneurons_eval.dose_response import series_of
from hneurons_eval.report.dose_response import Cells, headline_cells, sets_in_words, side_cells
from hneurons_eval.report.primary import primaries, sentence
from hneurons_eval.report.verdicts import MARKS, headlines_of, outcomes_of, verdict

Figures = Mapping[str, float]


@dataclass(frozen=True)
class StageFigures:
    """One finished stage.

    Attributes:
        stage: name of its task.
        figures: metrics by name.
        location: its log.
        facts: what else its log says: model, dataset, neuron file, which neurons are scaled.
        title: of the stage, with what it was run on where that matters; empty: its name.
        sweep: whether it scales neurons by several factors.
        status: how its log ended.
    """

    stage: str
    figures: Figures
    location: str
    facts: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    sweep: bool = False
    status: str = "success"

    @property
    def name(self) -> str:
        """For people."""
        return self.title or self.stage

    @property
    def scaled(self) -> str:
        """Which neurons a sweep scales, in words; empty where its log does not say."""
        return self.facts.get("scaled", "")


def print_summary(stages: list[StageFigures], console: Console) -> None:
    """Everything found, each figure with its 95 % interval and what it is to be compared with."""
    by_stage = {stage.stage: stage for stage in stages}
    fresh = [stage for stage in stages if stage.stage == "detect"]
    facts = {key: value for stage in stages for key, value in stage.facts.items()}
    console.print()
    console.rule(escape(f"hallucination neurons of {facts.get('model', 'the model')}"), align="left")
    if "collect" in by_stage:
        console.print(_yield_line(by_stage["collect"].figures))
    if "capture" in by_stage:
        console.print(_capture_line(by_stage["capture"].figures))
    if "probe" in by_stage:
        _probe(by_stage["probe"].figures, console)
    for stage in fresh:
        of = f", {stage.name}" if len(fresh) > 1 else ""
        _detection(f"Detection of fresh answers to questions not trained on{of}", stage.figures, console)
    sweeps = [stage for stage in stages if stage.sweep]
    for stage in sweeps:
        print_sweep(stage, console)
    if together := over_sweeps(sweeps):
        console.print(f"\n{together}", markup=False)
    console.print()
    for name in ("neurons_file", "probe"):
        if name in facts:
            console.print(f"{name.removesuffix('_file')}: {facts[name]}", soft_wrap=True, highlight=False, markup=False)
    for stage in stages:
        console.print(f"{stage.stage} log: {stage.location}", soft_wrap=True, highlight=False, markup=False)


def _yield_line(figures: Figures) -> str:
    total = int(figures.get("questions", 0))
    parts = [f"{int(figures.get(name, 0))} {name}" for name in ("right", "wrong", "mixed", "refused", "unparsed")]
    return f"Yield      {total} questions: {', '.join(parts)} (all draws of a question alike, or mixed)"


def _capture_line(figures: Figures) -> str:
    return (
        f"Captured   {int(figures.get('faithful', 0))} faithful and {int(figures.get('hallucinated', 0))} hallucinated "
        f"answers, balanced within relations; span found in {100 * figures.get('span_coverage', 0):.1f} %, "
        f"the whole response in {100 * figures.get('whole_response', 0):.1f} %"
    )


def interval(figures: Figures, name: str, scale: float = 1.0, digits: int = 3) -> str:
    """`.787 [.742, .829]`, or a dash where the figure is missing."""
    if name not in figures:
        return "—"
    text = f"{scale * figures[name]:.{digits}f}"
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    if low is None or high is None or low != low or high != high:
        return text
    return f"{text} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _probe(figures: Figures, console: Console) -> None:
    if "neurons" in figures:
        console.print(
            f"Neurons    {int(figures['neurons'])} of {int(figures['total_neurons']):,} "
            f"({1000 * figures['share']:.2f} per mille), C = {figures['C']:.4g}; "
            f"{int(figures.get('stable_neurons', 0))} of them selected in more than half of the half-samples"
        )
    _detection("Detection of answers whose whole relation (else question) was held out", figures, console)


KINDS = {
    "uniform": "sets from the whole model, dense fit",
    "layer": "sets as deep in the model, dense fit",
    "contribution": "sets that contribute as much, dense fit",
}
BASELINES = {
    "dense": "all neurons, L2",
    "prompt": "all neurons over the prompt alone, L2",
    "hidden": "last hidden state, L2",
    "length": "response length alone",
    "question_length": "question length alone",
    "logprob": "mean log-probability of the answer alone",
    "entropy": "mean entropy of the answer alone",
}
AUDITS = {
    "balance": "one class is rare",
    "length": "length tells the label, or moves the neurons more than truth does",
    "relation": "the relation tells the label",
    "span": "spans are missing, or nearly all are the whole response",
    "template": "the other tokens are nearly all prompt and template",
}


def by_question_set(figures: Figures) -> dict[str, dict[str, float]]:
    """Figures of detection by question set; all under "" where there is only one."""
    named = series_of(figures)
    common = named.pop("", {})
    return named or {"": common}


def detection_cells(figures: Figures) -> Cells:
    """The probe beside the control sets and the baselines, with 95 % intervals."""
    rows = [["H-neurons (the probe)", interval(figures, "auroc"), interval(figures, "accuracy"), "", ""]]
    if "refit_auroc" in figures:
        rows.append(["H-neurons, dense fit like the sets", interval(figures, "refit_auroc"), "", "", ""])
    for kind, label in KINDS.items():
        if f"{kind}_auroc" in figures:
            tested = [_p(figures, f"{kind}_p"), _p(figures, f"{kind}_p_refit")]
            sets = int(figures.get(f"{kind}_sets", 0))
            rows.append([f"{sets} {label}", interval(figures, f"{kind}_auroc"), "", *tested])
    for name, label in BASELINES.items():
        if f"{name}_auroc" in figures:
            rows.append([label, interval(figures, f"{name}_auroc"), "", "", ""])
    if "majority_accuracy" in figures:
        rows.append(["always the commoner class", "0.500", f"{figures['majority_accuracy']:.3f}", "", ""])
    return ["", "AUROC", "accuracy", "p (probe)", "p (dense fit)"], rows


def detection_note(figures: Figures) -> str:
    """Over what the figures of detection were taken, and the calibration."""
    if "auroc" not in figures:
        known = f"; pooled over relations {interval(figures, 'auroc_pooled')}" if "auroc_pooled" in figures else ""
        return f"{int(figures.get('answers', 0))} answers, too few of one class within any relation for an AUROC{known}"
    where = (
        f"mean within {int(figures['relations'])} relations ({int(figures['answers_in_relations'])} answers)"
        if "relations" in figures
        else "over all answers"
    )
    return (
        f"AUROC {where}; accuracy over {int(figures['answers'])} answers, "
        f"{int(figures.get('hallucinated', 0))} hallucinated; "
        f"pooled AUROC {interval(figures, 'auroc_pooled')}; Brier score {figures.get('brier', float('nan')):.3f}, "
        f"calibration error {figures.get('calibration_error', float('nan')):.3f}"
    )


def _detection(title: str, figures: Figures, console: Console) -> None:
    for name, own in by_question_set(figures).items():
        heading = f"{title}: {name}" if name else title
        if "auroc" not in own:
            console.print(f"\n{heading}: {detection_note(own)}", markup=False)
            continue
        console.print()
        _print_table(heading, detection_cells(own), console)
        console.print(detection_note(own), style="dim")
        for audit, meaning in AUDITS.items():
            if own.get(f"audit_{audit}"):
                console.print(f"audit: {meaning}", style="yellow")


def over_sweeps(sweeps: Sequence[StageFigures]) -> str:
    """What the primary outcomes of several sweeps show together; empty for fewer than two."""
    return sentence(primaries([(stage.name, series_of(stage.figures)) for stage in sweeps]))


def print_sweep(stage: StageFigures, console: Console) -> None:
    """What a sweep over alpha shows: a verdict for each headline, its table, and the other outcomes."""
    console.print()
    console.rule(escape(f"{stage.name}, with {stage.scaled or 'the neurons'} scaled"), align="left", style="dim")
    by_series = {name: own for name, own in series_of(stage.figures).items() if "items" in own}
    if not by_series:
        how = "" if stage.status == "success" else f" (its status is {stage.status}; inspect eval-retry finishes it)"
        console.print(f"its log has no figures{how}")
    for number, (series, own) in enumerate(by_series.items()):
        if number:
            console.print()
        headlines = headlines_of(own)
        others = [name for name in outcomes_of(own) if name not in headlines]
        console.print(
            f"{f'{series}: ' if series else ''}{int(own['items'])} questions, {sets_in_words(own)}; alpha 1 is the "
            "untouched model",
            markup=False,
        )
        for outcome in headlines:
            kind, said = verdict(own, outcome, stage.scaled)
            mark, style = MARKS[kind]
            console.print(f"[{style}]{mark}[/]: {escape(said)}")
        for outcome in headlines:
            console.print()
            (first, level, *rest), rows = headline_cells(own, outcome)
            unit = "in %" if level.endswith("%") else "amount"
            _print_table(level, ([first, unit, *rest], rows), console)  # a long name would squeeze its column
        if others:
            console.print()
            _print_table("", side_cells(own, others), console)
    if by_series:
        console.print(
            "in points, paired by question; random sets: their differences to the no-op; p (sets): two-sided rank "
            "among the random sets of the hardest kind, not corrected over alphas; p (paired, Holm): sign flips of "
            "questions; detectable: the difference that four of five such samples would show; slope: points per unit "
            "of alpha",
            style="dim",
        )


def _print_table(title: str, cells: Cells, console: Console) -> None:
    header, rows = cells
    table = Table(title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    for column in header:
        table.add_column(escape(column), no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _p(own: Figures, name: str) -> str:
    return f"{own[name]:.3f}" if name in own else "—"
