"""L2 logistic regressions on many neuron sets of one size: the classifiers that compare neurons with control sets."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hneurons_eval.probe.l2 import fit_columns, standardised

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MAX_AT_ONCE = 4_000_000
"""Numbers that one batch of fits may hold; they take a few times 32 MB."""


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
    """An L2 logistic regression (C = 1) on the standardised columns of each set.

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
    picked = np.asarray(X[train[:, None, None], sets[None]], np.float64).transpose(1, 0, 2)  # [sets, rows, size]
    Z, mean, scale = standardised(picked)
    v = fit_columns(Z, y[train], np.ones(len(train)))
    weights = v[:, :-1] / scale
    return SetClassifiers(sets, weights, v[:, -1] - (weights * mean).sum(axis=1))
