"""What a vLLM worker has gathered of one request, until it is fetched. Knows nothing of vLLM."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.engine.activation_records import Activations, stack
from hneurons_eval.models.contributions import cett
from hneurons_eval.vllm.request_extras import RequestExtras, Runs, count, memberships, positions

Wanted = Sequence[tuple[int | None, Runs]]
"""For each region that is wanted the number of one of the request's, or None, and positions that were kept apart; both
together are the region."""


@dataclass
class Capture:
    """What has been gathered of one request.

    Attributes:
        fields: what it asked for.
        cells: int64 `[positions]`, the cell of each position that is in a region, else -1: positions that are in the
            same regions share a cell, whose sum is kept once.
        members: bool `[cells, regions]`, which regions a cell belongs to.
        seen: bool `[positions]`, which have been counted.
        sums: float32 `[cells, neurons of this rank]`.
        activations: of the tokens that are kept apart, in order.
        logprobs, entropies: by position of the token they are about.
        hidden: float32 `[hidden size]`, sum of final states over the first region.
    """

    fields: RequestExtras
    cells: np.ndarray
    members: np.ndarray
    seen: np.ndarray
    sums: Tensor
    activations: Activations = field(default_factory=list)
    logprobs: dict[int, Tensor] = field(default_factory=dict)
    entropies: dict[int, Tensor] = field(default_factory=dict)
    hidden: Tensor | None = None

    @classmethod
    def of(cls, fields: RequestExtras, neurons: int, device: torch.device) -> "Capture":
        """One that has nothing yet."""
        cells, members = memberships(fields.regions)
        sums = torch.zeros(len(members), neurons, device=device)
        return cls(fields, cells, members, np.zeros(len(cells), bool), sums)

    @property
    def kept(self) -> int:
        """The position that is to be kept apart next."""
        assert self.fields.keep_from is not None
        return self.fields.keep_from + len(self.activations)

    def result(
        self, wanted: "Wanted | None", layers: Sequence[slice], norms: Tensor, watched: Sequence[int]
    ) -> dict[str, Tensor]:
        """What `NeuronHooks.fetch` returns.

        Args:
            wanted: the regions, as there.
            layers: of each layer the columns of `sums`.
            norms: column norms, float32 `[neurons of this rank]`.
            watched: which of this rank's neurons are watched.

        Raises:
            ValueError: some position was never computed.
        """
        fields = self.fields
        missing = np.flatnonzero((self.cells >= 0) & ~self.seen)
        if len(missing):
            raise ValueError(f"{len(missing)} positions, the first {missing[0]}, were not computed (a cached prefix?)")
        regions: Wanted = [(number, ()) for number in range(len(fields.regions))] if wanted is None else wanted
        found = {"values": torch.stack([self._region(number, kept, layers) for number, kept in regions]) * norms}
        for name, values in (("logprobs", self.logprobs), ("entropies", self.entropies)):
            if values:
                first = min(values)
                found[name] = torch.stack([values[place] for place in range(first, first + len(values))])
        if self.hidden is not None:
            found["hidden"] = self.hidden / count(fields.regions[0])
        elif fields.keep_from is not None and regions[0][0] is None:
            answer = [self.activations[place - fields.keep_from] for place in positions(regions[0][1])]
            hidden = stack(answer, self.sums.device).mean_hidden()
            if hidden is not None:
                found["hidden"] = hidden
        if fields.watch:
            found["watched"] = self._watched(watched, layers, norms)
        return found

    def _watched(self, watched: Sequence[int], layers: Sequence[slice], norms: Tensor) -> Tensor:
        """Contributions of some neurons to each token kept apart: float32 `[tokens, some]`."""
        device = self.sums.device
        if not self.activations:
            return torch.zeros(0, len(watched), device=device)
        columns = torch.tensor(watched, dtype=torch.long, device=device)
        starts = torch.tensor([part.stop for part in layers], device=device)
        layer = torch.searchsorted(starts, columns, right=True)
        z = torch.stack([record.z[row].to(device).index_select(0, columns) for record, row in self.activations])
        inverse = torch.stack(
            [record.inverse[row].to(device).index_select(0, layer) for record, row in self.activations]
        )
        return cett(z, inverse, norms[columns])

    def _region(self, number: int | None, kept: Runs, layers: Sequence[slice]) -> Tensor:
        """The mean (or maximum) over one region, column norms still missing: float32 `[neurons of this rank]`."""
        fields, device = self.fields, self.sums.device
        mean = fields.reduce == "mean"
        parts: list[Tensor] = []
        total = 0
        if number is not None:
            own = self.sums[torch.from_numpy(self.members[:, number]).to(device)]
            parts.append(own.sum(dim=0) if mean else own.amax(dim=0))
            total += count(fields.regions[number])
        if kept and fields.keep_from is not None:
            places = [place - fields.keep_from for place in positions(kept)]
            if not 0 <= places[0] <= places[-1] < len(self.activations):
                raise ValueError(f"{places[0]} to {places[-1]} asked for of {len(self.activations)} tokens kept apart")
            apart = stack([self.activations[place] for place in places], device)
            values = [cett(apart.z[:, part], apart.inverse[:, layer, None], None) for layer, part in enumerate(layers)]
            parts.append(torch.cat([layer.sum(dim=0) if mean else layer.amax(dim=0) for layer in values]))
            total += len(places)
        if not parts:
            raise ValueError("a region has no tokens")
        whole = torch.stack(parts)
        return whole.sum(dim=0) / total if mean else whole.amax(dim=0)
