"""Scaling factors of a mixed batch on one rank: a row for each (neurons, alpha) in use, a column for each neuron."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.vllm.projections import Projection

Scaling = tuple[tuple[int, ...], float]
"""Flat indices of neurons, and their factor."""
MAX_ENTRIES = 512
MAX_FACTORS = 2**26
"""Limits of a table that also holds entries not in use at the moment."""


class FactorTable:
    """Factors on one rank: row 0 is the baseline. A mixed batch costs one gather and one scatter a layer."""

    def __init__(self, layout: NeuronLayout, projections: Sequence[Projection], device: torch.device) -> None:
        self._layout = layout
        self._projections = projections
        self._device = device
        self._entries: dict[Scaling, int] = {}
        self._factors = torch.ones(1, 0, device=device)  # [entries + 1, columns]
        self._columns: list[tuple[Tensor, slice] | None] = [None] * len(projections)

    def rows(self, requests: Sequence[Scaling | None]) -> list[int] | None:
        """The row of each request, adding missing entries; None if all are baseline."""
        wanted = {request for request in requests if request is not None}
        if not wanted:
            return None
        if not wanted <= self._entries.keys():
            known = [*self._entries, *(wanted - self._entries.keys())]
            columns = min(self._layout.total, sum(len(neurons) for neurons, _ in known))
            small = len(known) <= MAX_ENTRIES and len(known) * columns <= MAX_FACTORS
            self._build(known if small else sorted(wanted))
        return [0 if request is None else self._entries[request] for request in requests]

    def factors(self, rows: Tensor) -> Tensor:
        """The factors of tokens whose requests have these rows: float32 `[tokens, columns]`."""
        return self._factors.index_select(0, rows)

    def columns(self, layer: int) -> tuple[Tensor, slice] | None:
        """The layer's scaled columns on this rank, and their columns in `factors`."""
        return self._columns[layer]

    def _build(self, entries: Sequence[Scaling]) -> None:
        union = np.unique(np.concatenate([np.asarray(neurons, np.int64) for neurons, _ in entries]))
        factors = np.ones((len(entries) + 1, len(union)), np.float32)
        for row, (neurons, alpha) in enumerate(entries, start=1):
            factors[row, np.searchsorted(union, neurons)] = alpha
        chosen: list[np.ndarray] = []
        begin = 0
        for projection in self._projections:
            first = int(self._layout.starts[projection.layer]) + projection.first
            own = np.flatnonzero((union >= first) & (union < first + projection.width))
            chosen.append(own)
            columns = torch.from_numpy(union[own] - first).to(self._device)
            self._columns[projection.layer] = (columns, slice(begin, begin + len(own))) if len(own) else None
            begin += len(own)
        self._factors = torch.from_numpy(factors[:, np.concatenate(chosen)]).to(self._device)
        self._entries = {entry: row for row, entry in enumerate(entries, start=1)}
