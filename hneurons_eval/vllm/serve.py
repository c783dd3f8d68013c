"""The routes that a vLLM server has for neurons: the entry point `hneurons` in `vllm.endpoint_plugins`.

```
VLLM_PLUGINS=hneurons vllm serve MODEL --api-key KEY
```

vLLM's own routes take `RequestExtras` in `vllm_xargs`, which `admission.py` checks before the engine sees them; the
routes of `protocol.py` take neuron sets in and give captures out. `admission.py` holds the bounds. Settings:
`HNEURONS_VLLM_KEEP_BYTES`, memory for all captures together (default a quarter of the machine's), and
`HNEURONS_VLLM_KEEP_SECONDS`, for which one waits to be fetched.
"""

import asyncio
import json
import logging
import os
from argparse import Namespace
from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib import metadata
from typing import Any

import numpy as np
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
from hneurons_eval.vllm.request_extras import FIELD, RequestExtras
from hneurons_eval.vllm.requests import Gathered, gathered

MAX_REGIONS_BYTES = 2**20
"""Of the regions that a fetch names."""
KEEP_SECONDS = 300.0
logger = logging.getLogger(__name__)


class NeuronEndpoints:
    """What vLLM's API server loads."""

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
        """Hook the workers, prove it, and guard the engine.

        Raises:
            ValueError: a model or a setting that is not covered; the server does not start.
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
        await service.prove()
        engine_client.generate = service.generate
        state.hneurons = service
        service.watch_over()


def check_config(config: Any, args: Namespace) -> None:
    """Refuse what the hooks do not cover, with one sentence.

    Raises:
        ValueError: says which setting, and what to do.
    """
    parallel = config.parallel_config
    set_otherwise = {
        "--worker-extension-cls": parallel.worker_extension_cls != WORKER,
        "--speculative-config": config.speculative_config is not None,
        "--enable-lora": config.lora_config is not None,
        "--quantization": config.model_config.quantization is not None,
        "--pipeline-parallel-size": parallel.pipeline_parallel_size != 1,
        "--data-parallel-size": parallel.data_parallel_size != 1,
        "--api-server-count": (args.api_server_count or 1) != 1,
        "--kv-transfer-config": config.kv_transfer_config is not None,
    }
    if wrong := [name for name, is_set in set_otherwise.items() if is_set]:
        raise ValueError(
            f"a server with the plugin {PLUGIN} does not cover {', '.join(wrong)}: tokens, layers or captures would be "
            "elsewhere than it expects; leave it out, or take the plugin out of VLLM_PLUGINS"
        )


class Service:
    """One server's engine behind the guard.

    Args:
        engine: vLLM's engine client.
        about: what the server says of itself.
        layout: the model's neurons.
        item_bytes: of a number in the model's dtype.
    """

    def __init__(self, engine: Any, about: About, layout: NeuronLayout, item_bytes: int) -> None:
        self.about = about
        self.sets = NeuronSets(layout)
        self.gate = AdmissionControl(layout, item_bytes, self.sets)
        self.ledger = Quota(*_limits())
        self._engine = engine
        self._generate = engine.generate
        self._layout = layout
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- requests ----

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **others: Any
    ) -> AsyncGenerator[Any, None]:
        """vLLM's own `generate`; what asks for neurons goes through the guard."""
        if FIELD not in (sampling_params.extra_args or {}):
            return self._generate(prompt, sampling_params, request_id, **others)
        return self._guarded(prompt, sampling_params, request_id, others)

    async def _guarded(
        self, prompt: Any, asked: SamplingParams, request_id: str, others: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        tokens = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
        if not tokens:
            raise VLLMValidationError(f"{FIELD} needs a prompt of tokens or text", parameter="vllm_xargs")
        extra = dict(asked.extra_args or {})
        try:
            fields = self.gate.fields(extra[FIELD], len(tokens), asked.n)
            last = min(len(tokens) + (asked.max_tokens or self.about.context), self.about.context + 1)
            if fields.key:
                await self.ledger.admit(Entry(fields, self.gate.bytes_of(fields, last), last))
        except UnknownNeuronsError as error:
            raise VLLMNotFoundError(str(error)) from None
        except ValueError as error:
            raise VLLMValidationError(str(error), parameter="vllm_xargs") from None
        answered = False
        try:
            params = asked.clone()
            params.extra_args = extra | {FIELD: fields.to_text()}
            if fields.key:
                params.skip_reading_prefix_cache = True  # what is cached is not computed, hence not seen
            salt = self.gate.salt(fields, prompt.get("cache_salt"))
            prompt = prompt if salt is None else {**prompt, "cache_salt": salt}
            async with aclosing(self._generate(prompt, params, request_id, **others)) as outputs:
                async for output in outputs:
                    answered = output.finished
                    yield output
        finally:
            if fields.key:
                if answered:
                    self.ledger.ended(fields.key)
                else:
                    self.ledger.leave(fields.key)
                    self._spawn(self._forget([fields.key]))

    async def prove(self) -> None:
        """A first capture: the server does not start where hooks are not reached.

        Raises:
            UnsupportedModelError: the contributions are not finite.
        """
        fields = RequestExtras(key="prove", regions=(((0, 1),), ((1, 2),)))
        params = SamplingParams(max_tokens=1, temperature=0.0, extra_args={FIELD: fields.to_text()})
        async for _ in self.generate(tokens_input([0, 0]), params, "hneurons-prove"):
            pass
        if not np.isfinite(Gathered.from_bytes(await self.fetch(fields.key, b'{"regions": null}')).values).all():
            raise UnsupportedModelError(f"{self.about.model} gives contributions that are not finite on vLLM")

    # ---- captures ----

    async def fetch(self, key: str, body: bytes) -> bytes:
        """What was captured under a key, as safetensors; it is forgotten then.

        Args:
            key: of the request.
            body: JSON, the regions that are wanted.

        Raises:
            LookupError: there is nothing under the key.
            ValueError: regions that there are not; nothing is forgotten.
            RuntimeError: it could not be captured.
        """
        entry = self.ledger.find(key)
        regions = self.gate.regions(body, entry.fields, entry.last)
        self.ledger.leave(key)
        try:
            question = json.dumps([(key, regions)])
            blobs = await self._engine.collective_rpc("hneurons_fetch", args=(question,))
        finally:
            self.ledger.forget(key)
        return await asyncio.to_thread(self._joined, blobs, entry.fields)

    def _joined(self, blobs: list[bytes], fields: RequestExtras) -> bytes:
        return gathered([load(blob) for blob in blobs], "0", self._layout, fields.watch).to_bytes()

    async def drop(self, key: str) -> None:
        """Forget what was captured under a key.

        Raises:
            LookupError: there is nothing under the key.
        """
        self.ledger.find(key)
        self.ledger.leave(key)
        await self._forget([key])

    async def held(self) -> int:
        """Of how many requests the workers keep something."""
        return max(await self._engine.collective_rpc("hneurons_held"))

    async def _forget(self, keys: list[str]) -> None:
        try:
            await self._engine.collective_rpc("hneurons_drop", args=(json.dumps(keys),))
        finally:
            for key in keys:
                self.ledger.forget(key)

    def watch_over(self) -> None:
        """Forget, from now on, captures for which nobody comes."""
        self._spawn(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(5.0, self.ledger.keep_seconds / 4))
            if not (keys := self.ledger.expired()):
                continue
            logger.warning("%d captures that nobody has fetched are forgotten", len(keys))
            try:
                await self._forget(keys)
            except Exception:  # this goes on for as long as the server does
                logger.exception("the workers could not forget them")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def _limits() -> tuple[int, float]:
    """Bytes for captures, and seconds for which they wait.

    Raises:
        ValueError: a setting that is no positive number.
    """
    import psutil

    found: list[float] = []
    for name, default in (
        ("HNEURONS_VLLM_KEEP_BYTES", psutil.virtual_memory().total // 4),
        ("HNEURONS_VLLM_KEEP_SECONDS", KEEP_SECONDS),
    ):
        text = os.environ.get(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} should be a number above 0, found {text!r:.80}")
        found.append(value)
    return int(found[0]), found[1]


# ---- routes ----


async def _about(request: Request) -> Response:
    service: Service = request.app.state.hneurons
    kept = {"captures": len(service.ledger), "held": await service.held(), "neuron_sets": len(service.sets)}
    return JSONResponse(service.about.record() | kept)


async def _add_neurons(request: Request) -> Response:
    service: Service = request.app.state.hneurons
    try:
        service.sets.add(request.path_params["digest"], await _body(request, service.sets.max_bytes))
    except ValueError as error:
        return _refusal(400, error)
    return Response(status_code=204)


async def _fetch(request: Request) -> Response:
    service: Service = request.app.state.hneurons
    try:
        body = await _body(request, MAX_REGIONS_BYTES)
        return Response(await service.fetch(request.path_params["key"], body), media_type="application/octet-stream")
    except LookupError as error:
        return _refusal(404, error)
    except ValueError as error:
        return _refusal(400, error)
    except RuntimeError as error:
        return _refusal(422, error)


async def _drop(request: Request) -> Response:
    service: Service = request.app.state.hneurons
    try:
        await service.drop(request.path_params["key"])
    except LookupError as error:
        return _refusal(404, error)
    return Response(status_code=204)


async def _body(request: Request, most: int) -> bytes:
    """What was sent.

    Raises:
        ValueError: more than can be right.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise ValueError(f"the body should have at most {most} bytes")
    return bytes(body)


def _refusal(status: int, error: Exception) -> Response:
    message = str(error.args[0]) if error.args else type(error).__name__
    return JSONResponse({"error": {"message": message, "code": status}}, status)
