"""Parameter drift: the change of each neuron's weights between two checkpoints.

```python
moved = measure("org/base", "org/chat")       # two checkpoints, read matrix by matrix; neither is loaded
moved.distances["up"], moved.rank             # [neurons] each
ranking = rank_neurons(moved, NeuronSet.load("neurons.json").positive)   # of hneurons_eval.analysis.drift_ranks
```

Gao et al. 2025, section 4 (parameter drift): for each neuron 1 - cos of its up-projection row, and of its
down-projection column, between base and instruct; each z-scored over all neurons; averaged; ranked. A *normalised
rank* is 0 for the neuron that changed most and 1 for the one that changed least; neurons chosen by chance have a mean
of 0.5. The gate's row is measured as well and enters no score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.weights.reader import CheckpointError, WeightFiles
from hneurons_eval.models.weights.vectors import KINDS, PartVectors, Vectors, neuron_vectors

Floats = NDArray[np.float64]
_VECTORS = 256
"""Vectors compared in one step, in float64."""


class DriftError(ValueError):
    """Checkpoints that cannot be compared; the message describes both."""


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
    """Distances of each neuron's vectors between two checkpoints.

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
        """Whether the direction of up or down changed, `[neurons]`."""
        return (self.distances["up"] > 0) | (self.distances["down"] > 0)


def _standardised(values: Floats) -> Floats:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def normalised_rank(values: Floats) -> Floats:
    """Ranks from 0 (largest value) to 1 (smallest), mean ranks for ties: float64 `[values]`; NaN stays NaN."""
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
    """The weight files of a checkpoint; open ones are returned as they are."""
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
