"""z of every neuron at tokens that are being generated, kept until the answer's span is known.

One `ActivationRecord` holds a decoding step of all lanes that capture: z as it was fed, in the model's
dtype, and 1 / ||h||. A lane's history is a list of (record, row), which a fork copies in no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.models.contributions import Reduce, RegionCapture, inverse_norm
from hneurons_eval.models.down_projection import DownProjection, Experts
from hneurons_eval.models.hooks import DenseActivations, LayerActivations


@dataclass(frozen=True)
class ActivationRecord:
    """One token of each of several lanes.

    Attributes:
        z: what was fed to the down projections, layer by layer and part by part, `[lanes, stored]`; of routed
            experts only those chosen, with the routing weight in it.
        inverse: 1 / ||h||, float32 `[lanes, layers]`.
        experts: for each mixture of experts (its place in layer order), which were chosen, int64 `[lanes, k]`.
        hidden: the final hidden state in the model's dtype, `[lanes, hidden size]`; None where the model shows none.
    """

    z: Tensor
    inverse: Tensor
    experts: tuple[Tensor, ...]
    hidden: Tensor | None

    def take(self, rows: Tensor) -> "ActivationRecord":
        """Some lanes of it, copied: the rest may be forgotten."""
        return ActivationRecord(
            self.z[rows],
            self.inverse[rows],
            tuple(chosen[rows] for chosen in self.experts),
            None if self.hidden is None else self.hidden[rows.to(self.hidden.device)],
        )


History = list[tuple[ActivationRecord, int]]
"""Of one lane, oldest token first."""


class ActivationRecorder:
    """Collects a step's record: `start`, give `see` to `hooked`, then `record`."""

    def __init__(self, capture: RegionCapture) -> None:
        self._capture = capture
        self._lanes: Tensor | None = None
        self._z: list[Tensor] = []
        self._inverse: list[Tensor] = []
        self._experts: list[Tensor] = []

    def start(self, lanes: Tensor | None) -> None:
        """Begin a step, forgetting what an unfinished one left; `lanes`: the rows that capture, or None for all."""
        self._lanes = lanes
        self._z, self._inverse, self._experts = [], [], []

    def see(self, place: DownProjection, terms: LayerActivations, h: Tensor) -> None:
        """Take one layer's z and h of a pass over one token a row."""
        for term in terms.parts:
            if isinstance(term, DenseActivations):
                self._z.append(self._own(term.weighted.reshape(-1, term.part.width)))
            else:
                self._z.append(self._own(term.weighted.flatten(1)))
                self._experts.append(self._own(term.experts))
        self._inverse.append(self._own(inverse_norm(h).view(-1)))

    def _own(self, values: Tensor) -> Tensor:
        return values if self._lanes is None else values[self._lanes.to(values.device)]

    def record(self, states: Sequence[Tensor]) -> ActivationRecord:
        """What the step left; `states`: of `final_states`, `[rows, 1, hidden size]`."""
        device = self._z[0].device
        record = ActivationRecord(
            torch.cat([z.to(device) for z in self._z], dim=1),
            torch.stack([inverse.to(device) for inverse in self._inverse], dim=1),
            tuple(chosen.to(device) for chosen in self._experts),
            self._own(states[0][:, -1]) if states else None,
        )
        self._z, self._inverse, self._experts = [], [], []
        return record

    def reduce(
        self, history: Sequence[tuple[ActivationRecord, int]], tokens: Sequence[int], reduce: Reduce
    ) -> np.ndarray:
        """Sum (or maximum) of CETT over some of a lane's tokens: float32 `[neurons]`.

        Args:
            history: the lane's.
            tokens: numbers of tokens in it, at least one.
            reduce: `mean` sums, `max` takes the maximum.
        """
        chosen = [history[token] for token in tokens]
        z = torch.stack([record.z[row] for record, row in chosen]).float().abs_()  # [tokens, stored]
        inverse = torch.stack([record.inverse[row] for record, row in chosen])  # [tokens, layers]
        parts: list[Tensor] = []
        column = mixture = 0
        for place, norms in zip(self._capture.places, self._capture.norms, strict=True):
            share = inverse[:, place.layer, None]
            layer: list[Tensor] = []
            for part in place.parts:
                if isinstance(part, Experts):
                    experts = torch.stack([record.experts[mixture][row] for record, row in chosen])  # [tokens, k]
                    width = experts.shape[1] * part.each
                    own = (z[:, column : column + width] * share).view(-1, part.each)
                    into = torch.zeros(part.count, part.each, device=z.device)
                    if reduce == "mean":
                        into.index_add_(0, experts.flatten(), own)
                    else:
                        into.scatter_reduce_(0, experts.flatten()[:, None].expand_as(own), own, "amax")
                    layer.append(into.flatten())
                    mixture += 1
                else:
                    width = part.width
                    own = z[:, column : column + width]
                    layer.append(share.T.matmul(own)[0] if reduce == "mean" else (own * share).amax(dim=0))
                column += width
            parts.append(torch.cat(layer) * norms.to(z.device) if len(layer) > 1 else layer[0] * norms.to(z.device))
        return torch.cat(parts).cpu().numpy()

    def select(
        self, history: Sequence[tuple[ActivationRecord, int]], tokens: Sequence[int], neurons: np.ndarray
    ) -> np.ndarray:
        """CETT of some neurons at each of a lane's tokens: float32 `[tokens, some]`.

        Args:
            history: the lane's.
            tokens: numbers of tokens in it, at least one.
            neurons: flat indices, int64 `[some]`.
        """
        chosen = [history[token] for token in tokens]
        layers, within = self._capture.layout.unflatten(neurons)
        inverse = torch.stack([record.inverse[row] for record, row in chosen])  # [tokens, layers]
        values = torch.zeros(len(chosen), len(neurons), device=inverse.device)
        column = mixture = 0
        for place, norms in zip(self._capture.places, self._capture.norms, strict=True):
            mine = np.flatnonzero(layers == place.layer)
            start = 0
            for part in place.parts:
                own = torch.from_numpy(mine[(within[mine] >= start) & (within[mine] < start + part.width)])
                at = torch.from_numpy(within)[own].to(values.device) - start  # numbers within the part
                if isinstance(part, Experts):
                    experts = torch.stack([record.experts[mixture][row] for record, row in chosen])  # [tokens, k]
                    stored = experts.shape[1] * part.each
                    mixture += 1
                    if len(own):
                        z = torch.stack([record.z[row, column : column + stored] for record, row in chosen])
                        z = z.view(len(chosen), -1, part.each)[:, :, at % part.each].float().abs()  # [tokens, k, some]
                        taken = torch.where(experts[:, :, None] == at // part.each, z, 0.0).sum(dim=1)
                        values[:, own] = taken
                else:
                    stored = part.width
                    if len(own):
                        z = torch.stack([record.z[row, column + at] for record, row in chosen])
                        values[:, own] = z.float().abs()
                column += stored
                start += part.width
            if len(mine):
                where = torch.from_numpy(mine).to(values.device)
                scale = norms.to(values.device)[torch.from_numpy(within[mine]).to(values.device)]
                values[:, where] *= inverse[:, place.layer, None] * scale
        return values.cpu().numpy()


def mean_hidden(history: Sequence[tuple[ActivationRecord, int]], tokens: Sequence[int]) -> np.ndarray | None:
    """The mean final hidden state over some of a lane's tokens: float32 `[hidden size]`, or None."""
    found = [record.hidden[row] for record, row in (history[token] for token in tokens) if record.hidden is not None]
    return torch.stack(found).float().mean(dim=0).cpu().numpy() if found else None


def compact(histories: Sequence[History]) -> None:
    """Free what no lane needs any more: records of which less than half is in use are cut to what is."""
    used: dict[int, tuple[ActivationRecord, dict[int, int]]] = {}
    for history in histories:
        for record, row in history:
            rows = used.setdefault(id(record), (record, {}))[1]
            rows.setdefault(row, len(rows))
    fresh: dict[int, ActivationRecord] = {
        key: record.take(torch.tensor(list(rows), device=record.z.device))
        for key, (record, rows) in used.items()
        if 2 * len(rows) < len(record.z)
    }
    for history in histories:
        for place, (record, row) in enumerate(history):
            if id(record) in fresh:
                history[place] = (fresh[id(record)], used[id(record)][1][row])
