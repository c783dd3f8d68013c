"""Calibration of probabilities: calibration error against its null, Brier skill, and Platt scaling.

```python
found = calibration(labels, probabilities)   # Brier score and skill, calibration error beside a perfect forecaster's
platt = fit_platt(labels, decisions)         # on decisions that were not trained on
platt(decisions)                             # probabilities
```
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from hneurons_eval.analysis.metrics import brier

Floats = NDArray[np.float64]
NULL_DRAWS = 1000


@dataclass(frozen=True)
class Platt:
    """Probabilities from decision values: 1 / (1 + exp(-(slope * z + offset))) (Platt 1999).

    Attributes:
        slope: at least 0, so that the order of the answers stays.
        offset: in log-odds.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, decisions: ArrayLike) -> Floats:
        """Probabilities of label 1, in the shape of the decisions."""
        return expit(self.slope * np.asarray(decisions, np.float64) + self.offset)


def fit_platt(labels: ArrayLike, decisions: ArrayLike) -> Platt:
    """Platt scaling: slope and offset of the smallest log-loss on answers that the decisions were not trained on.

    Labels are drawn in a little, to (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), as by Platt (1999), eq. 4: no class is
    certain.

    Args:
        labels: 0 or 1, `[answers]`.
        decisions: log-odds, `[answers]`.
    """
    from scipy.optimize import minimize

    y, z = np.asarray(labels), np.asarray(decisions, np.float64)
    ones, zeros = int((y == 1).sum()), int((y == 0).sum())
    target = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    scale = float(np.std(z)) or 1.0
    unit = (z - z.mean()) / scale

    def loss(v: Floats) -> tuple[float, Floats]:
        at = v[0] * unit + v[1]
        apart = expit(at) - target
        return float((np.logaddexp(0.0, at) - target * at).sum()), np.array([apart @ unit, apart.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(1e-3, None), (None, None)], method="L-BFGS-B")
    slope = float(found.x[0]) / scale
    return Platt(slope, float(found.x[1]) - slope * float(z.mean()))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """Reliability curve: mean probability, share of label 1 and number of answers, in bins of equal size."""
    y, p = np.asarray(labels), np.asarray(probabilities, float)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts]


def calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean distance of probability and share over the bins of `reliability`, weighted by answers."""
    found = reliability(labels, probabilities)
    total = sum(count for _, _, count in found)
    return sum(abs(mean - share) * count for mean, share, count in found) / total


def brier_skill(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """1 - Brier score / that of the constant that knows the share of label 1; below 0 is worse than the constant.

    NaN where one class is missing.
    """
    share = float(np.asarray(labels, np.float64).mean())
    constant = share * (1 - share)
    return 1 - brier(labels, probabilities) / constant if constant else float("nan")


def calibration(labels: ArrayLike, probabilities: ArrayLike, seed: int = 0) -> dict[str, float]:
    """Brier score and skill, and the calibration error beside that of perfectly calibrated probabilities.

    The calibration error is above 0 even for perfect probabilities, since a bin's share is that of few answers. Its
    null is simulated: labels drawn from the probabilities themselves (the consistency test of Broecker & Smith 2007).

    Returns:
        `brier`, `brier_skill`, `calibration_error`, `calibration_error_null` (mean under perfect calibration) and
        `calibration_p` (one-sided).
    """
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    error = calibration_error(y, p)
    rng = np.random.default_rng(seed)
    drawn = rng.random((NULL_DRAWS, len(p))) < p
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(10, len(order))) if len(part)]
    apart = sum(len(part) * np.abs(drawn[:, part].mean(axis=1) - p[part].mean()) for part in parts) / len(p)
    null = np.asarray(apart)
    return {
        "brier": brier(y, p),
        "brier_skill": brier_skill(y, p),
        "calibration_error": error,
        "calibration_error_null": float(null.mean()),
        "calibration_p": float((1 + (null >= error - 1e-12).sum()) / (1 + NULL_DRAWS)),
    }
