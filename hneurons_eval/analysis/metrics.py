"""Metrics of binary classifiers, as numbers and as functions of row weights (`Statistic`).

```python
auroc(y, scores)
auroc_statistic(y, scores)(weights)   # [resamples], from how often each row was drawn, [resamples, rows]
```
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""A metric of row weights `[resamples, rows]`: values `[resamples]`, NaN where it is undefined."""


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


def brier(y: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and label: 0 is perfect, 0.25 is what a coin gets."""
    labels, values = _labelled(y, probabilities, both=False)
    if (values < 0).any() or (values > 1).any():
        raise ValueError("the Brier score needs probabilities between 0 and 1.")
    return float(np.mean((values - labels) ** 2))


def stratified_auroc(y: ArrayLike, scores: ArrayLike, strata: ArrayLike) -> float:
    """Mean AUROC within strata: the difference between strata (relation, length) earns nothing.

    Args:
        y: 0 or 1, [rows].
        scores: [rows].
        strata: [rows]; strata of one class only are left out.

    Raises:
        ValueError: no stratum has both classes; and as in `auroc`.
    """
    labels, values = _labelled(y, scores, both=False)
    members = np.asarray(strata)
    if members.shape != labels.shape:
        raise ValueError(f"strata must have one entry for each of the {len(labels)} rows, not {members.shape}.")
    parts = [members == stratum for stratum in np.unique(members)]
    found = [auroc(labels[here], values[here]) for here in parts if len(np.unique(labels[here])) == 2]
    if not found:
        raise ValueError("no stratum holds both classes, so there is no AUROC within strata.")
    return float(np.mean(found))


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
