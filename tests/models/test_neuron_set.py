"""A neuron set survives its file, is checked wherever it comes from, and says what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.artifacts.paths import kept_neurons, save_neurons
from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import SIGNS, NeuronSet, NeuronSetError
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.util.errors import UsageError

LAYOUT = NeuronLayout((4, 2, 3))
sets = st.lists(st.integers(1, 9), min_size=1, max_size=6).flatmap(
    lambda widths: st.tuples(
        st.just(NeuronLayout(tuple(widths))), st.lists(st.integers(0, sum(widths) - 1), unique=True)
    )
)


@given(sets)
def test_flat_indices_make_the_round_trip_sorted(given_: tuple[NeuronLayout, list[int]]):
    layout, flat = given_
    neurons = NeuronSet.from_flat(flat, layout)
    assert neurons.flat(layout).tolist() == sorted(flat)
    assert len(neurons) == len(flat)
    pairs = list(zip(neurons.layers.tolist(), neurons.indices.tolist(), strict=True))
    assert pairs == sorted(pairs)


@given(sets, st.randoms())
def test_the_digest_knows_which_neurons_not_in_which_order(given_: tuple[NeuronLayout, list[int]], random: Any):
    layout, flat = given_
    neurons = NeuronSet.from_flat(flat, layout)
    shuffled = random.sample(flat, len(flat))
    again = NeuronSet.from_flat(shuffled, layout, np.arange(len(flat)), model="other", provenance={"a": 1})
    assert again.digest == neurons.digest
    assert again == neurons
    assert hash(again) == hash(neurons)
    if flat:
        fewer = NeuronSet.from_flat(flat[1:], layout)
        assert fewer.digest != neurons.digest
        assert fewer != neurons


def test_the_digest_tells_layer_from_index():
    assert NeuronSet(np.array([1]), np.array([2])).digest != NeuronSet(np.array([2]), np.array([1])).digest


@given(sets.flatmap(lambda g: st.tuples(
    st.just(g), st.lists(st.floats(-1e6, 1e6), min_size=len(g[1]), max_size=len(g[1])))
))  # fmt: skip
def test_a_file_gives_back_what_was_saved(
    tmp_path_factory: pytest.TempPathFactory, given_: tuple[tuple[NeuronLayout, list[int]], list[float]]
):
    (layout, flat), weights = given_
    path = tmp_path_factory.mktemp("neurons") / "set.json"
    provenance = {"C": 0.1, "note": "été", "nested": {"list": [1, None, True]}}
    neurons = NeuronSet.from_flat(flat, layout, np.array(weights), "llama-3.1", provenance)
    neurons.save(path)
    again = NeuronSet.load(path)
    assert again == neurons
    assert neurons.weights is not None
    assert again.weights is not None
    assert again.weights.tolist() == neurons.weights.tolist()
    assert (again.model, again.widths, again.provenance) == ("llama-3.1", layout.widths, provenance)
    again.save(path.with_name("again.json"))
    assert path.read_bytes() == path.with_name("again.json").read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == ["again.json", "set.json"]


def test_weights_follow_their_neurons(tmp_path: Path):
    neurons = NeuronSet(np.array([2, 0, 0]), np.array([1, 3, 2]), np.array([0.1, 0.2, 0.3]))
    assert neurons.layers.tolist() == [0, 0, 2]
    assert neurons.indices.tolist() == [2, 3, 1]
    assert neurons.weights is not None
    assert neurons.weights.tolist() == [0.3, 0.2, 0.1]
    neurons.save(tmp_path / "n.json")
    again = NeuronSet.load(tmp_path / "n.json")
    assert (again.model, again.widths) == (None, None)


def test_stability_stays_with_its_neuron(tmp_path: Path):
    neurons = NeuronSet(np.array([2, 0]), np.array([1, 3]), stability=np.array([0.25, 1.0]))
    neurons.save(tmp_path / "n.json")
    again = NeuronSet.load(tmp_path / "n.json")
    assert again.stability is not None
    assert list(zip(again.layers.tolist(), again.stability.tolist(), strict=True)) == [(0, 1.0), (2, 0.25)]


def test_the_file_is_json_that_others_can_read(tmp_path: Path):
    NeuronSet.from_flat([8, 0], LAYOUT, model="m").save(tmp_path / "n.json")
    record = json.loads((tmp_path / "n.json").read_text())
    assert len(record.pop("sha256")) == 64
    assert record == {
        "format": "hneurons-neurons",
        "version": 1,
        "model": "m",
        "widths": [4, 2, 3],
        "layers": [0, 2],
        "indices": [0, 2],
        "weights": None,
        "stability": None,
        "provenance": {},
    }


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"layers": [0, 0], "indices": [1, 1]}, "twice"),
    ({"layers": [0], "indices": [1, 2]}, "one length"),
    ({"layers": [0], "indices": [1], "weights": [1.0, 2.0]}, "one length"),
    ({"layers": [0], "indices": [1], "stability": [1.0, 0.5]}, "one length"),
    ({"layers": [0], "indices": [1], "stability": [1.5]}, "a share from 0 to 1"),
    ({"layers": [-1], "indices": [1]}, "negative"),
    ({"layers": [0.5], "indices": [1]}, "whole numbers"),
    ({"layers": [0], "indices": [[1]]}, "whole numbers"),
    ({"layers": [True], "indices": [1]}, "whole numbers"),
    ({"layers": ["0"], "indices": [1]}, "whole numbers"),
    ({"layers": [2**63], "indices": [1]}, "smaller"),
    ({"layers": [2**70], "indices": [1]}, "whole numbers"),
    ({"layers": [0], "indices": [1], "weights": [float("nan")]}, "finite"),
    ({"layers": [0], "indices": [1], "weights": [[1.0]]}, "list of numbers"),
    ({"layers": [0], "indices": [1], "weights": ["x"]}, "list of numbers"),
    ({"layers": [0], "indices": [4], "widths": (4, 2)}, "own widths"),
    ({"layers": [2], "indices": [0], "widths": (4, 2)}, "own widths"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_neurons_that_make_no_set_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(NeuronSetError, match=message):
        NeuronSet(**arguments)


@pytest.mark.parametrize("flat", [[0.5], [[1]], [True], ["1"], [-1], [1, 1]])
def test_flat_indices_that_are_none_are_refused(flat: Any):
    with pytest.raises(NeuronSetError):
        NeuronSet.from_flat(flat, LAYOUT)
    with pytest.raises(IndexError, match="has 9 neurons"):
        NeuronSet.from_flat([9], LAYOUT)


def good(**changes: Any) -> dict[str, Any]:
    record = {
        "format": "hneurons-neurons",
        "version": 1,
        "model": "m",
        "widths": [4, 2, 3],
        "layers": [0, 2],
        "indices": [1, 2],
        "weights": [0.5, 1.5],
        "provenance": {},
    }
    return {key: value for key, value in (record | changes).items() if value is not ...}


NUMBERS = [
    1,
    "0, 1",
    {"0": 1},
    [0, "1"],
    [0, 1.0],
    [0, True],
    [0, None],
    [0, [1]],
    [0, -1],
    [0, 2**53 + 1],
    [0, 10**400],
]
BAD_RECORDS: list[Any] = [
    *(good(**{key: value}) for key in ("layers", "indices") for value in (..., None, *NUMBERS)),
    *(good(weights=value) for value in (1, "x", {}, [1, "2"], [1, True], [1, None], [1], [[1, 2]])),
    good(weights=[1, 10**400]),
    *(good(widths=value) for value in (1, "4", [4, 2, "3"], [4, 2, 3.0], [4, 2, 0], [4, 2, -1])),
    *(good(widths=value) for value in ([4, 2], [], [True] * 3)),
    *(good(model=value) for value in (1, ["m"], {}, True)),
    *(good(provenance=value) for value in (1, "x", [["a", 1]], True)),
    *(good(version=value) for value in (..., None, 0, 2, "1", 1.0, True, [1])),
    *(good(format=value) for value in (..., None, "hneurons-probe", 1, [])),
    good(layers=[0, 0], indices=[1, 1]),
    good(layers=[0]),
    [],
    [good()],
    "text",
    1,
    None,
]  # fmt: skip


@pytest.mark.parametrize("record", BAD_RECORDS, ids=range(len(BAD_RECORDS)))
def test_a_malformed_record_is_refused_with_its_path(tmp_path: Path, record: Any):
    path = tmp_path / "bad.neurons.json"
    path.write_text(json.dumps(good()))
    assert len(NeuronSet.load(path)) == 2
    path.write_text(json.dumps(record))
    with pytest.raises(NeuronSetError, match=r"bad\.neurons\.json") as caught:
        NeuronSet.load(path)
    assert "\n" not in str(caught.value)


BAD_TEXTS = {
    "empty": b"",
    "truncated": json.dumps(good()).encode()[:-5],
    "NaN": json.dumps(good(weights=[0.5, float("nan")])).encode(),
    "infinite": json.dumps(good(weights=[0.5, float("-inf")])).encode(),
    "overflowing": json.dumps(good()).replace("1.5", "1e999").encode(),
    "NaN in the provenance": json.dumps(good(provenance={"auroc": float("nan")})).encode(),
    "too many digits": json.dumps(good()).replace("1.5", "9" * 5000).encode(),
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "not UTF-8": json.dumps(good()).encode("utf-16"),
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_a_malformed_file_is_refused_with_its_path(tmp_path: Path, content: bytes):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(NeuronSetError, match=r"bad\.json"):
        NeuronSet.load(path)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(good())) | st.text(), inner),
))  # fmt: skip
def test_no_json_crashes_the_reader(tmp_path_factory: pytest.TempPathFactory, value: Any):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(good() | value if isinstance(value, dict) else value))
    try:
        neurons = NeuronSet.load(path)
    except NeuronSetError:
        return  # any other exception is a crash
    neurons.save(path)
    assert NeuronSet.load(path) == neurons


@pytest.mark.parametrize("name", ["none.json", "x" * 5000, "a\0b"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str):
    with pytest.raises(NeuronSetError, match="no neuron file at"):
        NeuronSet.load(tmp_path / name)


def test_a_failing_save_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "n.json"
    NeuronSet.from_flat([1], LAYOUT).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        NeuronSet.from_flat([2], LAYOUT, provenance={"auroc": float("nan")}).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["n.json"]


def test_neurons_are_checked_against_the_model():
    neurons = NeuronSet.from_flat([8], LAYOUT, model="a-model")
    with pytest.raises(NeuronSetError, match=r"a-model with 3 layers x 2\.\.4 .* b-model has 3 layers x 4"):
        neurons.check(NeuronLayout((4, 4, 4)), "b-model")
    with pytest.raises(NeuronSetError, match="use neurons found in this model"):
        neurons.flat(NeuronLayout((4, 2)))
    bare = NeuronSet(np.array([1]), np.array([1]))
    assert bare.flat(LAYOUT).tolist() == [5]
    with pytest.raises(NeuronSetError, match="neuron 1 of layer 1"):
        bare.flat(NeuronLayout((4, 1)))


# --- signs -------------------------------------------------------------------------------------------------

SIGNED = NeuronSet(
    np.array([0, 0, 1, 2]),
    np.array([1, 3, 0, 2]),
    np.array([0.5, -2.0, 1.5, -0.25]),
    "m",
    LAYOUT.widths,
    {"by": "a test"},
    np.array([1.0, 0.75, 0.5, 0.25]),
)


def test_the_neurons_of_a_sign_keep_all_that_is_known_of_them():
    positive, negative = SIGNED.positive, SIGNED.negative
    assert positive.weights is not None
    assert negative.weights is not None
    assert positive.stability is not None
    assert (positive.layers.tolist(), positive.indices.tolist()) == ([0, 1], [1, 0])
    assert (positive.weights.tolist(), positive.stability.tolist()) == ([0.5, 1.5], [1.0, 0.5])
    assert negative.weights.tolist() == [-2.0, -0.25]
    assert (positive.model, positive.widths, positive.provenance) == ("m", LAYOUT.widths, {"by": "a test"})
    assert [SIGNED.of_sign(sign) for sign in SIGNS] == [positive, negative, SIGNED]
    assert positive.positive == positive
    assert len(positive.negative) == 0
    with pytest.raises(ValueError, match="sign should be positive, negative or both, found 'up'"):
        SIGNED.of_sign("up")


def test_without_weights_all_neurons_are_positive():
    bare = NeuronSet.from_flat([1, 5], LAYOUT)
    assert bare.positive is bare
    assert len(bare.negative) == 0
    assert bare.of_sign("both") is bare


def test_a_file_keeps_weights_of_both_signs_and_zero_is_of_neither(tmp_path: Path):
    SIGNED.save(tmp_path / "n.json")
    again = NeuronSet.load(tmp_path / "n.json")
    assert again.weights is not None
    assert again.weights.tolist() == [0.5, -2.0, 1.5, -0.25]
    assert (again.positive, again.negative) == (SIGNED.positive, SIGNED.negative)
    nothing = NeuronSet.from_flat([1], LAYOUT, np.zeros(1))
    assert len(nothing.positive) == len(nothing.negative) == 0


def test_a_probe_directory_holds_every_neuron_with_a_weight(tmp_path: Path):
    probe = Probe("l1", C=0.5)
    probe.coef_, probe.intercept_ = np.array([0.0, 0.5, 0.0, -2.0, 1.5, 0.0, 0.0, 0.0, -0.25]), 0.0
    probe.widths, probe.model = LAYOUT.widths, "m"
    probe.save(tmp_path / "p")
    found = NeuronSet.load(tmp_path / "p")
    assert found == SIGNED == probe.neurons("both")
    assert probe.neurons() == found.positive == SIGNED.positive
    assert probe.neurons("negative") == SIGNED.negative
    assert found.weights is not None
    assert found.weights.tolist() == [0.5, -2.0, 1.5, -0.25]
    with pytest.raises(ValueError, match="sign should be"):
        probe.neurons("up")  # pyright: ignore[reportArgumentType]
    assert neurons_to_scale(tmp_path / "p") == SIGNED.positive


def test_what_is_scaled_is_positive_unless_asked_otherwise_and_a_digest_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "artifacts"))
    file = tmp_path / "n.json"
    SIGNED.save(file)
    assert neurons_to_scale(file) == SIGNED.positive
    assert [neurons_to_scale(file, sign) for sign in SIGNS] == [SIGNED.positive, SIGNED.negative, SIGNED]
    for kept in (SIGNED, SIGNED.negative):
        digest = save_neurons(kept)
        assert neurons_to_scale(digest) == kept_neurons(digest) == kept
    SIGNED.negative.save(file)
    with pytest.raises(UsageError, match="holds 2 neurons, none of them with a positive weight; choose another"):
        neurons_to_scale(file)
    assert neurons_to_scale(file, "negative") == SIGNED.negative
    NeuronSet.from_flat([], LAYOUT).save(file)
    assert len(neurons_to_scale(file)) == 0


# --- looking at a set ----------------------------------------------------------------------------------------


def test_a_set_is_a_sequence_of_neurons_and_a_data_frame():
    assert list(SIGNED) == [
        (0, 1, 0.5, "positive"), (0, 3, -2.0, "negative"), (1, 0, 1.5, "positive"), (2, 2, -0.25, "negative"),
    ]  # fmt: skip
    assert repr(SIGNED) == "<NeuronSet: 4 neurons, 2 positive of 9, m>"
    frame: Any = SIGNED.to_frame()
    assert frame.columns.tolist() == ["model", "layer", "index", "weight", "stability"]
    assert frame[["layer", "index", "weight", "stability"]].values.tolist() == [
        [0, 1, 0.5, 1.0], [0, 3, -2.0, 0.75], [1, 0, 1.5, 0.5], [2, 2, -0.25, 0.25],
    ]  # fmt: skip
    bare = NeuronSet.from_flat([1], LAYOUT)
    ((layer, index, weight, sign),) = bare
    assert (layer, index, sign) == (0, 1, "positive")
    assert np.isnan(weight)
    assert bare.to_frame().weight.isna().all()
