"""What vLLM loads of this package into its processes: the entry point `hneurons` in `vllm.general_plugins`.

```
VLLM_PLUGINS=hneurons vllm serve MODEL
```

It does something only where `VLLM_PLUGINS` names it: any other vLLM on the same machine runs as if it were not there.
Then the engine gets the worker extension that holds the hooks, runs eagerly, and with the model runner whose rows they
know. The routes are another entry point of the same name, in `vllm.endpoint_plugins`: see `serve.py`.
"""

import functools
import os
from typing import Any

PLUGIN = "hneurons"
"""Name of both entry points."""
WORKER = "hneurons_eval.vllm.worker.NeuronWorker"


def register() -> None:
    """Make the engines of this process ready for the hooks, if the user has named the plugin."""
    if PLUGIN not in os.environ.get("VLLM_PLUGINS", "").split(","):
        return
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # whose rows are looked up is V1's
    from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]

    original = EngineArgs.create_engine_config

    @functools.wraps(original)
    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.enforce_eager = True  # a compiled graph would run past the hooks
        self.worker_extension_cls = self.worker_extension_cls or WORKER
        return original(self, *args, **kwargs)

    EngineArgs.create_engine_config = create_engine_config
