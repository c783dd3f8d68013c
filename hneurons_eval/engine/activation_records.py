"""z of every neuron at tokens that are being generated, kept until the answer's span is known.

One `ActivationRecord` holds a decoding step of all sequences that capture: z as it was fed, in the model's
dtype, and 1 / ||h||. A sequence's activations are a list of (record, row), which a split copies in no time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.models.contributions import (
    Reduce,
    RegionCapture,
    by_layer,
    cett_at_tokens,
    inverse_norm,
    reduce_cett,
)
from hneurons_eval.models.down_projection import DownProjection, Experts
from hneurons_eval.models.hooks import DenseActivations, ExpertActivations, LayerActivations


@dataclass(frozen=True)
class ActivationRecord:
    """One token of each of several sequences, or several tokens of one."""

    # Inputs of the down projections, layer by layer and part by part, `[rows, stored]`; of routed experts only those
    # chosen, with the routing weight in it
    z: Tensor
    inverse: Tensor  # 1 / ||h||, float32 `[rows, layers]`
    experts: tuple[Tensor, ...]  # for each mixture of experts, in layer order, the chosen experts, int64 `[rows, k]`
    # The final hidden state in the model's dtype, `[rows, hidden size]`; None where the model shows none
    hidden: Tensor | None

    def take(self, rows: Tensor) -> "ActivationRecord":
        """Some rows of it, copied: the rest may be freed."""
        return ActivationRecord(
            self.z[rows.to(self.z.device)],
            self.inverse[rows.to(self.inverse.device)],
            tuple(chosen[rows.to(chosen.device)] for chosen in self.experts),
            None if self.hidden is None else self.hidden[rows.to(self.hidden.device)],
        )

    def mean_hidden(self) -> Tensor | None:
        """The mean final hidden state over the rows: float32 `[hidden size]`, or None."""
        return None if self.hidden is None else self.hidden.float().mean(dim=0)


Activations = list[tuple[ActivationRecord, int]]
"""Record and row of each token of one sequence, oldest first."""


def stack(activations: Sequence[tuple[ActivationRecord, int]], device: torch.device) -> ActivationRecord:
    """The tokens of one sequence, at least one, as the rows of one record on a device."""
    first = activations[0][0]
    return ActivationRecord(
        torch.stack([record.z[row].to(device) for record, row in activations]),
        torch.stack([record.inverse[row].to(device) for record, row in activations]),
        tuple(
            torch.stack([record.experts[mixture][row].to(device) for record, row in activations])
            for mixture in range(len(first.experts))
        ),
        None
        if first.hidden is None
        else torch.stack([record.hidden[row].to(device) for record, row in activations if record.hidden is not None]),
    )


class ActivationRecorder:
    """Collects a step's record: `start`, give `observe` to `hooked`, then `record`."""

    def __init__(self, capture: RegionCapture) -> None:
        self._capture = capture
        self.start(None)

    def start(self, rows: Tensor | None) -> None:
        """Begin a step, forgetting an unfinished one; `rows` are those that capture, None for all."""
        self._rows = rows
        self._z: list[Tensor] = []
        self._inverse: list[Tensor] = []
        self._experts: list[Tensor] = []

    def observe(self, projection: DownProjection, activations: LayerActivations, h: Tensor) -> None:
        """Take one layer's z and h of a pass over one token a row."""
        for one in activations.parts:
            if isinstance(one, DenseActivations):
                self._z.append(self._own(one.weighted.reshape(-1, one.part.width)))
            else:
                self._z.append(self._own(one.weighted.flatten(1)))
                self._experts.append(self._own(one.experts))
        self._inverse.append(self._own(inverse_norm(h).view(-1)))

    def _own(self, values: Tensor) -> Tensor:
        return values if self._rows is None else values[self._rows.to(values.device)]

    def record(self, states: Sequence[Tensor]) -> ActivationRecord:
        """The record of the step; `states`: of `final_states`, `[rows, 1, hidden size]`."""
        device = self._z[0].device
        record = ActivationRecord(
            torch.cat([z.to(device) for z in self._z], dim=1),
            torch.stack([inverse.to(device) for inverse in self._inverse], dim=1),
            tuple(chosen.to(device) for chosen in self._experts),
            self._own(states[0][:, -1]) if states else None,
        )
        self.start(None)
        return record

    def reduce(self, tokens: ActivationRecord, reduce: Reduce) -> np.ndarray:
        """Sum (`mean`) or maximum (`max`) of CETT over the tokens of one sequence: float32 `[neurons]`."""
        layers = [
            reduce_cett(activations, inverse[None], norms, reduce)[0, 0]
            for _, activations, inverse, norms in self._layers(tokens)
        ]
        return torch.cat(layers).cpu().numpy()

    def select(self, tokens: ActivationRecord, neurons: np.ndarray) -> np.ndarray:
        """CETT of some neurons, given by flat indices, at each token of one sequence: float32 `[tokens, some]`."""
        of_layer = by_layer(self._capture.layout, neurons)
        values = torch.zeros(len(tokens.z), len(neurons), device=tokens.z.device)
        for layer, activations, inverse, norms in self._layers(tokens):
            if layer in of_layer:
                columns, within = of_layer[layer]
                columns, within = columns.to(values.device), within.to(values.device)
                values[:, columns] = cett_at_tokens(activations, inverse, norms, within)
        return values.cpu().numpy()

    def _layers(self, tokens: ActivationRecord) -> Iterator[tuple[int, LayerActivations, Tensor, Tensor]]:
        """Each layer's number, activations, 1 / ||h|| `[tokens]` and column norms."""
        column = mixture = 0
        for projection, norms in zip(self._capture.projections, self._capture.norms, strict=True):
            parts: list[DenseActivations | ExpertActivations] = []
            for part in projection.parts:
                if isinstance(part, Experts):
                    experts = tokens.experts[mixture]  # [tokens, k]
                    stored, mixture = experts.shape[1] * part.each, mixture + 1
                    z = tokens.z[:, column : column + stored].view(*experts.shape, part.each)
                    # The routing weight is in z already.
                    parts.append(ExpertActivations(part, z, experts, torch.ones_like(experts, dtype=torch.float32)))
                else:
                    stored = part.width
                    parts.append(DenseActivations(part, tokens.z[:, column : column + stored]))
                column += stored
            yield projection.layer, LayerActivations(tuple(parts)), tokens.inverse[:, projection.layer], norms


def compact(sequences: Sequence[Activations]) -> None:
    """Free what no sequence needs any more: records of which less than half is in use are cut to that."""
    used: dict[int, tuple[ActivationRecord, dict[int, int]]] = {}
    for activations in sequences:
        for record, row in activations:
            rows = used.setdefault(id(record), (record, {}))[1]
            rows.setdefault(row, len(rows))
    fresh: dict[int, ActivationRecord] = {
        key: record.take(torch.tensor(list(rows)))
        for key, (record, rows) in used.items()
        if 2 * len(rows) < len(record.z)
    }
    for activations in sequences:
        for number, (record, row) in enumerate(activations):
            if id(record) in fresh:
                activations[number] = (fresh[id(record)], used[id(record)][1][row])
