"""Where a model keeps its MLP neurons: one down projection a layer, coverage asserted.

```python
layout = neuron_layout(model)          # widths per layer, total
for place in down_projections(model):  # the modules to hook, in layer order
    place.module.register_forward_pre_hook(...)
```

A *neuron* (layer, j) is input j of the layer's down projection: z_j in h = W_down z. Its *flat
index* counts layer by layer. Whatever cannot be covered whole is refused by name
(`UnsupportedModelError`): a model of which only some layers were found would give neurons with
the wrong layer numbers.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn


class UnsupportedModelError(ValueError):
    """The model's neurons cannot all be found; says which class and what is missing."""


@dataclass(frozen=True)
class NeuronLayout:
    """How many neurons each layer has, and how flat indices map to them.

    Attributes:
        widths: neurons of each layer, in layer order.
    """

    widths: tuple[int, ...]

    @property
    def total(self) -> int:
        """Number of neurons in all layers, D."""
        return sum(self.widths)

    @cached_property
    def starts(self) -> np.ndarray:
        """Flat index of each layer's first neuron, and the total at the end: int64 `[layers + 1]`."""
        return np.concatenate([[0], np.cumsum(self.widths, dtype=np.int64)]).astype(np.int64)

    def flat(self, layers: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Flat indices of the neurons (layers[k], indices[k]): int64 `[neurons]`.

        Raises:
            IndexError: a layer or an index that this layout does not have.
        """
        layers, indices = np.asarray(layers, np.int64), np.asarray(indices, np.int64)
        if layers.size and (layers.min() < 0 or layers.max() >= len(self.widths)):
            raise IndexError(f"layer {layers.min()}..{layers.max()} asked for, the model has {len(self.widths)} layers")
        widths = np.asarray(self.widths, np.int64)[layers]
        if ((indices < 0) | (indices >= widths)).any():
            bad = int(np.flatnonzero((indices < 0) | (indices >= widths))[0])
            raise IndexError(
                f"neuron {indices[bad]} of layer {layers[bad]} asked for, that layer has {widths[bad]} neurons"
            )
        return self.starts[layers] + indices

    def unflatten(self, flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Layers and indices of flat indices: two int64 `[neurons]`.

        Raises:
            IndexError: a flat index outside 0..total-1.
        """
        flat = np.asarray(flat, np.int64)
        if flat.size and (flat.min() < 0 or flat.max() >= self.total):
            raise IndexError(f"flat index {flat.min()}..{flat.max()} asked for, the model has {self.total} neurons")
        layers = np.searchsorted(self.starts, flat, side="right") - 1
        return layers, flat - self.starts[layers]

    def __str__(self) -> str:
        widths = sorted(set(self.widths))
        width = str(widths[0]) if len(widths) == 1 else f"{widths[0]}..{widths[-1]}"
        return f"{len(self.widths)} layers x {width} neurons = {self.total:,}"


@dataclass(frozen=True)
class DownProjection:
    """The place in one layer where its neurons feed the residual stream.

    Attributes:
        layer: number of the layer, from 0.
        name: dotted name of the module within the model.
        module: the linear map h = W z (+ bias); its input is z `[..., width]`.
    """

    layer: int
    name: str
    module: "nn.Linear"

    @property
    def width(self) -> int:
        """Number of neurons."""
        return self.module.in_features

    def column_norms(self) -> "Tensor":
        """||W[:, j]||_2 of every neuron j: float32 `[width]` on the weight's device."""
        return self.module.weight.detach().float().norm(dim=0)


def text_config(config: Any) -> Any:
    """The part of a configuration that describes the language model (multimodal ones nest it)."""
    return config.get_text_config(decoder=True)


def layout_from_config(config: Any) -> NeuronLayout:
    """The neurons that a checkpoint's configuration promises, without loading any weight.

    Raises:
        UnsupportedModelError: a mixture of experts, or no layer count or width in the configuration.
    """
    text = text_config(config)
    name = getattr(config, "model_type", type(config).__name__)
    if any(getattr(text, key, None) for key in ("num_local_experts", "num_experts", "n_routed_experts")):
        raise UnsupportedModelError(f"{name} is a mixture of experts, which is not supported; use a dense model")
    layers, width = getattr(text, "num_hidden_layers", None), getattr(text, "intermediate_size", None)
    if not isinstance(layers, int) or layers < 1 or width is None:
        raise UnsupportedModelError(
            f"the configuration of {name} does not say num_hidden_layers and intermediate_size; "
            "supported are dense decoders of the Llama kind (a gated MLP with a down_proj in every layer)"
        )
    widths = tuple(width) if isinstance(width, list | tuple) else (width,) * layers
    return NeuronLayout(widths)


def down_projections(model: "nn.Module") -> list[DownProjection]:
    """The down projection of every layer of a transformers causal language model, in layer order.

    Raises:
        UnsupportedModelError: names the model's class and what was missing or did not fit the configuration.
    """
    from torch import nn

    kind = type(model).__name__
    expected = layout_from_config(model.config)
    prefix, layers = _decoder_layers(model, len(expected.widths))
    places: list[DownProjection] = []
    for number, layer in enumerate(layers):
        mlp = getattr(layer, "mlp", None)
        module = getattr(mlp, "down_proj", None)
        name = f"{prefix}.{number}.mlp.down_proj"
        if type(module) is not nn.Linear:
            found = "nothing" if module is None else type(module).__name__
            raise UnsupportedModelError(f"{kind} is not supported: {name} should be an nn.Linear, found {found}")
        if module.in_features != expected.widths[number]:
            raise UnsupportedModelError(
                f"{kind} is not supported: {name} has {module.in_features} neurons, "
                f"the configuration says {expected.widths[number]}"
            )
        if module.weight.is_meta:
            raise UnsupportedModelError(f"{name} of {kind} is on the meta device; load its weights first")
        places.append(DownProjection(number, name, module))
    return places


def neuron_layout(model: "nn.Module") -> NeuronLayout:
    """The neurons of a loaded model.

    Raises:
        UnsupportedModelError: as `down_projections`.
    """
    return NeuronLayout(tuple(place.width for place in down_projections(model)))


def _decoder_layers(model: "nn.Module", count: int) -> tuple[str, "list[nn.Module]"]:
    """Name and content of the one list of decoder layers in the language model."""
    from torch import nn

    get_decoder: Any = getattr(model, "get_decoder", None)
    decoder = model if get_decoder is None else get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UnsupportedModelError(
            f"{type(model).__name__} is not supported: {type(decoder).__name__} has no list of layers; "
            "supported are dense decoders of the Llama kind"
        )
    if len(layers) != count:
        raise UnsupportedModelError(
            f"{type(model).__name__} is not supported: {len(layers)} decoder layers found, "
            f"the configuration says {count}"
        )
    prefix = next(name for name, module in model.named_modules() if module is layers)
    return prefix, list(layers)
