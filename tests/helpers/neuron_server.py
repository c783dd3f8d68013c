"""A stand-in for a vLLM server with the plugin: it answers from a script, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from hneurons_eval.engine.requests import Captured
from hneurons_eval.vllm.admission import NeuronSets
from hneurons_eval.vllm.protocol import ABOUT, CAPTURES, NEURONS, About
from hneurons_eval.vllm.requests import to_bytes

API_KEY = "open sesame"


class NeuronServer:
    """What the handlers know.

    Attributes:
        about: what it says of itself, or another JSON value; None for a server without the plugin.
        sets: neuron sets that were uploaded.
        answer: token ids that every completion gives.
        contributions: that every capture gives, float32 `[regions, neurons]`.
        asked: bodies of completions, as they came.
        fetched: of each capture that was fetched its key and the regions.
        dropped: keys that were to be forgotten.
        uploads: number of neuron sets that came.
        failures: completions that are still to be broken off.
        turned_away: completions that are still to be turned away.
        held: completions wait for this.
    """

    def __init__(self, about: About | Any, sets: NeuronSets) -> None:
        self.about = about
        self.sets = sets
        self.answer: list[int] = [1]
        self.contributions = np.zeros((1, 1), np.float32)
        self.asked: list[dict[str, Any]] = []
        self.fetched: list[tuple[str, Any]] = []
        self.dropped: list[str] = []
        self.uploads = 0
        self.failures = self.turned_away = 0
        self.held = threading.Event()
        self.held.set()
        self.changed = threading.Condition()

    def wait(self, ready: Callable[[], Any]) -> None:
        """Wait until something has come."""
        with self.changed:
            assert self.changed.wait_for(ready, timeout=120)

    def completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body of what a completion answers."""
        with self.changed:
            self.asked.append(body)
            self.changed.notify_all()
        self.held.wait(120)
        extras = json.loads(body.get("vllm_xargs", {}).get("hneurons", "{}"))
        for name in ("neurons", "watch"):
            if isinstance(digest := extras.get(name), str):
                try:
                    self.sets.flat(digest)
                except LookupError as error:
                    return 404, {"error": {"message": str(error)}}
        if self.turned_away:
            self.turned_away -= 1
            return 503, {"error": {"message": "too busy"}}
        tokens = self.answer[: body["max_tokens"]]
        logprobs = None
        if body.get("logprobs") is not None:
            others = {f"token_id:{token}": -0.1 * token for token in range(1, 2 + body["logprobs"])}
            logprobs = {"token_logprobs": [-0.5] * len(tokens), "top_logprobs": [others] * len(tokens)}
        return 200, {"choices": [{"token_ids": tokens, "logprobs": logprobs}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: NeuronServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = None) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _handle(self) -> None:
        state = self.state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {API_KEY}":
            return self._answer(401, {"error": "Unauthorized"})
        last = self.path.rsplit("/", 1)[-1]
        if self.path == ABOUT and state.about is not None:
            return self._answer(200, state.about.record() if isinstance(state.about, About) else state.about)
        if self.path.startswith(NEURONS) and self.command == "PUT":
            state.uploads += 1
            state.sets.add(last, body)
            return self._answer(204)
        if self.path.startswith(CAPTURES) and self.command == "DELETE":
            with state.changed:
                state.dropped.append(last)
                state.changed.notify_all()
            return self._answer(204)
        if self.path.startswith(CAPTURES):
            state.fetched.append((last, json.loads(body)["regions"]))
            return self._answer(200, to_bytes(Captured(state.contributions, None)))
        if self.path == "/v1/completions":
            if state.failures:
                state.failures -= 1
                self.close_connection = True
                self.connection.close()
                return None
            return self._answer(*state.completion(json.loads(body)))
        return self._answer(404, {"detail": "Not Found"})

    do_GET = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815


@contextmanager
def serving(about: About | Any, sets: NeuronSets) -> Iterator[tuple[str, NeuronServer]]:
    """URL and state of a server that runs inside the block."""
    state = NeuronServer(about, sets)
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", state
    finally:
        state.held.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
