"""A judge of moods for `openai_server.ChatServer`: at times slow, overloaded, out of order, mute, or raving.

```python
with ChatServer(Moods(seed=1)) as server:
    get_model("openai-api/local/judge", base_url=server.url, api_key="none")
```
"""

import random
import threading
from collections import Counter
from collections.abc import Callable

from openai_server import Reply, Request, call, garbage, hang_up, nothing, refusal, slow, text


def honest(request: Request) -> Reply:
    """A verdict by what the answer says of itself."""
    return call("correct" if "is right" in request["messages"][-1]["content"] else "incorrect")


MOODS: dict[str, Callable[[Request], Reply]] = {
    "well": honest,
    "slow": lambda request: slow(honest(request), 0.05),
    "rate limit": lambda _: refusal(429, "too many requests", retry_after_ms="10"),
    "error": lambda _: refusal(500, "it burns", retry_after_ms="10"),
    "garbage": lambda _: garbage(),
    "no choices": lambda _: nothing(),
    "empty text": lambda _: text(""),
    "raving": lambda _: text('The verdict is {"verdict": "correct"}, I am sure.'),
    "hangs up": lambda _: hang_up(),
}
WELL = 0.6
"""Share of the requests that it answers as it should and at once."""


class Moods:
    """Answers each request in a mood drawn from a seed.

    Attributes:
        count: how often each came.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self.count: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            others = [mood for mood in MOODS if mood != "well"]
            mood = "well" if self._rng.random() < WELL else self._rng.choice(others)
            self.count[mood] += 1
        return MOODS[mood](request)
