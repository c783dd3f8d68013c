"""What vLLM is asked for one request, and what becomes of its answer; plain data in, plain data out."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
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
from hneurons_eval.vllm.request_extras import RequestExtras, Runs, runs


@dataclass(frozen=True)
class Gathered:
    """What all ranks together captured of one request; as in `NeuronHooks.fetch`, over all neurons."""

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
    def from_bytes(cls, blob: bytes) -> "Gathered":
        """What `to_bytes` gave."""
        found = load(blob)
        return cls(found["values"], *(found.get(name) for name in ("logprobs", "entropies", "hidden", "watched")))


@dataclass(frozen=True)
class Sampled:
    """What vLLM sampled for one request.

    Attributes:
        tokens: ids.
        levels: of each token the log-probabilities of the likeliest tokens, in that order, and of itself; None where
            they were not asked for.
    """

    tokens: tuple[int, ...]
    levels: Sequence[Mapping[int, float]] | None


def gathered(
    shares: Sequence[Mapping[str, np.ndarray]], name: str, layout: NeuronLayout, watch: Sequence[int] = ()
) -> Gathered:
    """One request's tensors from what each rank gave, in rank order.

    Args:
        shares: of each rank.
        name: before the tensors' names.
        layout: of the whole model.
        watch: flat indices of the neurons that were watched.

    Raises:
        RuntimeError: a worker says that it could not capture.
    """
    for share in shares:
        if (error := share.get(f"{name}.error")) is not None:
            raise RuntimeError(f"vLLM could not capture: {error.tobytes().decode()}")
    parts = [share[f"{name}.values"] for share in shares]
    ranks = len(parts)
    layers: list[np.ndarray] = []
    start = 0
    for width in layout.widths:
        stop = start + width // ranks
        layers += [part[:, start:stop] for part in parts]
        start = stop
    values = np.concatenate(layers, axis=1)
    logprobs, entropies, hidden = (shares[0].get(f"{name}.{kind}") for kind in ("logprobs", "entropies", "hidden"))
    watched = None
    if len(watch):
        layers_of, within = layout.unflatten(np.asarray(watch, np.int64))
        owner = within * ranks // np.asarray(layout.widths)[layers_of]
        watched = np.empty((len(shares[0][f"{name}.watched"]), len(watch)), np.float32)
        for rank, share in enumerate(shares):
            watched[:, owner == rank] = share[f"{name}.watched"]
    return Gathered(values, logprobs, entropies, hidden, watched)


Regions = list[tuple[int | None, Runs]]


@dataclass
class Fetch:
    """A capture to bring, and what to do with it."""

    future: "Future[Any]"
    regions: Regions | None
    watch: tuple[int, ...]
    done: Callable[[Gathered], None]


@dataclass
class Given:
    """A teacher-forced pass that somebody waits for; `then` instead of them, where it serves a sampled answer."""

    future: "Future[Any]"
    request: CaptureRequest
    then: Callable[[Captured], None] | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """Ids to feed."""
        return self.request.tokens

    @property
    def captures(self) -> bool:
        """Whether workers keep something for it."""
        return True

    @property
    def per_token(self) -> NeuronSet | None:
        """Neurons whose contributions to each token of the response are wanted."""
        return self.request.per_token

    def fields(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """What it asks of the workers, who keep its contributions under `key`."""
        request = self.request
        regions = tuple(runs(region) for region in request.regions)
        fields = RequestExtras(key=key, reduce=request.reduce, regions=regions, response_from=request.response_from)
        if self.per_token is not None:
            fields = replace(fields, keep_from=request.response_from, watch=_flat(self.per_token, layout))
        return _scaled(fields, request, layout)

    def sampling(self, ends: frozenset[int]) -> dict[str, Any]:
        """vLLM's sampling parameters: one token, which nobody wants."""
        return {"max_tokens": 1, "temperature": 0.0}

    def finish(self, sampled: Sampled, tokenizer: Any, ends: frozenset[int], layout: NeuronLayout) -> Fetch:
        """What to do now that vLLM is done with it."""

        def done(found: Gathered) -> None:
            request = self.request
            first = request.response_from
            hidden = found.hidden if first is not None and min(request.regions[0]) >= first else None
            empty = None if first is None else np.zeros(0, np.float32)
            captured = Captured(
                found.values,
                empty if found.logprobs is None else found.logprobs,
                empty if found.entropies is None else found.entropies,
                hidden,
                found.watched,
            )
            if self.then is None:
                resolve(self.future, captured)
            else:
                self.then(captured)

        return Fetch(self.future, None, _flat(self.per_token, layout), done)


@dataclass
class Draw:
    """An answer that is being sampled."""

    future: "Future[Generation]"
    request: GenerateRequest
    limit: int
    reason: str

    @classmethod
    def of(cls, request: GenerateRequest, context: int) -> "Draw":
        """What a request comes to where sequences have at most so many tokens; settled, if there is no room at all."""
        room = context - len(request.prompt)
        future: Future[Generation] = Future()
        if room < 1:
            resolve(future, Generation((), "", "model_length", () if request.top_logprobs is not None else None))
        reason = "max_tokens" if request.max_tokens <= room else "model_length"
        return cls(future, request, min(request.max_tokens, room), reason)

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
        """Neurons whose contributions to each token of the answer are wanted."""
        return None if self.request.capture is None else self.request.capture.per_token

    def fields(self, key: str, layout: NeuronLayout) -> RequestExtras:
        """What it asks of the workers, who keep its contributions under `key`."""
        request, capture = self.request, self.request.capture
        if capture is None:
            return _scaled(RequestExtras(), request, layout)
        prompt = len(request.prompt)
        watch = _flat(self.per_token, layout)
        fields = RequestExtras(key=key, reduce=capture.reduce, regions=(((0, prompt),),), keep_from=prompt, watch=watch)
        return _scaled(fields, request, layout)

    def sampling(self, ends: frozenset[int]) -> dict[str, Any]:
        """vLLM's sampling parameters; `ends`: tokens that end an answer."""
        request, options = self.request, self.request.sampling
        asked: dict[str, Any] = {
            # With a token after the last one, the last one has been fed, so that its neurons are seen.
            "max_tokens": self.limit + (request.capture is not None),
            "temperature": options.temperature,
            "top_k": options.top_k or 0,
            "top_p": 1.0 if options.top_p is None else options.top_p,
            "stop": list(request.stop),
            "stop_token_ids": sorted(ends),
            "logprobs": request.top_logprobs,
        }
        if options.temperature:
            key = row_key(request.seed, request.sample, request.prompt)
            asked["seed"] = int.from_bytes(key[:8], "little") >> 1
        return asked

    def finish(
        self, sampled: Sampled, tokenizer: Any, ends: frozenset[int], layout: NeuronLayout
    ) -> "Fetch | Given | None":
        """What to do now that vLLM is done with it: resolve it here, or bring its contributions first."""
        tokens = sampled.tokens[: self.limit]
        text, reason = self._ending(tokens, tokenizer, ends)
        logprobs = None
        if self.request.top_logprobs is not None:
            logprobs = _logprobs(tokens, sampled.levels or (), self.request.top_logprobs)
        result = Generation(tokens, text, reason, logprobs)
        if self.request.capture is None:
            resolve(self.future, result)
            return None
        offsets = sampled_offsets(tokenizer, tokens, text)
        return self._fetch(result, offsets, len(sampled.tokens) - 1, self.request.capture, layout)

    def _ending(self, tokens: tuple[int, ...], tokenizer: Any, ends: frozenset[int]) -> tuple[str, str]:
        """Text and stop reason."""
        text = decode(tokenizer, tokens)
        if (cut := cut_at_stop(text, self.request.stop)) is not None:
            return cut, "stop"
        return text, "stop" if tokens and tokens[-1] in ends else self.reason

    def _fetch(
        self,
        result: Generation,
        offsets: Sequence[tuple[int, int]],
        fed: int,
        capture: AnswerCapture,
        layout: NeuronLayout,
    ) -> "Fetch | Given | None":
        """What to bring of an answer of which the first `fed` tokens have been fed."""
        count = tokens_within(offsets, result.text)
        span = capture.span(result.text)
        answer = () if span is None else tuple(token_positions(offsets[:count], span))
        if not answer:
            resolve(self.future, replace(result, captured=CapturedAnswer(count, span, (), None)))
            return None
        prompt, inside = len(self.request.prompt), set(answer)
        places = tuple(prompt + place for place in answer)
        rest = tuple(prompt + place for place in range(count) if place not in inside)

        def done(values: np.ndarray, found: Gathered | Captured, per_token: np.ndarray | None) -> None:
            wide = values if capture.other else values[:1]
            logprobs = result.logprobs
            if logprobs is not None and found.entropies is not None:
                told = zip(logprobs, found.entropies.tolist(), strict=False)
                logprobs = tuple(replace(entry, entropy=entropy) for entry, entropy in told)
            per_token = None if per_token is None else per_token[:count]
            captured = CapturedAnswer(count, span, answer, wide, found.hidden, per_token)
            resolve(self.future, replace(result, logprobs=logprobs, captured=captured))

        if count <= fed:
            regions: Regions = [(None, runs(places)), (0, runs(rest)), (0, ())]
            watch = _flat(self.per_token, layout)
            return Fetch(self.future, regions, watch, lambda found: done(found.values, found, found.watched))
        # A stop sequence ended the answer within its last token, which was not fed: one pass over all of it.
        again = CaptureRequest(
            self.request.prompt + result.tokens,
            (places, tuple(range(prompt)) + rest, tuple(range(prompt))),
            capture.reduce,
            prompt,
            self.request.intervention,
            capture.per_token,
        )
        return Given(self.future, again, lambda found: done(found.contributions, found, found.per_token))


Job = Draw | Given


def _scaled(fields: RequestExtras, request: GenerateRequest | CaptureRequest, layout: NeuronLayout) -> RequestExtras:
    flat = tuple(request.intervention.flat(layout).tolist())
    return replace(fields, neurons=flat, alpha=request.intervention.alpha) if flat else fields


def _flat(neurons: NeuronSet | None, layout: NeuronLayout) -> tuple[int, ...]:
    return () if neurons is None else tuple(neurons.flat(layout).tolist())


def _logprobs(tokens: Sequence[int], levels: Sequence[Mapping[int, float]], top: int) -> tuple[TokenLogprob, ...]:
    """Log-probabilities of the sampled tokens; those of the `top` likeliest beside each."""
    return tuple(
        TokenLogprob(token, found[token], float("nan"), tuple(found.items())[:top])
        for token, found in zip(tokens, levels, strict=False)
    )
