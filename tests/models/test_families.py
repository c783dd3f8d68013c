"""Every family that is promised: its neurons found, captured and scaled as an independent calculation says.

Where a family keeps its MLP, and how it routes tokens to experts, is written out here by hand; none
of it is taken from the code under test. The reference works in float64, neuron by neuron.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from families import FAMILIES, TINY
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hneurons_eval.models.architecture import down_projections, layout_from_config, neuron_layout
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import fold, scaled

Make = Callable[..., Any]
every_family = pytest.mark.parametrize("name", FAMILIES)

MLP = "model.layers.{}.mlp"
DOWN = {
    "phi": f"{MLP}.fc2",
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "opt": "model.decoder.layers.{}.fc2",
    "opt-projected": "model.decoder.layers.{}.fc2",
    "falcon": "transformer.h.{}.mlp.dense_4h_to_h",
    "falcon-new": "transformer.h.{}.mlp.dense_4h_to_h",
    "falcon-serial": "transformer.h.{}.mlp.dense_4h_to_h",
    "bloom": "transformer.h.{}.mlp.dense_4h_to_h",
    "starcoder2": f"{MLP}.c_proj",
    "gemma3": "model.language_model.layers.{}.mlp.down_proj",
    "mistral3": "model.language_model.layers.{}.mlp.down_proj",
}
"""The down projection of a family whose name for it is not Llama's."""
WIDTHS = {
    "bloom": (96, 96, 96),
    "mixtral": (160, 160, 160),
    "qwen3_moe": (64, 64, 64),
    "qwen3_moe-mixed": (64, 40, 64),
    "qwen2_moe": (84, 84, 84),
    "olmoe": (160, 160, 160),
    "gpt_oss": (160, 160, 160),
    "deepseek_v2": (40, 96, 96),
    "deepseek_v3": (40, 80, 80),
}


class Layer(NamedTuple):
    """One layer's MLP on a sequence, in float64: z `[tokens, neurons]`, W `[hidden, neurons]`, h `[tokens, hidden]`."""

    z: Tensor
    W: Tensor
    h: Tensor


def routing(name: str, router: Any, x: Tensor) -> Tensor:
    """Weight of every expert at every token `[tokens, experts]`, 0 where it was not chosen."""
    logits = x @ router.weight.double().T
    if name == "gpt_oss":
        logits = logits + router.bias.double()
    scores = logits.sigmoid() if name == "deepseek_v3" else logits.softmax(dim=-1)
    weights = torch.zeros_like(scores)
    for token, own in enumerate(scores):
        ranked = own + router.e_score_correction_bias.double() if name == "deepseek_v3" else own
        if name == "deepseek_v3":  # two groups of two, of which only the better one may be chosen
            ranked = ranked.clone()
            ranked[2:] += 0 if ranked[2:].sum() > ranked[:2].sum() else -100
            ranked[:2] += 0 if ranked[:2].sum() >= ranked[2:].sum() else -100
        chosen = sorted(range(len(own)), key=lambda e: -float(ranked[e]))[:2]
        share = own[chosen]
        if name == "gpt_oss":
            share = logits[token, chosen].softmax(dim=-1)
        elif name in ("mixtral", "qwen3_moe", "deepseek_v3"):
            share = share / share.sum()
        weights[token, chosen] = share * (1.7 if name.startswith("deepseek") else 1.0)
    return weights


def mixture(name: str, block: Any, x: Tensor) -> Layer:
    """A mixture of experts on its input x `[tokens, hidden]`, with each expert computed for each token."""
    experts = block.experts
    weights = routing(name, block.router if name == "gpt_oss" else block.gate, x)
    z, columns, h = [], [], torch.zeros_like(x)
    for e in range(4):
        if name == "gpt_oss":
            inner = x @ experts.gate_up_proj[e].double() + experts.gate_up_proj_bias[e].double()
            gate, up = inner[:, ::2].clamp(max=7.0), inner[:, 1::2].clamp(-7.0, 7.0)
            own = (up + 1) * gate * (1.702 * gate).sigmoid()
            down, bias = experts.down_proj[e].double().T, experts.down_proj_bias[e].double()
        else:
            gate, up = (x @ experts.gate_up_proj[e].double().T).chunk(2, dim=-1)
            own = gate * gate.sigmoid() * up
            down, bias = experts.down_proj[e].double(), 0.0
        h += weights[:, e, None] * (own @ down.T + bias)
        z.append(weights[:, e, None] * own)
        columns.append(down)
    shared = getattr(block, "shared_expert", getattr(block, "shared_experts", None))
    if shared is not None:
        gate, up = (x @ m.weight.double().T for m in (shared.gate_proj, shared.up_proj))
        own = gate * gate.sigmoid() * up
        if name == "qwen2_moe":
            own = own * (x @ block.shared_expert_gate.weight.double().T).sigmoid()
        down = shared.down_proj.weight.double()
        h += own @ down.T
        z.append(own)
        columns.append(down)
    return Layer(torch.cat(z, dim=-1), torch.cat(columns, dim=-1), h)


def reference(name: str, model: Any, ids: Tensor) -> list[Layer]:
    """What each layer's MLP does on one sequence `[tokens]`, through hooks of this test's own."""
    layers: list[Layer] = []
    handles = []
    for number in range(3):
        block: Any = dict(model.named_modules()).get(MLP.format(number))
        if hasattr(block, "experts"):

            def take_block(module: Any, args: tuple[Tensor, ...], output: Any) -> None:
                own = mixture(name.partition("-")[0], module, args[0].reshape(-1, args[0].shape[-1]).double())
                output = output[0] if isinstance(output, tuple) else output
                torch.testing.assert_close(own.h, output.reshape(own.h.shape).double(), rtol=1e-4, atol=1e-4)
                layers.append(own)

            handles.append(block.register_forward_hook(take_block))
            continue

        def take(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            z, W = args[0].double(), module.weight.double()
            W = W.T if isinstance(module, Conv1D) else W
            own = Layer(z.reshape(-1, z.shape[-1]), W, output.reshape(-1, output.shape[-1]).double())
            bias = 0.0 if module.bias is None else module.bias.double()
            torch.testing.assert_close(own.z @ own.W.T + bias, own.h, rtol=1e-4, atol=1e-4)
            layers.append(own)

        down = DOWN.get(name, f"{MLP}.down_proj").format(number)
        handles.append(model.get_submodule(down).register_forward_hook(take))
    with torch.no_grad():
        model(input_ids=ids[None])
    for handle in handles:
        handle.remove()
    return layers


def brute_force(layers: list[Layer], regions: list[list[int]], reduce: str) -> Tensor:
    """CETT neuron by neuron: `[regions, neurons]`."""
    columns: list[list[float]] = []
    for layer in layers:
        size = layer.h.pow(2).sum(dim=-1).sqrt()
        for j in range(layer.z.shape[1]):
            ratios = torch.outer(layer.z[:, j], layer.W[:, j]).pow(2).sum(dim=-1).sqrt() / size
            chosen = [ratios[region] for region in regions]
            columns.append([float(own.mean() if reduce == "mean" else own.max()) for own in chosen])
    return torch.tensor(columns, dtype=torch.float64).T


def sequence(tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 96, (tokens,), generator=torch.Generator().manual_seed(seed))


def build(tiny_model: Make, name: str, **overrides: Any) -> Any:
    model = tiny_model(name, **overrides)
    for key, value in model.named_buffers():
        if "e_score_correction_bias" in key:  # 0 in a new model, which would say nothing
            value.copy_(torch.tensor([0.3, -0.2, 0.1, 0.4]))
    return model


@every_family
def test_all_neurons_are_found(tiny_model: Make, name: str):
    model = tiny_model(name)
    expected = NeuronLayout(WIDTHS.get(name, (40, 40, 40)))
    assert neuron_layout(model) == layout_from_config(model.config) == expected
    for number, place in enumerate(covered_projections(model)):
        assert place.layer == number
        assert place.block is model.get_submodule(place.name)
        block = dict(model.named_modules()).get(MLP.format(number))
        mixed = hasattr(block, "experts")
        assert place.name == (MLP if mixed else DOWN.get(name, f"{MLP}.down_proj")).format(number)
        assert (place.dense is None) is mixed
        assert place.parts[0].start == 0
        assert [part.start for part in place.parts[1:]] == [part.width for part in place.parts[:-1]]


@every_family
def test_column_norms_are_those_of_the_matrices(tiny_model: Make, name: str):
    model = build(tiny_model, name)
    for place, layer in zip(down_projections(model), reference(name, model, sequence(3)), strict=True):
        torch.testing.assert_close(place.column_norms(), layer.W.norm(dim=0).float())


@every_family
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_contributions_equal_the_formula_whatever_the_padding(
    tiny_model: Make, name: str, reduce: Literal["mean", "max"]
):
    model = build(tiny_model, name)
    rows = [sequence(9, 1), sequence(4, 2), sequence(6, 3)]
    chosen = [[[0, 1, 2], [8]], [[3], [0, 2]], [[5, 1], [2, 3, 4]]]
    ids, mask = torch.zeros(3, 9, dtype=torch.long), torch.zeros(3, 9, dtype=torch.long)
    regions = torch.zeros(3, 2, 9, dtype=torch.bool)
    for row, own in enumerate(rows):
        at = 9 - len(own)
        ids[row, at:], mask[row, at:] = own, 1
        for region, tokens in enumerate(chosen[row]):
            regions[row, region, [at + token for token in tokens]] = True
    actual = contributions(model, ids, mask, regions, reduce=reduce)
    expected = [brute_force(reference(name, model, own), chosen[row], reduce) for row, own in enumerate(rows)]
    assert actual.shape == (3, 2, sum(WIDTHS.get(name, (40, 40, 40))))
    assert actual.std() > 0.01
    torch.testing.assert_close(actual, torch.stack(expected).float(), rtol=2e-4, atol=1e-5)


MIXTURES = [name for name in FAMILIES if "moe" in name or name in ("mixtral", "gpt_oss", "deepseek_v2", "deepseek_v3")]


@pytest.mark.parametrize("name", MIXTURES)
def test_an_expert_that_was_not_chosen_contributes_nothing(tiny_model: Make, name: str):
    model = build(tiny_model, name)
    ids = sequence(1)
    values = contributions(model, ids[None], torch.ones(1, 1).long(), torch.ones(1, 1, 1, dtype=torch.bool))[0, 0]
    place = down_projections(model)[2]
    experts: Any = place.parts[0]
    first = neuron_layout(model).starts[2]
    by_expert = values[first : first + experts.width].view(4, experts.each)
    assert sorted((by_expert > 0).any(dim=1).tolist()) == [False, False, True, True]
    assert (values[first + experts.width :] > 0).any() or len(place.parts) == 1


def some(model: Any) -> NeuronSet:
    """A third of the neurons, of every expert and of shared ones; none in the middle layer."""
    layout = neuron_layout(model)
    flat = np.arange(0, layout.total, 3)
    return NeuronSet.from_flat(flat[(flat < layout.starts[1]) | (flat >= layout.starts[2])], layout)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def generated(model: Any, ids: Tensor) -> list[list[int]]:
    mask = torch.ones_like(ids)
    return model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=8, pad_token_id=0, eos_token_id=None
    ).tolist()


def state(model: Any) -> Any:
    """All of a model that scaling could leave changed."""
    return [
        {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        [
            (key, dict(module._forward_pre_hooks), dict(module._forward_hooks), sorted(module.__dict__), module.forward)
            for key, module in model.named_modules()
        ],
    ]


@every_family
def test_scaling_equals_folding_and_leaves_nothing_behind(tiny_model: Make, name: str):
    model = build(tiny_model, name)
    ids = torch.stack([sequence(7, seed) for seed in range(3)])
    neurons, plain, before = some(model), logits(model, ids), state(model)
    for alpha in (0.0, 0.5, 3.0):
        with scaled(model, neurons, alpha):
            changed, said = logits(model, ids), generated(model, ids)
        assert (changed - plain).abs().max() > 1e-3
        assert state(model) == before
        folded = build(tiny_model, name)
        fold(folded, neurons, alpha)
        torch.testing.assert_close(changed, logits(folded, ids), rtol=2e-4, atol=2e-4)
        assert said == generated(folded, ids)
    with scaled(model, neurons, [0.0, 1.0, 3.0]):
        together = logits(model, ids)
    for row, alpha in enumerate((0.0, 1.0, 3.0)):
        with scaled(model, neurons, alpha):
            torch.testing.assert_close(together[row], logits(model, ids[row : row + 1])[0], rtol=2e-4, atol=2e-4)
    with scaled(model, neurons, 1.0):
        assert state(model) == before
    assert torch.equal(logits(model, ids), plain)
    assert state(model) == before


@pytest.mark.parametrize("name", MIXTURES)
def test_a_row_of_a_mixture_with_alpha_one_keeps_its_logits(tiny_model: Make, name: str):
    model = build(tiny_model, name)
    ids = torch.stack([sequence(7, seed) for seed in range(3)])
    plain = logits(model, ids)
    with scaled(model, some(model), [0.0, 1.0, 3.0]):
        together = logits(model, ids)
    torch.testing.assert_close(together[1], plain[1], rtol=1e-5, atol=1e-5)
    assert (together[0] - plain[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", MIXTURES)
def test_folding_a_mixture_changes_the_columns_and_nothing_else(tiny_model: Make, name: str):
    model, before = build(tiny_model, name), build(tiny_model, name).state_dict()
    layout = neuron_layout(model)
    experts: Any = down_projections(model)[2].parts[0]
    fold(model, NeuronSet.from_flat([int(layout.starts[2]) + 2 * experts.each + 5], layout), 0.25)
    for key, value in model.state_dict().items():
        expected = before[key].clone()
        if key == "model.layers.2.mlp.experts.down_proj":
            column = expected[2, 5] if name == "gpt_oss" else expected[2, :, 5]
            column *= 0.25
        assert torch.equal(value, expected), key


@every_family
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_covered_and_reduced_in_float32(tiny_model: Make, name: str, dtype: str):
    full, half = build(tiny_model, name), build(tiny_model, name, dtype=dtype)
    ids, ones = sequence(6)[None], torch.ones(1, 6, dtype=torch.long)
    regions = torch.ones(1, 1, 6, dtype=torch.bool)
    expected, actual = (contributions(model, ids, ones, regions)[0, 0] for model in (full, half))
    assert actual.dtype == torch.float32
    first = slice(0, neuron_layout(full).widths[0])  # later layers see what rounding did to routing
    assert (actual[first] - expected[first]).abs().median() < 0.02 * expected[first].abs().mean()


@pytest.mark.parametrize("name", ["gemma3", "mistral3"])
def test_a_vision_tower_is_left_alone(tiny_model: Make, name: str):
    model = tiny_model(name)
    tower = model.model.vision_tower
    inner = {module for part in (tower, model.model.multi_modal_projector) for module in part.modules()}
    places = covered_projections(model)
    assert len(places) == TINY["num_hidden_layers"]
    assert not any(part.module in inner for place in places for part in place.parts)
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    more = {"image_sizes": torch.tensor([[56, 56]])} if name == "mistral3" else {}

    def features() -> Tensor:
        with torch.no_grad():
            found = model.get_image_features(pixels, **more)
        found = getattr(found, "pooler_output", found)
        return torch.cat(list(found)) if isinstance(found, list | tuple) else found

    def hooks() -> Any:
        return [(module, dict(module._forward_pre_hooks), dict(module._forward_hooks)) for module in inner]

    plain = features()
    before = hooks()
    with scaled(model, some(model), 0.0):
        assert hooks() == before
        assert torch.equal(features(), plain)


@every_family
def test_another_number_of_rows_is_refused(tiny_model: Make, name: str):
    model = build(tiny_model, name)
    ids = torch.stack([sequence(4, seed) for seed in range(3)])  # 12 tokens, which 2 would divide
    before = state(model)
    with (
        pytest.raises(ValueError, match="alpha has 2 rows, the batch has 3"),
        scaled(model, NeuronSet.from_flat([0, 1], neuron_layout(model)), [0.0, 3.0]),
    ):
        logits(model, ids)
    assert state(model) == before
