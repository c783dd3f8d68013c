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
    """One captured request's rows in a step."""

    capture: Capture  # where their contributions go
    number: int  # of the request in the step
    first: int  # absolute position of the first row
    # rows in the batch
    start: int
    stop: int
    tokens: Sequence[int]  # ids of the prompt
    # Positions that are in a region and are counted in this step
    fresh: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def last(self) -> int:
        """One more than the position of the last row."""
        return self.first + self.stop - self.start


@dataclass
class Step:
    """The plan of one step, and what its hooks have gathered so far."""

    rows: int  # number of rows that belong to requests; padding follows
    requests: int
    factors: Tensor | None = None  # float32 `[rows, columns]`, or None if nothing is scaled
    captured: list[CapturedRows] = field(default_factory=list)  # rows of the captured requests
    # rows that are summed, and the index of the sum to which each belongs
    summed: Tensor | None = None
    cells: Tensor | None = None
    sums: list[Tensor] = field(default_factory=list)  # for each layer `[sums, width]`
    owners: list[tuple[Capture, int]] = field(default_factory=list)  # the capture and its cell for each sum
    kept: Tensor | None = None  # rows that are kept apart
    keepers: list[Capture] = field(default_factory=list)  # the capture for each of them
    # of the rows kept apart, layer by layer
    z: list[Tensor] = field(default_factory=list)
    inverse: list[Tensor] = field(default_factory=list)
    layers: int = 0  # number of down projections reached so far
    logits_read: bool = False  # whether the step's own logits have been read

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
