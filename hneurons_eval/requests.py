"""What an engine is asked for, and what it answers: plain data."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from hneurons_eval.contributions import Reduce
from hneurons_eval.neurons import NeuronSet
from hneurons_eval.sampling import SamplingOptions

FindSpan = Callable[[str], tuple[int, int] | None]
"""From the text of an answer to the characters [start, end) that state it, or None."""


@dataclass(frozen=True)
class AnswerCapture:
    """Contributions to take while an answer is generated.

    Attributes:
        span: finds the answer in the text, once it is complete.
        reduce: `mean` or `max` over the tokens of a region.
        other: also take the region of all other tokens, of prompt and response.
    """

    span: FindSpan
    reduce: Reduce = "mean"
    other: bool = False


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
    """A sampled token, the log-probability the model gave it (before temperature), and alternatives."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class CapturedAnswer:
    """Contributions taken while an answer was generated.

    Attributes:
        response_tokens: number of sampled tokens that make up the text.
        span: characters of the answer in the text, or None where there is none.
        answer: numbers of the answer's tokens among the sampled ones.
        contributions: float32 `[regions, neurons]`, the answer and, if asked for, all other tokens; None without
            a span. The other tokens are those of prompt and text, as in a pass over both.
    """

    response_tokens: int
    span: tuple[int, int] | None
    answer: tuple[int, ...]
    contributions: np.ndarray | None = field(compare=False)


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
        logprobs_from: position from which log-probabilities of the tokens are reported; None reports none.
        neurons: neurons to scale, with `alpha`.
        alpha: factor of the neurons.
    """

    tokens: tuple[int, ...]
    regions: tuple[tuple[int, ...], ...]
    reduce: Reduce = "mean"
    logprobs_from: int | None = None
    neurons: NeuronSet | None = None
    alpha: float = 1.0


@dataclass(frozen=True)
class Captured:
    """Contributions float32 `[regions, neurons]`, and log-probabilities float32 of the tokens asked for."""

    contributions: np.ndarray
    logprobs: np.ndarray | None
