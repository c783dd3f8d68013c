"""Selective prediction: detection of wrong answers by their risk, and risk-coverage curves.

```python
risk_coverage(losses, risks)               # coverage [n], error among the answers that are given [n]
area_under_risk_coverage(losses, risks)    # AURC: its mean over all coverages; lower is better
risk_figures(answers)                      # all of it with intervals, as metrics for a log
```

A *loss* is what an answer costs if it is given: 1 where it is wrong, 0 where it is right, or anything between. Answers
are given in the order of their risk, the least risky first. *Coverage* is the share that is given, and the *selective
error* the mean loss of those (El-Yaniv & Wiener 2010; Geifman & El-Yaniv 2017, section 2, where it is called the
selective risk). The area under the curve is the mean of the selective error over the coverages 1/n, 2/n, ..., 1
(Geifman, Uziel & El-Yaniv 2019, section 3). An order by chance has an expected area of the overall error, and the
best one that there is, the oracle's, orders by the losses themselves: what the area is above that is its *excess*.

Answers of equal risk have no order. Every figure is then the expectation over all orders of them, exactly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.bootstrap import flat, interval_if_known
from hneurons_eval.analysis.calibration import calibration
from hneurons_eval.analysis.metrics import Statistic, auroc_statistic, mean_statistic

Floats = NDArray[np.float64]
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5}
"""Scores of Inspect's letters for correct, incorrect and partial; `N` is no answer."""
WRONG = 0.5
"""An answer is wrong if its task score is below this, in metrics that need two classes."""


def risk_coverage(losses: ArrayLike, risks: ArrayLike) -> tuple[Floats, Floats]:
    """Risk-coverage curve: coverage and selective error of the 1, 2, ..., n answers of lowest risk, `[answers]` each.

    Args:
        losses: of each answer, `[answers]`.
        risks: of each answer, higher is riskier.

    Raises:
        ValueError: no answers, two lengths, or values that are not finite.
    """
    loss, risk = _checked(losses, risks)
    order = np.argsort(risk, kind="stable")
    starts = _block_starts(risk[order])
    sizes = np.diff(np.append(starts, len(loss)))
    # The expected loss at any place among equals is their mean.
    expected = np.repeat(np.add.reduceat(loss[order], starts) / sizes, sizes)
    given = np.arange(1, len(loss) + 1)
    return given / len(loss), np.cumsum(expected) / given


def area_under_risk_coverage(losses: ArrayLike, risks: ArrayLike) -> float:
    """The mean selective error over all coverages (AURC); arguments and errors as `risk_coverage`."""
    return float(risk_coverage(losses, risks)[1].mean())


def area_statistic(losses: ArrayLike, risks: ArrayLike) -> Statistic:
    """The same as a function of row weights, whole numbers, for `bootstrap_interval`.

    Among W answers of equal risk and mean loss m, behind A answers with losses that sum to L, the j-th adds
    (L + j m) / (A + j) = m + (L - m A) / (A + j), which sums over j to W m + (L - m A) (H(A + W) - H(A)), with H the
    harmonic numbers.
    """
    loss, risk = _checked(losses, risks)
    order = np.argsort(risk, kind="stable")
    starts = _block_starts(risk[order])
    ordered = loss[order]

    def statistic(weights: Floats) -> Floats:
        drawn = weights[:, order]
        size = np.add.reduceat(drawn, starts, axis=1)  # W, [resamples, blocks]
        own = np.add.reduceat(drawn * ordered, starts, axis=1)  # W m
        before, lost = np.cumsum(size, axis=1) - size, np.cumsum(own, axis=1) - own  # A, L
        total = size.sum(axis=1)
        harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, int(total.max(initial=0)) + 1))])
        gap = harmonic[(before + size).astype(np.int64)] - harmonic[before.astype(np.int64)]
        mean = np.divide(own, size, out=np.zeros_like(own), where=size > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (own + (lost - mean * before) * gap).sum(axis=1) / total

    return statistic


def score_of(value: Any) -> tuple[float | None, bool]:
    """A task's score as a number from 0 to 1, or None where it is something else; and whether it says `no answer`."""
    if isinstance(value, str):
        return LETTERS.get(value), value == "N"
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value), False
    return None, False


@dataclass(frozen=True)
class ScoredAnswer:
    """One answer with its risk and its task score.

    Attributes:
        question: the unit of resampling; answers of one sample in several epochs share it.
        risk: probability of being hallucinated.
        threshold: of the probe.
        correct: the task's score from 0 to 1; None where it has none, or the answer attempts nothing.
        refused: whether the task's scorer found that nothing was attempted.
        done: what a solver did about the risk: `kept`, `abstained`, `answered again`, `not judged`; empty without one.
        length: tokens of the response.
        logprob: mean log-probability of the answer's tokens, in nats, or None.
    """

    question: str
    risk: float
    threshold: float
    correct: float | None = None
    refused: bool = False
    done: str = ""
    length: int = 0
    logprob: float | None = None

    @classmethod
    def of(cls, question: object, details: Mapping[str, Any]) -> "ScoredAnswer":
        """From what the scorer `hallucination_risk` writes into its scores' metadata."""
        correct = details.get("task_score")
        return cls(
            str(question),
            float(details["probability"]),
            float(details["threshold"]),
            None if correct is None else float(correct),
            bool(details.get("refused")),
            str(details.get("done") or ""),
            int(details.get("response_tokens") or 0),
            details.get("answer_logprob"),
        )


def risk_figures(answers: Sequence[ScoredAnswer]) -> dict[str, float]:
    """Metrics of risks and of what they are compared with; 95 % intervals are bootstrapped over questions.

    Answers that were withheld, and those that attempt nothing, are counted and take no part in the comparison with
    the task's scores.

    Returns:
        `answers`, `mean_risk`, `above_threshold` (a share); `abstained` and `answered_again` (counts) where a solver
        acted. Where the task scored answers: `scored_by_task`, `not_attempted`, `error` (mean loss) and, at the
        probe's threshold, `coverage_at_threshold` and `error_at_threshold`. With right and wrong ones: `auroc`,
        `logprob_auroc` and `length_auroc` (of the negative mean log-probability and of the length), and what
        `calibration.calibration` gives; `aurc`, `aurc_oracle`, `aurc_random`, `aurc_excess` above the oracle, and
        `aurc_gain` below random order.
    """
    found: dict[str, float] = {"answers": len(answers)}
    if not answers:
        return found
    risks = np.array([answer.risk for answer in answers])
    found |= flat("mean_risk", interval_if_known(mean_statistic(risks), [answer.question for answer in answers]))
    found["above_threshold"] = float(np.mean([answer.risk > answer.threshold for answer in answers]))
    if any(answer.done for answer in answers):
        found["abstained"] = sum(answer.done == "abstained" for answer in answers)
        found["answered_again"] = sum(answer.done == "answered again" for answer in answers)
    judged = [answer for answer in answers if answer.correct is not None and answer.done != "abstained"]
    found["not_attempted"] = sum(answer.refused and answer.done != "abstained" for answer in answers)
    return found | (_against_task(judged) if judged else {})


def _against_task(answers: Sequence[ScoredAnswer]) -> dict[str, float]:
    losses = np.array([1.0 - float(answer.correct or 0.0) for answer in answers])
    risks = np.array([answer.risk for answer in answers])
    questions = [answer.question for answer in answers]
    given = np.array([answer.risk <= answer.threshold for answer in answers])
    found: dict[str, float] = {"scored_by_task": len(answers)}
    found |= flat("error", interval_if_known(mean_statistic(losses), questions))
    found["coverage_at_threshold"] = float(given.mean())
    if given.any():
        within = [question for question, kept in zip(questions, given, strict=True) if kept]
        found |= flat("error_at_threshold", interval_if_known(mean_statistic(losses[given]), within))
    wrong = (losses > 1.0 - WRONG).astype(int)
    if len(set(wrong.tolist())) < 2:
        return found
    found |= flat("auroc", interval_if_known(auroc_statistic(wrong, risks), questions))
    logprobs = [answer.logprob for answer in answers]
    if all(value is not None for value in logprobs):
        surprise = -np.array(logprobs, np.float64)
        found |= flat("logprob_auroc", interval_if_known(auroc_statistic(wrong, surprise), questions))
    lengths = np.array([answer.length for answer in answers], np.float64)
    found |= flat("length_auroc", interval_if_known(auroc_statistic(wrong, lengths), questions))
    found |= calibration(wrong, risks)
    area, oracle, mean = area_statistic(losses, risks), area_statistic(losses, losses), mean_statistic(losses)
    found |= flat("aurc", interval_if_known(area, questions))
    found["aurc_oracle"] = area_under_risk_coverage(losses, losses)
    found["aurc_random"] = float(losses.mean())
    found |= flat("aurc_excess", interval_if_known(lambda weights: area(weights) - oracle(weights), questions))
    return found | flat("aurc_gain", interval_if_known(lambda weights: mean(weights) - area(weights), questions))


def _block_starts(ordered: Floats) -> NDArray[np.int64]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, np.diff(ordered) > 0))


def _checked(losses: ArrayLike, risks: ArrayLike) -> tuple[Floats, Floats]:
    loss, risk = np.asarray(losses, np.float64), np.asarray(risks, np.float64)
    if loss.ndim != 1 or loss.shape != risk.shape or not loss.size:
        raise ValueError(f"losses and risks must be lists of one length, not {loss.shape} and {risk.shape}.")
    if not (np.isfinite(loss).all() and np.isfinite(risk).all()):
        raise ValueError("losses and risks must be finite.")
    return loss, risk
