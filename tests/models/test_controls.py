"""Control sets hold what they promise."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hneurons_eval.models.controls import (
    ACTIVITY,
    KINDS,
    Activity,
    ActivityError,
    control_sets,
    layer_matched_sets,
    load_activity,
    matched_sets,
    random_sets,
    save_activity,
)

WIDTHS = (30, 50, 20)
REFERENCE = np.array([0, 1, 5, 30, 79, 80, 81, 99])


def proper(sets, size, reference=REFERENCE):
    for one in sets:
        assert one.dtype == np.int64
        assert one.size == size == np.unique(one).size
        assert (np.diff(one) > 0).all()
        assert not np.isin(one, reference).any()
        assert 0 <= one.min() <= one.max() < 100


@given(st.integers(0, 2**31), st.integers(1, 92))
@settings(max_examples=40, deadline=None)
def test_random_sets_are_sets_outside_the_reference(seed, size):
    proper(random_sets(WIDTHS, size, 3, seed, REFERENCE), size)


def test_random_sets_are_uniform_and_seeded():
    sets = random_sets(WIDTHS, 10, 2000, seed=1, exclude=REFERENCE)
    counts = np.bincount(np.concatenate(sets), minlength=100)
    rest = np.setdiff1d(np.arange(100), REFERENCE)
    assert np.abs(counts[rest] - 2000 * 10 / 92).max() < 5 * np.sqrt(2000 * 10 / 92)
    again = random_sets(WIDTHS, 10, 2000, seed=1, exclude=REFERENCE)
    assert all(np.array_equal(a, b) for a, b in zip(sets, again, strict=True))
    assert not np.array_equal(sets[0], random_sets(WIDTHS, 10, 1, seed=2, exclude=REFERENCE)[0])


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_layer_matched_sets_have_the_references_layers(seed):
    sets = layer_matched_sets(REFERENCE, WIDTHS, 4, seed)
    proper(sets, 8)
    edges = [0, 30, 80, 100]
    assert np.histogram(REFERENCE, edges)[0].tolist() == [3, 2, 3]
    for one in sets:
        assert ((one >= 30).sum(), (one >= 80).sum()) == (5, 3)


def test_contribution_matched_sets_contribute_as_much():
    means = np.exp(np.random.default_rng(0).normal(-7, 1.5, 5000))
    reference = np.argsort(-means)[:400:10]  # large contributors
    matched = matched_sets(reference, means, 20, seed=3)
    for one in matched:
        assert one.size == 40 == np.unique(one).size
        assert not np.isin(one, reference).any()
        assert np.log(means[one]).mean() == pytest.approx(np.log(means[reference]).mean(), abs=0.1)
    assert len({one.tobytes() for one in matched}) == 20
    uniform = random_sets([5000], 40, 1, exclude=reference)[0]
    assert np.log(means[uniform]).mean() < np.log(means[reference]).mean() - 1
    everything = matched_sets(np.arange(50), np.arange(100.0), 2, neighbours=1)
    assert all(np.array_equal(one, np.arange(50, 100)) for one in everything)


def test_impossible_sets_are_refused():
    with pytest.raises(ValueError, match="93 neurons cannot be drawn from the 92"):
        random_sets(WIDTHS, 93, 1, exclude=REFERENCE)
    with pytest.raises(ValueError, match="layer 2 has 8 neurons"):
        layer_matched_sets(np.arange(80, 92), WIDTHS, 1)
    with pytest.raises(ValueError, match="51 neurons cannot be matched by the 49"):
        matched_sets(np.arange(51), np.ones(100), 1)
    with pytest.raises(ValueError, match="finite"):
        matched_sets([0], [1.0, np.nan], 1)
    for make in (
        lambda: random_sets(WIDTHS, 1, 1, exclude=[100]),
        lambda: layer_matched_sets([-1], WIDTHS, 1),
    ):
        with pytest.raises(ValueError, match="does not fit a model of 100"):
            make()


@pytest.fixture
def activity() -> Activity:
    rng = np.random.default_rng(0)
    return Activity(np.exp(rng.normal(-7, 1.5, 4000)), np.exp(rng.normal(-8, 1.2, 4000)))


def test_sets_of_every_kind_for_a_reference():
    rng = np.random.default_rng(0)
    activity = Activity(np.exp(rng.normal(-7, 1.5, 100)), np.exp(rng.normal(-7, 1.5, 100)))
    sets = control_sets(REFERENCE, WIDTHS, activity, 7, seed=2)
    assert tuple(sets) == KINDS
    for kind, one in sets.items():
        assert one.shape == (7, len(REFERENCE))
        proper(list(one), len(REFERENCE))
        assert len({row.tobytes() for row in one}) == 7, kind
        np.testing.assert_array_equal(control_sets(REFERENCE, WIDTHS, activity, 7, seed=2)[kind], one)
        assert not np.array_equal(control_sets(REFERENCE, WIDTHS, activity, 7, seed=3)[kind], one)
    for row in sets["layer"]:
        assert np.histogram(row, [0, 30, 80, 100])[0].tolist() == [3, 2, 3]
    # A layer that is mostly reference leaves nothing to match it with.
    assert "layer" not in control_sets(np.arange(80, 95), WIDTHS, activity, 2)
    assert control_sets(np.arange(51), WIDTHS, activity, 2) == {}
    half = control_sets(np.arange(50), WIDTHS, activity, 3)
    for kind in ("uniform", "contribution", "sd"):
        np.testing.assert_array_equal(half[kind], np.tile(np.arange(50, 100), (3, 1)))
    for wrong in ([], [100], [-1]):
        with pytest.raises(ValueError, match="do not fit 100 neurons"):
            control_sets(wrong, WIDTHS, activity, 3)
    with pytest.raises(ValueError, match="8 neurons and 100 activities do not fit 60"):
        control_sets(REFERENCE, (30, 30), activity, 3)


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_no_set_holds_an_excluded_neuron_or_one_twice(seed: int, size: int, beside: int):
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(100)
    reference, exclude = np.sort(chosen[:size]), chosen[: size + beside]
    activity = Activity(rng.random(100), rng.random(100))
    for one in control_sets(reference, WIDTHS, activity, 3, seed, exclude).values():
        proper(list(one), size, exclude)


def test_sets_of_two_folds_share_as_many_neurons_as_their_references(activity: Activity):
    """Set number i replaces a neuron by the same one in every fold: the sets vary over folds as the selections do."""
    rng = np.random.default_rng(4)
    pool = rng.choice(4000, 36, replace=False)
    first, second = np.sort(pool[:24]), np.sort(pool[12:])  # 12 shared of 24
    one, other = (control_sets(fold, (2000, 2000), activity, 200, seed=1) for fold in (first, second))
    for kind in KINDS:
        shared = np.array([np.intersect1d(a, b).size for a, b in zip(one[kind], other[kind], strict=True)])
        assert 11 <= shared.mean() <= 13, kind
        assert shared.min() >= 8, kind
        # Two sets of one fold share hardly any: they are different replacements.
        apart = np.array([np.intersect1d(a, b).size for a, b in zip(one[kind][:-1], one[kind][1:], strict=True)])
        assert apart.mean() < 2, kind


def test_matched_kinds_are_near_in_rank_and_the_others_are_not(activity: Activity):
    rank = {"contribution": activity.mean.argsort().argsort(), "sd": activity.deviation.argsort().argsort()}
    for kind, places in rank.items():
        reference = np.flatnonzero(places >= 3950)[::3]  # at the end, where the window has one side only
        sets = control_sets(reference, (4000,), activity, 100, seed=3)
        assert places[sets[kind]].min() >= 3800
        other = "sd" if kind == "contribution" else "contribution"
        for wide in ("uniform", "layer", other):
            assert 1500 < places[sets[wide]].mean() < 2500
        middle = np.flatnonzero((places > 1000) & (places < 3000))[::100]
        apart = np.abs(np.sort(places[middle]) - np.sort(places[control_sets(middle, (4000,), activity, 50)[kind]], 1))
        assert apart.mean() < 30


def test_every_neuron_near_by_replaces_one_as_often_as_another():
    activity = Activity(np.arange(2000.0), np.arange(2000.0))
    sets = control_sets([1000], (2000,), activity, 5000)
    near = np.bincount(sets["sd"].ravel(), minlength=2000)[975:1026]
    assert near.sum() == 5000
    assert near[25] == 0
    assert np.abs(np.delete(near, 25) - 100).max() < 50
    assert np.abs(np.histogram(sets["uniform"], 10, (0, 2000))[0] - 500).max() < 110


def test_activity_is_mean_and_deviation_of_each_neuron():
    X = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    found = Activity.of(X)
    np.testing.assert_allclose(found.mean, X.astype(np.float64).mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.deviation, X.astype(np.float64).std(axis=0), atol=1e-6)


def test_sd_matched_sets_vary_as_much_and_hold_the_reference_only_where_asked():
    deviation = np.exp(np.random.default_rng(1).normal(-7, 1.5, 5000))
    reference = np.argsort(-deviation)[:400:10]
    for one in matched_sets(reference, deviation, 20, seed=3):
        assert one.size == 40
        assert not np.isin(one, reference).any()
        assert np.log(deviation[one]).mean() == pytest.approx(np.log(deviation[reference]).mean(), abs=0.15)
    with_own = matched_sets(reference, deviation, 200, seed=3, own=True)
    shared = np.array([np.isin(one, reference).sum() for one in with_own])
    assert 2 < shared.mean() < 6  # every tenth of the neurons near them is one of them
    with pytest.raises(ValueError, match="values to match must be one finite"):
        matched_sets([0], [1.0, np.inf], 1)


def test_activity_is_kept_with_a_probe_and_damage_is_refused(tmp_path: Path):
    assert load_activity(tmp_path) is None
    mean, deviation = np.linspace(-1, 1, 9), np.linspace(0, 2, 9)
    save_activity(tmp_path / ACTIVITY, mean, deviation)
    loaded = load_activity(tmp_path)
    assert loaded
    np.testing.assert_array_equal(np.stack(loaded), np.stack([mean, deviation]).astype(np.float32))
    for bad in ((mean, deviation[1:]), (mean, -deviation), (mean * np.nan, deviation)):
        with pytest.raises(ActivityError):
            save_activity(tmp_path / "bad", *bad)
    (tmp_path / ACTIVITY).write_bytes(b"nothing")
    with pytest.raises(ActivityError, match="cannot be read"):
        load_activity(tmp_path)
