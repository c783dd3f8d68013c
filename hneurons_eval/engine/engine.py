"""The transformers engine: a thread that owns a model, and a queue of requests. One per checkpoint and options.

```python
engine = get_engine("smollm2-135m-instruct")
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
captured = engine.capture(CaptureRequest(tokens=ids, regions=[[4, 5]])).result()
```

Requests of any number of callers run in one batch, each with its own seed, sampling options, neurons and alpha. The
text of a sample depends on the rest of the batch through rounding only (see sampling.py), which is very rare in float32
and common in half precision (docs/performance.md). A `deterministic` engine rounds alike whatever else runs.

Rows are scheduled by the memory that was free when the model had been loaded. After a device error that cannot be
recovered from, the engine has stopped, and every request fails at once with that error.
"""

import atexit
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from hneurons_eval.engine.answer_capture import TeacherForcing
from hneurons_eval.engine.decode_loop import Batch
from hneurons_eval.engine.device import best_device, calibrate_threads, spare_bytes
from hneurons_eval.engine.device_errors import is_unrecoverable
from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.offsets import end_tokens
from hneurons_eval.engine.prefill import DecodingModel
from hneurons_eval.engine.registry import shared_engine
from hneurons_eval.engine.requests import Captured, CaptureRequest, GenerateRequest, Generation, NeuronEngine
from hneurons_eval.engine.scheduler import PendingSample
from hneurons_eval.models.architecture import text_config
from hneurons_eval.models.checkpoints import fingerprint, load_model, load_tokenizer, resolve_model
from hneurons_eval.models.contributions import RegionCapture
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError

T = TypeVar("T")
GATHER_SECONDS = 0.004
"""Batching window: how long an idle engine waits for more requests after each; at most ten times that in all."""
CAPTURE_TOKENS = 4_096
"""Padded tokens in one teacher-forced pass."""


class Engine(NeuronEngine):
    """A model and the thread that runs it. Use `get_engine`, which shares engines.

    Beside what `NeuronEngine` has: `threads`, torch threads of the engine's thread; `deterministic`, whether each
    request is computed alone; `decoding`, the model with what decoding needs to know of it.
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
        deterministic: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.source = resolve_model(name)
        self.tokenizer = load_tokenizer(name, revision, trust_remote_code)
        self.fingerprint = fingerprint(name, revision)
        self.max_rows = max_rows
        self.deterministic = deterministic
        self._queue: queue.SimpleQueue[PendingSample | _Capture | _Call] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._arguments = (revision, dtype, device, threads, trust_remote_code)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"hneurons-engine-{name}", daemon=True)
        self._thread.start()
        self._ready.result()

        # A thread that is still inside torch when the interpreter goes would bring the process down with it.
        atexit.register(self._close)

    def _close(self) -> None:
        self._closing.set()
        self._queue.put(_Call(lambda model: None, Future()))  # wakes the thread up
        self._thread.join(timeout=60)

    # ---- for callers, from any thread ----

    def _queue_generation(
        self, request: GenerateRequest, future: "Future[Generation]", limit: int, limit_reason: str
    ) -> None:
        self._queue.put(PendingSample(request, future, limit, limit_reason))

    def _queue_capture(self, request: CaptureRequest, future: "Future[Captured]") -> None:
        self._queue.put(_Capture(request, future))

    def call(self, function: Callable[[nn.Module], T]) -> "Future[T]":
        """Run a function of the model in the engine's thread, between steps."""
        future: Future[T] = Future()
        self._queue.put(_Call(function, future))
        return future

    # ---- the engine's thread ----

    def _run(self) -> None:
        try:
            batch, teacher = self._load()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        captures: deque[_Capture] = deque()
        try:
            with torch.inference_mode():
                while not self._closing.is_set():
                    self._receive(batch, captures)
                    if captures:
                        self._capture_some(teacher, captures)
                    if batch.busy:
                        batch.step()
        except BaseException as error:
            self._refuse(error, [*batch.samples, *captures])

    def _refuse(self, error: BaseException, waiting: "list[PendingSample | _Capture]") -> None:
        """Fail all requests that wait and all that come, after an error that leaves no device to compute with."""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        items: list[PendingSample | _Capture | _Call] = [*waiting]
        while not self._closing.is_set():
            for item in items:
                stopped = RuntimeError(f"the engine of {self.name} has stopped: {reason}; start a new process")
                stopped.__cause__ = error
                resolve(item.future, error=stopped)
            items = [self._queue.get()]

    def _receive(self, batch: Batch, captures: "deque[_Capture]") -> None:
        """Take the requests that have come; an idle engine waits for the first one and its batching window."""
        idle, deadline = not (batch.sequences or captures), 0.0
        while True:
            try:
                if idle and not batch.busy and not captures:
                    item = self._queue.get()
                    deadline = time.monotonic() + 10 * GATHER_SECONDS
                elif idle and time.monotonic() < deadline and len(batch.waiting) < self.max_rows:
                    item = self._queue.get(timeout=GATHER_SECONDS)
                else:
                    item = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, _Call):
                item.run(self.model)
                if self._closing.is_set():
                    return
            elif isinstance(item, PendingSample):
                batch.add(item)
            else:
                captures.append(item)

    def _load(self) -> tuple[Batch, TeacherForcing]:
        revision, dtype, device, threads, trust_remote_code = self._arguments
        self.model: Any = load_model(
            self.source, revision, dtype, device=device or best_device(), trust_remote_code=trust_remote_code
        )
        self.generation_config = self.model.generation_config
        self.device: torch.device = self.model.get_input_embeddings().weight.device
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self.regions = RegionCapture(self.model)
        self.layout: NeuronLayout = self.regions.layout
        text = text_config(self.model.config)
        self.context: int = getattr(text, "max_position_embeddings", None) or 2**20
        self.vocabulary: int = self.model.get_input_embeddings().num_embeddings
        self.threads = threads or calibrate_threads(self.model, self.layout.widths[0])
        if self.device.type == "cpu":
            torch.set_num_threads(self.threads)
        self.decoding = DecodingModel(
            model=self.model,
            tokenizer=self.tokenizer,
            capture=self.regions,
            sample_cache=_sample_cache(self.model, self.device),
            end_tokens=end_tokens(self.generation_config, self.tokenizer),
            window=getattr(text, "sliding_window", None),
            device=self.device,
        )
        spare = spare_bytes(self.device)
        batch = Batch(
            self.decoding,
            max_rows=self.max_rows,
            max_bytes=spare // 4,
            prefix_bytes=spare // 8,
            deterministic=self.deterministic,
        )
        return batch, TeacherForcing(self.decoding, deterministic=self.deterministic)

    def _capture_some(self, teacher: TeacherForcing, captures: "deque[_Capture]") -> None:
        """One teacher-forced pass over the oldest request and those most like it in length."""
        oldest = captures[0].request
        alike = sorted(
            (item for item in captures if item.request.reduce == oldest.reduce),
            key=lambda item: abs(len(item.request.tokens) - len(oldest.tokens)),
        )
        chosen, longest = alike[:1], len(oldest.tokens)
        for item in alike[1:] if not self.deterministic else ():
            longest = max(longest, len(item.request.tokens))
            if (len(chosen) + 1) * longest > CAPTURE_TOKENS:
                break
            chosen.append(item)
        taken = {id(item) for item in chosen}
        rest = [item for item in captures if id(item) not in taken]
        captures.clear()
        captures.extend(rest)
        chosen = [item for item in chosen if not item.future.cancelled()]
        if not chosen:
            return
        try:
            results = teacher([item.request for item in chosen])
        except BaseException as error:
            if is_unrecoverable(error):
                captures.extend(chosen)
                raise
            for item in chosen:
                resolve(item.future, error=error)
            return
        for item, result in zip(chosen, results, strict=True):
            resolve(item.future, result)


@dataclass(frozen=True)
class _Capture:
    request: CaptureRequest
    future: "Future[Captured]"


@dataclass
class _Call:
    function: Callable[[nn.Module], Any]
    future: "Future[Any]"

    def run(self, model: nn.Module) -> None:
        try:
            resolve(self.future, self.function(model))
        except BaseException as error:
            resolve(self.future, error=error)
            if is_unrecoverable(error):
                raise


def _sample_cache(model: Any, device: torch.device) -> DynamicCache:
    """The cache that a pass leaves, for its shapes; refuses one without keys and values of every token and layer."""
    cache = DynamicCache()
    kind = type(model).__name__
    try:
        with torch.inference_mode():
            ids = torch.zeros(1, 2, dtype=torch.long, device=device)
            model(input_ids=ids, past_key_values=cache)
        whole = len(cache.layers) > 0 and all(layer.keys.shape[-2] == 2 for layer in cache.layers)  # pyright: ignore
    except (AttributeError, ValueError, TypeError) as error:
        raise UnsupportedModelError(f"{kind} cannot be decoded here: its cache is of another kind ({error})") from error
    if not whole:
        raise UnsupportedModelError(
            f"{kind} cannot be decoded here: it should keep keys and values of every token in every layer; "
            "contributions() and scaled() work without an engine"
        )
    return cache


def get_engine(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    threads: int | None = None,
    deterministic: bool = False,
    trust_remote_code: bool = False,
) -> Engine:
    """The engine of a checkpoint, shared by everybody in the process who asks for the same one.

    Args:
        name: as `resolve_model` takes it.
        revision: of a Hub id.
        dtype: `auto` (the checkpoint's own), `float32`, `bfloat16` or `float16`.
        device: a torch device, or `auto` to spread the model over all there are; default CUDA, else MPS, else CPU.
        threads: torch threads on a CPU; default by a short calibration.
        deterministic: compute each request alone, so that its text is bit for bit the same whatever else runs, in
            half precision too. Slow.
        trust_remote_code: run code that comes with the checkpoint. Off unless you trust it.

    Raises:
        CheckpointError: the model cannot be found or read.
        UnsupportedModelError: its architecture is not supported.
        ValueError: an unknown dtype.
    """
    return shared_engine(
        Engine,
        name,
        revision=revision,
        dtype=dtype,
        device=device,
        threads=threads,
        deterministic=deterministic,
        trust_remote_code=trust_remote_code,
    )
