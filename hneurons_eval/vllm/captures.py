"""Contributions of one request in a vLLM worker until they are fetched. Knows nothing of vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.engine.activation_records import Activations, stack
from hneurons_eval.models.contributions import cett
from hneurons_eval.vllm.request_extras import Ranges, Regions, RequestExtras, count, memberships, positions


@dataclass
class Capture:
    """Contributions of one request so far."""

    extras: RequestExtras
    # int64 `[positions]`, the cell of each position, or -1 for one in no region. Positions in the same regions share a
    # cell, whose sum is kept once.
    cells: np.ndarray
    members: np.ndarray  # bool `[cells, regions]`, which regions a cell belongs to
    seen: np.ndarray  # bool `[positions]`, which have been counted
    sums: Tensor  # float32 `[cells, neurons of this rank]`
    activations: Activations = field(default_factory=list)  # of the tokens kept apart, in order
    # by position of their token
    logprobs: dict[int, Tensor] = field(default_factory=dict)
    entropies: dict[int, Tensor] = field(default_factory=dict)
    hidden: Tensor | None = None  # float32 `[hidden size]`, sum of final states over the first region

    @classmethod
    def of(cls, extras: RequestExtras, neurons: int, device: torch.device) -> "Capture":
        """An empty capture."""
        cells, members = memberships(extras.regions)
        sums = torch.zeros(len(members), neurons, device=device)
        return cls(extras, cells, members, np.zeros(len(cells), bool), sums)

    @property
    def kept(self) -> int:
        """The next position to keep apart."""
        assert self.extras.keep_from is not None
        return self.extras.keep_from + len(self.activations)

    def result(
        self, wanted: Regions | None, layers: Sequence[slice], norms: Tensor, columns: Sequence[int]
    ) -> dict[str, Tensor]:
        """The tensors of `NeuronHooks.fetch`.

        Args:
            wanted: the regions to fetch; default the request's own.
            layers: for each layer its columns in `sums`.
            norms: column norms, float32 `[neurons of this rank]`.
            columns: those of the neurons with per-token contributions.

        Raises ValueError: some position was never computed.
        """
        extras = self.extras
        missing = np.flatnonzero((self.cells >= 0) & ~self.seen)
        if len(missing):
            raise ValueError(f"{len(missing)} positions, the first {missing[0]}, were not computed (a cached prefix?)")
        regions: Regions = [(number, ()) for number in range(len(extras.regions))] if wanted is None else wanted
        found = {"values": torch.stack([self._region(number, kept, layers) for number, kept in regions]) * norms}
        for name, values in (("logprobs", self.logprobs), ("entropies", self.entropies)):
            if values:
                first = min(values)
                found[name] = torch.stack([values[position] for position in range(first, first + len(values))])
        if self.hidden is not None:
            found["hidden"] = self.hidden / count(extras.regions[0])
        elif extras.keep_from is not None and regions[0][0] is None:
            answer = [self.activations[position - extras.keep_from] for position in positions(regions[0][1])]
            hidden = stack(answer, self.sums.device).mean_hidden()
            if hidden is not None:
                found["hidden"] = hidden
        if extras.watch:
            found["watched"] = self._per_token(columns, layers, norms)
        return found

    def _per_token(self, neurons: Sequence[int], layers: Sequence[slice], norms: Tensor) -> Tensor:
        """Contributions of some neurons to each token kept apart: float32 `[tokens, some]`."""
        device = self.sums.device
        if not self.activations:
            return torch.zeros(0, len(neurons), device=device)
        columns = torch.tensor(neurons, dtype=torch.long, device=device)
        starts = torch.tensor([own.stop for own in layers], device=device)
        layer = torch.searchsorted(starts, columns, right=True)
        z = torch.stack([record.z[row].to(device).index_select(0, columns) for record, row in self.activations])
        inverse = torch.stack(
            [record.inverse[row].to(device).index_select(0, layer) for record, row in self.activations]
        )
        return cett(z, inverse, norms[columns])

    def _region(self, number: int | None, kept: Ranges, layers: Sequence[slice]) -> Tensor:
        """The mean (or maximum) over one region, column norms still missing: float32 `[neurons of this rank]`."""
        extras, device = self.extras, self.sums.device
        mean = extras.reduce == "mean"
        parts: list[Tensor] = []
        total = 0
        if number is not None:
            own = self.sums[torch.from_numpy(self.members[:, number]).to(device)]
            parts.append(own.sum(dim=0) if mean else own.amax(dim=0))
            total += count(extras.regions[number])
        if kept and extras.keep_from is not None:
            tokens = [position - extras.keep_from for position in positions(kept)]
            if not 0 <= tokens[0] <= tokens[-1] < len(self.activations):
                raise ValueError(f"{tokens[0]} to {tokens[-1]} asked for of {len(self.activations)} tokens kept apart")
            record = stack([self.activations[token] for token in tokens], device)
            values = [cett(record.z[:, own], record.inverse[:, layer, None], None) for layer, own in enumerate(layers)]
            parts.append(torch.cat([one.sum(dim=0) if mean else one.amax(dim=0) for one in values]))
            total += len(tokens)
        if not parts:
            raise ValueError("a region has no tokens")
        whole = torch.stack(parts)
        return whole.sum(dim=0) / total if mean else whole.amax(dim=0)
