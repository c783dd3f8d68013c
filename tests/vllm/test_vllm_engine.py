"""The queue of an engine on vLLM while it stops; the rest needs vLLM, see tests_vllm."""

import queue
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from hneurons_eval.engine.requests import Captured, CaptureRequest
from hneurons_eval.vllm.engine import VLLMEngine
from hneurons_eval.vllm.requests import PendingCapture


class SlowQueue(queue.Queue[Any]):
    """A queue in which a request arrives only when it is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.arriving, self.let_in = threading.Event(), threading.Event()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self.arriving.set()
        assert self.let_in.wait(10)
        super().put(item)


def test_a_request_that_is_queued_while_vllm_stops_fails():
    engine = object.__new__(VLLMEngine)
    engine._active, engine._failed = {}, None
    engine._accepting, engine._closing = threading.Lock(), threading.Event()
    engine._queue = slow = SlowQueue()  # pyright: ignore[reportAttributeAccessIssue]
    future: Future[Captured] = Future()
    pending = PendingCapture(future, CaptureRequest((1, 2), ((0,),)))
    submitting = threading.Thread(target=engine._submit, args=(pending,))
    submitting.start()
    assert slow.arriving.wait(10)
    stopping = threading.Thread(target=engine._stop)
    stopping.start()
    stopping.join(0.2)
    slow.let_in.set()
    submitting.join(10)
    stopping.join(10)
    with pytest.raises(RuntimeError, match="vLLM has stopped"):
        future.result(timeout=0)
    with pytest.raises(RuntimeError, match="vLLM has stopped; start a new process"):
        engine._submit(pending)
