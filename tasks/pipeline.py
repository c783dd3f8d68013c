"""All stages in one command: collect, capture, probe, detect, closed_book and the behaviour suite."""

from collections.abc import Callable

from inspect_ai import Task, TaskSource, task_source
from inspect_ai.log import EvalLog
from inspect_ai.model import get_model

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS, Alphas
from hneurons_eval.artifacts.logs import hneurons_model, stage_of
from hneurons_eval.artifacts.paths import check_writable
from hneurons_eval.artifacts.pipeline_steps import BEHAVIOURS, PipelineSteps, Step
from hneurons_eval.tasks.capture import capture
from hneurons_eval.tasks.closed_book import closed_book
from hneurons_eval.tasks.collect import collect
from hneurons_eval.tasks.detect import detect
from hneurons_eval.tasks.faitheval import faitheval
from hneurons_eval.tasks.falseqa import falseqa
from hneurons_eval.tasks.probe import probe
from hneurons_eval.tasks.sycophancy import sycophancy
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors

TASKS: dict[str, Callable[..., Task]] = {
    "collect": collect,
    "capture": capture,
    "probe": probe,
    "detect": detect,
    "closed_book": closed_book,
    "falseqa": falseqa,
    "faitheval": faitheval,
    "sycophancy": sycophancy,
}
ALL_BEHAVIOURS = ",".join(BEHAVIOURS)


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
    behaviours: str | list[str] | None = ALL_BEHAVIOURS,
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
        C: `auto`, `paper`, or a number, as in `probe`.
        folds: in which relations (else questions) are held out.
        alphas: factors of the interventions.
        controls: neuron sets of each kind to compare the probe with.
        questions: at most this many in each intervention; `collect` asks all of the training part.
        sweep_controls: contribution-matched random sets in each intervention, which scales the positive neurons.
        behaviours: behaviour tasks on the data that they bring; `-T behaviours=` for none.
        seed: of all random choices.
        resume: directory of the logs of an earlier run with the same parameters.
    """
    options = {name: value for name, value in locals().items() if name != "resume"}
    return Stages(PipelineSteps(**options), resume)


class Stages(TaskSource):
    """The pipeline's tasks, each made when the log that it reads is finished."""

    def __init__(self, steps: PipelineSteps, resume: str = "") -> None:
        self.steps, self._resume = steps, resume

    def initial_tasks(self) -> list[Task]:
        hneurons_model()
        with usage_errors():
            check_writable()
        if not self._resume:
            return [_task(self.steps.first)]
        model = get_model()
        progress = self.steps.progress(self._resume, str(model), model.model_args)
        if progress.interrupted:
            log = progress.interrupted[0]
            raise UsageError(
                f"{log.eval.task} ended with status {log.status}; finish it first, so that nothing is done again: "
                f"inspect eval-retry {log.location}"
            )
        if not progress.left:
            raise UsageError(f"every stage is finished in {self._resume}; see hneurons report {self._resume}")
        return [_task(step) for step in progress.left]

    async def task_complete(self, log: EvalLog) -> list[Task] | None:
        stage = stage_of(log)
        steps = self.steps.after(stage, log.location)
        if not steps:
            return None
        if log.status != "success":
            raise UsageError(
                f"{stage} ended with status {log.status}, so no later stage is run; "
                f"finish it with: inspect eval-retry {log.location}, then run the same command with resume=DIRECTORY "
                "of its logs"
            )
        return [_task(step) for step in steps]


def _task(step: Step) -> Task:
    return TASKS[step.name](**step.arguments)
