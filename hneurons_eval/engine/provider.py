"""The Inspect model API over an engine: `hneurons/<model>`.

```
inspect eval any_task --model hneurons/smollm2-135m-instruct -M neurons=neurons.json -M alpha=0
```

Per request, `extra_body={"hneurons": {...}}` overrides the model args `neurons` and `alpha`, and
asks for contributions with `capture`:

```python
output = await model.generate(messages, config=GenerateConfig(extra_body={"hneurons": {
    "neurons": "neurons.json",       # file, probe directory, log of `probe`, digest or Hub id; None for none
    "sign": "positive",              # of the weights of the neurons that are scaled: positive, negative, both
    "alpha": 0.0,
    "capture": {
        "span": "rule",              # or "response", or [start, end] in characters of the response
        "question": "...",           # whose echoes in the response the rule leaves out
        "reduce": "mean",            # or "max"
        "response": "Paris",         # optional: nothing is sampled, this text is the answer
    },
}}))
output.metadata["hneurons"]  # {"contributions": <artifact key>, "span": [0, 5], ...}
```

`"risk": {"probe": DIRECTORY, "span": "rule"}` asks for the probability that the answer is hallucinated, and the
model arg `risk=DIRECTORY` for that of every answer, whatever task asks; it is in `output.metadata["hneurons"]["risk"]`
(see `answer_risk.py`). It is always what the untouched model's neurons say: where the answer was generated with
neurons scaled, a second pass over it is made without.

`"loglikelihood": TEXT` asks for the log-probability of a text as the answer, under the request's neurons and alpha;
nothing is sampled. `output.metadata["hneurons"]` is `{"loglikelihood": float, "tokens": int}`: the sum over the text's
tokens, in nats, before temperature and without the end of the turn.

`"completion": true` continues the messages as a plain text, without the chat template that the model may have.

`"ahead": [seed, ...]` names the seeds with which the very same request will be made again: those draws
are sampled with this one, so that what they have in common is computed once, and handed out when they
are asked for. Nothing but the time it takes depends on it.
"""

import contextlib
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import numpy as np
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    TopLogprob,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from hneurons_eval.artifacts.contribution_store import PRECISIONS, ContributionStore, Features, FeatureSpec, open_store
from hneurons_eval.artifacts.paths import content_key, stores_root
from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.engine.engine import Engine, get_engine
from hneurons_eval.engine.options import MAX_CONNECTIONS
from hneurons_eval.engine.prompts import PromptFormat
from hneurons_eval.engine.requests import AnswerCapture, CaptureRequest, GenerateRequest, Generation, NeuronEngine
from hneurons_eval.engine.risk import GivenAnswer, RiskSpec, risk_probe
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.judging.spans import answer_span, token_positions
from hneurons_eval.models.contributions import REDUCTIONS, Reduce
from hneurons_eval.models.neuron_set import NeuronSet, check_alpha
from hneurons_eval.util.errors import usage_errors

T = TypeVar("T")
E = TypeVar("E", bound=NeuronEngine)
DEFAULT_MAX_TOKENS = 2048
MAX_AHEAD = 100_000
"""Draws that are kept until they are asked for."""
REGIONS = ("answer", "other", "prompt")
"""The answer's tokens, all other tokens of prompt and response (Gao et al. 2025, section 2.2), and the prompt's."""


@dataclass(frozen=True)
class CaptureSpec:
    """What `capture` in a request's `extra_body` asks for; see the module's docstring."""

    span: str | tuple[int, int] = "rule"
    reduce: Reduce = "mean"
    precision: str = "float32"
    question: str = ""
    response: str | None = None

    def find_span(self, response: str) -> tuple[int, int] | None:
        """Characters of the answer in a response.

        Raises:
            ValueError: a span that the response does not have.
        """
        if self.span == "rule":
            # Without the accepted answers: a span cut to the alias where the answer is right, and left
            # longer where it is wrong, would tell the probe the label.
            return answer_span(self.question, response)
        if self.span == "response":
            return (0, len(response)) if response else None
        start, end = cast(tuple[int, int], self.span)
        if not 0 <= start < end <= len(response):
            raise ValueError(f"capture span {[start, end]} is not within the response's {len(response)} characters")
        return start, end

    @classmethod
    def parse(cls, value: Any) -> "CaptureSpec":
        """From JSON.

        Raises:
            ValueError: an unknown key or a value of the wrong kind.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"capture should be an object, found {type(value).__name__}")
        _refuse_unknown(value, ("span", "reduce", "precision", "question", "response"), "capture")
        span = value.get("span", "rule")
        if isinstance(span, list | tuple) and len(span) == 2 and all(type(edge) is int for edge in span):
            span = (span[0], span[1])
        elif span not in ("rule", "response"):
            raise ValueError(f"capture span should be rule, response or [start, end], found {span!r}")
        if value.get("reduce", "mean") not in REDUCTIONS:
            raise ValueError(f"capture reduce should be one of {', '.join(REDUCTIONS)}, found {value['reduce']!r}")
        if value.get("precision", "float32") not in tuple(PRECISIONS):
            raise ValueError(f"capture precision should be {' or '.join(PRECISIONS)}, found {value['precision']!r}")
        if not isinstance(value.get("response"), str | None):
            raise ValueError(f"capture response should be text, found {value['response']!r:.80}")
        return cls(
            span,
            value.get("reduce", "mean"),
            value.get("precision", "float32"),
            str(value.get("question", "")),
            value.get("response"),
        )


class NeuronsAPI(ModelAPI, Generic[E]):
    """A provider over an engine: everything but which engine it is, which the subclass starts.

    Args:
        start: starts the engine, or finds the one that runs; called when everything else has been checked.
        revision, dtype: of the checkpoint, as the user gave them.
        risk: a reference to a probe that judges every answer, or None.
        sign: of the weights of the neurons that are scaled: `positive` (the H-neurons), `negative` or `both`.

    Raises:
        UsageError: alpha without neurons; neurons or a probe that cannot be read or do not fit; what `start` refuses.
    """

    def __init__(
        self,
        model_name: str,
        api_key: str | None,
        config: GenerateConfig | None,
        neurons: str | None,
        alpha: float | str | None,
        start: Callable[[], E],
        revision: str | None,
        dtype: str,
        risk: str | None = None,
        sign: str = "positive",
    ) -> None:
        with usage_errors():
            if alpha is not None and neurons is None:
                raise ValueError(
                    "alpha is given without neurons; add -M neurons=FILE (or a probe directory, log or Hub id)"
                )
            self.alpha = 1.0 if alpha is None else check_alpha(alpha)
            self.neurons = None if neurons is None else neurons_to_scale(neurons, sign)
            self.risk = None if risk is None else RiskSpec(risk_probe(str(risk)).directory)
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            self.engine = start()
            if self.neurons is not None:
                self.neurons.check(self.engine.layout, model_name)
            if self.risk is not None:
                risk_probe(self.risk.probe).check(self.engine.layout, model_name)
        # Inspect's response cache knows a model by its name and base_url alone, so what changes the
        # answers has to stand there, or alpha=0 would be served the text of alpha=1.
        identity: dict[str, Any] = {"revision": revision, "dtype": None if dtype == "auto" else dtype}
        if self.neurons is not None and self.alpha != 1.0:
            identity |= {"neurons": self.neurons.digest[:16], "alpha": self.alpha}
        variant = "&".join(f"{key}={value}" for key, value in identity.items() if value is not None)
        # Inspect's adaptive concurrency starts at 20 requests, for servers that may refuse more; here it would
        # only keep batches small. Setting it here leaves what the user sets for the eval or the task in force.
        config = config or GenerateConfig()
        if config.adaptive_connections is None and config.max_connections is None:
            config.adaptive_connections = False
        super().__init__(model_name, f"{self.engine.fingerprint}?{variant}" if variant else None, api_key, [], config)
        self.prompts = PromptFormat(self.engine.tokenizer)
        self._unseeded: Counter[str] = Counter()
        self._ahead: OrderedDict[GenerateRequest, Future[Generation]] = OrderedDict()

    # ---- Inspect's questions about the provider ----

    def max_tokens(self) -> int | None:
        return DEFAULT_MAX_TOKENS

    def max_connections(self) -> int:
        return MAX_CONNECTIONS

    def connection_key(self) -> str:
        return f"hneurons:{self.engine.source}"

    def collapse_user_messages(self) -> bool:
        return True

    def should_retry(self, ex: BaseException) -> bool:
        return False

    async def count_text_tokens(self, text: str) -> int:
        return len(await self.tokenize(text))

    async def tokenize(self, text: str) -> list[int]:
        return self.engine.tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore

    # ---- generation ----

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        if tools:
            raise ValueError("hneurons models do not call tools; use a task without tools")
        neurons, alpha, capture, risk, ahead, given = self._options(config, input)
        prompt = self.prompts.encode(input, completion=_is_completion(config))
        if given is not None:
            found = await self._loglikelihood(prompt, given, neurons, alpha)
            return self._given(given, found, len(prompt), found["tokens"])
        if capture is not None and capture.response is not None:
            captured = await self._capture(prompt, capture.response, capture, neurons, alpha)
            return self._given(capture.response, captured, len(prompt), captured["response_tokens"])
        if risk is not None and risk.response is not None:
            judged = await self._risk(prompt, risk.response, risk)
            return self._given(risk.response, {"risk": judged}, len(prompt), judged["response_tokens"])
        requests = self._requests(prompt, config, neurons, alpha)
        # Scaled neurons have other contributions by that alone, and a request takes one capture.
        meanwhile = risk is not None and capture is None and (neurons is None or alpha == 1.0)
        if risk is not None and meanwhile:
            answer = risk_probe(risk.probe).capture(risk)
            requests[0] = replace(requests[0], capture=answer, top_logprobs=requests[0].top_logprobs or 0)
        if capture is not None:
            # Of several choices, the first one's. Its log-probabilities come along.
            answer = AnswerCapture(capture.find_span, capture.reduce, other=True)
            requests[0] = replace(requests[0], capture=answer, top_logprobs=requests[0].top_logprobs or 0)
        futures = self._sample(requests, ahead)
        try:
            generations = [await _wait(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()  # where one failed or the caller has gone, nobody waits for the others
        output = self._output(generations, len(prompt), config)
        found: dict[str, Any] = {}
        if capture is not None:
            found = await self._keep_captured(prompt, generations[0], capture, neurons, alpha)
        if risk is not None and meanwhile:
            found["risk"] = risk_probe(risk.probe).of_sampled(generations[0], risk, self.engine)
        elif risk is not None:
            found["risk"] = await self._risk(prompt, generations[0].text, risk)
        if found:
            output.metadata = {"hneurons": found}
        return output

    async def _loglikelihood(
        self, prompt: tuple[int, ...], response: str, neurons: NeuronSet | None, alpha: float
    ) -> dict[str, Any]:
        """The log-probability of a text as the answer, by one teacher-forced pass."""
        tokens = tuple(self.engine.tokenizer(response, add_special_tokens=False)["input_ids"])
        # A pass takes contributions of at least one region; nobody keeps these.
        region = tuple(range(len(prompt), len(prompt) + len(tokens)))
        request = CaptureRequest(prompt + tokens, (region,), response_from=len(prompt), neurons=neurons, alpha=alpha)
        captured = await _wait(self.engine.capture(request))
        assert captured.logprobs is not None
        return {"loglikelihood": float(captured.logprobs.astype(np.float64).sum()), "tokens": len(tokens)}

    async def _risk(self, prompt: tuple[int, ...], response: str, spec: RiskSpec) -> dict[str, Any]:
        """The risk of a text as the answer, as the untouched model's neurons see it."""
        given = GivenAnswer(risk_probe(spec.probe), spec, self.engine, prompt, response)
        return given.found if given.request is None else given.judged(await _wait(self.engine.capture(given.request)))

    def _sample(self, requests: list[GenerateRequest], ahead: Sequence[int]) -> "list[Future[Generation]]":
        """Queue requests, and with a single one the draws that will be asked for next."""
        futures = [self._ahead.pop(request, None) or self.engine.generate(request) for request in requests]
        if len(requests) == 1 and requests[0].capture is None:
            for request in (replace(requests[0], seed=seed) for seed in ahead):
                if request not in self._ahead:
                    self._ahead[request] = self.engine.generate(request)
            while len(self._ahead) > MAX_AHEAD:
                self._ahead.popitem(last=False)[1].cancel()
        return futures

    def _options(
        self, config: GenerateConfig, messages: Sequence[ChatMessage]
    ) -> tuple[NeuronSet | None, float, CaptureSpec | None, RiskSpec | None, list[int], str | None]:
        body = (config.extra_body or {}).get("hneurons", {})
        if not isinstance(body, Mapping):
            raise ValueError(f"extra_body hneurons should be an object, found {type(body).__name__}")
        known = ("neurons", "alpha", "sign", "capture", "risk", "ahead", "loglikelihood", "completion")
        _refuse_unknown(body, known, "extra_body hneurons")
        neurons = self.neurons
        if "neurons" in body:
            named, sign = body["neurons"], str(body.get("sign", "positive"))
            neurons = None if named is None else neurons_to_scale(str(named), sign)
        elif "sign" in body:
            raise ValueError("extra_body gives sign but no neurons; add neurons")
        alpha = check_alpha(body["alpha"]) if "alpha" in body else self.alpha
        if "alpha" in body and neurons is None and alpha != 1.0:
            raise ValueError("extra_body gives alpha but there are no neurons; add neurons")
        if neurons is not None:
            neurons.check(self.engine.layout, self.model_name)
        capture = None if body.get("capture") is None else CaptureSpec.parse(body["capture"])
        risk = self.risk
        if "risk" in body:
            risk = None if body["risk"] is None else RiskSpec.parse(body["risk"])
        if risk is not None:
            risk_probe(risk.probe).check(self.engine.layout, self.model_name)
            risk = risk.asked(next((message.text for message in reversed(messages) if message.role == "user"), ""))
        ahead = body.get("ahead", [])
        if not isinstance(ahead, list | tuple) or any(type(seed) is not int for seed in ahead):
            raise ValueError(f"extra_body hneurons ahead should be a list of seeds, found {ahead!r}")
        given = body.get("loglikelihood")
        if given is not None and (not isinstance(given, str) or not given):
            raise ValueError(f"extra_body hneurons loglikelihood should be a text that is not empty, found {given!r}")
        if given is not None and capture is not None:
            raise ValueError("extra_body hneurons asks for capture and loglikelihood at once; make two requests")
        return neurons, alpha, capture, risk, list(ahead), given

    def _requests(
        self, prompt: tuple[int, ...], config: GenerateConfig, neurons: NeuronSet | None, alpha: float
    ) -> list[GenerateRequest]:
        settings = self.engine.generation_config
        defaults = settings if getattr(settings, "do_sample", False) else None

        def setting(name: str, fallback: Any) -> Any:
            own = getattr(config, name)
            if own is not None:
                return own
            given = getattr(defaults, name, None)
            return fallback if given is None else given

        sampling = SamplingOptions(
            float(setting("temperature", 1.0)), setting("top_k", None) or None, setting("top_p", None)
        )
        draws = config.num_choices or 1
        if config.seed is not None:
            seed, first = config.seed, 0
        else:
            # Without a seed, asking the same again is a new draw; the first time is always the same one.
            key = content_key(prompt=prompt, sampling=str(sampling))
            seed, first = 0, self._unseeded[key]
            self._unseeded[key] += draws
        top = (config.top_logprobs or 0) if config.logprobs or config.top_logprobs else None
        return [
            GenerateRequest(
                prompt,
                config.max_tokens or DEFAULT_MAX_TOKENS,
                sampling,
                seed,
                first + draw,
                tuple(config.stop_seqs or ()),
                top,
                neurons,
                alpha,
            )
            for draw in range(draws)
        ]

    def _output(self, generations: list[Generation], prompt_tokens: int, config: GenerateConfig) -> ModelOutput:
        choices = [
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=generation.text, model=self.model_name, source="generate"),
                stop_reason=cast(StopReason, generation.stop_reason),
                logprobs=self._logprobs(generation, config),
            )
            for generation in generations
        ]
        sampled = sum(len(generation.tokens) for generation in generations)
        usage = ModelUsage(input_tokens=prompt_tokens, output_tokens=sampled, total_tokens=prompt_tokens + sampled)
        return ModelOutput(model=self.model_name, choices=choices, usage=usage)

    def _given(self, response: str, captured: dict[str, Any], prompt_tokens: int, response_tokens: int) -> ModelOutput:
        output = ModelOutput.from_content(self.model_name, response)
        total = prompt_tokens + response_tokens
        output.usage = ModelUsage(input_tokens=total, output_tokens=0, total_tokens=total)
        output.metadata = {"hneurons": captured}
        return output

    def _logprobs(self, generation: Generation, config: GenerateConfig) -> Logprobs | None:
        if generation.logprobs is None or not (config.logprobs or config.top_logprobs):
            return None
        return Logprobs(
            content=[
                Logprob(
                    token=self._token_text(entry.token),
                    logprob=entry.logprob,
                    bytes=None,
                    top_logprobs=[
                        TopLogprob(token=self._token_text(token), logprob=level, bytes=None)
                        for token, level in entry.top
                    ]
                    if entry.top
                    else None,
                )
                for entry in generation.logprobs
            ]
        )

    def _token_text(self, token: int) -> str:
        return str(self.engine.tokenizer.decode([token], clean_up_tokenization_spaces=False))

    # ---- contributions ----

    async def _capture(
        self,
        prompt: tuple[int, ...],
        response: str,
        spec: CaptureSpec,
        neurons: NeuronSet | None,
        alpha: float,
    ) -> dict[str, Any]:
        """Contributions of a given answer, written to the artifacts; what goes into the output's metadata."""
        encoded = self.engine.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
        tokens = tuple(encoded["input_ids"])  # pyright: ignore
        span = spec.find_span(response)
        answer = () if span is None else tuple(token_positions(encoded["offset_mapping"], span))  # pyright: ignore
        result = _described(span, answer, len(prompt), len(tokens))
        if not answer:
            return result
        key = self._key(prompt, tokens, answer, spec, neurons, alpha)
        store = await anyio.to_thread.run_sync(self._store, spec)
        if await anyio.to_thread.run_sync(store.__contains__, key):
            extras = await anyio.to_thread.run_sync(store.extras, key)
        else:
            positions = tuple(len(prompt) + place for place in answer)
            inside = set(positions)
            other = tuple(place for place in range(len(prompt) + len(tokens)) if place not in inside)
            regions = (positions, other, tuple(range(len(prompt))))
            request = CaptureRequest(prompt + tokens, regions, spec.reduce, len(prompt), neurons, alpha)
            captured = await _wait(self.engine.capture(request))
            assert captured.logprobs is not None
            assert captured.entropies is not None
            extras = {"logprobs": captured.logprobs, "entropies": captured.entropies}
            if captured.hidden is not None:
                extras["hidden"] = captured.hidden
            row = Features(captured.contributions, self._about(spec, response, span, neurons, alpha), extras)
            await anyio.to_thread.run_sync(store.add, key, row)
        return result | _pointer(key, extras, answer)

    async def _keep_captured(
        self,
        prompt: tuple[int, ...],
        generation: Generation,
        spec: CaptureSpec,
        neurons: NeuronSet | None,
        alpha: float,
    ) -> dict[str, Any]:
        """The same of an answer that was captured while it was generated."""
        found = generation.captured
        if found is None:  # nothing was sampled
            return _described(None, (), len(prompt), 0)
        result = _described(found.span, found.answer, len(prompt), found.response_tokens)
        if found.contributions is None or generation.logprobs is None:
            return result
        tokens = generation.tokens[: found.response_tokens]
        key = self._key(prompt, tokens, found.answer, spec, neurons, alpha)
        sampled = generation.logprobs[: len(tokens)]
        extras = {
            "logprobs": np.array([entry.logprob for entry in sampled], np.float32),
            "entropies": np.array([entry.entropy for entry in sampled], np.float32),
        }
        if found.hidden is not None:
            extras["hidden"] = found.hidden
        row = Features(found.contributions, self._about(spec, generation.text, found.span, neurons, alpha), extras)
        store = await anyio.to_thread.run_sync(self._store, spec)
        await anyio.to_thread.run_sync(store.add, key, row)
        return result | _pointer(key, extras, found.answer)

    def _store(self, spec: CaptureSpec) -> ContributionStore:
        """Where contributions of this kind are kept."""
        kind = FeatureSpec(self.engine.fingerprint, self.engine.layout.widths, REGIONS, spec.reduce, spec.precision)
        return open_store(stores_root() / kind.digest, kind)

    def _about(
        self,
        spec: CaptureSpec,
        response: str,
        span: tuple[int, int] | None,
        neurons: NeuronSet | None,
        alpha: float,
    ) -> dict[str, Any]:
        """What is kept beside a row, so that a store explains itself."""
        return {
            "question": spec.question,
            "response": response,
            "span": None if span is None else list(span),
            "model": self.model_name,
            "dtype": self.engine.dtype,
            **_condition(neurons, alpha),
        }

    def _key(
        self,
        prompt: tuple[int, ...],
        tokens: tuple[int, ...],
        answer: tuple[int, ...],
        spec: CaptureSpec,
        neurons: NeuronSet | None,
        alpha: float,
    ) -> str:
        """What contributions depend on, hashed: the same for given and for generated answers."""
        return content_key(
            kind="contributions-v2",
            model=self.engine.fingerprint,
            dtype=self.engine.dtype,
            tokens=prompt + tokens,
            answer=[len(prompt) + place for place in answer],
            reduce=spec.reduce,
            **_condition(neurons, alpha),
        )


class HNeuronsAPI(NeuronsAPI[Engine]):
    """Inspect provider for local transformers models whose neurons can be captured and scaled."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        neurons: str | None = None,
        alpha: float | str | None = None,
        sign: str = "positive",
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        threads: int | None = None,
        strict: bool = False,
        trust_remote_code: bool = False,
        risk: str | None = None,
        **unknown: Any,
    ) -> None:
        with usage_errors():
            if unknown:
                raise ValueError(
                    f"unknown model args {', '.join(sorted(unknown))}; "
                    "there are neurons, alpha, sign, risk, dtype, device, revision, threads, strict, trust_remote_code"
                )

        def start() -> Engine:
            return get_engine(
                model_name,
                revision=None if revision is None else str(revision),
                dtype=dtype,
                device=device,
                threads=threads,
                strict=strict,
                trust_remote_code=trust_remote_code,
            )

        super().__init__(model_name, api_key, config, neurons, alpha, start, revision, dtype, risk, sign)


def _condition(neurons: NeuronSet | None, alpha: float) -> dict[str, Any]:
    """The neurons that are scaled and by what; the untouched model is one, whatever was not scaled."""
    if neurons is None or alpha == 1.0:
        return {"neurons": None, "alpha": 1.0}
    return {"neurons": neurons.digest, "alpha": alpha}


def _described(
    span: tuple[int, int] | None, answer: tuple[int, ...], prompt_tokens: int, response_tokens: int
) -> dict[str, Any]:
    return {
        "contributions": None,
        "span": None if span is None else list(span),
        "prompt_tokens": prompt_tokens,
        "response_tokens": response_tokens,
        "answer_tokens": len(answer),
        "whole_response": 0 < len(answer) == response_tokens,
    }


def _pointer(key: str, extras: Mapping[str, np.ndarray], answer: Sequence[int]) -> dict[str, Any]:
    """The key of an answer's contributions, and how sure the model was of the answer's tokens, in nats."""
    places = list(answer)
    return {
        "contributions": key,
        "answer_logprob": float(extras["logprobs"][places].mean()),
        "answer_min_logprob": float(extras["logprobs"][places].min()),
        "answer_entropy": float(extras["entropies"][places].mean()),
    }


def _is_completion(config: GenerateConfig) -> bool:
    """Whether a request's messages are a plain text to continue, although there is a chat template."""
    completion = (config.extra_body or {}).get("hneurons", {}).get("completion", False)
    if not isinstance(completion, bool):
        raise ValueError(f"extra_body hneurons completion should be true or false, found {completion!r}")
    return completion


def _refuse_unknown(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown {', '.join(unknown)}; it takes {', '.join(known)}")


async def _wait(future: "Future[T]") -> T:
    """Wait for another thread's result without a thread of one's own; cancels it when cancelled."""
    if not future.done():
        done, token, thread = anyio.Event(), anyio.lowlevel.current_token(), threading.get_ident()

        def wake(_: Any) -> None:
            if threading.get_ident() == thread:
                done.set()  # the result came while the callback was being added
            else:
                with contextlib.suppress(RuntimeError):  # the event loop has ended, nobody waits
                    anyio.from_thread.run_sync(done.set, token=token)

        future.add_done_callback(wake)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            future.cancel()
            raise
    return future.result()
