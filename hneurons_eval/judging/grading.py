"""Putting a text before a judging model as data, and reading the one value that it gives back.

```python
quoted({"question": question, "answer": response})         # what the judging model is shown
argument_of(message.tool_calls, "give_verdict", "verdict")  # "correct", or None where it gave no such thing
```

The text that is judged may address the judge, close the quotation, or look like a verdict. It is therefore
quoted whole between marks that nobody who wrote it could know, and a verdict is what the judging model passes
to a tool, never what can be found in its prose.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Call(Protocol):
    """A tool call, as far as it is read here."""

    @property
    def function(self) -> str: ...

    @property
    def arguments(self) -> dict[str, Any]: ...

    @property
    def parse_error(self) -> str | None: ...


def quoted(parts: Mapping[str, str]) -> str:
    """Each part whole and unchanged between `<<name NUMBER>>` and `<<end NUMBER>>`.

    The number of 16 hexadecimal digits is a hash of all parts that stands in none of them. Whoever wrote one
    of them cannot have known it (a text that holds its own hash would have to be searched for among 2^64), and
    the same parts always give the same quotation, so that a greedy judge repeats its verdict and a cache of
    replies knows the request.
    """
    number = _number(parts)
    return "\n\n".join(f"<<{name} {number}>>\n{content}\n<<end {number}>>" for name, content in parts.items())


def _number(parts: Mapping[str, str]) -> str:
    written = "".join(parts.values()).lower()
    # JSON keeps the borders between parts, and writes lone surrogates as ASCII.
    tries = (json.dumps([attempt, list(parts.items())]) for attempt in itertools.count())
    numbers = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in tries)
    return next(number for number in numbers if number not in written)


def argument_of(calls: Sequence[Call], tool: str, parameter: str) -> str | None:
    """The text that tool calls give for a tool's only parameter.

    None where it is not certain: no call, a call of another name, a call that could not be parsed, a missing or
    a further argument, a value that is no text, or calls that differ.
    """
    given: set[str] = set()
    for call in calls:
        if call.function != tool or call.parse_error or call.arguments.keys() != {parameter}:
            return None
        value = call.arguments[parameter]
        if not isinstance(value, str):
            return None
        given.add(value)
    return given.pop() if len(given) == 1 else None
