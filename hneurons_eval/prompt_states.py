"""Attention states of prompts that have been seen, so that ten draws cost one prefill.

Kept per (prompt, scaling), since scaled neurons change the states. The prefix that all prompts of
a run share (system prompt and template) is kept once per scaling.
"""

from collections.abc import Hashable

from hneurons_eval.row_cache import PromptStates

PromptKey = tuple[tuple[int, ...], int]
SHORTEST_PREFIX = 4
"""A shared prefix of fewer tokens saves nothing."""


def common_prefix(prompts: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens with which all prompts begin; empty for fewer than two distinct prompts."""
    distinct = set(prompts)
    if len(distinct) < 2:
        return ()
    first, last = min(distinct), max(distinct)  # in lexical order, all others lie between
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


class PromptStore:
    """States by prompt, up to a number of bytes.

    A full store takes nothing new, since prompts that come round again in the same order would
    push each other out before they are needed. When what it holds is no longer asked for, it is
    emptied.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: dict[PromptKey, list[PromptStates]] = {}
        self._bytes = 0
        self._refused = 0
        self._hits = 0
        self._prefix: tuple[int, ...] = ()
        self._prefix_states: dict[Hashable, PromptStates] = {}

    def get(self, key: PromptKey) -> list[PromptStates] | None:
        """The stretches of a prompt's states, or None."""
        held = self._held.get(key)
        self._hits += held is not None
        return held

    def put(self, key: PromptKey, stretches: list[PromptStates], own: PromptStates) -> None:
        """Keep a prompt's states, if there is room; `own` are those that it shares with no other."""
        size = sum(k.nbytes + v.nbytes for k, v in own)
        if self._bytes + size > self._most:
            self._refused += 1
            if self._refused <= 2 * len(self._held):
                return
            if self._hits < self._refused // 10:
                self._held, self._bytes = {}, 0
            self._refused = self._hits = 0
            if self._bytes + size > self._most:
                return
        self._held[key] = stretches
        self._bytes += size

    def shared_prefix(self, prompts: list[tuple[int, ...]]) -> tuple[int, ...]:
        """The prefix to use: the one known, if all prompts begin with it, else what they have in common."""
        if self._prefix and all(prompt[: len(self._prefix)] == self._prefix for prompt in prompts):
            return self._prefix
        common = common_prefix(prompts)
        if len(common) < SHORTEST_PREFIX:
            return ()
        self._prefix, self._prefix_states = common, {}
        return common

    def prefix_states(self, scaling: int) -> PromptStates | None:
        """States of the shared prefix under a scaling, or None."""
        return self._prefix_states.get(scaling)

    def set_prefix_states(self, scaling: int, states: PromptStates) -> None:
        """Keep the states of the shared prefix under a scaling."""
        self._prefix_states[scaling] = states
