"""The figures of a pipeline's logs as one table on the terminal.

Takes the metrics of each stage as plain dicts; reading logs is the caller's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from hneurons_eval.dose_response import NO_OP

Figures = Mapping[str, float]


@dataclass(frozen=True)
class StageFigures:
    """One finished stage.

    Attributes:
        stage: name of its task.
        figures: metrics by name.
        location: its log.
        facts: what else its log says: model, dataset, neuron file.
    """

    stage: str
    figures: Figures
    location: str
    facts: Mapping[str, str] = field(default_factory=dict)


def print_summary(stages: list[StageFigures], console: Console) -> None:
    """Everything found, each figure with its 95 % interval and what it is to be compared with."""
    by_stage = {stage.stage: stage for stage in stages}
    facts = {key: value for stage in stages for key, value in stage.facts.items()}
    console.print()
    console.rule(f"hallucination neurons of {facts.get('model', 'the model')}", align="left")
    if "collect" in by_stage:
        console.print(_yield_line(by_stage["collect"].figures))
    if "capture" in by_stage:
        console.print(_capture_line(by_stage["capture"].figures))
    if "probe" in by_stage:
        _probe(by_stage["probe"].figures, console)
    if "detect" in by_stage:
        _detection("Detection of fresh answers to questions not trained on", by_stage["detect"].figures, console)
    if "closed_book" in by_stage:
        _intervention(by_stage["closed_book"].figures, console)
    console.print()
    for name in ("neurons_file", "probe"):
        if name in facts:
            console.print(f"{name.removesuffix('_file')}: {facts[name]}", soft_wrap=True, highlight=False)
    for stage in stages:
        console.print(f"{stage.stage} log: {stage.location}", soft_wrap=True, highlight=False)


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


def _detection(title: str, figures: Figures, console: Console) -> None:
    sets = sorted({name.split("/")[0] for name in figures if "/" in name})
    for one in sets:
        own = {name.removeprefix(f"{one}/"): value for name, value in figures.items() if name.startswith(f"{one}/")}
        _detection(f"{title}: {one}", own, console)
    if sets:
        return
    if "auroc" not in figures:
        known = f"; pooled over relations {interval(figures, 'auroc_pooled')}" if "auroc_pooled" in figures else ""
        console.print(
            f"\n{title}: {int(figures.get('answers', 0))} answers, too few of one class within any relation for an "
            f"AUROC{known}"
        )
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("", "AUROC", "accuracy", "p (probe)", "p (dense fit)"):
        table.add_column(column, no_wrap=True)
    table.add_row("H-neurons (the probe)", interval(figures, "auroc"), interval(figures, "accuracy"))
    if "refit_auroc" in figures:
        table.add_row("H-neurons, dense fit like the sets", interval(figures, "refit_auroc"))
    for kind, label in KINDS.items():
        if f"{kind}_auroc" in figures:
            table.add_row(
                f"{int(figures[f'{kind}_sets'])} {label}", interval(figures, f"{kind}_auroc"), "",
                _p(figures, f"{kind}_p"), _p(figures, f"{kind}_p_refit"),
            )  # fmt: skip
    for name, label in BASELINES.items():
        if f"{name}_auroc" in figures:
            table.add_row(label, interval(figures, f"{name}_auroc"))
    table.add_row("always the commoner class", "0.500", f"{figures['majority_accuracy']:.3f}")
    console.print()
    console.print(table)
    where = (
        f"mean within {int(figures['relations'])} relations ({int(figures['answers_in_relations'])} answers)"
        if "relations" in figures
        else "over all answers"
    )
    console.print(
        f"AUROC {where}; accuracy over {int(figures['answers'])} answers, {int(figures['hallucinated'])} hallucinated; "
        f"pooled AUROC {interval(figures, 'auroc_pooled')}; Brier score {figures.get('brier', float('nan')):.3f}, "
        f"calibration error {figures.get('calibration_error', float('nan')):.3f}",
        style="dim",
    )
    for name, meaning in AUDITS.items():
        if figures.get(f"audit_{name}"):
            console.print(f"audit: {meaning}", style="yellow")


def _intervention(figures: Figures, console: Console) -> None:
    alphas = sorted({float(name.split("@")[1]) for name in figures if name.startswith("accuracy@")})
    for outcome, title in (("accuracy", "Accuracy in %"), ("attempt_rate", "Answers attempted in %")):
        table = Table(title=f"{title}, closed book, with the neurons scaled", title_justify="left", box=None)
        for column in ("alpha", title.lower(), "against no-op", "random sets", "p (sets)", "p (McNemar, Holm)"):
            table.add_column(column, no_wrap=True)
        for alpha in alphas:
            at = f"@{alpha:g}"
            own = {name.removesuffix(at): value for name, value in figures.items() if name.endswith(at)}
            row = [f"{alpha:g}", interval(own, outcome, 100, 1)]
            if alpha == NO_OP:
                row.append("no-op")
            else:
                row += [
                    interval(own, f"{outcome}_difference", 100, 1),
                    _band(own, outcome),
                    _p(own, f"{outcome}_p_control"),
                    _p(own, f"{outcome}_p"),
                ]
            table.add_row(*row)
        console.print()
        console.print(table)
    console.print(
        "points, paired by question; random sets: mean and range of their differences to the no-op", style="dim"
    )


def _p(own: Figures, name: str) -> str:
    return f"{own[name]:.3f}" if name in own else "—"


def _band(own: Figures, outcome: str) -> str:
    if f"{outcome}_control" not in own:
        return "—"
    return (
        f"{100 * own[f'{outcome}_control']:+.1f} ({100 * own[f'{outcome}_control_low']:+.1f} to "
        f"{100 * own[f'{outcome}_control_high']:+.1f})"
    )
