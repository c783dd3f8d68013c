"""`hneurons report`: what the stages of the pipeline found."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from hneurons_eval.commands.console import wide_console

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

STAGES = ("collect", "capture", "probe", "detect", "closed_book")


@click.command()
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
    summarise(list(newest.values()), wide_console())


def summarise(logs: "list[EvalLog]", console: Console) -> None:
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
