"""What a request asks of vLLM's workers, as JSON text in its `extra_args`.

```python
SamplingParams(extra_args={EXTRAS_KEY: RequestExtras(neurons=(5, 77), alpha=0.5).to_text()})
```

A request carries all it needs, so nothing is registered beforehand and nothing is lost when a worker restarts. Imports
neither torch nor vLLM.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
)

from hneurons_eval.models.neuron_set import MAX_NEURONS, check_alpha
from hneurons_eval.util.errors import parse_json

EXTRAS_KEY = "hneurons"
"""The key in `SamplingParams.extra_args`, and in `vllm_xargs` over HTTP."""
MAX_REGIONS = 62
MAX_POSITIONS = 2**24


def _replace_digest(value: Any, info: ValidationInfo) -> Any:
    return info.context(value) if isinstance(value, str) and info.context is not None else value


def _check_ascending(neurons: tuple[int, ...]) -> tuple[int, ...]:
    if any(first >= second for first, second in pairwise(neurons)):
        raise ValueError("should be ascending")
    return neurons


def _check_ranges(ranges: "Ranges") -> "Ranges":
    edges = [-1, *(edge for one in ranges for edge in one)]
    if any(first >= second for first, second in pairwise(edges)) or edges[-1] > MAX_POSITIONS:
        raise ValueError("should be ascending ranges [start, stop]")
    return ranges


Ranges = tuple[tuple[int, int], ...]
"""Positions as ranges [start, stop), ascending."""
Index = Annotated[int, Field(strict=True, ge=0, lt=2**40)]
Neurons = Annotated[
    tuple[Index, ...], Field(max_length=MAX_NEURONS), BeforeValidator(_replace_digest), AfterValidator(_check_ascending)
]
CheckedRanges = Annotated[tuple[tuple[Index, Index], ...], AfterValidator(_check_ranges)]
Regions = Sequence[tuple[int | None, Ranges]]
"""Regions to fetch: for each the number of a region of the request, or None, and positions among the tokens kept apart.
The union of both is the region."""


@dataclass(frozen=True)
class RequestExtras:
    """What one request asks of the workers. Positions are absolute: 0 is the prompt's first token."""

    neurons: Neurons = ()  # flat indices of the neurons to scale, ascending
    alpha: Annotated[float, PlainValidator(check_alpha)] = 1.0  # their factor
    # Name under which contributions are kept until they are fetched; empty if none are wanted
    key: Annotated[str, Field(max_length=256)] = ""
    reduce: Literal["mean", "max"] = "mean"  # `mean` or `max` over the tokens of a region
    # The positions of each region
    regions: Annotated[tuple[Annotated[CheckedRanges, Field(min_length=1)], ...], Field(max_length=MAX_REGIONS)] = ()
    keep_from: Index | None = None  # tokens from this position on are kept apart, for regions that are only known later
    # The response's first position, for a prompt that holds its response. Log-probabilities and entropies of its tokens
    # are captured, and the mean final hidden state over the first region.
    response_from: Index | None = None
    # Flat indices, ascending, of neurons whose per-token contributions are captured for the tokens kept apart
    watch: Neurons = ()
    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def scaling(self) -> tuple[tuple[int, ...], float] | None:
        """Neurons and alpha, or None if nothing changes."""
        return (self.neurons, self.alpha) if self.neurons and self.alpha != 1.0 else None

    def to_text(self, **digests: str | None) -> str:
        """JSON, without defaults; `digests` of `neurons` and `watch` replace the lists of sets that a server has."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record = {name: value for name, value in record.items() if value != getattr(RequestExtras, name)}
        record |= {name: digest for name, digest in digests.items() if name in record and digest is not None}
        return json.dumps(record, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_text(cls, text: Any, lookup: Callable[[str], tuple[int, ...]] | None = None) -> "RequestExtras":
        """Parse the text of `to_text`; `lookup` gives the flat indices of a digest, without it digests are refused.

        Raises ValueError: anything else. Over HTTP the text can come from anybody.
        """
        extras = parse_json(_EXTRAS, text, EXTRAS_KEY, lookup)
        if extras.key and not extras.regions:
            raise ValueError("key asks for contributions, but there are no regions")
        return extras


_EXTRAS = TypeAdapter(RequestExtras)


def to_ranges(positions: Iterable[int]) -> Ranges:
    """Positions as ranges."""
    found: list[tuple[int, int]] = []
    for position in sorted(set(positions)):
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return tuple(found)


def positions(ranges: Ranges) -> list[int]:
    """The positions in ranges, ascending."""
    return [position for start, stop in ranges for position in range(start, stop)]


def count(ranges: Ranges) -> int:
    """Number of positions."""
    return sum(stop - start for start, stop in ranges)


def end(regions: Sequence[Ranges]) -> int:
    """One more than the last position of all regions."""
    return max((region[-1][1] for region in regions if region), default=0)


def memberships(regions: Sequence[Ranges]) -> tuple[np.ndarray, np.ndarray]:
    """Cells of positions: positions in the same regions share a cell.

    Returns the cell of each position, int64 `[positions]`, -1 for one in no region; and which regions a cell belongs
    to, bool `[cells, regions]`.
    """
    masks = np.zeros(end(regions), np.int64)
    for number, region in enumerate(regions):
        for start, stop in region:
            masks[start:stop] |= 1 << number
    kinds, cells = np.unique(masks, return_inverse=True)
    inside = kinds > 0
    cells = np.where(inside, np.cumsum(inside) - 1, -1)[cells]
    return cells, (kinds[inside][:, None] >> np.arange(len(regions))) & 1 > 0
