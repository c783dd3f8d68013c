"""How alike two neuron sets are, and two probes: overlap against chance, weights, and what they say of answers.

```python
found = overlap(first, second)
found.shared, found.expected, found.p              # and within_layers, jaccard, layers, weights
risks = risk_agreement(p_first, p_second, calls_first, calls_second, questions)
```
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.layout import NeuronLayout
from hneurons_eval.neurons import NeuronSet, NeuronSetError
from hneurons_eval.statistics import (
    Interval,
    Statistic,
    bootstrap_interval,
    cohens_kappa,
    holm,
    mean_statistic,
)

Floats = NDArray[np.float64]
FEWEST_FOR_RANKS = 3
"""With fewer pairs a rank correlation says nothing."""


@dataclass(frozen=True)
class Chance:
    """What two sets of these sizes would share if one of them were drawn at random.

    Attributes:
        expected: neurons shared, on average.
        p: probability of sharing at least as many as they do.
    """

    expected: float
    p: float


@dataclass(frozen=True)
class LayerOverlap:
    """One layer in which either set has neurons.

    Attributes:
        layer: its number.
        first, second, shared: neurons of the first set, of the second, of both.
        chance: of sharing that many in this layer; p as it is.
        p_holm: p adjusted for the number of layers in which both have any (Holm 1979), 1 elsewhere.
    """

    layer: int
    first: int
    second: int
    shared: int
    chance: Chance
    p_holm: float


@dataclass(frozen=True)
class Overlap:
    """How much two neuron sets share.

    Attributes:
        first, second, shared: neurons of the first set, of the second, of both.
        total: neurons of the model.
        jaccard: shared / in either; 0 for two empty sets.
        anywhere: chance, if neurons were drawn from the whole model.
        within_layers: chance, if as many were drawn in each layer as the sets have there; what remains when both
            only prefer the same layers.
        layers: one by one.
        weights: Spearman's correlation of the weights of shared neurons and its two-sided p, or None where weights
            are missing or fewer than three neurons are shared.
    """

    first: int
    second: int
    shared: int
    total: int
    jaccard: float
    anywhere: Chance
    within_layers: Chance
    layers: tuple[LayerOverlap, ...]
    weights: tuple[float, float] | None


def overlap(first: NeuronSet, second: NeuronSet) -> Overlap:
    """What two neuron sets of one model share, against chance.

    With N neurons in the model, a in the first set and b in the second, a random second set shares a b / N with it on
    average, and the number shared follows the hypergeometric distribution. Within layers it is the sum of one such
    number for each layer, whose distribution is that of all of them convolved.

    Raises:
        NeuronSetError: sets of models with other layers, or whose layers are not known.
    """
    from scipy.stats import hypergeom

    if first.widths is None or second.widths is None:
        raise NeuronSetError("a neuron set does not say how wide its model's layers are, so chance cannot be known")
    if first.widths != second.widths:
        raise NeuronSetError(
            f"the sets are of models with other layers, {NeuronLayout(first.widths)} and "
            f"{NeuronLayout(second.widths)}, so they cannot be compared"
        )
    layout = NeuronLayout(first.widths)
    a, b = first.flat(layout), second.flat(layout)
    both, at_a, at_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    counts = [np.bincount(layers, minlength=len(layout.widths)) for layers in (first.layers, second.layers)]
    shared = np.bincount(first.layers[at_a], minlength=len(layout.widths))
    chances = [
        Chance(n * m / width, float(hypergeom.sf(k - 1, width, n, m)) if n and m else 1.0)
        for n, m, k, width in zip(*counts, shared, layout.widths, strict=True)
    ]
    mixed = np.flatnonzero((counts[0] > 0) & (counts[1] > 0))
    adjusted = np.ones(len(layout.widths))
    adjusted[mixed] = holm([chances[layer].p for layer in mixed])
    distribution = np.ones(1)
    for layer in mixed:
        n, m = int(counts[0][layer]), int(counts[1][layer])
        own = hypergeom.pmf(np.arange(min(n, m) + 1), layout.widths[layer], n, m)
        distribution = np.convolve(distribution, own)
    union = len(a) + len(b) - len(both)
    return Overlap(
        first=len(a),
        second=len(b),
        shared=len(both),
        total=layout.total,
        jaccard=len(both) / union if union else 0.0,
        anywhere=Chance(len(a) * len(b) / layout.total, _at_least(len(both), layout.total, len(a), len(b))),
        within_layers=Chance(
            sum(chance.expected for chance in chances), min(1.0, float(distribution[len(both) :].sum()))
        ),
        layers=tuple(
            LayerOverlap(
                int(layer),
                int(counts[0][layer]),
                int(counts[1][layer]),
                int(shared[layer]),
                chances[layer],
                float(adjusted[layer]),
            )
            for layer in np.flatnonzero(counts[0] + counts[1])
        ),
        weights=_weights(first, second, at_a, at_b),
    )


def _at_least(shared: int, total: int, first: int, second: int) -> float:
    from scipy.stats import hypergeom

    return float(hypergeom.sf(shared - 1, total, first, second))


def _weights(
    first: NeuronSet, second: NeuronSet, at_first: np.ndarray, at_second: np.ndarray
) -> tuple[float, float] | None:
    from scipy.stats import spearmanr

    if first.weights is None or second.weights is None or len(at_first) < FEWEST_FOR_RANKS:
        return None
    a, b = first.weights[at_first], second.weights[at_second]
    if len(set(a.tolist())) == 1 or len(set(b.tolist())) == 1:
        return None
    found: Any = spearmanr(a, b)
    return float(found.statistic), float(found.pvalue)


@dataclass(frozen=True)
class RiskAgreement:
    """What two probes say of the same answers.

    Attributes:
        answers, questions: how many.
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
    seed: int = 0,
) -> RiskAgreement:
    """Agreement of two probes on answers, with 95 % bootstrap intervals over questions.

    Args:
        first, second: probability that each answer is hallucinated, `[answers]` each.
        first_calls, second_calls: 1 where it is above the probe's threshold, `[answers]` each.
        questions: of each answer; the unit of resampling.
        seed: of the resamples.

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
        spearman=bootstrap_interval(spearman_statistic(a, b), clusters, seed=seed) if spread else None,
        same_calls=bootstrap_interval(mean_statistic(calls[0] == calls[1]), clusters, seed=seed),
        kappa=cohens_kappa(calls[0], calls[1], clusters, seed=seed) if called else None,
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
