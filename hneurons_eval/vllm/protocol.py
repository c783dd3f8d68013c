"""The protocol between a server with the plugin and its clients. Imports neither torch nor vLLM.

Requests go to vLLM's own routes, with `RequestExtras` as text in `vllm_xargs`. The plugin adds:

```
GET    /v1/hneurons                    the model of the server, as `About`
PUT    /v1/hneurons/neurons/DIGEST     upload a neuron set: a JSON list of flat indices, named by its digest
POST   /v1/hneurons/captures/KEY       fetch and forget the contributions captured under a request's key, as
                                       safetensors; {"regions": null} or {"regions": [[0, []], [null, [[12, 15]]], ...]}
DELETE /v1/hneurons/captures/KEY       forget them
```

All of them need the server's API key.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from hneurons_eval.util.errors import parse_json

PROTOCOL = 1
"""Version of the routes and of `RequestExtras`; server and client need the same."""
ABOUT = "/v1/hneurons"
NEURONS = "/v1/hneurons/neurons"
CAPTURES = "/v1/hneurons/captures"


@dataclass(frozen=True)
class About:
    """A server's model."""

    protocol: int  # version of the protocol
    version: str  # of this package
    model: str  # name for requests
    fingerprint: str  # identity of the checkpoint's content
    dtype: str  # of the weights
    widths: tuple[Annotated[int, Field(gt=0)], ...]  # neurons of each layer
    context: int  # maximum tokens of a sequence: one less than vLLM's `max_model_len`
    max_logprobs: int  # maximum alternatives at each token; -1 for any number
    __pydantic_config__ = ConfigDict(strict=True)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, text: str | bytes) -> "About":
        """From JSON; unknown keys are ignored. Raises ValueError: a value is missing or has another type."""
        return parse_json(_ABOUT, text, "about")


_ABOUT = TypeAdapter(About)
