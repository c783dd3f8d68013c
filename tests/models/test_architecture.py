"""Every layer's neurons are found, or the model is refused by name."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig

from hneurons_eval.models.architecture import down_projections, layout_from_config, neuron_layout
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError

Make = Callable[..., Any]


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma2"])
def test_one_down_projection_a_layer_in_layer_order(tiny_model: Make, kind: str):
    model = tiny_model(kind)
    places = down_projections(model)
    assert [place.layer for place in places] == [0, 1, 2]
    for number, place in enumerate(places):
        assert place.dense is not None
        assert place.dense.module is model.model.layers[number].mlp.down_proj
        assert place.dense.module is model.get_submodule(place.name)
        assert place.decoder_layer is model.model.layers[number]
        assert place.mlp is model.model.layers[number].mlp
        assert place.width == 40
        weight = model.model.layers[number].mlp.down_proj.weight.detach()
        torch.testing.assert_close(place.column_norms(), torch.tensor([float(weight[:, j].norm()) for j in range(40)]))
    assert neuron_layout(model) == layout_from_config(model.config) == NeuronLayout((40, 40, 40))


def test_column_norms_of_a_bfloat16_model_are_float32(tiny_model: Make):
    model = tiny_model(dtype="bfloat16")
    norms = down_projections(model)[0].column_norms()
    torch.testing.assert_close(norms, model.model.layers[0].mlp.down_proj.weight.float().norm(dim=0), rtol=0, atol=0)


def test_the_text_part_of_a_nested_configuration_is_used():
    config = AutoConfig.for_model("gemma3", text_config={"num_hidden_layers": 4, "intermediate_size": 12})
    assert layout_from_config(config).widths == (12,) * 4


def test_a_width_that_the_configuration_leaves_out_is_four_times_the_hidden_size():
    assert layout_from_config(AutoConfig.for_model("gpt2")).widths == (4 * 768,) * 12


def test_a_layout_needs_no_weights(tiny_model: Make):
    for name in ("llama", "qwen2_moe", "gemma3"):
        model = tiny_model(name)
        assert neuron_layout(model.to("meta")) == layout_from_config(model.config)


def refusal(model: Any) -> str:
    """The one sentence that a model is refused with."""
    with pytest.raises(UnsupportedModelError) as caught:
        neuron_layout(model)
    assert str(caught.value).startswith(f"{type(model).__name__} is not supported: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("auto", "kind", "options", "reason"),
    [
        ("AutoModel", "llama", {"num_key_value_heads": 1}, "generates text"),
        ("AutoModelForMaskedLM", "bert", {}, "generates text"),
        ("AutoModelForMaskedLM", "modernbert", {"pad_token_id": 0}, "generates text"),
        ("AutoModel", "siglip_vision_model", {}, "generates text"),
        ("AutoModelForSeq2SeqLM", "t5", {"d_model": 16, "num_layers": 2, "num_heads": 2}, "generates text"),
        ("AutoModelForSeq2SeqLM", "bart", {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2}, "generates text"),
        ("AutoModelForCausalLM", "bert", {"is_decoder": True}, "layer.0 should have one MLP .* found none"),
        ("AutoModelForCausalLM", "mamba", {}, "no list of decoder layers"),
        ("AutoModelForCausalLM", "recurrent_gemma", {}, "no list of decoder layers"),
        ("AutoModelForCausalLM", "rwkv", {}, r"RwkvFeedForward\) keeps weights in a way that is not known"),
        (
            "AutoModelForCausalLM",
            "llama4_text",
            {},
            r"feed_forward.experts \(Llama4TextExperts\) keeps weights in a way",
        ),
        ("AutoModelForCausalLM", "dbrx", {"attn_config": {"kv_n_heads": 1, "rope_theta": 1e4}}, "found none"),
        (
            "AutoModelForCausalLM",
            "jetmoe",
            {"num_key_value_heads": 1},
            r"JetMoeParallelExperts\) keeps weights in a way",
        ),
    ],
)
def test_what_is_not_a_decoder_with_known_mlps_is_refused(auto: str, kind: str, options: dict[str, Any], reason: str):
    config = AutoConfig.for_model(kind, **(SMALL | options))
    with torch.device("meta"):
        model = getattr(transformers, auto).from_config(config)
    assert re.search(reason, refusal(model))


def test_a_configuration_without_a_language_model_is_refused_by_its_type():
    for kind in ("clip", "vit", "wav2vec2"):
        with pytest.raises(UnsupportedModelError, match=f"cannot build a language model for {kind}"):
            layout_from_config(AutoConfig.for_model(kind))


class OldExperts(nn.Module):
    """A mixture as it was kept before transformers 5: a list of MLPs."""

    def __init__(self, count: int = 6) -> None:
        super().__init__()
        self.gate = nn.Linear(24, count)
        self.experts = nn.ModuleList(
            nn.ModuleDict({"up_proj": nn.Linear(24, 40), "down_proj": nn.Linear(40, 24)}) for _ in range(count)
        )


def test_a_list_of_experts_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[1].mlp = OldExperts()
    assert "model.layers.1 should have one MLP" in refusal(model)
    assert "mlp.experts.3.down_proj and 2 more" in refusal(model)


def test_a_shared_expert_does_not_stand_for_routed_ones(tiny_model: Make):
    model = tiny_model("qwen2_moe")
    block = model.model.layers[1].mlp
    experts = nn.Module()
    experts.weights = nn.Parameter(torch.zeros(4, 24, 16))
    block.experts = experts
    assert "model.layers.1.mlp.experts (Module) keeps weights in a way that is not known" in refusal(model)
    experts.weights = nn.Parameter(torch.zeros(4 * 24, 16))  # the same in two dimensions
    assert "model.layers.1.mlp.shared_expert.down_proj has 20 neurons" in refusal(model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_local_experts": 5}, "has 4 experts, the configuration says 5"),
        ({"moe_intermediate_size": 15}, "has 16 neurons in each expert, the configuration says 15"),
        ({"shared_expert_intermediate_size": 21}, "has 20 neurons in shared experts, the configuration says 21"),
    ],
)
def test_experts_other_than_configured_are_refused(tiny_model: Make, change: dict[str, int], reason: str):
    model = tiny_model("qwen2_moe")
    for key, value in change.items():
        setattr(model.config, key, value)
    assert f"model.layers.0.mlp.experts {reason}" in refusal(model)


def test_quantised_experts_are_refused(tiny_model: Make):
    model = tiny_model("mixtral")
    experts = model.model.layers[2].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj.to(torch.float8_e4m3fn), requires_grad=False)
    assert "layers.2.mlp.experts holds quantised experts (torch.float8_e4m3fn); load the model deq" in refusal(model)


def test_experts_whose_outputs_are_normalised_are_refused(tiny_model: Make):
    model = tiny_model("mixtral")
    model.model.layers[0].mlp.experts.has_post_expert_norm = True
    assert "normalises the output of each expert" in refusal(model)


def test_a_second_mlp_in_a_layer_is_refused(tiny_model: Make):
    model = tiny_model("mixtral")
    model.model.layers[1].dense = tiny_model().model.layers[1].mlp
    assert "layers.1.dense.down_proj stands beside the experts" in refusal(model)
    model = tiny_model()
    model.model.layers[1].dense = tiny_model().model.layers[1].mlp
    assert "found model.layers.1.mlp.down_proj, model.layers.1.dense.down_proj" in refusal(model)


def test_weights_that_are_in_neither_attention_nor_mlp_are_refused(tiny_model: Make):
    for name in ("llama", "mixtral", "opt"):
        model = tiny_model(name)
        layers = model.get_decoder().layers
        layers[2].extra = nn.Embedding(3, 24)
        assert "layers.2.extra.weight is neither in attention nor in the MLP" in refusal(model)


def test_a_layer_without_a_linear_down_projection_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[1].mlp.down_proj = nn.Identity()
    assert "model.layers.1 should have one MLP with a linear map" in refusal(model)
    assert refusal(model).endswith("found none")
    del model.model.layers[1].mlp
    assert refusal(model).endswith("found none")


def test_a_layer_more_or_less_than_configured_is_refused(tiny_model: Make):
    model = tiny_model()
    del model.model.layers[2]
    assert "2 decoder layers found, the configuration says 3" in refusal(model)
    model.model.layers.extend(tiny_model().model.layers[:2])
    assert "4 decoder layers found, the configuration says 3" in refusal(model)


def test_another_width_than_configured_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[2].mlp.down_proj = nn.Linear(39, 24)
    assert "model.layers.2.mlp.down_proj has 39 neurons, the configuration says 40" in refusal(model)


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
