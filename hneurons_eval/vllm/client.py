"""A vLLM server with the plugin as an engine: `hneurons-vllm/MODEL` with a base URL.

```python
engine = get_client_engine("smollm2-135m-instruct", "http://127.0.0.1:8000")
answer = engine.generate(GenerateRequest(prompt=ids, max_tokens=50)).result()
```

It answers what `vllm.engine.VLLMEngine` answers: the same jobs, sent to the server's completions. Tokenizer and
configuration are those of the checkpoint here, whose content has to be that of the server's. vLLM is not needed here.
"""

import asyncio
import atexit
import json
import threading
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

import httpx

from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.registry import EngineRegistry
from hneurons_eval.models.checkpoints import CheckpointError, check_dtype, resolve_model
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm.base import JobEngine
from hneurons_eval.vllm.protocol import ABOUT, CAPTURES, NEURONS, PROTOCOL, About
from hneurons_eval.vllm.request_extras import FIELD, RequestExtras
from hneurons_eval.vllm.requests import Draw, Fetch, Gathered, Given, Job, Sampled

MAX_IN_FLIGHT = 256
"""Requests at the server at once; the others wait here."""
PAUSES = (0.5, 2.0, 8.0)
"""Seconds before a request is made again whose connection failed, or that the server turned away for the moment."""
TURNED_AWAY = (429, 502, 503, 504)
PLAIN = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "min_p": 0.0}
"""Sampling options that a server would otherwise take from the checkpoint's generation settings."""


class ServerError(CheckpointError):
    """A server that cannot be used for a model; says what was expected, what was found and what to do."""


class _Gone(Exception):
    """The connection failed, or the server turned the request away: it may be made again."""


class ClientEngine(JobEngine):
    """A model that a vLLM server runs. Use `get_client_engine`, which shares engines.

    Attributes:
        url: of the server, without `/v1`.
        about: what it says of itself.
    """

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
        self.url = _server(url)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.about = _ask(self.url, self._headers)
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._uploading = asyncio.Lock()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers=self._headers,
            timeout=httpx.Timeout(30.0, read=None),  # an answer takes as long as it takes
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IN_FLIGHT),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"hneurons-served-{name}", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """End the thread; what is still waiting fails."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)

    def _put(self, job: Job) -> None:
        top = (job.request.top_logprobs if isinstance(job, Draw) else None) or 0
        if 0 <= self.about.max_logprobs < top:
            raise ValueError(
                f"the server gives {self.about.max_logprobs} alternatives to a token, {top} were asked for; start it "
                "with --max-logprobs"
            )
        if self._loop.is_closed():
            raise RuntimeError(f"the connection to {self.url} was closed; start a new process")
        running = asyncio.run_coroutine_threadsafe(self._serve(job), self._loop)

        def leave(future: "Future[Any]") -> None:
            if future.cancelled():
                running.cancel()

        job.future.add_done_callback(leave)

    # ---- the thread ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.run_until_complete(self._client.aclose())
            self._loop.close()

    async def _serve(self, job: Job) -> None:
        """See a job through: whatever becomes of it, its future is settled and the server keeps nothing of it."""
        try:
            async with self._room:
                then = await self._patiently(job)
        except asyncio.CancelledError:
            resolve(job.future, error=RuntimeError(f"the connection to {self.url} was closed"))
            raise
        except Exception as error:
            resolve(job.future, error=error)
            return
        if then is not None:
            await self._serve(then)

    async def _patiently(self, job: Job) -> Given | None:
        for pause in PAUSES:
            try:
                return await self._attempt(job)
            except _Gone:
                await asyncio.sleep(pause)
        try:
            return await self._attempt(job)
        except _Gone as gone:
            raise RuntimeError(f"the server at {self.url} does not answer: {gone}") from gone.__cause__

    async def _attempt(self, job: Job) -> Given | None:
        """One request, and what was captured with it; from the beginning, under a key of its own."""
        key = uuid.uuid4().hex if job.captures else ""
        fields = job.fields(key, self.layout)
        forgotten = not key
        try:
            sampled = await self._complete(job, fields)
            then = job.finish(sampled, self.tokenizer, self.ends, self.layout)
            if not isinstance(then, Fetch):
                return then
            question = json.dumps({"regions": then.regions}).encode()
            response = _checked(await self._send("POST", f"{CAPTURES}/{key}", question))
            forgotten = True
            then.done(Gathered.from_bytes(response.content))
            return None
        finally:
            if not forgotten:
                self._spawn(self._drop(key))

    async def _complete(self, job: Job, fields: RequestExtras) -> Sampled:
        """What the server samples for a job."""
        digests = {"neurons": await self._known(job.request.intervention.neurons if fields.neurons else None)}
        if fields.watch:
            digests["watch"] = await self._known(job.per_token)
        asked = job.sampling(self.ends)
        body = PLAIN | asked | {"model": self.about.model, "prompt": list(job.tokens), "n": 1}
        body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        if fields.key or fields.scaling is not None:
            body["vllm_xargs"] = {FIELD: fields.to_text(**digests)}
        response = await self._send("POST", "/v1/completions", json.dumps(body).encode())
        if response.status_code == 404 and any(digest and digest in response.text for digest in digests.values()):
            self._uploaded.clear()  # the server has been started anew, or keeps only so many
            raise _Gone("it has forgotten the neurons")
        return _sampled(_checked(response).json())

    async def _known(self, neurons: NeuronSet | None) -> str | None:
        """The digest of neurons that the server has by now."""
        if neurons is None:
            return None
        async with self._uploading:
            if neurons.digest not in self._uploaded:
                body = json.dumps(neurons.flat(self.layout).tolist(), separators=(",", ":")).encode()
                _checked(await self._send("PUT", f"{NEURONS}/{neurons.digest}", body))
                self._uploaded.add(neurons.digest)
        return neurons.digest

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _drop(self, key: str) -> None:
        try:
            await self._client.delete(f"{CAPTURES}/{key}")
        except httpx.TransportError:
            return  # the server forgets by itself what nobody fetches

    async def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        """One call.

        Raises:
            _Gone: it may be made again.
        """
        try:
            response = await self._client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
        except httpx.TransportError as error:
            raise _Gone(str(error) or type(error).__name__) from error
        if response.status_code in TURNED_AWAY:
            raise _Gone(_message(response))
        return response


def _server(url: str) -> str:
    """A server's URL without a path.

    Raises:
        ServerError: not a URL.
    """
    url = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ServerError(f"the base URL should be like http://127.0.0.1:8000, found {url!r:.200}")
    return url


def _ask(url: str, headers: Mapping[str, str]) -> About:
    """What a server says of itself.

    Raises:
        ServerError: nobody answers, the API key is refused, there is no plugin, or it has another version.
    """
    try:
        response = httpx.get(url + ABOUT, headers=dict(headers), timeout=30.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerError(f"no server answers at {url}: {error}; start one (docs/vllm.md), or mend the URL") from error
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
        raise ServerError(f"what the server at {url} says of itself cannot be read: {error}") from None
    raise ServerError(
        f"the server at {url} speaks version {protocol!r:.20} of the protocol, this program {PROTOCOL}; install the "
        "same version of hneurons-eval on both sides"
    )


def _checked(response: httpx.Response) -> httpx.Response:
    """The response.

    Raises:
        RuntimeError: says what the server said, if that is no success.
    """
    if not response.is_success:
        raise RuntimeError(f"the server refuses this request ({response.status_code}): {_message(response)}")
    return response


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:1000]
    except (ValueError, LookupError, TypeError):
        return response.text[:200] or response.reason_phrase


def _sampled(record: Any) -> Sampled:
    """A completion's tokens.

    Raises:
        RuntimeError: the completion has none.
    """
    try:
        (choice,) = record["choices"]
        tokens = tuple(choice["token_ids"])
        levels = None
        if choice["logprobs"] is not None:
            own = choice["logprobs"]["token_logprobs"]
            levels = [
                _ranked(token, level, top)
                for token, level, top in zip(tokens, own, choice["logprobs"]["top_logprobs"], strict=True)
            ]
    except (LookupError, TypeError, ValueError) as error:
        raise RuntimeError(f"the server's completion has no tokens: {error!r}") from None
    return Sampled(tokens, levels)


def _ranked(token: int, level: float, top: Mapping[str, float]) -> dict[int, float]:
    found = {int(name.removeprefix("token_id:")): value for name, value in top.items()} | {token: level}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


_ENGINES: EngineRegistry[ClientEngine] = EngineRegistry()


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
        name: of the checkpoint, as `resolve_model` takes it; the server's own has to be the same.
        url: of the server, with or without `/v1`.
        api_key: of the server.
        revision: of a Hub id.
        dtype: what the server has to compute in; `auto` for whatever it does.
        trust_remote_code: run code that comes with the checkpoint. Off unless you trust it.

    Raises:
        ServerError: no server, another API key, no plugin, another version, checkpoint or dtype.
        CheckpointError: the model cannot be found or read here.
    """
    key = (resolve_model(name), _server(url), api_key, revision, dtype, trust_remote_code)
    return _ENGINES.get(
        key,
        lambda: ClientEngine(name, url, api_key, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code),
    )
