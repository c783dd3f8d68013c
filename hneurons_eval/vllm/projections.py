"""The MLP neurons of a vLLM model: the row-parallel down projection of every layer, with coverage asserted.

vLLM builds models from its own modules, so the projections are found again, by the rule of `models/architecture.py`:
in every decoder layer, outside attention, the one linear map from the neurons to the residual stream. Under tensor
parallelism a rank holds a contiguous share of each layer's columns, and after the sum over ranks every rank has the
layer's whole output. Models that are not covered are refused by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.linear import LinearBase, RowParallelLinear  # pyright: ignore[reportMissingImports]

from hneurons_eval.models.architecture import Misfit, has_mixers, outside_mixers
from hneurons_eval.models.layout import UnsupportedModelError

PLAIN = "UnquantizedLinearMethod"
_ROWS = 512


@dataclass(frozen=True)
class Projection:
    """This rank's share of one layer's down projection."""

    layer: int  # its number
    name: str  # its path in the model
    module: Any  # the linear map
    first: int  # number, within the layer, of the first neuron on this rank
    width: int  # neurons on this rank

    def column_norms(self) -> Tensor:
        """||W_down[:, j]||_2 of this rank's neurons: float32 `[width]`.

        The map is applied to the identity, since vLLM repacks the weight on a CPU. Each product has one non-zero term,
        so it is exact in every dtype.
        """
        device = next((parameter.device for parameter in self.module.parameters()), torch.device("cpu"))
        norms = []
        for start in range(0, self.width, _ROWS):
            size = min(_ROWS, self.width - start)
            unit = torch.zeros(size, self.width, dtype=self.module.params_dtype, device=device)
            unit[torch.arange(size), start + torch.arange(size)] = 1
            columns = self.module.quant_method.apply(self.module, unit, None)  # [size, hidden]
            norms.append(torch.linalg.vector_norm(columns, dim=-1, dtype=torch.float32))
        return torch.cat(norms)


def find_projections(model: Any, widths: Sequence[int]) -> list[Projection]:
    """The down projection of every layer, in layer order, with the configuration's `widths`.

    Raises UnsupportedModelError: names the model's class and the module that is missing, quantised or different.
    """
    kind = type(model).__name__
    # The text part of a multimodal model.
    text: Any = model.get_language_model() if hasattr(model, "get_language_model") else model
    lists = [
        (name, module)
        for name, module in text.named_modules()
        if isinstance(module, nn.ModuleList) and has_mixers(module)
    ]
    if len(lists) != 1 or len(lists[0][1]) != len(widths):
        found = " and ".join(f"{len(module)} in {name}" for name, module in lists) or "none"
        raise UnsupportedModelError(
            f"{kind} is not covered on vLLM: {len(widths)} decoder layers expected, found {found}; use hneurons/"
        )
    prefix, layers = lists[0]
    try:
        return [
            _projection(f"{prefix}.{number}", number, layer, width)
            for number, (layer, width) in enumerate(zip(layers, widths, strict=True))
        ]
    except Misfit as misfit:
        raise UnsupportedModelError(f"{kind} is not covered on vLLM: {misfit}; use hneurons/") from None


def _projection(path: str, number: int, layer: nn.Module, width: int) -> Projection:
    if type(layer).__name__ == "PPMissingLayer":
        raise Misfit(f"{path} is in another pipeline stage; set pipeline_parallel_size=1")
    maps: list[tuple[str, Any]] = []
    for name, module, _ in outside_mixers(layer, path, layer):
        kinds = {kind.__name__ for kind in type(module).__mro__}
        if any("MoE" in kind or "Experts" in kind for kind in kinds):
            raise Misfit(f"{name} ({type(module).__name__}) is a mixture of experts")
        if "BaseLayerWithLoRA" in kinds:
            raise Misfit(f"{name} carries LoRA adapters; set enable_lora=false")
        if isinstance(module, RowParallelLinear):
            maps.append((name, module))
    if len(maps) != 1:
        linear = [name for name, module, _ in outside_mixers(layer, path, layer) if isinstance(module, LinearBase)]
        raise Misfit(
            f"{path} should have one row-parallel map from its neurons to the residual stream, found "
            f"{', '.join(name for name, _ in maps) or 'none'} among {', '.join(linear) or 'no linear maps'}"
        )
    name, module = maps[0]
    if module.input_size != width:
        raise Misfit(f"{name} has {module.input_size} neurons, the configuration says {width}")
    method = type(module.quant_method).__name__
    if method != PLAIN:
        raise Misfit(f"the weights of {name} are quantised ({method})")
    if module.tp_size > 1 and not (module.reduce_results and module.input_is_parallel):
        raise Misfit(f"{name} does not sum its output over ranks by itself; set tensor_parallel_size=1")
    if module.skip_bias_add and module.bias is not None:
        raise Misfit(f"{name} does not add its bias itself")
    share = module.input_size_per_partition
    return Projection(number, name, module, module.tp_rank * share, share)
