"""The choice of C: its grid, the held-out figures at each C, and the best of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hneurons_eval.analysis.metrics import auroc, best_threshold
from hneurons_eval.probe.l1_path import Path
from hneurons_eval.probe.settings import Settings

Floats = NDArray[np.float64]
GRID_POINTS = 12


FAR = 0.3
"""Losses are cut off this many nats above the smallest."""


GRID = (3.0, 300.0)
"""The grid of C reaches from 3 to 300 times the smallest C that selects any neuron."""


def log_loss(y: NDArray[np.int64], decisions: Floats) -> float:
    """Mean log-loss of log-odds `[answers]`, moved to the share of label 1 that these answers have.

    The probe of mode `3-vs-1` is trained on three rows of label 0 for each of label 1, which only moves its intercept.
    """
    offset = 0.0
    for _ in range(50):  # Newton; the loss is convex in the offset
        p = expit(decisions + offset)
        step = float((y - p).sum() / max((p * (1 - p)).sum(), 1e-9))
        offset += float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-9:
            break
    z = decisions + offset
    return float(np.mean(np.logaddexp(0.0, z) - y * z))


def smoothed(losses: Floats) -> Floats:
    """The least-squares parabola through losses on a geometric grid of C; fewer than four losses as they are.

    Losses are cut off at `FAR` above the smallest: those of overconfident probes would pull the parabola away from it.
    """
    if len(losses) < 4:
        return losses
    at = np.linspace(-1.0, 1.0, len(losses))
    fitted = np.polyfit(at, np.minimum(losses, losses.min() + FAR), 2)
    return np.asarray(np.polyval(fitted, at), np.float64)


def held_out(labels: NDArray[np.int64], decisions: Floats) -> tuple[Floats, Floats, Floats]:
    """Accuracy (at the best threshold), log-loss and AUROC at each C, `[Cs]` each.

    Args:
        labels: 0 or 1, `[answers]`.
        decisions: log-odds by probes that did not see the answer, `[Cs, answers]`.
    """
    accuracies, losses, aurocs = [], [], []
    for own in decisions:
        p = expit(own)
        accuracies.append(float(((p > best_threshold(labels, p)) == labels).mean()))
        losses.append(log_loss(labels, own))
        aurocs.append(auroc(labels, own))
    return np.array(accuracies), np.array(losses), np.array(aurocs)


def best_index(
    path: Path, accuracies: Floats, losses: Floats, settings: Settings, suppressed: Sequence[float] | None
) -> int:
    """Index of the best C; of equals the smallest, which selects the fewest neurons.

    `auto` takes the minimum of a parabola through the held-out log-loss over log C. Accuracy is flatter in C than its
    error, so that its maximum is a matter of luck: over resampled answers the number of neurons then varies twice as
    much on the log scale, at much the same AUROC (docs/validity.md).

    Args:
        path: of all training answers.
        accuracies, losses: as `held_out` gives them, `[Cs]`.
        settings: penalty and rule.
        suppressed: with the rule `paper`, accuracy of the model with the candidates suppressed, `[Cs]`.
    """
    usable = np.ones(len(losses), np.bool_)
    if settings.penalty == "l1":
        usable = path.n_positive > 0
        if not usable.any():
            return len(losses) - 1
        if (few := usable & (2 * path.n_nonzero <= path.coefs.shape[1])).any():  # type: ignore[index]
            usable = few  # more could not be compared with random ones
    if settings.C == "paper":
        score = accuracies + (0.0 if suppressed is None else np.asarray(suppressed))
    else:
        score = -smoothed(losses)
    return int(np.argmax(np.where(usable, score, -np.inf)))
