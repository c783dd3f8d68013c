"""Numbering of a model's neurons, and the error for a model whose neurons cannot all be found.

Imports no torch, so that neuron files can be read without it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


class UnsupportedModelError(ValueError):
    """The model's neurons cannot all be found or changed; the message names the class and the missing part."""


@dataclass(frozen=True)
class NeuronLayout:
    """Number of neurons of each layer, and their flat indices.

    Attributes:
        widths: neurons of each layer, in layer order.
    """

    widths: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of neurons in all layers, D."""
        return sum(self.widths)

    @cached_property
    def starts(self) -> np.ndarray:
        """Flat index of each layer's first neuron, and the total at the end: int64 `[layers + 1]`."""
        return np.concatenate([[0], np.cumsum(self.widths, dtype=np.int64)]).astype(np.int64)

    def flat(self, layers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Flat indices of the neurons (layers[k], indices[k]): int64 `[neurons]`.

        Raises IndexError: a layer or an index that this layout does not have.
        """
        layers, indices = np.asarray(layers, np.int64), np.asarray(indices, np.int64)
        if layers.size and (layers.min() < 0 or layers.max() >= len(self.widths)):
            raise IndexError(f"layer {layers.min()}..{layers.max()} asked for, the model has {len(self.widths)} layers")
        widths = np.asarray(self.widths, np.int64)[layers]
        if ((indices < 0) | (indices >= widths)).any():
            bad = int(np.flatnonzero((indices < 0) | (indices >= widths))[0])
            raise IndexError(
                f"neuron {indices[bad]} of layer {layers[bad]} asked for, that layer has {widths[bad]} neurons"
            )
        return self.starts[layers] + indices

    def unflatten(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Layers and indices of flat indices: two int64 `[neurons]`.

        Raises IndexError: a flat index outside 0..total-1.
        """
        flat = np.asarray(flat, np.int64)
        if flat.size and (flat.min() < 0 or flat.max() >= self.total):
            raise IndexError(f"flat index {flat.min()}..{flat.max()} asked for, the model has {self.total} neurons")
        layers = np.searchsorted(self.starts, flat, side="right") - 1
        return layers, flat - self.starts[layers]

    def __str__(self) -> str:
        widths = sorted(set(self.widths))
        width = str(widths[0]) if len(widths) == 1 else f"{widths[0]}..{widths[-1]}"
        return f"{len(self.widths)} layers x {width} neurons = {self.total:,}"
