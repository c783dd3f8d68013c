"""How much memory is free, and usage_errors work that needs more before it is begun.

```python
check_room(13 * 2**30, "the weights of a-model in float32", "use dtype=bfloat16")   # or NotEnoughMemoryError
```
"""

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use; psutil tells what the whole machine has."""
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


class NotEnoughMemoryError(ValueError, MemoryError):
    """Work that needs more memory than there is; says both figures and what to do."""


def available(cgroup: Path = CGROUP) -> int:
    """Bytes of memory that can be used: those the machine has free, or that a container is still allowed."""
    free = psutil.virtual_memory().available
    for limit, used in _LIMITS:
        try:
            # A limit that is none is the word `max`, or a number beyond all machines.
            free = min(free, int((cgroup / limit).read_text()) - int((cgroup / used).read_text()))
        except (OSError, ValueError):
            continue
    return max(free, 0)


def check_room(needed: int, what: str, instead: str) -> None:
    """Refuse what needs more than is available.

    Args:
        needed: bytes.
        what: they are needed for.
        instead: what to do where there are not as many.

    Raises:
        NotEnoughMemoryError: names both figures.
    """
    free = available()
    if needed > free:
        raise NotEnoughMemoryError(
            f"{what} would take {needed / 2**30:.3g} GiB of memory, and {free / 2**30:.3g} GiB are free; {instead}"
        )
