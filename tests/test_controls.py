"""Control sets hold what they promise; baselines see no row they are tested on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hneurons_eval.controls import (
    contribution_matched_sets,
    layer_matched_sets,
    random_probe_scores,
    random_sets,
    refit_scores,
    scalar_baseline,
)
from hneurons_eval.l1_path import grouped_folds
from hneurons_eval.statistics import auroc

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
    matched = contribution_matched_sets(reference, means, 20, seed=3)
    for one in matched:
        assert one.size == 40 == np.unique(one).size
        assert not np.isin(one, reference).any()
        assert np.log(means[one]).mean() == pytest.approx(np.log(means[reference]).mean(), abs=0.1)
    assert len({one.tobytes() for one in matched}) == 20
    uniform = random_sets([5000], 40, 1, exclude=reference)[0]
    assert np.log(means[uniform]).mean() < np.log(means[reference]).mean() - 1
    everything = contribution_matched_sets(np.arange(50), np.arange(100.0), 2, neighbours=1)
    assert all(np.array_equal(one, np.arange(50, 100)) for one in everything)


def test_impossible_sets_are_refused():
    with pytest.raises(ValueError, match="93 neurons cannot be drawn from the 92"):
        random_sets(WIDTHS, 93, 1, exclude=REFERENCE)
    with pytest.raises(ValueError, match="layer 2 has 8 neurons"):
        layer_matched_sets(np.arange(80, 92), WIDTHS, 1)
    with pytest.raises(ValueError, match="51 neurons cannot be matched by the 49"):
        contribution_matched_sets(np.arange(51), np.ones(100), 1)
    with pytest.raises(ValueError, match="finite"):
        contribution_matched_sets([0], [1.0, np.nan], 1)
    for make in (
        lambda: random_sets(WIDTHS, 1, 1, exclude=[100]),
        lambda: layer_matched_sets([-1], WIDTHS, 1),
    ):
        with pytest.raises(ValueError, match="does not fit a model of 100"):
            make()


def planted(rows=600, neurons=400, seed=0):
    rng = np.random.default_rng(seed)
    X = np.exp(rng.normal(-6, 1, (rows, neurons))).astype(np.float32)
    y = rng.integers(0, 2, rows)
    X[:, :5] *= (1 + y[:, None]).astype(np.float32)
    return X, y


def test_refit_scores_are_scikit_learns_out_of_fold():
    X, y = planted()
    folds = grouped_folds(y, np.arange(600) // 2, 4)
    scores = refit_scores(X, y, [np.arange(8), np.arange(50, 60)], folds)
    assert scores.shape == (2, 600)
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    for test in folds:
        train = np.setdiff1d(np.arange(600), test)
        expected = model.fit(X[train, :8].astype(np.float64), y[train]).predict_proba(X[test, :8].astype(np.float64))
        assert np.allclose(scores[0, test], expected[:, 1], atol=1e-5)
    assert auroc(y, scores[0]) > 0.8
    assert abs(auroc(y, scores[1]) - 0.5) < 0.1


def test_one_held_out_split_leaves_the_rest_unscored():
    X, y = planted()
    scores = refit_scores(X, y, [np.arange(3)], [np.arange(100)])[0]
    assert np.isfinite(scores[:100]).all()
    assert np.isnan(scores[100:]).all()


def test_random_probes_find_nothing_where_nothing_is():
    X, y = planted(1000, 2000)
    scores = random_probe_scores(X, y, grouped_folds(y, np.arange(1000), 5), size=30, n=100, exclude=np.arange(5))
    areas = [auroc(y, s) for s in scores]
    assert abs(np.mean(areas) - 0.5) < 0.02  # out of fold, chance is chance


def test_scalar_baseline_learns_a_direction_and_nothing_from_noise():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 800)
    folds = grouped_folds(y, np.arange(800), 5)
    length = 20 - 3 * y + rng.normal(0, 3, 800)
    assert auroc(y, scalar_baseline(length, y, folds)) == pytest.approx(auroc(y, -length), abs=0.02)
    assert abs(auroc(y, scalar_baseline(rng.random(800), y, folds)) - 0.5) < 0.08
    assert np.isfinite(scalar_baseline(np.ones(800), y, folds)).all()


def test_baseline_errors():
    X, y = planted(40, 10)
    with pytest.raises(ValueError, match="both classes"):
        scalar_baseline(np.arange(4.0), [0, 0, 1, 1], [np.array([2, 3])])
    with pytest.raises(ValueError, match="finite"):
        scalar_baseline(np.array([1, np.nan]), [0, 1], [np.array([0])])
    with pytest.raises(ValueError, match="set 0 is empty"):
        refit_scores(X, y, [[]], [np.arange(5)])
    with pytest.raises(ValueError, match="0 or 1"):
        refit_scores(X, y + 1, [[1]], [np.arange(5)])
    with pytest.raises(ValueError, match="labels for"):
        refit_scores(X, y[:-1], [[1]], [np.arange(5)])
