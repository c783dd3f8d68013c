"""The plan of one step: which rows of vLLM's batch are scaled, summed or kept apart, and for which request.

Knows nothing of vLLM.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.vllm.captures import Capture


@dataclass
class CapturedRows:
    """One captured request's rows in a step.

    Attributes:
        capture: where their contributions go.
        number: of the request in the step.
        first: absolute position of the first row.
        start, stop: rows in the batch.
        tokens: ids of the prompt.
        fresh: positions that are in a region and are counted in this step.
    """

    capture: Capture
    number: int
    first: int
    start: int
    stop: int
    tokens: Sequence[int]
    fresh: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def last(self) -> int:
        """One more than the position of the last row."""
        return self.first + self.stop - self.start


@dataclass
class Step:
    """The plan of one step, and what its hooks have gathered so far.

    Attributes:
        rows: number of rows that belong to requests; padding follows.
        requests: number of requests.
        factors: float32 `[rows, columns]`, or None if nothing is scaled.
        captured: rows of the captured requests.
        summed, cells: rows that are summed, and the index of the sum to which each belongs.
        sums: for each layer `[sums, width]`.
        owners: the capture and its cell for each sum.
        kept: rows that are kept aone.
        keepers: the capture for each of them.
        z, inverse: of the rows kept apart, layer by layer.
        layers: number of down projections reached so far.
        logits_read: whether the step's own logits have been read.
    """

    rows: int
    requests: int
    factors: Tensor | None = None
    captured: list[CapturedRows] = field(default_factory=list)
    summed: Tensor | None = None
    cells: Tensor | None = None
    sums: list[Tensor] = field(default_factory=list)
    owners: list[tuple[Capture, int]] = field(default_factory=list)
    kept: Tensor | None = None
    keepers: list[Capture] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    inverse: list[Tensor] = field(default_factory=list)
    layers: int = 0
    logits_read: bool = False

    def assign(self, widths: Sequence[int], device: torch.device) -> None:
        """Decide which rows are summed, in which sums, and which are kept apart; a position counts once."""
        summed: list[np.ndarray] = []
        cells: list[np.ndarray] = []
        kept: list[int] = []
        for one in self.captured:
            capture = one.capture
            if one.first < len(capture.cells):
                last = min(one.last, len(capture.cells))
                own = capture.cells[one.first : last]
                fresh = np.flatnonzero((own >= 0) & ~capture.seen[one.first : last])
                capture.seen[one.first : last] = True
                if len(fresh):
                    one.fresh = one.first + fresh
                    summed.append(one.start + fresh)
                    cells.append(len(self.owners) + own[fresh])
                    self.owners += [(capture, cell) for cell in range(len(capture.members))]
            if capture.extras.keep_from is not None and one.first <= capture.kept < one.last:
                rows = range(one.start + capture.kept - one.first, one.stop)
                kept += rows
                self.keepers += [capture] * len(rows)
        if summed:
            self.summed = torch.from_numpy(np.concatenate(summed)).to(device)
            self.cells = torch.from_numpy(np.concatenate(cells)).to(device)
            self.sums = [torch.zeros(len(self.owners), width, device=device) for width in widths]
        if kept:
            self.kept = torch.tensor(kept, device=device)
