"""Admission control and quota of a server. Knows nothing of vLLM.

Over HTTP anybody with the API key can send anything, so everything the workers receive is checked here, and what they
keep is bounded. A request that captures waits until its worst case fits into the quota. A capture is forgotten once it
has been fetched, when its request is broken off, or when nobody fetches it in time.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.errors import parse_json
from hneurons_eval.vllm.request_extras import (
    MAX_REGIONS,
    CheckedRanges,
    Index,
    Regions,
    RequestExtras,
    end,
    memberships,
)

MAX_SETS = 1024
"""Neuron sets that are kept. The least recently used go first; clients upload them again when needed."""
MAX_SET_ENTRIES = 2**25
"""Neurons in all sets together."""
MAX_SCALED = 2**16
"""Neurons that one request can scale: each token of a step needs a factor for each of them."""


class UnknownNeuronsError(LookupError):
    """No neuron set with this digest is uploaded (any more); upload it (again)."""


class NeuronSets:
    """Uploaded neuron sets of a model, by digest."""

    def __init__(self, layout: NeuronLayout) -> None:
        self._layout = layout
        self._sets: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def max_bytes(self) -> int:
        """Size of the largest possible upload."""
        return 1024 + self._layout.total * (len(str(self._layout.total)) + 2)

    def add(self, digest: str, body: bytes) -> None:
        """Keep an uploaded set.

        Raises ValueError: not a list of flat indices of this model, or another set than the digest says.
        """
        found = parse_json(_FLAT, body, "neuron set")
        try:
            neurons = NeuronSet.from_flat(np.array(found, np.int64), self._layout)
        except IndexError as error:
            raise ValueError(f"the neurons do not fit the server's model: {error}") from None
        if neurons.digest != digest:
            raise ValueError(f"these neurons have the digest {neurons.digest}, not {digest:.80}")
        self._sets[digest] = neurons.flat(self._layout)
        self._sets.move_to_end(digest)
        most = max(MAX_SET_ENTRIES, len(found))
        while len(self._sets) > MAX_SETS or sum(map(len, self._sets.values())) > most:
            self._sets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._sets)

    def flat(self, digest: str) -> tuple[int, ...]:
        """Flat indices of a set, ascending. Raises UnknownNeuronsError: no such set."""
        if digest not in self._sets:
            raise UnknownNeuronsError(f"no neurons with the digest {digest:.80} were uploaded; upload them first")
        self._sets.move_to_end(digest)
        return tuple(self._sets[digest].tolist())


_FLAT = TypeAdapter(Annotated[list[Index], Field(min_length=1)])


@dataclass(frozen=True)
class _Fetch:
    """Body of a fetch."""

    regions: Annotated[list[tuple[Index | None, CheckedRanges]], Field(min_length=1, max_length=MAX_REGIONS)] | None
    __pydantic_config__ = ConfigDict(extra="forbid")


_FETCH = TypeAdapter(_Fetch)


class AdmissionControl:
    """Checks of requests before they reach the workers; `item_bytes` are those of a number in the model's dtype."""

    def __init__(self, layout: NeuronLayout, item_bytes: int, sets: NeuronSets) -> None:
        self._layout = layout
        self._item_bytes = item_bytes
        self._sets = sets
        self._secret = secrets.token_hex(16)

    def extras(self, text: Any, prompt: int, choices: int) -> RequestExtras:
        """A request's extras, with neurons in place of digests.

        `text` is JSON as received, `prompt` the tokens of the prompt, `choices` the number of answers to sample. Raises
        ValueError: something that the workers could not do; UnknownNeuronsError: a digest that was not uploaded.
        """
        extras = RequestExtras.from_text(text, self._sets.flat)
        for name, found in (("neurons", extras.neurons), ("watch", extras.watch)):
            if found and found[-1] >= self._layout.total:
                raise ValueError(f"{name} has {found[-1]}, the model has {self._layout.total} neurons")
        if len(extras.neurons) > MAX_SCALED:
            raise ValueError(f"a request can scale {MAX_SCALED} neurons on a server, found {len(extras.neurons)}")
        if not extras.key:
            return extras
        if choices != 1:
            raise ValueError(f"one answer can be captured under a key, found n={choices}; make {choices} requests")
        if end(extras.regions) > prompt:
            raise ValueError(
                f"regions reach to position {end(extras.regions)} of a prompt of {prompt} tokens; "
                "use keep_from for generated tokens"
            )
        for name, position in (("keep_from", extras.keep_from), ("response_from", extras.response_from)):
            if position is not None and position > prompt:
                raise ValueError(f"{name} is {position}, the prompt has {prompt} tokens")
        if extras.watch and extras.keep_from is None:
            raise ValueError("watch gives per-token contributions of the tokens kept apart; give keep_from")
        return extras

    def worst_case_bytes(self, extras: RequestExtras, length: int) -> int:
        """Memory of a capture over all workers if its request reaches `length` positions."""
        sums = 4 * len(memberships(extras.regions)[1]) * self._layout.total
        each = self._item_bytes * self._layout.total + 4 * len(self._layout.widths)
        return sums + (0 if extras.keep_from is None else max(0, length - extras.keep_from) * each)

    def cache_salt(self, extras: RequestExtras, given: str | None) -> str | None:
        """Salt of vLLM's prefix cache; `given`: the request's own.

        A prefix computed with other neurons or another alpha must not be used. The secret keeps clients from naming the
        salt of another condition.
        """
        if extras.scaling is None:
            return given
        neurons, alpha = extras.scaling
        whole = json.dumps([self._secret, given, alpha]).encode() + np.asarray(neurons, "<i8").tobytes()
        return hashlib.sha256(whole).hexdigest()

    def regions(self, body: bytes, extras: RequestExtras, length: int) -> Regions | None:
        """Regions that a fetch asks for in its JSON body, of a capture of at most `length` positions.

        Raises ValueError: regions that were not captured.
        """
        regions = parse_json(_FETCH, body, "body").regions
        first = extras.keep_from
        for number, kept in regions or ():
            if number is not None and number >= len(extras.regions):
                raise ValueError(f"region {number} is not one of the {len(extras.regions)} that were captured")
            if number is None and not kept:
                raise ValueError("a region has no tokens")
            if kept and (first is None or kept[0][0] < first or kept[-1][1] > length):
                raise ValueError(
                    f"positions {kept[0][0]} to {kept[-1][1] - 1} are asked for, "
                    + ("none were kept apart" if first is None else f"kept apart were {first} to at most {length - 1}")
                )
        return regions


@dataclass
class Entry:
    """One capture in the quota."""

    extras: RequestExtras
    size: int  # reserved bytes
    length: int  # maximum positions of its request
    ended: float | None = None  # time at which its request was answered; None while it runs
    claimed: bool = False  # whether it is being fetched or forgotten


class Quota:
    """Memory quota of a server's captures, from the arrival of a request until its capture is forgotten.

    All methods belong to one event loop. `bytes` are reserved, of at most `max_bytes`; a capture waits `keep_seconds`
    to be fetched.
    """

    def __init__(self, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self.max_bytes = max_bytes
        self.keep_seconds = keep_seconds
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._next = asyncio.Lock()
        self._released = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    async def reserve(self, entry: Entry) -> None:
        """Reserve memory for a capture as soon as there is enough; first come, first served.

        Raises ValueError: its key is in use, or it needs more than the whole quota.
        """
        key = entry.extras.key
        if key in self._entries:
            raise ValueError(f"the key {key!r:.80} is in use; give each request one of its own")
        if entry.size > self.max_bytes:
            raise ValueError(
                f"capturing this request could take {entry.size} bytes, the server reserves {self.max_bytes} "
                "(HNEURONS_VLLM_KEEP_BYTES); ask for fewer tokens or regions"
            )
        self._entries[key] = entry
        try:
            async with self._next:  # first come, first served
                while self.bytes + entry.size > self.max_bytes:
                    self._released.clear()
                    await self._released.wait()
                self.bytes += entry.size
        except asyncio.CancelledError:
            del self._entries[key]
            raise

    def end(self, key: str) -> None:
        """Mark a request as answered: its capture now waits to be fetched."""
        self._entries[key].ended = self._clock()

    def find(self, key: str) -> Entry:
        """A capture that can be fetched. Raises LookupError: there is none under this key."""
        entry = self._entries.get(key)
        if entry is None or entry.claimed or entry.ended is None:
            reason = "its request has not ended" if entry is not None and not entry.claimed else "never, or no longer"
            raise LookupError(f"no capture is kept under {key!r:.80}: {reason}")
        return entry

    def claim(self, key: str) -> None:
        """Mark a capture as being fetched or forgotten; nobody else gets it."""
        self._entries[key].claimed = True

    def release(self, key: str) -> None:
        """Give a capture's memory to the requests that wait, once the workers have forgotten it."""
        self.bytes -= self._entries.pop(key).size
        self._released.set()

    def claim_expired(self) -> list[str]:
        """Claim the captures that nobody fetched in time."""
        before = self._clock() - self.keep_seconds
        found = [
            key
            for key, entry in self._entries.items()
            if not entry.claimed and entry.ended is not None and entry.ended <= before
        ]
        for key in found:
            self.claim(key)
        return found
