"""An engine on vLLM in this process: one thread that owns vLLM, a queue, and captures fetched when a request ends.

```python
engine = get_vllm_engine("smollm2-135m-instruct", options={"tensor_parallel_size": 1})
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
captured = engine.capture(CaptureRequest(tokens=ids, regions=[[4, 5]])).result()
```

The interface is that of `engine.Engine`. Requests join vLLM's running batch as they come. vLLM's prefix cache is salted
with neurons and alpha; requests that capture do not read it.
"""

import atexit
import importlib.util
import json
import os
import queue
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from safetensors.numpy import load

from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.registry import shared_engine
from hneurons_eval.engine.requests import Captured, CaptureRequest
from hneurons_eval.models.checkpoints import check_dtype
from hneurons_eval.models.layout import UnsupportedModelError
from hneurons_eval.util.memory import available
from hneurons_eval.vllm.base import BaseEngine
from hneurons_eval.vllm.plugin import WORKER
from hneurons_eval.vllm.request_extras import EXTRAS_KEY
from hneurons_eval.vllm.requests import Completion, Fetch, PendingCapture, PendingRequest, join_ranks

OWN_ARGS = ("model", "tokenizer", "dtype", "revision", "trust_remote_code", "enforce_eager", "worker_extension_cls")
"""vLLM's engine args that are set here."""
UNSUPPORTED_ARGS = ("speculative_config", "enable_lora", "quantization", "pipeline_parallel_size", "data_parallel_size")
"""Engine args with which rows, weights or layers are not where the hooks expect them."""
CPU_CACHE_SHARE, MAX_CPU_CACHE = 0.25, 4 << 30


class VLLMEngine(BaseEngine):
    """A model on vLLM in this process and its workers. Use `get_vllm_engine`, which shares engines."""

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise UnsupportedModelError(
                "hneurons-vllm/ needs vLLM: pip install 'hneurons-eval[vllm]' (a CPU: see docs/vllm.md), or the URL "
                "of a vLLM server: --model-base-url"
            )
        check_dtype(dtype)
        self._options = dict(options or {})
        self._check_options()
        super().__init__(name, revision, trust_remote_code)
        # vLLM's own "auto" is half precision, even for a float32 checkpoint.
        self.dtype = self.stored_dtype if dtype == "auto" else dtype
        self._arguments = (revision, trust_remote_code)
        self._queue: queue.SimpleQueue[PendingRequest | None] = queue.SimpleQueue()
        self._active: dict[str, PendingRequest] = {}
        self._ready: Future[None] = Future()
        self._accepting = threading.Lock()  # so that nothing is queued that nobody will take
        self._closing = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"hneurons-vllm-{name}", daemon=True)
        self._thread.start()
        self._ready.result()
        atexit.register(self.close)

    def close(self) -> None:
        """End the thread and vLLM's processes; waiting requests fail."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout=60)

    def _check_options(self) -> None:
        from vllm import EngineArgs  # pyright: ignore

        unknown = sorted(set(self._options) - set(EngineArgs.__dataclass_fields__) | set(self._options) & set(OWN_ARGS))
        if own := [name for name in unknown if name in OWN_ARGS]:
            raise ValueError(f"hneurons-vllm/ sets vLLM's {', '.join(own)} itself; leave it out")
        if unknown:
            raise ValueError(
                f"unknown model args {', '.join(unknown)}; there are neurons, alpha, dtype, revision, "
                "trust_remote_code and vLLM's engine args, such as tensor_parallel_size or max_model_len"
            )
        for name in UNSUPPORTED_ARGS:
            if (value := self._options.get(name)) not in (None, False, 1):
                raise ValueError(
                    f"{name}={value} is not covered by hneurons-vllm/: tokens or layers would be elsewhere than its "
                    "hooks expect; leave it out"
                )

    def _submit(self, pending: PendingRequest) -> None:
        with self._accepting:
            if self._closing.is_set():
                raise RuntimeError("vLLM has stopped; start a new process") from self._failed
            self._queue.put(pending)

    # ---- the engine's thread ----

    def _run(self) -> None:
        try:
            self._start()
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            while not self._closing.is_set():
                self._receive()
                if self._active:
                    self._step()
        except BaseException as error:
            self._failed = error
        self._stop()

    def _start(self) -> None:
        revision, trust_remote_code = self._arguments
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # the hooks read the rows of V1
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # this process has threads
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        options = self._options
        if current_platform.is_cpu():
            # A separate scheduler process would take one core from the model.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            if "kv_cache_memory_bytes" not in options and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
                spare = int(CPU_CACHE_SHARE * available())
                options = options | {"kv_cache_memory_bytes": min(MAX_CPU_CACHE, spare)}
        from vllm import EngineArgs  # pyright: ignore
        from vllm.v1.engine.llm_engine import LLMEngine  # pyright: ignore[reportMissingImports]

        arguments = EngineArgs(
            model=self.source,
            dtype=self.dtype,  # pyright: ignore[reportArgumentType]
            revision=revision,
            trust_remote_code=trust_remote_code,
            enforce_eager=True,  # a compiled graph would bypass the hooks
            worker_extension_cls=WORKER,
            **({"max_logprobs": -1} | options),
        )
        with _hidden_module("llvmlite.binding.ffi") if current_platform.is_cpu() else nullcontext():
            self._llm = LLMEngine.from_engine_args(arguments)
        self.context: int = self._llm.model_config.max_model_len - 1
        for refusal in self._llm.collective_rpc("hneurons_setup", args=(json.dumps(self.layout.widths),)):
            if refusal:
                raise UnsupportedModelError(refusal)
        self._check_hooks()

    def _check_hooks(self) -> None:
        """Capture once, so that hooks that are not reached fail here and not in the middle of a run."""
        token = next(iter(self.end_tokens), 0)
        future: Future[Captured] = Future()
        self._schedule(PendingCapture(future, CaptureRequest((token, token), ((0,), (1,)))))
        while self._active:
            self._step()
        if not np.isfinite(future.result().contributions).all():
            raise UnsupportedModelError(f"{self.name} gives contributions that are not finite on vLLM")

    def _stop(self) -> None:
        with self._accepting:
            self._closing.set()
        error = RuntimeError("vLLM has stopped")
        error.__cause__ = self._failed
        waiting: list[PendingRequest | None] = list(self._active.values())
        while not self._queue.empty():
            waiting.append(self._queue.get())
        for pending in waiting:
            if pending is not None:
                resolve(pending.future, error=error)
        self._active.clear()
        if (llm := getattr(self, "_llm", None)) is not None:
            llm.engine_core.shutdown()

    def _receive(self) -> None:
        """Schedule the requests in the queue; an idle engine waits for one."""
        while not self._closing.is_set():
            try:
                pending = self._queue.get(block=not self._active)
            except queue.Empty:
                return
            if pending is not None and not pending.future.cancelled():
                self._schedule(pending)

    def _schedule(self, pending: PendingRequest) -> None:
        """Give a request to vLLM."""
        from vllm import SamplingParams  # pyright: ignore
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        name = uuid.uuid4().hex
        try:
            extras = pending.extras(name, self.layout)
            prompt: dict[str, Any] = {"prompt_token_ids": list(pending.tokens)}
            digest, alpha = pending.request.intervention.key
            if digest is not None:
                # A prefix that was computed under another alpha must not be used.
                prompt["cache_salt"] = f"{digest}:{alpha!r}"
            asked = pending.sampling_params(self.end_tokens)
            params = SamplingParams(
                **asked,
                detokenize=bool(asked.get("stop")),
                output_kind=RequestOutputKind.FINAL_ONLY,
                skip_reading_prefix_cache=True if extras.key else None,
                extra_args={EXTRAS_KEY: extras.to_text()} if extras.key or extras.scaling is not None else None,
            )
            self._llm.add_request(name, prompt, params)  # pyright: ignore[reportArgumentType]
        except Exception as error:
            resolve(pending.future, error=error)
            return
        self._active[name] = pending

    def _step(self) -> None:
        """One step of vLLM, and the requests that end with it."""
        fetches: list[tuple[str, Fetch]] = []
        unneeded: list[str] = []
        for output in self._llm.step():
            pending = self._active.get(output.request_id)
            if pending is None or not output.finished:
                continue
            del self._active[output.request_id]
            then: Fetch | PendingCapture | None = None
            try:
                then = pending.finish(_completion(output), self.tokenizer, self.end_tokens, self.layout)
            except Exception as error:  # a span function that fails fails its own request only
                resolve(pending.future, error=error)
            if isinstance(then, Fetch):
                fetches.append((output.request_id, then))
            elif pending.captures:
                unneeded.append(output.request_id)
            if isinstance(then, PendingCapture):
                self._schedule(then)
        cancelled = [name for name, pending in self._active.items() if pending.future.cancelled()]
        if cancelled:
            self._llm.abort_request(cancelled)
            unneeded += [name for name in cancelled if self._active.pop(name).captures]
        if unneeded:
            self._llm.collective_rpc("hneurons_drop", args=(json.dumps(unneeded),))
        if fetches:
            self._fetch(fetches)

    def _fetch(self, fetches: list[tuple[str, Fetch]]) -> None:
        """Fetch captures from the workers and join the ranks."""
        question = json.dumps([(name, fetch.regions) for name, fetch in fetches])
        shares = [load(blob) for blob in self._llm.collective_rpc("hneurons_fetch", args=(question,))]
        for number, (_, fetch) in enumerate(fetches):
            try:
                fetch.done(join_ranks(shares, str(number), self.layout, fetch.watch))
            except Exception as error:
                resolve(fetch.future, error=error)


@contextmanager
def _hidden_module(name: str) -> Iterator[None]:
    """Hide a loaded module inside the block.

    On a CPU, vLLM reads `vars(...)["kernel"]` of every object in every module. The library object of llvmlite, which
    numba loads, returns a function for any attribute, `__dict__` too, and vLLM would not start.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _completion(output: Any) -> Completion:
    (found,) = output.outputs
    logprobs = None
    if found.logprobs is not None:
        ranked = (sorted(entry.items(), key=lambda item: item[1].rank or 0) for entry in found.logprobs)
        logprobs = [{token: level.logprob for token, level in entry} for entry in ranked]
    return Completion(tuple(found.token_ids), logprobs)


def get_vllm_engine(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
) -> VLLMEngine:
    """The engine of a checkpoint, shared by everybody in the process who asks for the same one.

    Args:
        name: as `resolve_model` takes it.
        revision: of a Hub id.
        dtype: `auto` (the checkpoint's own), `float32`, `bfloat16` or `float16`.
        trust_remote_code: run code that comes with the checkpoint. Off unless you trust it.
        options: engine args of vLLM by name.

    Raises:
        CheckpointError: the model cannot be found or read.
        UnsupportedModelError: vLLM is not installed, or the model or its weights are not covered on it.
        ValueError: an unknown dtype or option, or an option that is not covered.
    """
    options = dict(sorted((options or {}).items()))
    return shared_engine(
        VLLMEngine, name, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, options=options
    )
