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

import numpy as np
import torch
from torch import Tensor, nn

from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.down_projection import Dense, DownProjection, Experts
from hneurons_eval.models.hooks import Scaling, hooked
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, check_alpha


class ScalingTable:
    """Every (neuron set, alpha) that rows of a batch ask for, as one row of factors each.

    Entry 0 is the untouched model. The entries in a batch share one list of neurons (the union of
    their sets, with factor 1 where a set has not the neuron), so that a batch that mixes many sets
    and alphas costs one gather a layer.

    Raises (from `entry`):
        ValueError: alpha negative, not finite or not a number.
        NeuronSetError: neurons of a model with other layers.
    """

    def __init__(self, places: Sequence[DownProjection]) -> None:
        self.layout = NeuronLayout(tuple(place.width for place in places))
        self._places = places
        self._number: dict[tuple[str, float], int] = {}
        self._entries: list[tuple[NeuronSet, float]] = []
        self._together: tuple[int, ...] = ()  # entries of which the rest is the union
        self._neurons: dict[tuple[int, int], Tensor] = {}
        self._columns: dict[tuple[int, int], slice] = {}
        self._factors = torch.ones(1, 0)
        self._latest: tuple[tuple[int, ...], Scaling] | None = None

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
        return self._number[key]

    def rows(self, entries: Sequence[int]) -> Scaling | None:
        """The factors of a batch whose row r uses entry `entries[r]`; None if all are untouched."""
        if not any(entries):
            return None
        rows = tuple(entries)
        if self._latest is None or self._latest[0] != rows:
            together = tuple(sorted(set(rows) - {0}))
            if together != self._together:
                self._build(together)
            place = {0: 0} | {entry: number for number, entry in enumerate(together, start=1)}
            chosen = self._factors[[place[entry] for entry in rows]]  # [rows, union]
            factors = {part: chosen[:, columns] for part, columns in self._columns.items()}
            self._latest = rows, Scaling(self._neurons, factors)
        return self._latest[1]

    def _build(self, together: tuple[int, ...]) -> None:
        chosen = [self._entries[entry - 1] for entry in together]
        flats = [neurons.flat(self.layout) for neurons, _ in chosen]
        union = np.unique(np.concatenate(flats))
        factors = np.ones((len(flats) + 1, len(union)), np.float32)
        for number, (flat, (_, alpha)) in enumerate(zip(flats, chosen, strict=True), start=1):
            factors[number, np.searchsorted(union, flat)] = alpha
        self._together = together
        self._columns, self._neurons = {}, {}
        for place in self._places:
            for number, part in enumerate(place.parts):
                start = int(self.layout.starts[place.layer]) + part.start
                first, last = np.searchsorted(union, [start, start + part.width]).tolist()
                if first < last:
                    self._columns[place.layer, number] = slice(first, last)
                    self._neurons[place.layer, number] = torch.from_numpy(union[first:last] - start)
        self._factors = torch.from_numpy(factors)


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
        UnsupportedModelError: as `covered_projections`.
    """
    if isinstance(alpha, Tensor | np.ndarray):
        alpha = alpha.tolist()
    alphas = [check_alpha(a) for a in alpha] if isinstance(alpha, list | tuple) else [check_alpha(alpha)]
    if not alphas:
        raise ValueError("alpha is empty; give one factor, or one for each row of the batch")
    places = covered_projections(model)
    table = ScalingTable(places)
    with hooked(places, table.rows([table.entry(neurons, a) for a in alphas])):
        yield


def fold(model: nn.Module, neurons: NeuronSet, alpha: float) -> None:
    """Multiply the neurons' columns of W_down by alpha, **in place and for good**: the model to export.

    Raises:
        ValueError: alpha negative, not finite or not a number.
        NeuronSetError: neurons of a model with other layers.
        UnsupportedModelError: as `covered_projections`; or a quantised, wrapped or offloaded weight matrix.
    """
    alpha = check_alpha(alpha)
    places = covered_projections(model)
    layout = NeuronLayout(tuple(place.width for place in places))
    neurons.check(layout, type(model).__name__)
    wanted: list[tuple[Dense | Experts, Tensor]] = []
    for place in places:
        own = neurons.indices[neurons.layers == place.layer]
        for part in place.parts:
            columns = own[(own >= part.start) & (own < part.start + part.width)] - part.start
            if len(columns):
                part.check_plain()  # all of them, before any is changed
                wanted.append((part, torch.from_numpy(columns)))
    with torch.no_grad():
        for part, columns in wanted:
            part.multiply_columns(columns, alpha)
