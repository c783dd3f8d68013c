"""One engine per (checkpoint, dtype, device): a thread that owns a torch model, and a queue.

```python
engine = get_engine("smollm2-135m-instruct")
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
captured = engine.capture(CaptureRequest(tokens=ids, regions=[[4, 5]])).result()
```

Requests of any number of callers run in one batch: identical prompts are prefilled once, the
prefix that all prompts share once for the run, rows that finish leave and waiting rows enter at
the next step, and each row has its own seed, sampling options, neurons and alpha. What a row says
does not depend on who shares its batch.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from hneurons_eval.architectures import NeuronLayout, text_config
from hneurons_eval.checkpoints import CheckpointError, fingerprint, load_tokenizer, resolve_model
from hneurons_eval.contributions import REDUCTIONS, Reduce, RegionCapture
from hneurons_eval.intervention import ScalingTable, scaling_hooks
from hneurons_eval.neurons import NeuronSet, check_alpha
from hneurons_eval.prompt_states import PromptStore
from hneurons_eval.row_cache import PromptStates, RowCache, layer_groups, take_states
from hneurons_eval.sampling import SamplingOptions, choose, row_key, uniform

T = TypeVar("T")
GATHER_SECONDS = 0.004
"""An idle engine waits this long for company after the last arrival, and at most ten times that."""
PREFILL_TOKENS = 16_384
CAPTURE_TOKENS = 4_096
"""Padded tokens in one pass."""


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


@dataclass(frozen=True)
class TokenLogprob:
    """A sampled token, the log-probability the model gave it (before temperature), and alternatives."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Generation:
    """A sampled answer.

    Attributes:
        tokens: sampled ids, the end-of-text token included.
        text: decoded, without special tokens and without the stop sequence.
        stop_reason: `stop` (end of text or a stop sequence), `max_tokens`, or `model_length` (context full).
        logprobs: of each sampled token, if asked for.
    """

    tokens: tuple[int, ...]
    text: str
    stop_reason: str
    logprobs: tuple[TokenLogprob, ...] | None


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


@dataclass
class _Row:
    request: GenerateRequest
    future: "Future[Generation]"
    scaling: int
    key: bytes
    limit: int
    limit_reason: str
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    length: int = 0  # tokens whose states are in the cache
    last: int = 0  # the token to feed next


class Engine:
    """A model and the thread that runs it. Use `get_engine`, which shares engines.

    Attributes:
        name: what the model was asked for as.
        fingerprint: identity of the checkpoint's content.
        tokenizer: its fast tokenizer.
        layout: its neurons.
        context: most tokens a sequence may have.
        vocabulary: number of tokens the model has.
        dtype: of the weights.
        threads: torch threads the engine's thread uses.
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        threads: int | None = None,
        max_rows: int = 512,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.source = resolve_model(name)
        self.tokenizer = load_tokenizer(name, revision, trust_remote_code)
        self.fingerprint = fingerprint(name, revision)
        self.max_rows = max_rows
        self._queue: queue.SimpleQueue[_Row | tuple[CaptureRequest, Future[Captured]] | _Call] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._arguments = (revision, dtype, device, threads, trust_remote_code)
        self._thread = threading.Thread(target=self._run, name=f"hneurons-engine-{name}", daemon=True)
        self._thread.start()
        self._ready.result()

    # ---- what callers use, from any thread ----

    def generate(self, request: GenerateRequest) -> "Future[Generation]":
        """Queue an answer to sample.

        Raises:
            ValueError: an empty prompt, a token that the model does not have, an option out of range.
            NeuronSetError: neurons of a model with other layers.
        """
        # Whatever fails in the engine's thread fails for the whole batch, so all is checked here.
        if not request.prompt:
            raise ValueError("the prompt has no tokens; give at least one")
        self._check_tokens(request.prompt)
        self._check_scaling(request.neurons, request.alpha)
        if request.max_tokens < 1:
            raise ValueError(f"max_tokens should be at least 1, found {request.max_tokens}")
        if request.top_logprobs is not None and not 0 <= request.top_logprobs <= self.vocabulary:
            raise ValueError(f"top_logprobs should be from 0 to {self.vocabulary}, found {request.top_logprobs}")
        if "" in request.stop:
            raise ValueError("a stop sequence is empty; leave it out")
        room = self.context - len(request.prompt)
        limit = min(request.max_tokens, room)
        future: Future[Generation] = Future()
        if room < 1:
            future.set_result(Generation((), "", "model_length", () if request.top_logprobs is not None else None))
            return future
        key = row_key(request.seed, request.draw, request.prompt)
        reason = "max_tokens" if limit == request.max_tokens else "model_length"
        self._queue.put(_Row(request, future, 0, key, limit, reason))
        return future

    def capture(self, request: CaptureRequest) -> "Future[Captured]":
        """Queue a teacher-forced pass.

        Raises:
            ValueError: an empty region, a position outside the tokens, a token that the model does not have,
                more tokens than the context holds, an option out of range.
            NeuronSetError: neurons of a model with other layers.
        """
        self._check_tokens(request.tokens)
        self._check_scaling(request.neurons, request.alpha)
        if request.reduce not in REDUCTIONS:
            raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {request.reduce!r}")
        if request.logprobs_from is not None and not 0 <= request.logprobs_from <= len(request.tokens):
            raise ValueError(
                f"logprobs_from should be a position in the {len(request.tokens)} tokens, found {request.logprobs_from}"
            )
        if len(request.tokens) > self.context:
            raise ValueError(f"{len(request.tokens)} tokens to capture, the context holds {self.context}")
        if not request.regions:
            raise ValueError("no regions to capture; give at least one")
        for number, region in enumerate(request.regions):
            if not region:
                raise ValueError(f"region {number} has no tokens; give each region at least one")
            if min(region) < 0 or max(region) >= len(request.tokens):
                raise ValueError(f"region {number} reaches outside the {len(request.tokens)} tokens")
        future: Future[Captured] = Future()
        self._queue.put((request, future))
        return future

    def call(self, function: Callable[[nn.Module], T]) -> "Future[T]":
        """Run a function of the model in the engine's thread, between steps."""
        future: Future[T] = Future()
        self._queue.put(_Call(function, future))
        return future

    def _check_tokens(self, tokens: Sequence[int]) -> None:
        if tokens and not 0 <= min(tokens) <= max(tokens) < self.vocabulary:
            raise ValueError(
                f"token {min(tokens) if min(tokens) < 0 else max(tokens)} is not one of the model's {self.vocabulary}"
            )

    def _check_scaling(self, neurons: NeuronSet | None, alpha: float) -> None:
        check_alpha(alpha)
        if neurons is not None:
            neurons.check(self.layout, self.name)

    # ---- the engine's thread ----

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        waiting: deque[_Row] = deque()
        captures: deque[tuple[CaptureRequest, Future[Captured]]] = deque()
        batch = _Batch(self)
        with torch.inference_mode():
            while True:
                self._receive(waiting, captures, idle=not (batch.rows or waiting or captures))
                if captures:
                    self._capture_batch(captures)
                if waiting or batch.rows:
                    batch.turn(waiting)

    def _receive(
        self,
        waiting: deque[_Row],
        captures: deque[tuple[CaptureRequest, "Future[Captured]"]],
        idle: bool,
    ) -> None:
        """Take what has arrived; where nothing is running, wait for the first request and its company."""
        deadline = 0.0
        while True:
            try:
                if idle and not (waiting or captures):
                    item = self._queue.get()
                    deadline = time.monotonic() + 10 * GATHER_SECONDS
                elif idle and time.monotonic() < deadline and len(waiting) < self.max_rows:
                    item = self._queue.get(timeout=GATHER_SECONDS)
                else:
                    item = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, _Call):
                item.run(self.model)
            elif isinstance(item, _Row):
                waiting.append(item)
            else:
                captures.append(item)

    def _load(self) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        revision, dtype, device, threads, trust_remote_code = self._arguments
        self.device = torch.device(device or _best_device())
        try:
            kind: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
        except AttributeError:
            kind = None
        if kind != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
            raise ValueError(f"dtype should be auto, float32, bfloat16 or float16, found {dtype!r}")
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.source, revision=revision, dtype=kind, trust_remote_code=trust_remote_code
            )
        except (OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"cannot load {self.source}: {reason}") from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model: Any = model.to(self.device).eval()
        self.dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        self.regions = RegionCapture(self.model)
        self.layout: NeuronLayout = self.regions.layout
        text = text_config(model.config)
        self.context: int = getattr(text, "max_position_embeddings", None) or 2**20
        self.window: int | None = getattr(text, "sliding_window", None)
        self.vocabulary: int = model.get_input_embeddings().num_embeddings
        self.end_tokens = _end_tokens(model, self.tokenizer)
        self.threads = threads or _calibrate_threads(self.model, self.regions.places[0].module)
        if self.device.type == "cpu":
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            sample = DynamicCache()
            self.model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=self.device), past_key_values=sample)
        self.sample_cache = sample
        self.cache_groups = layer_groups(sample)

    def _capture_batch(self, captures: deque[tuple[CaptureRequest, "Future[Captured]"]]) -> None:
        """One teacher-forced pass over requests of similar length."""
        reduce = captures[0][0].reduce
        candidates = sorted((c for c in captures if c[0].reduce == reduce), key=lambda c: len(c[0].tokens))
        longest_first = candidates[-1]
        chosen = [longest_first]
        for item in reversed(candidates[:-1]):
            if (len(chosen) + 1) * len(longest_first[0].tokens) > CAPTURE_TOKENS:
                break
            chosen.append(item)
        taken = {id(item) for item in chosen}
        rest = [item for item in captures if id(item) not in taken]
        captures.clear()
        captures.extend(rest)
        chosen = [item for item in chosen if not item[1].cancelled()]
        if not chosen:
            return
        try:
            results = self._teacher_forced([request for request, _ in chosen], reduce)
        except BaseException as error:
            for _, future in chosen:
                _settle(future, error=error)
            return
        for (_, future), result in zip(chosen, results, strict=True):
            _settle(future, result)

    def _teacher_forced(self, requests: list[CaptureRequest], reduce: Reduce) -> list[Captured]:
        lengths = [len(request.tokens) for request in requests]
        width, count = max(lengths), max(len(request.regions) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.long)
        mask = torch.zeros(len(requests), width, dtype=torch.bool)
        # A request with fewer regions than others has its first one again; what is not asked for is dropped.
        regions = torch.zeros(len(requests), count, width, dtype=torch.bool)
        for row, request in enumerate(requests):
            pad = width - lengths[row]
            ids[row, pad:] = torch.tensor(request.tokens)
            mask[row, pad:] = True
            for number in range(count):
                chosen = request.regions[number] if number < len(request.regions) else request.regions[0]
                regions[row, number, torch.tensor(chosen) + pad] = True
        asked = [length - request.logprobs_from for request, length in zip(requests, lengths, strict=True)
                 if request.logprobs_from is not None]  # fmt: skip
        table = ScalingTable(self.layout)
        scaling = table.rows([table.entry(request.neurons, request.alpha) for request in requests])
        arguments = {
            "input_ids": ids.to(self.device),
            "attention_mask": mask.long().to(self.device),
            "position_ids": (mask.long().cumsum(-1) - 1).clamp_min(0).to(self.device),
            "use_cache": False,
        }
        with scaling_hooks(self.regions.places, scaling), self.regions.during(regions, reduce) as values:
            if asked:
                keep = min(max(asked) + 1, width)
                logits = self.model(**arguments, logits_to_keep=keep).logits.float()
            else:
                logits, keep = None, 0
                self.model.get_decoder()(**arguments)
        results = []
        for row, request in enumerate(requests):
            logprobs = None
            if request.logprobs_from is not None and logits is not None:
                # The first token of a sequence has no distribution before it.
                first = max(request.logprobs_from, 1)
                targets = torch.tensor(request.tokens[first:], device=logits.device)
                span = slice(keep - len(targets) - 1, keep - 1)
                own = logits[row, span].log_softmax(dim=-1)
                logprobs = own.gather(-1, targets[:, None])[:, 0].cpu().numpy()
            results.append(Captured(values[row, : len(request.regions)].numpy().copy(), logprobs))
        return results


@dataclass
class _Call:
    function: Callable[[nn.Module], Any]
    future: "Future[Any]"

    def run(self, model: nn.Module) -> None:
        try:
            _settle(self.future, self.function(model))
        except BaseException as error:
            _settle(self.future, error=error)


class _Batch:
    """The rows that are being decoded."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rows: list[_Row] = []
        self._cache = RowCache(engine.sample_cache)
        self._table = ScalingTable(engine.layout)
        self._store = PromptStore(_spare_bytes(engine.device) // 8)
        # Columns of 32-bit or 16-bit states that all rows of the batch may fill together.
        per_token = sum(layer.keys[0, :, :1].nbytes + layer.values[0, :, :1].nbytes  # pyright: ignore
                        for layer in engine.sample_cache.layers)  # fmt: skip
        self._most_columns = max(engine.context, _spare_bytes(engine.device) // 4 // per_token)

    def turn(self, waiting: deque[_Row]) -> None:
        """Admit what fits, then sample one token for every row."""
        try:
            self._admit(waiting)
            if self.rows:
                self._step()
        except BaseException as error:
            for row in self.rows:
                _settle(row.future, error=error)
            self.rows = []
            self._cache = RowCache(self.engine.sample_cache)

    def _admit(self, waiting: deque[_Row]) -> None:
        admitted: list[_Row] = []
        longest = max((len(row.request.prompt) + row.limit for row in self.rows), default=0)
        while waiting and len(self.rows) + len(admitted) < self.engine.max_rows:
            row = waiting[0]
            wider = max(longest, len(row.request.prompt) + row.limit)
            count = len(self.rows) + len(admitted) + 1
            if count > 1 and count * wider > self._most_columns:
                break
            waiting.popleft()
            if row.future.cancelled():
                continue
            longest = wider
            admitted.append(row)
        if not admitted:
            return
        try:
            for row in admitted:
                row.scaling = self._table.entry(row.request.neurons, row.request.alpha)
                # The last token of the prompt is fed by the first step, so prefilling needs no logits.
                row.length, row.last = len(row.request.prompt) - 1, row.request.prompt[-1]
            states = self._prefill(admitted)
            self._cache.admit(states, [row.length for row in admitted])
        except BaseException as error:
            for row in admitted:
                _settle(row.future, error=error)
            raise
        self.rows.extend(admitted)

    def _prefill(self, rows: list[_Row]) -> list[list[PromptStates]]:
        """States of each row's prompt but its last token, as stretches, each distinct one computed once."""
        keys = [(row.request.prompt[:-1], row.scaling) for row in rows]
        wanted = dict.fromkeys(keys)
        found = {key: stretches for key in wanted if (stretches := self._store.get(key)) is not None}
        missing = sorted((key for key in wanted if key not in found), key=lambda key: len(key[0]))
        prefixes = self._prefixes(missing)
        start = 0
        while start < len(missing):
            end = start + 1
            while end < len(missing) and (end + 1 - start) * len(missing[end][0]) <= PREFILL_TOKENS:
                end += 1
            part = missing[start:end]
            shared = [prefixes.get(scaling) for _, scaling in part]
            for key, prefix, states in zip(part, shared, self._forward(part, shared), strict=True):
                stretches = [states] if prefix is None else [prefix[1], states]
                found[key] = stretches
                self._store.put(key, stretches, own=states)
            start = end
        return [found[key] for key in keys]

    def _prefixes(self, missing: list[tuple[tuple[int, ...], int]]) -> dict[int, tuple[int, PromptStates]]:
        """For each scaling, length and states of the prefix that the run's prompts share."""
        longest = max((len(prompt) for prompt, _ in missing), default=0)
        if self.engine.window is not None and longest >= self.engine.window:
            # Padding between prefix and rest would shift what a sliding window covers.
            return {}
        prefix = self._store.shared_prefix([prompt for prompt, _ in missing])
        if not prefix:
            return {}
        scalings = list(dict.fromkeys(scaling for _, scaling in missing))
        lacking = [(prefix, scaling) for scaling in scalings if self._store.prefix_states(scaling) is None]
        for (_, scaling), states in zip(lacking, self._forward(lacking, [None] * len(lacking)), strict=True):
            self._store.set_prefix_states(scaling, states)
        return {
            scaling: (len(prefix), states)
            for scaling in scalings
            if (states := self._store.prefix_states(scaling)) is not None
        }

    def _forward(
        self, part: list[tuple[tuple[int, ...], int]], shared: Sequence[tuple[int, PromptStates] | None]
    ) -> list[PromptStates]:
        """States of token sequences behind an optional shared prefix (for all or for none of them)."""
        engine = self.engine
        if not part:
            return []
        skip = shared[0][0] if shared[0] is not None else 0
        lengths = [len(prompt) - skip for prompt, _ in part]
        width = max(lengths)
        if width == 0:
            empty = take_states(engine.sample_cache, engine.cache_groups)
            return [[(k[:, 0, :, :0], v[:, 0, :, :0]) for k, v in empty] for _ in part]
        ids = torch.zeros(len(part), width, dtype=torch.long)
        mask = torch.zeros(len(part), skip + width, dtype=torch.long)
        mask[:, :skip] = 1
        for row, ((prompt, _), length) in enumerate(zip(part, lengths, strict=True)):
            ids[row, width - length :] = torch.tensor(prompt[skip:], dtype=torch.long)
            mask[row, skip + width - length :] = 1
        positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, skip:]
        cache = DynamicCache()
        if skip:
            self._fill(cache, [prefix[1] for prefix in shared if prefix is not None])
        scaling = self._table.rows([scaling for _, scaling in part])
        with scaling_hooks(engine.regions.places, scaling):
            engine.model.get_decoder()(
                input_ids=ids.to(engine.device),
                attention_mask=mask.to(engine.device),
                position_ids=positions.to(engine.device),
                past_key_values=cache,
                use_cache=True,
            )
        states = take_states(cache, engine.cache_groups)
        last = skip + width
        return [
            [
                (k[:, row, :, last - length : last].clone(), v[:, row, :, last - length : last].clone())
                for k, v in states
            ]
            for row, length in enumerate(lengths)
        ]

    def _fill(self, cache: DynamicCache, prefixes: list[PromptStates]) -> None:
        """Put each row's prefix into a fresh cache."""
        same = all(prefix is prefixes[0] for prefix in prefixes)
        for group, layers in enumerate(self.engine.cache_groups):
            for within, layer in enumerate(layers):
                pair = []
                for side in (0, 1):
                    if same:
                        one = prefixes[0][group][side][within]
                        pair.append(one.expand(len(prefixes), *one.shape))
                    else:
                        pair.append(torch.stack([prefix[group][side][within] for prefix in prefixes]))
                cache.update(pair[0], pair[1], layer)

    def _step(self) -> None:
        engine, cache, rows = self.engine, self._cache, self.rows
        cache.ensure_column()
        scaling = self._table.rows([row.scaling for row in rows])
        with scaling_hooks(engine.regions.places, scaling):
            output = engine.model(
                input_ids=torch.tensor([[row.last] for row in rows], device=engine.device),
                attention_mask=cache.mask().long().to(engine.device),
                position_ids=torch.tensor([[row.length] for row in rows], device=engine.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache.advance()
        logits = output.logits[:, -1]
        uniforms = [uniform(row.key, len(row.tokens)) if row.request.sampling.temperature else 0.0 for row in rows]
        tokens = choose(logits, [row.request.sampling for row in rows], uniforms)
        self._note_logprobs(logits, tokens)
        gone: list[int] = []
        for number, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
            row.tokens.append(token)
            row.length += 1
            row.last = token
            finished = self._finished(row)
            if finished is not None or row.future.cancelled():
                gone.append(number)
            if finished is not None:
                logprobs = tuple(row.logprobs) if row.request.top_logprobs is not None else None
                _settle(row.future, Generation(tuple(row.tokens), finished[0], finished[1], logprobs))
        if gone:
            order = cache.remove(gone)
            self.rows = [rows[old] for old in order]

    def _note_logprobs(self, logits: Tensor, tokens: Tensor) -> None:
        asking = [number for number, row in enumerate(self.rows) if row.request.top_logprobs is not None]
        if not asking:
            return
        most = max(self.rows[number].request.top_logprobs or 0 for number in asking)
        chosen = logits if len(asking) == len(self.rows) else logits[torch.tensor(asking, device=logits.device)]
        own = tokens if len(asking) == len(self.rows) else tokens[torch.tensor(asking, device=logits.device)]
        chosen = chosen.float()  # in half precision the normaliser would be off by a hundredth
        normaliser = chosen.logsumexp(dim=-1)
        values = (chosen.gather(-1, own[:, None])[:, 0] - normaliser).tolist()
        top = chosen.topk(most, dim=-1) if most else None
        for place, number in enumerate(asking):
            row = self.rows[number]
            best: tuple[tuple[int, float], ...] = ()
            if top is not None:
                count = row.request.top_logprobs or 0
                levels = (top.values[place, :count] - normaliser[place]).tolist()
                best = tuple(zip(top.indices[place, :count].tolist(), levels, strict=True))
            row.logprobs.append(TokenLogprob(int(own[place]), values[place], best))

    def _finished(self, row: _Row) -> tuple[str, str] | None:
        """Text and stop reason of a row that is done, or None."""
        tokenizer = self.engine.tokenizer
        ended = row.last in self.engine.end_tokens
        if row.request.stop:
            text = _decode(tokenizer, row.tokens)
            cuts = [at for stop in row.request.stop if (at := text.find(stop)) >= 0]
            if cuts:
                return text[: min(cuts)], "stop"
        if ended:
            return _decode(tokenizer, row.tokens), "stop"
        if len(row.tokens) >= row.limit:
            return _decode(tokenizer, row.tokens), row.limit_reason
        return None


def _decode(tokenizer: Any, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _settle(future: "Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass  # cancelled by the caller meanwhile


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends = model.generation_config.eos_token_id
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _spare_bytes(device: torch.device) -> int:
    """Memory that is free for keys and values."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def _calibrate_threads(model: nn.Module, linear: nn.Module) -> int:
    """The number of torch threads with which this model's matrix products run fastest here."""
    import os

    if next(model.parameters()).device.type != "cpu":
        return torch.get_num_threads()
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    weight: Tensor = linear.weight  # pyright: ignore[reportAssignmentType]
    x = torch.ones(128, weight.shape[1], dtype=weight.dtype)
    options = sorted({1, 2, 4, 8, 16, 32, most // 2, most} & set(range(1, most + 1)))
    before, timings = torch.get_num_threads(), {}
    try:
        for threads in options:
            torch.set_num_threads(threads)
            runs = []
            with torch.inference_mode():
                for _ in range(8):
                    begin = time.perf_counter()
                    for _ in range(4):
                        nn.functional.linear(x, weight)
                    runs.append(time.perf_counter() - begin)
            timings[threads] = min(runs)  # the rest is other programs' doing
    finally:
        torch.set_num_threads(before)
    return min(timings, key=lambda threads: timings[threads])


_ENGINES: dict[tuple[Any, ...], Engine] = {}
_ENGINES_LOCK = threading.Lock()


def get_engine(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> Engine:
    """The engine of a checkpoint, shared by everybody in the process who asks for the same one.

    Args:
        name: as `resolve_model` takes it.
        revision: of a Hub id.
        dtype: `auto` (the checkpoint's own), `float32`, `bfloat16` or `float16`.
        device: a torch device; default CUDA, else MPS, else CPU.
        threads: torch threads on a CPU; default by a short calibration.
        trust_remote_code: run code that comes with the checkpoint. Off unless you trust it.

    Raises:
        CheckpointError: the model cannot be found or read.
        UnsupportedModelError: its architecture is not supported.
        ValueError: an unknown dtype.
    """
    key = (resolve_model(name), revision, dtype, device)
    with _ENGINES_LOCK:
        if key not in _ENGINES:
            _ENGINES[key] = Engine(
                name,
                revision=revision,
                dtype=dtype,
                device=device,
                threads=threads,
                trust_remote_code=trust_remote_code,
            )
        return _ENGINES[key]
