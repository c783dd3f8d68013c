"""What crosses from a request to vLLM's workers and back, as far as it can be told without vLLM."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.engine.activation_records import ActivationRecord
from hneurons_eval.models.contributions import Reduce
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.vllm.captures import Capture
from hneurons_eval.vllm.request_extras import RequestExtras, positions, to_ranges
from hneurons_eval.vllm.requests import join_ranks

POSITIONS = st.sets(st.integers(0, 40), min_size=1)
EXTRAS = st.builds(
    RequestExtras,
    neurons=st.sets(st.integers(0, 1000)).map(lambda found: tuple(sorted(found))),
    alpha=st.floats(0, 100),
    key=st.text(max_size=8),
    reduce=st.sampled_from(["mean", "max"]),
    regions=st.lists(POSITIONS.map(to_ranges), min_size=1, max_size=5).map(tuple),
    keep_from=st.none() | st.integers(0, 50),
    response_from=st.none() | st.integers(0, 50),
    watch=st.sets(st.integers(0, 1000)).map(lambda found: tuple(sorted(found))),
)


@given(EXTRAS)
def test_extras_come_back_as_they_were(extras: RequestExtras):
    assert RequestExtras.from_text(extras.to_text()) == extras


@given(st.sets(st.integers(0, 60)))
def test_ranges_are_the_positions(found: set[int]):
    assert positions(to_ranges(found)) == sorted(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "JSON input should be string"),
        ("{", "Invalid JSON"),
        ("[1]", "an object"),
        ('{"neuron": [1]}', "hneurons.neuron: Unexpected"),
        ('{"neurons": [3, 2]}', "ascending"),
        ('{"neurons": [true]}', "hneurons.neurons.0: Input should be a valid integer"),
        ('{"neurons": "all"}', "valid array"),
        ('{"alpha": -1}', "at least 0"),
        ('{"alpha": NaN}', "finite"),
        ('{"key": "x"}', "no regions"),
        ('{"regions": [[]]}', "at least 1 item"),
        ('{"regions": [[[3, 3]]]}', "ascending ranges"),
        ('{"regions": [[[0, 4], [2, 6]]]}', "ascending ranges"),
        ('{"regions": [[[0, 1000000000000]]]}', "ascending ranges"),
        ('{"regions": [[[0, 1.5]]]}', "valid integer"),
        ('{"reduce": "sum"}', "'mean' or 'max'"),
        ('{"keep_from": -1}', "hneurons.keep_from: Input should be greater than or equal to 0"),
        ('{"key": 3}', "valid string"),
    ],
)
def test_what_anybody_may_send_to_a_server_is_refused_where_it_is_malformed(value: object, message: str):
    with pytest.raises(ValueError, match=message):
        RequestExtras.from_text(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_other_json_is_refused_and_nothing_else_is_raised(value: object):
    with pytest.raises(ValueError, match="should be"):
        RequestExtras.from_text(json.dumps(value))


def filled(extras: RequestExtras, magnitudes: torch.Tensor, kept: torch.Tensor, inverse: torch.Tensor) -> Capture:
    """A capture that has seen all positions, in the way in which the hooks fill it."""
    capture = Capture.of(extras, magnitudes.shape[1], torch.device("cpu"))
    for position, cell in enumerate(capture.cells.tolist()):
        if cell >= 0:
            capture.seen[position] = True
            own = capture.sums[cell]
            capture.sums[cell] = (
                own + magnitudes[position] if extras.reduce == "mean" else own.max(magnitudes[position])
            )
    capture.activations = [(ActivationRecord(kept, inverse, (), None), row) for row in range(len(kept))]
    return capture


@given(st.lists(POSITIONS, min_size=1, max_size=4), st.sampled_from(["mean", "max"]), st.integers(0, 2**31))
def test_regions_that_overlap_in_any_way_are_each_reduced_whole(regions: list[set[int]], reduce: Reduce, seed: int):
    generator = torch.Generator().manual_seed(seed)
    magnitudes = torch.rand(41, 5, generator=generator)
    norms = torch.rand(5, generator=generator)
    extras = RequestExtras(key="k", reduce=reduce, regions=tuple(map(to_ranges, regions)))
    capture = filled(extras, magnitudes, torch.zeros(0, 5), torch.zeros(0, 2))
    values = capture.result(None, [slice(0, 2), slice(2, 5)], norms, [])["values"]
    for region, found in zip(regions, values, strict=True):
        own = magnitudes[sorted(region)]
        expected = (own.mean(dim=0) if reduce == "mean" else own.amax(dim=0)) * norms
        assert torch.allclose(found, expected, atol=1e-6)


@given(st.sets(st.integers(0, 5), min_size=1), st.sampled_from(["mean", "max"]))
def test_a_region_may_join_a_prompt_and_tokens_that_were_kept_apart(kept: set[int], reduce: Reduce):
    generator = torch.Generator().manual_seed(len(kept))
    magnitudes, z = torch.rand(3, 5, generator=generator), torch.randn(6, 5, generator=generator)
    inverse, norms = torch.rand(6, 2, generator=generator), torch.rand(5, generator=generator)
    layers = [slice(0, 2), slice(2, 5)]
    extras = RequestExtras(key="k", reduce=reduce, regions=(((0, 3),),), keep_from=3, watch=(1, 4))
    capture = filled(extras, magnitudes, z, inverse)
    cett = z.abs() * inverse.repeat_interleave(torch.tensor([2, 3]), dim=1)
    wanted = [(None, to_ranges(3 + place for place in kept)), (0, to_ranges(3 + place for place in kept)), (0, ())]
    found = capture.result(wanted, layers, norms, [1, 4])
    own = cett[sorted(kept)]
    for values, rows in zip(found["values"], (own, torch.cat([magnitudes, own]), magnitudes), strict=True):
        expected = rows.mean(dim=0) if reduce == "mean" else rows.amax(dim=0)
        assert torch.allclose(values, expected * norms, atol=1e-6)
    assert torch.allclose(found["watched"], (cett * norms)[:, [1, 4]], atol=1e-6)


def test_a_position_that_was_never_computed_is_an_error_and_not_a_smaller_region():
    extras = RequestExtras(key="k", regions=(((0, 3),),), keep_from=3)
    capture = Capture.of(extras, 5, torch.device("cpu"))
    capture.seen[:2] = True
    with pytest.raises(ValueError, match="1 positions, the first 2, were not computed"):
        capture.result(None, [slice(0, 5)], torch.ones(5), [])
    capture.seen[:] = True
    with pytest.raises(ValueError, match="0 tokens kept apart"):
        capture.result([(0, ((3, 4),))], [slice(0, 5)], torch.ones(5), [])


def test_shares_of_ranks_are_joined_layer_by_layer_and_watched_neurons_go_back_to_their_places():
    layout = NeuronLayout((4, 6))
    whole = np.arange(20, dtype=np.float32).reshape(2, 10)
    watch = (0, 3, 5, 8, 9)
    shares = []
    for rank in (0, 1):
        values = np.concatenate([whole[:, 2 * rank : 2 * rank + 2], whole[:, 4 + 3 * rank : 7 + 3 * rank]], axis=1)
        own = [flat for flat in watch if (flat // 2 if flat < 4 else (flat - 4) // 3) == rank]
        shares.append({"0.values": values, "0.watched": whole[:, own]})
    found = join_ranks(shares, "0", layout, watch)
    assert (found.contributions == whole).all()
    assert found.per_token is not None
    assert (found.per_token == whole[:, list(watch)]).all()
    failed = {"0.error": np.frombuffer(b"not computed", np.uint8)}
    with pytest.raises(RuntimeError, match="not computed"):
        join_ranks([failed], "0", layout)
