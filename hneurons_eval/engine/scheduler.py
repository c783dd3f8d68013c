"""Draws that wait and lanes that run, and how much memory they are likely to take.

A *draw* is one answer that is being sampled, with seed, sampling options and stop sequences of its
own. A *lane* is a history (prompt, scaling and the tokens since) with a row in the cache, and all
draws that are there.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from hneurons_eval.engine.activation_records import History
from hneurons_eval.engine.prefix_cache import PromptKey
from hneurons_eval.engine.requests import GenerateRequest, Generation, TokenLogprob
from hneurons_eval.engine.sampling import row_key


@dataclass
class Draw:
    """An answer that is being sampled.

    Attributes:
        request: what was asked for.
        future: who waits.
        limit: most tokens to sample; what ends the answer there is `limit_reason`.
        ending: text and stop reason, once they are known and the last token's contributions are still to come.
    """

    request: GenerateRequest
    future: "Future[Generation]"
    limit: int
    limit_reason: str
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    ending: tuple[str, str] | None = None
    key: bytes = b""

    def __post_init__(self) -> None:
        self.key = row_key(self.request.seed, self.request.draw, self.request.prompt)

    def restart(self) -> None:
        """Forget what was sampled; the same will be sampled again."""
        self.tokens, self.logprobs, self.ending = [], [], None


@dataclass
class Lane:
    """Draws with one history.

    Attributes:
        draws: at least one.
        key: their prompt and scaling.
        length: tokens whose states are in the cache.
        last: the token to feed next.
        history: z of the tokens fed since the prefill, if any draw captures.
        sums: of the contributions over each stretch of the prompt, if they are wanted.
    """

    draws: list[Draw]
    key: PromptKey
    length: int
    last: int
    history: History
    sums: list[Tensor]

    @property
    def captures(self) -> bool:
        """Whether contributions are wanted."""
        return any(draw.request.capture is not None for draw in self.draws)

    def fork(self, draws: list[Draw], last: int) -> "Lane":
        """Another lane with this one's history."""
        return Lane(draws, self.key, self.length, last, list(self.history), self.sums)


class Waiting:
    """Draws that have not begun, by prompt and scaling, in the order in which each of those came first."""

    def __init__(self) -> None:
        self._groups: OrderedDict[PromptKey, deque[Draw]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: PromptKey, draws: Sequence[Draw], *, first: bool = False) -> None:
        """Queue draws; `first`: before all others."""
        self._groups.setdefault(key, deque()).extend(draws)
        self._count += len(draws)
        if first:
            self._groups.move_to_end(key, last=False)

    def alike(self, among: int) -> list[tuple[PromptKey, deque[Draw]]]:
        """The `among` oldest groups as they are to begin: the oldest, then those nearest to it in length.

        All rows of a batch have as many columns as the longest, in memory and in every step's attention.
        """
        groups = list(islice(self._groups.items(), among))
        if groups:
            oldest = len(groups[0][0].tokens)
            groups.sort(key=lambda item: abs(len(item[0].tokens) - oldest))
        return groups

    def take(self, key: PromptKey, number: int) -> list[Draw]:
        """Remove the first draws of a group."""
        group = self._groups[key]
        taken = [group.popleft() for _ in range(min(number, len(group)))]
        self._count -= len(taken)
        if not group:
            del self._groups[key]
        return taken


@dataclass
class MemoryPlan:
    """Memory that draws are likely to take together, where each has as many columns as the longest.

    Attributes:
        token_bytes: of one token's keys and values.
        record_bytes: of one token's z.
        likely: tokens that an answer is thought to have, where it may have as many.
        columns: of the longest draw so far.
        rows: draws so far.
        records: bytes of their z.
    """

    token_bytes: int
    record_bytes: int
    likely: int
    columns: int
    rows: int = 0
    records: int = 0

    def add(self, draw: Draw, number: int = 1) -> None:
        """Count a number of draws like this one."""
        self.columns = self._columns_with(draw)
        self.rows += number
        self.records += number * self._record(draw)

    def fitting(self, draw: Draw, max_bytes: int) -> int:
        """How many draws like this one fit as well."""
        column = self.token_bytes * self._columns_with(draw)
        return (max_bytes - self.records - column * self.rows) // max(column + self._record(draw), 1)

    def _columns_with(self, draw: Draw) -> int:
        return max(self.columns, len(draw.request.prompt) + min(draw.limit, self.likely))

    def _record(self, draw: Draw) -> int:
        return self.record_bytes * min(draw.limit, self.likely) if draw.request.capture is not None else 0


def first_tokens(lanes: list[Lane], most: int) -> list[Lane]:
    """The first of some lanes, at least one and as many as have so many tokens together."""
    count, tokens = 1, lanes[0].length
    while count < len(lanes) and tokens + lanes[count].length <= most:
        tokens += lanes[count].length
        count += 1
    return lanes[:count]
