"""What a report is made from: logs of the stages, of sweeps, of external tasks, with risks, and of drift.

```python
said = report_of(["logs"], whole=True)  # for `terminal.print_report` and `html_page.page`
```
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog

from hneurons_eval.analysis.dose_response import SweepError, arrange, corrected, dose_response
from hneurons_eval.artifacts.external_sweep import external_sweep, first_scorer, scaling_of, values_of
from hneurons_eval.artifacts.logs import figures_of, probe_summary, read_log, read_logs, stage_of
from hneurons_eval.artifacts.references import Reference, located
from hneurons_eval.engine.risk_requests import DECISIONS
from hneurons_eval.report.content import answers_in, content
from hneurons_eval.report.drift_section import drift_log
from hneurons_eval.report.found_neurons import found_neurons
from hneurons_eval.report.risk_section import risk_log, risk_scores
from hneurons_eval.report.wording import Line, StageFigures, line
from hneurons_eval.util.errors import UsageError

STAGES = ("collect", "capture", "probe", "detect")
"""Tasks before the sweeps, in the order of the pipeline. What a sweep is, its log says: see `is_sweep`."""
DRIFT = "drift"
RUN_ON = ("dataset", "prompt")
"""Task parameters that make runs of one task different runs, where they are given."""


def report_of(paths: Sequence[str], whole: bool) -> dict[str, Any]:
    """What a report of logs, or directories of them, says; with `whole` also of answers and neurons, for the page.

    Raises:
        UsageError: a file that is not a log, or nothing that a report shows.
    """
    headers = list(read_logs(paths, header_only=True))
    ours = newest(headers)
    external, notes, lines = read_external(headers)
    stages = [*map(stage_figures, ours), *external, *read_risks(headers), *read_drifts(headers)]
    if not (stages or lines):
        raise UsageError(
            "; ".join(notes)
            or f"nothing to report in {', '.join(paths)}: report shows logs of {', '.join(STAGES)}, sweeps, drift, and "
            "of other tasks run with -M neurons=..., hallucination_risk or abstain_when_risky"
        )
    answers, neurons = read_answers(ours, stages) if whole else ({}, None)
    return content(stages, answers, neurons, notes, lines)


def summary_of(logs: Sequence[EvalLog]) -> dict[str, Any]:
    """What a report of the stages and sweeps among some logs says, without answers and neurons."""
    return content([stage_figures(log) for log in newest(logs)])


def is_sweep(log: EvalLog) -> bool:
    """Whether a log is of a task that scales neurons by several factors: it names them, or its figures have slopes."""
    if stage_of(log) == DRIFT:
        return False  # it names neurons, and scales none
    return "neurons_digest" in (log.eval.metadata or {}) or any(name.endswith("_slope") for name in figures_of(log))


def newest(logs: Sequence[EvalLog]) -> list[EvalLog]:
    """Stages in the order of the pipeline, then sweeps: of each the newest with figures, else the newest."""

    def run_on(log: EvalLog) -> tuple[str, ...]:
        args = log.eval.task_args if stage_of(log) not in STAGES[:3] else {}
        return (stage_of(log), *(str(args.get(name, "")) for name in RUN_ON))

    order = {stage: place for place, stage in enumerate(STAGES)}
    kept = _newest_by(run_on, [log for log in logs if stage_of(log) in STAGES or is_sweep(log)])
    return sorted(kept, key=lambda log: (order.get(stage_of(log), len(order)), log.eval.created))


def _newest_by(key: Callable[[EvalLog], Hashable], logs: Iterable[EvalLog]) -> list[EvalLog]:
    return list({key(log): log for log in sorted(logs, key=lambda log: (bool(log.results), log.eval.created))}.values())


def stage_figures(log: EvalLog) -> StageFigures:
    """What a report takes from a log."""
    facts = {"model": log.eval.model}
    metadata, stage = log.eval.metadata or {}, stage_of(log)
    facts |= {"scaled": str(metadata["scaled"])} if metadata.get("scaled") else {}
    summary = probe_summary(log) if stage in ("probe", "detect") and log.results else {}
    named = {"neurons": metadata.get("neurons") or summary.get("neurons_file"), "probe": summary.get("directory")}
    for name, path in named.items():
        if path:  # as the reader finds it, who may be in another directory than the run was
            found = located(str(path), [log.location])
            facts[name] = str(found.resolve() if found else path)
    return StageFigures(stage, figures_of(log), log.location, facts, title_of(log), is_sweep(log), str(log.status))


def title_of(log: EvalLog) -> str:
    """Task and data set, for people."""
    dataset = str(log.eval.task_args.get("dataset") or log.eval.dataset.name or "")
    names = ", ".join(Path(part).stem for part in dataset.split(",") if part and part != "bundled")
    return f"{stage_of(log)} on {names}" if names else stage_of(log)


def read_answers(
    logs: Sequence[EvalLog], stages: Sequence[StageFigures]
) -> tuple[dict[str, list[dict[str, Any]]], Reference | None]:
    """The classified answers of logs of `probe` and `detect` by location, and the neurons that they are judged by."""
    answers: dict[str, list[dict[str, Any]]] = {}
    summary: dict[str, Any] = {}
    for log in logs:
        if stage_of(log) in ("probe", "detect") and log.results:
            whole = read_log(log.location)
            answers[log.location] = answers_in(whole)
            summary = summary or probe_summary(whole)
    named = [{"neurons_file": stage.facts["neurons"]} for stage in stages if "neurons" in stage.facts]
    summary = summary or (named[-1] if named else {})
    return answers, found_neurons(summary, [log.location for log in logs])


def read_external(logs: Sequence[EvalLog]) -> tuple[list[StageFigures], list[str], list[Line]]:
    """Of logs of external tasks: the sweeps, why others are not one, and lines of the overview on single logs."""
    groups: dict[tuple[str, str, str], list[EvalLog]] = {}
    for log in logs:
        ours = log.eval.task.startswith("hneurons_eval/") or stage_of(log) in STAGES or is_sweep(log)
        if not ours and log.eval.model.startswith("hneurons"):
            groups.setdefault((log.eval.task, log.eval.model, str(log.eval.dataset.name)), []).append(log)
    found, notes, lines = [], [], []
    for group in groups.values():
        name, alone = stage_of(group[0]), True
        several = len({scaling_of(log.eval.model_args)[1] for log in group}) > 1
        whole = [read_log(log.location) for log in group if several or _at_alpha(log) or _withholds(log)]
        try:
            if several:
                sweep = external_sweep(whole)
                (arranged,) = arrange(sweep.rows()).values()
                figures = corrected({"": dose_response(arranged, ["score"])}, ["score"])[""]
                facts = {"model": sweep.model, "neurons": sweep.neurons}
                several_logs = [(f"{name}{_at_alpha(log)}", log.location) for log in group]
                title = f"{name}, {sweep.scorer}"
                found.append(StageFigures(name, figures, group[0].location, facts, title, True, logs=several_logs))
                alone = False
        except SweepError as error:
            notes.append(f"{name}: {error}")
        for log in whole:
            lines += _single_lines(log, alone)
    return found, notes, lines


def _at_alpha(log: EvalLog) -> str:
    alpha = log.eval.model_args.get("alpha")
    return "" if alpha is None or not log.eval.model.startswith("hneurons") else f" at alpha {float(alpha):g}"


def _withholds(log: EvalLog) -> bool:
    return any(step.solver.split("/")[-1] == DECISIONS for step in log.plan.steps)


def _single_lines(log: EvalLog, alone: bool) -> list[Line]:
    """What a single log shows: its scores where no sweep has them, and how many answers were withheld."""
    found, name, title = [], first_scorer(log), f"{title_of(log)}{_at_alpha(log)}"
    values = values_of(log, name) if name else {}
    if alone and values and scaling_of(log.eval.model_args)[0]:
        said = f"{len(values)} samples, scored by {name}. Run the task at alpha=1 as well to see what scaling changes."
        found.append(line("grey", title, f"score {math.fsum(values.values()) / len(values):.3f}", said))
    decisions = {str(sample.id): sample.store.get(DECISIONS) or [] for sample in log.samples or []}
    if any(decisions.values()):
        withheld = {item for item, made in decisions.items() if made and made[-1].get("done") == "abstained"}
        given = [value for item, value in values.items() if item not in withheld]
        said = "The log has no scores of the task."
        if values:
            # What was withheld counts as wrong, whatever the scorer makes of the words in its place.
            said = f"Score {math.fsum(given) / len(values):.3f} over all {len(values)}, withheld ones as wrong."
            if given:
                said = f"Score {math.fsum(given) / len(given):.3f} over the {len(given)} answered. {said}"
        found.append(line("grey", f"withheld: {title}", f"{len(withheld)} of {len(decisions)}", said))
    return found


def read_risks(logs: Sequence[EvalLog]) -> list[StageFigures]:
    """Of each task, model, data set and alpha the newest log that holds scores of `hallucination_risk`."""

    def run_on(log: EvalLog) -> tuple[str, ...]:
        return log.eval.task, log.eval.model, str(log.eval.dataset.name), _at_alpha(log)

    kept = _newest_by(run_on, filter(risk_scores, logs))
    return [risk_log(read_log(log.location), f"{title_of(log)}{_at_alpha(log)}") for log in kept]


def read_drifts(logs: Sequence[EvalLog]) -> list[StageFigures]:
    """The newest log of `drift` for each pair of base and checkpoints."""

    def run_on(log: EvalLog) -> tuple[str, ...]:
        about = log.eval.metadata or {}
        return str(about.get("base")), str(about.get("checkpoints"))

    kept = _newest_by(run_on, [log for log in logs if stage_of(log) == DRIFT])
    return [drift_log(read_log(log.location)) for log in kept]
