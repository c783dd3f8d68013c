"""Scale neurons reversibly, by one factor or a factor for each row of the batch; or fold it into the weights.

```python
with scaled(model, neurons, alpha=0.0):           # off
    model.generate(...)
with scaled(model, neurons, alpha=[0.0, 1.0, 3.0]):  # one factor per row of the batch
    model(input_ids)
fold(model, neurons, alpha=0.0)                    # for export: changes the weights for good
```

Scaling neuron j multiplies the input of the down projection, z[j] <- alpha * z[j] (Gao et al. 2025, section 3), which
equals multiplying column j of W_down. `scaled` leaves the model behind as it was, bit for bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.down_projection import Dense, DownProjection, Experts
from hneurons_eval.models.hooks import Scaling, hooked
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, check_alpha


@dataclass(frozen=True)
class Intervention:
    """Neurons and the factor alpha of their activations; without neurons, the baseline.

    Raises ValueError: alpha negative, not finite or not a number.
    """

    neurons: NeuronSet | None = None  # the neurons to scale, or None
    alpha: float = 1.0  # their factor; 1 is the baseline

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_alpha(self.alpha))

    @property
    def is_baseline(self) -> bool:
        """Whether nothing changes."""
        return self.alpha == 1.0 or self.neurons is None or not len(self.neurons)

    @property
    def key(self) -> tuple[str | None, float]:
        """Identity: digest of the neurons and alpha; `(None, 1.0)` for every baseline."""
        return (None, 1.0) if self.is_baseline or self.neurons is None else (self.neurons.digest, self.alpha)

    def check(self, layout: NeuronLayout, model: str = "the model") -> None:
        """Refuse a model with other layers than the neurons'. Raises NeuronSetError: says both."""
        if self.neurons is not None:
            self.neurons.check(layout, model)

    def flat(self, layout: NeuronLayout) -> np.ndarray:
        """Flat indices of the scaled neurons, ascending: int64 `[neurons]`, empty for a baseline."""
        return np.empty(0, np.int64) if self.is_baseline or self.neurons is None else self.neurons.flat(layout)


BASELINE = Intervention()
"""The model as it is."""


class ScalingTable:
    """The factors of every intervention in a batch, one row each; entry 0 is the baseline.

    The entries share one list of neurons, the union of their sets, with factor 1 for neurons that a set does not have:
    a batch that mixes many sets and alphas costs one gather a layer.
    """

    def __init__(self, projections: Sequence[DownProjection]) -> None:
        self.layout = NeuronLayout(tuple(projection.width for projection in projections))
        self._projections = projections
        self._number: dict[tuple[str | None, float], int] = {BASELINE.key: 0}
        self._entries: list[Intervention] = [BASELINE]
        self._together: tuple[int, ...] = ()  # entries of which the rest is the union
        self._neurons: dict[tuple[int, int], Tensor] = {}
        self._columns: dict[tuple[int, int], slice] = {}
        self._factors = torch.ones(1, 0)
        self._latest: tuple[tuple[int, ...], Scaling] | None = None

    def entry(self, intervention: Intervention) -> int:
        """Number of an intervention's entry, which is made if there is none; 0 for a baseline."""
        key = intervention.key
        if key not in self._number:
            self._number[key] = len(self._entries)
            self._entries.append(intervention)
        return self._number[key]

    def rows(self, entries: Sequence[int]) -> Scaling | None:
        """The factors of a batch whose row r uses entry `entries[r]`; None if all are the baseline."""
        if not any(entries):
            return None
        rows = tuple(entries)
        if self._latest is None or self._latest[0] != rows:
            together = tuple(sorted(set(rows) - {0}))
            if together != self._together:
                self._build(together)
            row_of = {0: 0} | {entry: number for number, entry in enumerate(together, start=1)}
            chosen = self._factors[[row_of[entry] for entry in rows]]  # [rows, union]
            factors = {part: chosen[:, columns] for part, columns in self._columns.items()}
            self._latest = rows, Scaling(self._neurons, factors)
        return self._latest[1]

    def _build(self, together: tuple[int, ...]) -> None:
        chosen = [self._entries[entry] for entry in together]
        flats = [intervention.flat(self.layout) for intervention in chosen]
        union = np.unique(np.concatenate(flats))
        factors = np.ones((len(flats) + 1, len(union)), np.float32)
        for number, (flat, intervention) in enumerate(zip(flats, chosen, strict=True), start=1):
            factors[number, np.searchsorted(union, flat)] = intervention.alpha
        self._together = together
        self._columns, self._neurons = {}, {}
        for projection in self._projections:
            for number, part in enumerate(projection.parts):
                start = int(self.layout.starts[projection.layer]) + part.start
                first, last = np.searchsorted(union, [start, start + part.width]).tolist()
                if first < last:
                    self._columns[projection.layer, number] = slice(first, last)
                    self._neurons[projection.layer, number] = torch.from_numpy(union[first:last] - start)
        self._factors = torch.from_numpy(factors)


@contextmanager
def scaled(model: nn.Module, neurons: NeuronSet, alpha: float | Sequence[float] | Tensor) -> Iterator[None]:
    """The model with neurons scaled, inside the block only.

    Args:
        model: a transformers causal language model.
        neurons: the neurons to scale.
        alpha: one factor, or one for each row of the batches that run inside; 1 is the baseline.

    Raises:
        ValueError: alpha negative, not finite or not a number; a batch with another number of rows.
        NeuronSetError: neurons of a model with other layers.
        UnsupportedModelError: as `covered_projections`.
    """
    if isinstance(alpha, Tensor | np.ndarray):
        alpha = alpha.tolist()
    rows = [Intervention(neurons, a) for a in (alpha if isinstance(alpha, list | tuple) else [alpha])]  # pyright: ignore
    if not rows:
        raise ValueError("alpha is empty; give one factor, or one for each row of the batch")
    projections = covered_projections(model)
    table = ScalingTable(projections)
    rows[0].check(table.layout)
    with hooked(projections, table.rows([table.entry(row) for row in rows])):
        yield


def fold(model: nn.Module, neurons: NeuronSet, alpha: float) -> None:
    """Multiply the neurons' columns of W_down by alpha, **in place and for good**: the model to export.

    Raises:
        ValueError: alpha negative, not finite or not a number.
        NeuronSetError: neurons of a model with other layers.
        UnsupportedModelError: as `covered_projections`; or a quantised, wrapped or offloaded weight matrix.
    """
    alpha = check_alpha(alpha)
    projections = covered_projections(model)
    layout = NeuronLayout(tuple(projection.width for projection in projections))
    neurons.check(layout, type(model).__name__)
    wanted = neurons_by_part(projections, neurons)
    for _, _, part, _ in wanted:
        part.check_plain()  # all of them, before any is changed
    with torch.no_grad():
        for _, _, part, columns in wanted:
            part.multiply_columns(columns, alpha)


def neurons_by_part(
    projections: Sequence[DownProjection], neurons: NeuronSet
) -> list[tuple[DownProjection, int, Dense | Experts, Tensor]]:
    """Each part that has any of the neurons: projection, the part's number and itself, and int64 numbers within it."""
    found: list[tuple[DownProjection, int, Dense | Experts, Tensor]] = []
    for projection in projections:
        own = neurons.indices[neurons.layers == projection.layer]
        for number, part in enumerate(projection.parts):
            columns = own[(own >= part.start) & (own < part.start + part.width)] - part.start
            if len(columns):
                found.append((projection, number, part, torch.from_numpy(columns)))
    return found
