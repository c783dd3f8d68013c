"""Figures of detection, from per-answer results: estimates with 95 % intervals.

Everything here takes plain arrays and returns flat dicts of numbers, which Inspect logs as metrics:
`name`, `name_low` and `name_high` are an estimate and its interval.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.statistics import (
    Statistic,
    auroc,
    auroc_statistic,
    brier,
    flat,
    interval_if_known,
    mean_statistic,
    permutation_p,
    stratified_auroc,
)

LABELS = {"faithful": 0, "hallucinated": 1}
"""What a label of an answer is as a number."""
SMALLEST_STRATUM = 5
"""Relations with fewer answers of either class are left out of the mean within relations."""


def usable_strata(labels: ArrayLike, strata: ArrayLike, least: int = SMALLEST_STRATUM) -> NDArray[np.bool_]:
    """Rows whose stratum has at least `least` of either class: bool `[rows]`."""
    y, members = np.asarray(labels), np.asarray(strata)
    keep = np.zeros(len(y), np.bool_)
    for stratum in np.unique(members):
        here = members == stratum
        if min((y[here] == 0).sum(), (y[here] == 1).sum()) >= least:
            keep |= here
    return keep


def within_strata_statistic(labels: ArrayLike, scores: ArrayLike, strata: ArrayLike) -> Statistic:
    """The mean over strata of the AUROC in each, as a function of row weights."""
    y, s, members = np.asarray(labels), np.asarray(scores), np.asarray(strata)
    parts = [
        (rows, auroc_statistic(y[rows], s[rows]))
        for stratum in np.unique(members)
        if len(set(y[(rows := np.flatnonzero(members == stratum))].tolist())) == 2
    ]
    if not parts:
        raise ValueError("no stratum has both classes")

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.stack([own(weights[:, rows]) for rows, own in parts])  # [strata, resamples]
        known = np.isfinite(values)
        # NaN where a resample leaves no stratum with both classes.
        return np.where(known, values, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)

    return statistic


def detection(
    labels: Sequence[int],
    probabilities: Sequence[float],
    predictions: Sequence[int],
    questions: Sequence[str],
    relations: Sequence[str | None],
    baselines: Mapping[str, ArrayLike],
    controls: Mapping[str, ArrayLike] | None = None,
    refit: Sequence[float] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """How well hallucinated answers are told from faithful ones.

    Args:
        labels: 1 = hallucinated; `[answers]`.
        probabilities: of being hallucinated, by a probe that did not see the answer.
        predictions: 1 where above the threshold.
        questions: of each answer; the unit of resampling.
        relations: of each answer, or None. With relations, AUROCs are the mean within relations that have
            at least five answers of either class.
        baselines: scores by anything but the probe, by name: `[answers]` each.
        controls: probabilities by other neuron sets of equal size, by kind: `[sets, answers]` each.
        refit: probabilities by the selected neurons fitted in the same way as the control sets.

    Returns:
        `auroc` (within relations where there are relations), `auroc_pooled`, `accuracy`, each with interval;
        `brier` and `calibration_error`; `<name>_auroc` of each baseline; of each kind of control sets the mean and
        middle 95 % (`<kind>_auroc`), and the permutation p of the probe (`<kind>_p`) and of its neurons refitted in
        the way of the sets (`<kind>_p_refit`). Little more than counts where a class is missing.
    """
    y, p = np.asarray(labels), np.asarray(probabilities, float)
    clusters = np.asarray(questions)
    found: dict[str, float] = {"answers": len(y), "hallucinated": int(y.sum())}
    if len(set(y.tolist())) < 2:
        return found
    grouped = all(relation is not None for relation in relations)
    strata = np.asarray([str(relation) for relation in relations]) if grouped else np.zeros(len(y), int)
    keep = usable_strata(y, strata, SMALLEST_STRATUM if grouped else 1)
    found |= flat("auroc_pooled", interval_if_known(auroc_statistic(y, p), clusters, seed=seed))
    if not keep.any():
        return found

    def own(scores: ArrayLike) -> Statistic:
        return within_strata_statistic(y[keep], np.asarray(scores, float)[keep], strata[keep])

    if grouped:
        found |= {"relations": len(np.unique(strata[keep])), "answers_in_relations": int(keep.sum())}
    found |= flat("auroc", interval_if_known(own(p), clusters[keep], seed=seed))
    correct = (np.asarray(predictions) == y).astype(float)
    found |= flat("accuracy", interval_if_known(mean_statistic(correct), clusters, seed=seed))
    found["majority_accuracy"] = float(max(y.mean(), 1 - y.mean()))
    found |= {"brier": brier(y, p), "calibration_error": calibration_error(y, p)}
    for name, scores in baselines.items():
        if np.isfinite(np.asarray(scores, float)).all():
            found |= flat(f"{name}_auroc", interval_if_known(own(scores), clusters[keep], seed=seed))
    again = None
    if refit is not None and np.isfinite(np.asarray(refit, float)[keep]).all():
        found |= flat("refit_auroc", interval_if_known(own(refit), clusters[keep], seed=seed))
        again = found["refit_auroc"]
    for kind, scores in (controls or {}).items():
        aurocs = np.array([stratified_auroc(y[keep], c[keep], strata[keep]) for c in np.asarray(scores, float)])
        found |= {
            f"{kind}_sets": len(aurocs),
            f"{kind}_auroc": float(aurocs.mean()),
            f"{kind}_auroc_low": float(np.quantile(aurocs, 0.025)),
            f"{kind}_auroc_high": float(np.quantile(aurocs, 0.975)),
            f"{kind}_p": permutation_p(found["auroc"], aurocs),
        }
        if again is not None:
            found[f"{kind}_p_refit"] = permutation_p(again, aurocs)
    return found


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean probability, share of hallucinated answers, and number of answers, in bins of equal numbers of answers."""
    y, p = np.asarray(labels), np.asarray(probabilities, float)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts]


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Mean distance of probability and share over the bins of `reliability`, weighted by answers."""
    found = reliability(labels, probabilities, bins)
    total = sum(count for _, _, count in found)
    return sum(abs(mean - share) * count for mean, share, count in found) / total


def relation_aurocs(
    labels: Sequence[int], probabilities: Sequence[float], relations: Sequence[str]
) -> dict[str, tuple[float, int, int]]:
    """AUROC, hallucinated and faithful answers of each relation that has both classes."""
    y, p, members = np.asarray(labels), np.asarray(probabilities, float), np.asarray(relations)
    table = {}
    for relation in sorted(set(relations)):
        here = members == relation
        positive = int(y[here].sum())
        if 0 < positive < here.sum():
            table[relation] = (auroc(y[here], p[here]), positive, int(here.sum()) - positive)
    return table
