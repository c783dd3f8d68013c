"""Neurons that do not add up to what their layer puts into the residual stream are refused; odd weights are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import disk_offload, dispatch_model
from torch import Tensor, nn

from hneurons_eval.models.architecture import down_projections, neuron_layout
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.layout import UnsupportedModelError
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import fold, scaled

Make = Callable[..., Any]
IDS = torch.randint(0, 96, (2, 6), generator=torch.Generator().manual_seed(5))


def captured(model: Any) -> Tensor:
    return contributions(model, IDS, torch.ones_like(IDS), torch.ones(2, 1, 6, dtype=torch.bool))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def content(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def some(model: Any) -> NeuronSet:
    layout = neuron_layout(model)
    return NeuronSet.from_flat(range(0, layout.total, 3), layout)


# --- what is refused ---------------------------------------------------------------------------------------


class Saturating(nn.Linear):
    """Not what its matrix says."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).tanh()


class Opaque(nn.Module):
    """A map of which only the sizes are known, and which is not linear."""

    in_features, out_features = 40, 24

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Linear(40, 24)

    def forward(self, z: Tensor) -> Tensor:
        return self.packed(z).tanh()


class Around(nn.Module):
    """An MLP whose output is changed after its down projection."""

    def __init__(self, mlp: Any, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up_proj, self.down_proj, self.gate_proj = mlp.up_proj, mlp.down_proj, mlp.gate_proj
        del self.down_proj
        self.down_proj = mlp.down_proj  # the last of its maps
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x)))


@pytest.mark.parametrize("make", [lambda: Saturating(40, 24), Opaque])
def test_a_map_that_is_not_linear_is_refused(tiny_model: Make, make: Callable[[], nn.Module]):
    model = tiny_model()
    model.model.layers[1].mlp.down_proj = make()
    message = r"LlamaForCausalLM is not supported: the output of model\.layers\.1\.mlp\.down_proj is not what its 40"
    with pytest.raises(UnsupportedModelError, match=message):
        covered_projections(model)


def test_an_mlp_that_adds_something_of_its_own_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[2].mlp = Around(model.model.layers[2].mlp, lambda h: h)
    covered_projections(model)
    for change in (lambda h: h + 0.1, lambda h: 1.1 * h, lambda h: h * (torch.arange(24) != 3)):
        model.model.layers[2].mlp = Around(tiny_model().model.layers[2].mlp, change)
        with pytest.raises(UnsupportedModelError, match=r"output of model\.layers\.2\.mlp\.down_proj is not what"):
            covered_projections(model)


def test_a_mixture_that_adds_something_of_its_own_is_refused(tiny_model: Make):
    model = tiny_model("mixtral")
    block = model.model.layers[1].mlp
    own = type(block).forward
    block.forward = lambda x: own(block, x) * 1.1
    with pytest.raises(UnsupportedModelError, match=r"output of model\.layers\.1\.mlp is not what its 160 neurons"):
        covered_projections(model)


def test_experts_whose_own_code_does_something_else_are_refused(tiny_model: Make, monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("mixtral")
    kind = type(model.model.layers[0].mlp.experts)
    own = kind.forward
    monkeypatch.setattr(kind, "forward", lambda *args: own(*args).tanh())
    with pytest.raises(UnsupportedModelError, match=r"output of model\.layers\.0\.mlp is not what"):
        covered_projections(model)


def test_a_gate_that_is_not_known_is_refused(tiny_model: Make):
    model = tiny_model("qwen2_moe")
    for layer in model.model.layers:
        layer.mlp.gate_of_another_name = layer.mlp.shared_expert_gate
        shared, gate = layer.mlp.shared_expert, layer.mlp.shared_expert_gate
        own = type(shared).forward
        shared.forward = lambda x, shared=shared, gate=gate, own=own: own(shared, x) * gate(x).sigmoid()
    with pytest.raises(UnsupportedModelError, match="is not what its 84 neurons add up to"):
        covered_projections(model)


def test_a_module_that_never_runs_is_refused(tiny_model: Make):
    model = tiny_model()
    model.model.layers[1].mlp.forward = lambda x: x
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.1\.mlp\.down_proj was not run by a forward pass"):
        covered_projections(model)
    model = tiny_model("deepseek_v3")
    model.model.layers[1].mlp.shared_experts.forward = lambda x: 0 * x
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.1\.mlp was not run by a forward pass"):
        covered_projections(model)


def test_an_output_that_is_no_number_is_refused(tiny_model: Make):
    for name in ("llama", "mixtral"):
        model = tiny_model(name)
        with torch.no_grad():
            down = model.model.layers[1].mlp
            (down.down_proj.weight if name == "llama" else down.experts.down_proj).fill_(float("nan"))
        with pytest.raises(UnsupportedModelError, match=r"layers\.1\.mlp.* is not what its .*relative error inf"):
            covered_projections(model)


def test_a_large_residual_that_an_mlp_adds_does_not_hide_h_in_bfloat16(tiny_model: Make):
    model = tiny_model("bloom", dtype="bfloat16")
    with torch.no_grad():
        model.transformer.word_embeddings_layernorm.weight.mul_(1000)
    covered_projections(model)


def test_a_model_that_does_not_run_at_all_is_refused_in_a_sentence(tiny_model: Make):
    model = tiny_model()
    model.model.layers[1].mlp.gate_proj = nn.Linear(23, 40)
    with pytest.raises(UnsupportedModelError, match="a forward pass of a few tokens failed: ") as caught:
        covered_projections(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_weights_that_are_not_loaded_are_refused_where_they_are_needed(tiny_model: Make, name: str):
    model = tiny_model(name).to("meta")
    neurons = some(model)
    for use in (
        lambda: captured(model),
        lambda: fold(model, neurons, 0.0),
        lambda: scaled(model, neurons, 0.0).__enter__(),
    ):
        with pytest.raises(UnsupportedModelError, match="is on the meta device; load its weights first"):
            use()


def test_a_model_is_proven_once_and_again_when_a_map_was_replaced(tiny_model: Make):
    model = tiny_model()
    runs: list[int] = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    covered_projections(model)
    covered_projections(model)
    assert len(runs) == 1
    model.model.layers[1].mlp.down_proj = nn.Linear(40, 24)
    covered_projections(model)
    assert len(runs) == 2
    handle.remove()


def test_the_probe_leaves_training_mode_and_hooks_as_they_were(tiny_model: Make):
    model = tiny_model("mixtral").train()
    model.model.layers[1].eval()
    before = [(module.training, module._forward_hooks.copy(), sorted(vars(module))) for module in model.modules()]
    covered_projections(model)
    assert [(module.training, module._forward_hooks, sorted(vars(module))) for module in model.modules()] == before


# --- weights that are not plain matrices -------------------------------------------------------------------


class Int8Linear(nn.Module):
    """W kept as int8 with a scale for each row."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.weight * self.scale, self.bias)


class Adapted(nn.Module):
    """A linear map with a low-rank addition, as LoRA's."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.base_layer = linear
        self.lora_A, self.lora_B = (
            nn.Linear(linear.in_features, 2, bias=False),
            nn.Linear(2, linear.out_features, bias=False),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.base_layer(z) + 2.0 * self.lora_B(self.lora_A(z))


def matrix(module: Any) -> Tensor:
    if isinstance(module, Int8Linear):
        return module.weight * module.scale  # pyright: ignore[reportOperatorIssue]
    return (module.base_layer.weight + 2.0 * module.lora_B.weight @ module.lora_A.weight).detach()


@pytest.mark.parametrize("kind", [Int8Linear, Adapted])
@pytest.mark.parametrize("overrides", [{}, {"mlp_bias": True}])
def test_quantised_and_adapted_maps_are_read_and_scaled_but_not_folded(
    tiny_model: Make, kind: type[nn.Module], overrides: dict[str, Any]
):
    model, plain = tiny_model(**overrides), tiny_model(**overrides)
    torch.manual_seed(1)
    for odd, own in zip(model.model.layers, plain.model.layers, strict=True):
        for name in ("gate_proj", "down_proj"):  # a kind of map for more than the down projection
            setattr(odd.mlp, name, kind(getattr(odd.mlp, name)))
        with torch.no_grad():
            own.mlp.gate_proj.weight.copy_(matrix(odd.mlp.gate_proj))
            own.mlp.down_proj.weight.copy_(matrix(odd.mlp.down_proj))
    torch.testing.assert_close(logits(model), logits(plain), rtol=1e-4, atol=1e-4)
    for odd, own in zip(down_projections(model), down_projections(plain), strict=True):
        torch.testing.assert_close(odd.column_norms(), own.column_norms(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(captured(model), captured(plain), rtol=1e-4, atol=1e-5)
    neurons, before = some(model), content(model)
    with scaled(model, neurons, 0.5):
        changed = logits(model)
    with pytest.raises(UnsupportedModelError, match=rf"{kind.__name__}\) holds no plain weight matrix to fold into"):
        fold(model, neurons, 0.5)
    after = content(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    fold(plain, neurons, 0.5)
    torch.testing.assert_close(changed, logits(plain), rtol=1e-4, atol=1e-4)


def test_nothing_is_folded_where_one_of_the_maps_cannot_be(tiny_model: Make):
    model = tiny_model()
    model.model.layers[2].mlp.down_proj = Int8Linear(model.model.layers[2].mlp.down_proj)
    before = content(model)
    with pytest.raises(UnsupportedModelError, match=r"model\.layers\.2\.mlp\.down_proj \(Int8Linear\)"):
        fold(model, some(model), 0.0)
    assert all(torch.equal(value, before[name]) for name, value in content(model).items())


def test_the_dynamic_quantisation_of_torch_is_read(tiny_model: Make):
    model, plain = tiny_model(), tiny_model()
    for layer in model.model.layers:
        layer.mlp = torch.ao.quantization.quantize_dynamic(layer.mlp, {nn.Linear}, dtype=torch.qint8)
    module = model.model.layers[0].mlp.down_proj
    assert not isinstance(module, nn.Linear)
    expected = module.weight().dequantize().norm(dim=0)
    torch.testing.assert_close(down_projections(model)[0].column_norms(), expected, rtol=0.02, atol=0.01)
    actual, exact = captured(model)[..., :40], captured(plain)[..., :40]
    assert (actual - exact).abs().mean() < 0.03 * exact.mean()
    with pytest.raises(UnsupportedModelError, match="holds no plain weight matrix"):
        fold(model, some(model), 0.5)


# --- weights that accelerate keeps elsewhere ---------------------------------------------------------------

OFFLOADED = ["llama", "gpt2", "mixtral", "gpt_oss", "deepseek_v3"]


def offloaded(tiny_model: Make, name: str, directory: Path, way: str) -> Any:
    """A tiny model of which two layers, or all weights, are on disk."""
    model = tiny_model(name)
    if way == "all":
        return disk_offload(model, str(directory), execution_device=torch.device("cpu"))
    layers = down_projections(model)[0].name.partition(".0.")[0]
    rest = [key for key, one in model.named_modules() if not any(one.children()) and not key.startswith(f"{layers}.")]
    device_map: dict[str, Any] = {f"{layers}.0": "cpu", f"{layers}.1": "disk", f"{layers}.2": "disk"} | dict.fromkeys(
        rest, "cpu"
    )
    return dispatch_model(model, device_map, main_device=torch.device("cpu"), offload_dir=str(directory))


@pytest.mark.parametrize("name", OFFLOADED)
@pytest.mark.parametrize("way", ["some", "all"])
def test_offloaded_weights_are_read_and_scaled_but_not_folded(tiny_model: Make, tmp_path: Path, name: str, way: str):
    model, plain = offloaded(tiny_model, name, tmp_path, way), tiny_model(name)
    last = down_projections(model)[2].parts[0].module
    assert any(parameter.is_meta for parameter in last.parameters())
    assert torch.equal(logits(model), logits(plain))
    torch.testing.assert_close(captured(model), captured(plain), rtol=1e-4, atol=1e-5)
    neurons = some(model)
    forwards = {key: vars(module).get("forward") for key, module in model.named_modules()}
    with scaled(model, neurons, [0.5, 3.0]):
        changed = logits(model)
    with scaled(plain, neurons, [0.5, 3.0]):
        torch.testing.assert_close(changed, logits(plain), rtol=1e-4, atol=1e-4)
    assert {key: vars(module).get("forward") for key, module in model.named_modules()} == forwards
    assert all(parameter.is_meta for parameter in last.parameters())
    assert torch.equal(logits(model), logits(plain))
    with pytest.raises(UnsupportedModelError, match="offload"):
        fold(model, neurons, 0.5)
