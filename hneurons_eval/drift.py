"""How far training moved each neuron's weights, and whether some neurons were moved less or more than others.

```python
moved = measure("org/base", "org/chat")       # two checkpoints, read matrix by matrix; neither is loaded
moved.distances["up"], moved.rank             # [neurons] each
ranking = rank_neurons(moved, NeuronSet.load("neurons.json"))
ranking.mean, ranking.tests["uniform"].p      # mean normalised rank with interval; against random sets
```

Gao et al. 2025, section 4 (parameter drift): for each neuron 1 - cos of its up-projection row, and of its
down-projection column, between base and instruct; each z-scored over all neurons; averaged; ranked. A *normalised
rank* is 0 for the neuron that changed most and 1 for the one that changed least; neurons chosen by chance have a mean
of 0.5. The gate's row is measured as well and enters no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hneurons_eval.architectures import neuron_layout
from hneurons_eval.controls import layer_matched_sets, random_sets
from hneurons_eval.layout import NeuronLayout
from hneurons_eval.neurons import NeuronSet
from hneurons_eval.statistics import Interval, bootstrap_interval, mean_statistic, permutation_p
from hneurons_eval.weight_files import CheckpointError, WeightFiles
from hneurons_eval.weight_vectors import KINDS, PartVectors, Vectors, neuron_vectors

Floats = NDArray[np.float64]
SETS = 2000
"""Random sets of each kind: the smallest p they can show is 1 / 2001."""
_VECTORS = 256
"""Vectors that are compared at once, in float64."""


class DriftError(ValueError):
    """Checkpoints that cannot be compared; says what each of them has."""


def cosine_distances(first: Tensor, second: Tensor) -> Tensor:
    """1 - cos of the vectors along the last axis: float64 `[...]`, 0 for equal directions, 2 for opposite ones.

    As ||a/|a| - b/|b|||^2 / 2, which is exactly 0 for equal vectors and keeps its relative precision for nearly equal
    ones, where 1 - a.b/(|a||b|) would be all rounding: in float64 that knows nothing below 1e-16. Two vectors of
    zeros are at distance 0; one of them at 1, as at a right angle.
    """
    a, b = first.double(), second.double()
    lengths = [vectors.norm(dim=-1, keepdim=True) for vectors in (a, b)]
    nothing = [length[..., 0] == 0 for length in lengths]
    units = [vectors / torch.where(length == 0, 1.0, length) for vectors, length in zip((a, b), lengths, strict=True)]
    found = (units[0] - units[1]).square().sum(dim=-1) / 2
    return torch.where(nothing[0] ^ nothing[1], torch.ones_like(found), found)


@dataclass(frozen=True)
class Drift:
    """How far each neuron's vectors are between two checkpoints.

    Attributes:
        base, checkpoint: their names.
        layout: the neurons of both.
        distances: 1 - cos, float64 `[neurons]`, of `up` and `down`, and of `gate` where any layer has one (NaN where
            a layer has none).
    """

    base: str
    checkpoint: str
    layout: NeuronLayout
    distances: dict[str, Floats]

    @cached_property
    def score(self) -> Floats:
        """Mean of the z-scores of up and down over all neurons, `[neurons]`: higher means changed more."""
        return (_standardised(self.distances["up"]) + _standardised(self.distances["down"])) / 2

    @cached_property
    def rank(self) -> Floats:
        """Normalised rank by `score`, `[neurons]`: 0 changed most, 1 least; equals share the mean of their ranks."""
        return normalised_rank(self.score)

    @cached_property
    def changed(self) -> NDArray[np.bool_]:
        """Whether up or down points elsewhere at all, `[neurons]`."""
        return (self.distances["up"] > 0) | (self.distances["down"] > 0)


def _standardised(values: Floats) -> Floats:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def normalised_rank(values: Floats) -> Floats:
    """0 for the greatest value, 1 for the least, equals the mean of theirs: float64 `[values]`; NaN stays NaN."""
    from scipy.stats import rankdata

    found = np.full(len(values), np.nan)
    known = np.isfinite(values)
    count = int(known.sum())
    found[known] = (rankdata(-values[known]) - 1) / (count - 1) if count > 1 else 0.5
    return found


# ---- two checkpoints -----------------------------------------------------------------------------


def measure(
    base: str | Path | WeightFiles,
    checkpoint: str | Path | WeightFiles,
    progress: Callable[[str], None] = lambda message: None,
) -> Drift:
    """Compare two checkpoints neuron by neuron.

    Of either one matrix (or the experts of one layer) is in memory at a time.

    Args:
        base: where training began: a Hub id (`org/model@revision`), a directory, or the bundled name.
        checkpoint: where it came to.
        progress: told which layer is read.

    Raises:
        DriftError: they have other layers, other neurons, or vectors of another size; both are named.
        CheckpointError: one cannot be found or read, is quantised, or lacks weights (which are named).
        UnsupportedModelError: neurons that cannot all be found.
    """
    first, second = opened(base), opened(checkpoint)
    layers, others = check_comparable(first, second)
    layout = neuron_layout(first.model)
    found = {kind: np.full(layout.total, np.nan) for kind in KINDS}
    for number, (parts, their_parts) in enumerate(zip(layers, others, strict=True)):
        progress(f"layer {number + 1} of {len(layers)}")
        for part, theirs in zip(parts, their_parts, strict=True):
            start = int(layout.starts[number]) + part.start
            for kinds in _by_parameter(part, theirs):
                matrices = [
                    files.read(own.vectors[kinds[0]].parameter) for files, own in ((first, part), (second, theirs))
                ]
                for kind in kinds:
                    pair = [own.vectors[kind].of(matrix) for own, matrix in zip((part, theirs), matrices, strict=True)]
                    distances = _in_pieces(*pair)
                    if not np.isfinite(distances).all():
                        bad = first.name if not bool(torch.isfinite(matrices[0]).all()) else second.name
                        where = part.vectors[kind].parameter
                        raise CheckpointError(f"{bad} holds numbers in {where} that are not finite; get it again")
                    found[kind][start : start + part.width] = distances
                    del pair
                del matrices  # before the next ones are read
    if not np.isfinite(found["gate"]).any():
        del found["gate"]
    return Drift(first.name, second.name, layout, found)


def opened(checkpoint: str | Path | WeightFiles) -> WeightFiles:
    """The weight files that a name means; what is open is returned as it is."""
    return checkpoint if isinstance(checkpoint, WeightFiles) else WeightFiles(checkpoint)


def check_comparable(
    first: WeightFiles, second: WeightFiles
) -> tuple[list[list[PartVectors]], list[list[PartVectors]]]:
    """The vectors of both checkpoints, if they are of the same neurons and are all there.

    Raises:
        DriftError, CheckpointError, UnsupportedModelError: as `measure`.
    """
    both = [(files, neuron_vectors(files.model)) for files in (first, second)]
    ours, theirs = ([_shapes(files, part) for part in _flattened(layers)] for files, layers in both)
    if ours != theirs:
        texts = [f"{files.name} has {_described(files, layers)}" for files, layers in both]
        raise DriftError(f"{texts[0]}, but {texts[1]}; drift needs two checkpoints of one layout")
    for files, layers in both:
        wanted = dict.fromkeys(v.parameter for part in _flattened(layers) for v in part.vectors.values())
        if lost := files.missing(wanted):
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            raise CheckpointError(f"{files.name} holds no weights for {', '.join(lost[:3])}{more}; get it again")
    return both[0][1], both[1][1]


def _flattened(layers: Sequence[Sequence[PartVectors]]) -> list[PartVectors]:
    return [part for layer in layers for part in layer]


def _shapes(files: WeightFiles, part: PartVectors) -> tuple[Any, ...]:
    """What has to agree: where the neurons are within the layer, and the size of the vectors of each kind."""
    own = {kind: tuple(_meta(files, vectors).shape) for kind, vectors in part.vectors.items()}
    return part.start, part.width, sorted(own.items())


def _meta(files: WeightFiles, vectors: Vectors) -> Tensor:
    return vectors.of(files.model.state_dict(keep_vars=True)[vectors.parameter])


def _described(files: WeightFiles, layers: Sequence[Sequence[PartVectors]]) -> str:
    parts = _flattened(layers)
    hidden = _meta(files, parts[0].vectors["down"]).shape[-1]
    gated = sum("gate" in part.vectors for part in parts)
    gates = "with" if gated == len(parts) else "without" if not gated else f"{gated} of {len(parts)} maps with"
    return f"{neuron_layout(files.model)}, vectors of {hidden}, {gates} gates ({type(files.model).__name__})"


def _by_parameter(part: PartVectors, theirs: PartVectors) -> list[list[str]]:
    """Kinds, together where both checkpoints keep them in one matrix."""
    groups: dict[tuple[str, str], list[str]] = {}
    for kind, vectors in part.vectors.items():
        groups.setdefault((vectors.parameter, theirs.vectors[kind].parameter), []).append(kind)
    return list(groups.values())


def _in_pieces(first: Tensor, second: Tensor) -> Floats:
    """Distances of `[neurons, hidden]` or `[experts, neurons, hidden]`, expert by expert: float64 `[all neurons]`."""
    if first.dim() == 3:
        return np.concatenate([_in_pieces(a, b) for a, b in zip(first, second, strict=True)])
    pieces = zip(first.split(_VECTORS), second.split(_VECTORS), strict=True)
    return torch.cat([cosine_distances(a, b) for a, b in pieces]).numpy()


# ---- the neurons of interest among all -----------------------------------------------------------


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
        mean: their mean normalised rank with a 95 % interval (bootstrap over the neurons).
        tests: against sets drawn from the whole model (`uniform`), and with as many in each layer (`layer`, absent
            where a layer has too few others); no set holds any of the neurons themselves.
    """

    drift: Drift
    flat: NDArray[np.int64]
    mean: Interval
    tests: dict[str, RandomSets]

    def figures(self) -> dict[str, float]:
        """All figures by name, for a log: `mean_rank`, `uniform_p`, `up_mean_rank`, ...; `_low`, `_high`: intervals."""
        drift, rank = self.drift, self.drift.rank[self.flat]
        found: dict[str, float] = {
            "mean_rank": self.mean.estimate,
            "mean_rank_low": self.mean.low,
            "mean_rank_high": self.mean.high,
            "median_rank": float(np.median(rank)),
            "neurons": len(self.flat),
            "total_neurons": drift.layout.total,
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


def rank_neurons(drift: Drift, neurons: NeuronSet, sets: int = SETS, seed: int = 0) -> Ranking:
    """Where a neuron set stands among all neurons by how far they moved.

    Args:
        drift: of all neurons.
        neurons: those of interest.
        sets: random sets of each kind.
        seed: of the sets and the resamples.

    Raises:
        NeuronSetError: neurons of a model with other layers.
        DriftError: no neurons, too many for random sets beside them, or fewer than one set.
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
    mean = bootstrap_interval(mean_statistic(rank[flat]), np.arange(len(flat)), seed=seed)
    widths = drift.layout.widths
    drawn = {"uniform": random_sets(widths, len(flat), sets, seed, flat)}
    counts = np.bincount(neurons.layers, minlength=len(widths))
    if (2 * counts <= np.asarray(widths)).all():
        drawn["layer"] = layer_matched_sets(flat, widths, sets, seed)
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
) -> list[Ranking]:
    """The ranking of some neurons at each of several checkpoints (steps of one run), all against one base.

    All checkpoints are checked before the first is read.

    Args:
        base, neurons, sets, seed, progress: as `measure` and `rank_neurons`.
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
        found.append(rank_neurons(moved, neurons, sets, seed))
    return found
