"""The engines of a process, shared by all who ask for the same one."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from hneurons_eval.models.checkpoints import resolve_model

E = TypeVar("E")
_ENGINES: dict[tuple[Any, ...], Any] = {}
_LOCK = threading.Lock()


def shared_engine(start: Callable[..., E], name: str, *arguments: str | None, **options: Any) -> E:
    """The engine of these arguments; the first call starts it while other callers wait."""
    key = (start, resolve_model(name), *arguments, repr(sorted(options.items())))
    with _LOCK:
        if key not in _ENGINES:
            _ENGINES[key] = start(name, *arguments, **options)
        return _ENGINES[key]
