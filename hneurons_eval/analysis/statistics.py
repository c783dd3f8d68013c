"""Measures, intervals and tests, seeded, paired, and clustered by question.

```python
auroc(y, scores)
bootstrap_interval(auroc_statistic(y, scores), clusters=question)   # Interval(estimate, low, high)
```

Rows of one question are not independent, so resampling draws whole clusters. A resample is a row of
weights (how often each row was drawn), and a statistic here is a function from weights
[resamples, rows] to values [resamples]: 2,000 resamples cost a few array operations.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # weights [resamples, rows] -> values [resamples], NaN: undefined


RESAMPLES = 1000
"""Of figures that Inspect asks for again and again while a task runs."""


class Interval(NamedTuple):
    """An estimate and the ends of its interval, in the units of the estimate."""

    estimate: float
    low: float
    high: float


def flat(name: str, interval: Interval, at: str = "") -> dict[str, float]:
    """An interval as three entries: `name`, `name_low`, `name_high`, each followed by `at`."""
    return {f"{name}{at}": interval.estimate, f"{name}_low{at}": interval.low, f"{name}_high{at}": interval.high}


def headline_first(figures: Mapping[str, float], *headlines: str) -> dict[str, float]:
    """Figures with the first of `headlines` that there is in front; it may stand under a set's name: `plain/auroc`.

    What stands first of a log's metrics is what Inspect's lists of logs show of it.
    """
    for headline in headlines:
        for name in figures:
            if name.rpartition("/")[2] == headline:
                return {name: figures[name], **figures}
    return dict(figures)


def auroc(y: ArrayLike, scores: ArrayLike) -> float:
    """P(score of a 1 > score of a 0) + P(equal) / 2, the Mann-Whitney statistic.

    Args:
        y: 0 or 1, [rows].
        scores: [rows], higher means label 1.

    Raises:
        ValueError: a class is missing, a score is NaN, a label is not 0 or 1, or lengths differ.
    """
    labels, values = _labelled(y, scores)
    return float(auroc_statistic(labels, values)(np.ones((1, len(labels))))[0])


def auprc(y: ArrayLike, scores: ArrayLike) -> float:
    """Average precision: the mean, over the rows of label 1, of the precision at their score.

    Arguments and errors as in `auroc`. Equal scores share one threshold; nothing is interpolated.
    """
    labels, values = _labelled(y, scores)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # last row of each tie
    hits = np.cumsum(labels[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])


def brier(y: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and label: 0 is perfect, 0.25 is what a coin gets."""
    labels, values = _labelled(y, probabilities, both=False)
    if (values < 0).any() or (values > 1).any():
        raise ValueError("the Brier score needs probabilities between 0 and 1.")
    return float(np.mean((values - labels) ** 2))


def accuracy(y: ArrayLike, probabilities: ArrayLike, threshold: float = 0.5) -> float:
    """Share of rows where (probability > threshold) is the label."""
    labels, values = _labelled(y, probabilities, both=False)
    return float(np.mean((values > threshold) == (labels == 1)))


def stratified_auroc(y: ArrayLike, scores: ArrayLike, strata: ArrayLike, *, weighted: bool = False) -> float:
    """Mean AUROC within strata, so that what tells strata apart (relation, length) earns nothing.

    Args:
        y: 0 or 1, [rows].
        scores: [rows].
        strata: [rows]; strata of one class only are left out.
        weighted: weight each stratum by its number of (1, 0) pairs, not equally.

    Raises:
        ValueError: no stratum has both classes; and as in `auroc`.
    """
    labels, values = _labelled(y, scores, both=False)
    members = np.asarray(strata)
    if members.shape != labels.shape:
        raise ValueError(f"strata must have one entry for each of the {len(labels)} rows, not {members.shape}.")
    found, pairs = [], []
    for stratum in np.unique(members):
        here = members == stratum
        positive = int(labels[here].sum())
        if 0 < positive < int(here.sum()):
            found.append(auroc(labels[here], values[here]))
            pairs.append(positive * (int(here.sum()) - positive))
    if not found:
        raise ValueError("no stratum holds both classes, so there is no AUROC within strata.")
    return float(np.average(found, weights=pairs if weighted else None))


def auroc_statistic(y: ArrayLike, scores: ArrayLike) -> Statistic:
    """The AUROC as a function of row weights, for `bootstrap_interval`; NaN where a class is not drawn."""
    labels, values = _labelled(y, scores)
    order = np.argsort(values, kind="stable")
    ones = labels[order] == 1
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) > 0))  # first row of each tie
    tied = starts.size < order.size

    def statistic(weights: Floats) -> Floats:
        drawn = weights[:, order]
        positive, negative = np.where(ones, drawn, 0.0), np.where(ones, 0.0, drawn)
        if tied:
            positive = np.add.reduceat(positive, starts, axis=1)
            negative = np.add.reduceat(negative, starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):
            return np.einsum("br,br->b", positive, below) / (positive.sum(axis=1) * negative.sum(axis=1))

    return statistic


def mean_statistic(values: ArrayLike) -> Statistic:
    """The mean of values [rows], NaN left out, as a function of row weights, for `bootstrap_interval`."""
    numbers = np.asarray(values, np.float64)
    present = np.isfinite(numbers)
    filled = np.where(present, numbers, 0.0)

    def statistic(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return weights @ filled / (weights @ present)

    return statistic


def balanced_statistic(labels: ArrayLike, calls: ArrayLike) -> Statistic:
    """Mean over the two classes of the share called right, as a function of row weights; NaN where one is not drawn."""
    y, right = np.asarray(labels), (np.asarray(calls) == np.asarray(labels)).astype(np.float64)

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            shares = [weights[:, y == one] @ right[y == one] / weights[:, y == one].sum(axis=1) for one in (0, 1)]
        return (shares[0] + shares[1]) / 2

    return statistic


def balanced_accuracy(labels: ArrayLike, calls: ArrayLike, clusters: ArrayLike, *, seed: int = 0) -> Interval:
    """Mean over the two classes of the share called right, with a 95 % interval.

    Where each row is a cluster of its own the interval joins the Wilson intervals of the two shares (the square-and-add
    method of Newcombe 1998), which holds also where nearly all rows are called the same; else it is bootstrapped.

    Args:
        labels: 0 or 1, both present, `[rows]`.
        calls: 0 or 1, `[rows]`.
        clusters: `[rows]`.
    """
    y, right = np.asarray(labels), np.asarray(calls) == np.asarray(labels)
    if len(np.unique(np.asarray(clusters))) < len(y):
        return interval_if_known(balanced_statistic(y, calls), clusters, seed=seed)
    zero, one = (wilson_interval(int(right[y == k].sum()), int((y == k).sum())) for k in (0, 1))
    middle = (zero.estimate + one.estimate) / 2
    below = np.hypot(zero.estimate - zero.low, one.estimate - one.low) / 2
    above = np.hypot(zero.high - zero.estimate, one.high - one.estimate) / 2
    return Interval(middle, float(middle - below), float(middle + above))


def kappa_statistic(first: ArrayLike, second: ArrayLike) -> Statistic:
    """Cohen's (1960) kappa of two raters as a function of row weights, for `bootstrap_interval`.

    kappa = (observed - expected) / (1 - expected): observed is the share of rows on which they agree, expected the
    sum over classes of the product of the shares that each of them gives to the class. NaN where both name one and
    the same class only.

    Args:
        first: [rows], classes by one rater: numbers or strings.
        second: [rows], by the other.

    Raises:
        ValueError: no rows, or two lengths.
    """
    one, other = np.asarray(first), np.asarray(second)
    if one.shape != other.shape or one.ndim != 1 or not one.size:
        raise ValueError(f"two raters' classes must be lists of one length, not {one.shape} and {other.shape}.")
    classes, codes = np.unique(np.concatenate([one, other]), return_inverse=True)
    size = len(classes)
    cell_of_row = np.eye(size * size)[codes[: one.size] * size + codes[one.size :]]  # [rows, cells]

    def statistic(weights: Floats) -> Floats:
        cells = (weights @ cell_of_row).reshape(-1, size, size)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = cells / cells.sum((1, 2), keepdims=True)
            observed = np.einsum("bkk->b", shares)
            expected = np.einsum("bk,bk->b", shares.sum(2), shares.sum(1))
            kappa = (observed - expected) / (1 - expected)
        return np.where(expected < 1 - 1e-12, kappa, np.nan)

    return statistic


def cohens_kappa(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Cohen's kappa of two raters (`kappa_statistic`) with a bootstrap interval over clusters.

    Args:
        first: [rows], classes by one rater.
        second: [rows], by the other.
        clusters: [rows]; None: each row alone.

    Raises:
        ValueError: lists that do not fit, or raters that name one and the same class only.
    """
    statistic = kappa_statistic(first, second)
    units = np.arange(len(np.asarray(first))) if clusters is None else clusters
    return bootstrap_interval(statistic, units, n=n, level=level, seed=seed)


def bootstrap_interval(
    statistic: Statistic,
    clusters: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval, whole clusters drawn with replacement (Efron & Tibshirani 1993, ch. 13).

    Args:
        statistic: weights [resamples, rows] -> [resamples], as `auroc_statistic` and `mean_statistic` make.
        clusters: [rows], the unit of resampling: the question. `np.arange(rows)` for single rows.
        strata: [rows] or None. Clusters are drawn within their stratum, whose size then is fixed.
        n: resamples. Those in which the statistic is undefined are left out.

    Raises:
        ValueError: nothing to draw from; strata that cut a cluster; a statistic that is undefined on
            the data, or in more than half of the resamples.
    """
    rows = len(np.asarray(clusters))
    if not rows:
        raise ValueError("there are no rows to resample.")
    estimate = float(statistic(np.ones((1, rows)))[0])
    if not np.isfinite(estimate):
        raise ValueError("the statistic is not defined on these rows.")
    values = np.concatenate([statistic(weights) for weights in resample_weights(clusters, n, seed, strata)])
    values = values[np.isfinite(values)]
    if values.size < n / 2:
        raise ValueError(f"the statistic is defined in only {values.size} of {n} resamples: too few rows.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def interval_if_known(statistic: Statistic, clusters: ArrayLike, *, n: int = RESAMPLES, seed: int = 0) -> Interval:
    """As `bootstrap_interval`; where too few resamples define the statistic, the estimate without ends (NaN)."""
    try:
        return bootstrap_interval(statistic, clusters, n=n, seed=seed)
    except ValueError:
        estimate = float(statistic(np.ones((1, len(np.asarray(clusters)))))[0])
        return Interval(estimate, float("nan"), float("nan"))


def resample_weights(clusters: ArrayLike, n: int, seed: int = 0, strata: ArrayLike | None = None) -> Iterator[Floats]:
    """How often each row is drawn in n bootstrap resamples of whole clusters: [some, rows], in pieces of some 32 MB.

    Args:
        clusters: [rows], at least one.
        strata: as in `bootstrap_interval`.

    Raises:
        ValueError: strata that cut a cluster.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    size = int(member.max()) + 1
    stratum = np.zeros(size, np.int64)
    if strata is not None:
        _, of_row = np.unique(np.asarray(strata), return_inverse=True)
        stratum[member] = of_row
        if not np.array_equal(stratum[member], of_row):
            raise ValueError("every row of a cluster must be in the same stratum.")
    rng = np.random.default_rng(seed)
    pools = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    piece = max(1, 4_000_000 // member.size)
    for start in range(0, n, piece):
        count = min(piece, n - start)
        weights = np.zeros((count, size))
        for pool in pools:
            draws = rng.integers(pool.size, size=(count, pool.size)) + pool.size * np.arange(count)[:, None]
            weights[:, pool] = np.bincount(draws.ravel(), minlength=count * pool.size).reshape(count, -1)
        yield weights[:, member]


def wilson_interval(k: int, n: int, level: float = 0.95) -> Interval:
    """Interval for a proportion of k successes in n (Wilson 1927)."""
    from scipy.stats import norm

    if not 0 <= k <= n or n == 0:
        raise ValueError(f"a proportion needs 0 <= k <= n and n > 0, not k={k}, n={n}.")
    z = float(norm.ppf((1 + level) / 2))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, float(centre - half) if k else 0.0, float(centre + half) if k < n else 1.0)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p of McNemar's test: b items changed one way, c the other (binomial with 1/2)."""
    from scipy.stats import binomtest

    if b < 0 or c < 0:
        raise ValueError(f"counts must be at least 0, not {b} and {c}.")
    return float(binomtest(min(b, c), b + c).pvalue) if b + c else 1.0


def holm(pvalues: ArrayLike) -> Floats:
    """Holm's (1979) step-down adjusted p-values, in the order given."""
    p = np.asarray(pvalues, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be a list of numbers between 0 and 1.")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def permutation_p(observed: float, null_values: ArrayLike) -> float:
    """(1 + #{null >= observed}) / (1 + n), one-sided (Phipson & Smyth 2010): never 0.

    The smallest p is 1 / (n + 1): eight controls cannot show p < 0.11.
    """
    null = np.asarray(null_values, np.float64)
    if not np.isfinite(observed) or not np.isfinite(null).all():
        raise ValueError("a permutation p-value needs finite values.")
    return float((1 + np.count_nonzero(null >= observed)) / (1 + null.size))


def two_sided_p(observed: float, null_values: ArrayLike) -> float:
    """Twice the smaller of the two one-sided `permutation_p`: how far out a value lies among n others, either way.

    Exact where the value and the n others are exchangeable, whatever their distribution; the smallest is 2 / (n + 1).
    A distance from the mean of the others alone would reject too often, since the mean leaves the value itself out.

    Raises:
        ValueError: values that are not finite.
    """
    null = np.asarray(null_values, np.float64)
    return min(1.0, 2 * min(permutation_p(observed, null), permutation_p(-observed, -null)))


EXACT_ITEMS = 400
"""Pairs up to which the power of McNemar's test is summed over all outcomes."""


def minimum_detectable_effect(
    items: int, discordant: float, *, power: float = 0.8, level: float = 0.95, design_effect: float = 1.0
) -> float:
    """Smallest paired difference of two proportions that a two-sided exact McNemar test shows with this power.

    An effect of e changes a share e of the items beside those that change by chance, so the share that differs is
    taken as the share seen plus e. Up to 400 pairs (after division by the design effect) the power is summed over all
    numbers of discordant pairs; above, Connor's (1987) n = (z_a sqrt(d) + z_b sqrt(d - e^2))^2 / e^2 is solved for e.

    Args:
        items: pairs.
        discordant: the share of items that change by chance, in [0, 1]: what differs where there is no effect.
        design_effect: >= 1, by how much clustering shrinks the sample.

    Returns:
        The effect, a difference of proportions (0.03 = 3 points); NaN where so few items cannot show any.

    Raises:
        ValueError: an argument out of range.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    if items < 1 or not 0 <= discordant <= 1 or not 0 < power < 1 or design_effect < 1:
        raise ValueError("items and design_effect must be at least 1, discordant and power between 0 and 1.")
    pairs = max(1, int(items / design_effect))
    if pairs <= EXACT_ITEMS:
        return _exact_effect(pairs, discordant, power, level)
    z_a, z_b = float(norm.ppf((1 + level) / 2)), float(norm.ppf(power))

    def shortfall(effect: float) -> float:
        changed = min(1.0, discordant + effect)
        needed = z_a * np.sqrt(changed) + z_b * np.sqrt(max(0.0, changed - effect**2))
        return float(needed - effect * np.sqrt(items / design_effect))

    # Just above 0 any effect falls short, so that the root at 0 itself is not found.
    return float(brentq(shortfall, 1e-12, 1.0)) if shortfall(1.0) < 0 else float("nan")  # type: ignore[arg-type]


@cache
def _exact_effect(pairs: int, discordant: float, power: float, level: float) -> float:
    low, high = 0.0, 1.0
    if _mcnemar_power(pairs, 1.0, 1.0, level) < power:
        return float("nan")
    while high - low > 5e-4:
        middle = (low + high) / 2
        enough = _mcnemar_power(pairs, min(1.0, discordant + middle), middle, level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


@cache
def _needed(pairs: int, level: float) -> Floats:
    """The fewest that must go the same way of 0, 1, ..., pairs: P(at least so many | 1/2) <= (1 - level) / 2."""
    from scipy.stats import binom

    return np.asarray(binom.isf((1 - level) / 2, np.arange(pairs + 1), 0.5)) + 1


def _mcnemar_power(pairs: int, discordant: float, effect: float, level: float) -> float:
    """P(the exact test rejects, in the direction of the effect)."""
    from scipy.stats import binom

    count = np.arange(pairs + 1)  # of discordant pairs
    wins = binom.sf(_needed(pairs, level) - 1, count, min(1.0, (1 + effect / discordant) / 2) if discordant else 0.5)
    return float(binom.pmf(count, pairs, discordant) @ wins)


def _labelled(y: ArrayLike, scores: ArrayLike, both: bool = True) -> tuple[NDArray[np.int64], Floats]:
    labels, values = np.asarray(y), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != values.shape or not labels.size:
        raise ValueError(f"labels and scores must be lists of one length, not {labels.shape} and {values.shape}.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, but they hold {np.unique(labels)[:5].tolist()}.")
    if np.isnan(values).any():
        raise ValueError(f"scores must not be NaN, but {int(np.isnan(values).sum())} are.")
    if both and labels.min() == labels.max():
        raise ValueError(f"both classes are needed, but every label is {int(labels[0])}.")
    return labels.astype(np.int64), values


def best_threshold(y: ArrayLike, probabilities: ArrayLike) -> float:
    """The probability at which balanced accuracy is greatest, between two observed ones; lowest of equals.

    Choose it on rows that were not trained on (out-of-fold ones), never on those it is reported for.
    """
    labels, p = np.asarray(y), np.asarray(probabilities, np.float64)
    values = np.unique(p)
    cuts = np.concatenate([[0.0], (values[:-1] + values[1:]) / 2, [1.0]])
    caught = 1 - np.searchsorted(np.sort(p[labels == 1]), cuts, side="right") / max(1, (labels == 1).sum())
    passed = np.searchsorted(np.sort(p[labels == 0]), cuts, side="right") / max(1, (labels == 0).sum())
    return float(cuts[np.argmax(caught + passed)])
