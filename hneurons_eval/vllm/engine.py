"""vLLM as an engine: one thread that owns it, a queue, and captures that are fetched when their request ends.

```python
engine = get_vllm_engine("smollm2-135m-instruct", options={"tensor_parallel_size": 1})
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
captured = engine.capture(CaptureRequest(tokens=ids, regions=[[4, 5]])).result()
```

It answers what `engine.Engine` answers. Requests enter vLLM's running batch as they come. vLLM's prefix cache is told
apart by neurons and alpha, and not read by requests that capture.
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
from hneurons_eval.engine.registry import EngineRegistry
from hneurons_eval.engine.requests import Captured, CaptureRequest
from hneurons_eval.models.checkpoints import check_dtype, resolve_model
from hneurons_eval.models.layout import UnsupportedModelError
from hneurons_eval.vllm.base import JobEngine
from hneurons_eval.vllm.plugin import WORKER
from hneurons_eval.vllm.request_extras import FIELD, RequestExtras
from hneurons_eval.vllm.requests import Fetch, Given, Job, Sampled, gathered

OURS = ("model", "tokenizer", "dtype", "revision", "trust_remote_code", "enforce_eager", "worker_extension_cls")
"""Engine args of vLLM that are set here."""
REFUSED = ("speculative_config", "enable_lora", "quantization", "pipeline_parallel_size", "data_parallel_size")
"""Engine args with which rows, weights or layers are not where the hooks expect them."""
CPU_CACHE_SHARE, MAX_CPU_CACHE = 0.25, 4 << 30


class VLLMEngine(JobEngine):
    """A model that vLLM runs in this process and its workers. Use `get_vllm_engine`, which shares engines."""

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
                "of a server that runs it: --model-base-url"
            )
        check_dtype(dtype)
        self._options = dict(options or {})
        self._check_options()
        super().__init__(name, revision, trust_remote_code)
        # vLLM would take "auto" as half precision, whatever the checkpoint holds.
        self.dtype = self.stored_dtype if dtype == "auto" else dtype
        self._arguments = (revision, trust_remote_code)
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._active: dict[str, Job] = {}
        self._ready: Future[None] = Future()
        self._closing = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"hneurons-vllm-{name}", daemon=True)
        self._thread.start()
        self._ready.result()
        atexit.register(self.close)

    def close(self) -> None:
        """End the thread and vLLM's processes; what is still waiting fails."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout=60)

    def _check_options(self) -> None:
        from vllm import EngineArgs  # pyright: ignore

        known = set(EngineArgs.__dataclass_fields__) - set(OURS)
        if unknown := sorted(set(self._options) - known):
            own = [name for name in unknown if name in OURS]
            raise ValueError(
                f"{', '.join(own)} of vLLM is set by hneurons-vllm/ itself"
                if own
                else f"unknown model args {', '.join(unknown)}; there are neurons, alpha, dtype, revision, "
                "trust_remote_code and vLLM's engine args, such as tensor_parallel_size or max_model_len"
            )
        for name in REFUSED:
            value = self._options.get(name)
            if value not in (None, False, 1):
                raise ValueError(
                    f"{name}={value} is not covered by hneurons-vllm/: tokens or layers would be elsewhere than its "
                    "hooks expect; leave it out"
                )

    def _put(self, job: Job) -> None:
        if self._failed is not None or self._closing.is_set():
            raise RuntimeError("vLLM has stopped; start a new process") from self._failed
        self._queue.put(job)

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
                    self._turn()
        except BaseException as error:
            self._failed = error
        self._stop()

    def _start(self) -> None:
        revision, trust_remote_code = self._arguments
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # whose rows are looked up is V1's
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # this process has threads
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

        options = self._options
        if current_platform.is_cpu():
            # A process of its own for the scheduler would take one core from the model.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            if "kv_cache_memory_bytes" not in options and "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
                import psutil

                spare = int(CPU_CACHE_SHARE * psutil.virtual_memory().available)
                options = options | {"kv_cache_memory_bytes": min(MAX_CPU_CACHE, spare)}
        from vllm import EngineArgs  # pyright: ignore
        from vllm.v1.engine.llm_engine import LLMEngine  # pyright: ignore[reportMissingImports]

        arguments = EngineArgs(
            model=self.source,
            dtype=self.dtype,  # pyright: ignore[reportArgumentType]
            revision=revision,
            trust_remote_code=trust_remote_code,
            enforce_eager=True,  # a compiled graph would run past the hooks
            worker_extension_cls=WORKER,
            **({"max_logprobs": -1} | options),
        )
        with _out_of_sight("llvmlite.binding.ffi") if current_platform.is_cpu() else nullcontext():
            self._llm = LLMEngine.from_engine_args(arguments)
        self.context: int = self._llm.model_config.max_model_len - 1
        for refusal in self._llm.collective_rpc("hneurons_setup", args=(json.dumps(self.layout.widths),)):
            if refusal:
                raise UnsupportedModelError(refusal)
        self._prove()

    def _prove(self) -> None:
        """A first capture: it fails here, not in the middle of a run, where hooks are not reached."""
        token = next(iter(self.ends), 0)
        probe: Future[Captured] = Future()
        self._admit(Given(probe, CaptureRequest((token, token), ((0,), (1,)))))
        while self._active:
            self._turn()
        if not np.isfinite(probe.result().contributions).all():
            raise UnsupportedModelError(f"{self.name} gives contributions that are not finite on vLLM")

    def _stop(self) -> None:
        error = RuntimeError("vLLM has stopped")
        error.__cause__ = self._failed
        waiting = list(self._active.values())
        while not self._queue.empty():
            if (job := self._queue.get()) is not None:
                waiting.append(job)
        for job in waiting:
            resolve(job.future, error=error)
        self._active.clear()
        if (llm := getattr(self, "_llm", None)) is not None:
            llm.engine_core.shutdown()

    def _receive(self) -> None:
        """Take what has arrived; where nothing is running, wait for it."""
        while not self._closing.is_set():
            try:
                job = self._queue.get() if not self._active else self._queue.get_nowait()
            except queue.Empty:
                return
            if job is not None and not job.future.cancelled():
                self._admit(job)

    def _admit(self, job: Job) -> None:
        """Give a request to vLLM."""
        name = uuid.uuid4().hex
        try:
            fields = job.fields(name, self.layout)
            prompt: dict[str, Any] = {"prompt_token_ids": list(job.tokens)}
            digest, alpha = job.request.intervention.key
            if digest is not None:
                # A prefix that was computed under another alpha must not be used.
                prompt["cache_salt"] = f"{digest}:{alpha!r}"
            params = self._params(job, fields)
            self._llm.add_request(name, prompt, params)  # pyright: ignore[reportArgumentType]
        except Exception as error:
            resolve(job.future, error=error)
            return
        self._active[name] = job

    def _params(self, job: Job, fields: RequestExtras) -> Any:
        from vllm import SamplingParams  # pyright: ignore
        from vllm.sampling_params import RequestOutputKind  # pyright: ignore[reportMissingImports]

        asked = job.sampling(self.ends)
        return SamplingParams(
            **asked,
            detokenize=bool(asked.get("stop")),
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_reading_prefix_cache=True if fields.key else None,
            extra_args={FIELD: fields.to_text()} if fields.key or fields.scaling is not None else None,
        )

    def _turn(self) -> None:
        """One step of vLLM, and what has ended with it."""
        wanted: list[tuple[str, Fetch]] = []
        gone: list[str] = []
        for output in self._llm.step():
            job = self._active.get(output.request_id)
            if job is None or not output.finished:
                continue
            del self._active[output.request_id]
            then: Fetch | Given | None = None
            try:
                then = job.finish(_sampled(output), self.tokenizer, self.ends, self.layout)
            except Exception as error:  # a span function that fails fails its own request only
                resolve(job.future, error=error)
            if isinstance(then, Fetch):
                wanted.append((output.request_id, then))
            elif job.captures:
                gone.append(output.request_id)
            if isinstance(then, Given):
                self._admit(then)
        cancelled = [name for name, job in self._active.items() if job.future.cancelled()]
        if cancelled:
            self._llm.abort_request(cancelled)
            gone += [name for name in cancelled if self._active.pop(name).captures]
        if gone:
            self._llm.collective_rpc("hneurons_drop", args=(json.dumps(gone),))
        if wanted:
            self._fetch(wanted)

    def _fetch(self, wanted: list[tuple[str, Fetch]]) -> None:
        """Bring captures from the workers, and their shares of the neurons together."""
        question = json.dumps([(name, fetch.regions) for name, fetch in wanted])
        shares = [load(blob) for blob in self._llm.collective_rpc("hneurons_fetch", args=(question,))]
        for number, (_, fetch) in enumerate(wanted):
            try:
                fetch.done(gathered(shares, str(number), self.layout, fetch.watch))
            except Exception as error:
                resolve(fetch.future, error=error)


@contextmanager
def _out_of_sight(name: str) -> Iterator[None]:
    """A module that is not among those loaded, inside the block.

    On a CPU, vLLM reads `vars(...)["kernel"]` of all that all modules hold. The library object of llvmlite, which numba
    loads, has functions for attributes of any name, `__dict__` too, and vLLM would not start.
    """
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _sampled(output: Any) -> Sampled:
    (completion,) = output.outputs
    levels = None
    if completion.logprobs is not None:
        ranked = (sorted(found.items(), key=lambda item: item[1].rank or 0) for found in completion.logprobs)
        levels = [{token: level.logprob for token, level in found} for found in ranked]
    return Sampled(tuple(completion.token_ids), levels)


_ENGINES: EngineRegistry[VLLMEngine] = EngineRegistry()


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
    key = (resolve_model(name), revision, dtype, trust_remote_code, repr(sorted((options or {}).items())))
    return _ENGINES.get(
        key,
        lambda: VLLMEngine(name, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, options=options),
    )
