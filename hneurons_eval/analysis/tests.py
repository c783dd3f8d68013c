"""Significance tests for paired outcomes and neuron sets, multiple testing, and the power of McNemar's test."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


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
    """Two-sided permutation p: twice the smaller of the two one-sided `permutation_p`.

    Exact where the value and the n others are exchangeable, whatever their distribution; the smallest is 2 / (n + 1).
    A distance from the mean of the others alone would reject too often, since the mean leaves the value itself out.

    Raises:
        ValueError: values that are not finite.
    """
    null = np.asarray(null_values, np.float64)
    return min(1.0, 2 * min(permutation_p(observed, null), permutation_p(-observed, -null)))


LEVEL, POWER = 0.05, 0.8
EXACT_ITEMS = 400
"""Pairs up to which the power of McNemar's test is summed over all outcomes."""


def minimum_detectable_effect(items: int, discordant: float, *, design_effect: float = 1.0) -> float:
    """Minimum detectable effect of a two-sided exact McNemar test: a paired difference of two proportions.

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

    if items < 1 or not 0 <= discordant <= 1 or design_effect < 1:
        raise ValueError("items and design_effect must be at least 1, discordant between 0 and 1.")
    pairs = max(1, int(items / design_effect))
    if pairs <= EXACT_ITEMS:
        return _exact_effect(pairs, discordant)
    z_a, z_b = float(norm.ppf(1 - LEVEL / 2)), float(norm.ppf(POWER))

    def shortfall(effect: float) -> float:
        changed = min(1.0, discordant + effect)
        needed = z_a * np.sqrt(changed) + z_b * np.sqrt(max(0.0, changed - effect**2))
        return float(needed - effect * np.sqrt(items / design_effect))

    # Just above 0 any effect falls short, so that the root at 0 itself is not found.
    return float(brentq(shortfall, 1e-12, 1.0)) if shortfall(1.0) < 0 else float("nan")  # type: ignore[arg-type]


@cache
def _exact_effect(pairs: int, discordant: float) -> float:
    low, high = 0.0, 1.0
    if _mcnemar_power(pairs, 1.0, 1.0) < POWER:
        return float("nan")
    while high - low > 5e-4:
        middle = (low + high) / 2
        enough = _mcnemar_power(pairs, min(1.0, discordant + middle), middle) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


@cache
def _needed(pairs: int) -> Floats:
    """Critical values of the sign test for 0, 1, ..., pairs: the minimum k with P(>= k | 1/2) <= LEVEL / 2."""
    from scipy.stats import binom

    return np.asarray(binom.isf(LEVEL / 2, np.arange(pairs + 1), 0.5)) + 1


def _mcnemar_power(pairs: int, discordant: float, effect: float) -> float:
    """P(the exact test rejects, in the direction of the effect)."""
    from scipy.stats import binom

    count = np.arange(pairs + 1)  # of discordant pairs
    wins = binom.sf(_needed(pairs) - 1, count, min(1.0, (1 + effect / discordant) / 2) if discordant else 0.5)
    return float(binom.pmf(count, pairs, discordant) @ wins)
