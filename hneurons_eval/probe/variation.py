"""Variation of a probe: stability, refits on bootstrap samples, and refits on shuffled labels.

```python
found = vary(search, identified, settings, progress=print)
found.resampled          # the whole choice, C included, on bootstrap samples of the relations (else questions)
found.null_labels, found.null_scores    # held-out scores of probes that are fitted to shuffled labels
found.stability          # how often each neuron is chosen on half-samples
```
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.detection import StratifiedAuroc
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.shuffled_labels import SHUFFLES, ShuffledSelections
from hneurons_eval.models.controls import Activity, control_sets
from hneurons_eval.probe.l1_path import fit_paths
from hneurons_eval.probe.nested_cv import Identified, Search
from hneurons_eval.probe.set_classifiers import fit_sets
from hneurons_eval.probe.stability import ShuffledStability, shuffled_stability, stability
from hneurons_eval.probe.training_sets import TrainingRows, TrainingSet

Floats = NDArray[np.float64]
RESAMPLE_SETS = 39
"""Control sets of each resample: enough for a p of .025."""


@dataclass(frozen=True)
class Resampled:
    """One bootstrap sample of the groups.

    Attributes:
        C: chosen on it.
        neurons: with a weight; `positive` of them positive.
        auroc: on the answers that were not drawn; NaN where one class is missing.
        p: that sd-matched sets tell these answers apart as well as neurons chosen on halves of the sample.
    """

    C: float
    neurons: int
    positive: int
    auroc: float
    p: float


@dataclass(frozen=True)
class Variation:
    """How much a probe and its neurons vary with the answers, and what they are with shuffled labels.

    Attributes:
        stability: float64 `[neurons]`, share of the half-samples in which a neuron has a weight of the sign that it has
            in the probe.
        shuffled_stability: how many neurons are stable with shuffled labels.
        shuffled: what the C of the probe selects with shuffled labels.
        null_labels: labels shuffled within relations, `[shuffles, answers]`.
        null_scores: log-odds of each answer by probes of the same folds and C that were fitted to these labels and did
            not see it, `[shuffles, answers]`.
        resampled: bootstrap samples; fewer than asked for where one lacks a class.
    """

    stability: Floats
    shuffled_stability: ShuffledStability
    shuffled: ShuffledSelections
    null_labels: NDArray[np.int64]
    null_scores: Floats
    resampled: list[Resampled]


def vary(search: Search, found: Identified, progress: Callable[[str], None] = lambda _: None) -> Variation:
    """Refit on resampled answers and shuffled labels; takes about as long as the search itself.

    Args:
        search: fitted, with penalty `l1`.
        found: what it chose.
        progress: called with a line of text before each long step.
    """
    rows, settings, C = search.rows, search.settings, found.probe.C_
    progress(f"selecting again on {settings.resamples} half-samples, and with shuffled labels")
    share = stability(rows, C, found.probe.coef_, settings.resamples, settings.seed + 2)
    null = shuffled_stability(rows, C, seed=settings.seed + 2)
    labels, scores = label_null(search, found, progress)
    shuffled = shuffled_selections(rows, C, seed=settings.seed + 4)
    return Variation(share, null, shuffled, labels, scores, resampled(search, found.activity, progress))


def label_null(
    search: Search, found: Identified, progress: Callable[[str], None] = lambda _: None
) -> tuple[NDArray[np.int64], Floats]:
    """Labels shuffled within relations, and the out-of-fold scores of probes fitted to them.

    Args:
        search, found, progress: as `vary`.

    Returns:
        labels `[shuffles, answers]`, and log-odds by probes of the same folds and C `[shuffles, answers]`.
    """
    rows = search.rows
    labels, by_row = rows.shuffled(SHUFFLES, search.settings.seed + 4)
    scores = np.full(labels.shape, np.nan)
    for number, (fit, test, C) in enumerate(zip(search.fits[1:], search.folds, found.C_by_fold, strict=True), start=1):
        progress(f"fitting fold {number} of {len(search.folds)} to shuffled labels")
        weights = np.broadcast_to(fit.weights[rows.answers], by_row.shape)
        for own, path in zip(scores, fit_paths(rows.X, by_row, weights, [C]), strict=True):
            own[test] = search.decisions(path)[0, test]
    return labels, scores


def resampled(search: Search, activity: Activity, progress: Callable[[str], None] = lambda _: None) -> list[Resampled]:
    """The whole choice of C on bootstrap samples of the groups; empty where C is a number.

    With `C=paper` C is chosen by held-out accuracy alone: suppression would ask the model anew each time.
    """
    data, settings = search.data, search.settings
    if not isinstance(settings.C, str):
        return []
    names, member = np.unique(data.groups, return_inverse=True)
    rng = np.random.default_rng(settings.seed + 3)
    found = []
    for number in range(settings.repeats):
        progress(f"choosing again on resampled groups: {number + 1} of {settings.repeats}")
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]
        rows = np.flatnonzero(times)
        parts = min(settings.inner_folds, len(np.unique(data.groups[rows])))
        try:
            inner = grouped_folds(data.labels[rows], data.groups[rows], parts, settings.seed + 1)
        except ValueError:
            continue  # one class stands in too few groups of this sample
        fit = TrainingSet(times > 0, [rows[part] for part in inner], times.astype(np.float64))
        if all(len(np.unique(data.labels[np.setdiff1d(rows, part)])) == 2 for part in fit.inner):
            found.append(_resampled_once(search, fit, np.flatnonzero(times == 0), activity))
    return found


def _resampled_once(search: Search, fit: TrainingSet, left_out: NDArray[np.int64], activity: Activity) -> Resampled:
    fit.path, fit.inner_decisions = search.fit_one(fit, search.grid(fit.weights))
    k, path = search.best(fit, None), fit.fitted_path
    value, p = float("nan"), float("nan")
    if len(np.unique(search.data.labels[left_out])) == 2:
        value = auroc(search.data.labels[left_out], search.decisions(path)[k, left_out])
        p = _p_against_sets(search, fit, float(path.Cs[k]), left_out, activity)
    return Resampled(float(path.Cs[k]), int(path.n_nonzero[k]), int(path.n_positive[k]), value, p)


def _p_against_sets(
    search: Search, fit: TrainingSet, C: float, left_out: NDArray[np.int64], activity: Activity
) -> float:
    """One-sided p of the neurons chosen on halves of a sample against sd-matched sets, on the answers left out."""
    X, scores = search.data.X, []
    for path, others in search.half_paths(fit, C):
        nonzero = path.nonzero(0)
        if not 0 < 2 * len(nonzero) <= X.shape[1]:
            continue  # none, or too few others to compare with
        sets = control_sets(nonzero, (X.shape[1],), activity, RESAMPLE_SETS, search.settings.seed)["sd"]
        rows = search.rows.of(others)
        fitted = fit_sets(X, np.concatenate([nonzero[None], sets]), search.rows.labels.astype(float), rows)
        scores.append(fitted.scores(search.data.answers[left_out]))
    if not scores:
        return float("nan")
    own, *controls = np.mean(scores, axis=0)
    y = search.data.labels[left_out]
    within = StratifiedAuroc(y, np.zeros(len(y)), np.arange(len(y)))
    return within.above(own, np.array(controls))[1]


def shuffled_selections(rows: TrainingRows, C: float, count: int = SHUFFLES, seed: int = 0) -> ShuffledSelections:
    """The neurons that the fit at C selects with shuffled labels.

    All fits share their passes over X; they cost about as much as the same number of half-samples of `stability`.

    Args:
        rows: training rows of the probe; labels are shuffled within relations.
        C: that of the probe.
        count: shuffles.
        seed: of the shuffles.

    Raises:
        ValueError: as `fit_paths`.
    """
    labels = rows.shuffled(count, seed)[1]
    return selections_of([path.weights(0) for path in fit_paths(rows.X, labels, np.ones(labels.shape), [C])], C)


def selections_of(coefs: Sequence[ArrayLike], C: float) -> ShuffledSelections:
    """The selections of some fits.

    Args:
        coefs: weights `[neurons]` of each.
        C: of all.
    """
    dense = [np.asarray(coef) for coef in coefs]
    neurons = tuple(np.flatnonzero(coef).astype(np.int64) for coef in dense)
    signs = tuple(np.sign(coef[own]).astype(np.int8) for coef, own in zip(dense, neurons, strict=True))
    return ShuffledSelections(neurons, signs, len(dense[0]) if dense else 0, float(C))
