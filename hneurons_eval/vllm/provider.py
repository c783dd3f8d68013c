"""The Inspect model API over vLLM: `hneurons-vllm/<model>`, with the requests and results of `hneurons/`.

```
inspect eval any_task --model hneurons-vllm/MODEL -M neurons=neurons.json -M alpha=0 -M tensor_parallel_size=4
```
"""

from typing import Any

from inspect_ai.model import GenerateConfig

from hneurons_eval.provider import NeuronsAPI
from hneurons_eval.vllm.engine import VLLMEngine, get_vllm_engine


class HNeuronsVLLMAPI(NeuronsAPI[VLLMEngine]):
    """Inspect provider for models that vLLM runs, whose neurons can be captured and scaled.

    Args:
        neurons, alpha, risk, dtype, revision, trust_remote_code: as of `hneurons/`.
        options: vLLM's engine args by name, such as `tensor_parallel_size`, `max_model_len`, `max_num_seqs`,
            `gpu_memory_utilization`, `kv_cache_memory_bytes`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        neurons: str | None = None,
        alpha: float | str | None = None,
        risk: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        **options: Any,
    ) -> None:
        def start() -> VLLMEngine:
            return get_vllm_engine(
                model_name,
                revision=None if revision is None else str(revision),
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                options=options,
            )

        super().__init__(model_name, api_key, config, neurons, alpha, start, revision, dtype, risk)
