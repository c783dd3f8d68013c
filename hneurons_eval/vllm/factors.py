"""The factors of a mixed batch on one rank: each (neurons, alpha) in use is a row, all their neurons the columns."""

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
"""In a table that also holds what is not wanted at the moment."""


class FactorTable:
    """Row 0 is the untouched model; a batch that mixes many sets and alphas costs one gather and one scatter a layer.

    Args:
        layout: the model's neurons, by which flat indices are meant.
        projections: those of this rank.
        device: where the batch is.
    """

    def __init__(self, layout: NeuronLayout, projections: Sequence[Projection], device: torch.device) -> None:
        self._layout = layout
        self._projections = projections
        self._device = device
        self._entries: dict[Scaling, int] = {}
        self._factors = torch.ones(1, 0, device=device)  # [entries + 1, columns]
        self._columns: list[tuple[Tensor, slice] | None] = [None] * len(projections)

    def rows(self, requests: Sequence[Scaling | None]) -> list[int] | None:
        """The row of each request; None where all are untouched. The table grows by what it does not have yet."""
        wanted = {request for request in requests if request is not None}
        if not wanted:
            return None
        if not wanted <= self._entries.keys():
            known = [*self._entries, *(wanted - self._entries.keys())]
            columns = min(self._layout.total, sum(len(neurons) for neurons, _ in known))
            roomy = len(known) <= MAX_ENTRIES and len(known) * columns <= MAX_FACTORS
            self._build(known if roomy else sorted(wanted))
        return [0 if request is None else self._entries[request] for request in requests]

    def factors(self, rows: Tensor) -> Tensor:
        """The factors of tokens whose requests have these rows: float32 `[tokens, columns]`."""
        return self._factors.index_select(0, rows)

    def columns(self, layer: int) -> tuple[Tensor, slice] | None:
        """Which of the layer's columns on this rank are scaled, and which columns of `factors` are theirs."""
        return self._columns[layer]

    def _build(self, entries: Sequence[Scaling]) -> None:
        union = np.unique(np.concatenate([np.asarray(neurons, np.int64) for neurons, _ in entries]))
        factors = np.ones((len(entries) + 1, len(union)), np.float32)
        for row, (neurons, alpha) in enumerate(entries, start=1):
            factors[row, np.searchsorted(union, neurons)] = alpha
        layers, within = self._layout.unflatten(union)
        kept: list[np.ndarray] = []
        begin = 0
        for place in self._projections:
            own = np.flatnonzero(
                (layers == place.layer) & (within >= place.first) & (within - place.first < place.width)
            )
            kept.append(own)
            columns = torch.from_numpy(within[own] - place.first).to(self._device)
            self._columns[place.layer] = (columns, slice(begin, begin + len(own))) if len(own) else None
            begin += len(own)
        self._factors = torch.from_numpy(factors[:, np.concatenate(kept)]).to(self._device)
        self._entries = {entry: row for row, entry in enumerate(entries, start=1)}
