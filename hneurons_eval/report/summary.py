"""The figures of a pipeline's logs as one table on the terminal.

Takes the metrics of each stage as plain dicts; reading logs is the caller's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hneurons_eval.analysis.dose_response import series_of
from hneurons_eval.report.detection import (
    AUDITS,
    Cells,
    by_question_set,
    detection_cells,
    detection_note,
    sets_cells,
    verdicts,
)
from hneurons_eval.report.dose_response import headline_cells, sets_in_words, side_cells
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


def _probe(figures: Figures, console: Console) -> None:
    if "neurons" in figures:
        console.print(neurons_line(figures))
    if "resamples" in figures:
        console.print(resamples_line(figures))
    _detection("Detection of answers whose whole relation (else question) was held out", figures, console)


def neurons_line(figures: Figures) -> str:
    """How many neurons the probe uses, and how many of them come back."""
    said = (
        f"Neurons    {int(figures['neurons'])} of {int(figures['total_neurons']):,} have a weight "
        f"({1000 * figures['share']:.2f} per mille), {int(figures.get('positive_neurons', 0))} of them positive (the "
        f"H-neurons); C = {figures['C']:.4g}; stable on half-samples: {int(figures.get('stable_neurons', 0))}"
    )
    if "shuffled_stable_neurons" in figures:
        said += f" (with shuffled labels {figures['shuffled_stable_neurons']:.1f} of {figures['shuffled_neurons']:.1f})"
    if "fold_neurons_low" in figures:
        said += f"; probes of the folds use {_range(figures, 'fold_neurons')}"
    return said


def resamples_line(figures: Figures) -> str:
    """How much the outcome depends on which answers there were."""
    return (
        f"Resampled  {int(figures['resamples'])} bootstrap samples of relations (else questions), C chosen anew: "
        f"{_range(figures, 'resampled_neurons')} neurons, {_range(figures, 'resampled_positive')} positive; AUROC on "
        f"the answers left out {_range(figures, 'resampled_auroc', 2)}; better than sd-matched sets (p <= .05) in "
        f"{int(figures['resampled_better'])} of {int(figures['resamples'])}"
    )


def _range(figures: Figures, name: str, digits: int = 0) -> str:
    low, middle, high = (figures.get(f"{name}_{end}", float("nan")) for end in ("low", "median", "high"))
    return f"{low:.{digits}f} to {high:.{digits}f} (median {middle:.{digits}f})"


def _detection(title: str, figures: Figures, console: Console) -> None:
    for name, own in by_question_set(figures).items():
        heading = f"{title}: {name}" if name else title
        if "auroc" not in own:
            console.print(f"\n{heading}: {detection_note(own)}", markup=False)
            continue
        console.print()
        _print_table(heading, detection_cells(own), console)
        if (cells := sets_cells(own))[1]:
            console.print()
            _print_table("", cells, console)
        console.print(detection_note(own), style="dim")
        for light, said in verdicts(own):
            console.print(f"[{STYLES[light]}]{escape(said)}[/]")
        for audit, meaning in AUDITS.items():
            if own.get(f"audit_{audit}"):
                console.print(f"audit: {meaning}", style="yellow")


STYLES = {"green": "bold green", "amber": "yellow", "red": "bold red"}
"""How a verdict on detection is printed."""


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
