"""Length audit: does the probe detect response length? Three tests, each with an interval over questions.

```python
audit = length_audit(labels, lengths, questions, probabilities, contributions)
print(audit.flagged, audit.sentence)
```

Three checks, with intervals of 98 %, so that where length has nothing to do with it about one audit in twenty is
flagged:

1. length alone: does its AUROC differ from .5?
2. the probe's score: how well it tells answers of one length apart, beside how well it tells all of them apart;
3. single neurons: does length move a neuron's contribution more than truth does, or less? On fresh answers only: on
   those that the neurons were chosen on, truth has an unfair start.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.audits import Audit
from hneurons_eval.analysis.bootstrap import RESAMPLES, Interval, bootstrap_interval, flat, resample_weights
from hneurons_eval.analysis.metrics import Statistic, auroc_statistic
from hneurons_eval.analysis.tests import holm

Floats = NDArray[np.float64]
LEVEL = 0.98
MAX_STRATA = 10
MIN_STRATUM = 20
"""Minimum number of answers in a stratum of like lengths."""
MIN_CELL = 10
"""Minimum number of answers in each of the four cells (short or long, faithful or hallucinated)."""


def length_audit(
    labels: ArrayLike,
    lengths: ArrayLike,
    questions: ArrayLike,
    probabilities: ArrayLike | None = None,
    contributions: NDArray[np.floating] | None = None,
    seed: int = 0,
) -> Audit:
    """Audit of length: as a predictor of the label, in the probe's score, and in single neurons.

    Flagged where length alone tells the label (its interval excludes .5), where the score tells answers of one length
    apart less well than it tells all answers apart (the interval of the difference excludes 0) or not at all (the
    interval reaches .5, while that of all answers does not), or where more neurons follow length than truth.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        lengths: tokens of each response, `[answers]`.
        questions: of each answer, the unit of resampling, `[answers]`.
        probabilities: by a probe that was not fitted on the answer, `[answers]`; None leaves the second check out.
        contributions: of the probe's neurons with either sign, `[answers, neurons]`, on answers that the probe was not
            trained on; None leaves the third out.
        seed: of the resamples.
    """
    y, size = np.asarray(labels), np.asarray(lengths, np.float64)
    if len(set(y.tolist())) < 2:
        return Audit("length", False, "one class only, so length cannot be compared with truth")
    figures: dict[str, float] = {}
    said, flags = [], []
    alone = _interval(auroc_statistic(y, size), questions, seed)
    if alone is not None:
        figures |= flat("length_alone_auroc", alone)
        flags.append(not alone.low <= 0.5 <= alone.high)
        said.append(f"length alone tells the label with AUROC {alone.text('.2f')}")
    if probabilities is not None:
        found, flagged, sentence = _score(y, np.asarray(probabilities, np.float64), size, questions, seed)
        figures |= found
        flags.append(flagged)
        said.append(sentence)
    if contributions is None:
        said.append("single neurons are compared on fresh answers only")
    else:
        found, flagged, sentence = _neurons(contributions, y, size, questions, seed)
        figures |= found
        flags.append(flagged)
        said.append(sentence)
    return Audit("length", any(flags), "; ".join(said), figures)


def _interval(statistic: Statistic, questions: ArrayLike, seed: int) -> Interval | None:
    try:
        return bootstrap_interval(statistic, questions, n=RESAMPLES, level=LEVEL, seed=seed)
    except ValueError:
        return None  # too few answers for it


# ---- the score ------------------------------------------------------------------------------------


def _score(
    y: NDArray[np.int64], p: Floats, size: Floats, questions: ArrayLike, seed: int
) -> tuple[Mapping[str, float], bool, str]:
    strata = length_strata(size)
    pooled_statistic, within_statistic = auroc_statistic(y, p), pair_weighted_statistic(y, p, strata)
    pooled = _interval(pooled_statistic, questions, seed)
    within = _interval(within_statistic, questions, seed)
    through = _interval(lambda weights: pooled_statistic(weights) - within_statistic(weights), questions, seed)
    if pooled is None or within is None or through is None:
        return {}, False, "too few answers of one length to compare the score within lengths"
    figures = flat("auroc_given_length", within) | flat("auroc_through_length", through)
    sentence = (
        f"the probe's score tells answers of one length apart with AUROC {within.text('.2f')}, "
        f"all answers with {pooled.estimate:.2f}"
    )
    if pooled.low <= 0.5:
        return figures, False, f"{sentence}, which is not shown to be better than chance"
    if within.low <= 0.5:
        return figures, True, f"{sentence}: not shown to tell more than length"
    if through.low > 0:
        return figures, True, f"{sentence}: part of what it tells is length ({through.text('.2f')})"
    return figures, False, sentence


def length_strata(lengths: ArrayLike) -> NDArray[np.int64]:
    """Strata of about one length, numbers from 0, `[answers]`: quantiles; equal lengths are never parted."""
    size = np.asarray(lengths, np.float64)
    bins = max(1, min(MAX_STRATA, len(size) // MIN_STRATUM))
    _, member, counts = np.unique(size, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / len(size)
    return np.minimum(middle * bins, bins - 1).astype(np.int64)[member]


def pair_weighted_statistic(labels: ArrayLike, scores: ArrayLike, strata: ArrayLike) -> Statistic:
    """AUROC over pairs of one stratum, as a function of row weights, for `bootstrap_interval`.

    NaN where no stratum has both classes.

    Args:
        labels: 0 or 1, `[rows]`.
        scores: `[rows]`.
        strata: `[rows]`.
    """
    y, s, members = np.asarray(labels), np.asarray(scores, np.float64), np.asarray(strata)
    parts = [
        (rows, auroc_statistic(y[rows], s[rows]))
        for stratum in np.unique(members)
        if len(set(y[(rows := np.flatnonzero(members == stratum))].tolist())) == 2
    ]

    def statistic(weights: Floats) -> Floats:
        right, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for rows, own in parts:
            here = weights[:, rows]
            number = here[:, y[rows] == 1].sum(axis=1) * here[:, y[rows] == 0].sum(axis=1)
            right += np.where(number > 0, np.nan_to_num(own(here)) * number, 0.0)
            pairs += number
        with np.errstate(invalid="ignore"):
            return right / pairs

    return statistic


# ---- single neurons -------------------------------------------------------------------------------


@dataclass(frozen=True)
class NeuronEffects:
    """Main effects of truth and of length on each neuron's contribution; `[neurons]` each.

    Attributes:
        truth: mean over lengths of (hallucinated - faithful).
        length: mean over labels of (long - short).
        p: two-sided, of |truth| = |length|, adjusted for the number of neurons (Holm 1979).
    """

    truth: Floats
    length: Floats
    p: Floats


def neuron_effects(
    contributions: NDArray[np.floating], labels: ArrayLike, long: ArrayLike, questions: ArrayLike, seed: int = 0
) -> NeuronEffects:
    """Test whether truth or length has the larger effect on each neuron's contribution.

    |truth| and |length| differ where truth - length and truth + length are both other than 0, so p is the larger of
    their two p-values (an intersection-union test, Berger 1982), from standard errors by bootstrap over questions. It
    is exact where the effects are equal and large, and conservative where there is neither.

    Args:
        contributions: on answers that the neurons were not chosen on, `[answers, neurons]`.
        labels: 1 = hallucinated, `[answers]`.
        long: whether the response is long, `[answers]`; each of the four cells needs answers.
        questions: of each answer, the unit of resampling, `[answers]`.
        seed: of the resamples.
    """
    from scipy.stats import norm

    X, y, side = np.asarray(contributions, np.float64), np.asarray(labels), np.asarray(long, np.bool_)
    masks = [[(y == label) & (side == one) for one in (False, True)] for label in (0, 1)]

    def effects(weights: Floats) -> tuple[Floats, Floats]:
        def mean(mask: NDArray[np.bool_]) -> Floats:
            here = weights[:, mask]
            with np.errstate(invalid="ignore"):
                return (here @ X[mask]) / here.sum(axis=1, keepdims=True)

        (short_f, long_f), (short_h, long_h) = [[mean(mask) for mask in row] for row in masks]
        return (short_h + long_h - short_f - long_f) / 2, (long_f + long_h - short_f - short_h) / 2

    drawn = [effects(weights) for weights in resample_weights(questions, RESAMPLES, seed)]
    truths, lengths = (np.concatenate(part) for part in zip(*drawn, strict=True))
    (truth,), (length,) = effects(np.ones((1, len(y))))
    ps = []
    for sign in (-1, 1):
        deviation = np.nanstd(truths + sign * lengths, axis=0, ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.abs(truth + sign * length) / deviation
        ps.append(2 * norm.sf(np.where(np.isfinite(z), z, 0.0)))
    return NeuronEffects(truth, length, holm(np.maximum(*ps)))


def _neurons(
    contributions: NDArray[np.floating], y: NDArray[np.int64], size: Floats, questions: ArrayLike, seed: int
) -> tuple[Mapping[str, float], bool, str]:
    cut = float(np.median(size))
    # Of the two ways to split at a median that many answers have, the one that is nearer to halves.
    long = min((size > cut, size >= cut), key=lambda side: abs(float(side.mean()) - 0.5))
    cells = {
        f"{length}_{label}": float(((y == truth) & (long == side)).sum())
        for truth, label in ((0, "faithful"), (1, "hallucinated"))
        for side, length in ((False, "short"), (True, "long"))
    }
    if not contributions.shape[1] or min(cells.values()) < MIN_CELL:
        few = f"fewer than {MIN_CELL} answers are short or long and of one class, so single neurons are not compared"
        return cells, False, "the probe has no neurons" if not contributions.shape[1] else few
    found = neuron_effects(contributions, y, long, questions, seed)
    larger = np.abs(found.length) > np.abs(found.truth)
    shown = found.p <= 1 - LEVEL
    by_length, by_truth = int((shown & larger).sum()), int((shown & ~larger).sum())
    figures = {
        "audited_neurons": float(len(larger)),
        "moved_more_by_length": float(larger.sum()),
        "follow_length": float(by_length),
        "follow_truth": float(by_truth),
    }
    sentence = (
        f"of {len(larger)} neurons {by_length} follow length more than truth and {by_truth} truth more than length "
        f"(Holm; the larger effect is that of length in {int(larger.sum())}, a coin would give {len(larger) / 2:g})"
    )
    return cells | figures, by_length > by_truth, sentence
