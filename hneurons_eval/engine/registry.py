"""The engines of a process, shared by all who ask for the same one."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

E = TypeVar("E")


class EngineRegistry(Generic[E]):
    """Engines by everything that tells one from another."""

    def __init__(self) -> None:
        self._engines: dict[Hashable, E] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, start: Callable[[], E]) -> E:
        """The engine of a key; `start` makes it on the first call, while other callers wait."""
        with self._lock:
            if key not in self._engines:
                self._engines[key] = start()
            return self._engines[key]
