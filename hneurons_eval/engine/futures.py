"""Futures between the thread of an engine and its callers."""

import contextlib
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

T = TypeVar("T")


def resolve(future: "Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    """Give a future its result, unless the caller has cancelled it meanwhile."""
    with contextlib.suppress(InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


async def wait(future: "Future[T]") -> T:
    """Wait for another thread's result without a thread of one's own; cancels it when cancelled."""
    if not future.done():
        done, token, thread = anyio.Event(), anyio.lowlevel.current_token(), threading.get_ident()

        def wake(_: Any) -> None:
            if threading.get_ident() == thread:
                done.set()  # the result came while the callback was being added
            else:
                with contextlib.suppress(RuntimeError):  # the event loop has ended, nobody waits
                    anyio.from_thread.run_sync(done.set, token=token)

        future.add_done_callback(wake)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            future.cancel()
            raise
    return future.result()
