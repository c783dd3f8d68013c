"""Prefix cache: attention states of prompts, so that ten samples cost one prefill.

Kept per (prompt, intervention), since scaled neurons change the states. The prefix that all prompts of a run share
(system prompt and template) is kept once per intervention.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from hneurons_eval.engine.kv_cache import KeysAndValues
from hneurons_eval.models.contributions import Reduce

MIN_PREFIX = 4
"""A shared prefix of fewer tokens saves nothing."""


class PromptKey(NamedTuple):
    """Key of a prompt's states, and the sum of contributions to keep with them."""

    tokens: tuple[int, ...]  # the prompt
    scaling: int  # entry of the batch's scaling table
    sums: Reduce | None = None  # the reduction over the prompt's tokens, or None


@dataclass(frozen=True)
class PrefixSegment:
    """Result of one pass over a segment of tokens."""

    states: KeysAndValues  # keys and values
    # Sum or maximum of every neuron's contribution over the segment's tokens, float32 `[neurons]`, or None
    sums: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.states[0][0].shape[-2]

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(k.nbytes + v.nbytes for k, v in self.states) + (0 if self.sums is None else self.sums.nbytes)


def common_prefix(prompts: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens with which all prompts begin; empty for fewer than two distinct prompts."""
    distinct = set(prompts)
    if len(distinct) < 2:
        return ()
    first, last = min(distinct), max(distinct)  # in lexical order, all others lie between
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


class CommonPrefix:
    """The prefix that the prompts of a run share, and its segments; `window`: tokens of a sliding window, or None."""

    def __init__(self, *, window: int | None, off: bool) -> None:
        self._prefix: tuple[int, ...] = ()
        self._kept: dict[Hashable, PrefixSegment] = {}
        self._longest = 0 if off else window

    def find(self, prompts: list[tuple[int, ...]], longest: int) -> tuple[int, ...]:
        """The prefix to use: the known one, if all prompts begin with it, else the tokens that they have in common.

        `prompts` are the parts that may be shared, `longest` the tokens of the longest whole sequence.
        """
        # Padding between prefix and rest would shift what a sliding window covers.
        if self._longest is not None and longest >= self._longest:
            return ()
        if self._prefix and all(prompt[: len(self._prefix)] == self._prefix for prompt in prompts):
            return self._prefix
        common = common_prefix(prompts)
        if len(common) < MIN_PREFIX:
            return ()
        self._prefix, self._kept = common, {}
        return common

    def segment(self, key: Hashable, run: Callable[[], PrefixSegment]) -> PrefixSegment:
        """The prefix's segment under a key (intervention and the like); `run` makes it on the first call."""
        if key not in self._kept:
            self._kept[key] = run()
        return self._kept[key]


class PrefixCache:
    """Segments by prompt, up to a number of bytes.

    A full cache adds nothing: prompts that come round again in the same order would push each other out before they are
    needed. When its entries are no longer asked for, it is emptied.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[PromptKey, list[PrefixSegment]] = {}
        self._bytes = 0
        self._refused = 0
        self._hits = 0

    def __contains__(self, key: PromptKey) -> bool:
        return key in self._held

    def clear(self) -> None:
        """Forget all."""
        self._held, self._bytes, self._refused, self._hits = {}, 0, 0, 0

    def get(self, key: PromptKey) -> list[PrefixSegment] | None:
        """The segments of a prompt, or None."""
        held = self._held.get(key)
        self._hits += held is not None
        return held

    def put(self, key: PromptKey, segments: list[PrefixSegment]) -> None:
        """Keep a prompt's segments, if there is room; only the last of them is its own."""
        size = segments[-1].nbytes
        if self._bytes + size > self._max_bytes:
            self._refused += 1
            if self._refused <= 2 * len(self._held):
                return
            if self._hits < self._refused // 10:
                self._held, self._bytes = {}, 0
            self._refused = self._hits = 0
            if self._bytes + size > self._max_bytes:
                return
        self._held[key] = segments
        self._bytes += size
