"""Outcomes of the answers of a sweep over alpha, and the figures over all of them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from inspect_ai.scorer import Metric, SampleScore, Score, metric
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.dose_response import Row, arrange, corrected, dose_response, with_series
from hneurons_eval.analysis.metrics import headline_first
from hneurons_eval.analysis.sweep_parameters import SUMMARY
from hneurons_eval.judging.degeneration import is_degenerate
from hneurons_eval.scorers.once import computed_once
from hneurons_eval.util.markdown import quoted

MAX_ALPHAS = 100
"""Most alphas with all figures among the metrics: Inspect's tables and viewer have a column for each metric."""


class Outcome(NamedTuple):
    """A judge's outcome of one answer.

    Attributes:
        value: a word for people: `complied`, `refuted`.
        outcomes: by name, logged as numbers; None where it is not defined, as compliance of what cannot be parsed.
        said: reason, for the explanation.
        generated: whether the text was generated, so that its length, end and form mean something.
    """

    value: str
    outcomes: Mapping[str, bool | float | None]
    said: str = ""
    generated: bool = True


JudgeReply = Callable[[Mapping[str, Any]], Awaitable[Outcome]]
"""From what was kept of a reply (`text`, `stop`, `tokens`, and what the dialogue added) to its outcome."""


async def score_sweep(state: TaskState, judge: JudgeReply) -> Score:
    """Score the answer of a sample and those of its control sets.

    Beside what the judge says every generated reply has the outcomes `truncated` (stopped by the limit on tokens),
    `degenerate` (empty, repeating itself, or in another language), and `response_tokens`.
    """
    if state.sample_id == SUMMARY:
        return Score.unscored(reason="summary", explanation=str(state.metadata.get(SUMMARY, "")))
    reply = state.store.get("reply")
    if reply is None:
        return Score.unscored(reason="no_answer", explanation="the model was not asked")
    asked = str(state.metadata.get("question") or state.input_text)
    found = [await _outcomes(one, asked, judge) for one in (reply, *state.store.get("controls", []))]
    own = found[0]
    names = list(dict.fromkeys(name for one in found for name in one.outcomes))
    alpha = float(state.metadata["alpha"])
    epoch = f"#{state.epoch}" if state.epoch > 1 else ""
    metadata = {
        "alpha": alpha,
        "item": f"{state.metadata['item']}{epoch}",
        "cluster": state.metadata.get("cluster") or state.metadata["item"],
        "series": state.metadata.get("series", ""),
        "kinds": state.metadata.get("kinds", []),
        "outcomes": {name: [one.outcomes.get(name) for one in found] for name in names},
    }
    noted = [name for name in ("truncated", "degenerate") if own.outcomes.get(name)]
    head = f"**alpha {alpha:g}: {own.value}**" + (f" ({', '.join(noted)})" if noted else "")
    explanation = "\n\n".join(part for part in (head, own.said, quoted(str(reply["text"]))) if part)
    return Score(value=own.value, answer=str(reply["text"]), explanation=explanation, metadata=metadata)


async def _outcomes(reply: Mapping[str, Any], asked: str, judge: JudgeReply) -> Outcome:
    found = await judge(reply)
    outcomes = dict(found.outcomes)
    if found.generated:
        outcomes["truncated"] = reply["stop"] == "max_tokens"
        outcomes["degenerate"] = is_degenerate(str(reply["text"]), asked)
        outcomes["response_tokens"] = reply["tokens"]
    numbers = {name: None if value is None else float(value) for name, value in outcomes.items()}
    return found._replace(outcomes=numbers)


def rows_of(details: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows of a sweep from its samples' score metadata; others are left out."""
    return [
        Row(
            item=str(one["item"]),
            alpha=float(one["alpha"]),
            outcomes=one["outcomes"],
            series=str(one.get("series") or ""),
            cluster=str(one.get("cluster") or one["item"]),
            kinds=one.get("kinds", ()),
        )
        for one in details
        if "outcomes" in one
    ]


def figures_of(rows: Sequence[Row], headlines: Sequence[str], order: Sequence[str] = ()) -> dict[str, float]:
    """All figures of a sweep; names carry their series (`plain/compliance@1`) where there are several.

    Args:
        rows: of all samples.
        headlines: outcomes that are reported in full, the primary one first.
        order: series of which the first has the primary outcome (`dose_response.corrected`).
    """
    by_series = {series: dose_response(sweep, headlines) for series, sweep in arrange(rows).items()}
    return with_series(corrected(by_series, headlines, order))


def thinned(figures: Mapping[str, float], headlines: Sequence[str]) -> dict[str, float]:
    """The figures that are metrics of a log: all, or for more than `MAX_ALPHAS` alphas slopes and headline curves."""
    alphas = {name.partition("@")[2] for name in figures if "@" in name}
    if len(alphas) <= MAX_ALPHAS:
        return dict(figures)
    curves = {f"{headline}{end}" for headline in headlines for end in ("", "_low", "_high")}
    return {
        name: value
        for name, value in figures.items()
        if "@" not in name or name.partition("@")[0].rpartition("/")[2] in curves
    }


@metric(name="dose_response", scores="unreduced")
def dose_response_figures(headlines: Sequence[str] = ("compliance",), order: Sequence[str] = ()) -> Metric:
    """Each outcome at each alpha, its slope, and differences to the baseline, beside control sets.

    Of a sweep over more than 100 alphas the metrics are slopes and headline curves only; the sample `dose-response`
    has the tables of all, and the answers are in `hneurons_eval.artifacts.frames.sweep`.

    Args:
        headlines: outcomes that are reported in full; the first is the primary outcome, whose slope lists of logs show.
        order: series of which the first has the primary outcome; others follow by name.
    """

    def figures(scores: list[SampleScore]) -> dict[str, float]:
        found = figures_of(rows_of(score.score.metadata or {} for score in scores), headlines, order)
        return headline_first(thinned(found, headlines), *(f"{name}_slope" for name in headlines))

    return computed_once(figures)
