"""CETT is what the paper's formula says, neuron by neuron, whatever the padding, the batch and the dtype."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.contributions import contributions, inverse_norm, reduce_cett
from hneurons_eval.models.down_projection import Dense
from hneurons_eval.models.hooks import DenseActivations, LayerActivations

ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"mlp_bias": True}),
    ("mistral", {"sliding_window": 4}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("gemma2", {"sliding_window": 4, "query_pre_attn_scalar": 8}),
]
NAMES = ["llama", "llama-bias", "mistral", "qwen2", "qwen3", "gemma2"]
every_architecture = pytest.mark.parametrize(("kind", "overrides"), ARCHITECTURES, ids=NAMES)
Make = Callable[..., Any]


def sequences(batch: int, tokens: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 97, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def seen(model: Any, ids: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(z, h, W) of each layer for unpadded sequences, through hooks of this test's own."""
    taken: list[tuple[Tensor, Tensor, Tensor]] = []
    handles = []
    for layer in model.model.layers:

        def take(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            taken.append((args[0].detach().clone(), output.detach().clone(), module.weight.detach()))

        handles.append(layer.mlp.down_proj.register_forward_hook(take))
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return taken


def brute_force(model: Any, ids: Tensor, regions: list[list[int]], reduce: str) -> Tensor:
    """Of one sequence `[tokens]`, neuron by neuron: [regions, neurons] in float64."""
    rows: list[list[float]] = [[] for _ in regions]
    for z, h, weight in seen(model, ids[None]):
        z, h, weight = z[0].double(), h[0].double(), weight.double()
        for j in range(weight.shape[1]):
            ratios = [
                float((weight[:, j] * z[t, j]).pow(2).sum().sqrt() / h[t].pow(2).sum().sqrt()) for t in range(len(ids))
            ]
            for row, region in zip(rows, regions, strict=True):
                chosen = [ratios[t] for t in region]
                row.append(sum(chosen) / len(chosen) if reduce == "mean" else max(chosen))
    return torch.tensor(rows)


def as_mask(regions: list[list[int]], tokens: int) -> Tensor:
    mask = torch.zeros(1, len(regions), tokens, dtype=torch.bool)
    for number, region in enumerate(regions):
        mask[0, number, region] = True
    return mask


def capture(model: Any, ids: Tensor, regions: list[list[int]], reduce: Literal["mean", "max"] = "mean"):
    mask = as_mask(regions, len(ids))
    return contributions(model, ids[None], torch.ones(1, len(ids), dtype=torch.long), mask, reduce=reduce)[0]


def activations(z: Tensor) -> LayerActivations:
    """z `[batch, tokens, width]` as that of a linear map."""
    return LayerActivations((DenseActivations(Dense("", torch.nn.Linear(z.shape[-1], 2), z.shape[-1]), z),))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected.float(), rtol=1e-5, atol=1e-5)


@every_architecture
@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_equals_the_formula_neuron_by_neuron(
    tiny_model: Make, kind: str, overrides: dict[str, Any], reduce: Literal["mean", "max"]
):
    model = tiny_model(kind, **overrides)
    ids = sequences(1, 9)[0]
    regions = [[0, 1, 2, 3], [8], [2, 5, 7]]
    actual = capture(model, ids, regions, reduce)
    assert actual.shape == (3, neuron_layout(model).total) == (3, 120)
    assert actual.dtype == torch.float32
    assert actual.std() > 0.01
    close(actual, brute_force(model, ids, regions, reduce))


@every_architecture
def test_neither_padding_nor_batch_matters(tiny_model: Make, kind: str, overrides: dict[str, Any]):
    model = tiny_model(kind, **overrides)
    lengths = [11, 3, 7, 1]
    ids = [sequences(1, length, seed=length)[0] for length in lengths]
    chosen = [[[0], [length - 1, length // 2]] for length in lengths]
    single = torch.stack([capture(model, own, regions) for own, regions in zip(ids, chosen, strict=True)])
    for side in ("left", "right"):
        padded = torch.zeros(4, 11, dtype=torch.long)
        mask = torch.zeros(4, 11, dtype=torch.long)
        regions = torch.zeros(4, 2, 11, dtype=torch.bool)
        for row, length in enumerate(lengths):
            at = 11 - length if side == "left" else 0
            padded[row, at : at + length] = ids[row]
            mask[row, at : at + length] = 1
            regions[row, :, at : at + length] = as_mask(chosen[row], length)[0]
        close(contributions(model, padded, mask, regions), single)


def test_is_the_mean_of_ratios_not_the_ratio_of_means(tiny_model: Make):
    model = tiny_model()
    ids = sequences(1, 6)[0]
    tokens = list(range(6))
    z, h, weight = seen(model, ids[None])[0]
    ratio_of_means = z[0].abs().mean(0) * weight.norm(dim=0) / h[0].norm(dim=-1).mean()
    actual = capture(model, ids, [tokens])[0, :40]
    assert (actual - ratio_of_means).abs().max() > 1e-2
    close(actual, brute_force(model, ids, [tokens], "mean")[0, :40])


def test_a_bfloat16_model_is_reduced_in_float32(tiny_model: Make):
    model = tiny_model(dtype="bfloat16", num_hidden_layers=2)
    ids = sequences(1, 50)[0]
    region = list(range(50))
    expected, rounded = [], []
    for z, h, weight in seen(model, ids[None]):
        assert z.dtype == h.dtype == weight.dtype == torch.bfloat16
        full = z[0].float().abs() * weight.float().norm(dim=0) / h[0].float().norm(dim=-1)[:, None]
        expected.append(full.mean(0))
        half = z[0].abs() * weight.norm(dim=0) / h[0].norm(dim=-1)[:, None]
        rounded.append(half.mean(0).float())
    actual = capture(model, ids, [region])[0]
    torch.testing.assert_close(actual, torch.cat(expected), rtol=1e-5, atol=1e-6)
    assert (actual - torch.cat(rounded)).abs().max() > 1e-4  # reducing in bfloat16 would be seen


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_no_output_means_no_contribution(tiny_model: Make, reduce: Literal["mean", "max"]):
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
    values = capture(model, sequences(1, 5)[0], [[0, 1], [4]], reduce)
    assert (values[:, 40:80] == 0).all()
    assert torch.isfinite(values).all()
    assert (values[:, :40] > 0).any()


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_token_whose_output_is_zero_counts_as_zero(reduce: Literal["mean", "max"]):
    z = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    h = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    norms = torch.tensor([1.0, 10.0])
    regions = torch.tensor([[[True, True], [True, False]]])
    values = reduce_cett(activations(z), inverse_norm(h), norms, reduce, regions, regions.sum(dim=-1))
    share = 2 if reduce == "mean" else 1
    torch.testing.assert_close(values, torch.tensor([[[0.6 / share, 8.0 / share], [0.0, 0.0]]]))


def test_a_token_outside_the_region_cannot_spoil_it():
    z = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [float("nan"), float("inf")]]])
    h = torch.tensor([[[1.0, 0.0], [1e-42, 0.0], [float("nan"), 1.0]]])
    regions = torch.tensor([[[True, False, False]]])
    reductions: tuple[Literal["mean", "max"], ...] = ("mean", "max")
    for reduce in reductions:
        values = reduce_cett(activations(z), inverse_norm(h), torch.ones(2), reduce, regions, regions.sum(dim=-1))
        torch.testing.assert_close(values, torch.tensor([[[1.0, 2.0]]]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_inputs_may_be_on_any_device(tiny_model: Make):
    model, ids, mask = tiny_model(), sequences(2, 4), torch.ones(2, 4, dtype=torch.long)
    regions = torch.ones(2, 1, 4, dtype=torch.bool)
    expected = contributions(model, ids, mask, regions)
    model = model.to("cuda")
    try:
        for inputs in ((ids, mask, regions), (ids.cuda(), mask.cuda(), regions), (ids, mask.cuda(), regions.cuda())):
            torch.testing.assert_close(contributions(model, *inputs), expected, atol=1e-5, rtol=1e-3)
    finally:
        model.to("cpu")


def test_an_empty_region_is_refused(tiny_model: Make):
    model, ids, mask = tiny_model(), sequences(2, 4), torch.ones(2, 4, dtype=torch.long)
    regions = torch.ones(2, 2, 4, dtype=torch.bool)
    regions[1, 0] = False
    with pytest.raises(ValueError, match="region 0 of row 1 has no tokens"):
        contributions(model, ids, mask, regions)


def test_a_region_on_padding_is_refused(tiny_model: Make):
    mask = torch.tensor([[0, 1, 1]])
    for region, fine in (([True, True, False], False), ([False, True, True], True)):
        regions = torch.tensor([[region]])
        if fine:
            contributions(tiny_model(), sequences(1, 3), mask, regions)
        else:
            with pytest.raises(ValueError, match="padding"):
                contributions(tiny_model(), sequences(1, 3), mask, regions)


@pytest.mark.parametrize(
    ("ids", "mask", "regions", "message"),
    [
        ((2, 4), (2, 4), torch.ones(2, 4, dtype=torch.bool), "bool \\[batch, regions, tokens\\]"),
        ((2, 4), (2, 4), torch.ones(2, 1, 4), "bool"),
        ((2, 4), (2, 4), torch.ones(2, 1, 3, dtype=torch.bool), "batch and tokens"),
        ((2, 4), (2, 4), torch.ones(1, 1, 4, dtype=torch.bool), "batch and tokens"),
        ((2, 4), (2, 3), torch.ones(2, 1, 4, dtype=torch.bool), "attention_mask"),
        ((4,), (4,), torch.ones(1, 1, 4, dtype=torch.bool), "input_ids"),
    ],
)
def test_shapes_that_do_not_agree_are_refused(tiny_model: Make, ids: Any, mask: Any, regions: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        contributions(tiny_model(), torch.zeros(ids).long(), torch.ones(mask).long(), regions)


def test_an_unknown_reduction_is_refused(tiny_model: Make):
    ones = torch.ones(1, 2, dtype=torch.long)
    reduce: Any = "median"
    with pytest.raises(ValueError, match="mean, max"):
        contributions(tiny_model(), ones, ones, torch.ones(1, 1, 2, dtype=torch.bool), reduce=reduce)


def hooks(model: Any) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def test_no_hook_is_left_behind(tiny_model: Make, monkeypatch: pytest.MonkeyPatch):
    model = tiny_model()
    capture(model, sequences(1, 4)[0], [[1]])
    assert sum(hooks(model)) == 0

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(model.model.layers[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        capture(model, sequences(1, 4)[0], [[1]])
    assert sum(hooks(model)) == 0


def test_the_result_is_an_ordinary_tensor_and_the_model_is_untouched(tiny_model: Make):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    values = capture(model, sequences(1, 4)[0], [[1]])
    assert not values.is_inference()
    assert not values.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
