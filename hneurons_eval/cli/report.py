"""`hneurons report`: what the stages of the pipeline and the sweeps found, on the terminal and as a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from hneurons_eval.cli.console import wide_console

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.report.drift_section import DriftLog
    from hneurons_eval.report.found_neurons import FoundNeurons
    from hneurons_eval.report.overview import StageFigures
    from hneurons_eval.report.risk_section import RiskLog
    from hneurons_eval.report.wording import Line

STAGES = ("collect", "capture", "probe", "detect")
"""Tasks before the sweeps, in the order of the pipeline. What a sweep is, its log says: see `is_sweep`."""
DRIFT = "drift"
RUN_ON = ("dataset", "prompt")
"""Task parameters that make runs of one task different runs, where they are given."""


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
    from hneurons_eval.report.content import content
    from hneurons_eval.report.found_neurons import FoundNeurons
    from hneurons_eval.report.terminal import print_report
    from hneurons_eval.util.errors import UsageError

    headers = read_headers(logs)
    ours = newest(headers)
    external, notes, lines = read_external(external_groups(headers))
    risks, drifts = read_risks(headers), read_drifts(headers)
    if not (ours or external or lines or risks or drifts):
        shown = f"{', '.join(STAGES)}, sweeps and drift, and of other tasks run with -M neurons=..., hallucination_risk"
        found = "; ".join(notes) or f"nothing to report in {', '.join(logs)}: report shows logs of {shown} or "
        raise UsageError(found if notes else f"{found}abstain_when_risky")
    stages = [stage_figures(log) for log in ours] + external
    answers, neurons = read_answers(ours, stages) if html or as_json else ({}, FoundNeurons())
    said = content(stages, answers, neurons, notes, risks, drifts, lines)
    console = wide_console()
    print_report(said, console)
    if html is not None:
        from hneurons_eval.report.html_page import page

        _written(html, page(said), console)
    if as_json is not None:
        _written(as_json, json.dumps(said, indent=1, allow_nan=False) + "\n", console)


def summarise(logs: "Sequence[EvalLog]", console: Console) -> None:
    """Print what logs of the stages and of sweeps found."""
    from hneurons_eval.report.content import content
    from hneurons_eval.report.found_neurons import FoundNeurons
    from hneurons_eval.report.terminal import print_report

    print_report(content([stage_figures(log) for log in newest(logs)], {}, FoundNeurons()), console)


def read_answers(
    logs: "Sequence[EvalLog]", stages: "Sequence[StageFigures]"
) -> "tuple[dict[str, list[dict[str, Any]]], FoundNeurons]":
    """The classified answers of logs of `probe` and `detect` by location, and the neurons that they are judged by."""
    from inspect_ai.log import read_eval_log

    from hneurons_eval.report.content import answers_in, probe_summary_in
    from hneurons_eval.report.found_neurons import found_neurons

    answers: dict[str, list[dict[str, Any]]] = {}
    summary: dict[str, Any] = {}
    for log in logs:
        if stage_of(log) in ("probe", "detect") and log.results:
            whole = read_eval_log(log.location)
            answers[log.location] = answers_in(whole)
            summary = summary or probe_summary_in(whole)
    named = [stage.facts["neurons"] for stage in stages if "neurons" in stage.facts]
    if not summary and named:
        summary = {"neurons_file": named[-1]}
    return answers, found_neurons(summary, [Path(log.location.removeprefix("file://")) for log in logs])


def _written(path: Path, text: str, console: Console) -> None:
    from hneurons_eval.util.errors import usage_errors
    from hneurons_eval.util.files import write_text_atomically

    with usage_errors():
        write_text_atomically(path, text)
    console.print(f"written: {path}", soft_wrap=True, highlight=False, markup=False)


# --- which logs ------------------------------------------------------------------------------------------


def read_headers(paths: Sequence[str]) -> "list[EvalLog]":
    """The logs that files and directories hold, without their samples.

    Raises:
        UsageError: one that cannot be read.
    """
    from inspect_ai.log import read_eval_log

    from hneurons_eval.util.errors import UsageError

    files: dict[Path, None] = {}
    for path in map(Path, paths):
        files |= dict.fromkeys(sorted(path.glob("*.eval")) if path.is_dir() else [path])
    found = []
    for file in files:
        try:
            log = read_eval_log(str(file), header_only=True)
        except Exception as error:
            raise UsageError(f"{file} is not an Inspect log ({type(error).__name__})") from error
        log.location = log.location or str(file)
        found.append(log)
    return found


def is_sweep(log: "EvalLog") -> bool:
    """Whether a log is of a task that scales neurons by several factors: it names them, or its figures have slopes."""
    if stage_of(log) == DRIFT:
        return False  # it names neurons, and scales none
    return "neurons_digest" in (log.eval.metadata or {}) or any(name.endswith("_slope") for name in figures_in(log))


def stage_of(log: "EvalLog") -> str:
    """The name of a log's task, without its package."""
    return log.eval.task.split("/")[-1]


def figures_in(log: "EvalLog") -> dict[str, float]:
    """All figures of a log by name."""
    return {
        name: float(value.value)
        for score in (log.results.scores if log.results else ())
        for name, value in score.metrics.items()
    }


def newest(logs: "Sequence[EvalLog]") -> "list[EvalLog]":
    """Stages in the order of the pipeline, then sweeps: of each the newest with figures, else the newest."""
    kept: dict[tuple[str, ...], Any] = {}
    for log in logs:
        stage = stage_of(log)
        if stage not in STAGES and not is_sweep(log):
            continue
        apart = stage not in STAGES[:3]
        key = (stage, *(_run_on(log) if apart else ()))
        best = kept.get(key)
        if best is None or _age(log) > _age(best):
            kept[key] = log
    order = {stage: place for place, stage in enumerate(STAGES)}
    return sorted(kept.values(), key=lambda log: (order.get(stage_of(log), len(order)), log.eval.created))


def _age(log: "EvalLog") -> tuple[bool, str]:
    return bool(log.results), log.eval.created


def _run_on(log: "EvalLog") -> list[str]:
    return [str(log.eval.task_args.get(name, "")) for name in RUN_ON]


def stage_figures(log: "EvalLog") -> "StageFigures":
    """What a report takes from a log."""
    from hneurons_eval.report.content import probe_summary_in
    from hneurons_eval.report.found_neurons import located
    from hneurons_eval.report.overview import StageFigures

    facts = {"model": log.eval.model}
    metadata, summary = log.eval.metadata or {}, probe_summary_in(log)
    if metadata.get("scaled"):
        facts["scaled"] = str(metadata["scaled"])
    near = [Path(log.location.removeprefix("file://"))]
    for name, path in (
        ("neurons", metadata.get("neurons") or summary.get("neurons_file")),
        ("probe", summary.get("directory")),
    ):
        if path:
            facts[name] = str(located(path, near) or path)
    stage = stage_of(log)
    return StageFigures(stage, figures_in(log), log.location, facts, _title(log), is_sweep(log), str(log.status))


def _title(log: "EvalLog") -> str:
    dataset = str(log.eval.task_args.get("dataset") or log.eval.dataset.name or "")
    names = ", ".join(Path(part).stem for part in dataset.split(",") if part and part != "bundled")
    return f"{stage_of(log)} on {names}" if names else stage_of(log)


# --- external tasks --------------------------------------------------------------------------------------


def external_groups(logs: "Sequence[EvalLog]") -> "list[list[EvalLog]]":
    """Logs of tasks of other suites with `hneurons` models, by task, model and data set."""
    groups: dict[tuple[str, str, str], list[EvalLog]] = {}
    for log in logs:
        ours = log.eval.task.startswith("hneurons_eval/") or stage_of(log) in STAGES or is_sweep(log)
        if not ours and log.eval.model.startswith("hneurons"):
            groups.setdefault((log.eval.task, log.eval.model, str(log.eval.dataset.name)), []).append(log)
    return list(groups.values())


def read_external(
    groups: "Sequence[Sequence[EvalLog]]",
) -> "tuple[list[StageFigures], list[str], list[Line]]":
    """Of groups of logs: the sweeps, a sentence for each group that is not one, and lines on single logs."""
    from inspect_ai.log import read_eval_log

    from hneurons_eval.analysis.dose_response import SweepError, arrange, corrected, dose_response
    from hneurons_eval.report.external_tasks import at_alpha, external_sweep, scaling_of, single_lines, withholds
    from hneurons_eval.report.overview import StageFigures

    found, notes, lines = [], [], []
    for group in groups:
        name = stage_of(group[0])
        several = len({scaling_of(log.eval.model_args)[1] for log in group}) > 1
        whole = [read_eval_log(log.location) for log in group if several or at_alpha(log) or withholds(log)]
        alone = True
        try:
            if several:
                sweep = external_sweep(whole)
                (arranged,) = arrange(sweep.rows()).values()
                figures = corrected({"": dose_response(arranged, ["score"])}, ["score"])[""]
                facts = {"model": sweep.model, "neurons": sweep.neurons}
                logs = [(f"{name}{at_alpha(log)}", log.location) for log in group]
                title = f"{name}, {sweep.scorer}"
                found.append(StageFigures(name, figures, logs[0][1], facts, title, True, logs=logs))
                alone = False
        except SweepError as error:
            notes.append(f"{name}: {error}")
        for log in whole:
            lines += single_lines(log, f"{_title(log)}{at_alpha(log)}", alone)
    return found, notes, lines


# --- risks and drift -------------------------------------------------------------------------------------


def read_risks(logs: "Sequence[EvalLog]") -> "list[RiskLog]":
    """Of each task, model and data set the newest log that holds scores of `hallucination_risk`."""
    from inspect_ai.log import read_eval_log

    from hneurons_eval.report.external_tasks import at_alpha
    from hneurons_eval.report.risk_section import risk_log_of, risk_score_in

    kept: dict[tuple[str, ...], EvalLog] = {}
    for log in sorted(logs, key=lambda log: log.eval.created):
        if risk_score_in(log) is not None:
            alpha = str((log.eval.model_args or {}).get("alpha", ""))
            kept[log.eval.task, log.eval.model, str(log.eval.dataset.name), alpha] = log
    found = [risk_log_of(read_eval_log(log.location), f"{_title(log)}{at_alpha(log)}") for log in kept.values()]
    return [one for one in found if one is not None]


def read_drifts(logs: "Sequence[EvalLog]") -> "list[DriftLog]":
    """The newest log of `drift` for each pair of base and checkpoints."""
    from inspect_ai.log import read_eval_log

    from hneurons_eval.report.drift_section import drift_log_of

    kept: dict[tuple[str, str], EvalLog] = {}
    for log in sorted(logs, key=_age):
        if stage_of(log) == DRIFT:
            about = log.eval.metadata or {}
            kept[str(about.get("base")), str(about.get("checkpoints"))] = log
    return [drift_log_of(read_eval_log(log.location), f"drift: {log.eval.dataset.name or ''}") for log in kept.values()]
