"""Transfer of a probe to another checkpoint: AUROC, and accuracy at the old and at refitted thresholds.

Gao et al. 2025, section 4 (backward transfer): the classifier of the instruct model, unchanged, on its base model. The
probabilities of another checkpoint lie elsewhere, so the old threshold may fail where the order of the answers is as
good as before; hence AUROC, and accuracy at the old threshold beside accuracy at one refitted.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.bootstrap import RESAMPLES, bootstrap_interval, flat
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import balanced_statistic, best_threshold, mean_statistic
from hneurons_eval.analysis.tests import permutation_p

FOLDS = 5
ANSWER_CUE = "\nAnswer:"
"""What follows the question in the paper's prompt for base models; the answer ends at the first newline."""


def refitted(
    labels: ArrayLike, probabilities: ArrayLike, groups: ArrayLike, folds: int = FOLDS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Calls at thresholds that were each chosen without the answers they are used on.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        probabilities: `[answers]`.
        groups: of each answer, its question: never on both sides.
        folds: parts; each is called at the threshold of greatest balanced accuracy on the others.

    Returns:
        calls `[answers]`, 1 = hallucinated; and the thresholds `[folds]`.

    Raises:
        ValueError: fewer groups than two.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    calls = np.zeros(len(y), np.int64)
    thresholds = []
    parts = grouped_folds(y, groups, min(folds, len(np.unique(np.asarray(groups)))))
    for part in parts:
        rest = np.setdiff1d(np.arange(len(y)), part)
        thresholds.append(best_threshold(y[rest], p[rest]))
        calls[part] = p[part] > thresholds[-1]
    return calls, np.array(thresholds)


def transfer_figures(
    labels: Sequence[int],
    probabilities: Sequence[float],
    predictions: Sequence[int],
    questions: Sequence[str],
    controls: Mapping[str, ArrayLike] | None = None,
) -> dict[str, float]:
    """Accuracy at the old and at refitted thresholds, plain and balanced, beside random neuron sets refitted alike.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        probabilities: by the probe.
        predictions: at the probe's own threshold.
        questions: of each answer; the unit of resampling and of folds.
        controls: probabilities by other neuron sets, by kind: `[sets, answers]` each.

    Returns:
        `balanced_accuracy` at the old threshold, `accuracy_refit` and `balanced_accuracy_refit`, each with interval;
        `threshold_refit` (mean over folds); of each kind of sets the mean and middle 95 % of their
        `<kind>_balanced_accuracy_refit` and the p against them. Nothing where a class is missing or there are fewer
        than ten answers.
    """
    y, units = np.asarray(labels), np.asarray(questions)
    if len(set(y.tolist())) < 2 or len(np.unique(units)) < 10:
        return {}
    calls, thresholds = refitted(y, probabilities, units)
    wanted = {
        "balanced_accuracy": balanced_statistic(y, predictions),
        "accuracy_refit": mean_statistic((calls == y).astype(float)),
        "balanced_accuracy_refit": balanced_statistic(y, calls),
    }
    found = {"threshold_refit": float(thresholds.mean())}
    for name, statistic in wanted.items():
        found |= flat(name, bootstrap_interval(statistic, units, n=RESAMPLES))
    once = np.ones((1, len(y)))
    for kind, sets in (controls or {}).items():
        levels = np.array(
            [float(balanced_statistic(y, refitted(y, own, units)[0])(once)[0]) for own in np.asarray(sets, float)]
        )
        name = f"{kind}_balanced_accuracy_refit"
        found |= {
            name: float(levels.mean()),
            f"{name}_low": float(np.quantile(levels, 0.025)),
            f"{name}_high": float(np.quantile(levels, 0.975)),
            f"{name}_p": permutation_p(found["balanced_accuracy_refit"], levels),
        }
    return found
