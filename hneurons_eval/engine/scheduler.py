"""Scheduler state: waiting samples, running sequences, and a memory estimate.

A *sample* is one answer to a request, with seed, sampling options and stop sequences of its own. A
*sequence* is a row of the KV cache: prompt, intervention and the tokens so far. Samples with equal tokens so far
share a sequence.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, islice

from torch import Tensor

from hneurons_eval.engine.activation_records import Activations
from hneurons_eval.engine.prefix_cache import PromptKey
from hneurons_eval.engine.requests import GenerateRequest, Generation, TokenLogprob
from hneurons_eval.engine.sampling import row_key


@dataclass
class PendingSample:
    """An answer that is being sampled."""

    request: GenerateRequest
    future: "Future[Generation]"  # of the result
    limit: int  # most tokens to sample
    limit_reason: str  # the stop reason there
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    # Text and stop reason, once they are known and the last token's contributions are still to come
    ending: tuple[str, str] | None = None
    key: bytes = b""

    def __post_init__(self) -> None:
        self.key = row_key(self.request.seed, self.request.sample, self.request.prompt)

    def restart(self) -> None:
        """Begin again: the same tokens will be sampled."""
        self.tokens, self.logprobs, self.ending = [], [], None


@dataclass
class RunningSequence:
    """A row of the KV cache and its samples."""

    samples: list[PendingSample]  # at least one
    key: PromptKey  # their prompt and scaling
    length: int  # tokens whose states are in the cache
    last: int  # the token to feed next
    activations: Activations  # of the tokens fed since the prefill, if any sample captures
    prompt_sums: list[Tensor]  # of the contributions over each segment of the prompt, where a sample captures them

    @property
    def captures(self) -> bool:
        """Whether any sample captures contributions."""
        return any(sample.request.capture is not None for sample in self.samples)

    def split(self, samples: list[PendingSample], last: int) -> "RunningSequence":
        """A copy of this sequence for some of its samples."""
        return RunningSequence(samples, self.key, self.length, last, list(self.activations), self.prompt_sums)


class WaitingSamples:
    """Samples that have not begun, by prompt and intervention, in the order of each group's first sample."""

    def __init__(self) -> None:
        self._groups: OrderedDict[PromptKey, deque[PendingSample]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[PendingSample]:
        return chain.from_iterable(self._groups.values())

    def add(self, key: PromptKey, samples: Sequence[PendingSample], *, first: bool = False) -> None:
        """Queue samples; `first`: before all others."""
        self._groups.setdefault(key, deque()).extend(samples)
        self._count += len(samples)
        if first:
            self._groups.move_to_end(key, last=False)

    def alike(self, among: int) -> list[tuple[PromptKey, deque[PendingSample]]]:
        """The `among` oldest groups as they are to begin: the oldest, then those nearest to it in length.

        All rows of a batch have as many columns as the longest, in memory and in every step's attention.
        """
        groups = list(islice(self._groups.items(), among))
        if groups:
            oldest = len(groups[0][0].tokens)
            groups.sort(key=lambda item: abs(len(item[0].tokens) - oldest))
        return groups

    def take(self, key: PromptKey, number: int) -> list[PendingSample]:
        """Remove the first samples of a group."""
        group = self._groups[key]
        taken = [group.popleft() for _ in range(min(number, len(group)))]
        self._count -= len(taken)
        if not group:
            del self._groups[key]
        return taken


@dataclass
class MemoryPlan:
    """Memory estimate of a batch, in which each sample has as many columns as the longest."""

    token_bytes: int  # of one token's keys and values
    record_bytes: int  # of one token's z
    likely: int  # expected tokens of an answer, where its limit allows them
    columns: int  # of the longest sample so far
    rows: int = 0  # samples so far
    records: int = 0  # bytes of their z

    def add(self, sample: PendingSample, number: int = 1) -> None:
        """Count a number of samples like this one."""
        self.columns = self._columns_with(sample)
        self.rows += number
        self.records += number * self._record(sample)

    def fitting(self, sample: PendingSample, max_bytes: int) -> int:
        """How many samples like this one fit as well."""
        column = self.token_bytes * self._columns_with(sample)
        return (max_bytes - self.records - column * self.rows) // max(column + self._record(sample), 1)

    def _columns_with(self, sample: PendingSample) -> int:
        return max(self.columns, len(sample.request.prompt) + min(sample.limit, self.likely))

    def _record(self, sample: PendingSample) -> int:
        return self.record_bytes * min(sample.limit, self.likely) if sample.request.capture is not None else 0


def first_tokens(sequences: list[RunningSequence], max_tokens: int) -> list[RunningSequence]:
    """The first of some sequences: as many as have at most so many tokens together, at least one."""
    count, tokens = 1, sequences[0].length
    while count < len(sequences) and tokens + sequences[count].length <= max_tokens:
        tokens += sequences[count].length
        count += 1
    return sequences[:count]
