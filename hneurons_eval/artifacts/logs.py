"""Inspect logs: the one place that opens them, checks them, and says what the stages have written to them.

```python
log = read_stage("logs/demo", "capture", "features")   # finished, and of that task
records = captured_answers(log)                        # what `probe` trains on
```
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZipFile

from hneurons_eval.analysis.judge_agreement import JudgedAnswer
from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.errors import UsageError

if TYPE_CHECKING:
    # Inspect is loaded where it is used: it takes a second, and `hneurons --help` imports this module.
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Score

    Logs = str | Path | EvalLog | Iterable[str | Path | EvalLog]
    """Logs as files, directories of them, or as they are in memory."""

CAPTURE_ROLE = "capture"
"""The role of a model that captures what another one sampled."""
LOG_PARAMETERS = ("responses", "features", "probe", "neurons")
"""Task parameters that may name the log of another task."""


# --- opening ---------------------------------------------------------------------------------------------


def is_log(file: Path) -> bool:
    """Whether a file is an Inspect log by its name, or by its first member."""
    if file.suffix == ".eval":
        return True
    with file.open("rb") as opened:
        return re.match(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"status"', opened.read(200)) is not None


def read_log(file: str | Path, header_only: bool = False, attachments: bool = False) -> "EvalLog":
    """A log with its location; UsageError where it is none.

    Args:
        file: path, or address as `EvalLog.location` has it.
        header_only: leave out the samples.
        attachments: put long texts and pictures back where they belong.
    """
    from inspect_ai.log import read_eval_log

    try:
        log = read_eval_log(str(file), header_only=header_only, resolve_attachments=attachments)
    except Exception as error:  # the reader has no common class for what a damaged file raises
        raise UsageError(f"{file} is not an Inspect log ({type(error).__name__})") from error
    log.location = log.location or str(file)
    return log


def read_logs(logs: "Logs", header_only: bool = False, attachments: bool = False) -> "Iterator[EvalLog]":
    """Logs one after the other, each file once; of a directory all in it. UsageError for what is no log."""
    from inspect_ai.log import EvalLog

    files: dict[Path, None] = {}
    for one in [logs] if isinstance(logs, str | Path | EvalLog) else logs:
        if isinstance(one, EvalLog):
            yield one
            continue
        path = Path(str(one).removeprefix("file://"))
        found = sorted(path.glob("*.eval")) if path.is_dir() else [path]
        if not path.is_dir() and not path.is_file():
            raise UsageError(f"no log at {path}; give an Inspect log or a directory of them")
        for file in found:
            if file not in files:
                files[file] = None
                yield read_log(file, header_only, attachments)


def read_stage(path: str, stage: str, parameter: str = "") -> "EvalLog":
    """The finished log of a stage: of a directory the newest.

    Args:
        path: an Inspect log or a directory.
        stage: name of the task that must have written it.
        parameter: of the task that it was given as, for messages; empty: the path alone is named.

    Raises:
        UsageError: missing, not a log, damaged, of another task, or not finished.
    """
    if not path:
        raise UsageError(f"{parameter} is missing; give the log of the {stage} task: -T {parameter}=LOG")
    file = Path(str(path).removeprefix("file://"))
    shown = f"{parameter}={path}" if parameter else str(path)
    if file.is_dir():
        logs = sorted(file.glob(f"*_{stage}_*.eval")) + sorted(file.glob(f"*_{stage}_*.json"))
        if not logs:
            raise UsageError(f"{shown} holds no log of the {stage} task; run hneurons_eval/{stage} first")
        file = max(logs, key=lambda log: log.name)
        shown = f"{file}, the newest log of {stage} in {shown},"
    elif not file.is_file():
        raise UsageError(f"{shown} does not exist; give the log of the {stage} task")
    try:
        log = read_log(file)
        damaged = _damaged_part(file)  # after Inspect's reader, which teaches zipfile the compression of its logs
    except Exception as error:
        name = type(error.__cause__ or error).__name__
        raise UsageError(f"{shown} is not an Inspect log ({name}); give the log of {stage}") from error
    if damaged is not None:
        raise UsageError(f"{shown} is damaged: {damaged!r:.80} is not what was written; get it again or rerun {stage}")
    if stage_of(log) != stage:
        raise UsageError(f"{shown} is a log of {stage_of(log)}; give the log of the {stage} task")
    if log.status != "success":
        raise UsageError(f"{shown} ended with status {log.status}; finish it first: inspect eval-retry {file}")
    return log


def _damaged_part(file: Path) -> str | None:
    """A part of a log that does not fit its checksum, at which Inspect's reader does not look."""
    if file.suffix != ".eval":
        return None
    with ZipFile(file) as archive:
        return archive.testzip()


def headers_of_model(directory: str, model: str, model_args: Mapping[str, Any]) -> "list[EvalLog]":
    """The logs of one model (as Inspect names it) in a directory without their samples, the oldest first.

    Unreadable files are left out: a run that was killed as it began leaves such a file.
    """
    place = Path(str(directory).removeprefix("file://"))
    found = []
    for file in sorted((*place.glob("*.eval"), *place.glob("*.json")), key=lambda file: file.name):
        try:
            log = read_log(file, header_only=True)
        except UsageError:
            continue
        if log.eval.model == model and log.eval.model_args == dict(model_args):
            log.location = str(file)
            found.append(log)
    return found


def fullest(logs: "Sequence[EvalLog]") -> "EvalLog":
    """Of the interrupted logs of one task that which holds the most finished samples; of equals the newest.

    A retry that is killed in its first moments leaves a newer log, which does not hold yet what it was to take over.
    """
    from inspect_ai.log import read_eval_log_sample_summaries

    def held(log: "EvalLog") -> int:
        try:
            return sum(sample.completed for sample in read_eval_log_sample_summaries(log.location))
        except Exception:  # whatever a half-written file makes the reader raise
            return 0

    return max(reversed(logs), key=held)


# --- headers ---------------------------------------------------------------------------------------------


def stage_of(log: "EvalLog") -> str:
    """The name of a log's task, without its package."""
    return log.eval.task.split("/")[-1]


def figures_of(log: "EvalLog") -> dict[str, float]:
    """All figures of a log by name."""
    return {
        name: float(value.value)
        for score in (log.results.scores if log.results else ())
        for name, value in score.metrics.items()
    }


# --- the evaluated model ---------------------------------------------------------------------------------


def model_of(log: "EvalLog") -> str:
    """The model that a log is about, without its provider: of a capture, the one that captured."""
    role = (log.eval.model_roles or {}).get(CAPTURE_ROLE)
    if isinstance(role, list):
        role = role[0]
    return (log.eval.model if role is None else role.model).split("/", 1)[-1]


def check_same_model(log: "EvalLog", parameter: str) -> None:
    """Refuse a log of another model than the one being evaluated: UsageError names both."""
    from inspect_ai.model import get_model

    theirs, ours = model_of(log), get_model().name
    if theirs != ours:
        raise UsageError(
            f"{parameter} is a log of the model {theirs}, this run evaluates {ours}; "
            f"use --model hneurons/{theirs}, or collect from {ours}"
        )
    hneurons_model()


def hneurons_model(role: str | None = None, instead: str = "") -> Any:
    """The model being evaluated, or bound to a role.

    Raises:
        UsageError: it is of another provider, which has no neurons to scale or capture; `instead` says what else helps.
    """
    from inspect_ai.model import get_model

    model = get_model() if role is None else get_model(role=role, default=get_model())
    if not hasattr(model.api, "engine"):
        raise UsageError(
            f"{model} gives no access to its neurons; use --model hneurons/MODEL or hneurons-vllm/MODEL{instead}"
        )
    return model


def model_layout() -> NeuronLayout:
    """The neurons of the model being evaluated."""
    return hneurons_model().api.engine.layout


# --- what the stages have written ------------------------------------------------------------------------


class StageScore(NamedTuple):
    """One sample's reduced score in a stage's log."""

    sample_id: str
    score: "Score"

    @property
    def metadata(self) -> dict[str, Any]:
        return self.score.metadata or {}


def reduced_scores(log: "EvalLog", scorer: str, parameter: str) -> list[StageScore]:
    """The scores of a scorer, reduced over epochs, in the order of sample ids; UsageError without any."""
    for reduction in log.reductions or []:
        if reduction.scorer.split("/")[-1] == scorer:
            return [StageScore(str(sample.sample_id), sample) for sample in reduction.samples]
    raise UsageError(
        f"{parameter} has no scores of {scorer}; score it first: "
        f"inspect score {log.location} --scorer hneurons_eval/{scorer}"
    )


def scores_in(log: "EvalLog", *kinds: set[str]) -> "Iterator[tuple[EvalSample, Score, dict[str, Any]]]":
    """Samples, scores and their metadata, where this has all keys of one of the kinds."""
    for sample in log.samples or []:
        for score in (sample.scores or {}).values():
            details = score.metadata or {}
            if any(kind <= details.keys() for kind in kinds):
                yield sample, score, details


def captured_answers(log: "EvalLog") -> list[AnswerRecord]:
    """The answers of a log of `capture` that have contributions, in the order of their ids."""
    rows = [
        AnswerRecord.of(score.metadata, str(sample.id), score.answer)
        for sample in log.samples or []
        if (score := (sample.scores or {}).get("captured"))
    ]
    return sorted((row for row in rows if row.contributions), key=lambda row: row.id)


def tried_answers(log: "EvalLog") -> list[AnswerRecord]:
    """The answers that a probe was tried on, of a log of `probe` or `detect`: classified, or skipped with a reason."""
    found = scores_in(log, {"label", "prediction"}, {"skipped", "question"})
    return [AnswerRecord.of(details, str(sample.id), score.answer) for sample, score, details in found]


def probe_summary(log: "EvalLog") -> dict[str, Any]:
    """What a log of `probe` or `detect` says of its probe: its directory, C, neurons, and more; empty without one."""
    if isinstance(of_task := (log.eval.metadata or {}).get("probe"), dict):
        return of_task
    samples = log.samples
    if samples is None:  # a log without its samples
        from inspect_ai.log import read_eval_log_sample, read_eval_log_sample_summaries

        summaries = read_eval_log_sample_summaries(log.location)
        samples = [read_eval_log_sample(log.location, one.id, one.epoch) for one in summaries[:1]]
    for sample in samples:
        # A sample that Inspect recovers from a killed process keeps its scores, but not its output.
        kept = [score.metadata or {} for score in (sample.scores or {}).values()]
        for details in ((sample.output.metadata or {}).get("hneurons", {}), *kept):
            if isinstance(details.get("probe"), dict):
                return dict(details["probe"])
    return {}


def judged_answers(log: "EvalLog") -> list[JudgedAnswer]:
    """The answers in a log with the verdicts of its judges, the rule's left out: it can be asked again.

    A judge is named by its way and its grader ("llm openai/gpt-4o"); a second one of that name has a number.

    Raises:
        UsageError: no answer of the log was judged by a grader.
    """
    keys = dict.fromkeys(key for sample in log.samples or [] for key in sample.scores or {})
    found: dict[str, JudgedAnswer] = {}
    names: set[str] = set()
    for key in keys:
        judged = [
            (sample, score.answer or "", details)
            for sample in log.samples or []
            if (score := (sample.scores or {}).get(key))
            and (details := score.metadata or {}).keys() >= {"verdict", "by", "grader", "aliases", "question"}
            and details["aliases"]  # an answer to a question on something invented has none, and no grader either
        ]
        graders = sorted({details["grader"] for *_, details in judged if details["grader"]})
        if not graders:
            continue
        base = " ".join([judged[0][2]["by"], *graders])
        numbered = (f"{base} {number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([base], numbered) if name not in names)
        names.add(name)
        for sample, response, details in judged:
            at = f"{sample.id} {sample.epoch}"
            verdicts = {**(found[at].verdicts if at in found else {}), name: details["verdict"]}
            found[at] = JudgedAnswer(at, details["question"], response, tuple(details["aliases"]), verdicts)
    if not found:
        raise UsageError(
            f"{log.location} holds no verdict of a grader to compare the rule with; judge it again: inspect score "
            f"{log.location} --scorer hneurons_eval/judge -S by=llm --model-role grader=PROVIDER/MODEL"
        )
    return list(found.values())
