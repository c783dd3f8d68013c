"""Overlap of two neuron sets and agreement of two probes, with null distributions.

```python
found = overlap(first, second)                     # found.shared, found.jaccard, found.layers, found.weights
shuffled = ShuffledSelections.load(directory)      # selections of the first probe's fit
against_shuffled(first, second, shuffled).p        # overlap beyond that of variable neurons
risks = risk_agreement(p_first, p_second, calls_first, calls_second, questions)
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.bootstrap import Interval, bootstrap_interval, cohens_kappa
from hneurons_eval.analysis.metrics import Statistic, mean_statistic
from hneurons_eval.analysis.shuffled_labels import ShuffledSelections
from hneurons_eval.analysis.tests import permutation_p
from hneurons_eval.models.controls import load_activity, matched_sets
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SD_SETS = 200
SD_NEIGHBOURS = 10
"""Neighbours in rank; with 50 the sets miss the most variable neurons, which L1 selects."""
MIN_FOR_RANKS = 3
"""Minimum number of pairs of a rank correlation."""


@dataclass(frozen=True)
class LayerOverlap:
    """Overlap within one layer.

    Attributes:
        layer: its number.
        first, second, shared: neurons of the first set, of the second, of both with the same sign.
        expected: shared on average by sets of these sizes drawn uniformly from the layer.
    """

    layer: int
    first: int
    second: int
    shared: int
    expected: float


@dataclass(frozen=True)
class Overlap:
    """Overlap of two neuron sets.

    Attributes:
        first, second: neurons of the first set, and of the second.
        shared: neurons in both with weights of the same sign; where a set has no weights, neurons in both.
        opposite: neurons in both with weights of opposite signs.
        total: neurons of the model.
        jaccard: shared / (first + second - shared); 0 for two empty sets.
        expected: shared on average by sets of these sizes that are drawn uniformly from the model. Not a null for
            L1 probes, which prefer neurons of high variance: see `against_shuffled`.
        expected_within_layers: the same, with as many drawn in each layer as the sets have there.
        layers: one by one.
        weights: Spearman's correlation of the weights of neurons in both, or None where weights are missing or fewer
            than three neurons are in both.
    """

    first: int
    second: int
    shared: int
    opposite: int
    total: int
    jaccard: float
    expected: float
    expected_within_layers: float
    layers: tuple[LayerOverlap, ...]
    weights: float | None


def overlap(first: NeuronSet, second: NeuronSet) -> Overlap:
    """Overlap of two neuron sets of one model.

    Raises:
        NeuronSetError: sets of models with other layers, or whose layers are not known.
    """
    layout = layout_of(first, second)
    signed = [_signed(one.flat(layout), one.weights) for one in (first, second)]
    a, b = (np.abs(one) - 1 for one in signed)
    same = signed[0][np.isin(signed[0], signed[1])] if _weighted(first, second) else np.intersect1d(a, b) + 1
    in_both, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    counts = [np.bincount(layers, minlength=len(layout.widths)) for layers in (first.layers, second.layers)]
    shared = np.bincount(layout.unflatten(np.abs(same) - 1)[0], minlength=len(layout.widths))
    expected = counts[0] * counts[1] / np.asarray(layout.widths)
    return Overlap(
        first=len(a),
        second=len(b),
        shared=len(same),
        opposite=len(in_both) - len(same),
        total=layout.total,
        jaccard=_jaccard(len(same), len(a), len(b)),
        expected=len(a) * len(b) / layout.total,
        expected_within_layers=float(expected.sum()),
        layers=tuple(
            LayerOverlap(int(k), int(counts[0][k]), int(counts[1][k]), int(shared[k]), float(expected[k]))
            for k in np.flatnonzero(counts[0] + counts[1])
        ),
        weights=_weights(first, second, at_a, at_b),
    )


def layout_of(first: NeuronSet, second: NeuronSet) -> NeuronLayout:
    """Layout of the model of both sets.

    Raises:
        NeuronSetError: sets of models with other layers, or whose layers are not known.
    """
    if first.widths is None or second.widths is None:
        raise NeuronSetError("a neuron set does not say how wide its model's layers are, so sets cannot be compared")
    if first.widths != second.widths:
        raise NeuronSetError(
            f"the sets are of models with other layers, {NeuronLayout(first.widths)} and "
            f"{NeuronLayout(second.widths)}, so they cannot be compared"
        )
    return NeuronLayout(first.widths)


def _weighted(first: NeuronSet, second: NeuronSet) -> bool:
    return first.weights is not None and second.weights is not None


def _signed(flat: Ints, weights: NDArray[Any] | None) -> Ints:
    """Neuron and sign as one number, `flat + 1` with the sign of the weight."""
    return (flat + 1) * (1 if weights is None else np.where(np.asarray(weights) < 0, -1, 1))


def _jaccard(shared: int, first: int, second: int) -> float:
    union = first + second - shared
    return shared / union if union else 0.0


@dataclass(frozen=True)
class AgainstShuffled:
    """Overlap of a probe's selections on shuffled labels with another probe's neurons.

    Attributes:
        shuffles: their number.
        size: mean number of neurons selected on shuffled labels.
        shared: mean number of those in the other probe; `low` and `high` are the middle 95 %.
        jaccard: mean Jaccard index.
        p: share of shuffles whose Jaccard index is as large as the observed one, (1 + k) / (1 + shuffles). It is
            at least 1 / (1 + shuffles). A small p means that the labels make the overlap, not the variance of neurons
            alone.
    """

    shuffles: int
    size: float
    shared: float
    low: float
    high: float
    jaccard: float
    p: float


def against_shuffled(
    own: NeuronSet, other: NeuronSet, shuffled: ShuffledSelections, sign: str = "both"
) -> AgainstShuffled:
    """Test the overlap of two probes against selections on shuffled labels.

    The null is that `own`'s labels are random: then its neurons are exchangeable with those selected, at the same C,
    on shuffled labels. Both prefer the same neurons of high variance, so that this preference earns nothing. The
    Jaccard index is compared, since selections differ in size; a neuron is shared if the signs are the same.

    Args:
        own: neurons of a probe, of the sign.
        other: neurons of another, of the sign.
        shuffled: selections on shuffled labels of the probe that `own` is of.
        sign: `positive`, `negative` or `both`.

    Raises:
        NeuronSetError: sets of other models, or no shuffles.
    """
    layout = layout_of(own, other)
    if shuffled.total != layout.total or not len(shuffled):
        raise NeuronSetError(
            f"the {len(shuffled)} selections on shuffled labels are of a model of {shuffled.total} neurons, the probe "
            f"of one of {layout.total}; train the probe again"
        )
    theirs = _signed(other.flat(layout), other.weights)
    observed = overlap(own, other).jaccard
    signed = zip(shuffled.sets(sign), shuffled.sets_signs(sign), strict=True)
    drawn = [_signed(flat, signs if _weighted(own, other) else None) for flat, signs in signed]
    if not _weighted(own, other):
        theirs = np.abs(theirs)
    shared = np.array([np.isin(one, theirs).sum() for one in drawn])
    jaccards = [_jaccard(int(k), len(one), len(theirs)) for k, one in zip(shared, drawn, strict=True)]
    low, high = np.quantile(shared, [0.025, 0.975])
    return AgainstShuffled(
        shuffles=len(drawn),
        size=float(np.mean([len(one) for one in drawn])),
        shared=float(shared.mean()),
        low=float(low),
        high=float(high),
        jaccard=float(np.mean(jaccards)),
        p=permutation_p(observed, jaccards),
    )


def sd_matched_overlap(own: NeuronSet, other: NeuronSet, deviation: ArrayLike, seed: int = 0) -> Interval:
    """Overlap of sd-matched sets of `own` with `other`: mean, and the middle 95 %.

    An approximation to the null of an L1 probe, to be read without p: it knows a neuron's variance, but not how neurons
    move together. The sets may hold `own`'s neurons, and signs are not compared.

    Args:
        own: neurons of a probe.
        other: neurons of another.
        deviation: of every neuron's contribution over the training answers of `own`'s probe, `[neurons]`.
        seed: of the draws.

    Raises:
        NeuronSetError: sets of other models; deviations of another model.
    """
    layout = layout_of(own, other)
    if len(np.asarray(deviation)) != layout.total:
        raise NeuronSetError(
            f"the deviations are of {len(np.asarray(deviation))} neurons, the model has {layout.total}"
        )
    sets = matched_sets(own.flat(layout), deviation, SD_SETS, seed, neighbours=SD_NEIGHBOURS, own=True)
    shared = np.isin(np.stack(sets), other.flat(layout)).sum(axis=1)
    low, high = np.quantile(shared, [0.025, 0.975])
    return Interval(float(shared.mean()), float(low), float(high))


@dataclass(frozen=True)
class LayerBand:
    """Middle 95 % of the neurons in each layer under a null.

    Attributes:
        label: name of the null.
        low, high: neurons, for each layer.
    """

    label: str
    low: tuple[float, ...]
    high: tuple[float, ...]


def layer_band(flat: ArrayLike, widths: Sequence[int], directory: str | Path | None = None) -> LayerBand:
    """Null band for a histogram of neurons by layer, from the files of a probe's directory.

    Selections on shuffled labels where they are stored (scaled to as many neurons), else sd-matched sets where the
    deviations are, else uniform draws.

    Args:
        flat: flat indices of the neurons that are shown, of both signs.
        widths: neurons in each layer.
        directory: of the probe.

    Raises:
        ShuffledError, ActivityError: a file there is damaged.
    """
    from scipy.stats import hypergeom

    neurons, layout = np.asarray(flat, np.int64), NeuronLayout(tuple(widths))
    shuffled = ShuffledSelections.load(directory) if directory is not None else None
    activity = load_activity(directory) if directory is not None else None
    if shuffled is not None and shuffled.total == layout.total and any(len(one) for one in shuffled.sets()):
        sets, label = [one for one in shuffled.sets() if len(one)], f"{len(shuffled)} shuffles of the labels, 95 %"
    elif activity is not None and len(activity.deviation) == layout.total and 0 < 2 * len(neurons) <= layout.total:
        sets, label = (
            matched_sets(neurons, activity.deviation, SD_SETS, neighbours=SD_NEIGHBOURS, own=True),
            "sd-matched, 95 %",
        )
    else:
        draws = [hypergeom(layout.total, width, len(neurons)) for width in layout.widths]
        low, high = ([float(one.ppf(at)) for one in draws] for at in (0.025, 0.975))
        return LayerBand("uniform draws, 95 % (no null for L1)", tuple(low), tuple(high))
    counts = np.stack(
        [np.bincount(layout.unflatten(one)[0], minlength=len(layout.widths)) * len(neurons) / len(one) for one in sets]
    )
    ends = np.quantile(counts, [0.025, 0.975], axis=0)
    return LayerBand(label, tuple(ends[0].tolist()), tuple(ends[1].tolist()))


def _weights(first: NeuronSet, second: NeuronSet, at_first: np.ndarray, at_second: np.ndarray) -> float | None:
    from scipy.stats import spearmanr

    if first.weights is None or second.weights is None or len(at_first) < MIN_FOR_RANKS:
        return None
    a, b = first.weights[at_first], second.weights[at_second]
    if len(set(a.tolist())) == 1 or len(set(b.tolist())) == 1:
        return None
    found: Any = spearmanr(a, b)
    return float(found.statistic)


@dataclass(frozen=True)
class RiskAgreement:
    """Agreement of two probes on the same answers.

    Attributes:
        answers, questions: their numbers.
        risky: shares of answers that the first calls hallucinated, and the second.
        spearman: correlation of the ranks of their probabilities.
        same_calls: share of answers that both call alike.
        kappa: Cohen's, of the calls; None where both call all answers the same.
    """

    answers: int
    questions: int
    risky: tuple[float, float]
    spearman: Interval | None
    same_calls: Interval
    kappa: Interval | None


def risk_agreement(
    first: ArrayLike,
    second: ArrayLike,
    first_calls: ArrayLike,
    second_calls: ArrayLike,
    questions: Sequence[str],
) -> RiskAgreement:
    """Agreement of two probes on answers, with 95 % bootstrap intervals over questions.

    Args:
        first, second: probability that each answer is hallucinated, `[answers]` each.
        first_calls, second_calls: 1 where it is above the probe's threshold, `[answers]` each.
        questions: of each answer; the unit of resampling.

    Raises:
        ValueError: no answers, lengths that differ, or a probability that is not finite.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    calls = np.asarray(first_calls), np.asarray(second_calls)
    clusters = np.asarray(questions)
    if a.ndim != 1 or not len(a) or not (a.shape == b.shape == calls[0].shape == calls[1].shape == clusters.shape):
        raise ValueError("probabilities, calls and questions should be lists of one length, with at least one answer")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a probability is not a finite number")
    spread = len(np.unique(a)) > 1 and len(np.unique(b)) > 1
    called = len(np.unique(np.concatenate(calls))) > 1
    return RiskAgreement(
        answers=len(a),
        questions=len(np.unique(clusters)),
        risky=(float(calls[0].mean()), float(calls[1].mean())),
        spearman=bootstrap_interval(spearman_statistic(a, b), clusters) if spread else None,
        same_calls=bootstrap_interval(mean_statistic(calls[0] == calls[1]), clusters),
        kappa=cohens_kappa(calls[0], calls[1], clusters) if called else None,
    )


def spearman_statistic(first: ArrayLike, second: ArrayLike) -> Statistic:
    """Spearman's rank correlation as a function of row weights, for `bootstrap_interval`.

    Equal values share the mean of their ranks; a row of weight w counts as w rows. NaN where a resample has one value
    only.

    Args:
        first: [rows].
        second: [rows].
    """
    ranks = _ranks(first), _ranks(second)

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            a, b = (own(weights) for own in ranks)  # [resamples, rows]
            a = a - (weights * a).sum(axis=1, keepdims=True) / total
            b = b - (weights * b).sum(axis=1, keepdims=True) / total
            spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
            return (weights * a * b).sum(axis=1) / spread

    return statistic


def _ranks(values: ArrayLike) -> Statistic:
    """Mean ranks of values [rows] as a function of row weights: [resamples, rows]."""
    _, group = np.unique(np.asarray(values, np.float64), return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) > 0))

    def ranks(weights: Floats) -> Floats:
        sizes = np.add.reduceat(weights[:, order], starts, axis=1)  # [resamples, different values]
        before = np.cumsum(sizes, axis=1) - sizes
        return (before + (sizes + 1) / 2)[:, group]

    return ranks
