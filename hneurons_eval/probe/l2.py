"""L2 logistic regression by Newton's method, in as many dimensions as the smaller side of X has.

Minimised, C as in scikit-learn and the intercept free: C * sum_i s_i * log(1 + exp(-t_i z_i)) + ||w||^2 / 2.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import expit
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
BLOCK = 4096  # columns of X worked on at a time


def fit_l2(X: NDArray[Any], y: Floats, C: float = 1.0, sample_weight: Floats | None = None) -> tuple[Floats, float]:
    """Weights [neurons] and intercept.

    With more neurons than rows the solution is a combination of the rows, w = X' a (the representer
    theorem), so all that is needed of X is the Gram matrix of its rows, added up over blocks of columns.

    Args:
        X: finite, [rows, neurons]; not copied when it has more neurons than rows.
        y: 0 or 1, [rows], both present.
        sample_weight: [rows], >= 0; 0 leaves a row out.
    """
    s = np.ones(len(y)) if sample_weight is None else sample_weight
    if X.shape[1] <= X.shape[0]:
        return _primal(np.asarray(X, np.float64), y, C * s)
    used = np.flatnonzero(s > 0)
    a, b = _dual(gram(X)[np.ix_(used, used)], y[used], C * s[used])
    full = np.zeros(len(y))
    full[used] = a
    return transposed_product(X, full), b


def gram(X: NDArray[Any]) -> Floats:
    """Products of the rows of X `[rows, columns]` with one another: float64 `[rows, rows]`, without copying X."""
    products = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], BLOCK):
        block = X[:, start : start + BLOCK]
        products += block @ block.T
    return products


def fit_gram(products: Floats, y: Floats, C: float = 1.0) -> tuple[Floats, float]:
    """`fit_l2` on rows of which only the Gram matrix is known: (a, b) with w = X' a, decision = products @ a + b.

    Args:
        products: `[rows, rows]`.
        y: 0 or 1, `[rows]`, both present.
    """
    return _dual(products, y, np.full(len(y), C))


def decide(X: NDArray[Any], w: Floats, b: float) -> Floats:
    """X w + b in float64, [rows], without a float64 copy of X."""
    active = np.flatnonzero(w)
    if active.size <= X.shape[1] // 4:
        return np.asarray(X[:, active], np.float64) @ w[active] + b
    rows = max(1, 8_000_000 // X.shape[1])
    pieces = [X[k : k + rows].astype(np.float64) @ w for k in range(0, X.shape[0], rows)]
    return np.concatenate(pieces) + b if pieces else np.zeros(0)


def transposed_product(X: NDArray[Any], a: Floats) -> Floats:
    """X' a in float64, `[columns]`, without a float64 copy of X."""
    rows = max(1, 8_000_000 // X.shape[1])
    out = np.zeros(X.shape[1])
    for k in range(0, X.shape[0], rows):
        out += a[k : k + rows] @ X[k : k + rows].astype(np.float64)
    return out


def _primal(X: Floats, y: Floats, weight: Floats) -> tuple[Floats, float]:
    """Newton on (w, b), damped by halving.  `weight` is C * s."""
    Z = np.column_stack([X, np.ones(len(y))])
    ridge = np.append(np.ones(X.shape[1]), 0.0)
    v = np.zeros(Z.shape[1])
    value = _value(Z @ v, y, weight)
    with threadpool_limits(1, "blas"):
        for _ in range(100):
            p = expit(Z @ v)
            gradient = ridge * v - Z.T @ (weight * (y - p))
            curved = weight * np.maximum(p * (1 - p), 1e-12)
            hessian = (Z.T * curved) @ Z
            hessian[np.diag_indices_from(hessian)] += ridge
            step = linalg.solve(hessian, -gradient, assume_a="pos")
            v, value, gained = _line_search(
                v, step, value, lambda v: _value(Z @ v, y, weight) + float(ridge @ v**2) / 2
            )
            if gained <= 1e-12 * (1 + abs(value)):
                break
    return v[:-1], float(v[-1])


def _dual(K: Floats, y: Floats, weight: Floats) -> tuple[Floats, float]:
    """Newton on (a, b) with z = K a + b and penalty a' K a / 2 (Rasmussen & Williams 2006, alg. 3.1).

    The intercept is free, which adds the constraint sum(a) = 0: one more right-hand side.
    """
    a, b = np.zeros(len(y)), 0.0
    value = _value(np.zeros(len(y)), y, weight)
    for _ in range(100):
        z = K @ a + b
        p = expit(z)
        curved = weight * np.maximum(p * (1 - p), 1e-12)
        root = np.sqrt(curved)
        inner = root[:, None] * K * root
        inner[np.diag_indices_from(inner)] += 1.0
        target = root * (z + weight * (y - p) / curved)
        solved = linalg.solve(inner, np.column_stack([target, root]), assume_a="pos", overwrite_a=True)
        b_new = float(root @ solved[:, 0]) / float(root @ solved[:, 1])
        a_new = root * (solved[:, 0] - b_new * solved[:, 1])
        point = np.append(a, b)
        point, value, gained = _line_search(
            point,
            np.append(a_new, b_new) - point,
            value,
            lambda v: _value(K @ v[:-1] + v[-1], y, weight) + float(v[:-1] @ (K @ v[:-1])) / 2,
        )
        a, b = point[:-1], float(point[-1])
        if gained <= 1e-12 * (1 + abs(value)):
            break
    return a, b


def _value(z: Floats, y: Floats, weight: Floats) -> float:
    return float(weight @ (np.logaddexp(0.0, z) - y * z))


def _line_search(point: Floats, step: Floats, value: float, objective: Any) -> tuple[Floats, float, float]:
    """The first of point + step, step/2, ... that is better, its value, and by how much."""
    size = 1.0
    while size > 1e-6:
        candidate = point + size * step
        reached = objective(candidate)
        if reached <= value:
            return candidate, reached, value - reached
        size /= 2
    return point, value, 0.0
