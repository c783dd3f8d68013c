"""Logs of stages and sweeps written by hand: their figures, samples and metadata are what a test says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score

from hneurons_eval.analysis.dose_response import Row, arrange, corrected, dose_response, with_series

MODEL = "hneurons/a-model"


def write_log(
    directory: Path,
    task: str,
    figures: Mapping[str, float] | None = None,
    *,
    minute: int = 0,
    name: str = "",
    model: str = MODEL,
    metadata: Mapping[str, Any] | None = None,
    args: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Any] | None = None,
    samples: Sequence[EvalSample] = (),
    status: Any = "success",
    plan: EvalPlan | None = None,
) -> Path:
    """A log of a task with these figures, made at that minute; without figures it is of a run that has not ended."""
    directory.mkdir(parents=True, exist_ok=True)
    results = None
    if figures is not None:
        metrics = {key: EvalMetric(name=key, value=value) for key, value in figures.items()}
        results = EvalResults(scores=[EvalScore(name="made", scorer="made", metrics=metrics)])
    log = EvalLog(
        status=status,
        eval=EvalSpec(
            created=f"2026-01-01T00:{minute:02d}:00+00:00",
            task=task,
            dataset=EvalDataset(),
            model=model,
            config=EvalConfig(),
            task_args=dict(args or {}),
            model_args=dict(model_args or {}),
            metadata=dict(metadata or {}),
        ),
        plan=plan or EvalPlan(),
        results=results,
        samples=list(samples),
    )
    path = directory / (name or f"{minute:02d}_{task.split('/')[-1]}_{len(list(directory.iterdir()))}.eval")
    write_eval_log(log, str(path))
    return path


def scored(number: int | str, scores: Mapping[str, Score], text: str = "") -> EvalSample:
    """A sample with these scores."""
    output = ModelOutput.from_content("a-model", text)
    return EvalSample(id=str(number), epoch=1, input="?", target="", scores=dict(scores), output=output)


def sweep_figures(slope: float, series: Sequence[str] = ("",), items: int = 60, controls: int = 39) -> dict[str, float]:
    """Of questions that comply the more the larger alpha is, while control sets change nothing."""
    rng = np.random.default_rng(5)
    found = {}
    for one in series:
        draws = rng.random(items)
        rows = [
            Row(
                f"q{item}",
                alpha,
                {
                    "compliance": [
                        float(draws[item] < 0.4 + slope * (alpha - 1)),
                        *([float(draws[item] < 0.4)] * (controls if alpha != 1 else 0)),
                    ],
                    "truncated": [0.0] * (1 + (controls if alpha != 1 else 0)),
                },
                kinds=["uniform"] * controls if alpha != 1 else (),
            )
            for item in range(items)
            for alpha in (0.0, 1.0, 2.0)
        ]
        found[one] = dose_response(arrange(rows)[""], ["compliance"])
    return with_series(corrected(found, ["compliance"]))
