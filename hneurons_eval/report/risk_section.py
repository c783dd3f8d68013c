"""What a report says of a log whose answers have risks: do they tell wrong from right, and what withholding would win.

```python
stage = risk_log(read_log("LOG"), "a task")
section(stage), overview_line(stage)
```
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hneurons_eval.analysis.selective_prediction import ScoredAnswer
from hneurons_eval.report.wording import Line, StageFigures, interval, is_number, line

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalScore

SCORER = "hallucination_risk"
RIVALS = {"logprob_auroc": "the mean log-probability of the answer", "length_auroc": "the length of the response"}
"""What the risk is compared with; neither needs a probe."""
MIN_PER_CLASS = 10
"""Right and wrong answers below which an AUROC says too little for a verdict."""
COUNTS = {
    "answers": "answers with a risk",
    "scored_by_task": "of them scored by the task",
    "not_attempted": "not attempted",
    "abstained": "withheld by the solver",
    "answered_again": "answered again by the solver",
}
SHARES = {
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


def risk_scores(log: "EvalLog") -> "list[EvalScore]":
    """The scores of a log that hold risks."""
    scores = log.results.scores if log.results else []
    return [score for score in scores if score.scorer.split("/")[-1] == SCORER]


def risk_log(log: "EvalLog", title: str) -> StageFigures:
    """What a log with risks holds; it has to have its samples."""
    score, *_ = risk_scores(log)
    answers = []
    for sample in log.samples or []:
        given = (sample.scores or {}).get(score.name)
        details = (given.metadata or {}) if given else {}
        if is_number(details.get("probability")) and is_number(details.get("threshold")):
            with suppress(TypeError, ValueError):  # written by another program
                answers.append(ScoredAnswer.of(sample.id, details))
    figures = {name: float(one.value) for name, one in score.metrics.items()}
    facts = {"model": log.eval.model}
    return StageFigures("risk", figures, log.location, facts, title, status=str(log.status), details=answers)


def section(stage: StageFigures) -> dict[str, Any]:
    """The table and what its figure is drawn from; plain JSON values."""
    found = stage.figures
    judged = [answer for answer in stage.details if answer.correct is not None and answer.done != "abstained"]
    rows = [[label, f"{int(found[name])}"] for name, label in COUNTS.items() if name in found]
    rows += [[label, interval(found, name)] for name, label in SHARES.items() if name in found]
    return {
        "title": stage.name,
        "figures": dict(found),
        "rows": rows,
        "sentence": overview_line(stage)["sentence"],
        "losses": [1.0 - float(answer.correct or 0.0) for answer in judged],
        "risks": [answer.risk for answer in judged],
        "threshold": judged[0].threshold if judged else None,
    }


def overview_line(stage: StageFigures) -> Line:
    """Whether the risk tells wrong answers from right ones, better than what needs no probe."""
    found, what = stage.figures, f"risk: {stage.name}"
    answers = int(found.get("answers", 0))
    if not answers:
        return line("grey", what, "", "No answer has a risk; the explanations in the log say why.")
    if "error" not in found:
        said = f"{answers} answers have a risk, but no score of the task; put its scorer before hallucination_risk."
        return line("grey", what, "", said)
    scored = int(found.get("scored_by_task", answers))
    count = round(scored * found["error"])
    fewer = min(count, scored - count)
    wrong = f"{count} of {scored} answers are wrong ({100 * found['error']:.1f} %)"
    if "auroc" not in found:
        return line("grey", what, "", f"{wrong}: with one kind only there is nothing to tell apart.")
    if fewer < MIN_PER_CLASS:
        said = f"{wrong}: {fewer} of the rarer kind are too few for a verdict ({MIN_PER_CLASS} are needed)."
        return line("grey", what, "too few", said)
    low, figure = found.get("auroc_low", 0.0), f"AUROC {interval(found, 'auroc')}"
    if low == found.get("auroc_high"):
        return line("grey", what, figure, f"{wrong}; an interval without width allows no verdict: try more answers.")
    if not low > 0.5:
        return line("red", what, figure, f"{wrong}; the risk does not tell them from right ones (interval reaches .5).")
    if near := [label for name, label in RIVALS.items() if found.get(name, 0.0) >= low]:
        said = f"{wrong}; the risk tells them better than chance, but not clearly better than {' or '.join(near)}."
        return line("amber", what, figure, said)
    said = f"{wrong}; the risk tells them from right ones."
    if "error_at_threshold" in found:
        coverage, error = (100 * found[f"{name}_at_threshold"] for name in ("coverage", "error"))
        said += f" {coverage:.1f} % are not above the threshold; of these {error:.1f} % are wrong."
    return line("green", what, figure, said)
