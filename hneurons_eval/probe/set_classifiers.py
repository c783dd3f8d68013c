"""The same linear classifier on many neuron sets of one size, fitted at once: what control sets are compared by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MAX_AT_ONCE = 4_000_000
"""Numbers that are fitted to at once; a few times 32 MB."""


@dataclass(frozen=True)
class SetClassifiers:
    """A linear classifier on each of several sets of neurons.

    Attributes:
        neurons: flat indices, int64 `[sets, size]`.
        weights: float64 `[sets, size]`.
        intercepts: float64 `[sets]`.
    """

    neurons: Ints
    weights: Floats
    intercepts: Floats

    def scores(self, answers: NDArray[Any]) -> Floats:
        """Probabilities of label 1: `[sets, answers]`, from contributions `[answers, neurons]`."""
        picked = np.asarray(answers[:, self.neurons], np.float64)  # [answers, sets, size]
        return expit(np.einsum("ask,sk->sa", picked, self.weights) + self.intercepts[:, None])


def fit_sets(X: NDArray[Any], sets: Ints, y: Floats, train: Ints) -> SetClassifiers:
    """An L2 logistic regression (C = 1) on each set's standardised columns, several of them at once.

    Args:
        X: contributions `[rows, neurons]`.
        sets: flat indices, `[sets, size]`.
        y: 0 or 1, `[rows]`.
        train: the rows to fit on.
    """
    some = max(1, MAX_AT_ONCE // (len(train) * sets.shape[1]))
    if len(sets) > some:
        parts = [fit_sets(X, sets[k : k + some], y, train) for k in range(0, len(sets), some)]
        weights = np.concatenate([part.weights for part in parts])
        return SetClassifiers(sets, weights, np.concatenate([part.intercepts for part in parts]))
    Z = np.asarray(X[train[:, None, None], sets[None]], np.float64).transpose(1, 0, 2)  # [sets, rows, size]
    mean, deviation = Z.mean(axis=1), Z.std(axis=1)
    scale = np.where(deviation > 0, deviation, 1.0)
    Z = (Z - mean[:, None]) / scale[:, None]
    v = _newton(np.concatenate([Z, np.ones((*Z.shape[:2], 1))], axis=2), y[train])
    weights = v[:, :-1] / scale
    return SetClassifiers(sets, weights, v[:, -1] - (weights * mean).sum(axis=1))


def _newton(Z: Floats, y: Floats) -> Floats:
    """argmin over v of sum of log-losses + |v|^2 / 2 without the last column, the intercept's.

    Args:
        Z: `[sets, rows, columns]`.
        y: `[rows]`.

    Returns:
        `[sets, columns]`.
    """
    count, _, columns = Z.shape
    ridge = np.append(np.ones(columns - 1), 0.0)
    v = np.zeros((count, columns))

    def objective(v: Floats) -> Floats:
        z = np.einsum("snk,sk->sn", Z, v)
        return (np.logaddexp(0.0, z) - y * z).sum(axis=1) + (ridge * v**2).sum(axis=1) / 2

    value = objective(v)
    for _ in range(100):
        p = expit(np.einsum("snk,sk->sn", Z, v))
        gradient = np.einsum("snk,sn->sk", Z, p - y) + ridge * v
        curved = np.maximum(p * (1 - p), 1e-12)
        hessian = np.matmul((Z * curved[:, :, None]).transpose(0, 2, 1), Z)
        hessian[:, np.arange(columns), np.arange(columns)] += ridge + 1e-12
        step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
        size = np.ones(count)
        reached = objective(v + step)
        while ((worse := reached > value) & (size > 1e-6)).any():
            size[worse] /= 2
            reached = np.where(worse, objective(v + size[:, None] * step), reached)
            if size.min() <= 1e-6:
                break
        better = reached <= value
        gained = np.where(better, value - reached, 0.0)
        v = np.where(better[:, None], v + size[:, None] * step, v)
        value = np.where(better, reached, value)
        if (gained <= 1e-12 * (1 + np.abs(value))).all():
            break
    return v
