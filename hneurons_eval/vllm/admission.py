"""What a server lets in, and for how long it keeps what was captured. Knows nothing of vLLM.

Over HTTP anybody who has the API key may ask for anything, so all that the workers are told has been checked here, and
what they keep is bounded: a request that captures is let in once there is room for the most that it can need; what was
captured is forgotten when it has been fetched, when its request was broken off, and when nobody has come for it.
"""

import asyncio
import hashlib
import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm.request_extras import MAX_REGIONS, RequestExtras, Runs, checked_runs, end, memberships, runs

MAX_SETS = 1024
"""Neuron sets that are kept; those not used for longest go first, and are uploaded again when they are needed."""
MAX_SET_ENTRIES = 2**25
"""Neurons in all of them together."""
MAX_SCALED = 2**16
"""Neurons that one request can scale: for each token of a step there is a factor for each of them."""
Regions = list[tuple[int | None, Runs]]


class UnknownNeuronsError(LookupError):
    """A digest under which no neurons were uploaded, or no longer are; upload them (again)."""


class NeuronSets:
    """Uploaded neuron sets by digest.

    Args:
        layout: the neurons of the model that is served.
    """

    def __init__(self, layout: NeuronLayout) -> None:
        self._layout = layout
        self._sets: OrderedDict[str, np.ndarray] = OrderedDict()

    @property
    def max_bytes(self) -> int:
        """Size of the largest upload that can be right."""
        return 1024 + self._layout.total * (len(str(self._layout.total)) + 2)

    def add(self, digest: str, body: bytes) -> None:
        """Keep what was uploaded.

        Raises:
            ValueError: not a list of flat indices of this model, or those of another set.
        """
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a neuron set should be a JSON list: {error}") from None
        if not isinstance(found, list) or not found or not all(type(entry) is int for entry in found):
            raise ValueError("a neuron set should be a list of flat indices, at least one")
        try:
            neurons = NeuronSet.from_flat(np.array(found, np.int64), self._layout)
        except (IndexError, OverflowError) as error:
            raise ValueError(f"the neurons do not fit the model that is served: {error}") from None
        if neurons.digest != digest:
            raise ValueError(f"these neurons have the digest {neurons.digest}, not {digest:.80}")
        self._sets[digest] = neurons.flat(self._layout)
        self._sets.move_to_end(digest)
        while len(self._sets) > MAX_SETS or self._entries > max(MAX_SET_ENTRIES, len(found)):
            self._sets.popitem(last=False)

    @property
    def _entries(self) -> int:
        return sum(len(flat) for flat in self._sets.values())

    def __len__(self) -> int:
        return len(self._sets)

    def flat(self, digest: str) -> tuple[int, ...]:
        """Flat indices of a set, ascending.

        Raises:
            UnknownNeuronsError: it was not uploaded.
        """
        if digest not in self._sets:
            raise UnknownNeuronsError(f"no neurons with the digest {digest:.80} were uploaded; upload them first")
        self._sets.move_to_end(digest)
        return tuple(self._sets[digest].tolist())


class AdmissionControl:
    """Checks what requests ask of the workers.

    Args:
        layout: the neurons of the model that is served.
        item_bytes: of a number in the model's dtype.
        sets: uploaded neurons.
    """

    def __init__(self, layout: NeuronLayout, item_bytes: int, sets: NeuronSets) -> None:
        self._layout = layout
        self._item_bytes = item_bytes
        self._sets = sets
        self._secret = secrets.token_hex(16)

    def fields(self, text: Any, prompt: int, choices: int) -> RequestExtras:
        """What a request asks for, with neurons in place of digests.

        Args:
            text: JSON, as it came.
            prompt: number of tokens of its prompt.
            choices: how many answers it asks for.

        Raises:
            ValueError: anything that the workers could not do.
            UnknownNeuronsError: a digest that was not uploaded.
        """
        fields = RequestExtras.from_text(text, self._sets.flat)
        for name, found in (("neurons", fields.neurons), ("watch", fields.watch)):
            if found and found[-1] >= self._layout.total:
                raise ValueError(f"{name} has {found[-1]}, the model has {self._layout.total} neurons")
        if len(fields.neurons) > MAX_SCALED:
            raise ValueError(f"a request can scale {MAX_SCALED} neurons on a server, found {len(fields.neurons)}")
        if not fields.key:
            return fields
        if choices != 1:
            raise ValueError(f"one answer can be captured under a key, found n={choices}; make {choices} requests")
        if end(fields.regions) > prompt:
            raise ValueError(
                f"regions reach to position {end(fields.regions)} of a prompt of {prompt} tokens; "
                "keep_from keeps those apart that are generated"
            )
        for name, place in (("keep_from", fields.keep_from), ("response_from", fields.response_from)):
            if place is not None and place > prompt:
                raise ValueError(f"{name} is {place}, the prompt has {prompt} tokens")
        if fields.watch and fields.keep_from is None:
            raise ValueError("neurons are watched over the tokens that are kept apart; give keep_from")
        return fields

    def bytes_of(self, fields: RequestExtras, last: int) -> int:
        """The most memory, over all workers, that a capture's numbers can take.

        Args:
            fields: what is captured.
            last: number of positions that the request can come to have.
        """
        sums = 4 * len(memberships(fields.regions)[1]) * self._layout.total
        each = self._item_bytes * self._layout.total + 4 * len(self._layout.widths)
        return sums + (0 if fields.keep_from is None else max(0, last - fields.keep_from) * each)

    def salt(self, fields: RequestExtras, given: str | None) -> str | None:
        """What the prefix cache is told apart by; `given`: by the request itself.

        A prefix that was computed under other neurons or another alpha must not be used, nor may a caller hit on the
        salt of another condition.
        """
        if fields.scaling is None:
            return given
        neurons, alpha = fields.scaling
        whole = json.dumps([self._secret, given, alpha]).encode() + np.asarray(neurons, "<i8").tobytes()
        return hashlib.sha256(whole).hexdigest()

    def regions(self, body: bytes, fields: RequestExtras, last: int) -> Regions | None:
        """Which regions of a capture are wanted.

        Args:
            body: JSON, as it came.
            fields: what was captured.
            last: number of positions that the request could come to have.

        Raises:
            ValueError: regions that it does not have.
        """
        try:
            record = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a JSON object with regions should be given: {error}") from None
        if not isinstance(record, dict) or set(record) != {"regions"}:
            raise ValueError("a JSON object with regions, and nothing else, should be given")
        if record["regions"] is None:
            return None
        wanted = record["regions"]
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= MAX_REGIONS:
            raise ValueError(f"regions should be null or a list of 1 to {MAX_REGIONS}")
        return [self._region(one, fields, last) for one in wanted]

    def _region(self, value: Any, fields: RequestExtras, last: int) -> tuple[int | None, Runs]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("a region should be [number or null, ranges of positions that were kept apart]")
        number, kept = value
        if number is not None and not (type(number) is int and 0 <= number < len(fields.regions)):
            raise ValueError(f"region {number!r:.80} is not one of the {len(fields.regions)} that were captured")
        if kept == []:
            if number is None:
                raise ValueError("a region has no tokens")
            return number, runs(())
        found = checked_runs(kept)
        first = fields.keep_from
        if first is None or found[0][0] < first or found[-1][1] > last:
            raise ValueError(
                f"positions {found[0][0]} to {found[-1][1] - 1} are wanted, "
                + ("none were kept apart" if first is None else f"kept apart were {first} to at most {last - 1}")
            )
        return number, found


@dataclass
class Entry:
    """One capture.

    Attributes:
        fields: what is captured.
        size: bytes that are set aside for it.
        last: number of positions that its request can come to have.
        ended: when its request was answered; None while it runs, and from when it is being fetched.
        leaving: whether it is being fetched or forgotten.
    """

    fields: RequestExtras
    size: int
    last: int
    ended: float | None = None
    leaving: bool = False


class Quota:
    """The captures of a server, from when their requests come in until they are forgotten.

    All its methods are for one event loop.

    Args:
        max_bytes: for all captures together.
        keep_seconds: how long a capture waits to be fetched.
        clock: seconds.
    """

    def __init__(self, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.keep_seconds = keep_seconds
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """What is set aside."""
        return self._bytes

    async def admit(self, entry: Entry) -> None:
        """Set memory aside for a capture, as soon as there is enough; first come, first served.

        Raises:
            ValueError: its key is in use, or it needs more than there is at all.
        """
        key = entry.fields.key
        if key in self._entries:
            raise ValueError(f"the key {key!r:.80} is in use; give each request one of its own")
        if entry.size > self.max_bytes:
            raise ValueError(
                f"to capture this request could take {entry.size} bytes, the server sets {self.max_bytes} aside "
                "(HNEURONS_VLLM_KEEP_BYTES); ask for fewer tokens or regions"
            )
        self._entries[key] = entry
        if not self._waiting and self._bytes + entry.size <= self.max_bytes:
            self._bytes += entry.size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry.size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # somebody has passed over it meanwhile
                    self._waiting.remove((entry.size, turn))
                entry.size = 0  # nothing was set aside
            self.forget(key)
            raise

    def ended(self, key: str) -> None:
        """A request has been answered: its capture waits to be fetched from now on."""
        self._entries[key].ended = self._clock()

    def find(self, key: str) -> Entry:
        """A capture that is ready to be fetched.

        Raises:
            LookupError: there is none under this key.
        """
        entry = self._entries.get(key)
        if entry is None or entry.leaving or entry.ended is None:
            reason = "its request has not ended" if entry is not None and not entry.leaving else "never, or no longer"
            raise LookupError(f"no capture is kept under {key!r:.80}: {reason}")
        return entry

    def leave(self, key: str) -> None:
        """A capture is about to be fetched or forgotten; nobody else gets it."""
        self._entries[key].leaving = True

    def forget(self, key: str) -> None:
        """The workers keep nothing of it any more: its memory goes to those that wait."""
        self._bytes -= self._entries.pop(key).size
        while self._waiting and self._bytes + self._waiting[0][0] <= self.max_bytes:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._bytes += size
                turn.set_result(None)

    def expired(self) -> list[str]:
        """Captures for which nobody has come; they are leaving now."""
        before = self._clock() - self.keep_seconds
        found = [
            key
            for key, entry in self._entries.items()
            if not entry.leaving and entry.ended is not None and entry.ended <= before
        ]
        for key in found:
            self.leave(key)
        return found
