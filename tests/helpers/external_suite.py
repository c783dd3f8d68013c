"""Tasks that know nothing of this package, a probe with made-up weights, and what a log says."""

from pathlib import Path
from typing import Any

import numpy as np
from inspect_ai import Task, task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, includes
from inspect_ai.solver import generate, multiple_choice

from hneurons_eval.models.checkpoints import load_layout
from hneurons_eval.probe.classifier import Probe

ARGS: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1}
QUESTIONS = [Sample(f"What is the capital of {name}?", target="a", id=name) for name in ("Peru", "Chad", "Oman")]


@task
def theirs() -> Task:
    return Task(dataset=QUESTIONS, solver=generate(), scorer=includes(), config=GenerateConfig(max_tokens=8, seed=3))


@task
def theirs_by_choice() -> Task:
    samples = [Sample("Which?", choices=["one", "two", "three"], target="B", id=name) for name in ("x", "y")]
    return Task(dataset=samples, solver=multiple_choice(), scorer=includes(), config=GenerateConfig(max_tokens=8))


def make_probe(model: Path | str, directory: Path, intercept: float = 0.0) -> str:
    """A probe of a checkpoint with some weights of either sign, and its directory."""
    layout = load_layout(str(model))
    rng = np.random.default_rng(3)
    probe = Probe("l1")
    probe.coef_ = np.zeros(layout.total)
    probe.coef_[rng.choice(layout.total, 30, replace=False)] = rng.normal(0, 4, 30)
    probe.intercept_, probe.widths = intercept, layout.widths
    probe.save(directory)
    return str(directory)


def run(
    task: Any, model: Path | str, directory: Path, model_args: dict[str, Any] | None = None, **more: Any
) -> EvalLog:
    """A task on a model, as `inspect eval` runs it."""
    (log,) = inspect_eval(
        task,
        model=f"hneurons/{model}",
        model_args=ARGS | (model_args or {}),
        log_dir=str(directory),
        display="none",
        **more,
    )
    return log


def mock() -> Model:
    """A model of another provider."""

    def reply(*_: Any) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", "Paris")
        output.usage = ModelUsage()  # or Inspect counts tokens with a file that it downloads
        return output

    return get_model("mockllm/model", custom_outputs=reply, memoize=False)


def scores(log: EvalLog, name: str = "hallucination_risk") -> dict[str, Score]:
    assert log.status == "success", log.error
    return {str(sample.id): (sample.scores or {})[name] for sample in log.samples or []}


def figures(log: EvalLog, name: str = "hallucination_risk") -> dict[str, float]:
    assert log.results is not None
    return {key: metric.value for one in log.results.scores if one.name == name for key, metric in one.metrics.items()}
