"""Folds for cross-validation that keep groups together."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def grouped_folds(y: ArrayLike, groups: ArrayLike, k: int, seed: int = 0) -> list[Ints]:
    """Split rows into k test sets, no group in two of them, alike in size and share of label 1.

    Greedy, large groups first, each to the fold where its classes are rarest (as in scikit-learn's
    StratifiedGroupKFold). The seed decides among equals.

    Args:
        y: labels, [rows]; any number of classes.
        groups: [rows].
        k: number of folds, at least 2.

    Returns:
        k arrays of row numbers, ascending; together, every row once.

    Raises:
        ValueError: lengths differ, or fewer groups than folds.
    """
    _, labels = np.unique(np.asarray(y), return_inverse=True)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(labels) != len(member):
        raise ValueError(f"groups must have one entry for each of the {len(labels)} rows, not {len(member)}.")
    if not 2 <= k <= len(names):
        raise ValueError(f"{k} folds need at least 2 folds and as many groups, but there are {len(names)} groups.")
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (member, labels), 1.0)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    share = counts / counts.sum(axis=0)
    filled = np.zeros((k, share.shape[1]))
    fold_of = np.zeros(len(names), np.int64)
    preference = rng.permutation(k)
    for group in order:
        # Putting g into fold f adds 2 f.g + g.g to the sum of squares: the least f.g keeps folds alike.
        cost = filled @ share[group]
        ties = preference[cost[preference] <= cost.min() + 1e-12]
        fold = ties[np.argmin(filled[ties].sum(axis=1))]
        filled[fold] += share[group]
        fold_of[group] = fold
    return [np.flatnonzero(fold_of[member] == fold) for fold in range(k)]
