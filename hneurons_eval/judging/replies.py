"""The verdict in an LLM judge's written reply.

```python
parse_verdict('{"verdict": "incorrect"}')              # "incorrect"
parse_verdict("The answer is correct, I think")        # "unparsed"
```
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from hneurons_eval.judging.rule import Verdict

_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)\s*```", re.DOTALL | re.IGNORECASE)
_DECORATION = " \t\r\n\"'`*_“”‘’"


def parse_verdict(text: str) -> Verdict | Literal["unparsed"]:
    """The verdict in an LLM judge's reply: the label alone, or `{"verdict": label}`; see `parse_label`."""
    found = parse_label(text, get_args(Verdict))
    return next((v for v in get_args(Verdict) if v == found), "unparsed")


def parse_label(text: str, labels: Sequence[str], key: str = "verdict") -> str:
    """The label in a judge's reply: the label alone, or a JSON object with the label under `key`.

    The object may also have a "reason" string and be in one code fence. The words of a label may be joined by spaces
    or hyphens. Sentences, two labels, other keys and repeated keys are "unparsed", which callers count and never read
    as one of the labels.
    """
    text = text.strip()
    fence = _FENCE.fullmatch(text)
    if fence is not None:
        text = fence[1].strip()
    if text.startswith("{"):
        try:
            reply = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            return "unparsed"
        readable = reply.keys() <= {key, "reason"} and isinstance(reply.get("reason", ""), str)
        return _label(reply[key], labels) if readable and isinstance(reply.get(key), str) else "unparsed"
    text = text.strip(_DECORATION)
    return _label(text.removesuffix(".").rstrip(_DECORATION), labels)


def _label(said: str, labels: Sequence[str]) -> str:
    form = said.lower()
    forms = (form, form.replace(" ", "_"), form.replace("-", "_"))
    return next((label for label in labels if label in forms), "unparsed")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("repeated key")
    return result
