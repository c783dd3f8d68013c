"""An engine on a vLLM server with the plugin: `hneurons-vllm/MODEL` with a base URL.

```python
engine = get_client_engine("smollm2-135m-instruct", "http://127.0.0.1:8000")
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
```

The interface is that of `vllm.engine.VLLMEngine`; requests go to the server's completions. Tokenizer and configuration
are read from the checkpoint here, whose content has to be that of the server's. vLLM is not needed here.
"""

import asyncio
import atexit
import json
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import anyio
import httpx
from anyio.from_thread import BlockingPortal

from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.registry import shared_engine
from hneurons_eval.models.checkpoints import CheckpointError, check_dtype
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm.base import BaseEngine
from hneurons_eval.vllm.protocol import ABOUT, CAPTURES, NEURONS, PROTOCOL, About
from hneurons_eval.vllm.request_extras import EXTRAS_KEY, RequestExtras
from hneurons_eval.vllm.requests import (
    Completion,
    Fetch,
    PendingCapture,
    PendingGeneration,
    PendingRequest,
    from_bytes,
)

MAX_IN_FLIGHT = 256
"""Requests at the server at once; the others wait here."""
RETRY_SECONDS = (0.5, 2.0, 8.0)
"""Waits before a request is repeated whose connection failed, or that the server could not take at the moment."""
RETRY_STATUS = (429, 502, 503, 504)
NEUTRAL = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0}
"""Sampling options that a server would otherwise take from the checkpoint's generation settings."""


class ServerError(CheckpointError):
    """A server that cannot be used for a model; says what was expected, what was found and what to do."""


class _RetryableError(Exception):
    """The connection failed, or the server could not take the request at the moment."""


class ClientEngine(BaseEngine):
    """A model on a vLLM server. Use `get_client_engine`, which shares engines."""

    def __init__(
        self,
        name: str,
        url: str,
        api_key: str | None = None,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        check_dtype(dtype)
        self.url = _server_url(url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.about = _fetch_about(self.url, self._headers)
        if dtype not in ("auto", self.about.dtype):
            raise ServerError(f"the server at {self.url} computes in {self.about.dtype}, not {dtype}; leave dtype out")
        super().__init__(name, revision, trust_remote_code)
        if self.fingerprint != self.about.fingerprint or self.layout.widths != self.about.widths:
            raise ServerError(
                f"the server at {self.url} has another checkpoint ({self.about.model}, {self.about.fingerprint}) than "
                f"{name} ({self.fingerprint}); name the checkpoint as it was named to the server, in the same revision"
            )
        self.dtype = self.about.dtype
        self.context = self.about.context
        self._uploaded: set[str] = set()
        self._dropping: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._uploading = asyncio.Lock()
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx.Timeout(30.0, read=None),  # no limit: a long answer takes long
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IN_FLIGHT),
        )
        ready: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve, ready), daemon=True)
        self._thread.start()
        self._portal = ready.result()
        atexit.register(self.close)

    def close(self) -> None:
        """End the thread; waiting requests fail."""
        with suppress(RuntimeError):  # it has ended
            self._portal.call(self._portal.stop, True)
        self._thread.join(timeout=10)

    def _submit(self, pending: PendingRequest) -> None:
        top = (pending.request.top_logprobs if isinstance(pending, PendingGeneration) else None) or 0
        if 0 <= self.about.max_logprobs < top:
            raise ValueError(
                f"the server gives {self.about.max_logprobs} alternatives to a token, {top} were asked for; start it "
                "with --max-logprobs"
            )
        try:
            running = self._portal.start_task_soon(self._complete, pending)
        except RuntimeError:
            raise RuntimeError(f"the connection to {self.url} was closed; start a new process") from None
        pending.future.add_done_callback(lambda future: running.cancel() if future.cancelled() else None)

    # ---- the thread ----

    async def _serve(self, ready: "Future[BlockingPortal]") -> None:
        async with self._client, BlockingPortal() as portal:
            ready.set_result(portal)
            await portal.sleep_until_stopped()

    async def _complete(self, pending: PendingRequest) -> None:
        """See a request through: its future is always resolved, and the server keeps nothing of it."""
        try:
            async with self._in_flight:
                then = await self._retried(pending)
        except asyncio.CancelledError:
            resolve(pending.future, error=RuntimeError(f"the connection to {self.url} was closed"))
            raise
        except Exception as error:
            resolve(pending.future, error=error)
            return
        if then is not None:
            await self._complete(then)

    async def _retried(self, pending: PendingRequest) -> PendingCapture | None:
        for seconds in RETRY_SECONDS:
            with suppress(_RetryableError):
                return await self._attempt(pending)
            await asyncio.sleep(seconds)
        try:
            return await self._attempt(pending)
        except _RetryableError as error:
            raise RuntimeError(f"the server at {self.url} does not answer: {error}") from error.__cause__

    async def _attempt(self, pending: PendingRequest) -> PendingCapture | None:
        """One completion and its capture, from the beginning, under a new key."""
        key = uuid.uuid4().hex if pending.captures else ""
        extras = pending.extras(key, self.layout)
        kept = bool(key)
        try:
            completion = await self._sample(pending, extras)
            then = pending.finish(completion, self.tokenizer, self.end_tokens, self.layout)
            if not isinstance(then, Fetch):
                return then
            body = json.dumps({"regions": then.regions}).encode()
            response = _checked(await self._send("POST", f"{CAPTURES}/{key}", body))
            kept = False
            then.done(from_bytes(response.content))
            return None
        finally:
            if kept:
                task = asyncio.create_task(self._drop(key))
                self._dropping.add(task)
                task.add_done_callback(self._dropping.discard)

    async def _sample(self, pending: PendingRequest, extras: RequestExtras) -> Completion:
        """The server's completion."""
        digests = {"neurons": await self._upload(pending.request.intervention.neurons if extras.neurons else None)}
        if extras.watch:
            digests["watch"] = await self._upload(pending.per_token)
        body = NEUTRAL | pending.sampling_params(self.end_tokens)
        body |= {"model": self.about.model, "prompt": list(pending.tokens), "n": 1}
        body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        if extras.key or extras.scaling is not None:
            body["vllm_xargs"] = {EXTRAS_KEY: extras.to_text(**digests)}
        response = await self._send("POST", "/v1/completions", json.dumps(body).encode())
        if response.status_code == 404 and any(digest and digest in response.text for digest in digests.values()):
            self._uploaded.clear()  # the server was restarted, or has dropped the least recently used sets
            raise _RetryableError("it has forgotten the neurons")
        return _completion(_checked(response).json())

    async def _upload(self, neurons: NeuronSet | None) -> str | None:
        """The digest of a neuron set, uploaded if the server does not have it yet."""
        if neurons is None:
            return None
        async with self._uploading:
            if neurons.digest not in self._uploaded:
                body = json.dumps(neurons.flat(self.layout).tolist(), separators=(",", ":")).encode()
                _checked(await self._send("PUT", f"{NEURONS}/{neurons.digest}", body))
                self._uploaded.add(neurons.digest)
        return neurons.digest

    async def _drop(self, key: str) -> None:
        with suppress(httpx.TransportError):  # the server forgets by itself what nobody fetches
            await self._client.delete(f"{CAPTURES}/{key}")

    async def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        """Send one HTTP request. Raises _RetryableError: it may be repeated."""
        try:
            response = await self._client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            raise _RetryableError(str(error) or type(error).__name__) from error
        if response.status_code in RETRY_STATUS:
            raise _RetryableError(_message(response))
        return response


def _server_url(url: str) -> str:
    """A server's URL without a path. Raises ServerError: not a URL."""
    url = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ServerError(f"the base URL should be like http://127.0.0.1:8000, found {url!r:.200}")
    return url


def _fetch_about(url: str, headers: Mapping[str, str]) -> About:
    """The server's model.

    Raises ServerError: no server answers, it refuses the API key, or it has no plugin or another version of it.
    """
    try:
        response = httpx.get(url + ABOUT, headers=dict(headers), timeout=30.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerError(f"no server answers at {url}: {error}; start one (docs/vllm.md), or fix the URL") from error
    if response.status_code == 401:
        raise ServerError(f"the server at {url} refuses the API key; give its own (HNEURONS_VLLM_API_KEY)")
    if response.status_code == 404:
        raise ServerError(
            f"the server at {url} gives no access to neurons; start vLLM with VLLM_PLUGINS=hneurons in its "
            "environment, where hneurons-eval is installed"
        )
    if response.status_code != 200:
        raise ServerError(f"the server at {url} answers {response.status_code}: {_message(response)}")
    try:
        record = json.loads(response.content)
        protocol = record.get("protocol") if isinstance(record, dict) else None
        if protocol == PROTOCOL:
            return About.parse(response.content)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"the description of the server at {url} cannot be read: {error}") from None
    raise ServerError(
        f"the server at {url} uses version {protocol!r:.20} of the protocol, this program {PROTOCOL}; install the "
        "same version of hneurons-eval on both sides"
    )


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is a success. Raises RuntimeError: with the server's message."""
    if not response.is_success:
        raise RuntimeError(f"the server refuses this request ({response.status_code}): {_message(response)}")
    return response


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:1000]
    except (ValueError, LookupError, TypeError):
        return response.text[:200] or response.reason_phrase


def _completion(record: Any) -> Completion:
    """Tokens and log-probabilities of a completion. Raises RuntimeError: the completion has none."""
    try:
        (choice,) = record["choices"]
        tokens = tuple(choice["token_ids"])
        logprobs = None
        if (found := choice["logprobs"]) is not None:
            entries = zip(tokens, found["token_logprobs"], found["top_logprobs"], strict=True)
            logprobs = [_descending(token, own, top) for token, own, top in entries]
    except (LookupError, TypeError, ValueError) as error:
        raise RuntimeError(f"the server's completion has no tokens: {error!r}") from None
    return Completion(tokens, logprobs)


def _descending(token: int, own: float, top: Mapping[str, float]) -> dict[int, float]:
    found = {int(name.removeprefix("token_id:")): value for name, value in top.items()} | {token: own}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def get_client_engine(
    name: str,
    url: str,
    api_key: str | None = None,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> ClientEngine:
    """The engine of a checkpoint on a server, shared by everybody in the process who asks for the same one.

    Args:
        name: of the checkpoint, as `resolve_model` takes it; the server has to have the same.
        url: of the server, with or without `/v1`.
        api_key: of the server.
        revision: of a Hub id.
        dtype: that the server has to compute in; `auto` accepts any.
        trust_remote_code: run code that comes with the checkpoint. Off unless you trust it.

    Raises:
        ServerError: no server, another API key, no plugin, another version, checkpoint or dtype.
        CheckpointError: the model cannot be found or read here.
    """
    url = _server_url(url)
    return shared_engine(
        ClientEngine, name, url, api_key, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code
    )
