"""A run as tidy data frames: one row an answer, an answer that was tried, a neuron, an answer at one alpha.

```python
from hneurons_eval.artifacts import frames

draws = frames.answers("logs/demo")        # of collect
tried = frames.detections("logs/demo")     # of probe and detect
swept = frames.sweep("logs/demo")          # of closed_book, falseqa and the like
where = frames.neurons("probe.neurons.json")
swept[swept.alpha != 1].groupby(["set", "alpha"]).accuracy.mean()
```

Logs are given as files, as directories (of which all logs of the right kind are read), or as `EvalLog`s. Needs pandas:
`pip install hneurons-eval[frames]`.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Score

    Logs = str | Path | EvalLog | Iterable[str | Path | EvalLog]

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
NEURONS = ("file", "model", "layer", "index", "weight", "stability")
BASELINE_ALPHA = "no-op"


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

    Columns: `log`, `model`, `dataset`, `task`, `item`, `cluster` (items that belong together), `series` (what one log
    holds several of), `alpha`, `set` (`neurons`, `control 1`, ..., and `no-op` at alpha 1, where one answer stands for
    all sets), `kind` of the control set; and a column for each outcome (`accuracy`, `compliance`, `truncated`,
    ...): 0, 1 or a share, missing where it is not defined.

    Raises:
        FrameError: no such scores in the logs.
    """
    rows = []
    for common, _, _, details in _scores(logs, {"alpha", "item", "outcomes"}):
        alpha, outcomes, kinds = float(details["alpha"]), details["outcomes"], details.get("kinds") or ()
        for number in range(max((len(values) for values in outcomes.values()), default=0)):
            own = BASELINE_ALPHA if alpha == 1.0 else "neurons"
            rows.append(
                {
                    **common,
                    **{name: details.get(name) for name in ("item", "cluster", "series")},
                    "alpha": alpha,
                    "set": f"control {number}" if number else own,
                    "kind": kinds[number - 1] if 0 < number <= len(kinds) else None,
                    **{name: values[number] for name, values in outcomes.items()},
                }
            )
    return _frame(rows, SWEEP, logs, "answers with neurons scaled")


def neurons(files: str | Path | Iterable[str | Path]) -> "pd.DataFrame":
    """Every neuron of neuron files or probe directories.

    Columns: `file`, `model`, `layer`, `index`, `weight` (the probe's), `stability` (share of the resamples in which it
    was selected again), the last two missing where they are not known.

    Raises:
        NeuronSetError, ProbeError: a file that cannot be read.
    """
    from hneurons_eval.models.neuron_set import NeuronSet

    rows = []
    for file in [files] if isinstance(files, str | Path) else files:
        found = NeuronSet.load(file)
        for place in range(len(found)):
            rows.append(
                {
                    "file": str(file),
                    "model": found.model,
                    "layer": int(found.layers[place]),
                    "index": int(found.indices[place]),
                    "weight": None if found.weights is None else float(found.weights[place]),
                    "stability": None if found.stability is None else float(found.stability[place]),
                }
            )
    return _pandas().DataFrame(rows, columns=list(NEURONS))


# ---- reading logs --------------------------------------------------------------------------------


def _scores(logs: "Logs", *kinds: set[str]) -> "Iterator[tuple[dict[str, Any], EvalSample, Score, Mapping[str, Any]]]":
    """The scores whose metadata has all keys of one of the kinds: what all rows of the log share, sample, score, it."""
    for log in _read(logs):
        common = {
            "log": log.location,
            "model": log.eval.model,
            "dataset": log.eval.dataset.name,
            "task": log.eval.task.split("/")[-1],
        }
        for sample in log.samples or []:
            for score in (sample.scores or {}).values():
                details = score.metadata or {}
                if any(kind <= details.keys() for kind in kinds):
                    yield common, sample, score, details


def _read(logs: "Logs") -> "Iterator[EvalLog]":
    from inspect_ai.log import EvalLog, read_eval_log

    for one in [logs] if isinstance(logs, str | Path | EvalLog) else logs:
        if isinstance(one, EvalLog):
            yield one
            continue
        path = Path(one)
        files = sorted(path.glob("*.eval")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise FrameError(f"no log at {path}; give an Inspect log or a directory of them")
        for file in files:
            try:
                log = read_eval_log(str(file), resolve_attachments=True)
            except Exception as error:
                raise FrameError(f"{file} is not an Inspect log ({type(error).__name__})") from error
            log.location = log.location or str(file)
            yield log


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...], logs: "Logs", what: str) -> "pd.DataFrame":
    """The named columns first, then what else the rows have."""
    if not rows:
        given = f"{logs} holds" if isinstance(logs, str | Path) else "the logs given hold"
        raise FrameError(f"{given} no {what}")
    kept = [*columns, *(name for name in dict.fromkeys(key for row in rows for key in row) if name not in columns)]
    if "task" not in columns:
        kept.remove("task")
    return _pandas().DataFrame(rows, columns=kept)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("data frames need pandas: pip install hneurons-eval[frames]") from error
    return pandas
