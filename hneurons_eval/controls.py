"""Control neuron sets, and the plain baselines that a probe has to beat.

```python
sets = random_sets(layout.widths, size=len(h), n=100, seed=0, exclude=h)
scores = refit_scores(X, y, sets, folds)      # [sets, rows], out of fold
scalar_baseline(response_length, y, folds)    # [rows], out of fold
```

Sets are ascending flat (layer-major) indices and never hold a neuron of the reference.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from hneurons_eval.l2 import fit_l2

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def random_sets(
    widths: Sequence[int], size: int, n: int, seed: int = 0, exclude: ArrayLike | None = None
) -> list[Ints]:
    """n sets of `size` different neurons, each drawn uniformly from the whole model.

    Args:
        widths: neurons in each layer.
        exclude: flat indices that no set may hold: the reference neurons.

    Raises:
        ValueError: fewer than `size` neurons are left; an excluded index the model does not have.
    """
    total = int(sum(widths))
    pool = _outside(exclude, total)
    if not 0 < size <= pool.size:
        raise ValueError(f"a set of {size} neurons cannot be drawn from the {pool.size} that are allowed.")
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(pool, size, replace=False)) for _ in range(n)]


def layer_matched_sets(reference: ArrayLike, widths: Sequence[int], n: int, seed: int = 0) -> list[Ints]:
    """n sets with as many neurons in each layer as the reference has, none of them its own.

    Args:
        reference: flat indices.
        widths: neurons in each layer.

    Raises:
        ValueError: a layer in which the reference leaves too few neurons; an index the model does not have.
    """
    edges = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    pool = _outside(reference, int(edges[-1]))
    chosen = np.unique(np.asarray(reference, np.int64))
    wanted = np.histogram(chosen, edges)[0] if chosen.size else np.zeros(len(edges) - 1, np.int64)
    pools = np.split(pool, np.searchsorted(pool, edges[1:-1]))
    for layer, (candidates, count) in enumerate(zip(pools, wanted, strict=True)):
        if count > candidates.size:
            raise ValueError(
                f"layer {layer} has {candidates.size} neurons beside the reference, too few to match {count}."
            )
    rng = np.random.default_rng(seed)

    def draw() -> Ints:
        parts = [rng.choice(p, c, replace=False) for p, c in zip(pools, wanted, strict=True) if c]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))

    return [draw() for _ in range(n)]


def contribution_matched_sets(
    reference: ArrayLike, mean_contribution: ArrayLike, n: int, seed: int = 0, *, neighbours: int = 50
) -> list[Ints]:
    """n sets whose neurons contribute as much as the reference's do.

    For each reference neuron one is drawn from the `neighbours` others nearest to it in rank of mean
    contribution; when all of those are taken, from twice as many, and so on.

    Args:
        reference: flat indices.
        mean_contribution: [neurons], for example the column means of the training features.

    Raises:
        ValueError: fewer other neurons than the reference has; an index or a mean that does not fit.
    """
    means = np.asarray(mean_contribution, np.float64)
    if means.ndim != 1 or not np.isfinite(means).all():
        raise ValueError("mean contributions must be one finite number for each neuron.")
    chosen = np.unique(np.asarray(reference, np.int64))
    pool = _outside(chosen, means.size)
    if chosen.size > pool.size:
        raise ValueError(f"{chosen.size} neurons cannot be matched by the {pool.size} others.")
    ranked = pool[np.argsort(means[pool], kind="stable")]
    places = np.searchsorted(means[ranked], means[chosen])
    rng = np.random.default_rng(seed)
    sets = []
    for _ in range(n):
        taken = np.zeros(ranked.size, np.bool_)
        for place in places[rng.permutation(places.size)]:
            width = min(max(1, neighbours), ranked.size)
            while True:
                start = int(np.clip(place - width // 2, 0, ranked.size - width))
                free = np.flatnonzero(~taken[start : start + width])
                if free.size:
                    break
                width = min(2 * width, ranked.size)
            taken[start + rng.choice(free)] = True
        sets.append(np.sort(ranked[taken]))
    return sets


def refit_scores(
    X: NDArray[Any], y: ArrayLike, sets: Sequence[ArrayLike], folds: Sequence[Ints], *, C: float = 1.0
) -> Floats:
    """Out-of-fold probabilities of a dense classifier fitted to each set alone: what these neurons tell.

    An L2 logistic regression with free intercept, on columns brought to mean 0 and deviation 1 by the
    training rows of each fold, so that random neurons get their best chance whatever their scale. Give
    the reference set too, for a comparison of like with like; it must have been chosen on training rows.

    Args:
        X: [rows, neurons].
        y: 0 or 1, [rows].
        sets: flat indices.
        folds: test rows of each fold (`probe.grouped_folds`), or one held-out split: `[test_rows]`.

    Returns:
        [sets, rows]; NaN for rows that are in no fold.

    Raises:
        ValueError: training rows of one class only; values that are not finite; an empty set.
    """
    labels = np.asarray(y, np.float64)
    scores = np.full((len(sets), len(labels)), np.nan)
    for k, one in enumerate(sets):
        neurons = np.asarray(one, np.int64)
        if not neurons.size:
            raise ValueError(f"set {k} is empty, so there is nothing to fit.")
        scores[k] = _out_of_fold(np.asarray(X[:, neurons], np.float64), labels, folds, C)
    return scores


def random_probe_scores(
    X: NDArray[Any],
    y: ArrayLike,
    folds: Sequence[Ints],
    *,
    size: int,
    n: int = 100,
    seed: int = 0,
    exclude: ArrayLike | None = None,
    C: float = 1.0,
) -> Floats:
    """`refit_scores` of n random sets of `size` neurons: the paper's baseline, many times.  [n, rows]"""
    return refit_scores(X, y, random_sets([X.shape[1]], size, n, seed, exclude), folds, C=C)


def scalar_baseline(values: ArrayLike, y: ArrayLike, folds: Sequence[Ints], *, C: float = 1.0) -> Floats:
    """Out-of-fold probabilities from one number a row: response length, mean log-probability.

    Args:
        values: [rows].
        y: 0 or 1, [rows].
        folds: test rows of each fold, the same as the probe's.

    Returns:
        [rows]; NaN for rows in no fold.
    """
    return _out_of_fold(np.asarray(values, np.float64)[:, None], np.asarray(y, np.float64), folds, C)


def _out_of_fold(X: Floats, y: Floats, folds: Sequence[Ints], C: float) -> Floats:
    if X.shape[0] != len(y):
        raise ValueError(f"there are {len(y)} labels for {X.shape[0]} rows.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, but there are {np.unique(y)[:5].tolist()}.")
    if not np.isfinite(X).all():
        raise ValueError("the features of a baseline must be finite.")
    out = np.full(len(y), np.nan)
    for k, test in enumerate(folds):
        train = np.ones(len(y), np.bool_)
        train[test] = False
        if not train.any() or y[train].min() == y[train].max():
            raise ValueError(f"the training rows of fold {k} do not hold both classes.")
        mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
        Z = (X - mean) / np.where(deviation > 0, deviation, 1.0)
        w, b = fit_l2(Z[train], y[train], C)
        out[test] = expit(Z[test] @ w + b)
    return out


def _outside(neurons: ArrayLike | None, total: int) -> Ints:
    """Ascending flat indices of a model of `total` neurons that are not in `neurons`."""
    given = np.zeros(0, np.int64) if neurons is None else np.asarray(neurons, np.int64).ravel()
    if given.size and (given.min() < 0 or given.max() >= total):
        raise ValueError(f"flat index {given.min()}..{given.max()} does not fit a model of {total} neurons.")
    free = np.ones(total, np.bool_)
    free[given] = False
    return np.flatnonzero(free)
