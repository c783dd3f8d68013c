"""Pending requests on vLLM: the parameters that vLLM is given, and the result made of its output. Plain data."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.offsets import cut_at_stop, decode, sampled_offsets, tokens_within
from hneurons_eval.engine.requests import (
    AnswerCapture,
    Captured,
    CapturedAnswer,
    CaptureRequest,
    GenerateRequest,
    Generation,
    TokenLogprob,
)
from hneurons_eval.engine.sampling import row_key
from hneurons_eval.judging.spans import token_positions
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm.request_extras import Regions, RequestExtras, to_ranges

TENSORS = ("values", "logprobs", "entropies", "hidden", "watched")
"""Names of a capture's tensors between processes, in the order of the fields of `Captured`."""


def to_bytes(captured: Captured) -> bytes:
    """A capture as safetensors."""
    found = zip(TENSORS, vars(captured).values(), strict=True)
    return save({name: np.ascontiguousarray(values) for name, values in found if values is not None})


def from_bytes(blob: bytes) -> Captured:
    """The inverse of `to_bytes`."""
    found = load(blob)
    return Captured(found["values"], *(found.get(name) for name in TENSORS[1:]))


def join_ranks(
    shares: Sequence[Mapping[str, np.ndarray]], name: str, layout: NeuronLayout, watch: Sequence[int] = ()
) -> Captured:
    """Join a request's tensors over ranks: those of `NeuronHooks.fetch`, over all neurons.

    Args:
        shares: tensors of each rank, in rank order.
        name: prefix of the tensors' names.
        layout: of the whole model.
        watch: flat indices of the neurons with per-token contributions.

    Raises RuntimeError: a worker could not capture.
    """
    for share in shares:
        if (error := share.get(f"{name}.error")) is not None:
            raise RuntimeError(f"vLLM could not capture: {error.tobytes().decode()}")
    parts = [share[f"{name}.values"] for share in shares]
    ranks = len(parts)
    bounds = layout.starts // ranks  # every rank has the same share of each layer
    layers = [part[:, start:stop] for start, stop in pairwise(bounds) for part in parts]
    logprobs, entropies, hidden = (shares[0].get(f"{name}.{tensor}") for tensor in TENSORS[1:4])
    per_token = None
    if len(watch):
        layers_of, within = layout.unflatten(np.asarray(watch, np.int64))
        owner = within * ranks // np.asarray(layout.widths)[layers_of]
        per_token = np.empty((len(shares[0][f"{name}.watched"]), len(watch)), np.float32)
        for rank, share in enumerate(shares):
            per_token[:, owner == rank] = share[f"{name}.watched"]
    return Captured(np.concatenate(layers, axis=1), logprobs, entropies, hidden, per_token)


@dataclass(frozen=True)
class Completion:
    """Tokens that vLLM sampled for a request."""

    tokens: tuple[int, ...]
    # For each token the log-probabilities of the likeliest tokens, in descending order, and its own; None if not asked
    # for
    logprobs: Sequence[Mapping[int, float]] | None


@dataclass
class Fetch:
    """A capture to fetch from the workers, and the function that makes the result of it."""

    future: "Future[Any]"
    regions: Regions | None
    watch: tuple[int, ...]
    done: Callable[[Captured], None]


@dataclass
class PendingCapture:
    """A teacher-forced pass; `then` takes its result in place of the future, in a pass for a sampled answer."""

    future: "Future[Any]"
    request: CaptureRequest
    then: Callable[[Captured], None] | None = None
    captures = True  # workers keep something for it

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids to feed."""
        return self.request.tokens

    @property
    def per_token(self) -> NeuronSet | None:
        """Neurons with per-token contributions over the response."""
        return self.request.per_token

    def extras(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """Request extras; workers keep the contributions under `key`."""
        request = self.request
        return RequestExtras(
            neurons=tuple(request.intervention.flat(layout).tolist()),
            alpha=request.intervention.key[1],
            key=key,
            reduce=request.reduce,
            regions=tuple(to_ranges(region) for region in request.regions),
            keep_from=None if self.per_token is None else request.response_from,
            response_from=request.response_from,
            watch=_flat(self.per_token, layout),
        )

    def sampling_params(self, end_tokens: frozenset[int]) -> dict[str, Any]:
        """vLLM's sampling parameters: one token, which is not used."""
        return {"max_tokens": 1, "temperature": 0.0}

    def finish(self, completion: Completion, tokenizer: Any, end_tokens: frozenset[int], layout: NeuronLayout) -> Fetch:
        """The next action after vLLM's output: fetch the contributions."""

        def done(found: Captured) -> None:
            first = self.request.response_from
            if first is None or min(self.request.regions[0]) < first:
                found = replace(found, hidden=None)
            if first is not None and found.logprobs is None:  # a response without tokens
                found = replace(found, logprobs=np.zeros(0, np.float32), entropies=np.zeros(0, np.float32))
            if self.then is None:
                resolve(self.future, found)
            else:
                self.then(found)

        return Fetch(self.future, None, _flat(self.per_token, layout), done)


@dataclass
class PendingGeneration:
    """An answer to sample."""

    future: "Future[Generation]"  # of the caller
    request: GenerateRequest
    limit: int  # maximum tokens; the stop reason there is `limit_reason`
    limit_reason: str

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids to feed."""
        return self.request.prompt

    @property
    def captures(self) -> bool:
        """Whether workers keep something for it."""
        return self.request.capture is not None

    @property
    def per_token(self) -> NeuronSet | None:
        """Neurons with per-token contributions over the answer."""
        return None if self.request.capture is None else self.request.capture.per_token

    def extras(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """Request extras; workers keep the contributions under `key`."""
        request, prompt = self.request, len(self.request.prompt)
        neurons = tuple(request.intervention.flat(layout).tolist())
        extras = RequestExtras(neurons=neurons, alpha=request.intervention.key[1])
        if request.capture is None:
            return extras
        watch, reduce = _flat(self.per_token, layout), request.capture.reduce
        return replace(extras, key=key, reduce=reduce, regions=(((0, prompt),),), keep_from=prompt, watch=watch)

    def sampling_params(self, end_tokens: frozenset[int]) -> dict[str, Any]:
        """vLLM's sampling parameters."""
        request, options = self.request, self.request.sampling
        params: dict[str, Any] = {
            # One more token feeds the last one, so that its neurons are captured.
            "max_tokens": self.limit + self.captures,
            "temperature": options.temperature,
            "top_k": options.top_k or 0,
            "top_p": 1.0 if options.top_p is None else options.top_p,
            "stop": list(request.stop),
            "stop_token_ids": sorted(end_tokens),
            "logprobs": request.top_logprobs,
        }
        if options.temperature:
            key = row_key(request.seed, request.sample, request.prompt)
            params["seed"] = int.from_bytes(key[:8], "little") >> 1
        return params

    def finish(
        self, completion: Completion, tokenizer: Any, end_tokens: frozenset[int], layout: NeuronLayout
    ) -> Fetch | PendingCapture | None:
        """The next action after vLLM's output: fetch the contributions, or none if the future is resolved here."""
        tokens = completion.tokens[: self.limit]
        text = decode(tokenizer, tokens)
        reason = "stop" if tokens and tokens[-1] in end_tokens else self.limit_reason
        if (cut := cut_at_stop(text, self.request.stop)) is not None:
            text, reason = cut, "stop"
        logprobs = None
        if (top := self.request.top_logprobs) is not None:
            logprobs = tuple(
                TokenLogprob(token, found[token], float("nan"), tuple(found.items())[:top])
                for token, found in zip(tokens, completion.logprobs or (), strict=False)
            )
        result = Generation(tokens, text, reason, logprobs)
        if self.request.capture is None:
            resolve(self.future, result)
            return None
        offsets = sampled_offsets(tokenizer, tokens, text)
        return self._fetch(result, offsets, len(completion.tokens) - 1, self.request.capture, layout)

    def _fetch(
        self,
        result: Generation,
        offsets: Sequence[tuple[int, int]],
        fed: int,
        capture: AnswerCapture,
        layout: NeuronLayout,
    ) -> Fetch | PendingCapture | None:
        """Fetch the contributions of an answer whose first `fed` tokens have been fed."""
        count = tokens_within(offsets, result.text)
        span = capture.span(result.text)
        answer = () if span is None else tuple(token_positions(offsets[:count], span))
        if not answer:
            resolve(self.future, replace(result, captured=CapturedAnswer(count, span, (), None)))
            return None
        prompt, inside = len(self.request.prompt), set(answer)
        positions = tuple(prompt + number for number in answer)
        rest = tuple(prompt + number for number in range(count) if number not in inside)

        def done(found: Captured) -> None:
            logprobs = result.logprobs
            if logprobs is not None and found.entropies is not None:
                pairs = zip(logprobs, found.entropies.tolist(), strict=False)
                logprobs = tuple(replace(entry, entropy=entropy) for entry, entropy in pairs)
            contributions = found.contributions if capture.other else found.contributions[:1]
            per_token = None if found.per_token is None else found.per_token[:count]
            captured = CapturedAnswer(count, span, answer, contributions, found.hidden, per_token)
            resolve(self.future, replace(result, logprobs=logprobs, captured=captured))

        if count <= fed:
            regions: Regions = [(None, to_ranges(positions)), (0, to_ranges(rest)), (0, ())]
            return Fetch(self.future, regions, _flat(self.per_token, layout), done)
        # A stop sequence ended the answer within its last token, which was not fed: one pass over all of it.
        again = CaptureRequest(
            self.request.prompt + result.tokens,
            (positions, tuple(range(prompt)) + rest, tuple(range(prompt))),
            capture.reduce,
            prompt,
            self.request.intervention,
            capture.per_token,
        )
        return PendingCapture(self.future, again, done)


PendingRequest = PendingGeneration | PendingCapture


def _flat(neurons: NeuronSet | None, layout: NeuronLayout) -> tuple[int, ...]:
    return () if neurons is None else tuple(neurons.flat(layout).tolist())
