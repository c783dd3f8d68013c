"""L1 logistic regression at many values of C at once, on all neurons.

```python
path = fit_path(X, y)                     # 20 values of C, from no neuron to many
path.n_positive, path.positive(7)         # neurons with a positive weight: how many at each C, which at Cs[7]
paths = fit_paths(X, y, weights, path.Cs) # one path for each row of weights: folds, half-samples
```

Minimised, with C as scikit-learn and liblinear count it and the intercept b free:

    C * sum_i s_i * log(1 + exp(-t_i * (x_i . w + b))) + ||w||_1,    t_i = 2 * y_i - 1

liblinear (scikit-learn's `solver="liblinear"` with `intercept_scaling=1`) adds |b| to that;
`penalise_intercept=True` does the same. X is used as it is: neither scaled nor copied.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hneurons_eval.probe.l1_solver import Floats, Ints, Solution, smallest_useful_c, solve

N_CS = 20
C_RANGE = 1000.0


@dataclass(frozen=True)
class Path:
    """Fits at several values of C.

    Attributes:
        Cs: `[Cs]`, in the order given.
        coefs: weights, sparse `[Cs, neurons]`.
        intercepts: `[Cs]`.
        gaps: relative duality gaps (primal - dual) / primal, `[Cs]`: the objective is at most this share above the
            optimum.
        decisions: log-odds of every row, also of those with weight 0, `[Cs, rows]`.
    """

    Cs: Floats
    coefs: sparse.csr_array
    intercepts: Floats
    gaps: Floats
    decisions: Floats

    @property
    def n_nonzero(self) -> Ints:
        """Number of neurons with a weight, `[Cs]`."""
        return np.diff(self.coefs.indptr).astype(np.int64)

    @property
    def n_positive(self) -> Ints:
        """Number of neurons with a positive weight, `[Cs]`: the H-neurons that each C would select."""
        rows = np.repeat(np.arange(self.Cs.size), self.n_nonzero)
        return np.bincount(rows[self.coefs.data > 0], minlength=self.Cs.size)

    def weights(self, k: int) -> Floats:
        """Weights at Cs[k], dense `[neurons]`."""
        return self.coefs[[k]].toarray()[0]

    def nonzero(self, k: int) -> Ints:
        """Flat indices of the neurons with a weight at Cs[k], ascending."""
        return np.flatnonzero(self.weights(k))

    def positive(self, k: int) -> Ints:
        """Flat indices of the neurons with a positive weight at Cs[k], ascending."""
        return np.flatnonzero(self.weights(k) > 0)


def fit_path(
    X: NDArray[Any],
    y: ArrayLike,
    groups: ArrayLike | None = None,
    Cs: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-4,
    penalise_intercept: bool = False,
) -> Path:
    """Fit every C in one warm-started run.

    Args:
        X: contributions, float32 or float64 [rows, neurons], row- or column-major, memory-mapped or
            not. Copies are made only of the columns that come into question, some sixteenths of X at most.
        y: 0 or 1, [rows].
        groups: [rows] or None, as scikit-learn passes them; a fit uses no groups, and only their length is checked.
        Cs: numbers > 0 in any order; results come in that order. None: 20 values, evenly spaced in
            log C, from the smallest that could select a neuron to 1,000 times that.
        sample_weight: [rows], >= 0. A row of weight 0 takes no part, but gets its decision.
        tol: the relative duality gap to reach. At 1e-4 every objective is within 0.01 % of the optimum;
            for the exact support use 1e-8.
        penalise_intercept: add |b|, as liblinear does, for comparison with it; several times slower.

    Raises:
        ValueError: X not finite or not 2-D; y other than 0 and 1 or of one class only; lengths that
            differ; a C that is not finite and positive.

    Warns:
        RuntimeWarning: a fit stopped above `tol`; `Path.gaps` says where.
    """
    X, y = checked(X, y, groups)
    weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    return fit_paths(X, y, weights[None], Cs, tol=tol, penalise_intercept=penalise_intercept)[0]


def fit_paths(
    X: NDArray[Any],
    y: ArrayLike,
    weights: ArrayLike,
    Cs: ArrayLike | None = None,
    *,
    tol: float = 1e-4,
    penalise_intercept: bool = False,
) -> list[Path]:
    """One path for each row of `weights` [fits, rows]; they share the passes over X.

    Folds and resamples are rows of weights: 0 leaves a row out, 2 counts it twice. `y` may be `[fits, rows]`, the
    labels of each fit, as shuffled labels need. With `Cs=None` the grid is that of the first. The rest is as in
    `fit_path`.
    """
    labels = np.asarray(y)
    several = labels.ndim == 2 and len(labels) > 0
    X, first = checked(X, labels[0] if several else labels)
    s = np.ascontiguousarray(weights, np.float64)
    if s.ndim != 2 or s.shape[1] != len(first):
        raise ValueError(f"sample weights must have one entry for each of the {len(first)} rows, not shape {s.shape}.")
    if not np.isfinite(s).all() or (s < 0).any():
        raise ValueError("sample weights must be finite and at least 0.")
    if several and labels.shape != s.shape:
        raise ValueError(f"labels must be those of {len(s)} fits of {len(first)} rows, not shape {labels.shape}.")
    target = np.stack([checked(X, own)[1] for own in labels] if several else [first] * len(s)).astype(np.float64)
    for label in (0, 1):
        if not (s * (target == label)).any(axis=1).all():
            raise ValueError(f"every fit needs rows of both classes, but one has no row of class {label}.")
    if Cs is None:
        grid = smallest_useful_c(X, target[0], s[0]) * np.geomspace(1.0, C_RANGE, N_CS)
    else:
        grid = np.atleast_1d(np.asarray(Cs, np.float64))
    if grid.ndim != 1 or not grid.size or not np.isfinite(grid).all() or (grid <= 0).any():
        raise ValueError(f"every C must be a finite number above 0, but Cs is {grid.tolist()}.")
    order = np.argsort(grid, kind="stable")
    solutions = solve(X, target, s, grid[order], tol, penalise_intercept)
    back = np.argsort(order)
    paths = [_path(grid, [path[i] for i in back], X.shape[1]) for path in solutions]
    worst = max(float(path.gaps.max()) for path in paths)
    if worst > tol:
        warnings.warn(
            f"the L1 path stopped at a relative duality gap of {worst:.1e}, above tol={tol:.0e}.",
            RuntimeWarning,
            stacklevel=2,
        )
    return paths


def _path(Cs: Floats, solutions: list[Solution], neurons: int) -> Path:
    sizes = [one.neurons.size for one in solutions]
    coefs = sparse.csr_array(
        (
            np.concatenate([one.weights for one in solutions]),
            np.concatenate([one.neurons for one in solutions]),
            np.concatenate([[0], np.cumsum(sizes)]),
        ),
        shape=(len(solutions), neurons),
    )
    return Path(
        Cs=Cs.copy(),
        coefs=coefs,
        intercepts=np.array([one.intercept for one in solutions]),
        gaps=np.array([one.gap for one in solutions]),
        decisions=np.stack([one.decision for one in solutions]),
    )


def checked(X: NDArray[Any], y: ArrayLike, groups: ArrayLike | None = None) -> tuple[NDArray[Any], Ints]:
    """X as a plain array without copying it, y as integers; ValueError says what is wrong with them."""
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must be [rows, neurons] and not empty, but its shape is {X.shape}.")
    if X.dtype not in (np.float32, np.float64):
        raise ValueError(f"X must be float32 or float64, not {X.dtype}.")
    X = X.view()
    X.flags.writeable = False  # one type for the compiler, whether X is mapped from a file or not
    y = np.asarray(y)
    if y.shape != (X.shape[0],):
        raise ValueError(f"y must have one label for each of the {X.shape[0]} rows of X, not shape {y.shape}.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, but y holds {np.unique(y)[:5].tolist()}.")
    if y.min() == y.max():
        raise ValueError(f"y must hold both classes, but has one class: every label is {int(y[0])}.")
    if groups is not None and np.asarray(groups).shape != y.shape:
        raise ValueError(
            f"groups must have one entry for each of the {X.shape[0]} rows of X, not shape {np.asarray(groups).shape}."
        )
    return X, y.astype(np.int64)
