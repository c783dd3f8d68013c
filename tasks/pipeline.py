"""All stages in one command: collect, capture, probe, detect, closed_book and the behaviour suite."""

from collections.abc import Callable, Sequence

from inspect_ai import Task, TaskSource, task_source
from inspect_ai.log import EvalLog

from hneurons_eval.refusals import Refused
from hneurons_eval.solvers.capture import OFFICIAL, SPANS
from hneurons_eval.tasks.capture import capture
from hneurons_eval.tasks.closed_book import closed_book
from hneurons_eval.tasks.collect import collect, preset_named
from hneurons_eval.tasks.detect import detect
from hneurons_eval.tasks.faitheval import faitheval
from hneurons_eval.tasks.falseqa import falseqa
from hneurons_eval.tasks.probe import probe, settings_from
from hneurons_eval.tasks.stage_logs import check_hneurons_model
from hneurons_eval.tasks.sweeping import parse_alphas
from hneurons_eval.tasks.sycophancy import sycophancy

BEHAVIOURS: dict[str, Callable[..., Task]] = {"falseqa": falseqa, "faitheval": faitheval, "sycophancy": sycophancy}
"""Tasks of the behaviour suite that bring their own data."""
DEFAULT_BEHAVIOURS = ",".join(BEHAVIOURS)


def behaviours_named(names: str | Sequence[str]) -> list[str]:
    """Tasks of `falseqa,faitheval` or a list; an empty text names none.

    Raises:
        Refused: one that is not in `BEHAVIOURS`.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    found = [part.strip() for part in parts if part.strip()]
    unknown = [name for name in found if name not in BEHAVIOURS]
    if unknown:
        raise Refused(f"behaviours should be of {', '.join(BEHAVIOURS)}, found {', '.join(unknown)}")
    return list(dict.fromkeys(found))


@task_source
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
    alphas: str | float | list[float] = "0,0.5,1,1.5,2,2.5,3",
    controls: int = 100,
    questions: int = 200,
    sweep_controls: int = 20,
    behaviours: str | list[str] = DEFAULT_BEHAVIOURS,
    seed: int = 0,
) -> TaskSource:
    """From questions to proven neurons: each stage reads the log of the one before.

    Neurons are found on the training part of the question set; detection and intervention are measured on its
    test part, whole relations (else questions) that no earlier stage has seen.

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
        sweep_controls: random neuron sets in each intervention.
        behaviours: tasks of the behaviour suite, on the data that they bring; "" for none.
        seed: of all that is drawn.
    """
    preset_named(preset)
    parse_alphas(alphas)
    chosen = behaviours_named(behaviours)
    settings_from(mode, penalty, C, folds, controls, seed)
    if span not in SPANS or span == OFFICIAL:
        raise Refused(f"span should be rule, llm or response, found {span!r}")

    def first() -> list[Task]:
        check_hneurons_model()
        return [collect(dataset, draws, judge, preset, split, "train", seed)]

    def after_probe(log: str) -> list[Task]:
        tasks = [detect(log, dataset, judge, preset, split=split, part="test", seed=seed + 1)]
        if penalty == "l1":
            tasks.append(closed_book(log, alphas, sweep_controls, dataset, judge, questions, split, "test", seed))
            tasks += [BEHAVIOURS[name](log, alphas, sweep_controls, questions=questions, seed=seed) for name in chosen]
        return tasks

    follow: dict[str, Callable[[str], list[Task]]] = {
        "collect": lambda log: [capture(log, per_class, span, reduce, seed=seed)],
        "capture": lambda log: [probe(log, mode, penalty, C, folds, controls, seed)],
        "probe": after_probe,
    }
    return _Stages(first, follow)


class _Stages(TaskSource):
    def __init__(self, first: Callable[[], list[Task]], follow: dict[str, Callable[[str], list[Task]]]) -> None:
        self._first, self._follow = first, follow

    def initial_tasks(self) -> list[Task]:
        return self._first()

    async def task_complete(self, log: EvalLog) -> list[Task] | None:
        stage = log.eval.task.split("/")[-1]
        if stage not in self._follow:
            return None
        if log.status != "success":
            raise Refused(
                f"{stage} ended with status {log.status}, so no later stage is run; "
                f"finish it with: inspect eval-retry {log.location}, then run the later tasks on its log"
            )
        return self._follow[stage](log.location)
