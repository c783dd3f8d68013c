"""Drift is what brute force on the matrices says, for every way of keeping them, and what was planted is found."""

import json
import shutil
import weakref
from collections.abc import Callable
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from families import FAMILIES, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from hneurons_eval.analysis.drift import Drift, DriftError, cosine_distances, measure, normalised_rank
from hneurons_eval.analysis.drift_ranks import by_layer, follow, mean_rank_interval, rank_neurons, short_names
from hneurons_eval.cli import main
from hneurons_eval.models.architecture import model_class, neuron_layout
from hneurons_eval.models.controls import ACTIVITY, Activity, save_activity
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.weights.reader import CheckpointError, WeightFiles, _split_revision
from hneurons_eval.models.weights.vectors import _halves, neuron_vectors
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.tasks.drift import drift as drift_task
from hneurons_eval.util.errors import UsageError

PNG = b"\x89PNG"


def save(model: Any, directory: Path, **options: Any) -> Path:
    model.save_pretrained(directory, **options)
    return directory


def moved_copy(model: Any, scale: float = 0.05, seed: int = 7) -> Any:
    """The same model after every weight has moved a little, each by another amount."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * torch.rand(parameter.shape, generator=generator)
            parameter.add_(scale * noise.to(parameter.dtype))
    return model


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny Llama and a copy that moved."""
    return save(make_model("llama"), tmp_path / "base"), save(moved_copy(make_model("llama")), tmp_path / "chat")


# ---- the distance --------------------------------------------------------------------------------


def exact_distance(a: list[float], b: list[float]) -> float:
    getcontext().prec = 80
    x, y = ([Decimal(value) for value in one] for one in (a, b))
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    lengths = [sum(p * p for p in one).sqrt() for one in (x, y)]  # pyright: ignore[reportAttributeAccessIssue]
    return float(1 - dot / (lengths[0] * lengths[1]))


@pytest.mark.parametrize(("step", "tolerance"), [(1.0, 1e-13), (1e-3, 1e-11), (1e-6, 1e-8), (1e-8, 1e-6)])
def test_nearly_equal_vectors_keep_their_distance(step: float, tolerance: float):
    rng = np.random.default_rng(3)
    a = rng.normal(size=(5, 64))
    b = 1.7 * (a + step * rng.normal(size=a.shape))
    found = cosine_distances(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    exact = np.array([exact_distance(*rows) for rows in zip(a.tolist(), b.tolist(), strict=True)])
    np.testing.assert_allclose(found, exact, rtol=tolerance)
    if step == 1e-8:  # where the plain formula knows nothing any more
        cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert (np.abs(1 - cosines - exact) > 0.3 * exact).any()


def test_half_precision_is_compared_as_what_it_stores():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 48, generator=generator).bfloat16()
    b = (a.float() + 0.01 * torch.randn(6, 48, generator=generator)).bfloat16()
    exact = [exact_distance(*rows) for rows in zip(a.double().tolist(), b.double().tolist(), strict=True)]
    np.testing.assert_allclose(cosine_distances(a, b).numpy(), exact, rtol=1e-11)


def test_equal_opposite_and_empty_vectors():
    a = torch.tensor([[3.0, -4.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    b = torch.tensor([[3.0, -4.0], [-2.0, -4.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = cosine_distances(a, b).tolist()
    assert found[0] == 0.0
    assert found[1] == pytest.approx(2.0)
    assert found[2:] == [0.0, 1.0, 1.0]


# ---- the matrices --------------------------------------------------------------------------------


def hand_made(name: str, model: Any) -> dict[str, list[torch.Tensor]]:
    """By kind, the vectors `[neurons, hidden]` of each layer, taken from the model as its own code names them."""
    found: dict[str, list[torch.Tensor]] = {"up": [], "down": [], "gate": []}

    def add(up: torch.Tensor, down: torch.Tensor, gate: torch.Tensor | None = None) -> None:
        found["up"].append(up)
        found["down"].append(down)
        if gate is not None:
            found["gate"].append(gate)

    if name == "gpt2":
        for layer in model.transformer.h:
            add(layer.mlp.c_fc.weight.T, layer.mlp.c_proj.weight)
    elif name == "gpt_neox":
        for layer in model.gpt_neox.layers:
            add(layer.mlp.dense_h_to_4h.weight, layer.mlp.dense_4h_to_h.weight.T)
    elif name == "opt":
        for layer in model.model.decoder.layers:
            add(layer.fc1.weight, layer.fc2.weight.T)
    elif name == "phi3":
        for layer in model.model.layers:
            gate, up = layer.mlp.gate_up_proj.weight.chunk(2)
            add(up, layer.mlp.down_proj.weight.T, gate)
    elif name == "gpt_oss":  # [experts, inputs, outputs], gate and up by turns
        for layer in model.model.layers:
            both = layer.mlp.experts.gate_up_proj.transpose(1, 2)
            add(both[:, 1::2].flatten(0, 1), layer.mlp.experts.down_proj.flatten(0, 1), both[:, ::2].flatten(0, 1))
    elif name in ("mixtral", "qwen3_moe", "qwen2_moe"):
        for layer in model.model.layers:
            gate, up = layer.mlp.experts.gate_up_proj.chunk(2, dim=1)
            vectors = [up, layer.mlp.experts.down_proj.transpose(1, 2), gate]
            vectors = [one.flatten(0, 1) for one in vectors]
            if name == "qwen2_moe":
                shared = layer.mlp.shared_expert
                own = [shared.up_proj.weight, shared.down_proj.weight.T, shared.gate_proj.weight]
                vectors = [torch.cat(two) for two in zip(vectors, own, strict=True)]
            add(*vectors)
    else:
        layers = model.model.language_model.layers if name == "gemma3" else model.model.layers
        for layer in layers:
            add(layer.mlp.up_proj.weight, layer.mlp.down_proj.weight.T, layer.mlp.gate_proj.weight)
    return {kind: vectors for kind, vectors in found.items() if vectors}


@pytest.mark.parametrize(
    "name", ["llama", "gemma3", "gpt2", "gpt_neox", "opt", "phi3", "mixtral", "qwen3_moe", "qwen2_moe", "gpt_oss"]
)
def test_distances_are_those_of_brute_force(name: str, tmp_path: Path):
    base, chat = make_model(name), moved_copy(make_model(name))
    found = measure(save(base, tmp_path / "base"), save(chat, tmp_path / "chat"))
    ours, theirs = (hand_made(name, model) for model in (base, chat))
    assert set(found.distances) == set(ours)
    for kind in ours:
        a, b = (torch.cat(one[kind]).detach().double() for one in (ours, theirs))
        expected = 1 - torch.nn.functional.cosine_similarity(a, b, dim=1)
        assert expected.min() > 1e-6
        np.testing.assert_allclose(found.distances[kind], expected.numpy(), rtol=1e-7)


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"falcon-serial", "llama-bias", "stablelm-parallel"}))
def test_what_is_read_is_what_transformers_loads(name: str, tmp_path: Path):
    save(make_model(name, num_hidden_layers=2), tmp_path)
    files = WeightFiles(tmp_path)
    loaded: Any = model_class(files.model.config).from_pretrained(tmp_path)
    state = loaded.state_dict()
    layers = neuron_vectors(files.model)
    assert tuple(sum(part.width for part in parts) for parts in layers) == neuron_layout(loaded).widths
    for vectors in (one for parts in layers for part in parts for one in part.vectors.values()):
        assert torch.equal(files.read(vectors.parameter), state[vectors.parameter])


@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_a_checkpoint_in_many_files_is_the_same(name: str, tmp_path: Path):
    base, chat = make_model(name), moved_copy(make_model(name))
    whole = measure(save(base, tmp_path / "a"), save(chat, tmp_path / "b"))
    shards = save(chat, tmp_path / "c", max_shard_size="20KB")
    assert len(list(shards.glob("*.safetensors"))) > 3
    again = measure(tmp_path / "a", shards)
    for kind, distances in whole.distances.items():
        np.testing.assert_array_equal(again.distances[kind], distances)


def test_experts_in_modules_of_their_own_are_read_as_one(tmp_path: Path):
    """As they lie in most checkpoints, whatever the model makes of them on loading."""
    model = make_model("qwen3_moe")
    save(model, tmp_path / "own")
    assert any(".experts.3.up_proj.weight" in key for key in load_file(tmp_path / "own" / "model.safetensors"))
    shutil.copytree(tmp_path / "own", tmp_path / "fused")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "fused" / "model.safetensors")
    found = measure(tmp_path / "own", tmp_path / "fused")
    assert all((distances == 0).all() for distances in found.distances.values())


def test_two_matrices_at_a_time_are_in_memory(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    alive: list[weakref.ref[torch.Tensor]] = []
    most = [0]
    read = WeightFiles.read

    def counted(self: WeightFiles, parameter: str) -> torch.Tensor:
        tensor = read(self, parameter)
        alive.append(weakref.ref(tensor))
        most[0] = max(most[0], sum(one() is not None for one in alive))
        return tensor

    monkeypatch.setattr(WeightFiles, "read", counted)
    measure(*pair)
    assert len(alive) == 2 * 3 * 3
    assert most[0] == 2


def relu_gated(x: torch.Tensor) -> torch.Tensor:
    up, gate = x[..., ::2], x[..., 1::2]
    return gate.relu() * (up + 1)


def test_the_gate_is_told_from_up_by_what_they_do():
    assert _halves("m", relu_gated, 40) == (slice(1, None, 2), slice(0, None, 2))
    assert _halves("m", lambda x: x[..., :4].tanh() * x[..., 4:], 40) == (slice(0, 40), slice(40, 80))
    assert _halves("m", lambda x: x[..., :4] * torch.sigmoid(x[..., 4:]), 40) == (slice(40, 80), slice(0, 40))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[..., :4] * x[..., 4:],  # no activation
        lambda x: x[..., :4].relu() * x[..., 4:].relu(),
        lambda x: (x[..., :4] + x[..., 4:].sum(-1, keepdim=True)).relu(),
        lambda x: x.flip(-1)[..., :4] * x[..., :4].relu(),
    ],
)
def test_what_is_no_gated_mlp_is_refused(function: Callable[[torch.Tensor], torch.Tensor]):
    with pytest.raises(UnsupportedModelError):
        _halves("m", function, 40)


# ---- ranks ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_ranks_lie_between_0_and_1_about_a_half(values: list[int]):
    rank = normalised_rank(np.array(values, float))
    assert rank.min() >= 0
    assert rank.max() <= 1
    assert rank.mean() == pytest.approx(0.5)
    count = len(values) - 1
    for value, own in zip(values, rank, strict=True):  # how many changed more, half of the equals
        more, equal = sum(v > value for v in values), values.count(value) - 1
        assert own == pytest.approx((more + equal / 2) / count)


def made_up(up: np.ndarray, down: np.ndarray, layers: int = 4) -> Drift:
    return Drift("a", "b", NeuronLayout((len(up) // layers,) * layers), {"up": up, "down": down})


def test_the_score_is_the_mean_of_two_z_scores():
    rng = np.random.default_rng(0)
    up, down = rng.random(400), 1000 * rng.random(400)
    expected = ((up - up.mean()) / up.std() + (down - down.mean()) / down.std()) / 2
    np.testing.assert_allclose(made_up(up, down).score, expected)
    assert made_up(up, down).rank[expected.argmax()] == 0
    assert made_up(up, down).rank[expected.argmin()] == 1


def test_the_p_values_are_those_of_the_hypergeometric_mean():
    """The mean rank of a random set is nearly normal, with the variance of draws without replacement."""
    rng = np.random.default_rng(1)
    drift = made_up(rng.random(2000), rng.random(2000))
    own = np.sort(rng.choice(2000, 50, replace=False))
    ranking = rank_neurons(drift, NeuronSet.from_flat(own, drift.layout), sets=1000)
    test = ranking.tests["uniform"]
    deviation = drift.rank.std() / np.sqrt(50) * np.sqrt(1 - 50 / 2000)
    assert test.means.mean() == pytest.approx(0.5, abs=4 * deviation / np.sqrt(1000) + 0.01)
    assert test.means.std() == pytest.approx(deviation, rel=0.1)
    assert test.p_changed == pytest.approx((1 + (test.means <= ranking.mean.estimate).sum()) / 1001)
    assert test.p_unchanged == pytest.approx((1 + (test.means >= ranking.mean.estimate).sum()) / 1001)
    assert test.p == pytest.approx(min(1, 2 * min(test.p_changed, test.p_unchanged)))
    assert ranking.mean.low <= drift.rank[own].mean() <= ranking.mean.high


def test_depth_alone_is_no_finding_against_sets_as_deep():
    """Neurons of a layer that moved as a whole differ from the model, not from their layer."""
    rng = np.random.default_rng(2)
    moved = np.repeat([1.0, 0.0, 0.0, 0.0], 500) + rng.random(2000)
    drift = made_up(moved, moved + 0.1 * rng.random(2000))
    own = np.sort(rng.choice(500, 40, replace=False))
    tests = rank_neurons(drift, NeuronSet.from_flat(own, drift.layout), sets=500).tests
    assert tests["uniform"].p_changed == pytest.approx(1 / 501)
    assert tests["layer"].p > 0.05


def test_strong_neurons_that_move_as_strong_ones_do_are_no_finding_against_sets_as_strong():
    """What the verdict is on: the hardest kind of sets (finding B13)."""
    rng = np.random.default_rng(3)
    strength = np.exp(rng.normal(size=2000))
    moved = np.log(strength) + 0.3 * rng.normal(size=2000)
    drift = made_up(moved, moved)
    own = np.sort(np.argsort(-strength)[:200:10])
    activity = Activity(strength, np.exp(rng.normal(size=2000)))
    ranking = rank_neurons(drift, NeuronSet.from_flat(own, drift.layout), sets=300, activity=activity)
    assert set(ranking.tests) == {"uniform", "layer", "contribution", "sd"}
    assert ranking.tests["uniform"].p == ranking.tests["sd"].p == pytest.approx(2 / 301)
    assert ranking.tests["contribution"].p > 0.05
    assert ranking.p == ranking.figures()["p"] >= ranking.tests["contribution"].p
    assert ranking.p_changed == max(test.p_changed for test in ranking.tests.values())
    with pytest.raises(DriftError, match="the probe's activity is of 5 neurons"):
        rank_neurons(drift, NeuronSet.from_flat(own, drift.layout), activity=Activity(np.ones(5), np.ones(5)))


@pytest.mark.parametrize("number", [6, 13, 47])
def test_the_interval_of_the_mean_rank_covers_also_with_few_neurons(number: int):
    """A percentile bootstrap covers .88 at 6 and .91 at 13 (finding B13)."""
    rng = np.random.default_rng(number)
    for a, b in ((1, 1), (2, 5), (0.5, 0.5)):
        found = [mean_rank_interval(rng.beta(a, b, number)) for _ in range(600)]
        assert np.mean([one.low <= a / (a + b) <= one.high for one in found]) >= 0.925
        assert all(0 < one.low < one.estimate < one.high < 1 for one in found)


def test_the_interval_of_one_rank_says_nothing_and_that_of_equal_ranks_has_no_width():
    assert mean_rank_interval([0.3]) == (0.3, 0.0, 1.0)
    assert mean_rank_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert mean_rank_interval([0.0, 0.0]) == (0.0, 0.0, 0.0)


def plant(model: Any, neurons: np.ndarray, only: bool) -> Any:
    """Move the vectors of some neurons, or those of all others."""
    layout = neuron_layout(model)
    chosen = np.isin(np.arange(layout.total), neurons) == only
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for number, parts in enumerate(neuron_vectors(model)):
            for part in parts:
                start = int(layout.starts[number]) + part.start
                rows = torch.from_numpy(chosen[start : start + part.width])
                for vectors in part.vectors.values():
                    view = vectors.of(parameters[vectors.parameter].data)
                    rows = rows.reshape(view.shape[:-1])
                    view[rows] += 0.1 * torch.randn(view.shape, generator=generator)[rows]
    return model


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3", "mixtral"])
def test_what_was_planted_is_found(name: str, tmp_path: Path):
    base = make_model(name)
    layout = neuron_layout(base)
    neurons = np.sort(np.random.default_rng(0).choice(layout.total, 12, replace=False))
    chosen = NeuronSet.from_flat(neurons, layout)
    save(base, tmp_path / "base")
    changed = save(plant(make_model(name), neurons, only=True), tmp_path / "changed")
    frozen = save(plant(make_model(name), neurons, only=False), tmp_path / "frozen")
    more, less = follow(tmp_path / "base", [changed, frozen], chosen, sets=200)
    assert set(np.flatnonzero(more.drift.changed)) == set(neurons)
    assert more.mean.high < 0.1
    assert (more.tests["uniform"].p_changed, more.tests["uniform"].p_unchanged) == (pytest.approx(1 / 201), 1.0)
    assert set(np.flatnonzero(~less.drift.changed)) == set(neurons)
    assert less.mean.low > 0.9
    assert (less.tests["uniform"].p_changed, less.tests["uniform"].p_unchanged) == (1.0, pytest.approx(1 / 201))
    assert less.figures()["changed"] == 0.0


def test_a_model_compared_with_itself_has_no_ranks_to_tell(pair: tuple[Path, Path]):
    drift = measure(pair[0], pair[0])
    ranking = rank_neurons(drift, NeuronSet.from_flat(np.arange(5), drift.layout), sets=50)
    assert (drift.rank == 0.5).all()
    assert ranking.tests["uniform"].p == 1.0
    assert not drift.changed.any()


def test_layers_are_told_apart(pair: tuple[Path, Path]):
    drift = measure(*pair)
    ranking = rank_neurons(drift, NeuronSet.from_flat(np.array([3, 41, 45]), drift.layout), sets=50)
    rows = by_layer(ranking)
    assert [len(row.neurons) for row in rows] == [1, 2, 0]
    assert rows[1].mean_rank == pytest.approx(drift.rank[[41, 45]].mean())
    others = np.setdiff1d(np.arange(40, 80), [41, 45])
    assert rows[1].medians["up"][1] == pytest.approx(np.median(drift.distances["up"][others]))
    assert np.isnan(rows[2].mean_rank)


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ("llama", {"num_hidden_layers": 2}),
        ("llama", {"intermediate_size": 48}),
        ("llama", {"hidden_size": 32}),
        ("phi", {}),
    ],
)
def test_another_layout_is_refused_and_both_are_named(other: tuple[str, dict[str, Any]], tmp_path: Path):
    save(make_model("llama"), tmp_path / "base")
    kind, options = other
    model = make_model(kind, **options)
    save(model, tmp_path / "chat")
    with pytest.raises(DriftError) as refused:
        measure(tmp_path / "base", tmp_path / "chat")
    text = str(refused.value)
    assert "3 layers x 40 neurons = 120, vectors of 24, with gates (LlamaForCausalLM)" in text
    assert f"{neuron_layout(model)}, vectors of {model.config.hidden_size}, with" in text


def test_missing_weights_are_named_before_anything_is_read(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch):
    path = pair[1] / "model.safetensors"
    tensors = load_file(path)
    lost = ["model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.down_proj.weight"]
    save_file({key: value for key, value in tensors.items() if key not in lost}, path)
    monkeypatch.setattr(WeightFiles, "_tensor", lambda self, key: pytest.fail("read"))
    with pytest.raises(CheckpointError) as refused:
        measure(*pair)
    assert all(name in str(refused.value) for name in lost)
    assert "chat" in str(refused.value)


def test_damaged_and_incomplete_files_are_refused(pair: tuple[Path, Path], tmp_path: Path):
    base, chat = pair
    tensors = load_file(chat / "model.safetensors")

    def with_up(value: torch.Tensor) -> Callable[[Path], Any]:
        changed = tensors | {"model.layers.0.mlp.up_proj.weight": value}
        return lambda directory: save_file(changed, directory / "model.safetensors")

    cases: list[tuple[Callable[[Path], Any], str]] = [
        (lambda directory: (directory / "model.safetensors").unlink(), "holds neither"),
        (lambda directory: (directory / "model.safetensors").write_bytes(b"nothing"), "cannot be read"),
        (with_up(torch.zeros(3, 3)), "as [3, 3], its configuration says [40, 24]"),
        (with_up(torch.zeros(40, 24, dtype=torch.int8)), "torch.int8"),
        (with_up(torch.full((40, 24), torch.nan)), "not finite"),
        (lambda directory: edit_config(directory, quantization_config={"quant_method": "gptq", "bits": 4}), "(gptq)"),
    ]
    for number, (spoil, said) in enumerate(cases):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(chat, copy)
        spoil(copy)
        with pytest.raises(CheckpointError) as refused:
            measure(base, copy)
        assert said in str(refused.value)
        assert f"copy{number}" in str(refused.value)


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("index", ["{}", "[]", "no", '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": "gone"}}'])
def test_a_bad_index_is_refused(pair: tuple[Path, Path], index: str):
    (pair[1] / "model.safetensors").unlink()
    (pair[1] / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match="index"):
        measure(*pair)


def test_neurons_that_do_not_fit_are_refused(pair: tuple[Path, Path]):
    base, chat = pair
    with pytest.raises(NeuronSetError, match="with 1 layers x 9 neurons"):
        follow(base, [chat], NeuronSet.from_flat([1], NeuronLayout((9,))))
    layout = NeuronLayout((40, 40, 40))
    for flat in ([], range(61)):
        with pytest.raises(DriftError, match="between one and half"):
            follow(base, [chat], NeuronSet.from_flat(list(flat), layout))
    with pytest.raises(DriftError, match="at least one"):
        follow(base, [], NeuronSet.from_flat([1], layout))


def test_a_revision_stands_behind_the_name(tmp_path: Path):
    assert _split_revision("org/model@step1000") == ("org/model", "step1000")
    assert _split_revision("org/model") == ("org/model", None)
    (tmp_path / "a@b").mkdir()
    assert _split_revision(str(tmp_path / "a@b")) == (str(tmp_path / "a@b"), None)


def test_checkpoints_are_called_by_the_end_of_their_names_unless_that_makes_two_alike():
    assert short_names(["run/step-1", "run/step-2"]) == ["step-1", "step-2"]
    assert short_names(["a/final", "b/final"]) == ["a/final", "b/final"]


# ---- as a user runs it ---------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> dict[str, Path]:
    """A base, two steps that moved some neurons further and further, and the file of these neurons."""
    neurons = np.array([2, 17, 44, 50, 90])
    model = make_model("llama")
    paths = {"base": save(model, tmp_path / "base"), "neurons": tmp_path / "neurons.json"}
    NeuronSet.from_flat(neurons, neuron_layout(model)).save(paths["neurons"])
    for step in (1, 2):
        paths[f"step-{step}"] = save(plant(model, neurons, only=True), tmp_path / f"step-{step}")
    return paths


def test_the_command_prints_and_writes_what_was_found(run: dict[str, Path], tmp_path: Path):
    arguments = [str(run[name]) for name in ("base", "step-1", "step-2")]
    options = ["--neurons", str(run["neurons"]), "--out", str(tmp_path / "out"), "--sets", "100"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["drift", *arguments, *options])
    assert done.exit_code == 0, done.output
    rankings = follow(arguments[0], arguments[1:], NeuronSet.load(run["neurons"]), sets=100)
    for one in rankings:
        assert f"{one.mean.estimate:.3f} [{one.mean.low:.3f}, {one.mean.high:.3f}]" in done.output
    assert "changed more than random neurons of every kind (uniform, layer)" in done.output
    record = json.loads((tmp_path / "out" / "drift.json").read_text())
    assert [one["mean_rank"] for one in record["checkpoints"]] == [one.mean.estimate for one in rankings]
    arrays = load_arrays(tmp_path / "out" / "drift.safetensors")
    np.testing.assert_array_equal(arrays["rank"], np.stack([one.drift.rank for one in rankings]))
    np.testing.assert_array_equal(arrays["gate"][1], rankings[1].drift.distances["gate"])
    for name in ("ranks", "distances", "timeline"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(PNG)


def test_the_command_refuses_in_one_sentence(run: dict[str, Path], tmp_path: Path):
    other = save(make_model("llama", num_hidden_layers=2), tmp_path / "other")
    done = CliRunner().invoke(main, ["drift", str(run["base"]), str(other), "--neurons", str(run["neurons"])])
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "drift needs two checkpoints of one layout" in done.output


def test_the_task_has_a_sample_for_the_whole_and_one_for_each_layer(run: dict[str, Path], tmp_path: Path):
    (log,) = inspect_eval(
        "hneurons_eval/drift",
        model="none/none",
        task_args={
            "base": str(run["base"]),
            "neurons": str(run["neurons"]),
            "checkpoints": f"{run['step-1']},{run['step-2']}",
            "sets": 100,
        },
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    log = read_eval_log(log.location, resolve_attachments=True)
    scores = {str(sample.id): (sample.scores or {})["drifted"] for sample in log.samples or []}
    assert list(scores) == ["all layers", "layer 00", "layer 01", "layer 02"]
    whole = str(scores["all layers"].explanation)
    assert whole.count("data:image/png;base64,iVBOR") == 3
    assert "layer-matched random sets" in whole
    last = follow(run["base"], [run["step-2"]], NeuronSet.load(run["neurons"]), sets=100)[0]
    assert scores["layer 00"].value == pytest.approx(last.drift.rank[[2, 17]].mean())
    assert "| 0 | 17 |" in str(scores["layer 00"].explanation)
    assert log.results is not None
    figures = {name: metric.value for name, metric in log.results.scores[0].metrics.items()}
    assert figures["mean_rank"] == pytest.approx(last.mean.estimate)
    assert figures["step-2/mean_rank"] == figures["mean_rank"]
    assert {"uniform_p_changed", "layer_p_unchanged", "step-1/mean_rank_low"} <= set(figures)


def test_the_task_takes_the_model_that_is_evaluated(tiny_checkpoint: Callable[..., Path], tmp_path: Path):
    chat = tiny_checkpoint("llama")
    base = save(moved_copy(make_model("llama", vocab_size=49152, hidden_size=32)), tmp_path / "base")
    neurons = tmp_path / "neurons.json"
    NeuronSet.from_flat([1, 50], NeuronLayout((40, 40, 40))).save(neurons)
    (log,) = inspect_eval(
        "hneurons_eval/drift",
        model=f"hneurons/{chat}",
        task_args={"base": str(base), "neurons": str(neurons), "sets": 20},
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    assert (log.eval.metadata or {})["checkpoints"] == [str(chat)]
    third = next(sample for sample in log.samples or [] if sample.id == "layer 02")
    assert (third.scores or {})["drifted"].value == "N"


def test_the_sign_chooses_the_neurons_and_a_probe_brings_matched_sets(run: dict[str, Path], tmp_path: Path):
    layout = NeuronLayout((40, 40, 40))
    coef = np.zeros(layout.total)
    coef[[2, 17, 44]], coef[[50, 90]] = 1.0, -1.0
    probe = Probe()
    probe.coef_, probe.intercept_, probe.widths = coef, 0.0, layout.widths
    probe.save(tmp_path / "probe")
    save_activity(tmp_path / "probe" / ACTIVITY, np.arange(120.0), np.arange(120.0))
    arguments = ["drift", str(run["base"]), str(run["step-1"]), "--neurons", str(tmp_path / "probe"), "--sets", "50"]
    for sign, count in (("positive", 3), ("negative", 2), ("both", 5)):
        done = CliRunner(env={"COLUMNS": "250"}).invoke(main, [*arguments, "--sign", sign])
        assert done.exit_code == 0, done.output
        assert f"{count} neurons ({sign}) of" in done.output
        assert "p contribution" in done.output
        assert "p sd" in done.output
    done = CliRunner().invoke(main, [*arguments, "--sign", "up"])
    assert done.exit_code == 1
    assert "sign should be" in done.output
    with pytest.raises(UsageError, match="sign should be"):
        drift_task(base=str(run["base"]), neurons=str(tmp_path / "probe"), checkpoints=str(run["step-1"]), sign="up")


def test_the_task_refuses_before_anything_runs(run: dict[str, Path]):
    neurons, base = str(run["neurons"]), str(run["base"])
    with pytest.raises(UsageError, match="base is missing"):
        drift_task(neurons=neurons)
    with pytest.raises(UsageError, match="neurons is missing"):
        drift_task(base=base, checkpoints=base)
    with pytest.raises(UsageError, match="sets should be"):
        drift_task(base=base, neurons=neurons, checkpoints=base, sets=0)
    with pytest.raises(UsageError, match="no model directory"):
        drift_task(base=base, neurons=neurons, checkpoints="/nowhere")
