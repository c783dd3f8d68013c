"""Intervals and tests for mean paired changes, valid also where few items change.

```python
change = mean_change(slopes_of_items, clusters, largest=42.9)   # Change(estimate, low, high, p, detectable, ...)
sign_flip_p(after - before, clusters)                           # exact McNemar where each item stands alone
```

Most items of a sweep do not change. Bootstrap intervals are too short for such data, and of width 0 where nothing
changed. The interval here is Student's t over clusters with two observations added, one in either direction, as large
as a change is (Agresti & Min 2005 add the same to paired proportions); where nothing changed it is the exact bound on
the share of items that can change (Clopper & Pearson 1934).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.bootstrap import Interval
from hneurons_eval.analysis.tests import mcnemar

Floats = NDArray[np.float64]
LEVEL = 0.05
POINT = 0.8416212335729143
"""z(.80): four of five samples lie above the effect less so many standard errors."""
ADDED = 2
"""Observations added to the data for the interval."""
EXACT_FLIPS = 14
"""All sign flips are enumerated up to so many clusters that changed."""
FLIPS = 9999


@dataclass(frozen=True)
class Change:
    """A mean change over items.

    Attributes:
        estimate: in the unit of the values.
        low, high: ends of the 95 % interval; NaN where there is none.
        p: two-sided, of no change on average: below .05 where the interval leaves out 0.
        detectable: the mean change that four of five such samples would show; NaN where none would.
        items: over which the mean goes.
        changed: items with a value that is not 0.
        changeable: where nothing changed, the largest share of items that can change (95 %); else NaN.
    """

    estimate: float
    low: float
    high: float
    p: float
    detectable: float
    items: int
    changed: int
    changeable: float

    @property
    def interval(self) -> Interval:
        return Interval(self.estimate, self.low, self.high)


def mean_change(values: ArrayLike, clusters: ArrayLike, largest: float | None, typical: float | None = None) -> Change:
    """Mean change over items, with interval, p and minimum detectable change.

    Args:
        values: `[items]`, finite: a difference, or the slope of an item's own curve; 0 is no change.
        clusters: `[items]`, the unit that is sampled.
        largest: the largest change that one item can have, in the unit of `values`; None: not bounded, as an amount is
            not, and then there is no interval where nothing changed.
        typical: the change of an item that changes, for `detectable`; None: `largest`.

    Raises:
        ValueError: no items, lists that do not fit, or values that are not finite.
    """
    sums, sizes, given = _by_cluster(values, clusters)
    groups, mean_size = len(sums), float(sizes.mean())
    estimate, changed = float(given.sum() / len(given)), int(np.count_nonzero(given))
    bound = math.nan if changed else 1 - LEVEL ** (1 / groups)
    if not changed:
        end = math.nan if largest is None else bound * largest
        detectable = math.nan if largest is None else _detectable(groups, 0.0, 0, largest, typical or largest)
        return Change(0.0, -end, end, 1.0, detectable, len(given), 0, bound)
    scaled = sums / mean_size
    apart = (sums - estimate * sizes) / mean_size
    top = float(np.abs(scaled).max()) if largest is None else largest
    moved = int(np.count_nonzero(scaled))
    added = _added_square(float((scaled**2).sum()), moved, top)
    centre = estimate * groups / (groups + ADDED)
    spread = float((apart**2).sum()) + groups * (estimate - centre) ** 2 + ADDED * (added + centre**2)
    error = math.sqrt(spread / ((groups + ADDED) * (groups + ADDED - 1)))
    reach = _t(groups + ADDED - 1) * error
    ends = (max(-top, centre - reach), min(top, centre + reach)) if largest else (centre - reach, centre + reach)
    p = _t_p(abs(centre) / error, groups + ADDED - 1)
    detectable = _detectable(groups, float((scaled**2).mean()), moved, top, typical or top)
    return Change(estimate, min(estimate, ends[0]), max(estimate, ends[1]), p, detectable, len(given), changed, bound)


def mean_level(values: ArrayLike, clusters: ArrayLike, bounds: tuple[float, float] | None = (0.0, 1.0)) -> Interval:
    """Mean over items with a 95 % interval: Student's t over clusters.

    Args:
        values: `[items]`, finite.
        clusters: `[items]`.
        bounds: between which values lie: one observation of each is added, so that the interval of equal values has a
            width. None: not bounded, and nothing is added.

    Raises:
        ValueError: as `mean_change`.
    """
    sums, sizes, given = _by_cluster(values, clusters)
    groups, mean_size = len(sums), float(sizes.mean())
    estimate = float(given.mean())
    if bounds is None and groups < 2:
        return Interval(estimate, math.nan, math.nan)
    extra = np.array(bounds or (), np.float64)
    points = np.concatenate([estimate + (sums - estimate * sizes) / mean_size, extra])
    centre = float(points.mean())
    reach = _t(len(points) - 1) * float(points.std(ddof=1)) / math.sqrt(len(points))
    low, high = bounds or (-math.inf, math.inf)
    return Interval(estimate, min(estimate, max(low, centre - reach)), max(estimate, min(high, centre + reach)))


def sign_flip_p(values: ArrayLike, clusters: ArrayLike) -> float:
    """Two-sided p of no change on average, by flipping the signs of clusters.

    The exact test of McNemar where every item is a cluster and changes by -1, 0 or 1. Else the signs of whole clusters
    are flipped, in all ways for up to 14 clusters that changed and at random (9,999 times) for more.

    Args:
        values: `[items]`, finite: the differences.
        clusters: `[items]`.

    Raises:
        ValueError: as `mean_change`.
    """
    sums, sizes, given = _by_cluster(values, clusters)
    if (sizes == 1).all() and np.isin(given, (-1, 0, 1)).all():
        return mcnemar(int((given < 0).sum()), int((given > 0).sum()))
    moved = sums[sums != 0]
    if not moved.size:
        return 1.0
    seen = abs(float(moved.sum())) - 1e-9
    if moved.size <= EXACT_FLIPS:
        flips = 1 - 2 * ((np.arange(2**moved.size)[:, None] >> np.arange(moved.size)) & 1)
        return float((np.abs(flips @ moved) >= seen).mean())
    flips = np.random.default_rng(0).integers(0, 2, (FLIPS, moved.size), np.int8) * 2.0 - 1.0
    return float((1 + (np.abs(flips @ moved) >= seen).sum()) / (FLIPS + 1))


def design_effect(values: ArrayLike, clusters: ArrayLike) -> float:
    """Design effect: the factor by which clustering multiplies the variance of a mean change, at least 1.

    One cluster that changed as a whole is added, so that without any change it is the mean size of the clusters.

    Args:
        values: `[items]`, finite: the differences.
        clusters: `[items]`.

    Raises:
        ValueError: as `mean_change`.
    """
    sums, sizes, given = _by_cluster(values, clusters)
    size = float(sizes.mean())
    return max(1.0, float(((sums**2).sum() + size**2) / ((given**2).sum() + size)))


def _by_cluster(values: ArrayLike, clusters: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Sum and size of each cluster, and the values."""
    given, names = np.asarray(values, np.float64), np.asarray(clusters)
    if given.ndim != 1 or given.shape != names.shape or not given.size:
        raise ValueError(f"values and clusters should be two lists of one length, found {given.shape}, {names.shape}.")
    if not np.isfinite(given).all():
        raise ValueError("values should be finite; leave out items without one.")
    _, member = np.unique(names, return_inverse=True)
    sums = np.bincount(member, given)
    return np.where(np.abs(sums) < 1e-9, 0.0, sums), np.bincount(member).astype(np.float64), given


def _added_square(squares: float, changed: float, largest: float) -> float:
    """The square of an added observation: the mean square of the changes seen and of one as large as it can be."""
    return min(largest**2, (largest**2 + squares) / (1 + changed))


def _detectable(groups: int, square: float, changed: int, largest: float, typical: float) -> float:
    """Minimum detectable mean change of `mean_change` at a power of .8.

    A mean change of d takes d / typical of the items, which add d * typical to the mean square that was seen. It is
    shown in four of five samples when a sample at the 20 % point of the estimate is still told from 0.

    Args:
        groups: clusters.
        square: mean square seen.
        changed: clusters that changed.
        largest: change of one cluster.
        typical: change of a cluster that changes.
    """
    from scipy.optimize import brentq

    def excess(effect: float) -> float:
        within = max(square + effect * typical - effect**2, 0.0)
        seen = effect - POINT * math.sqrt(within / groups)
        if seen <= 0:
            return seen - largest
        second = square + seen * typical
        added = _added_square(groups * second, changed + groups * seen / typical, largest)
        centre = seen * groups / (groups + ADDED)
        spread = groups * max(second - seen**2, 0.0) + groups * (seen - centre) ** 2 + ADDED * (added + centre**2)
        return centre - _t(groups + ADDED - 1) * math.sqrt(spread / ((groups + ADDED) * (groups + ADDED - 1)))

    if excess(largest) <= 0:
        return math.nan
    return float(brentq(excess, 1e-9 * largest, largest))  # type: ignore[arg-type]


@cache
def _t(df: int) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, df))


def _t_p(statistic: float, df: int) -> float:
    from scipy.stats import t

    return float(2 * t.sf(statistic, df))
