"""Down projections of a model, one a layer, found by structure.

```python
layout = neuron_layout(model)          # widths per layer, total
for projection in down_projections(model):  # in layer order
    projection.parts, projection.column_norms()
```

A *neuron* (layer, j) is input j of the layer's down projection: z_j in h = W_down z. Its *flat index* counts layer by
layer. In a mixture of experts a layer's neurons are those of all experts, expert by expert, then those of the shared
experts; z carries the routing weight and is 0 where the expert was not chosen, and h is the output of the whole layer.
That definition is ours: the paper has dense models only.

In every decoder layer, outside attention, they are the inputs of the experts that keep transformers' protocol, or else
of the MLP's last linear map; names of model classes play no part. `coverage.py` proves it on a probe input. A model
that is not covered whole is refused by name: with some layers only, neurons would have the wrong layer numbers.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from hneurons_eval.models.down_projection import PLAIN_DTYPES, Dense, DownProjection, Experts, linear_shape
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError

MIXERS = ("attn", "attention", "mamba", "recurrent", "conv")
"""Parts of these names' modules mix tokens; they hold no MLP neurons."""
STREAM_MIXERS = ("ffn_hc", "mlp_hyper_connection")
"""Parts of these names mix several residual streams around the MLP (DeepSeek-V4, Qwen4); no neurons either."""
WIDTH_KEYS = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
EXPERT_WIDTH_KEYS = ("moe_intermediate_size", "intermediate_size")
EXPERT_COUNT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
SHARED_GATES = {"shared_expert": "shared_expert_gate"}
"""Shared experts whose output is multiplied by the sigmoid of a gate beside them (Qwen2-MoE and its kin)."""


# ---- from the configuration ----------------------------------------------------------------------


def text_config(config: Any) -> Any:
    """The part of a configuration that describes the language model (multimodal ones nest it)."""
    return config.get_text_config(decoder=True)


def build_empty(config: Any, trust_remote_code: bool = False) -> Any:
    """The model that a configuration describes, on the meta device: all structure, no weights, no memory.

    Raises UnsupportedModelError: transformers has no causal language model for it, or cannot build it.
    """
    name = getattr(config, "model_type", type(config).__name__)
    try:
        with torch.device("meta"):
            return model_class(config).from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever some model's constructor trips over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModelError(f"transformers cannot build a language model for {name}: {reason}") from error


def model_class(config: Any) -> Any:
    """The transformers auto class that loads a checkpoint: causal, or the multimodal wrapper of one."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    wrapped = type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return AutoModelForImageTextToText if wrapped else AutoModelForCausalLM


def layout_from_config(config: Any, trust_remote_code: bool = False) -> NeuronLayout:
    """The neurons that a checkpoint's configuration promises, without loading any weight."""
    return neuron_layout(build_empty(config, trust_remote_code))


def _named(config: Any, keys: tuple[str, ...]) -> Any:
    return next((value for key in keys if (value := getattr(config, key, None)) is not None), None)


# ---- from the model ------------------------------------------------------------------------------


def down_projections(model: nn.Module) -> list[DownProjection]:
    """The down projection of every layer of a transformers causal language model, in layer order.

    Raises UnsupportedModelError: names the model's class and what was missing or did not fit the configuration.
    """
    config: Any = text_config(model.config)
    prefix, layers = _decoder_layers(model, config)
    try:
        return [
            _projection_of_layer(f"{prefix}.{number}", number, layer, config) for number, layer in enumerate(layers)
        ]
    except Misfit as misfit:
        raise UnsupportedModelError(f"{type(model).__name__} is not supported: {misfit}") from None


def neuron_layout(model: nn.Module) -> NeuronLayout:
    """The neurons of a model; its weights need not be loaded.

    Raises:
        UnsupportedModelError: as `down_projections`.
    """
    return NeuronLayout(tuple(projection.width for projection in down_projections(model)))


class Misfit(Exception):
    """A part that a model lacks, or that differs from its configuration."""


def _decoder_layers(model: Any, config: Any) -> tuple[str, list[nn.Module]]:
    """Name and content of the one list of decoder layers in the language model."""
    kind, count = type(model).__name__, getattr(config, "num_hidden_layers", None)
    if config.is_encoder_decoder or not model.can_generate():
        raise UnsupportedModelError(f"{kind} is not supported: it is not a decoder that generates text by itself")
    if not isinstance(count, int) or count < 1:
        raise UnsupportedModelError(f"{kind} is not supported: its configuration does not say num_hidden_layers")
    decoder = model.get_decoder()
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList) and has_mixers(module)]
    if not lists:
        raise UnsupportedModelError(
            f"{kind} is not supported: {type(decoder).__name__} has no list of decoder layers with attention and MLP"
        )
    if len(lists) > 1 or len(lists[0]) != count:
        raise UnsupportedModelError(
            f"{kind} is not supported: {' and '.join(str(len(one)) for one in lists)} decoder layers found, "
            f"the configuration says {count}"
        )
    prefix = next(name for name, module in model.named_modules() if module is lists[0])
    return prefix, list(lists[0])


def has_mixers(layers: nn.ModuleList) -> bool:
    """Whether any of the modules has a part that mixes tokens, as decoder layers do."""
    return any(_mixes_tokens(name) for layer in layers for name, _ in layer.named_children())


def _mixes_tokens(name: str) -> bool:
    return any(mixer in name.lower() for mixer in MIXERS)


def _projection_of_layer(name: str, number: int, layer: nn.Module, config: Any) -> DownProjection:
    mixtures: list[tuple[str, nn.Module, nn.Module]] = []
    maps: list[tuple[str, nn.Module, nn.Module]] = []
    for path, module, parent in outside_mixers(layer, name, layer):
        if _is_experts(module):
            mixtures.append((path, module, parent))
        elif any(parameter.dim() > 2 for parameter in module.parameters(recurse=False)):
            raise Misfit(f"{path} ({type(module).__name__}) keeps weights in a way that is not known, as of experts")
        elif linear_shape(module) is None and (last := _last_map(module)) is not None:
            maps.append((f"{path}.{last[0]}", last[1], module))
    hidden = getattr(config, "hidden_size", None)
    maps = [one for one in maps if _shape(one[1])[1] == hidden]
    if len(mixtures) == 1:
        projection = _mixture(name, number, layer, config, mixtures[0], maps)
    elif len(maps) == 1 and not mixtures:
        path, module, _ = maps[0]
        width = _shape(module)[0]
        expected = _named(config, WIDTH_KEYS) or 4 * config.hidden_size
        expected = expected[number] if isinstance(expected, list | tuple) else expected
        if width != expected:
            raise Misfit(f"{path} has {width} neurons, the configuration says {expected}")
        projection = DownProjection(
            number, path, module, (Dense(path, module, width),), layer, _child_with(layer, module)
        )
    else:
        found = [path for path, *_ in (*mixtures, *maps)]
        found = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise Misfit(
            f"{name} should have one MLP with a linear map from its neurons to the residual stream, "
            f"found {found or 'none'}"
        )
    _check_all_accounted_for(name, layer, projection)
    return projection


def _mixture(
    name: str,
    number: int,
    layer: nn.Module,
    config: Any,
    mixture: tuple[str, nn.Module, nn.Module],
    maps: list[tuple[str, nn.Module, nn.Module]],
) -> DownProjection:
    """A layer with routed experts, and shared ones within the same block."""
    path, experts, block = mixture
    parts: list[Dense | Experts] = [_experts_part(path, experts)]
    for shared_path, module, parent in maps:
        if not any(child is parent for child in block.modules()):
            raise Misfit(f"{shared_path} stands beside the experts {path}, not within one MLP of {name}")
        gate = getattr(block, SHARED_GATES.get(shared_path.split(".")[-2], ""), None)
        parts.append(Dense(shared_path, module, _shape(module)[0], sum(part.width for part in parts), gate))
    shared, width = getattr(config, "n_shared_experts", None), _named(config, EXPERT_WIDTH_KEYS)
    expected = {
        "experts": (parts[0].count, _named(config, EXPERT_COUNT_KEYS)),  # pyright: ignore[reportAttributeAccessIssue]
        "neurons in each expert": (parts[0].each, width),  # pyright: ignore[reportAttributeAccessIssue]
        "neurons in shared experts": (
            sum(part.width for part in parts[1:]),
            shared * width if shared and width else getattr(config, "shared_expert_intermediate_size", None),
        ),
    }
    for what, (found, says) in expected.items():
        if says is not None and found != says:
            raise Misfit(f"{path} has {found} {what}, the configuration says {says}")
    return DownProjection(number, path.rpartition(".")[0], block, tuple(parts), layer, _child_with(layer, block))


def _experts_part(path: str, module: Any) -> Experts:
    if getattr(module, "has_post_expert_norm", False):
        raise Misfit(f"{path} normalises the output of each expert")
    if module.down_proj.dtype not in PLAIN_DTYPES:
        raise Misfit(
            f"{path} holds quantised experts ({module.down_proj.dtype}); load the model dequantised, "
            "in bfloat16 or float32"
        )
    count, first, second = module.down_proj.shape
    return Experts(path, module, count, first if module.is_transposed else second)


def _check_all_accounted_for(name: str, layer: nn.Module, projection: DownProjection) -> None:
    """Nothing that could be a neuron lies outside the MLP that was found, attention apart."""
    inside = {id(parameter) for parameter in (projection.mlp or projection.block).parameters()}
    for path, parameter in layer.named_parameters():
        parts = path.split(".")
        if parameter.dim() < 2 or id(parameter) in inside or any(_mixes_tokens(part) for part in parts):
            continue
        beside = (
            projection.mlp is None
            and projection.dense is not None
            and linear_shape(getattr(layer, parts[0])) is not None
        )
        if not beside and parts[0] not in STREAM_MIXERS:
            raise Misfit(f"{name}.{path} is neither in attention nor in the MLP at {projection.name}")


def _child_with(layer: nn.Module, module: nn.Module) -> nn.Module | None:
    """The layer's child within which a module lies; None for a child itself."""
    if any(child is module for child in layer.children()):
        return None
    return next(child for child in layer.children() if any(one is module for one in child.modules()))


def outside_mixers(module: nn.Module, path: str, parent: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """A layer's modules with their names and parents, without token mixers and the inside of experts."""
    yield path, module, parent
    if _is_experts(module) or linear_shape(module) is not None:
        return
    for name, child in module.named_children():
        if not _mixes_tokens(name) and name not in STREAM_MIXERS:
            yield from outside_mixers(child, f"{path}.{name}", module)


def _shape(module: nn.Module) -> tuple[int, int]:
    shape = linear_shape(module)
    assert shape is not None
    return shape


def _last_map(module: nn.Module) -> tuple[str, nn.Module] | None:
    """The last of a module's own linear maps, if it has several: that of an MLP to the residual stream."""
    maps = [(name, child) for name, child in module.named_children() if linear_shape(child) is not None]
    return maps[-1] if len(maps) > 1 else None


def _is_experts(module: Any) -> bool:
    """Whether a module keeps transformers' protocol for experts (`use_experts_implementation`)."""
    down = getattr(module, "down_proj", None)
    return getattr(down, "ndim", 0) == 3 and all(
        hasattr(module, name) for name in ("is_transposed", "has_gate", "has_bias")
    )
