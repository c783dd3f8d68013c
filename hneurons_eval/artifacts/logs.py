"""Reading the log of the stage before: the right task, finished, of the same model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from inspect_ai.log import EvalLog, EvalSample, read_eval_log, read_eval_log_sample_summaries
from inspect_ai.model import get_model
from inspect_ai.scorer import Score

from hneurons_eval.analysis.judge_agreement import JudgedAnswer
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.errors import UsageError

CAPTURE_ROLE = "capture"
"""The role of a model that captures what another one sampled."""


def read_stage(path: str, stage: str, parameter: str) -> EvalLog:
    """The finished log of a stage.

    Args:
        path: an Inspect log, or a directory of which the newest log of that stage is taken.
        stage: name of the task that must have written it.
        parameter: name of the task parameter it was given as, for messages.

    Raises:
        UsageError: missing, not a log, damaged, of another task, or not finished.
    """
    if not path:
        raise UsageError(f"{parameter} is missing; give the log of the {stage} task: -T {parameter}=LOG")
    file = Path(str(path).removeprefix("file://"))
    if file.is_dir():
        logs = sorted(file.glob(f"*_{stage}_*.eval")) + sorted(file.glob(f"*_{stage}_*.json"))
        if not logs:
            raise UsageError(f"{parameter}={path} holds no log of the {stage} task; run hneurons_eval/{stage} first")
        file = max(logs, key=lambda log: log.name)
    elif not file.is_file():
        raise UsageError(f"{parameter}={path} does not exist; give the log of the {stage} task")
    try:
        damaged = _damaged_part(file)
        log = read_eval_log(str(file))
    except Exception as error:
        raise UsageError(
            f"{parameter}={path} is not an Inspect log ({type(error).__name__}); give the log of {stage}"
        ) from error
    if damaged is not None:
        raise UsageError(
            f"{parameter}={path} is damaged: {damaged!r:.80} is not what was written; get it again or rerun {stage}"
        )
    task = log.eval.task.split("/")[-1]
    if task != stage:
        raise UsageError(f"{parameter}={path} is a log of {task}; give the log of the {stage} task")
    if log.status != "success":
        raise UsageError(
            f"{parameter}={path} ended with status {log.status}; finish it first: inspect eval-retry {path}"
        )
    log.location = log.location or str(file)
    return log


def _damaged_part(file: Path) -> str | None:
    """A part of a log whose content is not that of its checksum, which Inspect's reader does not look at."""
    if file.suffix != ".eval":
        return None
    with ZipFile(file) as archive:
        return archive.testzip()


LOG_PARAMETERS = ("responses", "features", "probe", "neurons")
"""Task parameters that may name the log of another task."""


class Headers:
    """The logs of one model in a directory, without their samples.

    Args:
        directory: where they are; one that is not there holds none.
        model: whose, as Inspect names it.
        model_args: what it was made with.

    Attributes:
        logs: the oldest first. What cannot be read is left out: a run that was killed as it began leaves such a file.
    """

    def __init__(self, directory: str, model: str, model_args: Mapping[str, Any]) -> None:
        place = Path(str(directory).removeprefix("file://"))
        self.logs: list[EvalLog] = []
        for file in sorted((*place.glob("*.eval"), *place.glob("*.json")), key=lambda file: file.name):
            try:
                log = read_eval_log(str(file), header_only=True)
            except Exception:  # whatever a half-written file makes the reader raise
                continue
            if log.eval.model == model and log.eval.model_args == dict(model_args):
                log.location = str(file)
                self.logs.append(log)


def fullest(logs: Sequence[EvalLog]) -> EvalLog:
    """Of the interrupted logs of one task that which holds the most finished samples; of equals the newest.

    A retry that is killed in its first moments leaves a newer log, which does not hold yet what it was to take over.
    """

    def held(log: EvalLog) -> int:
        try:
            return sum(sample.completed for sample in read_eval_log_sample_summaries(log.location))
        except Exception:  # whatever a half-written file makes the reader raise
            return 0

    return max(reversed(logs), key=held)


def model_of(log: EvalLog) -> str:
    """The model that a log is about, without its provider: of a capture, the one that captured."""
    role = (log.eval.model_roles or {}).get(CAPTURE_ROLE)
    if isinstance(role, list):
        role = role[0]
    return (log.eval.model if role is None else role.model).split("/", 1)[-1]


def check_same_model(log: EvalLog, parameter: str) -> None:
    """Refuse a log of another model than the one being evaluated.

    Raises:
        UsageError: names both.
    """
    model = get_model()
    theirs, ours = model_of(log), model.name
    if theirs != ours:
        raise UsageError(
            f"{parameter} is a log of the model {theirs}, this run evaluates {ours}; "
            f"use --model hneurons/{theirs}, or collect from {ours}"
        )
    if not hasattr(model.api, "engine"):
        raise UsageError(f"{model} cannot capture contributions; use --model hneurons/{ours} or hneurons-vllm/{ours}")


def check_hneurons_model() -> None:
    """Refuse a model of another provider, which has no neurons to scale or capture.

    Raises:
        UsageError: names the model.
    """
    model = get_model()
    if not hasattr(model.api, "engine"):
        raise UsageError(f"{model} gives no access to its neurons; use --model hneurons/MODEL or hneurons-vllm/MODEL")


def model_layout() -> NeuronLayout:
    """The neurons of the model being evaluated, which `check_hneurons_model` has let pass."""
    return get_model().api.engine.layout  # pyright: ignore[reportAttributeAccessIssue]


@dataclass(frozen=True)
class StageScore:
    """One sample's reduced score in a stage's log."""

    sample_id: str
    score: Score

    @property
    def metadata(self) -> dict[str, Any]:
        return self.score.metadata or {}


def reduced_scores(log: EvalLog, scorer: str, parameter: str) -> list[StageScore]:
    """The scores of a scorer, reduced over epochs, in the order of sample ids.

    Raises:
        UsageError: the log has none.
    """
    for reduction in log.reductions or []:
        if reduction.scorer.split("/")[-1] == scorer:
            return [StageScore(str(sample.sample_id), sample) for sample in reduction.samples]
    raise UsageError(
        f"{parameter} has no scores of {scorer}; score it first: "
        f"inspect score {log.location} --scorer hneurons_eval/{scorer}"
    )


def samples_of(log: EvalLog) -> list[EvalSample]:
    """All samples of a log."""
    return list(log.samples or [])


def captured_rows(log: EvalLog) -> list[StageScore]:
    """The answers of a capture log that have contributions, in the order of their ids."""
    rows = [
        StageScore(str(sample.id), score)
        for sample in samples_of(log)
        if (score := (sample.scores or {}).get("captured")) and (score.metadata or {}).get("contributions")
    ]
    return sorted(rows, key=lambda row: row.sample_id)


def judged_answers(log: EvalLog) -> list[JudgedAnswer]:
    """The answers in a log with the verdicts of its judges, the rule's left out: it can be asked again.

    A judge is named by its way and its grader ("llm openai/gpt-4o"); a second one of that name has a number.

    Raises:
        UsageError: no answer of the log was judged by a grader.
    """
    keys = dict.fromkeys(key for sample in log.samples or [] for key in sample.scores or {})
    found: dict[tuple[str, int], JudgedAnswer] = {}
    names: set[str] = set()
    for key in keys:
        judged = [
            (sample, score.answer or "", details)
            for sample in log.samples or []
            if (details := (score := (sample.scores or {}).get(key) or Score(value=0)).metadata or {}).keys()
            >= {"verdict", "by", "grader", "aliases", "question"}
            and details["aliases"]  # an answer to a question on something invented has none, and no grader either
        ]
        graders = sorted({details["grader"] for *_, details in judged if details["grader"]})
        if not graders:
            continue
        name = base = " ".join([judged[0][2]["by"], *graders])
        number = 1
        while name in names:
            number += 1
            name = f"{base} {number}"
        names.add(name)
        for sample, response, details in judged:
            at = (str(sample.id), sample.epoch)
            known = found.get(at)
            found[at] = JudgedAnswer(
                id=f"{sample.id} {sample.epoch}",
                question=details["question"],
                response=response,
                aliases=tuple(details["aliases"]),
                verdicts={**(known.verdicts if known else {}), name: details["verdict"]},
            )
    if not found:
        raise UsageError(
            f"{log.location} holds no verdict of a grader to compare the rule with; judge it again: inspect score "
            f"{log.location} --scorer hneurons_eval/judge -S by=llm --model-role grader=PROVIDER/MODEL"
        )
    return list(found.values())
