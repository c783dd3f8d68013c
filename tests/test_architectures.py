"""Every layer's neurons are found, or the model is refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from hneurons_eval.architectures import (
    NeuronLayout,
    UnsupportedModelError,
    down_projections,
    layout_from_config,
    neuron_layout,
)

Make = Callable[..., Any]
SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma2"])
def test_one_down_projection_a_layer_in_layer_order(tiny_model: Make, kind: str):
    model = tiny_model(kind)
    places = down_projections(model)
    assert [place.layer for place in places] == [0, 1, 2]
    for number, place in enumerate(places):
        assert place.module is model.model.layers[number].mlp.down_proj
        assert place.module is model.get_submodule(place.name)
        assert place.width == 40
        expected = torch.tensor([float(place.module.weight[:, j].detach().norm()) for j in range(40)])
        torch.testing.assert_close(place.column_norms(), expected)
    assert neuron_layout(model) == layout_from_config(model.config) == NeuronLayout((40, 40, 40))


def test_column_norms_of_a_bfloat16_model_are_float32(tiny_model: Make):
    place = down_projections(tiny_model(dtype="bfloat16"))[0]
    torch.testing.assert_close(place.column_norms(), place.module.weight.float().norm(dim=0), rtol=0, atol=0)


def test_the_text_part_of_a_nested_configuration_is_used():
    config = AutoConfig.for_model("gemma3", text_config={"num_hidden_layers": 4, "intermediate_size": 12})
    assert layout_from_config(config).widths == (12,) * 4


@pytest.mark.parametrize(
    ("kind", "overrides", "named"),
    [
        ("gpt2", {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2}, "gpt2"),
        (
            "mixtral",
            SMALL | {"intermediate_size": 8, "num_key_value_heads": 1, "num_local_experts": 2},
            "mixtral",
        ),
        (
            "qwen3_moe",
            SMALL | {"moe_intermediate_size": 8, "num_experts": 4, "num_key_value_heads": 1, "head_dim": 8},
            "qwen3_moe",
        ),
        ("phi", SMALL | {"intermediate_size": 8}, "PhiForCausalLM"),
        ("gpt_neox", SMALL | {"intermediate_size": 8}, "GPTNeoXForCausalLM"),
    ],
)
def test_unsupported_models_are_refused_by_name(kind: str, overrides: dict[str, Any], named: str):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **overrides))
    with pytest.raises(UnsupportedModelError, match=named) as caught:
        neuron_layout(model)
    assert "\n" not in str(caught.value)


def test_a_configuration_without_widths_is_refused():
    for kind in ("gpt2", "bloom"):
        with pytest.raises(UnsupportedModelError, match=rf"{kind}.*intermediate_size"):
            layout_from_config(AutoConfig.for_model(kind))


def test_a_layer_without_a_linear_down_projection_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[1].mlp.down_proj = torch.nn.Identity()
    with pytest.raises(UnsupportedModelError, match=r"layers\.1\.mlp\.down_proj .* found Identity"):
        neuron_layout(model)
    del model.model.layers[1].mlp
    with pytest.raises(UnsupportedModelError, match=r"layers\.1\.mlp\.down_proj .* found nothing"):
        neuron_layout(model)


def test_fewer_layers_than_configured_are_refused(tiny_model: Make):
    model = tiny_model()
    del model.model.layers[2]
    with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM .* 2 decoder layers .* says 3"):
        neuron_layout(model)


def test_another_width_than_configured_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[2].mlp.down_proj = torch.nn.Linear(39, 24)
    with pytest.raises(UnsupportedModelError, match="has 39 neurons, the configuration says 40"):
        neuron_layout(model)


def test_weights_that_are_not_loaded_are_refused(tiny_model: Make):
    with pytest.raises(UnsupportedModelError, match="meta device"):
        neuron_layout(tiny_model().to("meta"))


widths_and_picks = st.lists(st.integers(1, 9), min_size=1, max_size=6).flatmap(
    lambda widths: st.tuples(st.just(tuple(widths)), st.lists(st.integers(0, sum(widths) - 1), max_size=20))
)


@given(widths_and_picks)
def test_flat_indices_count_layer_by_layer(given_: tuple[tuple[int, ...], list[int]]):
    widths, flat = given_
    layout = NeuronLayout(widths)
    table = [(layer, j) for layer, width in enumerate(widths) for j in range(width)]
    assert layout.total == len(table)
    layers, indices = layout.unflatten(np.array(flat, np.int64))
    assert list(zip(layers.tolist(), indices.tolist(), strict=True)) == [table[k] for k in flat]
    assert layout.flat(layers, indices).tolist() == flat


@pytest.mark.parametrize(("layers", "indices"), [([0, 3], [0, 0]), ([-1], [0]), ([1], [2]), ([0], [-1])])
def test_neurons_outside_the_layout_are_refused(layers: list[int], indices: list[int]):
    with pytest.raises(IndexError, match=r"asked for.*has"):
        NeuronLayout((4, 2, 3)).flat(np.array(layers), np.array(indices))


@pytest.mark.parametrize("flat", [[9], [-1], [0, 10**9]])
def test_flat_indices_outside_the_layout_are_refused(flat: list[int]):
    with pytest.raises(IndexError, match="has 9 neurons"):
        NeuronLayout((4, 2, 3)).unflatten(np.array(flat))
