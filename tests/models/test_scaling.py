"""Scaling is what folding would do, a row at a time, and leaves nothing behind."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hneurons_eval.models.architecture import down_projections
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.scaling import Intervention, ScalingTable, check_alpha, fold, scaled

Make = Callable[..., Any]
LAYOUT = NeuronLayout((40, 40, 40))
SOME = NeuronSet.from_flat([0, 3, 39, 80, 95, 119], LAYOUT)  # none in the middle layer
OTHERS = NeuronSet.from_flat([3, 41, 50, 95], LAYOUT)


def sequences(batch: int = 3, tokens: int = 7) -> Tensor:
    return torch.randint(0, 97, (batch, tokens), generator=torch.Generator().manual_seed(2))


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def content(model: Any) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def hooks(model: Any) -> list[tuple[dict[int, Any], dict[int, Any]]]:
    return [(dict(m._forward_pre_hooks), dict(m._forward_hooks)) for m in model.modules()]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0])
def test_scaled_equals_folded(tiny_model: Make, kind: str, alpha: float):
    model, ids = tiny_model(kind), sequences()
    with scaled(model, SOME, alpha):
        temporary = logits(model, ids)
        said = model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert (temporary - logits(model, ids)).abs().max() > 1e-3
    fold(model, SOME, alpha)
    torch.testing.assert_close(temporary, logits(model, ids), rtol=1e-4, atol=1e-4)
    assert torch.equal(said, model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0))


def test_scaling_multiplies_exactly_these_neurons(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    first = model.model.layers[0].mlp.down_proj
    handle = first.register_forward_hook(
        lambda m, a, out: (inputs.append(a[0].clone()), outputs.append(out))[:0] or None
    )
    logits(model, ids)
    with scaled(model, SOME, 2.5):
        logits(model, ids)
    handle.remove()
    expected = inputs[0].clone()
    expected[..., [0, 3, 39]] *= 2.5
    assert torch.equal(inputs[-1], expected)
    torch.testing.assert_close(outputs[-1], expected @ first.weight.T, rtol=1e-5, atol=1e-5)


def test_fold_changes_the_columns_and_nothing_else(tiny_model: Make):
    model = tiny_model(dtype="bfloat16")
    before = deepcopy(model.state_dict())
    fold(model, SOME, 0.3)
    for name, value in model.state_dict().items():
        expected = before[name].clone()
        for layer, index in zip(SOME.layers, SOME.indices, strict=True):
            if name == f"model.layers.{layer}.mlp.down_proj.weight":
                expected[:, index] = (expected[:, index].float() * 0.3).to(torch.bfloat16)
        assert torch.equal(value, expected), name


def test_one_alpha_a_row_equals_separate_runs(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    alphas = [0.0, 1.0, 3.0]
    with scaled(model, SOME, alphas):
        together = logits(model, ids)
    for row, alpha in enumerate(alphas):
        with scaled(model, SOME, alpha):
            torch.testing.assert_close(together[row], logits(model, ids[row : row + 1])[0], rtol=1e-4, atol=1e-4)
    for given in (tuple(alphas), torch.tensor(alphas), np.array(alphas)):
        alpha: Any = given
        with scaled(model, SOME, alpha):
            assert torch.equal(together, logits(model, ids))


def test_alpha_one_is_the_untouched_path(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    before, plain = hooks(model), logits(model, ids)
    for alpha in (1, 1.0, [1.0, 1.0, 1.0], "1"):
        given: Any = alpha
        with scaled(model, SOME, given):
            assert hooks(model) == before
            assert torch.equal(logits(model, ids), plain)
    with scaled(model, NeuronSet.from_flat([], LAYOUT), 0.0):
        assert hooks(model) == before


def test_a_row_with_alpha_one_keeps_its_logits(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    plain = logits(model, ids)
    with scaled(model, SOME, [0.0, 1.0, 3.0]):
        together = logits(model, ids)
    assert torch.equal(together[1], plain[1])
    assert not torch.equal(together[0], plain[0])


def test_the_model_is_left_as_it_was_found(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    own = model.model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda m, a: None)
    bytes_before, hooks_before, plain = content(model), hooks(model), logits(model, ids)
    for alpha in (0.0, 3.0):  # 3 after 0 would find zeros if weights had been multiplied
        with scaled(model, SOME, alpha):
            changed = logits(model, ids)
        assert not torch.equal(changed, plain)
        assert content(model) == bytes_before
        assert hooks(model) == hooks_before
        assert torch.equal(logits(model, ids), plain)
    with pytest.raises(IndexError), scaled(model, SOME, 0.0):  # an id that the vocabulary does not have
        logits(model, ids + 97)
    assert content(model) == bytes_before
    assert hooks(model) == hooks_before
    assert torch.equal(logits(model, ids), plain)
    own.remove()


def test_applying_again_does_not_compound(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    results = []
    for alpha in (2.0, 0.0, 3.0, 2.0):
        with scaled(model, SOME, alpha):
            results.append((logits(model, ids), logits(model, ids)))
    for first, second in results:
        assert torch.equal(first, second)
    assert torch.equal(results[0][0], results[3][0])
    fresh = tiny_model()
    with scaled(fresh, SOME, 3.0):
        assert torch.equal(results[2][0], logits(fresh, ids))


def test_nested_blocks_multiply_and_unwind(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    plain, bytes_before = logits(model, ids), content(model)
    with scaled(model, SOME, 2.0):
        outer = logits(model, ids)
        inside = hooks(model)
        with scaled(model, OTHERS, 3.0):
            both = logits(model, ids)
        assert hooks(model) == inside
        assert torch.equal(logits(model, ids), outer)
    assert torch.equal(logits(model, ids), plain)
    assert content(model) == bytes_before
    fold(model, SOME, 2.0)
    fold(model, OTHERS, 3.0)
    torch.testing.assert_close(both, logits(model, ids), rtol=1e-4, atol=1e-4)


def test_gradients_are_those_of_the_folded_model(tiny_model: Make):
    model, folded, ids = tiny_model(), tiny_model(), sequences()
    fold(folded, SOME, 3.0)
    with scaled(model, SOME, [3.0, 3.0, 3.0]):
        model(ids).logits.pow(2).mean().backward()
    folded(ids).logits.pow(2).mean().backward()
    for number in range(3):
        for part in ("gate_proj", "up_proj"):
            mine = getattr(model.model.layers[number].mlp, part).weight.grad
            torch.testing.assert_close(
                mine, getattr(folded.model.layers[number].mlp, part).weight.grad, rtol=1e-3, atol=1e-4
            )
            assert mine.abs().max() > 0


def test_what_autograd_keeps_is_not_written_over(tiny_model: Make):
    model, ids = tiny_model(), sequences()
    kept: list[tuple[Tensor, Tensor]] = []
    module = model.model.layers[0].mlp.down_proj
    handle = module.register_forward_pre_hook(lambda m, args: kept.append((args[0], args[0].detach().clone())))
    with scaled(model, SOME, 3.0):
        model(ids)
    handle.remove()
    assert torch.equal(*kept[0])


def test_a_bfloat16_model_is_scaled_in_bfloat16_rounded_once(tiny_model: Make):
    model, ids = tiny_model(dtype="bfloat16"), sequences()
    seen: list[Tensor] = []
    module = model.model.layers[0].mlp.down_proj
    handle = module.register_forward_hook(lambda m, a, out: seen.append(a[0].clone()))
    logits(model, ids)
    with scaled(model, SOME, 0.3):
        logits(model, ids)
    handle.remove()
    expected = seen[0].clone()
    expected[..., [0, 3, 39]] = (expected[..., [0, 3, 39]].float() * torch.tensor(0.3)).bfloat16()
    assert seen[-1].dtype == torch.bfloat16
    assert torch.equal(seen[-1], expected)


BAD = [
    -0.1,
    -1,
    float("nan"),
    float("inf"),
    float("-inf"),
    "abc",
    "-1",
    "nan",
    "",
    True,
    False,
    None,
    [1.0],
    1j,
    10**400,
]


@pytest.mark.parametrize("alpha", BAD, ids=lambda a: repr(a)[:9])
def test_alphas_that_are_no_factor_are_refused(tiny_model: Make, alpha: Any):
    with pytest.raises(ValueError, match="alpha should be"):
        check_alpha(alpha)
    model = tiny_model()
    before = content(model)
    with pytest.raises(ValueError, match="alpha should be"):
        fold(model, SOME, alpha)
    each: Any = [0.0, alpha]
    with pytest.raises(ValueError, match="alpha should be"), scaled(model, SOME, each):
        pass
    if not isinstance(alpha, list):
        with pytest.raises(ValueError, match="alpha should be"), scaled(model, SOME, alpha):
            pass
    assert content(model) == before


def test_numbers_of_every_kind_are_taken():
    assert [check_alpha(a) for a in (0, 2, 0.5, "0.5", np.float32(0.5), np.int64(3))] == [
        0,
        2,
        0.5,
        0.5,
        0.5,
        3,
    ]


def test_another_number_of_rows_is_refused(tiny_model: Make):
    model = tiny_model()
    with (
        pytest.raises(ValueError, match="alpha has 2 rows, the batch has 3"),
        scaled(model, SOME, [0.0, 3.0]),
    ):
        logits(model, sequences(3))
    assert all(not pre and not post for pre, post in hooks(model))


def test_no_alpha_at_all_is_refused(tiny_model: Make):
    with pytest.raises(ValueError, match="alpha"), scaled(tiny_model(), SOME, []):
        pass


def test_neurons_of_another_model_are_refused_naming_both(tiny_model: Make):
    model = tiny_model()
    strangers = NeuronSet.from_flat([1, 2], NeuronLayout((32, 32)), model="small-one")
    for alpha in (0.0, 1.0):
        with (
            pytest.raises(NeuronSetError, match=r"small-one with 2 layers x 32 .* has 3 layers x 40") as caught,
            scaled(model, strangers, alpha),
        ):
            pass
        assert "\n" not in str(caught.value)
    with pytest.raises(NeuronSetError, match=r"2 layers x 32 .*LlamaForCausalLM has 3 layers x 40"):
        fold(model, strangers, 0.0)
    unknown = NeuronSet(np.array([3]), np.array([0]))
    with pytest.raises(NeuronSetError, match="do not fit"), scaled(model, unknown, 0.0):
        pass


def test_a_table_mixes_sets_and_alphas_row_by_row(tiny_model: Make):
    model = tiny_model()
    asked: list[tuple[NeuronSet | None, float]] = [
        (SOME, 0.0),
        (None, 5.0),
        (OTHERS, 2.0),
        (SOME, 3.0),
        (OTHERS, 1.0),
    ]
    table = ScalingTable(down_projections(model))
    entries = [table.entry(Intervention(*one)) for one in asked]
    assert entries == [1, 0, 2, 3, 0]
    assert [table.entry(Intervention(*one)) for one in asked] == entries
    assert table.rows([0, 0]) is None
    scaling = table.rows(entries)
    assert scaling is not None
    expected = torch.ones(5, 120)
    for row, (neurons, alpha) in enumerate(asked):
        if neurons is not None:
            expected[row, neurons.flat(LAYOUT)] = alpha
    actual = torch.ones(5, 120)
    for (layer, part), factors in scaling.factors.items():
        assert part == 0
        actual[:, 40 * layer + scaling.neurons[layer, part]] = factors
    assert torch.equal(actual, expected)


def test_an_intervention_knows_whether_it_changes_anything_and_which_one_it_is():
    none = NeuronSet.from_flat([], LAYOUT)
    baselines = [Intervention(), Intervention(SOME), Intervention(None, 2.0), Intervention(none, 2.0)]
    assert all(one.is_baseline and one.key == (None, 1.0) and not len(one.flat(LAYOUT)) for one in baselines)
    again = NeuronSet(SOME.layers, SOME.indices)
    twice, same = Intervention(SOME, 2), Intervention(again, 2.0)
    assert not twice.is_baseline
    assert twice == same
    assert twice.key == same.key == (SOME.digest, 2.0)
    assert len({twice.key, Intervention(SOME, 3.0).key, Intervention(OTHERS, 2.0).key}) == 3
    assert twice.flat(LAYOUT).tolist() == [0, 3, 39, 80, 95, 119]
    with pytest.raises(NeuronSetError):
        twice.check(NeuronLayout((40,)))
    for wrong in (-1.0, float("nan"), float("inf"), "much", True):
        with pytest.raises(ValueError, match="alpha should be"):
            Intervention(SOME, wrong)  # pyright: ignore[reportArgumentType]
