"""Runs as tidy data frames: a row for each answer, classified answer, answer at one alpha, risk, or neuron.

```python
from hneurons_eval import frames

draws = frames.answers("logs/demo")        # of collect
tried = frames.detections("logs/demo")     # of probe and detect
swept = frames.sweep("logs/demo")          # of closed_book, falseqa and the like, and of any task at several alphas
risky = frames.risks("logs/theirs")        # of any task that hallucination_risk has scored
where = frames.neurons("logs/demo")        # of the probe; also files, directories, digests and Hub ids
swept[swept.alpha != 1].groupby(["set", "alpha"]).accuracy.mean()
```

Logs are given as files, as directories (of which all logs of the right kind are read), or as `EvalLog`s. Needs pandas:
`pip install hneurons-eval[frames]`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA, SweepError
from hneurons_eval.artifacts.external_sweep import external_sweep, scaling_of
from hneurons_eval.artifacts.logs import read_logs, scores_in, stage_of
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.frames import data_frame

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Score

    from hneurons_eval.artifacts.logs import Logs

OF_LOG = ("log", "model", "dataset")
ANSWERS = (
    *OF_LOG,
    *("id", "draw", "question", "relation", "response", "verdict", "judge", "grader", "tokens"),
)
DETECTIONS = (
    *OF_LOG,
    *("stage", "id", "question", "relation", "response", "label", "probability", "prediction", "threshold"),
    *("correct", "skipped", "span_start", "span_end", "prompt_tokens", "response_tokens", "answer_tokens"),
)
SWEEP = (*OF_LOG, "task", "item", "cluster", "series", "alpha", "set", "kind")
RISKS = (
    *(*OF_LOG, "task", "alpha", "id", "epoch", "response", "probability", "threshold"),
    *("task_scorer", "task_score", "refused", "done", "answer_logprob", "response_tokens", "answer_tokens", "skipped"),
)
NEURONS = ("file", "model", "layer", "index", "weight", "stability")
BASELINE = "baseline"


class FrameError(ValueError):
    """Logs that hold nothing for the frame that was asked for; says what they are logs of."""


def answers(logs: "Logs") -> "pd.DataFrame":
    """Every draw of `collect`, or of any task that `hneurons_eval/judge` has scored.

    Columns: `log`, `model`, `dataset`, `id` (of the question), `draw` (from 1), `question`, `relation`, `response`,
    `verdict` (`correct`, `incorrect`, `not_attempted`, `unparsed`), `judge` (`rule` or `llm`: who decided), `grader`
    (the model, if one was asked), `tokens` of the response.

    Raises:
        FrameError: no such scores in the logs.
    """
    rows = [
        {
            **common,
            "id": str(sample.id),
            "draw": sample.epoch,
            "question": details.get("question"),
            "relation": details.get("relation"),
            "response": sample.output.completion,
            "verdict": details["verdict"],
            "judge": details["judge"],
            "grader": details.get("grader"),
            "tokens": sample.output.usage.output_tokens if sample.output.usage else None,
        }
        for common, sample, _, details in _scores(logs, {"verdict", "judge", "aliases"})
    ]
    return _frame(rows, ANSWERS, logs, "answers that hneurons_eval/judge has scored")


def detections(logs: "Logs") -> "pd.DataFrame":
    """Every answer that a probe was tried on: held out in `probe`, fresh in `detect`.

    Columns: `log`, `model`, `dataset`, `stage` (`probe` or `detect`), `id`, `question`, `relation`, `response`, `label`
    (`faithful`, `hallucinated`; missing where it is neither), `probability` that it is hallucinated, `prediction` (0 or
    1), `threshold` (of the probe that is kept; a held-out answer is called by that of the probe that did not see it),
    `correct` (whether the call is the label), `skipped` (why it was not classified), `span_start` and
    `span_end` (characters of the response), `prompt_tokens`, `response_tokens`, `answer_tokens`; and a column
    `baseline_NAME` for each thing the probe is compared with.

    Raises:
        FrameError: no such scores in the logs.
    """
    rows = []
    for common, sample, score, details in _scores(logs, {"label", "prediction"}, {"skipped"}):
        span = details.get("span") or (None, None)
        called = {0: "faithful", 1: "hallucinated"}.get(details.get("prediction", -1))
        rows.append(
            {
                **common,
                "dataset": details.get("dataset") or common["dataset"],
                "stage": common["task"],
                "id": str(sample.id),
                "response": score.answer,
                "correct": None if called is None else called == details["label"],
                "span_start": span[0],
                "span_end": span[1],
                **{name: details.get(name) for name in DETECTIONS if name in details and name != "dataset"},
                **{f"baseline_{name}": value for name, value in (details.get("baselines") or {}).items()},
            }
        )
    return _frame(rows, DETECTIONS, logs, "answers that a probe was tried on")


def sweep(logs: "Logs") -> "pd.DataFrame":
    """Every answer of an intervention: one row for each item, alpha and neuron set.

    The logs are of our sweeps, or of any task that was run at several alphas (`-M neurons=... -M alpha=...`).

    Columns: `log`, `model`, `dataset`, `task`, `item`, `cluster` (items that belong together), `series` (what one log
    holds several of), `alpha`, `set` (`neurons`, `control 1`, ..., and `baseline` at alpha 1, where one answer stands
    for all sets), `kind` of the control set; and a column for each outcome (`accuracy`, `compliance`, `truncated`, ...;
    `score` of an external task): 0, 1 or a share, missing where it is not defined.

    Raises:
        FrameError: no such scores in the logs, or logs of one task that do not make a sweep.
    """
    rows: list[dict[str, Any]] = []
    external: dict[tuple[str, ...], list[EvalLog]] = {}
    for log in _read(logs):
        own = list(_swept(log))
        rows += own
        if not own and not log.eval.task.startswith("hneurons_eval/"):
            external.setdefault((log.eval.task, log.eval.model, str(log.eval.dataset.name)), []).append(log)
    for group in external.values():
        rows += _externally_swept(group)
    return _frame(rows, SWEEP, logs, "answers with neurons scaled")


def _swept(log: "EvalLog") -> Iterator[dict[str, Any]]:
    common = _common(log)
    for _, _, details in scores_in(log, {"alpha", "item", "outcomes"}):
        alpha, outcomes, kinds = float(details["alpha"]), details["outcomes"], details.get("kinds") or ()
        for number in range(max((len(values) for values in outcomes.values()), default=0)):
            yield {
                **common,
                **{name: details.get(name) for name in ("item", "cluster", "series")},
                "alpha": alpha,
                "set": _set(number, alpha),
                "kind": kinds[number - 1] if 0 < number <= len(kinds) else None,
                **{name: values[number] for name, values in outcomes.items()},
            }


def _externally_swept(logs: "Sequence[EvalLog]") -> Iterator[dict[str, Any]]:
    """Rows of logs of one external task; none where they are of one alpha."""
    try:
        by_scaling = {scaling_of(log.eval.model_args): log for log in logs}
    except ValueError:
        return  # the model args of another provider, whose alpha is no factor
    if len({alpha for _, alpha in by_scaling}) < 2:
        return
    try:
        found = external_sweep(logs)
    except SweepError as error:
        raise FrameError(str(error)) from error
    for number, (file, table) in enumerate([(found.neurons, found.outcomes), *found.controls.items()]):
        for alpha, values in table.items():
            common = _common(by_scaling["" if alpha == BASELINE_ALPHA else file, alpha])
            for item, value in values.items():
                own = {"item": item, "cluster": item, "alpha": alpha, "set": _set(number, alpha)}
                yield {**common, **own, "kind": "random" if number else None, "score": value}


def _set(number: int, alpha: float) -> str:
    return f"control {number}" if number else BASELINE if alpha == BASELINE_ALPHA else "neurons"


def risks(logs: "Logs") -> "pd.DataFrame":
    """Every answer that `hneurons_eval/hallucination_risk` has scored, of any task.

    Columns: `log`, `model`, `dataset`, `task`, `alpha` (of the model args; 1 without), `id`, `epoch`, `response`,
    `probability` that it is hallucinated, `threshold` of the probe, `task_scorer` and `task_score` (from 0 to 1, by the
    task's own scorer), `refused`, `done` (by `abstain_when_risky`), `answer_logprob` (mean, in nats),
    `response_tokens`, `answer_tokens`, `skipped` (why there is no probability).

    Raises:
        FrameError: no such scores in the logs.
    """
    rows = []
    for common, sample, score, details in _scores(logs, {"task_scorer", "task_score"}):
        own = {"id": str(sample.id), "epoch": sample.epoch, "response": score.answer}
        rows.append({**common, **own, **{name: details.get(name) for name in RISKS[RISKS.index("probability") :]}})
    return _frame(rows, RISKS, logs, "scores of hneurons_eval/hallucination_risk")


def neurons(references: str | Path | Iterable[str | Path]) -> "pd.DataFrame":
    """Every neuron of one or more references.

    Columns: `file` (as given), `model`, `layer`, `index`, `weight` (the probe's), `stability` (share of the resamples
    in which it was selected again), the last two missing where they are not known.

    Args:
        references: neuron files, probe directories, logs of `probe`, digests or Hub ids.

    Raises:
        UsageError: one that cannot be read, or is of an L2 probe.
    """
    import pandas

    found = [data_frame([], NEURONS)]
    for name in [references] if isinstance(references, str | Path) else references:
        frame = resolve(name).signed("both").to_frame()
        frame.insert(0, "file", str(name))
        found.append(frame)
    return pandas.concat(found[1:], ignore_index=True) if len(found) > 1 else found[0]


# ---- reading logs --------------------------------------------------------------------------------


def _read(logs: "Logs") -> "Iterator[EvalLog]":
    try:
        yield from read_logs(logs, attachments=True)
    except UsageError as error:
        raise FrameError(str(error)) from error


def _common(log: "EvalLog") -> dict[str, Any]:
    return {"log": log.location, "model": log.eval.model, "dataset": log.eval.dataset.name, "task": stage_of(log)}


def _scores(logs: "Logs", *kinds: set[str]) -> "Iterator[tuple[dict[str, Any], EvalSample, Score, dict[str, Any]]]":
    """The scores whose metadata has all keys of one of the kinds: what all rows of the log share, sample, score, it."""
    for log in _read(logs):
        common = _common(log)
        with suppress(ValueError):  # another provider's alpha
            common["alpha"] = scaling_of(log.eval.model_args)[1]
        for found in scores_in(log, *kinds):
            yield common, *found


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...], logs: "Logs", what: str) -> "pd.DataFrame":
    """The named columns first, then what else the rows have."""
    if not rows:
        given = f"{logs} holds" if isinstance(logs, str | Path) else "the logs given hold"
        raise FrameError(f"{given} no {what}")
    kept = [*columns, *(name for name in dict.fromkeys(key for row in rows for key in row) if name not in columns)]
    kept = [name for name in kept if name in columns or name not in ("task", "alpha")]
    return data_frame(rows, kept)
