"""Solvers that have an `hneurons/` model capture the contributions behind an answer."""

import json

from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.artifacts.logs import CAPTURE_ROLE
from hneurons_eval.judging.grader import argument_of, ask_grader, grader
from hneurons_eval.judging.prompts import SPAN_PROMPT
from hneurons_eval.solvers.generation import stable_seed

OFFICIAL = "official"
"""The span that only the official repository's files have: their answer tokens."""
SPANS = ("rule", "llm", "response", OFFICIAL)


@solver
def capture_given(span: str = "rule", reduce: str = "mean", precision: str = "float32") -> Solver:
    """Contributions of the response in the sample's metadata, from the model in the role `capture`, else the evaluated
    one; nothing is sampled.

    Args:
        span: where the answer is: `rule`, `llm` (the role `grader` finds it), `response` (all of it) or `official`
            (`official_span` in the sample's metadata).
        reduce: `mean` or `max` over the tokens of a region.
        precision: `float32` or `float16`, of the contributions on disk.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        response = state.metadata["response"]
        where: str | list[int] | None = span
        if span == "llm":
            where = await span_by_grader(state.metadata["question"], response)
        elif span == OFFICIAL:
            where = state.metadata["official_span"]
        if where is None:
            # Never another span in its place: a skip, which the scorer counts.
            state.completed = True
            return state
        capture = {
            "span": where,
            "reduce": reduce,
            "precision": precision,
            "question": state.metadata["question"],
            "response": response,
        }
        model = get_model(role=CAPTURE_ROLE, default=get_model())
        if str(model) == str(get_model()):
            return await generate(state, extra_body={"hneurons": {"capture": capture}})
        config = GenerateConfig(extra_body={"hneurons": {"capture": capture}})
        state.output = await model.generate(state.messages, config=config)
        return state

    return solve


@solver
def answer_and_capture(seed: int = 0, span: str = "rule", reduce: str = "mean", completion: bool = False) -> Solver:
    """Sample one answer, with the contributions behind it.

    Args:
        seed: another number gives other answers.
        span: `rule` or `response`.
        reduce: `mean` or `max`, as the probe was trained.
        completion: the prompt is a text to continue, although the model may have a chat template.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        capture = {"span": span, "reduce": reduce, "question": state.metadata["question"]}
        body = {"capture": capture, "completion": True} if completion else {"capture": capture}
        return await generate(
            state, seed=stable_seed(seed, state.sample_id, state.epoch), extra_body={"hneurons": body}
        )

    return solve


async def span_by_grader(question: str, response: str) -> list[int] | None:
    """Characters of the answer as the model in the role `grader` finds it; None if it names none."""
    output = await ask_grader(grader(), SPAN_PROMPT, {"question": question, "response": response})
    answer: str | None = None
    if not output.empty and output.message.tool_calls:
        answer = argument_of(output.message.tool_calls, SPAN_PROMPT.tool.name, "answer")
    else:
        try:
            answer = json.loads(output.completion)["answer"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
    if not isinstance(answer, str) or not answer.strip():
        return None
    start = response.find(answer.strip())
    return None if start < 0 else [start, start + len(answer.strip())]
