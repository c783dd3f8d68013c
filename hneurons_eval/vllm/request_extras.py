"""What a request asks of the workers, as text in its `extra_args`: the only thing that both sides need to know.

```python
SamplingParams(extra_args={FIELD: RequestExtras(neurons=(5, 77), alpha=0.5).to_text()})
```

Everything a request needs comes with it, so that there is nothing to register beforehand, and nothing to be lost when
a worker starts anew. Imports neither torch nor vLLM.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hneurons_eval.models.neuron_set import MAX_NEURONS, check_alpha

FIELD = "hneurons"
"""The key in `SamplingParams.extra_args`, and in `vllm_xargs` over HTTP."""
MAX_REGIONS = 62
MAX_POSITIONS = 2**24
Runs = tuple[tuple[int, int], ...]
"""Positions as ranges [start, stop), ascending."""


@dataclass(frozen=True)
class RequestExtras:
    """What one request asks for. Positions are absolute: 0 is the prompt's first token.

    Attributes:
        neurons: flat indices of the neurons to scale, ascending.
        alpha: their factor.
        key: name under which contributions are kept until they are fetched; empty where none are wanted.
        reduce: `mean` or `max` over the tokens of a region.
        regions: of each region the positions.
        keep_from: from this position on each token is kept apart, for regions that are known only later.
        response_from: where the response begins, of whose tokens log-probabilities, entropies and, over the first
            region, the final hidden state are wanted; of a prompt that holds the response.
        watch: flat indices, ascending, of neurons whose contribution to each token kept apart is wanted.
    """

    neurons: tuple[int, ...] = ()
    alpha: float = 1.0
    key: str = ""
    reduce: str = "mean"
    regions: tuple[Runs, ...] = ()
    keep_from: int | None = None
    response_from: int | None = None
    watch: tuple[int, ...] = ()

    @property
    def scaling(self) -> tuple[tuple[int, ...], float] | None:
        """Neurons and alpha, or None where nothing changes."""
        return (self.neurons, self.alpha) if self.neurons and self.alpha != 1.0 else None

    def to_text(self, neurons: str | None = None, watch: str | None = None) -> str:
        """As JSON, without what is left at its default.

        Args:
            neurons, watch: digests to write in place of the lists, for a reader who has the sets.
        """
        instead = {"neurons": neurons, "watch": watch}
        record: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value != getattr(RequestExtras, name):
                record[name] = value if instead.get(name) is None else instead[name]
        return json.dumps(record, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_text(cls, text: Any, lookup: Callable[[str], tuple[int, ...]] | None = None) -> "RequestExtras":
        """What `to_text` gave.

        Args:
            text: JSON.
            lookup: the flat indices of the set with a digest; without it, digests are refused.

        Raises:
            ValueError: anything else; over HTTP, anybody may have written it.
        """
        try:
            record = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{FIELD} should be JSON text: {error}") from None
        unknown = set(record) - set(cls.__dataclass_fields__) if isinstance(record, dict) else None
        if unknown is None or unknown:
            found = ", ".join(sorted(unknown)) if unknown else type(record).__name__
            raise ValueError(f"{FIELD} should be an object with {', '.join(cls.__dataclass_fields__)}, found {found}")
        neurons, watch = (_checked_neurons(record.get(name, []), name, lookup) for name in ("neurons", "watch"))
        regions = record.get("regions", [])
        if not isinstance(regions, list) or len(regions) > MAX_REGIONS:
            raise ValueError(f"regions should be a list of at most {MAX_REGIONS}")
        key, reduce = record.get("key", ""), record.get("reduce", "mean")
        if not isinstance(key, str) or len(key) > 256:
            raise ValueError("key should be text of at most 256 characters")
        if reduce not in ("mean", "max"):
            raise ValueError(f"reduce should be mean or max, found {reduce!r:.80}")
        keep_from, response_from = record.get("keep_from"), record.get("response_from")
        if not all(place is None or _is_position(place) for place in (keep_from, response_from)):
            raise ValueError("keep_from and response_from should be positions")
        if key and not regions:
            raise ValueError("key asks for contributions, but there are no regions")
        return cls(
            neurons,
            check_alpha(record.get("alpha", 1.0)),
            key,
            reduce,
            tuple(map(checked_runs, regions)),
            keep_from,
            response_from,
            watch,
        )


def runs(positions: Iterable[int]) -> Runs:
    """Positions as ranges."""
    found: list[tuple[int, int]] = []
    for position in sorted(set(positions)):
        if found and found[-1][1] == position:
            found[-1] = (found[-1][0], position + 1)
        else:
            found.append((position, position + 1))
    return tuple(found)


def positions(region: Runs) -> list[int]:
    """What `runs` was made from, ascending."""
    return [place for start, stop in region for place in range(start, stop)]


def count(region: Runs) -> int:
    """Number of positions."""
    return sum(stop - start for start, stop in region)


def end(regions: Sequence[Runs]) -> int:
    """One more than the last position of all regions."""
    return max((region[-1][1] for region in regions if region), default=0)


def memberships(regions: Sequence[Runs]) -> tuple[np.ndarray, np.ndarray]:
    """Positions by which regions they are in: those that are in the same ones share a cell.

    Returns:
        int64 `[positions]`, the cell of each position that is in a region, else -1; bool `[cells, regions]`, which
        regions a cell belongs to.
    """
    masks = np.zeros(end(regions), np.int64)
    for number, region in enumerate(regions):
        for start, stop in region:
            masks[start:stop] |= 1 << number
    kinds, cells = np.unique(masks, return_inverse=True)
    inside = kinds > 0
    cells = np.where(inside, np.cumsum(inside) - 1, -1)[cells]
    return cells, (kinds[inside][:, None] >> np.arange(len(regions))) & 1 > 0


def checked_runs(value: Any) -> Runs:
    """A region from JSON.

    Raises:
        ValueError: anything but ascending ranges, at least one.
    """
    before = -1
    runs: list[Any] = value if isinstance(value, list) and value else [()]
    for run in runs:
        whole = isinstance(run, list) and len(run) == 2 and all(type(edge) is int for edge in run)
        if not whole or not before < run[0] < run[1] <= MAX_POSITIONS:
            raise ValueError("a region should be a list of ascending ranges [start, stop], at least one")
        before = run[1]
    return tuple((start, stop) for start, stop in runs)


def _is_position(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _checked_neurons(value: Any, name: str, lookup: Callable[[str], tuple[int, ...]] | None) -> tuple[int, ...]:
    if isinstance(value, str) and lookup is not None:
        return lookup(value)
    if not isinstance(value, list) or len(value) > MAX_NEURONS or not all(map(_is_position, value)):
        raise ValueError(f"{name} should be a list of flat indices")
    if any(first >= second for first, second in pairwise(value)):
        raise ValueError(f"{name} should be ascending")
    return tuple(value)
