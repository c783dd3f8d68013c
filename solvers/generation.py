"""Sampling answers with seeds that depend on nothing but the question and the draw."""

import hashlib

from inspect_ai.solver import Generate, Solver, TaskState, solver


def stable_seed(*parts: object) -> int:
    """A seed below 2**31 that is the same in every process for the same parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little") >> 1


@solver
def draw(seed: int = 0) -> Solver:
    """Sample one answer; its seed follows from `seed`, the sample's id and the epoch.

    Args:
        seed: another number gives other draws.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await generate(state, seed=stable_seed(seed, state.sample_id, state.epoch))

    return solve
