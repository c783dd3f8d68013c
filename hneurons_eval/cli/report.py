"""`hneurons report`: what the stages of the pipeline and the sweeps found, on the terminal and as a page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from hneurons_eval.artifacts.logs import figures_of, probe_summary, read_log, read_logs, stage_of
from hneurons_eval.artifacts.references import located
from hneurons_eval.cli.console import wide_console
from hneurons_eval.util.errors import UsageError

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.report.drift_section import DriftLog
    from hneurons_eval.report.risk_section import RiskLog
    from hneurons_eval.report.summary import StageFigures

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
    """Summarise what the stages and the sweeps found, from their logs or directories of them.

    Of each task the newest log counts, and of each data set and prompt where these differ. Several logs of a task that
    knows nothing of this package, run at several alphas (-M neurons=... -M alpha=...), are one sweep. Logs with the
    scores of hallucination_risk, and those of the task drift, have a section of their own.
    """
    found = read_headers(logs)
    ours = newest(found)
    theirs = foreign_groups(found)
    risks, drifts = read_risks(found), read_drifts(found)
    if not (ours or theirs or risks or drifts):
        raise UsageError(f"no log of {', '.join(STAGES)} or of a sweep in {', '.join(logs)}; run the pipeline first")
    foreign, notes = read_foreign(theirs)
    if not (ours or foreign or risks or drifts):
        raise UsageError("; ".join(notes))
    console = wide_console()
    if ours:
        summarise(ours, console)
    from hneurons_eval.report.summary import print_sweep

    for stage in foreign:
        print_sweep(stage, console)
    print_risks_and_drifts(risks, drifts, console)
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    if html is None and as_json is None:
        return
    said = report_content(ours, foreign, notes, risks, drifts)
    if html is not None:
        from hneurons_eval.report.html_page import page

        _written(html, page(said), console)
    if as_json is not None:
        _written(as_json, json.dumps(said, indent=1, allow_nan=False) + "\n", console)


def summarise(logs: "Sequence[EvalLog]", console: Console) -> None:
    """Print what logs of the stages and of sweeps found."""
    from hneurons_eval.report.summary import print_summary

    print_summary([stage_figures(log) for log in newest(logs)], console)


def report_content(
    logs: "Sequence[EvalLog]",
    foreign: "Sequence[StageFigures]" = (),
    notes: Sequence[str] = (),
    risks: "Sequence[RiskLog]" = (),
    drifts: "Sequence[DriftLog]" = (),
) -> dict[str, Any]:
    """What a report says of logs, whose answers are read for it; see `report.html_content.content`.

    Args:
        logs: without their samples, as `newest` gives them.
        foreign: sweeps of tasks of others.
        notes: sentences on logs that are none.
        risks, drifts: as `read_risks` and `read_drifts` give them.
    """
    from hneurons_eval.report.found_neurons import found_neurons
    from hneurons_eval.report.html_content import answers_in, content

    answers: dict[str, list[dict[str, Any]]] = {}
    summary: dict[str, Any] = {}
    for log in logs:
        if stage_of(log) in ("probe", "detect") and log.results:
            whole = read_log(log.location)
            answers[log.location] = answers_in(whole)
            summary = summary or probe_summary(whole)
    stages = [stage_figures(log) for log in logs] + list(foreign)
    named = [stage.facts["neurons_file"] for stage in stages if "neurons_file" in stage.facts]
    if not summary and named:
        summary = {"neurons_file": named[-1]}
    near = [log.location for log in logs]
    return content(stages, answers, found_neurons(summary, near), notes, risks, drifts)


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
    return list(read_logs(paths, header_only=True))


def is_sweep(log: "EvalLog") -> bool:
    """Whether a log is of a task that scales neurons by several factors: it names them, or its figures have slopes."""
    if stage_of(log) == DRIFT:
        return False  # it names neurons, and scales none
    return "neurons_digest" in (log.eval.metadata or {}) or any(name.endswith("_slope") for name in figures_of(log))


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
    from hneurons_eval.report.summary import StageFigures

    facts = {"model": log.eval.model}
    metadata, stage = log.eval.metadata or {}, stage_of(log)
    if metadata.get("scaled"):
        facts["scaled"] = str(metadata["scaled"])
    summary = probe_summary(log) if stage in ("probe", "detect") and log.results else {}
    named = {"neurons_file": metadata.get("neurons") or summary.get("neurons_file"), "probe": summary.get("directory")}
    for name, path in named.items():
        if path:  # as the reader finds it, who may be in another directory than the run was
            found = located(str(path), [log.location])
            facts[name] = str(found.resolve() if found else path)
    return StageFigures(stage, figures_of(log), log.location, facts, _title(log), is_sweep(log), str(log.status))


def _title(log: "EvalLog") -> str:
    dataset = str(log.eval.task_args.get("dataset") or log.eval.dataset.name or "")
    names = ", ".join(Path(part).stem for part in dataset.split(",") if part and part != "bundled")
    return f"{stage_of(log)} on {names}" if names else stage_of(log)


# --- tasks of others -------------------------------------------------------------------------------------


def foreign_groups(logs: "Sequence[EvalLog]") -> "list[list[EvalLog]]":
    """Logs of one task of others, of one model and data set, that were run at several alphas."""
    from hneurons_eval.artifacts.external_sweep import scaling_of

    groups: dict[tuple[str, str, str], list[EvalLog]] = {}
    for log in logs:
        ours = log.eval.task.startswith("hneurons_eval/") or stage_of(log) in STAGES or is_sweep(log)
        if not ours:
            groups.setdefault((log.eval.task, log.eval.model, str(log.eval.dataset.name)), []).append(log)
    found = []
    for group in groups.values():
        try:
            alphas = {scaling_of(log.eval.model_args)[1] for log in group}
        except ValueError:
            continue  # the model args of another provider, whose alpha is no factor
        if len(alphas) > 1:
            found.append(group)
    return found


def read_foreign(groups: "Sequence[Sequence[EvalLog]]") -> "tuple[list[StageFigures], list[str]]":
    """The sweeps that groups of logs are, and a sentence for each group that is none."""
    from hneurons_eval.analysis.dose_response import SweepError, arrange, corrected, dose_response
    from hneurons_eval.artifacts.external_sweep import external_sweep
    from hneurons_eval.report.summary import StageFigures

    found, notes = [], []
    for group in groups:
        name = stage_of(group[0])
        try:
            sweep = external_sweep([read_log(log.location) for log in group])
            (arranged,) = arrange(sweep.rows()).values()
        except SweepError as error:
            notes.append(f"{name}: {error}")
            continue
        figures = corrected({"": dose_response(arranged, ["score"])}, ["score"])[""]
        facts = {"model": sweep.model, "neurons_file": sweep.neurons}
        locations = ", ".join(log.location for log in group)
        found.append(StageFigures(name, figures, locations, facts, f"{name}, {sweep.scorer}", True))
    return found, notes


# --- risks and drift -------------------------------------------------------------------------------------


def read_risks(logs: "Sequence[EvalLog]") -> "list[RiskLog]":
    """Of each task, model and data set the newest log that holds scores of `hallucination_risk`."""
    from hneurons_eval.report.risk_section import risk_log_of, risk_score_in

    kept: dict[tuple[str, ...], EvalLog] = {}
    for log in sorted(logs, key=lambda log: log.eval.created):
        if risk_score_in(log) is not None:
            alpha = str((log.eval.model_args or {}).get("alpha", ""))
            kept[log.eval.task, log.eval.model, str(log.eval.dataset.name), alpha] = log
    found = [risk_log_of(read_log(log.location), _title(log)) for log in kept.values()]
    return [one for one in found if one is not None]


def read_drifts(logs: "Sequence[EvalLog]") -> "list[DriftLog]":
    """The newest log of `drift` for each pair of base and checkpoints."""
    from hneurons_eval.report.drift_section import drift_log_of

    kept: dict[tuple[str, str], EvalLog] = {}
    for log in sorted(logs, key=_age):
        if stage_of(log) == DRIFT:
            about = log.eval.metadata or {}
            kept[str(about.get("base")), str(about.get("checkpoints"))] = log
    return [drift_log_of(read_log(log.location), f"drift: {log.eval.dataset.name or ''}") for log in kept.values()]


def print_risks_and_drifts(risks: "Sequence[RiskLog]", drifts: "Sequence[DriftLog]", console: Console) -> None:
    """Print a sentence on each."""
    from hneurons_eval.report import drift_section, risk_section

    lines = [risk_section.light(one) for one in risks] + [drift_section.light(one) for one in drifts]
    for line in lines:
        figure = f" ({line['figure']})" if line["figure"] else ""
        console.print(f"{line['what']}{figure}: {line['sentence']}", markup=False, highlight=False)
