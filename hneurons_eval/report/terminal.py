"""A report on the terminal, from what `report.content` says."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from hneurons_eval.report import detection, dose_response
from hneurons_eval.report.wording import STATUSES, STYLES


def print_report(said: Mapping[str, Any], console: Console) -> None:
    """Print the answer, the overview, the tables, and where everything is."""
    say = partial(console.print, markup=False, highlight=False)
    console.print()
    console.rule(escape(f"Hallucination neurons of {said['model']}"), align="left")
    if said["answer"]:
        say(said["answer"], style="bold", end="\n\n")
    grid = Table.grid(Column(no_wrap=True), Column(), padding=(0, 2))
    for line in said["overview"]:
        figure = f" ({line['figure']})" if line["figure"] else ""
        text = f"[bold]{escape(line['what'] + figure)}[/]: {escape(line['sentence'])}"
        grid.add_row(f"[{STYLES[line['status']]}]{STATUSES[line['status']]}[/]", text)
    console.print(grid)
    for note in said["notes"]:
        say(note, style="yellow")
    shown = [one for one in said["detection"] if one["rows"]]
    for one in shown:
        print_table(one["title"], one["header"], one["rows"], console)
        if one["sets"][1]:
            header, rows = one["sets"]
            print_table("", header, rows, console)
        say(one["note"], style="dim")
    if shown:
        _print_glossary(detection.GLOSSARY, console)
    for sweep in said["sweeps"]:
        _print_sweep(sweep, console)
    if said["over_sweeps"]:
        console.print(f"\n{said['over_sweeps']}", markup=False)
    if any(sweep["series"] for sweep in said["sweeps"]):
        _print_glossary(dose_response.GLOSSARY, console)
    console.print()
    for name, path in said["files"].items():
        say(f"{name}: {path}", soft_wrap=True)
    for log in said["logs"]:
        say(f"log of {log['title']}: {log['location']}", soft_wrap=True)


def _print_sweep(sweep: Mapping[str, Any], console: Console) -> None:
    """The tables of a sweep; its verdicts stand in the overview."""
    console.print()
    console.rule(escape(f"{sweep['title']}, with {sweep['scaled'] or 'the neurons'} scaled"), align="left", style="dim")
    if not sweep["series"]:
        console.print(f"its log has no figures: it ended with status {sweep['status']}; inspect eval-retry finishes it")
    for series in sweep["series"]:
        name = f"{series['name']}: " if series["name"] else ""
        console.print(f"{name}{series['questions']} questions, {series['sets']}", markup=False)
        for outcome in series["outcomes"]:
            first, level, *rest = outcome["header"]
            unit = level.removeprefix(outcome["title"]).removeprefix(", ") or "mean"  # a long name squeezes its column
            print_table(outcome["title"], [first, unit, *rest], outcome["rows"], console)
        if series["others"]["rows"]:
            print_table("", series["others"]["header"], series["others"]["rows"], console)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """A table without lines, after an empty line."""
    table = Table(*(Column(escape(name), no_wrap=True) for name in header), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print()
    if title:
        console.print(title, style="italic", markup=False, highlight=False)
    console.print(table)


def _print_glossary(glossary: Sequence[str], console: Console) -> None:
    console.print()
    for said in glossary:
        console.print(said, style="dim", highlight=False)
