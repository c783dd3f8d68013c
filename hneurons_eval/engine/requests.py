"""Request and result dataclasses of an engine, and the checks that requests pass."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.contributions import REDUCTIONS, Reduce
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import BASELINE, Intervention

FindSpan = Callable[[str], tuple[int, int] | None]
"""Finds the characters [start, end) of a response that state the answer, or None."""


@dataclass(frozen=True)
class AnswerCapture:
    """Contributions to capture while an answer is generated."""

    span: FindSpan  # finds the answer in the text, once it is complete
    reduce: Reduce = "mean"  # `mean` or `max` over the tokens of a region
    other: bool = False  # also capture the regions of all other tokens, of prompt and response, and of the prompt alone
    per_token: NeuronSet | None = None  # neurons whose contributions to each token of the response are returned as well


@dataclass(frozen=True)
class GenerateRequest:
    """One answer to sample."""

    prompt: tuple[int, ...]  # token ids, at least one
    max_tokens: int  # most tokens to sample
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    seed: int = 0  # of this request
    sample: int = 0  # number of this sample among several of one request
    stop: tuple[str, ...] = ()  # the answer ends before the first of these texts
    # Number of alternatives to report for each token; None reports no log-probabilities
    top_logprobs: int | None = None
    intervention: Intervention = BASELINE
    capture: AnswerCapture | None = None  # contributions to capture meanwhile


@dataclass(frozen=True)
class TokenLogprob:
    """A sampled token, the log-probability the model gave it, and alternatives; all before temperature."""

    token: int  # its id
    logprob: float  # in nats
    # Of the softmax at temperature 1, before top-k and top-p, in nats; NaN where an engine has it for captures only
    entropy: float
    top: tuple[tuple[int, float], ...] = ()  # the likeliest tokens with their log-probabilities


@dataclass(frozen=True)
class CapturedAnswer:
    """Contributions captured while an answer was generated."""

    response_tokens: int  # number of sampled tokens that make up the text
    span: tuple[int, int] | None  # characters of the answer in the text, or None where there is none
    answer: tuple[int, ...]  # numbers of the answer's tokens among the sampled ones
    # float32 `[regions, neurons]`: the answer and, if asked for, all other tokens and the prompt; None without a span.
    # The other tokens are those of prompt and text, as in a pass over both.
    contributions: np.ndarray | None = field(compare=False)
    # float32 `[hidden size]`, mean over the answer's tokens of the final hidden state (the input of the output
    # embedding); None without a span, or where the model shows none
    hidden: np.ndarray | None = field(default=None, compare=False)
    # float32 `[response tokens, neurons]`, contributions of the neurons of `AnswerCapture.per_token`, in the order of
    # their set; None without a span or such neurons
    per_token: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Generation:
    """A sampled answer."""

    tokens: tuple[int, ...]  # sampled ids, the end-of-text token included
    text: str  # decoded, without special tokens and without the stop sequence
    stop_reason: str  # `stop` (end of text or a stop sequence), `max_tokens`, or `model_length` (context full)
    logprobs: tuple[TokenLogprob, ...] | None  # of each sampled token, if asked for
    captured: CapturedAnswer | None = None  # contributions, if asked for and anything was sampled


@dataclass(frozen=True)
class CaptureRequest:
    """Contributions over regions of a token sequence that is given."""

    tokens: tuple[int, ...]  # prompt and response
    regions: tuple[tuple[int, ...], ...]  # for each region the positions of its tokens
    reduce: Reduce = "mean"
    # Position at which the response begins. Log-probabilities, entropies and the hidden state are of its tokens; None
    # reports none.
    response_from: int | None = None
    intervention: Intervention = BASELINE
    per_token: NeuronSet | None = None  # neurons whose contributions to each token of the response are returned as well


@dataclass(frozen=True)
class Captured:
    """The result of a teacher-forced pass."""

    contributions: np.ndarray  # float32 `[regions, neurons]`
    # float32, of each token of the response in nats; None where no response was named. The first token of a sequence
    # has none.
    logprobs: np.ndarray | None
    entropies: np.ndarray | None = None  # float32, of the distribution before each of these tokens, in nats
    # float32 `[hidden size]`, mean over the first region's tokens of the final hidden state; None where that region
    # reaches outside the response, or the model shows none
    hidden: np.ndarray | None = None
    # float32 `[response tokens, neurons]`, in the order of the set; None without `per_token` neurons
    per_token: np.ndarray | None = None


class NeuronEngine(Protocol):
    """An engine: `engine.Engine` on transformers, `vllm.engine.VLLMEngine` on vLLM."""

    name: str  # of the model, as the caller gave it
    source: str  # the directory or Hub id that it stands for
    fingerprint: str  # identity of the checkpoint's content
    tokenizer: Any  # a fast one
    layout: NeuronLayout
    context: int  # most tokens a sequence may have
    vocabulary: int  # number of tokens the model has
    dtype: str  # of the weights
    generation_config: Any  # the checkpoint's generation settings

    def generate(self, request: GenerateRequest) -> "Future[Generation]":
        """Queue an answer to sample; errors as `check_generate`."""
        check_generate(request, self)
        future: Future[Generation] = Future()
        room = self.context - len(request.prompt)
        if room < 1:
            future.set_result(Generation((), "", "model_length", () if request.top_logprobs is not None else None))
        else:
            reason = "max_tokens" if request.max_tokens <= room else "model_length"
            self._queue_generation(request, future, min(request.max_tokens, room), reason)
        return future

    def capture(self, request: CaptureRequest) -> "Future[Captured]":
        """Queue a teacher-forced pass; errors as `check_capture`."""
        check_capture(request, self)
        future: Future[Captured] = Future()
        self._queue_capture(request, future)
        return future

    def _queue_generation(
        self, request: GenerateRequest, future: "Future[Generation]", limit: int, limit_reason: str
    ) -> None: ...

    def _queue_capture(self, request: CaptureRequest, future: "Future[Captured]") -> None: ...


def check_generate(request: GenerateRequest, engine: NeuronEngine) -> None:
    """Refuse a request that an engine cannot sample, before it shares a batch with others.

    Raises ValueError: an empty prompt, a token that the model does not have, an option out of range; NeuronSetError:
    neurons of a model with other layers.
    """
    if not request.prompt:
        raise ValueError("the prompt has no tokens; give at least one")
    _check_tokens(request.prompt, engine)
    request.intervention.check(engine.layout, engine.name)
    if request.max_tokens < 1:
        raise ValueError(f"max_tokens should be at least 1, found {request.max_tokens}")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= engine.vocabulary:
        raise ValueError(f"top_logprobs should be from 0 to {engine.vocabulary}, found {request.top_logprobs}")
    if request.capture is not None and request.capture.reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {request.capture.reduce!r}")
    if request.capture is not None and request.capture.per_token is not None:
        request.capture.per_token.check(engine.layout, engine.name)
    if "" in request.stop:
        raise ValueError("a stop sequence is empty; leave it out")


def check_capture(request: CaptureRequest, engine: NeuronEngine) -> None:
    """Refuse a teacher-forced pass that an engine cannot run.

    Raises ValueError: an empty region, a position outside the tokens, a token that the model does not have, more tokens
    than the context holds, an option out of range; NeuronSetError: neurons of a model with other layers.
    """
    _check_tokens(request.tokens, engine)
    request.intervention.check(engine.layout, engine.name)
    if request.reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {request.reduce!r}")
    if request.response_from is not None and not 0 <= request.response_from <= len(request.tokens):
        raise ValueError(
            f"response_from should be a position in the {len(request.tokens)} tokens, found {request.response_from}"
        )
    if request.per_token is not None:
        request.per_token.check(engine.layout, engine.name)
        if request.response_from is None:
            raise ValueError("per_token contributions are of the response's tokens; give response_from")
    if len(request.tokens) > engine.context:
        raise ValueError(f"{len(request.tokens)} tokens to capture, the context holds {engine.context}")
    if not request.regions:
        raise ValueError("no regions to capture; give at least one")
    for number, region in enumerate(request.regions):
        if not region:
            raise ValueError(f"region {number} has no tokens; give each region at least one")
        if min(region) < 0 or max(region) >= len(request.tokens):
            raise ValueError(f"region {number} reaches outside the {len(request.tokens)} tokens")


def _check_tokens(tokens: Sequence[int], engine: NeuronEngine) -> None:
    if tokens and not 0 <= min(tokens) <= max(tokens) < engine.vocabulary:
        raise ValueError(
            f"token {min(tokens) if min(tokens) < 0 else max(tokens)} is not one of the model's {engine.vocabulary}"
        )
