"""Steps of the pipeline as plain data: task names with their parameters, and what the logs of a run leave to do.

```python
steps = PipelineSteps(**options)                                     # options of the task `pipeline`
steps.progress("logs", "hneurons/MODEL", {"dtype": "auto"}).left     # [Step("capture", {...})]
```
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hneurons_eval.analysis.sweep_parameters import Alphas, parse_alphas
from hneurons_eval.artifacts.logs import LOG_PARAMETERS, fullest, headers_of_model, stage_of
from hneurons_eval.data.presets import preset_named
from hneurons_eval.util.errors import UsageError, usage_errors

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.probe.settings import Settings

BEHAVIOURS = ("falseqa", "faitheval", "sycophancy")
"""Behaviour tasks that bring their own data."""
SPANS = ("rule", "llm", "response")


@dataclass(frozen=True)
class Step:
    """A task by name, and its parameters."""

    name: str
    arguments: Mapping[str, Any]

    def is_of(self, log: "EvalLog") -> bool:
        """Whether a log is of this task with these parameters."""
        theirs = log.eval.task_args
        return stage_of(log) == self.name and all(
            _same_place(theirs.get(name), value) if name in LOG_PARAMETERS else theirs.get(name) == value
            for name, value in self.arguments.items()
        )


@dataclass(frozen=True)
class Progress:
    """What the logs of an earlier run leave to do.

    Attributes:
        finished: logs of stages that need not be run again, without their samples.
        interrupted: logs that `inspect eval-retry` finishes.
        left: stages that can be run now and have no log.
    """

    finished: "list[EvalLog]"
    interrupted: "list[EvalLog]"
    left: list[Step]


@dataclass(frozen=True)
class PipelineSteps:
    """The steps of one pipeline; the attributes are the parameters of the task `pipeline`.

    Raises:
        UsageError: one of them is out of range.
    """

    dataset: str
    preset: str
    draws: int | None
    judge: str
    mode: str
    penalty: str
    C: float | str
    alphas: Alphas
    controls: int
    questions: int
    sweep_controls: int
    behaviours: str | Sequence[str] | None
    seed: int
    split: str | None = None
    per_class: int = 1000
    span: str = "rule"
    reduce: str = "mean"
    folds: int = 10

    def __post_init__(self) -> None:
        preset_named(self.preset)
        parse_alphas(self.alphas)
        behaviours_named(self.behaviours)
        _ = self.probe_settings
        if self.span not in SPANS:
            raise UsageError(f"span should be rule, llm or response, found {self.span!r}")

    @property
    def probe_settings(self) -> "Settings":
        """The parameters of the step `probe`."""
        return probe_settings(self.mode, self.penalty, self.C, self.folds, self.controls, self.seed)

    @property
    def first(self) -> Step:
        """The step that reads no log."""
        return Step("collect", self._only("dataset", "draws", "judge", "preset", "split", "seed") | {"part": "train"})

    def after(self, name: str, log: str) -> list[Step]:
        """The steps that read the finished log of a step."""
        if name == "collect":
            return [Step("capture", {"responses": log} | self._only("per_class", "span", "reduce", "seed"))]
        if name == "capture":
            own = self._only("mode", "penalty", "C", "folds", "controls", "seed")
            return [Step("probe", {"features": log} | own)]
        if name != "probe":
            return []
        part = self._only("dataset", "judge", "split") | {"part": "test"}
        steps = [Step("detect", {"probe": log, "preset": self.preset, "seed": self.seed + 1} | part)]
        if self.penalty == "l1":
            swept = {"neurons": log, "controls": self.sweep_controls} | self._only("alphas", "questions", "seed")
            steps.append(Step("closed_book", swept | part))
            steps += [Step(behaviour, swept) for behaviour in behaviours_named(self.behaviours)]
        return steps

    @property
    def total(self) -> int:
        """Number of steps."""
        return 3 + len(self.after("probe", ""))

    def progress(self, directory: str, model: str, model_args: Mapping[str, Any]) -> Progress:
        """What is finished and what is left of a run of a model with these parameters, by the logs in a directory."""
        found = Progress([], [], [])
        headers = headers_of_model(directory, model, model_args)
        waiting = [self.first]
        while waiting:
            step = waiting.pop(0)
            logs = [log for log in headers if step.is_of(log)]
            finished = [log for log in logs if log.status == "success"]
            if finished:
                found.finished.append(finished[-1])
                waiting += self.after(step.name, finished[-1].location)
            elif logs:
                found.interrupted.append(fullest(logs))
            else:
                found.left.append(step)
        return found

    def _only(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


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


def probe_settings(mode: str, penalty: str, C: float | str, folds: int, controls: int, seed: int) -> "Settings":
    """The parameters of the task `probe`, checked.

    Raises:
        UsageError: one of them is out of range.
    """
    from hneurons_eval.probe.settings import Mode, Penalty, Settings

    with contextlib.suppress(ValueError):
        C = float(C)
    with usage_errors():
        return Settings(cast(Mode, mode), cast(Penalty, penalty), C, folds, controls=controls, seed=seed)


def _same_place(theirs: Any, ours: Any) -> bool:
    places = [Path(str(place).removeprefix("file://")).resolve() for place in (theirs, ours)]
    return places[0] == places[1]
