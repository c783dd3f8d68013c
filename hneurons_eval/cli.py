"""The `hneurons` command."""

import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hneurons_eval import __version__
from hneurons_eval.neurons import NeuronSet, NeuronSetError

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.agreement import Comparison, JudgedAnswer
    from hneurons_eval.doctor import Diagnosis
    from hneurons_eval.statistics import Interval

SUMMARY_WIDTH = 118
STAGES = ("collect", "capture", "probe", "detect", "closed_book")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hneurons")
def main() -> None:
    """Find, prove and switch off hallucination neurons in language models."""


@main.command()
@click.argument("model")
@click.option("--dataset", default="facts", show_default=True, help="Question set: a name or a local file.")
@click.option("--preset", type=click.Choice(["paper", "quick"]), default="paper", show_default=True)
@click.option("--draws", type=click.IntRange(1), help="Answers to each question; default the preset's.")
@click.option("--judge", type=click.Choice(["rule", "llm", "cascade"]), default="rule", show_default=True)
@click.option("--grader", metavar="PROVIDER/MODEL", help="The judge, for llm and cascade.")
@click.option("--mode", type=click.Choice(["3-vs-1", "1-vs-1"]), default="3-vs-1", show_default=True)
@click.option("--penalty", type=click.Choice(["l1", "l2"]), default="l1", show_default=True)
@click.option("-C", "strength", default="auto", show_default=True, help="auto, accuracy, or a number.")
@click.option("--alphas", default="0,0.5,1,1.5,2,2.5,3", show_default=True)
@click.option("--controls", type=click.IntRange(1), default=100, show_default=True, help="Control sets of each kind.")
@click.option("--questions", type=click.IntRange(1), default=200, show_default=True, help="Most in the intervention.")
@click.option("--sweep-controls", type=click.IntRange(0), default=20, show_default=True, help="Of the intervention.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--log-dir", type=click.Path(path_type=Path), default=Path("logs"), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--display", help="Inspect's display: full, rich, plain, none. Default by terminal.")
def run(
    model: str, grader: str | None, strength: str, dtype: str, log_dir: Path, display: str | None, **args: Any
) -> None:
    """From questions to proven neurons: the pipeline on MODEL, and a summary of what it found.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct.
    """
    from inspect_ai import eval as inspect_eval

    from hneurons_eval.tasks import pipeline

    console = _console()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logs = inspect_eval(
        pipeline(C=strength, **args),  # pyright: ignore[reportArgumentType]
        model=f"hneurons/{model.removeprefix('hneurons/')}",
        model_args={"dtype": dtype},
        model_roles={"grader": grader} if grader else None,
        log_dir=str(log_dir),
        display=display or (None if console.is_terminal else "plain"),  # pyright: ignore[reportArgumentType]
        score_display=False,
        log_realtime=False,
    )
    _summarise(logs, console)
    failed = [log for log in logs if log.status != "success"]
    if failed:
        raise click.ClickException(
            f"{failed[0].eval.task} ended with status {failed[0].status}; "
            f"finish it with: inspect eval-retry {failed[0].location}"
        )
    if len(logs) < len(STAGES) - (args["penalty"] == "l2"):
        raise click.ClickException("the pipeline stopped early; its last log says why")
    console.print(f"\nBrowse them: inspect view --log-dir {log_dir}", highlight=False)


@main.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True))
def report(logs: tuple[str, ...]) -> None:
    """Summarise what the stages found, from their logs or from a directory of them (the newest of each stage)."""
    from inspect_ai.log import read_eval_log

    files = [
        file for path in logs for file in (sorted(Path(path).glob("*.eval")) if Path(path).is_dir() else [Path(path)])
    ]
    newest: dict[str, Any] = {}
    for file in files:
        try:
            log = read_eval_log(str(file), header_only=True)
        except Exception as error:
            raise click.ClickException(f"{file} is not an Inspect log ({type(error).__name__})") from error
        stage = log.eval.task.split("/")[-1]
        if stage in STAGES and (stage not in newest or log.eval.created > newest[stage].eval.created):
            newest[stage] = log
    if not newest:
        raise click.ClickException(f"no log of {', '.join(STAGES)} in {', '.join(logs)}; run the pipeline first")
    _summarise(list(newest.values()), _console())


def _console() -> Console:
    """Wide enough for the tables, which are worth more than the edge of a narrow window."""
    console = Console()
    return Console(width=max(console.width, SUMMARY_WIDTH))


def _summarise(logs: "list[EvalLog]", console: Console) -> None:
    from hneurons_eval.report.summary import StageFigures, print_summary

    stages = []
    for log in sorted(logs, key=lambda log: STAGES.index(log.eval.task.split("/")[-1])):
        figures = {
            name: float(value.value)
            for score in (log.results.scores if log.results else ())
            for name, value in score.metrics.items()
        }
        facts = {"model": log.eval.model}
        metadata = log.eval.metadata or {}
        if metadata.get("neurons"):
            facts["neurons_file"] = str(metadata["neurons"])
        if isinstance(metadata.get("probe"), dict):
            facts["probe"] = str(metadata["probe"].get("directory"))
        stages.append(StageFigures(log.eval.task.split("/")[-1], figures, log.location, facts))
    print_summary(stages, console)


@main.command()
@click.argument("model")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--responses", default=1000, show_default=True, help="Faithful and hallucinated responses, each.")
@click.option("--tokens", default=512, show_default=True, help="Tokens of a prompt with its response.")
@click.option("--revision", help="Of a Hub id.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that the checkpoint brings.")
def doctor(model: str, **options: Any) -> None:
    """Whether MODEL is supported, its layers and neurons, and the memory that finding them takes.

    Only the configuration is read. MODEL is a Hub id, a local directory, or smollm2-135m-instruct.
    """
    from hneurons_eval.doctor import diagnose

    try:
        diagnosis = diagnose(model.removeprefix("hneurons/"), **options)
    except ValueError as error:  # CheckpointError and UnsupportedModelError are such
        raise click.ClickException(str(error)) from error
    _print_diagnosis(diagnosis, _console())


def _print_diagnosis(diagnosis: "Diagnosis", console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("model", f"{diagnosis.model}, {diagnosis.model_class}: supported")
    for kind in diagnosis.kinds:
        layers = f"{kind.layers} layer{'' if kind.layers == 1 else 's'}"
        if kind.experts:
            shared = f" + {kind.shared:,} in shared experts" if kind.shared else ""
            table.add_row("", f"{layers} of {kind.experts} experts x {kind.each:,} neurons{shared} = {kind.width:,}")
        else:
            table.add_row("", f"{layers} of {kind.width:,} neurons, dense")
    table.add_row("neurons", f"{diagnosis.neurons:,} in {diagnosis.layers} layers")
    table.add_row("parameters", f"{diagnosis.parameters:,}, saved in {diagnosis.saved_dtype}")
    table.add_row("weights", ", ".join(f"{_size(size)} in {dtype}" for dtype, size in diagnosis.weights.items()))
    rows, tokens = diagnosis.pass_shape
    passed = f"about {_size(diagnosis.capture)} beside the weights for a pass over {rows} x {tokens} tokens"
    table.add_row("capture", f"{passed} in {diagnosis.dtype}")
    table.add_row(
        "features",
        f"{_size(diagnosis.features)} on disk for {diagnosis.responses:,} + {diagnosis.responses:,} responses",
    )
    table.add_row("probe", ", ".join(f"about {_size(size)} for {mode}" for mode, size in diagnosis.probe.items()))
    memory = psutil.virtual_memory()
    table.add_row("this machine", f"{_size(memory.total)} of memory, {_size(memory.available)} of it free")
    console.print(table, highlight=False)
    for limit in diagnosis.limits:
        console.print(f"- {limit}", highlight=False)


def _size(size: float) -> str:
    """Bytes in the unit that suits them: `1.5 GiB`."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    power = min(int(math.log(max(size, 1), 1024)), len(units) - 1)
    return f"{size / 1024**power:.3g} {units[power]}" if power else f"{size:.0f} bytes"


@main.command("judge-agreement")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A second log of the same answers, judged by another.",
)
@click.option(
    "--disagreements",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the answers they differ on to this .jsonl file, to be read and labelled by hand.",
)
def judge_agreement(file: Path, against: Path | None, disagreements: Path | None) -> None:
    """Agreement and Cohen's kappa between the rule judge and the other verdicts in FILE.

    FILE is an Inspect log that a grader has judged; a .jsonl or .json file {id: {question, responses, judges,
    ground_truth}}; or a .csv, .jsonl or .json file with the columns response, aliases and label (labels by hand:
    correct, incorrect, not_attempted, or blank), and question where several answers belong to one.
    """
    from itertools import combinations

    from hneurons_eval import agreement
    from hneurons_eval.files import write_text_atomically

    try:
        answers = _judged_answers(file)
        if against is not None:
            answers = agreement.joined(answers, _judged_answers(against))
        answers = agreement.judged_by_rule(answers)
        pairs = combinations(agreement.judges_of(answers), 2)
        found = [agreement.compare(answers, first, second) for first, second in pairs]
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    console = _console()
    for comparison in found:
        _print_comparison(comparison, console)
    if disagreements is not None:
        rows = agreement.disagreements(answers)
        write_text_atomically(disagreements, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        console.print(f"{len(rows)} different answers they differ on: {disagreements}", highlight=False, soft_wrap=True)


def _judged_answers(file: Path) -> "list[JudgedAnswer]":
    """From a log, or from one of the files that `agreement.read_judged` takes."""
    from hneurons_eval.agreement import read_judged

    with file.open("rb") as opened:
        is_log = file.suffix == ".eval" or re.match(rb'\s*\{\s*"version"\s*:', opened.read(200)) is not None
    if not is_log:
        return read_judged(file)
    from inspect_ai.log import read_eval_log

    from hneurons_eval.scorers.judge import judged_answers

    try:
        log = read_eval_log(str(file), resolve_attachments=True)
    except Exception as error:
        raise click.ClickException(f"{file} is not an Inspect log ({type(error).__name__})") from error
    return judged_answers(log)


def _print_comparison(found: "Comparison", console: Console) -> None:
    from hneurons_eval.agreement import VERDICTS

    names = [verdict.replace("_", " ") for verdict in VERDICTS]
    first, second = escape(found.first), escape(found.second)
    title = f"{first} and {second}: {found.answers:,} answers to {found.questions:,} questions"
    if found.left_out:
        title += f", {found.left_out:,} without a verdict of both left out"
    console.print(title, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{first}, against {second}", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in zip(names, found.table, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    console.print(table, highlight=False)
    figures = Table(box=None, pad_edge=False)
    for column in ("", "agreement", "Cohen's kappa"):
        figures.add_column(column, no_wrap=True)
    figures.add_row("three verdicts", _interval(found.agreement), _interval(found.kappa))
    figures.add_row("correct or not", _interval(found.agreement_correct), _interval(found.kappa_correct))
    console.print(figures, highlight=False)
    console.print()


def _interval(found: "Interval | None") -> str:
    return "—" if found is None else f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


@main.group()
def neurons() -> None:
    """Look at neuron files."""


@neurons.command()
@click.argument("file", type=click.Path(exists=True))
@click.option("--most", type=click.IntRange(1), default=20, show_default=True, help="Neurons to list.")
def show(file: str, most: int) -> None:
    """The neurons in FILE (a neuron file or probe directory): how many, where, and the heaviest of them."""
    chosen, console = _load(file), Console()
    console.print(f"{len(chosen)} neurons of {chosen.model or 'a model that the file does not name'}", highlight=False)
    if chosen.widths:
        console.print(
            f"{1000 * len(chosen) / sum(chosen.widths):.3f} per mille of {sum(chosen.widths):,}", highlight=False
        )
    layers, counts = np.unique(chosen.layers, return_counts=True)
    console.print("by layer: " + ", ".join(f"{layer}: {count}" for layer, count in zip(layers, counts, strict=True)))
    stability = chosen.stability
    table = Table("layer", "index", "weight", *(() if stability is None else ("selected again",)), box=None)
    weights = chosen.weights if chosen.weights is not None else np.full(len(chosen), np.nan)
    for place in np.argsort(-np.nan_to_num(weights), kind="stable")[:most]:
        table.add_row(
            str(chosen.layers[place]),
            str(chosen.indices[place]),
            f"{weights[place]:.4g}" if chosen.weights is not None else "—",
            *(() if stability is None else (f"{stability[place]:.0%}",)),
        )
    console.print(table)


@neurons.command()
@click.argument("first", type=click.Path(exists=True))
@click.argument("second", type=click.Path(exists=True))
def compare(first: str, second: str) -> None:
    """How much two neuron sets of one model overlap, against chance."""
    from scipy.stats import hypergeom

    a, b = _load(first), _load(second)
    if a.widths is None or a.widths != b.widths:
        raise click.ClickException(f"{first} and {second} are of models with other layers, so they cannot be compared")
    pairs = [set(zip(s.layers.tolist(), s.indices.tolist(), strict=True)) for s in (a, b)]
    shared, total = len(pairs[0] & pairs[1]), sum(a.widths)
    union = len(pairs[0] | pairs[1])
    p = float(hypergeom.sf(shared - 1, total, len(a), len(b)))
    console = Console()
    console.print(
        f"{len(a)} and {len(b)} neurons, {shared} shared (Jaccard {shared / union if union else 0:.3f})",
        highlight=False,
    )
    console.print(f"by chance {len(a) * len(b) / total:.3f} would be; p = {p:.3g} (hypergeometric)", highlight=False)


def _load(file: str) -> NeuronSet:
    try:
        return NeuronSet.load(file)
    except (NeuronSetError, ValueError) as error:
        raise click.ClickException(str(error)) from error
