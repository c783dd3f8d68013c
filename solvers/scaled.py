"""Solvers of sweeps: the evaluated model under one condition, and a dialogue led under all of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from inspect_ai.model import ChatMessage, GenerateConfig, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA
from hneurons_eval.analysis.sweep_parameters import SUMMARY


class Scaled:
    """The evaluated model under one condition."""

    def __init__(self, neurons: str | None, alpha: float) -> None:
        self.alpha = alpha
        self._condition = {"neurons": neurons, "alpha": alpha} if neurons is not None else {"neurons": None}

    async def generate(self, messages: Sequence[ChatMessage], config: GenerateConfig | None = None) -> ModelOutput:
        """The model's answer, by the task's settings and those of `config`."""
        extra = GenerateConfig(extra_body={"hneurons": self._condition})
        return await get_model().generate(list(messages), config=(config or GenerateConfig()).merge(extra))

    async def loglikelihood(self, messages: Sequence[ChatMessage], text: str) -> float:
        """The log-probability of a text as the answer, in nats: the sum over its tokens."""
        extra = GenerateConfig(extra_body={"hneurons": {**self._condition, "loglikelihood": text}})
        output = await get_model().generate(list(messages), config=extra)
        return float((output.metadata or {})["hneurons"]["loglikelihood"])


@dataclass(frozen=True)
class Reply:
    """Result of a dialogue under one condition.

    Attributes:
        messages: after the question, by both sides.
        text: the final answer.
        stop: why it ended.
        tokens: of the final answer.
        details: for the judge; JSON.
    """

    messages: tuple[ChatMessage, ...]
    text: str
    stop: str
    tokens: int
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, output: ModelOutput, before: Sequence[ChatMessage] = (), **details: Any) -> "Reply":
        """From the output that ends a dialogue, and the messages between question and that output."""
        tokens = output.usage.output_tokens if output.usage else 0
        return cls((*before, output.message), output.completion, str(output.stop_reason), tokens, details)

    def kept(self) -> dict[str, Any]:
        """For the log, without the messages."""
        return {"text": self.text, "stop": self.stop, "tokens": self.tokens, **self.details}


Dialogue = Callable[[TaskState, Scaled], Awaitable[Reply]]


async def one_turn(state: TaskState, model: Scaled) -> Reply:
    """The answer to the sample's input."""
    return Reply.of(await model.generate(state.messages))


async def under_all_conditions(
    state: TaskState, neurons: str, controls: Sequence[str], dialogue: Dialogue
) -> TaskState:
    """Lead the dialogue with the neurons scaled by the sample's alpha, and once for each control set.

    At alpha 1 nothing depends on the neurons: one dialogue stands for all sets. The summary sample asks nothing.
    """
    if state.sample_id == SUMMARY:
        return state
    alpha = float(state.metadata["alpha"])
    found: dict[int, Reply] = {}

    async def lead(number: int, digest: str) -> None:
        found[number] = await dialogue(state, Scaled(digest, alpha))

    async with anyio.create_task_group() as group:
        # The neurons' own dialogue last: of a sample that Inspect recovers from a killed process the output is what
        # the last request was answered.
        for number, digest in reversed([*enumerate([neurons, *(() if alpha == BASELINE_ALPHA else controls)])]):
            group.start_soon(lead, number, digest)
    own = found[0]
    state.store.set("reply", own.kept())
    state.store.set("controls", [found[number].kept() for number in range(1, len(found))])
    state.messages.extend(own.messages)
    state.output = ModelOutput.from_content(
        model=str(get_model()),
        content=own.text,
        stop_reason=own.stop,  # pyright: ignore[reportArgumentType]
    )
    return state


@solver
def answer_scaled(neurons: str, controls: Sequence[str]) -> Solver:
    """Answer with the neurons scaled by the sample's alpha, and once for each control set."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await under_all_conditions(state, neurons, controls, one_turn)

    return solve
