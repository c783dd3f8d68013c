"""Capturing what another engine sampled: which model captures, and whether it is the one that answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog
from inspect_ai.model import Model, ModelUsage, get_model

from hneurons_eval.artifacts.logs import CAPTURE_ROLE, StageScore, hneurons_model
from hneurons_eval.engine.prompts import conversation
from hneurons_eval.util.errors import UsageError

MAX_COMPARED = 500


def capturing_model() -> Model:
    """The model in the role `capture`, else the evaluated one.

    Raises:
        UsageError: it gives no access to its neurons.
    """
    return hneurons_model(CAPTURE_ROLE, f", or beside another model --model-role {CAPTURE_ROLE}=hneurons/MODEL")


def check_sampler(log: EvalLog, rows: Sequence[StageScore], model: Model) -> dict[str, Any]:
    """Refuse answers of another checkpoint, tokenizer or chat template than the model's that is to capture them.

    A server gives its model any name it likes, so with the role `capture` bound the name decides nothing. What does:
    the content of the checkpoint, where the sampler was a local directory, and the number of tokens that the sampler
    counted in each prompt.

    Args:
        log: of `collect`.
        rows: its answers, with the messages that were answered.
        model: the one that captures.

    Returns:
        what was compared, for the capture log.

    Raises:
        UsageError: names what differs.
    """
    from hneurons_eval.models.checkpoints import fingerprint

    api: Any = model.api
    sampler = log.eval.model
    theirs = sampler.split("/", 1)[-1]
    if theirs != model.name and str(model) == str(get_model()):
        raise UsageError(
            f"responses is a log of the model {theirs}, this run evaluates {model.name}; "
            f"use --model hneurons/{theirs}, or collect from {model.name}; "
            f"if a server calls {model.name} by that name, use --model {sampler} --model-role {CAPTURE_ROLE}={model}"
        )
    compared: dict[str, Any] = {"sampled_by": sampler, "captured_by": str(model), "checkpoint": "by name"}
    if theirs != model.name:
        compared["checkpoint"] = "not compared"
        if Path(theirs).is_dir():
            if fingerprint(theirs) != api.engine.fingerprint:
                raise UsageError(f"responses was sampled from {theirs}, whose checkpoint is not that of {model}")
            compared["checkpoint"] = "same content"
    counted = _counted_prompts(log)
    compared["prompts_compared"] = 0
    for row in rows[:MAX_COMPARED]:
        count = counted.get(row.sample_id)
        if count is None:
            continue
        own = len(api.prompts.encode(conversation(row.metadata["prompt"])))
        if own != count:
            raise UsageError(
                f"{sampler} counted {count} tokens in the prompt of {row.sample_id}, {model} counts {own}: "
                "its tokenizer or chat template is another, so contributions would be of other tokens; "
                "serve the same checkpoint"
            )
        compared["prompts_compared"] += 1
    return compared


def _counted_prompts(log: EvalLog) -> Mapping[str, int]:
    """Tokens of each question's prompt as the sampler counted them; without those it did not count."""
    found: dict[str, int] = {}
    for sample in log.samples or []:
        usage: ModelUsage | None = sample.output.usage
        if usage is not None and usage.input_tokens:
            cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
            found.setdefault(str(sample.id), usage.input_tokens + cached)
    return found
