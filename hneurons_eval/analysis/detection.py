"""Figures of detection, from per-answer results: estimates with 95 % intervals, and differences between classifiers.

Everything here takes plain arrays and returns flat dicts of numbers, which Inspect logs as metrics:
`name`, `name_low` and `name_high` are an estimate and its interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t

from hneurons_eval.analysis.bootstrap import (
    RESAMPLES,
    Interval,
    balanced_accuracy,
    flat,
    interval_if_known,
    resample_weights,
)
from hneurons_eval.analysis.calibration import calibration
from hneurons_eval.analysis.metrics import auroc_statistic, mean_statistic, stratified_auroc
from hneurons_eval.analysis.tests import permutation_p

Floats = NDArray[np.float64]
LABELS = {"faithful": 0, "hallucinated": 1}
"""Numbers of the labels."""
MIN_PER_CLASS = 5
"""Relations with fewer answers of either class are left out of the mean within relations."""
PERMUTATIONS = 2000


@dataclass(frozen=True)
class Detected:
    """Labels, predictions and scores of each answer: the input of `detection`.

    Attributes:
        labels: 1 = hallucinated; `[answers]`.
        probabilities: of being hallucinated, by a probe that did not see the answer.
        predictions: 1 where above the threshold.
        questions: of each answer; the unit of resampling.
        relations: of each answer, or None. With relations, AUROCs are the mean within relations that have at least
            five answers of either class.
        baselines: scores of the baselines and of parts of the probe, by name: `[answers]` each.
        sets: for each selection (`probe`, `positive`), probabilities by an L2 refit on its neurons `[answers]`, and by
            the control sets of each kind `[sets, answers]`.
        folds: the test fold of each answer. Each fold has its own classifiers, so scores are compared within a fold
            only. None: one classifier.
        null: AUROCs of probes fitted to shuffled labels in the same folds (`null_aurocs`). Some answers train the
            probes that are tested on others, so AUROCs vary more than by the answers tested: intervals are widened by
            the ratio of this null's deviation to that of shuffled labels without a new fit. None: labels are shuffled
            without a new fit.
    """

    labels: ArrayLike
    probabilities: ArrayLike
    predictions: ArrayLike
    questions: Sequence[Any]
    relations: Sequence[Any]
    baselines: Mapping[str, ArrayLike] = field(default_factory=dict)
    sets: Mapping[str, tuple[ArrayLike, Mapping[str, ArrayLike]]] = field(default_factory=dict)
    folds: Sequence[Any] | None = None
    null: ArrayLike | None = None


def usable_strata(labels: ArrayLike, strata: ArrayLike, minimum: int = MIN_PER_CLASS) -> NDArray[np.bool_]:
    """Rows whose stratum has at least `minimum` rows of either class: bool `[rows]`."""
    y, members = np.asarray(labels), np.asarray(strata)
    keep = np.zeros(len(y), np.bool_)
    for stratum in np.unique(members):
        here = members == stratum
        if min((y[here] == 0).sum(), (y[here] == 1).sum()) >= minimum:
            keep |= here
    return keep


def rank_within(scores: ArrayLike, folds: Sequence[Any] | None) -> Floats:
    """Ranks from 0 to 1 within each fold, which pool classifiers of different scales.

    Args:
        scores: `[answers]`, or `[several, answers]`.
        folds: of each answer; None leaves the scores as they are.
    """
    values = np.asarray(scores, np.float64)
    if folds is None:
        return values
    members, ranked = np.asarray(folds), np.empty(values.shape)
    for fold in np.unique(members):
        here = members == fold
        ranked[..., here] = (rankdata(values[..., here], axis=-1) - 0.5) / here.sum()
    return ranked


class StratifiedAuroc:
    """AUROCs within strata under the same bootstrap resamples for every score, so that differences are paired.

    Args:
        labels: 1 = hallucinated, `[answers]`; both classes in each stratum.
        strata: the relation of each answer (or one stratum for all).
        clusters: the question of each answer, the unit of resampling.
        seed: of the resamples.

    Attributes:
        widening: by which the half-widths of all intervals are multiplied.
    """

    def __init__(self, labels: NDArray[np.int64], strata: NDArray[Any], clusters: NDArray[Any], seed: int = 0) -> None:
        self.widening = 1.0
        self._labels = labels
        self._clusters = np.unique(clusters, return_inverse=True)[1]
        self._rows = [np.flatnonzero(strata == one) for one in np.unique(strata)]
        self._seed = seed
        self._pairs = np.array([labels[rows].sum() * (1 - labels[rows]).sum() for rows in self._rows], np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def _weights(self) -> Floats:
        """How often each answer is drawn: the data themselves, then each resample, `[1 + resamples, answers]`."""
        drawn = resample_weights(self._clusters, RESAMPLES, self._seed)
        return np.concatenate([np.ones((1, len(self._labels))), *drawn])

    def of(self, scores: ArrayLike) -> Floats:
        """AUROC of each stratum, of the data and then of each resample: `[strata, 1 + resamples]`; NaN: one class."""
        values = np.asarray(scores, np.float64)
        return np.stack(
            [auroc_statistic(self._labels[rows], values[rows])(self._weights[:, rows]) for rows in self._rows]
        )

    def means(self, scores: Floats) -> Floats:
        """The mean over strata of the AUROC of the data, of each of several scores `[scores, answers]`."""
        total = np.zeros(len(scores))
        for rows in self._rows:
            y = self._labels[rows]
            total += _auroc_of_rank_sum(rankdata(scores[:, rows], axis=1)[:, y == 1].sum(axis=1), y)
        return total / len(self._rows)

    def above(self, scores: Floats, others: Floats) -> tuple[Interval, float]:
        """Difference of a score's mean AUROC and the mean over several others, with interval and p.

        Args:
            scores: `[answers]`.
            others: `[others, answers]`, of at least one other.

        Returns:
            the difference with its 95 % interval, by the variance of DeLong et al. (1988) for clustered answers
            (Obuchowski 1997); and a one-sided p: the larger of the p of the difference (over answers) and the share of
            the others that do as well (over sets).
        """
        parts = self._influence(scores[None])[0] - self._influence(others).mean(axis=0)
        aurocs, own = self.means(others), float(self.means(scores[None])[0])
        difference = own - float(aurocs.mean())
        sums = np.bincount(self._clusters, parts)
        error = float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)))
        p = float(norm.sf(difference / (error * self.widening))) if error > 0 else float(difference <= 0)
        half = 1.96 * error * self.widening
        return Interval(difference, difference - half, difference + half), max(p, permutation_p(own, aurocs))

    def _influence(self, scores: Floats) -> Floats:
        """Influence of each answer on the mean AUROC, `[scores, answers]`."""
        found = np.zeros(scores.shape)
        for rows in self._rows:
            y, own = self._labels[rows], scores[:, rows]
            ranks = rankdata(own, axis=1)
            for label in (0, 1):
                here = y == label
                # The share of the other class that each answer lies above (of label 1) or below (of label 0).
                beaten = (ranks[:, here] - rankdata(own[:, here], axis=1)) / (~here).sum()
                placement = beaten if label == 1 else 1 - beaten
                apart = placement - placement.mean(axis=1, keepdims=True)
                found[:, rows[here]] = apart / (here.sum() * len(self._rows))
        return found

    def figures(self, name: str, values: Floats) -> dict[str, float]:
        """The mean over strata of AUROCs, or of differences of them, with intervals.

        Args:
            name: of the figure.
            values: as `of` gives them, `[strata, 1 + resamples]`.

        Returns:
            `name` with `_low` and `_high` (questions resampled, strata fixed), and with at least three strata
            `_relations_low` and `_relations_high` (a t interval over strata: what other relations might give).
        """
        known = np.isfinite(values)
        means = np.where(known, values, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
        drawn = means[1:][np.isfinite(means[1:])]
        low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size > RESAMPLES / 2 else (np.nan, np.nan)
        least = -1.0 if name.endswith(("difference", "added")) else 0.0
        found = flat(name, widened(Interval(float(means[0]), float(low), float(high)), self.widening, least))
        if len(self) >= 3:
            own = values[:, 0]
            half = self.widening * float(t.ppf(0.975, len(own) - 1) * own.std(ddof=1) / np.sqrt(len(own)))
            found |= {
                f"{name}_relations_low": float(own.mean()) - half,
                f"{name}_relations_high": float(own.mean()) + half,
            }
        return found

    def weighted(self, values: Floats) -> float:
        """The mean over strata, each weighted by its number of (hallucinated, faithful) pairs."""
        return float(np.average(values[:, 0], weights=self._pairs))

    def shuffled(self, scores: ArrayLike, seed: int = 0) -> tuple[float, Floats]:
        """The mean AUROC, and those with the labels shuffled within strata, `[PERMUTATIONS]`."""
        values, rng = np.asarray(scores, np.float64), np.random.default_rng(seed)
        total, observed = np.zeros(PERMUTATIONS), 0.0
        for rows in self._rows:
            y, ranks = self._labels[rows], rankdata(values[rows])
            shuffled = rng.permuted(np.broadcast_to(ranks, (PERMUTATIONS, len(rows))), axis=1)
            total += _auroc_of_rank_sum(shuffled[:, : int(y.sum())].sum(axis=1), y)
            observed += float(_auroc_of_rank_sum(ranks[y == 1].sum(), y))
        total = np.where(np.abs(total - observed) < 1e-9, observed, total)
        return observed / len(self._rows), total / len(self._rows)


def _auroc_of_rank_sum(ranks: Any, y: NDArray[np.int64]) -> Any:
    """AUROC from the sum of the ranks of label 1 (Mann and Whitney 1947); labels `[rows]`."""
    ones = int(y.sum())
    return (ranks - ones * (ones + 1) / 2) / (ones * (len(y) - ones))


def detection(found: Detected, seed: int = 0) -> dict[str, float]:
    """Metrics of detection: AUROC, calibration, and differences to baselines and control sets.

    Returns:
        Of the probe: `auroc` (within relations where there are relations; see `StratifiedAuroc.figures`),
        `auroc_weighted` (relations weighted by pairs), `auroc_p` (labels shuffled within relations, `auroc_shuffles`
        times; with `null` the probes are fitted again), `auroc_pooled`
        (over all answers, ranked within folds), `accuracy`, `balanced_accuracy`, `majority_accuracy`, and what
        `reliability.calibration` gives.
        Of each baseline: `<name>_auroc`, and `<name>_difference`: the probe's AUROC minus it, paired.
        `added`: AUROC of all scalars and the probe minus that of all scalars.
        Of each selection (`probe`, `positive`): `<selection>_refit_auroc` (of the L2 refit); of each kind of control
        sets `<selection>_<kind>_sets`, their mean AUROC and middle 95 % (`<selection>_<kind>_auroc`), the difference to
        that mean (`<selection>_<kind>_difference`), and the one-sided `<selection>_<kind>_p` (`StratifiedAuroc.above`).
        `<selection>_p`: the largest of these p, which holds for all kinds at once.
        Only counts where a class is missing.
    """
    y, p = np.asarray(found.labels), np.asarray(found.probabilities, np.float64)
    clusters = np.asarray(found.questions)
    figures: dict[str, float] = {"answers": len(y), "hallucinated": int(y.sum())}
    if len(set(y.tolist())) < 2:
        return figures
    grouped = all(relation is not None for relation in found.relations)
    strata = np.asarray([str(relation) for relation in found.relations]) if grouped else np.zeros(len(y), int)
    keep = usable_strata(y, strata, MIN_PER_CLASS if grouped else 1)
    pooled = interval_if_known(auroc_statistic(y, rank_within(p, found.folds)), clusters, seed=seed)
    if not keep.any():
        return figures | flat("auroc_pooled", pooled)

    def ranked(scores: ArrayLike) -> Floats:
        return rank_within(scores, found.folds)[..., keep]

    within = StratifiedAuroc(y[keep], strata[keep], clusters[keep], seed)
    own = within.of(ranked(p))
    if grouped:
        figures |= {"relations": len(within), "answers_in_relations": int(keep.sum())}
    observed, null = within.shuffled(ranked(p), seed)
    if found.null is not None and len(refitted := np.asarray(found.null, np.float64)) > 1:
        within.widening = max(1.0, float(refitted.std(ddof=1) / null.std(ddof=1)))
        figures["widening"] = within.widening
        null = refitted
    figures |= within.figures("auroc", own)
    figures["auroc_weighted"] = within.weighted(own)
    figures |= {"auroc_p": permutation_p(observed, null), "auroc_shuffles": len(null)}
    figures |= flat("auroc_pooled", widened(pooled, within.widening))
    figures |= _calls(y, np.asarray(found.predictions), clusters, seed, within.widening)
    figures |= calibration(y, p, seed)
    by_name = {name: np.asarray(scores, np.float64) for name, scores in found.baselines.items()}
    by_name = {name: within.of(ranked(scores)) for name, scores in by_name.items() if np.isfinite(scores).all()}
    for name, values in by_name.items():
        figures |= within.figures(f"{name}_auroc", values)
        figures |= within.figures(f"{name}_difference", own - values)
    if {"scalars", "scalars_and_probe"} <= by_name.keys():
        figures |= within.figures("added", by_name["scalars_and_probe"] - by_name["scalars"])
    for selection, (chosen, controls) in found.sets.items():
        figures |= _against_sets(selection, chosen, controls, within, ranked)
    return figures


def widened(interval: Interval, factor: float, least: float = 0.0) -> Interval:
    """An interval with both halves multiplied, clipped to `least` and 1; NaN stays."""
    middle = interval.estimate
    low, high = middle - factor * (middle - interval.low), middle + factor * (interval.high - middle)
    return Interval(middle, float(np.maximum(low, least)), float(np.minimum(high, 1.0)))


def null_aurocs(labels: ArrayLike, scores: ArrayLike, relations: Sequence[Any], folds: Sequence[Any]) -> Floats:
    """AUROCs, as `detection` computes them, of probes fitted to shuffled labels: `[shuffles]`.

    Args:
        labels: as shuffled, `[shuffles, answers]`.
        scores: of each answer by a probe that did not see it, `[shuffles, answers]`.
        relations, folds: of each answer.
    """
    grouped = all(relation is not None for relation in relations)
    strata = np.asarray([str(relation) for relation in relations]) if grouped else np.zeros(len(relations), int)
    found = []
    for y, own in zip(np.asarray(labels), np.asarray(scores, np.float64), strict=True):
        keep = usable_strata(y, strata, MIN_PER_CLASS if grouped else 1)
        if keep.any():
            ranked = rank_within(own, folds)
            found.append(stratified_auroc(y[keep], ranked[keep], strata[keep]))
    return np.array(found)


def _calls(
    y: NDArray[Any], predictions: NDArray[Any], clusters: NDArray[Any], seed: int, widening: float
) -> dict[str, float]:
    """Accuracy, balanced accuracy and the accuracy of the majority class."""
    right = (predictions == y).astype(float)
    plain = interval_if_known(mean_statistic(right), clusters, seed=seed)
    return {
        **flat("accuracy", widened(plain, widening)),
        **flat("balanced_accuracy", widened(balanced_accuracy(y, predictions, clusters, seed=seed), widening)),
        "majority_accuracy": float(max(y.mean(), 1 - y.mean())),
    }


def _against_sets(
    selection: str, chosen: ArrayLike, controls: Mapping[str, ArrayLike], within: StratifiedAuroc, ranked: Any
) -> dict[str, float]:
    if not np.isfinite(np.asarray(chosen, np.float64)).all():
        return {}
    figures, ps = within.figures(f"{selection}_refit_auroc", within.of(ranked(chosen))), []
    for kind, scores in controls.items():
        name = f"{selection}_{kind}"
        others = ranked(scores)
        aurocs = within.means(others)
        apart, p = within.above(ranked(chosen), others)
        ps.append(p)
        figures |= flat(f"{name}_difference", apart)
        figures |= {
            f"{name}_sets": len(aurocs),
            f"{name}_auroc": float(aurocs.mean()),
            f"{name}_auroc_low": float(np.quantile(aurocs, 0.025)),
            f"{name}_auroc_high": float(np.quantile(aurocs, 0.975)),
            f"{name}_p": ps[-1],
        }
    if ps:
        # An intersection-union test (Berger 1982): better than each kind, at the level of a single test.
        figures[f"{selection}_p"] = max(ps)
    return figures
