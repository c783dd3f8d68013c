"""A server on this machine that speaks OpenAI's chat-completions protocol, well or badly, as a test tells it to.

```python
with ChatServer(lambda request: call("correct")) as server:
    get_model("openai-api/local/judge", base_url=server.url, api_key="none")
server.requests  # what it was asked, in order
```
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Request = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the server sends.

    Attributes:
        body: bytes of the body, or None to close the connection without a word.
        status: of HTTP.
        headers: beside those that every reply has.
        wait: seconds before anything is sent.
    """

    body: bytes | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0


def completion(message: Mapping[str, Any] | None, finish_reason: str = "stop") -> Reply:
    """A completion with one choice, or with none."""
    choices = [] if message is None else [{"index": 0, "message": message, "finish_reason": finish_reason}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "chat-1", "object": "chat.completion", "created": 1, "model": "judge", "choices": choices}
    return Reply(json.dumps(body | {"usage": usage}).encode())


def call(verdict: Any, name: str = "give_verdict", arguments: str | None = None) -> Reply:
    """A call of the tool with a verdict, or with the text of arguments that is given."""
    written = json.dumps({"verdict": verdict}) if arguments is None else arguments
    called = {"id": "call-1", "type": "function", "function": {"name": name, "arguments": written}}
    return completion({"role": "assistant", "content": None, "tool_calls": [called]}, "tool_calls")


def text(content: str) -> Reply:
    """Plain text."""
    return completion({"role": "assistant", "content": content})


def nothing() -> Reply:
    """A completion without choices."""
    return completion(None)


def garbage() -> Reply:
    """A body that claims to be JSON and is not."""
    return Reply(b'{"id": "chat-1", "choices": [{"mess')


def hang_up() -> Reply:
    """No reply: the connection is closed."""
    return Reply(None)


def refusal(status: int, message: str, **headers: str) -> Reply:
    """An error of the server; `retry_after_ms="20"` becomes the header `retry-after-ms`."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    return Reply(json.dumps(body).encode(), status, {name.replace("_", "-"): value for name, value in headers.items()})


def slow(reply: Reply, seconds: float) -> Reply:
    """The same, later."""
    return Reply(reply.body, reply.status, reply.headers, seconds)


class ChatServer:
    """Serves while its `with` block lasts.

    Args:
        answer: from the request's JSON to the reply.

    Attributes:
        url: base of the API.
        requests: the JSON of all requests so far.
        times: when each came, in seconds.
        keys: the `Authorization` header of each.
    """

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: list[str | None] = []
        lock, chat = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path != "/v1/chat/completions":
                    self._send(refusal(404, f"no {self.path} here"))
                    return
                with lock:
                    chat.requests.append(request)
                    chat.times.append(time.monotonic())
                    chat.keys.append(self.headers["authorization"])
                self._send(answer(request))

            def _send(self, reply: Reply) -> None:
                if reply.wait and chat._closing.wait(reply.wait):
                    return
                if reply.body is None:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in {"content-type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def handle(self) -> None:
                with suppress(ConnectionError):  # whoever asked did not wait for the reply
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
