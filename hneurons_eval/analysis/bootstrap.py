"""Confidence intervals: the bootstrap over clusters of rows, and closed forms for shares.

```python
bootstrap_interval(auroc_statistic(y, scores), clusters=question)   # Interval(estimate, low, high)
```

Rows of one question are not independent, so whole clusters are resampled. A resample is a row of weights: how often
each row was drawn. A `Statistic` maps weights `[resamples, rows]` to values `[resamples]`, so that 2,000 resamples cost
a few array operations.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.metrics import Statistic, balanced_statistic, kappa_statistic

Floats = NDArray[np.float64]

RESAMPLES = 1000
"""Resamples for metrics that Inspect computes again and again while a task runs."""


class Interval(NamedTuple):
    """An estimate and the ends of its interval, in the units of the estimate."""

    estimate: float
    low: float
    high: float

    def text(self, form: str = ".3f") -> str:
        """`0.812 [0.745, 0.871]`, each number in a format."""
        return f"{self.estimate:{form}} [{self.low:{form}}, {self.high:{form}}]"


def flat(name: str, interval: Interval, at: str = "") -> dict[str, float]:
    """An interval as three entries: `name`, `name_low`, `name_high`, each followed by `at`."""
    return {f"{name}{at}": interval.estimate, f"{name}_low{at}": interval.low, f"{name}_high{at}": interval.high}


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


def cohens_kappa(
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
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
    return bootstrap_interval(statistic, units)


def bootstrap_interval(
    statistic: Statistic,
    clusters: ArrayLike,
    *,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval: whole clusters are drawn with replacement (Efron & Tibshirani 1993, ch. 13).

    Args:
        statistic: weights [resamples, rows] -> [resamples], as `auroc_statistic` and `mean_statistic` make.
        clusters: [rows], the unit of resampling: the question. `np.arange(rows)` for single rows.
        n: resamples. Those in which the statistic is undefined are left out.

    Raises:
        ValueError: no rows; a statistic that is undefined on the data, or in more than half of the resamples.
    """
    rows = len(np.asarray(clusters))
    if not rows:
        raise ValueError("there are no rows to resample.")
    estimate = float(statistic(np.ones((1, rows)))[0])
    if not np.isfinite(estimate):
        raise ValueError("the statistic is not defined on these rows.")
    values = np.concatenate([statistic(weights) for weights in resample_weights(clusters, n, seed)])
    values = values[np.isfinite(values)]
    if values.size < n / 2:
        raise ValueError(f"the statistic is defined in only {values.size} of {n} resamples: too few rows.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high))


def interval_if_known(statistic: Statistic, clusters: ArrayLike, *, seed: int = 0) -> Interval:
    """As `bootstrap_interval`; where too few resamples define the statistic, the estimate without ends (NaN)."""
    try:
        return bootstrap_interval(statistic, clusters, n=RESAMPLES, seed=seed)
    except ValueError:
        estimate = float(statistic(np.ones((1, len(np.asarray(clusters)))))[0])
        return Interval(estimate, float("nan"), float("nan"))


def resample_weights(clusters: ArrayLike, n: int, seed: int = 0) -> Iterator[Floats]:
    """Bootstrap weights: how often each row is drawn in n resamples of whole clusters.

    Args:
        clusters: [rows], at least one.

    Yields:
        [some, rows], in pieces of about 32 MB.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    size = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    piece = max(1, 4_000_000 // member.size)
    for start in range(0, n, piece):
        count = min(piece, n - start)
        draws = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        weights = np.bincount(draws.ravel(), minlength=count * size).reshape(count, -1)
        yield weights.astype(np.float64)[:, member]


def wilson_interval(k: int, n: int) -> Interval:
    """95 % interval for a proportion of k successes in n (Wilson 1927)."""
    from scipy.stats import norm

    if not 0 <= k <= n or n == 0:
        raise ValueError(f"a proportion needs 0 <= k <= n and n > 0, not k={k}, n={n}.")
    z = float(norm.ppf(0.975))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, float(centre - half) if k else 0.0, float(centre + half) if k < n else 1.0)
