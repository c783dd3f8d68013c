"""All stages in one command: collect, capture, probe, detect, closed_book and the behaviour suite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai import Task, TaskSource, task_source
from inspect_ai.log import EvalLog
from inspect_ai.model import get_model

from hneurons_eval.artifacts.logs import LOG_PARAMETERS, Headers, check_hneurons_model, fullest
from hneurons_eval.artifacts.paths import check_writable
from hneurons_eval.solvers.capture import OFFICIAL, SPANS
from hneurons_eval.tasks.capture import capture
from hneurons_eval.tasks.closed_book import closed_book
from hneurons_eval.tasks.collect import collect, preset_named
from hneurons_eval.tasks.detect import detect
from hneurons_eval.tasks.faitheval import faitheval
from hneurons_eval.tasks.falseqa import falseqa
from hneurons_eval.tasks.probe import probe, settings_from
from hneurons_eval.tasks.sweeping import ALPHAS, CONTROLS, Alphas, parse_alphas
from hneurons_eval.tasks.sycophancy import sycophancy
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors

BEHAVIOURS: dict[str, Callable[..., Task]] = {"falseqa": falseqa, "faitheval": faitheval, "sycophancy": sycophancy}
"""Tasks of the behaviour suite that bring their own data."""
DEFAULT_BEHAVIOURS = ",".join(BEHAVIOURS)


def behaviours_named(names: str | Sequence[str] | None) -> list[str]:
    """Tasks of `falseqa,faitheval` or a list; an empty text names none, and so does what Inspect makes of `-T name=`.

    Raises:
        UsageError: one that is not in `BEHAVIOURS`.
    """
    parts = names.split(",") if isinstance(names, str) else list(names or ())
    found = [part.strip() for part in parts if part.strip()]
    unknown = [name for name in found if name not in BEHAVIOURS]
    if unknown:
        raise UsageError(f"behaviours should be of {', '.join(BEHAVIOURS)}, found {', '.join(unknown)}")
    return list(dict.fromkeys(found))


@task_source
@checked_arguments
def pipeline(
    dataset: str = "facts",
    preset: str = "paper",
    draws: int | None = None,
    judge: str = "rule",
    split: str | None = None,
    per_class: int = 1000,
    span: str = "rule",
    reduce: str = "mean",
    mode: str = "3-vs-1",
    penalty: str = "l1",
    C: float | str = "auto",
    folds: int = 10,
    alphas: Alphas = ALPHAS,
    controls: int = 100,
    questions: int = 200,
    sweep_controls: int = CONTROLS,
    behaviours: str | list[str] | None = DEFAULT_BEHAVIOURS,
    seed: int = 0,
    resume: str = "",
) -> TaskSource:
    """From questions to proven neurons: each stage reads the log of the one before.

    Neurons are found on the training part of the question set; detection and intervention are measured on its
    test part, whole relations (else questions) that no earlier stage has seen.

    After an interruption, finish the stage that was interrupted (`inspect eval-retry LOG`) and run the same command
    with `resume`: stages whose logs are finished are not run again.

    Args:
        dataset: as in `collect`.
        preset: `paper` or `quick`, as in `collect`.
        draws: answers to each question; default the preset's.
        judge: `rule`, `llm` or `cascade`.
        split: of a Hub set.
        per_class: most questions of each class to capture.
        span: where the answer is: `rule`, `llm` or `response`.
        reduce: `mean` or `max` over the tokens of a region.
        mode: `3-vs-1` or `1-vs-1`.
        penalty: `l1` or `l2`.
        C: `auto`, `accuracy`, or a number.
        folds: in which relations (else questions) are held out.
        alphas: factors of the interventions.
        controls: neuron sets of each kind to compare the probe with.
        questions: at most this many in each intervention.
        sweep_controls: contribution-matched random sets in each intervention, which scales the positive neurons.
        behaviours: tasks of the behaviour suite, on the data that they bring; `-T behaviours=` for none.
        seed: of all that is drawn.
        resume: directory of the logs of an earlier run with the same parameters.
    """
    preset_named(preset)
    parse_alphas(alphas)
    chosen = behaviours_named(behaviours)
    settings_from(mode, penalty, C, folds, controls, seed)
    if span not in SPANS or span == OFFICIAL:
        raise UsageError(f"span should be rule, llm or response, found {span!r}")

    first = Step(
        "collect",
        collect,
        {
            "dataset": dataset, "draws": draws, "judge": judge, "preset": preset, "split": split, "part": "train",
            "seed": seed,
        },
    )  # fmt: skip

    def after_probe(log: str) -> list[Step]:
        part = {"dataset": dataset, "judge": judge, "split": split, "part": "test"}
        steps = [Step("detect", detect, {"probe": log, "preset": preset, "seed": seed + 1, **part})]
        if penalty == "l1":
            swept = {
                "neurons": log, "alphas": alphas, "controls": sweep_controls, "questions": questions, "seed": seed,
            }  # fmt: skip
            steps.append(Step("closed_book", closed_book, swept | part))
            steps += [Step(name, BEHAVIOURS[name], swept) for name in chosen]
        return steps

    after: dict[str, Callable[[str], list[Step]]] = {
        "collect": lambda log: [
            Step(
                "capture",
                capture,
                {"responses": log, "per_class": per_class, "span": span, "reduce": reduce, "seed": seed},
            )
        ],
        "capture": lambda log: [
            Step(
                "probe",
                probe,
                {
                    "features": log, "mode": mode, "penalty": penalty, "C": C, "folds": folds, "controls": controls,
                    "seed": seed,
                },
            )
        ],
        "probe": after_probe,
    }  # fmt: skip
    return Stages(first, after, resume)


@dataclass(frozen=True)
class Step:
    """A task of the pipeline, and its parameters."""

    name: str
    make: Callable[..., Task]
    arguments: Mapping[str, Any]

    def task(self) -> Task:
        return self.make(**self.arguments)

    def is_of(self, log: EvalLog) -> bool:
        """Whether a log is of this task with these parameters."""
        theirs = log.eval.task_args
        return log.eval.task.split("/")[-1] == self.name and all(
            _same_place(theirs.get(name), value) if name in LOG_PARAMETERS else theirs.get(name) == value
            for name, value in self.arguments.items()
        )


def _same_place(theirs: Any, ours: Any) -> bool:
    places = [Path(str(place).removeprefix("file://")).resolve() for place in (theirs, ours)]
    return places[0] == places[1]


@dataclass(frozen=True)
class Progress:
    """What the logs of an earlier run leave to do.

    Attributes:
        finished: logs of stages that need not be run again, without their samples.
        interrupted: logs that `inspect eval-retry` finishes.
        left: stages that can be run now and have no log.
    """

    finished: list[EvalLog]
    interrupted: list[EvalLog]
    left: list[Step]


class Stages(TaskSource):
    """The pipeline's tasks, each made when the log that it reads is finished."""

    def __init__(self, first: Step, after: Mapping[str, Callable[[str], list[Step]]], resume: str = "") -> None:
        self._first, self._after, self._resume = first, after, resume

    def progress(self, directory: str, model: str, model_args: Mapping[str, Any]) -> Progress:
        """What is finished and what is left of a run of a model with these parameters, by the logs in a directory."""
        found = Progress([], [], [])
        headers = Headers(directory, model, model_args)
        waiting = [self._first]
        while waiting:
            step = waiting.pop(0)
            logs = [log for log in headers.logs if step.is_of(log)]
            finished = [log for log in logs if log.status == "success"]
            if finished:
                found.finished.append(finished[-1])
                waiting += self._after.get(step.name, lambda _: [])(finished[-1].location)
            elif logs:
                found.interrupted.append(fullest(logs))
            else:
                found.left.append(step)
        return found

    def initial_tasks(self) -> list[Task]:
        check_hneurons_model()
        with usage_errors():
            check_writable()
        if not self._resume:
            return [self._first.task()]
        model = get_model()
        progress = self.progress(self._resume, str(model), model.model_args)
        if progress.interrupted:
            log = progress.interrupted[0]
            raise UsageError(
                f"{log.eval.task} ended with status {log.status}; finish it first, so that nothing is done again: "
                f"inspect eval-retry {log.location}"
            )
        if not progress.left:
            raise UsageError(f"every stage is finished in {self._resume}; see hneurons report {self._resume}")
        return [step.task() for step in progress.left]

    async def task_complete(self, log: EvalLog) -> list[Task] | None:
        stage = log.eval.task.split("/")[-1]
        if stage not in self._after:
            return None
        if log.status != "success":
            raise UsageError(
                f"{stage} ended with status {log.status}, so no later stage is run; "
                f"finish it with: inspect eval-retry {log.location}, then run the same command with resume=DIRECTORY "
                "of its logs"
            )
        return [step.task() for step in self._after[stage](log.location)]
