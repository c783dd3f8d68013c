"""What a server with the plugin and its callers agree on. Imports neither torch nor vLLM.

Requests go to vLLM's own routes, with `fields.RequestExtras` as text in `vllm_xargs`. Besides them there are:

```
GET    /v1/hneurons                    what is served, as `About`
PUT    /v1/hneurons/neurons/DIGEST     the flat indices of a neuron set, a JSON list, named by its digest from then on
POST   /v1/hneurons/captures/KEY       {"regions": null} or {"regions": [[0, []], [null, [[12, 15]]], ...]}: what was
                                       captured under a request's key, as safetensors; it is forgotten then
DELETE /v1/hneurons/captures/KEY       forget it
```

All of them are guarded by the server's API key.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROTOCOL = 1
"""Counts changes of the routes and of `RequestExtras`; server and caller have to have the same."""
ABOUT = "/v1/hneurons"
NEURONS = "/v1/hneurons/neurons"
CAPTURES = "/v1/hneurons/captures"


@dataclass(frozen=True)
class About:
    """What a server says of itself.

    Attributes:
        protocol: version of the protocol.
        version: of this package.
        model: name for requests.
        fingerprint: identity of the checkpoint's content.
        dtype: of the weights.
        widths: neurons of each layer.
        context: most tokens a sequence may have: one less than vLLM's `max_model_len`.
        max_logprobs: alternatives that can be asked for at each token; -1 for any number.
    """

    protocol: int
    version: str
    model: str
    fingerprint: str
    dtype: str
    widths: tuple[int, ...]
    context: int
    max_logprobs: int

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, text: str | bytes) -> "About":
        """From JSON; keys that are not known are left out.

        Raises:
            ValueError: something is missing, or of another kind.
        """
        record = json.loads(text)
        if not isinstance(record, Mapping):
            raise ValueError("not a JSON object")
        found: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            value = record.get(name)
            if name == "widths":
                if not isinstance(value, list) or not all(type(width) is int and width > 0 for width in value):
                    raise ValueError("widths should be a list of whole numbers")
                value = tuple(value)
            elif type(value) is not cls.__annotations__[name]:
                raise ValueError(f"{name} should be of type {cls.__annotations__[name].__name__}, found {value!r:.80}")
            found[name] = value
        return cls(**found)
