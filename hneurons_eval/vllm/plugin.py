"""The plugin that vLLM loads into its processes: the entry point `hneurons` in `vllm.general_plugins`.

```
VLLM_PLUGINS=hneurons vllm serve MODEL
```

It does nothing unless `VLLM_PLUGINS` names it, so other vLLMs on the machine run as if it were not installed. Named, it
gives engines the worker extension with the hooks, eager mode, and the model runner whose rows the hooks know. The
routes are the entry point of the same name in `vllm.endpoint_plugins`: see `serve.py`.
"""

import functools
import os
from typing import Any

PLUGIN = "hneurons"
"""Name of both entry points."""
WORKER = "hneurons_eval.vllm.worker.NeuronWorker"


def register() -> None:
    """Prepare the engines of this process for the hooks, if the user has named the plugin."""
    if PLUGIN not in os.environ.get("VLLM_PLUGINS", "").split(","):
        return
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # the hooks read the rows of V1
    from vllm.engine.arg_utils import EngineArgs  # pyright: ignore[reportMissingImports]

    original = EngineArgs.create_engine_config

    @functools.wraps(original)
    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.enforce_eager = True  # a compiled graph would bypass the hooks
        self.worker_extension_cls = self.worker_extension_cls or WORKER
        return original(self, *args, **kwargs)

    EngineArgs.create_engine_config = create_engine_config
