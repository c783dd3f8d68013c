"""Where some neurons stand among all by how far training moved them, against random sets.

```python
ranking = rank_neurons(measure("org/base", "org/chat"), neurons.positive, activity=load_activity(probe_directory))
ranking.mean                                  # mean normalised rank with a 95 % interval
ranking.tests["contribution"].p, ranking.p    # against one kind of random sets; against the hardest kind
```
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.bootstrap import Interval
from hneurons_eval.analysis.drift import Drift, DriftError, Floats, check_comparable, measure, normalised_rank
from hneurons_eval.analysis.tests import permutation_p
from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.controls import Activity, layer_matched_sets, matched_sets, random_sets
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.weights.reader import WeightFiles

SETS = 2000
"""Random sets of each kind: the smallest p they can show is 1 / 2001."""


def mean_rank_interval(ranks: ArrayLike) -> Interval:
    """Mean of some normalised ranks with an interval: Student's t for its log-odds.

    With few neurons a percentile bootstrap is too narrow: it covers .88 at 6 neurons and .91 at 13. On the log-odds,
    by the delta method, the interval stays between 0 and 1 and covers .92 to .97 at 6, 13 and 47 neurons, over seven
    distributions of ranks (`benchmarks/validity_sets.py` has the figures). One neuron gives no interval but [0, 1].

    Args:
        ranks: of the neurons, from 0 to 1, `[chosen]`, at least one.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    values = np.asarray(ranks, np.float64)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, 0.0, 1.0)
    spread = float(values.std(ddof=1))
    if not spread:
        return Interval(mean, mean, mean)
    half = float(t.ppf(0.975, len(values) - 1)) * spread / np.sqrt(len(values)) / (mean * (1 - mean))
    return Interval(mean, float(expit(logit(mean) - half)), float(expit(logit(mean) + half)))


@dataclass(frozen=True)
class RandomSets:
    """A mean normalised rank held against those of random neuron sets of equal size.

    Attributes:
        means: mean rank of each set, `[sets]`.
        p_changed: one-sided: share of sets that changed as much or more.
        p_unchanged: one-sided: share of sets that changed as little or less.
    """

    means: Floats
    p_changed: float
    p_unchanged: float

    @property
    def p(self) -> float:
        """Two-sided: twice the smaller of the one-sided ones."""
        return min(1.0, 2 * min(self.p_changed, self.p_unchanged))


@dataclass(frozen=True)
class Ranking:
    """Where some neurons stand among all.

    Attributes:
        drift: of all neurons.
        flat: flat indices of the neurons, int64 `[chosen]`.
        mean: their mean normalised rank with a 95 % interval (`mean_rank_interval`).
        tests: against each kind of random sets (`controls.KINDS`): `uniform`; `layer`, absent where a layer has too few
            others; `contribution` and `sd`, where the activity of every neuron is known. No set holds any of the
            neurons themselves.
    """

    drift: Drift
    flat: NDArray[np.int64]
    mean: Interval
    tests: dict[str, RandomSets]

    @property
    def p_changed(self) -> float:
        """One-sided, that they changed more: against the hardest kind of sets, the largest of their p."""
        return max(test.p_changed for test in self.tests.values())

    @property
    def p_unchanged(self) -> float:
        """One-sided, that they changed less: against the hardest kind of sets."""
        return max(test.p_unchanged for test in self.tests.values())

    @property
    def p(self) -> float:
        """Two-sided, against the hardest kind of sets: the verdict is on this."""
        return min(1.0, 2 * min(self.p_changed, self.p_unchanged))

    def figures(self) -> dict[str, float]:
        """All figures by name, for a log: `mean_rank` (`_low`, `_high`), `p`, `uniform_p`, `up_mean_rank` and so on."""
        drift, rank = self.drift, self.drift.rank[self.flat]
        found: dict[str, float] = {
            "mean_rank": self.mean.estimate,
            "mean_rank_low": self.mean.low,
            "mean_rank_high": self.mean.high,
            "median_rank": float(np.median(rank)),
            "neurons": len(self.flat),
            "total_neurons": drift.layout.total,
            "p": self.p,
            "p_changed": self.p_changed,
            "p_unchanged": self.p_unchanged,
        }
        for kind, test in self.tests.items():
            found |= {
                f"{kind}_mean": float(test.means.mean()),
                f"{kind}_low": float(np.quantile(test.means, 0.025)),
                f"{kind}_high": float(np.quantile(test.means, 0.975)),
                f"{kind}_p": test.p,
                f"{kind}_p_changed": test.p_changed,
                f"{kind}_p_unchanged": test.p_unchanged,
                f"{kind}_sets": len(test.means),
            }
        for kind, distances in drift.distances.items():
            own = normalised_rank(distances)[self.flat]
            if np.isfinite(own).any():
                found[f"{kind}_mean_rank"] = float(np.nanmean(own))
            found[f"{kind}_median"] = float(np.nanmedian(distances[self.flat]))
            found[f"{kind}_median_all"] = float(np.nanmedian(distances))
        found["changed"] = float(drift.changed[self.flat].mean())
        found["changed_all"] = float(drift.changed.mean())
        return {name: value for name, value in found.items() if np.isfinite(value)}


def rank_neurons(
    drift: Drift, neurons: NeuronSet, sets: int = SETS, seed: int = 0, activity: Activity | None = None
) -> Ranking:
    """Where a neuron set stands among all neurons by how far they moved.

    Args:
        drift: of all neurons.
        neurons: those of interest, all of them; a probe's H-neurons are `neurons.positive`.
        sets: random sets of each kind.
        seed: of the sets.
        activity: of every neuron on the training answers; without it there are no contribution- and sd-matched sets.

    Raises:
        NeuronSetError: neurons of a model with other layers.
        DriftError: no neurons, too many for random sets beside them, fewer than one set, or activity of another model.
    """
    flat = neurons.flat(drift.layout)
    if not len(flat) or 2 * len(flat) > drift.layout.total:
        raise DriftError(
            f"the neuron set has {len(flat)} of the model's {drift.layout.total} neurons; between one and half of them "
            "can be held against random sets"
        )
    if sets < 1:
        raise DriftError(f"sets should be at least 1, found {sets}")
    rank = drift.rank
    mean = mean_rank_interval(rank[flat])
    widths = drift.layout.widths
    drawn = {"uniform": random_sets(widths, len(flat), sets, seed, flat)}
    counts = np.bincount(neurons.layers, minlength=len(widths))
    if (2 * counts <= np.asarray(widths)).all():
        drawn["layer"] = layer_matched_sets(flat, widths, sets, seed)
    if activity is not None:
        if len(activity.mean) != drift.layout.total:
            raise DriftError(
                f"the probe's activity is of {len(activity.mean)} neurons, the checkpoints have {drift.layout.total}; "
                "train the probe again"
            )
        drawn["contribution"] = matched_sets(flat, activity.mean, sets, seed)
        drawn["sd"] = matched_sets(flat, activity.deviation, sets, seed)
    tests = {}
    for kind, own in drawn.items():
        means = rank[np.stack(own)].mean(axis=1)
        tests[kind] = RandomSets(means, permutation_p(-mean.estimate, -means), permutation_p(mean.estimate, means))
    return Ranking(drift, flat, mean, tests)


@dataclass(frozen=True)
class LayerDrift:
    """One layer.

    Attributes:
        layer: its number.
        neurons: flat indices of the chosen neurons in it.
        mean_rank: of those, NaN where there are none.
        mean_rank_others: of the layer's other neurons.
        medians: by kind, median 1 - cos of the chosen ones (NaN without) and of the others.
    """

    layer: int
    neurons: NDArray[np.int64]
    mean_rank: float
    mean_rank_others: float
    medians: dict[str, tuple[float, float]]


def by_layer(ranking: Ranking) -> list[LayerDrift]:
    """The chosen neurons of each layer beside the others."""
    drift, starts = ranking.drift, ranking.drift.layout.starts
    chosen = np.zeros(drift.layout.total, np.bool_)
    chosen[ranking.flat] = True

    def middle(values: Floats, mean: bool = False) -> float:
        known = values[np.isfinite(values)]
        return float(np.mean(known) if mean else np.median(known)) if known.size else float("nan")

    found = []
    for layer, (first, end) in enumerate(pairwise(starts.tolist())):
        own = np.arange(first, end)
        here, others = own[chosen[first:end]], own[~chosen[first:end]]
        medians = {kind: (middle(d[here]), middle(d[others])) for kind, d in drift.distances.items()}
        found.append(LayerDrift(layer, here, middle(drift.rank[here], True), middle(drift.rank[others], True), medians))
    return found


def short_names(names: Sequence[str]) -> list[str]:
    """Checkpoints by the last part of their names, or whole where that would make two alike."""
    short = [Path(name).name or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def follow(
    base: str | Path,
    checkpoints: Sequence[str | Path],
    neurons: NeuronSet,
    sets: int = SETS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda message: None,
    activity: Activity | None = None,
) -> list[Ranking]:
    """The ranking of some neurons at each of several checkpoints (steps of one run), all against one base.

    All checkpoints are checked before the first is read.

    Args:
        base, neurons, sets, seed, progress, activity: as `measure` and `rank_neurons`.
        checkpoints: in order.

    Raises:
        DriftError, CheckpointError, UnsupportedModelError, NeuronSetError: as `measure` and `rank_neurons`.
    """
    if not checkpoints:
        raise DriftError("there is no checkpoint to compare with the base; give at least one")
    first = WeightFiles(base)
    neurons.check(neuron_layout(first.model), first.name)
    others = [WeightFiles(name) for name in checkpoints]
    for other in others:
        check_comparable(first, other)
    found = []
    for name, other in zip(short_names([other.name for other in others]), others, strict=True):
        moved = measure(first, other, lambda message, name=name: progress(f"{name}: {message}"))
        found.append(rank_neurons(moved, neurons, sets, seed, activity))
    return found
