"""Sampled answers, with seeds that depend only on question and epoch."""

import hashlib

from inspect_ai.model import get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver


def stable_seed(*parts: object) -> int:
    """A seed below 2**31 that is the same in every process for the same parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little") >> 1


@solver
def draw(seed: int = 0, draws: int = 1) -> Solver:
    """Sample one answer; its seed follows from `seed`, the sample's id and the epoch.

    Args:
        seed: another number gives other answers.
        draws: number of epochs. An `hneurons/` model samples all answers to a question when the first is asked for,
            so that their prompt is computed once.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        ahead = [stable_seed(seed, state.sample_id, epoch) for epoch in range(state.epoch + 1, draws + 1)]
        own = stable_seed(seed, state.sample_id, state.epoch)
        if ahead and hasattr(get_model().api, "engine"):  # other providers would not know the field
            return await generate(state, seed=own, extra_body={"hneurons": {"ahead": ahead}})
        return await generate(state, seed=own)

    return solve
