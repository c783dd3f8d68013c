"""L2 logistic regression by one damped Newton method: on columns, on many column sets at once, or on a Gram matrix.

Minimised, with C as in scikit-learn and the intercept free: C * sum_i s_i * log(1 + exp(-t_i z_i)) + ||w||^2 / 2.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import expit
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]
BLOCK = 4096
"""Columns of X in one step of a Gram matrix."""


def fit_l2(X: NDArray[Any], y: Floats, C: float = 1.0, sample_weight: Floats | None = None) -> tuple[Floats, float]:
    """Weights `[neurons]` and intercept of one fit.

    With more neurons than rows the solution is a combination of the rows, w = X' a (the representer theorem), so the
    fit needs only the Gram matrix of the rows, which is added up over blocks of columns.

    Args:
        X: finite, `[rows, neurons]`; not copied where it has more neurons than rows.
        y: 0 or 1, both present, `[rows]`.
        C: inverse strength of the penalty.
        sample_weight: at least 0, `[rows]`; 0 leaves a row out.
    """
    s = np.ones(len(y)) if sample_weight is None else sample_weight
    if X.shape[1] <= X.shape[0]:
        with threadpool_limits(1, "blas"):
            v = fit_columns(np.asarray(X, np.float64)[None], y, C * s)[0]
        return v[:-1], float(v[-1])
    used = np.flatnonzero(s > 0)
    a, b = _fit_gram(gram(X)[np.ix_(used, used)], y[used], C * s[used])
    full = np.zeros(len(y))
    full[used] = a
    return transposed_product(X, full), b


def gram(X: NDArray[Any]) -> Floats:
    """Gram matrix of the rows of X `[rows, columns]`: float64 `[rows, rows]`, without copying X."""
    products = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], BLOCK):
        block = X[:, start : start + BLOCK]
        products += block @ block.T
    return products


def fit_gram(products: Floats, y: Floats) -> tuple[Floats, float]:
    """`fit_l2` with C = 1 from the Gram matrix of the rows: (a, b) with w = X' a and log-odds `products @ a + b`.

    Args:
        products: `[rows, rows]`.
        y: 0 or 1, `[rows]`, both present.
    """
    return _fit_gram(products, y, np.ones(len(y)))


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


def fit_columns(X: Floats, y: Floats, weight: Floats) -> Floats:
    """Several fits with the same labels, side by side.

    Args:
        X: `[fits, rows, columns]`.
        y: 0 or 1, `[rows]`.
        weight: C times the sample weights, `[rows]`.

    Returns:
        weights and then the intercept of each fit, `[fits, columns + 1]`.
    """
    Z = np.concatenate([X, np.ones((*X.shape[:2], 1))], axis=2)
    ridge = np.append(np.ones(X.shape[2]), 0.0)
    diagonal = np.arange(len(ridge))

    def objective(v: Floats) -> Floats:
        z = np.einsum("snk,sk->sn", Z, v)
        return (weight * (np.logaddexp(0.0, z) - y * z)).sum(axis=1) + (ridge * v**2).sum(axis=1) / 2

    def step(v: Floats) -> Floats:
        p = expit(np.einsum("snk,sk->sn", Z, v))
        gradient = np.einsum("snk,sn->sk", Z, weight * (p - y)) + ridge * v
        curved = weight * np.maximum(p * (1 - p), 1e-12)
        hessian = np.matmul((Z * curved[:, :, None]).transpose(0, 2, 1), Z)
        hessian[:, diagonal, diagonal] += ridge + 1e-12
        return np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]

    return _newton(np.zeros((len(Z), len(ridge))), objective, step)


def _fit_gram(K: Floats, y: Floats, weight: Floats) -> tuple[Floats, float]:
    """(a, b) with log-odds z = K a + b and penalty a' K a / 2 (Rasmussen & Williams 2006, algorithm 3.1).

    The intercept is free, which adds the constraint sum(a) = 0: one more right-hand side.
    """

    def objective(v: Floats) -> Floats:
        a = v[0, :-1]
        product = K @ a
        z = product + v[0, -1]
        return np.array([weight @ (np.logaddexp(0.0, z) - y * z) + float(a @ product) / 2])

    def step(v: Floats) -> Floats:
        z = K @ v[0, :-1] + v[0, -1]
        p = expit(z)
        curved = weight * np.maximum(p * (1 - p), 1e-12)
        root = np.sqrt(curved)
        inner = root[:, None] * K * root
        inner[np.diag_indices_from(inner)] += 1.0
        target = root * (z + weight * (y - p) / curved)
        solved = linalg.solve(inner, np.column_stack([target, root]), assume_a="pos", overwrite_a=True)
        b = float(root @ solved[:, 0]) / float(root @ solved[:, 1])
        return np.append(root * (solved[:, 0] - b * solved[:, 1]), b)[None] - v

    found = _newton(np.zeros((1, len(y) + 1)), objective, step)[0]
    return found[:-1], float(found[-1])


def _newton(v: Floats, objective: Callable[[Floats], Floats], step: Callable[[Floats], Floats]) -> Floats:
    """Minimise several convex functions side by side, halving steps that do not improve.

    Args:
        v: where to start, `[fits, parameters]`.
        objective: from points to values `[fits]`.
        step: from points to Newton steps `[fits, parameters]`.
    """
    value = objective(v)
    for _ in range(100):
        move, size = step(v), np.ones(len(v))
        reached = objective(v + move)
        while ((worse := ~(reached <= value)) & (size > 1e-6)).any():
            size[worse] /= 2
            reached = np.where(worse, objective(v + size[:, None] * move), reached)
        better = ~worse
        gained = np.where(better, value - reached, 0.0)
        v = np.where(better[:, None], v + size[:, None] * move, v)
        value = np.where(better, reached, value)
        if (gained <= 1e-12 * (1 + np.abs(value))).all():
            break
    return v


def standardised(X: Floats) -> tuple[Floats, Floats, Floats]:
    """Columns of mean 0 and standard deviation 1, with their means and scales; constant columns become 0.

    Args:
        X: `[..., rows, columns]`.

    Returns:
        `[..., rows, columns]`, and `[..., columns]` twice.
    """
    mean, deviation = X.mean(axis=-2), X.std(axis=-2)
    scale = np.where(deviation > 0, deviation, 1.0)
    return (X - mean[..., None, :]) / scale[..., None, :], mean, scale
