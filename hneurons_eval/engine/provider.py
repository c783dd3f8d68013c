"""The Inspect model API over an engine: the provider base of `hneurons/<model>` and `hneurons-vllm/<model>`.

```
inspect eval any_task --model hneurons/smollm2-135m-instruct -M neurons=neurons.json -M alpha=0
```

`options.py` says what a request can ask for in `extra_body={"hneurons": {...}}`.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

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

from hneurons_eval.artifacts.paths import content_key
from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.engine.futures import wait
from hneurons_eval.engine.options import CaptureSpec, RequestOptions
from hneurons_eval.engine.prompts import PromptFormat
from hneurons_eval.engine.requests import (
    AnswerCapture,
    CapturedAnswer,
    CaptureRequest,
    GenerateRequest,
    Generation,
    NeuronEngine,
)
from hneurons_eval.engine.risk import GivenAnswer, RiskSpec, risk_probe
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.engine.stored_answer import StoredAnswer
from hneurons_eval.judging.spans import token_positions
from hneurons_eval.models.scaling import Intervention
from hneurons_eval.util.errors import usage_errors

E = TypeVar("E", bound=NeuronEngine)
DEFAULT_MAX_TOKENS = 2048
MAX_AHEAD = 100_000
"""Samples that are kept until they are asked for."""


class NeuronsAPI(ModelAPI, Generic[E]):
    """The provider of an engine, which the subclass starts.

    `start` starts the engine, or finds the running one, after all other checks; the other arguments are those of
    `HNeuronsAPI`. Raises UsageError: alpha without neurons; neurons or a probe that cannot be read or do not fit; what
    `start` refuses.
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
                    "alpha is given without neurons; add -M neurons=FILE (a neuron file or probe directory)"
                )
            intervention = Intervention(
                None if neurons is None else neurons_to_scale(neurons, sign),
                cast(float, 1.0 if alpha is None else alpha),
            )
            self.defaults = RequestOptions(
                intervention, risk=None if risk is None else RiskSpec(risk_probe(str(risk)).directory)
            )
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
            self.engine = start()
            self.defaults.check(self.engine.layout, model_name)
        # Inspect's response cache knows a model by its name and base_url alone. Without the intervention
        # there, it would give alpha=0 the text of alpha=1.
        identity: dict[str, Any] = {"revision": revision, "dtype": None if dtype == "auto" else dtype}
        digest, factor = intervention.key
        if digest is not None:
            identity |= {"neurons": digest[:16], "alpha": factor}
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
        question = next((message.text for message in reversed(input) if message.role == "user"), "")
        options = RequestOptions.parse(config.extra_body, self.defaults, question)
        options.check(self.engine.layout, self.model_name)
        capture, risk, text = options.capture, options.risk, options.loglikelihood
        prompt = self.prompts.encode(input, completion=options.completion)
        if text is not None:
            found = await self._loglikelihood(prompt, text, options.intervention)
            return self._given(text, found, len(prompt), found["tokens"])
        if capture is not None and capture.response is not None:
            captured = await self._capture(prompt, capture.response, capture, options.intervention)
            return self._given(capture.response, captured, len(prompt), captured["response_tokens"])
        if risk is not None and risk.response is not None:
            judged = await self._risk(prompt, risk.response, risk)
            return self._given(risk.response, {"risk": judged}, len(prompt), judged["response_tokens"])
        requests = self._requests(prompt, config, options.intervention)
        # Scaled neurons have other contributions by that alone, and a request has one capture.
        meanwhile = risk is not None and capture is None and options.intervention.is_baseline
        if capture is not None or meanwhile:
            # Of several choices, the first one's. Its log-probabilities come along.
            answer = None if risk is None else risk_probe(risk.probe).capture(risk)
            if capture is not None:
                answer = AnswerCapture(capture.find_span, capture.reduce, other=True)
            requests[0] = replace(requests[0], capture=answer, top_logprobs=requests[0].top_logprobs or 0)
        futures = self._sample(requests, options.ahead)
        try:
            generations = [await wait(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()  # where one failed or the caller has gone, nobody waits for the others
        output = self._output(generations, len(prompt), config)
        found: dict[str, Any] = {}
        if capture is not None:
            found = await self._store_captured(prompt, generations[0], capture, options.intervention)
        if risk is not None and meanwhile:
            found["risk"] = risk_probe(risk.probe).of_sampled(generations[0], risk, self.engine)
        elif risk is not None:
            found["risk"] = await self._risk(prompt, generations[0].text, risk)
        if found:
            output.metadata = {"hneurons": found}
        return output

    async def _loglikelihood(
        self, prompt: tuple[int, ...], response: str, intervention: Intervention
    ) -> dict[str, Any]:
        """The log-probability of a text as the answer, by one teacher-forced pass."""
        tokens = tuple(self.engine.tokenizer(response, add_special_tokens=False)["input_ids"])
        # A pass captures at least one region; nobody keeps it.
        region = tuple(range(len(prompt), len(prompt) + len(tokens)))
        request = CaptureRequest(prompt + tokens, (region,), response_from=len(prompt), intervention=intervention)
        captured = await wait(self.engine.capture(request))
        assert captured.logprobs is not None
        return {"loglikelihood": float(captured.logprobs.astype(np.float64).sum()), "tokens": len(tokens)}

    async def _risk(self, prompt: tuple[int, ...], response: str, spec: RiskSpec) -> dict[str, Any]:
        """The risk of a text as the answer, by the baseline model's neurons."""
        given = GivenAnswer(risk_probe(spec.probe), spec, self.engine, prompt, response)
        return given.found if given.request is None else given.judged(await wait(self.engine.capture(given.request)))

    async def _capture(
        self, prompt: tuple[int, ...], response: str, spec: CaptureSpec, intervention: Intervention
    ) -> dict[str, Any]:
        """Contributions of a given answer, stored in the artifacts; the record for the output's metadata."""
        encoded = self.engine.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
        tokens = tuple(encoded["input_ids"])
        span = spec.find_span(response)
        numbers = () if span is None else tuple(token_positions(encoded["offset_mapping"], span))
        answer = StoredAnswer(self.engine, self.model_name, spec, intervention, prompt, tokens, response, span, numbers)
        if not numbers:
            return answer.described()
        extras = await answer.find()
        if extras is None:
            captured = await wait(self.engine.capture(answer.request))
            assert captured.logprobs is not None
            assert captured.entropies is not None
            extras = await answer.add(captured.contributions, captured.logprobs, captured.entropies, captured.hidden)
        return answer.described(extras)

    async def _store_captured(
        self, prompt: tuple[int, ...], generation: Generation, spec: CaptureSpec, intervention: Intervention
    ) -> dict[str, Any]:
        """The same of an answer that was captured while it was generated."""
        found = generation.captured or CapturedAnswer(0, None, (), None)  # nothing was sampled
        tokens = generation.tokens[: found.response_tokens]
        answer = StoredAnswer(
            self.engine,
            self.model_name,
            spec,
            intervention,
            prompt,
            tokens,
            generation.text,
            found.span,
            found.answer,
        )
        if found.contributions is None or generation.logprobs is None:
            return answer.described()
        sampled = generation.logprobs[: len(tokens)]
        logprobs = np.array([entry.logprob for entry in sampled], np.float32)
        entropies = np.array([entry.entropy for entry in sampled], np.float32)
        return answer.described(await answer.add(found.contributions, logprobs, entropies, found.hidden))

    def _sample(self, requests: list[GenerateRequest], ahead: Sequence[int]) -> "list[Future[Generation]]":
        """Queue requests, and with a single one the samples that will be asked for next."""
        futures = [self._ahead.pop(request, None) or self.engine.generate(request) for request in requests]
        if len(requests) == 1 and requests[0].capture is None:
            for request in (replace(requests[0], seed=seed) for seed in ahead):
                if request not in self._ahead:
                    self._ahead[request] = self.engine.generate(request)
            while len(self._ahead) > MAX_AHEAD:
                self._ahead.popitem(last=False)[1].cancel()
        return futures

    def _requests(
        self, prompt: tuple[int, ...], config: GenerateConfig, intervention: Intervention
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
        samples = config.num_choices or 1
        if config.seed is not None:
            seed, first = config.seed, 0
        else:
            # Without a seed, asking the same again is a new sample; the first time is always the same one.
            key = content_key(prompt=prompt, sampling=str(sampling))
            seed, first = 0, self._unseeded[key]
            self._unseeded[key] += samples
        top = (config.top_logprobs or 0) if config.logprobs or config.top_logprobs else None
        return [
            GenerateRequest(
                prompt,
                config.max_tokens or DEFAULT_MAX_TOKENS,
                sampling,
                seed,
                first + number,
                tuple(config.stop_seqs or ()),
                top,
                intervention,
            )
            for number in range(samples)
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
