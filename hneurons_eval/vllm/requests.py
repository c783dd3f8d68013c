"""Pending requests on vLLM: the parameters that vLLM is given, and the result made of its output. Plain data."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from hneurons_eval.engine.decode_loop import decode, sampled_offsets, settle
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


@dataclass(frozen=True)
class WorkerCapture:
    """A request's capture joined from all ranks: the tensors of `NeuronHooks.fetch`, over all neurons."""

    values: np.ndarray
    logprobs: np.ndarray | None
    entropies: np.ndarray | None
    hidden: np.ndarray | None
    watched: np.ndarray | None

    def to_bytes(self) -> bytes:
        """As safetensors."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return save({name: np.ascontiguousarray(values) for name, values in found.items() if values is not None})

    @classmethod
    def from_bytes(cls, blob: bytes) -> "WorkerCapture":
        """The inverse of `to_bytes`."""
        found = load(blob)
        return cls(found["values"], *(found.get(name) for name in ("logprobs", "entropies", "hidden", "watched")))


def join_ranks(
    shares: Sequence[Mapping[str, np.ndarray]], name: str, layout: NeuronLayout, watch: Sequence[int] = ()
) -> WorkerCapture:
    """Join a request's tensors over ranks.

    Args:
        shares: tensors of each rank, in rank order.
        name: prefix of the tensors' names.
        layout: of the whole model.
        watch: flat indices of the neurons with per-token contributions.

    Raises:
        RuntimeError: a worker could not capture.
    """
    for share in shares:
        if (error := share.get(f"{name}.error")) is not None:
            raise RuntimeError(f"vLLM could not capture: {error.tobytes().decode()}")
    parts = [share[f"{name}.values"] for share in shares]
    ranks = len(parts)
    bounds = layout.starts // ranks  # every rank has the same share of each layer
    layers = [part[:, start:stop] for start, stop in pairwise(bounds) for part in parts]
    logprobs, entropies, hidden = (shares[0].get(f"{name}.{kind}") for kind in ("logprobs", "entropies", "hidden"))
    watched = None
    if len(watch):
        layers_of, within = layout.unflatten(np.asarray(watch, np.int64))
        owner = within * ranks // np.asarray(layout.widths)[layers_of]
        watched = np.empty((len(shares[0][f"{name}.watched"]), len(watch)), np.float32)
        for rank, share in enumerate(shares):
            watched[:, owner == rank] = share[f"{name}.watched"]
    return WorkerCapture(np.concatenate(layers, axis=1), logprobs, entropies, hidden, watched)


@dataclass(frozen=True)
class Completion:
    """Tokens that vLLM sampled for a request.

    Attributes:
        tokens: ids.
        logprobs: for each token the log-probabilities of the likeliest tokens, in descending order, and its own; None
            if not asked for.
    """

    tokens: tuple[int, ...]
    logprobs: Sequence[Mapping[int, float]] | None


@dataclass
class Fetch:
    """A capture to fetch from the workers, and the function that makes the result of it."""

    future: "Future[Any]"
    regions: Regions | None
    watch: tuple[int, ...]
    done: Callable[[WorkerCapture], None]


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
    def watch(self) -> NeuronSet | None:
        """Neurons with per-token contributions over the response."""
        return self.request.watch

    def extras(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """Request extras; workers keep the contributions under `key`."""
        request = self.request
        return _with_scaling(
            RequestExtras(
                key=key,
                reduce=request.reduce,
                regions=tuple(to_ranges(region) for region in request.regions),
                keep_from=None if self.watch is None else request.response_from,
                response_from=request.response_from,
                watch=_flat(self.watch, layout),
            ),
            request,
            layout,
        )

    def sampling_params(self, end_tokens: frozenset[int]) -> dict[str, Any]:
        """vLLM's sampling parameters: one token, which is not used."""
        return {"max_tokens": 1, "temperature": 0.0}

    def finish(self, completion: Completion, tokenizer: Any, end_tokens: frozenset[int], layout: NeuronLayout) -> Fetch:
        """The next action after vLLM's output: fetch the contributions."""

        def done(found: WorkerCapture) -> None:
            first = self.request.response_from
            hidden = found.hidden if first is not None and min(self.request.regions[0]) >= first else None
            empty = None if first is None else np.zeros(0, np.float32)
            captured = Captured(
                found.values,
                empty if found.logprobs is None else found.logprobs,
                empty if found.entropies is None else found.entropies,
                hidden,
                found.watched,
            )
            if self.then is None:
                settle(self.future, captured)
            else:
                self.then(captured)

        return Fetch(self.future, None, _flat(self.watch, layout), done)


@dataclass
class PendingGeneration:
    """An answer to sample.

    Attributes:
        future: of the caller.
        request: as made.
        limit: maximum tokens; the stop reason there is `limit_reason`.
    """

    future: "Future[Generation]"
    request: GenerateRequest
    limit: int
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
    def watch(self) -> NeuronSet | None:
        """Neurons with per-token contributions over the answer."""
        return None if self.request.capture is None else self.request.capture.watch

    def extras(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """Request extras; workers keep the contributions under `key`."""
        extras, capture, prompt = RequestExtras(), self.request.capture, len(self.request.prompt)
        if capture is not None:
            watch = _flat(self.watch, layout)
            extras = RequestExtras(
                key=key, reduce=capture.reduce, regions=(((0, prompt),),), keep_from=prompt, watch=watch
            )
        return _with_scaling(extras, self.request, layout)

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
            key = row_key(request.seed, request.draw, request.prompt)
            params["seed"] = int.from_bytes(key[:8], "little") >> 1
        return params

    def finish(
        self, completion: Completion, tokenizer: Any, end_tokens: frozenset[int], layout: NeuronLayout
    ) -> Fetch | PendingCapture | None:
        """The next action after vLLM's output: fetch the contributions, or none if the future is resolved here."""
        tokens = completion.tokens[: self.limit]
        text = decode(tokenizer, tokens)
        reason = "stop" if tokens and tokens[-1] in end_tokens else self.limit_reason
        if cuts := [at for stop in self.request.stop if (at := text.find(stop)) >= 0]:
            text, reason = text[: min(cuts)], "stop"
        logprobs = None
        if (top := self.request.top_logprobs) is not None:
            logprobs = tuple(
                TokenLogprob(token, found[token], float("nan"), tuple(found.items())[:top])
                for token, found in zip(tokens, completion.logprobs or (), strict=False)
            )
        result = Generation(tokens, text, reason, logprobs)
        if self.request.capture is None:
            settle(self.future, result)
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
        count = 1 + max((place for place, (start, _) in enumerate(offsets) if start < len(result.text)), default=-1)
        span = capture.span(result.text)
        answer = () if span is None else tuple(token_positions(offsets[:count], span))
        if not answer:
            settle(self.future, replace(result, captured=CapturedAnswer(count, span, (), None)))
            return None
        prompt, inside = len(self.request.prompt), set(answer)
        positions = tuple(prompt + number for number in answer)
        rest = tuple(prompt + number for number in range(count) if number not in inside)

        def done(values: np.ndarray, found: WorkerCapture | Captured) -> None:
            logprobs = result.logprobs
            if logprobs is not None and found.entropies is not None:
                pairs = zip(logprobs, found.entropies.tolist(), strict=False)
                logprobs = tuple(replace(entry, entropy=entropy) for entry, entropy in pairs)
            watched = None if found.watched is None else found.watched[:count]
            regions = values if capture.other else values[:1]
            captured = CapturedAnswer(count, span, answer, regions, found.hidden, watched)
            settle(self.future, replace(result, logprobs=logprobs, captured=captured))

        if count <= fed:
            regions: Regions = [(None, to_ranges(positions)), (0, to_ranges(rest)), (0, ())]
            return Fetch(self.future, regions, _flat(self.watch, layout), lambda found: done(found.values, found))
        # A stop sequence ended the answer within its last token, which was not fed: one pass over all of it.
        again = CaptureRequest(
            self.request.prompt + result.tokens,
            (positions, tuple(range(prompt)) + rest, tuple(range(prompt))),
            capture.reduce,
            prompt,
            self.request.neurons,
            self.request.alpha,
            capture.watch,
        )
        return PendingCapture(self.future, again, lambda found: done(found.contributions, found))


PendingRequest = PendingGeneration | PendingCapture


def _with_scaling(
    extras: RequestExtras, request: GenerateRequest | CaptureRequest, layout: NeuronLayout
) -> RequestExtras:
    if request.neurons is None or request.alpha == 1.0:
        return extras
    return replace(extras, neurons=_flat(request.neurons, layout), alpha=request.alpha)


def _flat(neurons: NeuronSet | None, layout: NeuronLayout) -> tuple[int, ...]:
    return () if neurons is None else tuple(neurons.flat(layout).tolist())
