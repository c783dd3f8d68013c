"""What a report says of a log whose answers have risks: do they tell wrong from right, and what withholding would win.

```python
risk_log = risk_log_of(read_log("LOG"), "a task")   # None where the log has no such scores
section(risk_log), overview_line(risk_log), picture(section(risk_log))
```
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hneurons_eval.analysis.selective_prediction import ScoredAnswer
from hneurons_eval.report import figures as draw
from hneurons_eval.report.wording import Figures, Line, interval, line

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalScore

SCORER = "hallucination_risk"
RIVALS = {
    "logprob_auroc": "the mean log-probability of the answer",
    "length_auroc": "the length of the response",
}
"""What the risk is compared with; neither needs a probe."""
MIN_PER_CLASS = 10
"""Right and wrong answers below which an AUROC says too little for a verdict."""


class RiskLog(NamedTuple):
    """A log with risks: what it is of, its figures (as `risk_figures` gives them), the answers that have a risk."""

    title: str
    location: str
    status: str
    model: str
    figures: Figures
    answers: tuple[ScoredAnswer, ...]


def risk_score_in(log: "EvalLog") -> "EvalScore | None":
    """The score of a log that holds risks, or None."""
    scores = log.results.scores if log.results else []
    return next((score for score in scores if score.scorer.split("/")[-1] == SCORER), None)


def risk_log_of(log: "EvalLog", title: str) -> RiskLog | None:
    """The risks in a log, which has to hold its samples; None where it has none."""
    score = risk_score_in(log)
    if score is None:
        return None
    figures = {name: float(one.value) for name, one in score.metrics.items()}
    answers = []
    for sample in log.samples or []:
        given = (sample.scores or {}).get(score.name)
        details = (given.metadata or {}) if given else {}
        if _is_number(details.get("probability")) and _is_number(details.get("threshold")):
            try:
                answers.append(ScoredAnswer.of(sample.id, details))
            except (TypeError, ValueError):
                continue  # written by another program
    return RiskLog(title, log.location, str(log.status), log.eval.model, figures, tuple(answers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def section(one: RiskLog) -> dict[str, Any]:
    """The table and what its figure is drawn from; plain JSON values."""
    judged = [answer for answer in one.answers if answer.correct is not None and answer.done != "abstained"]
    return {
        "title": one.title,
        "figures": dict(one.figures),
        "rows": _rows(one.figures),
        "sentence": overview_line(one)["sentence"],
        "losses": [1.0 - float(answer.correct or 0.0) for answer in judged],
        "risks": [answer.risk for answer in judged],
        "threshold": judged[0].threshold if judged else None,
    }


def _rows(figures: Figures) -> list[list[str]]:
    """What is known, as names with values."""
    named = {
        "mean_risk": "mean risk",
        "above_threshold": "share above the threshold",
        "error": "wrong, by the task's own scorer",
        "auroc": "AUROC of the risk: a wrong answer has the higher one",
        "logprob_auroc": "the same by the mean log-probability",
        "length_auroc": "the same by the length",
        "coverage_at_threshold": "share of answers not above the threshold",
        "error_at_threshold": "wrong among those",
        "aurc": "mean error over all coverages, least risky first",
        "aurc_random": "the same in any order by chance",
        "aurc_oracle": "the same in the best order there is",
        "aurc_gain": "won over chance",
        "brier": "Brier score",
        "calibration_error": "calibration error",
    }
    counts = {
        "answers": "answers with a risk",
        "scored_by_task": "of them scored by the task",
        "not_attempted": "not attempted",
        "abstained": "withheld by the solver",
        "answered_again": "answered again by the solver",
    }
    rows = [[label, f"{int(figures[name])}"] for name, label in counts.items() if name in figures]
    return rows + [[label, interval(figures, name)] for name, label in named.items() if name in figures]


def overview_line(one: RiskLog) -> Line:
    """Whether the risk tells wrong answers from right ones, better than what needs no probe."""
    found, what = one.figures, f"risk: {one.title}"
    answers = int(found.get("answers", 0))
    if not answers:
        return line("grey", what, "", "No answer has a risk; the explanations in the log say why.")
    if "error" not in found:
        said = f"{answers} answers have a risk, but no score of the task; put its scorer before hallucination_risk."
        return line("grey", what, "", said)
    scored = int(found.get("scored_by_task", answers))
    count = round(scored * found["error"])
    wrong = f"{count} of {scored} answers are wrong ({100 * found['error']:.1f} %)"
    if "auroc" not in found:
        return line("grey", what, "", f"{wrong}: with one kind only there is nothing to tell apart.")
    low, figure = found.get("auroc_low", 0.0), f"AUROC {interval(found, 'auroc')}"
    if (fewer := min(count, scored - count)) < MIN_PER_CLASS:
        said = f"{wrong}: {fewer} of the rarer kind are too few for a verdict ({MIN_PER_CLASS} are needed)."
        return line("grey", what, "too few", said)
    if low == found.get("auroc_high"):
        return line("grey", what, figure, f"{wrong}; an interval without width allows no verdict: try more answers.")
    if not low > 0.5:
        return line("red", what, figure, f"{wrong}; the risk does not tell them from right ones (interval reaches .5).")
    if near := [label for name, label in RIVALS.items() if found.get(name, 0.0) >= low]:
        said = f"{wrong}; the risk tells them better than chance, but not clearly better than {' or '.join(near)}."
        return line("amber", what, figure, said)
    saved = ""
    if "error_at_threshold" in found:
        saved = (
            f" {100 * found['coverage_at_threshold']:.1f} % are not above the threshold; of these "
            f"{100 * found['error_at_threshold']:.1f} % are wrong."
        )
    return line("green", what, figure, f"{wrong}; the risk tells them from right ones.{saved}")


def picture(said: Mapping[str, Any]) -> bytes | None:
    """The risk-coverage curve of a section; None where there is nothing to draw."""
    if not said["losses"]:
        return None
    return draw.risk_coverage(said["losses"], said["risks"], said["threshold"])
