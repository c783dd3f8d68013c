"""Scale neurons reversibly, by one factor or a factor for each row of the batch; or fold it into the weights.

```python
with scaled(model, neurons, alpha=0.0):           # off
    model.generate(...)
with scaled(model, neurons, alpha=[0.0, 1.0, 3.0]):  # one factor per row of the batch
    model(input_ids)
fold(model, neurons, alpha=0.0)                    # for export: changes the weights for good
```

Scaling neuron j multiplies the input of the down projection, z[j] <- alpha * z[j] (Gao et al.
2025, section 3), which equals multiplying column j of W_down. `scaled` only adds hooks and
removes them again, so the model it leaves behind is bit for bit the one it found.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hneurons_eval.architectures import DownProjection, NeuronLayout, down_projections
from hneurons_eval.neurons import NeuronSet, check_alpha


@dataclass(frozen=True)
class Scaling:
    """What to multiply in a batch: for each layer that has any, the neurons and a factor for each row.

    Attributes:
        neurons: by layer number, int64 `[k]`.
        factors: by layer number, float32 `[rows, k]`, or `[1, k]` for all rows alike.
    """

    neurons: dict[int, Tensor]
    factors: dict[int, Tensor]


class ScalingTable:
    """Every (neuron set, alpha) that rows of a batch ask for, as one row of factors each.

    Entry 0 is the untouched model. All entries share one list of neurons (the union of their
    sets, with factor 1 where a set has not the neuron), so that a batch that mixes many sets and
    alphas costs one gather.

    Raises (from `entry`):
        ValueError: alpha negative, not finite or not a number.
        NeuronSetError: neurons of a model with other layers.
    """

    def __init__(self, layout: NeuronLayout) -> None:
        self.layout = layout
        self._number: dict[tuple[str, float], int] = {}
        self._entries: list[tuple[NeuronSet, float]] = []
        self._neurons: dict[int, Tensor] = {}
        self._columns: dict[int, slice] = {}
        self._factors: Tensor | None = None

    def entry(self, neurons: NeuronSet | None, alpha: float) -> int:
        """Number of the entry that scales `neurons` by `alpha`; 0 where nothing changes."""
        alpha = check_alpha(alpha)
        if neurons is None or not len(neurons):
            return 0
        neurons.check(self.layout)
        if alpha == 1.0:
            return 0
        key = (neurons.digest, alpha)
        if key not in self._number:
            self._entries.append((neurons, alpha))
            self._number[key] = len(self._entries)
            self._factors = None
        return self._number[key]

    def rows(self, entries: Sequence[int]) -> Scaling | None:
        """The factors of a batch whose row r uses entry `entries[r]`; None if all are untouched."""
        if not any(entries):
            return None
        if self._factors is None:
            self._build()
        assert self._factors is not None
        chosen = self._factors[torch.as_tensor(entries, device=self._factors.device)]  # [rows, union]
        return Scaling(self._neurons, {layer: chosen[:, columns] for layer, columns in self._columns.items()})

    def _build(self) -> None:
        flats = [neurons.flat(self.layout) for neurons, _ in self._entries]
        union = np.unique(np.concatenate(flats))
        factors = np.ones((len(flats) + 1, len(union)), np.float32)
        for number, (flat, (_, alpha)) in enumerate(zip(flats, self._entries, strict=True), start=1):
            factors[number, np.searchsorted(union, flat)] = alpha
        layers, indices = self.layout.unflatten(union)
        self._columns, self._neurons = {}, {}
        for layer in np.unique(layers):
            first, last = np.searchsorted(layers, [layer, layer + 1])
            self._columns[int(layer)] = slice(int(first), int(last))
            self._neurons[int(layer)] = torch.from_numpy(indices[first:last].copy())
        self._factors = torch.from_numpy(factors)


@contextmanager
def scaling_hooks(places: Sequence[DownProjection], scaling: Scaling | None) -> Iterator[None]:
    """Multiply while the block runs; afterwards the model has the hooks it had before."""
    handles = []
    try:
        if scaling is not None:
            for place in places:
                if place.layer in scaling.neurons:
                    hook = _multiply(scaling.neurons[place.layer], scaling.factors[place.layer])
                    handles.append(place.module.register_forward_pre_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _multiply(neurons: Tensor, factors: Tensor):  # its type is torch's
    ready: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = args[0]  # [rows, tokens, width]
        key = (z.device, z.dtype)
        if key not in ready:
            ready[key] = neurons.to(z.device), factors.to(z.device)
        index, factor = ready[key]
        if factor.shape[0] not in (1, z.shape[0]):
            raise ValueError(f"alpha has {factor.shape[0]} rows, the batch has {z.shape[0]}; give one factor per row")
        # The product is taken in float32 and rounded once, as folding would round it.
        chosen = (z[..., index].float() * factor.view(-1, *(1,) * (z.dim() - 2), factor.shape[1])).to(z.dtype)
        # Without gradients z is a temporary that only the down projection reads, so it may be written.
        z = z.index_copy(-1, index, chosen) if torch.is_grad_enabled() else z.index_copy_(-1, index, chosen)
        return (z, *args[1:])

    return hook


@contextmanager
def scaled(model: nn.Module, neurons: NeuronSet, alpha: float | Sequence[float] | Tensor) -> Iterator[None]:
    """The model with neurons scaled, inside the block only.

    Args:
        model: a transformers causal language model.
        neurons: the neurons to scale.
        alpha: one factor, or one for each row of the batches that run inside; 1 is the untouched model.

    Raises:
        ValueError: alpha negative, not finite or not a number; a batch with another number of rows.
        NeuronSetError: neurons of a model with other layers.
        UnsupportedModelError: as `down_projections`.
    """
    if isinstance(alpha, Tensor | np.ndarray):
        alpha = alpha.tolist()
    alphas = [check_alpha(a) for a in alpha] if isinstance(alpha, list | tuple) else [check_alpha(alpha)]
    if not alphas:
        raise ValueError("alpha is empty; give one factor, or one for each row of the batch")
    places = down_projections(model)
    table = ScalingTable(NeuronLayout(tuple(place.width for place in places)))
    with scaling_hooks(places, table.rows([table.entry(neurons, a) for a in alphas])):
        yield


def fold(model: nn.Module, neurons: NeuronSet, alpha: float) -> None:
    """Multiply the neurons' columns of W_down by alpha, **in place and for good**: the model to export.

    Raises:
        ValueError: alpha negative, not finite or not a number.
        NeuronSetError: neurons of a model with other layers.
        UnsupportedModelError: as `down_projections`.
    """
    alpha = check_alpha(alpha)
    places = down_projections(model)
    neurons.check(NeuronLayout(tuple(place.width for place in places)), type(model).__name__)
    with torch.no_grad():
        for place in places:
            columns = torch.from_numpy(neurons.indices[neurons.layers == place.layer])
            if len(columns):
                weight = place.module.weight
                columns = columns.to(weight.device)
                weight[:, columns] = (weight[:, columns].float() * alpha).to(weight.dtype)
