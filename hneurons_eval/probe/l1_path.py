"""L1 logistic regression over a whole path of C, fast enough to cross-validate over every neuron.

```python
path = fit_path(X, y)                                # 20 values of C, from no neuron to many
found = cross_validate_path(X, y, groups)            # the same, and a decision for each row left out
chosen = found.select("auroc", rule="one_se")        # index into found.Cs
```

Minimised, with C as scikit-learn and liblinear count it and the intercept b free:

    C * sum_i s_i * log(1 + exp(-t_i * (x_i . w + b))) + ||w||_1,    t_i = 2 * y_i - 1

liblinear (scikit-learn's `solver="liblinear"` with `intercept_scaling=1`) adds |b| to that;
`penalise_intercept=True` does the same. X is used as it is: neither scaled nor copied.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from hneurons_eval.analysis import statistics
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.probe.l1_solver import Floats, Ints, Solution, smallest_useful_c, solve

N_CS = 20
C_RANGE = 1000.0


@dataclass(frozen=True)
class Path:
    """Fits over ascending or given Cs.  k = number of Cs."""

    Cs: Floats  # [k], as given
    coefs: sparse.csr_array  # [k, neurons]
    intercepts: Floats  # [k]
    gaps: Floats  # [k], (primal - dual) / primal: the objective is at most this share above the optimum
    n_iter: Ints  # [k], proximal Newton steps
    decisions: Floats  # [k, rows], X w + b of every row, of those with weight 0 too

    @property
    def n_nonzero(self) -> Ints:
        """[k] neurons with a weight."""
        return np.diff(self.coefs.indptr).astype(np.int64)

    @property
    def n_positive(self) -> Ints:
        """[k] neurons with a positive weight: the H-Neurons each C would select."""
        rows = np.repeat(np.arange(self.Cs.size), self.n_nonzero)
        return np.bincount(rows[self.coefs.data > 0], minlength=self.Cs.size)

    def positive(self, k: int) -> Ints:
        """Flat indices of the neurons with a positive weight at Cs[k], ascending."""
        row = slice(self.coefs.indptr[k], self.coefs.indptr[k + 1])
        return np.sort(self.coefs.indices[row][self.coefs.data[row] > 0]).astype(np.int64)

    def nonzero(self, k: int) -> Ints:
        """Flat indices of the neurons with a weight at Cs[k], ascending."""
        return np.sort(self.coefs.indices[self.coefs.indptr[k] : self.coefs.indptr[k + 1]]).astype(np.int64)

    def weights(self, k: int) -> Floats:
        """[neurons], the weights at Cs[k], dense."""
        row = slice(self.coefs.indptr[k], self.coefs.indptr[k + 1])
        _, neurons = self.coefs.shape  # type: ignore[misc]
        weights = np.zeros(neurons)
        weights[self.coefs.indices[row]] = self.coefs.data[row]
        return weights


@dataclass(frozen=True)
class CrossValidation:
    """A path fitted to all rows, one for each fold, and the decisions on the rows each fold left out."""

    path: Path
    fold_paths: list[Path]
    folds: list[Ints]  # the test rows of each
    y: Ints  # [rows]
    decisions: Floats  # [k, rows], out of fold: log-odds of label 1

    @property
    def Cs(self) -> Floats:  # noqa: N802
        return self.path.Cs

    def scores(self, metric: Literal["auroc", "accuracy", "log_loss"] = "auroc") -> Floats:
        """[k, folds], greater is better (`log_loss` is negated): the metric on each fold's test rows."""
        measure = {
            "auroc": statistics.auroc,
            "accuracy": lambda y, z: float(np.mean((z > 0) == (y == 1))),
            "log_loss": lambda y, z: -float(np.mean(np.logaddexp(0, z) - y * z)),
        }[metric]
        return np.array([[measure(self.y[f], z[f]) for f in self.folds] for z in self.decisions])

    def select(
        self,
        metric: Literal["auroc", "accuracy", "log_loss"] = "auroc",
        rule: Literal["best", "one_se"] = "best",
    ) -> int:
        """Index into Cs: the smallest C with the best mean, or within one standard error of it.

        `one_se` is Breiman's rule (Hastie et al., The Elements of Statistical Learning, 7.10): the
        sparsest model that is not measurably worse.
        """
        scores = self.scores(metric)
        means = scores.mean(axis=1)
        best = int(np.argmax(means))
        slack = 1e-12
        if rule == "one_se":
            slack = float(scores[best].std(ddof=1) / np.sqrt(scores.shape[1]))
        smallest_first = np.argsort(self.Cs, kind="stable")
        return int(smallest_first[np.argmax(means[smallest_first] >= means[best] - slack)])

    def positive_frequency(self, k: int) -> Floats:
        """[neurons], the share of folds in which each neuron's weight is positive at Cs[k]."""
        times = np.zeros(self.path.weights(k).size)
        for path in self.fold_paths:
            times[path.positive(k)] += 1
        return times / len(self.fold_paths)


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
        groups: [rows] or None. Their length is checked; a single fit does not need them
            (`cross_validate_path` does).
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
        n_iter=np.array([one.newton_steps for one in solutions], np.int64),
        decisions=np.stack([one.decision for one in solutions]),
    )


def cross_validate_path(
    X: NDArray[Any],
    y: ArrayLike,
    groups: ArrayLike | None = None,
    Cs: ArrayLike | None = None,
    *,
    folds: int | list[Ints] = 5,
    seed: int = 0,
    tol: float = 1e-4,
    penalise_intercept: bool = False,
) -> CrossValidation:
    """`fit_path` on all rows and without each fold in turn, in one run over X.

    Args:
        groups: [rows], what must not stand on both sides of a split (the question). None: each row alone.
        folds: how many, made by `grouped_folds`; or lists of test rows of one's own, for example whole
            relations held out. Decisions of rows that are in no list are NaN.
        seed: of the folds.

    Raises:
        ValueError: as in `fit_path`; fewer groups than folds; a fold without which a class is gone.
    """
    X, y = checked(X, y, groups)
    groups = np.arange(len(y)) if groups is None else np.asarray(groups)
    tests = grouped_folds(y, groups, folds, seed) if isinstance(folds, int) else [np.asarray(f) for f in folds]
    weights = np.ones((len(tests) + 1, len(y)))
    for k, test in enumerate(tests):
        weights[k + 1, test] = 0.0
        if np.isin(groups[test], np.delete(groups, test)).any():
            raise ValueError(f"fold {k} splits a group: some of its rows are tested, others trained on.")
    path, *fold_paths = fit_paths(X, y, weights, Cs, tol=tol, penalise_intercept=penalise_intercept)
    decisions = np.full((path.Cs.size, len(y)), np.nan)
    for test, fitted in zip(tests, fold_paths, strict=True):
        decisions[:, test] = fitted.decisions[:, test]
    return CrossValidation(path, fold_paths, tests, y, decisions)


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
        raise ValueError(f"y must hold both classes, but every label is {int(y[0])}.")
    if groups is not None and np.asarray(groups).shape != y.shape:
        raise ValueError(
            f"groups must have one entry for each of the {X.shape[0]} rows of X, not shape {np.asarray(groups).shape}."
        )
    return X, y.astype(np.int64)
