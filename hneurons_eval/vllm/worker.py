"""The extension of vLLM's workers: `worker_extension_cls="hneurons_eval.vllm.worker.NeuronWorker"`.

`collective_rpc` calls its methods on every worker, in rank order. Arguments and results are text, numbers and bytes
(safetensors), so that nothing is pickled across processes.
"""

import json
from typing import Any

import torch
from safetensors.torch import save
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size  # pyright: ignore[reportMissingImports]

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.vllm.hooks import NeuronHooks


class NeuronWorker:
    """Methods added to vLLM's worker."""

    model_runner: Any

    def hneurons_setup(self, widths: str) -> str:
        """Put the hooks on the model, once, before any request; `widths` are the neurons of each layer, in JSON.

        Returns the reason why the model cannot be covered, or an empty text.
        """
        try:
            ranks = get_tensor_model_parallel_world_size()
            layout = NeuronLayout(tuple(json.loads(widths)))
            self._hneurons = NeuronHooks(self.model_runner, layout, get_tensor_model_parallel_rank(), ranks)
        except ValueError as error:
            return str(error)
        return ""

    def hneurons_fetch(self, wanted: str) -> bytes:
        """Fetch and forget the captures of some requests: `[key, regions]` each, as in `NeuronHooks.fetch`, in JSON.

        Returns safetensors: for entry k of the list the tensors `k.values` and so on, or `k.error`, UTF-8 text.
        """
        tensors: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            for number, (key, regions) in enumerate(json.loads(wanted)):
                try:
                    found = self._hneurons.fetch(key, regions)
                except ValueError as error:
                    found = {"error": torch.tensor(list(str(error).encode()), dtype=torch.uint8)}
                tensors |= {f"{number}.{name}": values for name, values in found.items()}
        return save(tensors)

    def hneurons_drop(self, keys: str) -> None:
        """Forget the captures of some requests: JSON, a list of keys."""
        for key in json.loads(keys):
            self._hneurons.drop(key)

    def hneurons_held(self) -> int:
        """Number of captures that are kept."""
        return self._hneurons.held
