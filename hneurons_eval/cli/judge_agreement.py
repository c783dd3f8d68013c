"""`hneurons judge-agreement`: agreement between judges."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from hneurons_eval.artifacts.logs import is_log, judged_answers, read_log
from hneurons_eval.cli.console import TextConsole, interval, wide_console
from hneurons_eval.util.errors import usage_errors

if TYPE_CHECKING:
    from hneurons_eval.analysis.judge_agreement import Comparison, JudgedAnswer


@click.command("judge-agreement")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A second log of the same answers, with the verdicts of another judge.",
)
@click.option(
    "--disagreements",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the answers on which judges differ to this .jsonl file, for labels by hand.",
)
def judge_agreement(file: Path, against: Path | None, disagreements: Path | None) -> None:
    """Compare the rule judge with the other verdicts in FILE: agreement and Cohen's kappa.

    FILE is an Inspect log that a grader has judged; a .jsonl or .json file {id: {question, responses, judges,
    ground_truth}}; or a .csv, .jsonl or .json file with the columns response, aliases and label (labels by hand:
    correct, incorrect, not_attempted, or blank), and question where several answers belong to one.

    \b
    Example:
      hneurons judge-agreement logs/collect.eval --disagreements differ.jsonl
    """
    from itertools import combinations

    from hneurons_eval.analysis import judge_agreement as agreement
    from hneurons_eval.util.files import write_text_atomically

    with usage_errors():
        answers = _judged_answers(file)
        if against is not None:
            answers = agreement.joined(answers, _judged_answers(against))
        answers = agreement.judged_by_rule(answers)
        pairs = combinations(agreement.judges_of(answers), 2)
        found = [agreement.compare(answers, first, second) for first, second in pairs]
    console = wide_console()
    for comparison in found:
        _print_comparison(comparison, console)
    if disagreements is not None:
        rows = agreement.disagreements(answers)
        write_text_atomically(disagreements, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        console.say(f"{len(rows)} different answers on which judges differ: {disagreements}")


def _judged_answers(file: Path) -> "list[JudgedAnswer]":
    """From a log, or from one of the files that `agreement.read_judged` takes."""
    from hneurons_eval.analysis.judge_agreement import read_judged

    return judged_answers(read_log(file, attachments=True)) if is_log(file) else read_judged(file)


def _print_comparison(found: "Comparison", console: TextConsole) -> None:
    from hneurons_eval.analysis.judge_agreement import VERDICTS

    names = [verdict.replace("_", " ") for verdict in VERDICTS]
    title = f"{found.first} and {found.second}: {found.answers:,} answers to {found.questions:,} questions"
    if found.left_out:
        title += f", {found.left_out:,} without a verdict of both left out"
    console.say(title)
    table = Table(box=None, pad_edge=False)
    table.add_column(escape(f"{found.first}, against {found.second}"), no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in zip(names, found.table, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    console.print(table, highlight=False)
    figures = Table(box=None, pad_edge=False)
    for column in ("", "agreement", "Cohen's kappa"):
        figures.add_column(column, no_wrap=True)
    figures.add_row("three verdicts", interval(found.agreement), interval(found.kappa))
    figures.add_row("correct or not", interval(found.agreement_correct), interval(found.kappa_correct))
    console.print(figures, highlight=False)
    console.print()
