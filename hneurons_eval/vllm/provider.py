"""The Inspect model API on vLLM: `hneurons-vllm/<model>`, with the requests and results of `hneurons/`.

```
inspect eval any_task --model hneurons-vllm/MODEL -M neurons=neurons.json -M alpha=0 -M tensor_parallel_size=4
inspect eval any_task --model hneurons-vllm/MODEL --model-base-url http://HOST:8000 -M neurons=neurons.json -M alpha=0
```

The first runs vLLM in this process; the second uses a vLLM server with the plugin (docs/vllm.md).
"""

import os
from typing import Any

from inspect_ai.model import GenerateConfig

from hneurons_eval.engine.provider import NeuronsAPI
from hneurons_eval.vllm.base import BaseEngine
from hneurons_eval.vllm.client import get_client_engine
from hneurons_eval.vllm.engine import get_vllm_engine

BASE_URL, API_KEY = "HNEURONS_VLLM_BASE_URL", "HNEURONS_VLLM_API_KEY"
"""Environment variables for `base_url` and `api_key`."""


class HNeuronsVLLMAPI(NeuronsAPI[BaseEngine]):
    """Inspect provider for models on vLLM whose neurons can be captured and scaled.

    Args:
        base_url: of a server with the plugin, used in place of vLLM in this process; Inspect's `--model-base-url`,
            else the environment's `HNEURONS_VLLM_BASE_URL`.
        api_key: of that server; else the environment's `HNEURONS_VLLM_API_KEY`.
        neurons, alpha, sign, risk, dtype, revision, trust_remote_code: as of `hneurons/`.
        options: vLLM's engine args by name, such as `tensor_parallel_size`, `max_model_len`, `max_num_seqs`,
            `gpu_memory_utilization`, `kv_cache_memory_bytes`; a server has its own.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        neurons: str | None = None,
        alpha: float | str | None = None,
        sign: str = "positive",
        risk: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> None:
        url = base_url or os.environ.get(BASE_URL)
        key = api_key or os.environ.get(API_KEY)
        revision = None if revision is None else str(revision)

        def start() -> BaseEngine:
            if not url:
                return get_vllm_engine(
                    model_name, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, options=options
                )
            if options:
                raise ValueError(
                    f"{', '.join(sorted(options))} cannot be set here for the server at {url}: set vLLM's options "
                    "where it is started"
                )
            return get_client_engine(
                model_name, url, key, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code
            )

        super().__init__(model_name, api_key, config, neurons, alpha, start, revision, dtype, risk, sign)
