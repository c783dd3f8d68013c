"""Requests for the risk of an answer to the evaluated model, and the probe that judges it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, GenerateConfig, ModelOutput, get_model

from hneurons_eval.artifacts.logs import hneurons_model
from hneurons_eval.util.errors import usage_errors

if TYPE_CHECKING:
    from hneurons_eval.engine.risk import RiskProbe

DECISIONS = "abstain_when_risky"
"""Key in a sample's store of the decisions of the solver `abstain_when_risky`."""


def find_risk_probe(reference: str) -> "RiskProbe":
    """The probe that a reference names, checked against the model that is being evaluated, if there is one already.

    Raises UsageError: none is named, it cannot be read, or it is of a model with other layers.
    """
    from hneurons_eval.engine.risk import risk_probe

    with usage_errors():
        probe = risk_probe(reference)
        try:
            model = get_model()
        except ValueError:
            return probe  # the task is made before its model is
        if hasattr(model.api, "engine"):
            probe.check(model.api.engine.layout, model.name)  # pyright: ignore[reportAttributeAccessIssue]
    return probe


def answer_of(messages: Sequence[ChatMessage], output: ModelOutput) -> tuple[int, str, bool]:
    """Number of messages before the last answer, its text, and whether it calls tools."""
    for number in range(len(messages) - 1, -1, -1):
        message = messages[number]
        if isinstance(message, ChatMessageAssistant):
            return number, message.text, bool(message.tool_calls)
    # A solver may leave its answer in the output alone.
    return len(messages), output.completion, False


async def risk_of_answer(
    messages: Sequence[ChatMessage], output: ModelOutput, probe: "RiskProbe", span: str
) -> dict[str, Any]:
    """The risk of the last answer: captured while it was generated, else from a pass over prompt and answer.

    Raises UsageError: the evaluated model is not of `hneurons/`, or the probe is of a model with other layers.
    """
    before, text, calls_tools = answer_of(messages, output)
    if calls_tools:
        return {"skipped": "tool call"}
    if not text.strip():
        return {"skipped": "empty answer"}
    if not before:
        return {"skipped": "no prompt"}
    known = ((output.metadata or {}).get("hneurons") or {}).get("risk") or {}
    if output.completion == text and known.get("probe") == probe.digest and known.get("by") == span:
        return dict(known)
    model = hneurons_model()
    with usage_errors():
        probe.check(model.api.engine.layout, model.name)
    ask = {"risk": {"probe": probe.directory, "span": span, "response": text}}
    config = GenerateConfig(extra_body={"hneurons": ask})
    judged = await model.generate(list(messages[:before]), config=config)
    return dict((judged.metadata or {})["hneurons"]["risk"])
