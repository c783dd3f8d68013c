"""What an engine is asked for, and what it answers: plain data."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.contributions import REDUCTIONS, Reduce
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, check_alpha

FindSpan = Callable[[str], tuple[int, int] | None]
"""From the text of an answer to the characters [start, end) that state it, or None."""


@dataclass(frozen=True)
class AnswerCapture:
    """Contributions to take while an answer is generated.

    Attributes:
        span: finds the answer in the text, once it is complete.
        reduce: `mean` or `max` over the tokens of a region.
        other: also take the regions of all other tokens, of prompt and response, and of the prompt alone.
        watch: neurons whose contribution to every single token of the answer is returned as well.
    """

    span: FindSpan
    reduce: Reduce = "mean"
    other: bool = False
    watch: NeuronSet | None = None


@dataclass(frozen=True)
class GenerateRequest:
    """One answer to sample.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: most tokens to sample.
        sampling: how to choose tokens.
        seed: of this request.
        draw: number of this draw among several of one request.
        stop: the answer ends before the first of these texts.
        top_logprobs: how many alternatives to report for each token; None reports no log-probabilities.
        neurons: neurons to scale, with `alpha`.
        alpha: factor of the neurons.
        capture: contributions to take meanwhile.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    seed: int = 0
    draw: int = 0
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    neurons: NeuronSet | None = None
    alpha: float = 1.0
    capture: AnswerCapture | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A sampled token, the log-probability the model gave it, and alternatives; all before temperature.

    Attributes:
        token: its id.
        logprob: in nats.
        entropy: of the softmax at temperature 1, before top-k and top-p, in nats; NaN where an engine tells it with
            captures only.
        top: the likeliest tokens with their log-probabilities.
    """

    token: int
    logprob: float
    entropy: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class CapturedAnswer:
    """Contributions taken while an answer was generated.

    Attributes:
        response_tokens: number of sampled tokens that make up the text.
        span: characters of the answer in the text, or None where there is none.
        answer: numbers of the answer's tokens among the sampled ones.
        contributions: float32 `[regions, neurons]`: the answer and, if asked for, all other tokens and the prompt;
            None without a span. The other tokens are those of prompt and text, as in a pass over both.
        hidden: float32 `[hidden size]`, mean over the answer's tokens of the final hidden state (what the output
            embedding is given); None without a span, or where the model shows none.
        watched: float32 `[response tokens, watched neurons]`, contributions of the neurons that were to be watched, in
            the order of their set; None without a span, or where none were.
    """

    response_tokens: int
    span: tuple[int, int] | None
    answer: tuple[int, ...]
    contributions: np.ndarray | None = field(compare=False)
    hidden: np.ndarray | None = field(default=None, compare=False)
    watched: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Generation:
    """A sampled answer.

    Attributes:
        tokens: sampled ids, the end-of-text token included.
        text: decoded, without special tokens and without the stop sequence.
        stop_reason: `stop` (end of text or a stop sequence), `max_tokens`, or `model_length` (context full).
        logprobs: of each sampled token, if asked for.
        captured: contributions, if asked for and anything was sampled.
    """

    tokens: tuple[int, ...]
    text: str
    stop_reason: str
    logprobs: tuple[TokenLogprob, ...] | None
    captured: CapturedAnswer | None = None


@dataclass(frozen=True)
class CaptureRequest:
    """Contributions over regions of a token sequence that is given.

    Attributes:
        tokens: prompt and response.
        regions: for each region the positions of its tokens.
        reduce: `mean` or `max`.
        response_from: position at which the response begins, of whose tokens log-probabilities, entropies and the
            hidden state are reported; None reports none.
        neurons: neurons to scale, with `alpha`.
        alpha: factor of the neurons.
        watch: neurons whose contribution to every single token of the response is returned as well.
    """

    tokens: tuple[int, ...]
    regions: tuple[tuple[int, ...], ...]
    reduce: Reduce = "mean"
    response_from: int | None = None
    neurons: NeuronSet | None = None
    alpha: float = 1.0
    watch: NeuronSet | None = None


@dataclass(frozen=True)
class Captured:
    """What a teacher-forced pass left.

    Attributes:
        contributions: float32 `[regions, neurons]`.
        logprobs: float32, of each token of the response in nats; None where no response was named. The first token
            of a sequence has none.
        entropies: float32, of the distribution before each of these tokens, in nats.
        hidden: float32 `[hidden size]`, mean over the first region's tokens of the final hidden state; None where
            that region reaches outside the response, or the model shows none.
        watched: float32 `[response tokens, watched neurons]`, in the order of the set; None where none were watched.
    """

    contributions: np.ndarray
    logprobs: np.ndarray | None
    entropies: np.ndarray | None = None
    hidden: np.ndarray | None = None
    watched: np.ndarray | None = None


class NeuronEngine(Protocol):
    """What runs a model: `engine.Engine` on transformers, `vllm.engine.VLLMEngine` on vLLM.

    Attributes:
        name: what the model was asked for as.
        source: the directory or Hub id that this means.
        fingerprint: identity of the checkpoint's content.
        tokenizer: its fast tokenizer.
        layout: its neurons.
        context: most tokens a sequence may have.
        vocabulary: number of tokens the model has.
        dtype: of the weights.
    """

    name: str
    source: str
    fingerprint: str
    tokenizer: Any
    layout: NeuronLayout
    context: int
    vocabulary: int
    dtype: str

    @property
    def generation_config(self) -> Any:
        """The checkpoint's generation settings."""
        ...

    def generate(self, request: GenerateRequest) -> "Future[Generation]":
        """Queue an answer to sample; see `check_generate` for what is refused."""
        ...

    def capture(self, request: CaptureRequest) -> "Future[Captured]":
        """Queue a teacher-forced pass; see `check_capture` for what is refused."""
        ...


def check_generate(request: GenerateRequest, engine: NeuronEngine) -> None:
    """Refuse what an engine cannot sample, before it shares a batch with others.

    Raises:
        ValueError: an empty prompt, a token that the model does not have, an option out of range.
        NeuronSetError: neurons of a model with other layers.
    """
    if not request.prompt:
        raise ValueError("the prompt has no tokens; give at least one")
    _check_tokens(request.prompt, engine)
    _check_scaling(request, engine)
    if request.max_tokens < 1:
        raise ValueError(f"max_tokens should be at least 1, found {request.max_tokens}")
    if request.top_logprobs is not None and not 0 <= request.top_logprobs <= engine.vocabulary:
        raise ValueError(f"top_logprobs should be from 0 to {engine.vocabulary}, found {request.top_logprobs}")
    if request.capture is not None and request.capture.reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {request.capture.reduce!r}")
    if request.capture is not None and request.capture.watch is not None:
        request.capture.watch.check(engine.layout, engine.name)
    if "" in request.stop:
        raise ValueError("a stop sequence is empty; leave it out")


def check_capture(request: CaptureRequest, engine: NeuronEngine) -> None:
    """The same of a teacher-forced pass.

    Raises:
        ValueError: an empty region, a position outside the tokens, a token that the model does not have,
            more tokens than the context holds, an option out of range.
        NeuronSetError: neurons of a model with other layers.
    """
    _check_tokens(request.tokens, engine)
    _check_scaling(request, engine)
    if request.reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {request.reduce!r}")
    if request.response_from is not None and not 0 <= request.response_from <= len(request.tokens):
        raise ValueError(
            f"response_from should be a position in the {len(request.tokens)} tokens, found {request.response_from}"
        )
    if request.watch is not None:
        request.watch.check(engine.layout, engine.name)
        if request.response_from is None:
            raise ValueError("neurons are watched over the tokens of the response; give response_from")
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


def _check_scaling(request: "GenerateRequest | CaptureRequest", engine: NeuronEngine) -> None:
    check_alpha(request.alpha)
    if request.neurons is not None:
        request.neurons.check(engine.layout, engine.name)
