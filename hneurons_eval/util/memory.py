"""Free memory, and a check before work that needs more.

```python
check_room(13 * 2**30, "the weights of a-model in float32", "use dtype=bfloat16")   # or NotEnoughMemoryError
```
"""

from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")
"""Linux's directory of a container's limits; psutil reports the whole machine's memory."""
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


class NotEnoughMemoryError(ValueError, MemoryError):
    """Work needs more memory than is free; the message gives both figures and a remedy."""


def available(cgroup: Path = CGROUP) -> int:
    """Usable memory in bytes: the machine's free memory, or what is left of a container's limit."""
    free = psutil.virtual_memory().available
    for limit, used in _LIMITS:
        try:
            # No limit reads as `max` (cgroup v2) or a huge number (v1).
            free = min(free, int((cgroup / limit).read_text()) - int((cgroup / used).read_text()))
        except (OSError, ValueError):
            continue
    return max(free, 0)


def check_room(needed: int, what: str, instead: str) -> None:
    """Check that work fits into memory.

    Args:
        needed: bytes.
        what: the work, as the message's subject.
        instead: remedy, the end of the message.

    Raises:
        NotEnoughMemoryError: more is needed than is free.
    """
    free = available()
    if needed > free:
        raise NotEnoughMemoryError(
            f"{what} would take {needed / 2**30:.3g} GiB of memory, and {free / 2**30:.3g} GiB are free; {instead}"
        )
