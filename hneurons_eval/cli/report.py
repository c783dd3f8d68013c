"""`hneurons report`: what the stages of the pipeline and the sweeps found, on the terminal and as a page."""

import json
from pathlib import Path

import click

from hneurons_eval.cli.console import wide_console


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write one self-contained page.")
@click.option("--json", "as_json", type=click.Path(path_type=Path, dir_okay=False), help="Also write it as JSON.")
def report(logs: tuple[str, ...], html: Path | None, as_json: Path | None) -> None:
    """Summarise LOGS, files or directories: the probe, what scaling does, risks, drift.

    The newest log of each task counts, one for each data set and prompt. Logs of a task of another suite are one sweep
    if they were run at several alphas (-M neurons=... -M alpha=...). Logs with scores of hallucination_risk, with the
    solver abstain_when_risky, and of the task drift are shown as well.

    \b
    hneurons report logs
    hneurons report logs/probe logs/detect --html report.html
    """
    from hneurons_eval.report.html_page import page
    from hneurons_eval.report.sources import report_of
    from hneurons_eval.report.terminal import print_report
    from hneurons_eval.util.errors import usage_errors
    from hneurons_eval.util.files import write_text_atomically

    said = report_of(logs, whole=bool(html or as_json))
    console = wide_console()
    print_report(said, console)
    files = ((html, lambda: page(said)), (as_json, lambda: json.dumps(said, indent=1, allow_nan=False) + "\n"))
    for path, text in files:
        if path is not None:
            with usage_errors():
                write_text_atomically(path, text())
            console.say(f"written: {path}")
