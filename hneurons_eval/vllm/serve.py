"""The plugin's routes in a vLLM server: the entry point `hneurons` in `vllm.endpoint_plugins`.

```
VLLM_PLUGINS=hneurons vllm serve MODEL --api-key KEY
```

vLLM's own routes take `RequestExtras` in `vllm_xargs`; the routes of `protocol.py` take neuron sets and give captures.
`admission.py` checks and bounds both. Settings: `HNEURONS_VLLM_KEEP_BYTES`, memory for all captures together (default a
quarter of the machine's), and `HNEURONS_VLLM_KEEP_SECONDS`, how long a capture waits to be fetched.
"""

import asyncio
import json
import logging
import os
from argparse import Namespace
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from importlib import metadata
from typing import Any

import numpy as np
import psutil
from safetensors.numpy import load
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from vllm import SamplingParams  # pyright: ignore
from vllm.exceptions import VLLMNotFoundError, VLLMValidationError  # pyright: ignore[reportMissingImports]
from vllm.inputs.engine import tokens_input  # pyright: ignore[reportMissingImports]

from hneurons_eval.models.checkpoints import fingerprint, load_layout
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError
from hneurons_eval.vllm.admission import AdmissionControl, Entry, NeuronSets, Quota, UnknownNeuronsError
from hneurons_eval.vllm.plugin import PLUGIN, WORKER
from hneurons_eval.vllm.protocol import ABOUT, CAPTURES, NEURONS, PROTOCOL, About
from hneurons_eval.vllm.request_extras import EXTRAS_KEY, RequestExtras
from hneurons_eval.vllm.requests import from_bytes, join_ranks, to_bytes

MAX_REGIONS_BYTES = 2**20
"""Of the body of a fetch."""
KEEP_SECONDS = 300.0
logger = logging.getLogger(__name__)


class NeuronEndpoints:
    """The endpoint plugin that vLLM's API server loads."""

    name = PLUGIN
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Add the routes."""
        app.router.routes += [
            Route(ABOUT, _about, methods=["GET"]),
            Route(NEURONS + "/{digest}", _add_neurons, methods=["PUT"]),
            Route(CAPTURES + "/{key}", _fetch, methods=["POST"]),
            Route(CAPTURES + "/{key}", _drop, methods=["DELETE"]),
        ]

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Hook the workers, check the hooks, and put admission control before the engine.

        Raises ValueError: a model or a setting that is not covered; the server does not start.
        """
        config = engine_client.vllm_config
        check_config(config, args)
        name, revision = args.model, config.model_config.revision
        layout = await asyncio.to_thread(load_layout, name, revision)
        about = About(
            protocol=PROTOCOL,
            version=metadata.version("hneurons-eval"),
            model=(args.served_model_name or [name])[0],
            fingerprint=await asyncio.to_thread(fingerprint, name, revision),
            dtype=str(config.model_config.dtype).removeprefix("torch."),
            widths=layout.widths,
            context=config.model_config.max_model_len - 1,
            max_logprobs=config.model_config.max_logprobs,
        )
        for refusal in await engine_client.collective_rpc("hneurons_setup", args=(json.dumps(layout.widths),)):
            if refusal:
                raise UnsupportedModelError(refusal)
        service = Service(engine_client, about, layout, config.model_config.dtype.itemsize)
        await service.check_hooks()
        engine_client.generate = service.generate
        state.hneurons = service
        service.spawn(service.forget_expired())


def check_config(config: Any, args: Namespace) -> None:
    """Refuse settings that the hooks do not cover. Raises ValueError: names the settings, and what to do."""
    parallel = config.parallel_config
    unsupported = {
        "--worker-extension-cls": parallel.worker_extension_cls != WORKER,
        "--speculative-config": config.speculative_config is not None,
        "--enable-lora": config.lora_config is not None,
        "--quantization": config.model_config.quantization is not None,
        "--pipeline-parallel-size": parallel.pipeline_parallel_size != 1,
        "--data-parallel-size": parallel.data_parallel_size != 1,
        "--api-server-count": (args.api_server_count or 1) != 1,
        "--kv-transfer-config": config.kv_transfer_config is not None,
    }
    if wrong := [name for name, is_set in unsupported.items() if is_set]:
        raise ValueError(
            f"a server with the plugin {PLUGIN} does not cover {', '.join(wrong)}: tokens, layers or captures would be "
            "elsewhere than it expects; leave it out, or take the plugin out of VLLM_PLUGINS"
        )


class Service:
    """One server's engine behind admission control; `item_bytes` are those of a number in the model's dtype."""

    def __init__(self, engine: Any, about: About, layout: NeuronLayout, item_bytes: int) -> None:
        self.about = about
        self.sets = NeuronSets(layout)
        self.admission = AdmissionControl(layout, item_bytes, self.sets)
        self.quota = Quota(
            int(_setting("HNEURONS_VLLM_KEEP_BYTES", psutil.virtual_memory().total // 4)),
            _setting("HNEURONS_VLLM_KEEP_SECONDS", KEEP_SECONDS),
        )
        self._engine = engine
        self._generate = engine.generate
        self._layout = layout
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- requests ----

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **others: Any
    ) -> AsyncGenerator[Any, None]:
        """vLLM's own `generate`, with admission control for requests with extras."""
        if EXTRAS_KEY not in (sampling_params.extra_args or {}):
            return self._generate(prompt, sampling_params, request_id, **others)
        return self._admitted(prompt, sampling_params, request_id, others)

    async def _admitted(
        self, prompt: Any, asked: SamplingParams, request_id: str, others: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        tokens = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
        if not tokens:
            raise VLLMValidationError(f"{EXTRAS_KEY} needs a prompt of tokens or text", parameter="vllm_xargs")
        extra_args = dict(asked.extra_args or {})
        try:
            extras = self.admission.extras(extra_args[EXTRAS_KEY], len(tokens), asked.n)
            length = min(len(tokens) + (asked.max_tokens or self.about.context), self.about.context + 1)
            if extras.key:
                await self.quota.reserve(Entry(extras, self.admission.worst_case_bytes(extras, length), length))
        except UnknownNeuronsError as error:
            raise VLLMNotFoundError(str(error)) from None
        except ValueError as error:
            raise VLLMValidationError(str(error), parameter="vllm_xargs") from None
        answered = False
        try:
            params = asked.clone()
            params.extra_args = extra_args | {EXTRAS_KEY: extras.to_text()}
            if extras.key:
                params.skip_reading_prefix_cache = True  # cached tokens are not computed, so hooks do not see them
            salt = self.admission.cache_salt(extras, prompt.get("cache_salt"))
            prompt = prompt if salt is None else {**prompt, "cache_salt": salt}
            async with aclosing(self._generate(prompt, params, request_id, **others)) as outputs:
                async for output in outputs:
                    answered = output.finished
                    yield output
        finally:
            if extras.key:
                if answered:
                    self.quota.end(extras.key)
                else:
                    self.quota.claim(extras.key)
                    self.spawn(self._forget([extras.key]))

    async def check_hooks(self) -> None:
        """Capture once, so that a server whose hooks are not reached does not start.

        Raises UnsupportedModelError: the contributions are not finite.
        """
        extras = RequestExtras(key="check", regions=(((0, 1),), ((1, 2),)))
        params = SamplingParams(max_tokens=1, temperature=0.0, extra_args={EXTRAS_KEY: extras.to_text()})
        async for _ in self.generate(tokens_input([0, 0]), params, "hneurons-check"):
            pass
        blob = await self.fetch(extras.key, b'{"regions": null}')
        if not np.isfinite(from_bytes(blob).contributions).all():
            raise UnsupportedModelError(f"{self.about.model} gives contributions that are not finite on vLLM")

    # ---- captures ----

    async def fetch(self, key: str, body: bytes) -> bytes:
        """Fetch and forget the capture under a key, as safetensors; the body names the regions, in JSON.

        Raises LookupError: there is nothing under the key; ValueError: regions that were not captured, and the capture
        is kept; RuntimeError: it could not be captured.
        """
        entry = self.quota.find(key)
        regions = self.admission.regions(body, entry.extras, entry.length)
        self.quota.claim(key)
        try:
            question = json.dumps([(key, regions)])
            blobs = await self._engine.collective_rpc("hneurons_fetch", args=(question,))
        finally:
            self.quota.release(key)
        return await asyncio.to_thread(
            lambda: to_bytes(join_ranks([load(blob) for blob in blobs], "0", self._layout, entry.extras.watch))
        )

    async def drop(self, key: str) -> None:
        """Forget the capture under a key. Raises LookupError: there is nothing under the key."""
        self.quota.find(key)
        self.quota.claim(key)
        await self._forget([key])

    async def held(self) -> int:
        """Number of captures that the workers keep."""
        return max(await self._engine.collective_rpc("hneurons_held"))

    async def _forget(self, keys: list[str]) -> None:
        try:
            await self._engine.collective_rpc("hneurons_drop", args=(json.dumps(keys),))
        finally:
            for key in keys:
                self.quota.release(key)

    async def forget_expired(self) -> None:
        """Forget, as long as the server runs, captures that nobody fetches in time."""
        while True:
            await asyncio.sleep(min(5.0, self.quota.keep_seconds / 4))
            if not (keys := self.quota.claim_expired()):
                continue
            logger.warning("%d captures that nobody has fetched are forgotten", len(keys))
            try:
                await self._forget(keys)
            except Exception:  # the loop has to go on
                logger.exception("the workers could not forget them")

    def spawn(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def _setting(name: str, default: float) -> float:
    """A setting from the environment. Raises ValueError: it is not a positive number."""
    text = os.environ.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} should be a number above 0, found {text!r:.80}")
    return value


# ---- routes ----


def _route(handle: Callable[[Service, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A route that reports errors as vLLM's own do."""

    async def route(request: Request) -> Response:
        try:
            return await handle(request.app.state.hneurons, request)
        except (LookupError, ValueError, RuntimeError) as error:
            status = 404 if isinstance(error, LookupError) else 400 if isinstance(error, ValueError) else 422
            message = str(error.args[0]) if error.args else type(error).__name__
            return JSONResponse({"error": {"message": message, "code": status}}, status)

    return route


@_route
async def _about(service: Service, request: Request) -> Response:
    kept = {"captures": len(service.quota), "held": await service.held(), "neuron_sets": len(service.sets)}
    return JSONResponse(service.about.record() | kept)


@_route
async def _add_neurons(service: Service, request: Request) -> Response:
    service.sets.add(request.path_params["digest"], await _body(request, service.sets.max_bytes))
    return Response(status_code=204)


@_route
async def _fetch(service: Service, request: Request) -> Response:
    body = await _body(request, MAX_REGIONS_BYTES)
    return Response(await service.fetch(request.path_params["key"], body), media_type="application/octet-stream")


@_route
async def _drop(service: Service, request: Request) -> Response:
    await service.drop(request.path_params["key"])
    return Response(status_code=204)


async def _body(request: Request, max_bytes: int) -> bytes:
    """The request's body. Raises ValueError: it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise ValueError(f"the body should have at most {max_bytes} bytes")
    return bytes(body)
