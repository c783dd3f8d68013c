"""Stability counts what comes back, shuffled labels say what that is worth, and selections on them are kept."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from heavy_tails import features

from hneurons_eval.analysis.shuffled_labels import (
    SHUFFLED,
    ShuffledError,
    ShuffledSelections,
    shuffled_labels,
)
from hneurons_eval.probe.l1_path import fit_path, fit_paths
from hneurons_eval.probe.l1_solver import smallest_useful_c
from hneurons_eval.probe.stability import STABLE, half_samples, shuffled_stability, stability
from hneurons_eval.probe.training_sets import TrainingRows
from hneurons_eval.probe.variation import shuffled_selections

ROWS = 180


class Data(NamedTuple):
    X: Any
    y: Any
    relation: Any
    planted: Any
    C: float
    rows: TrainingRows


@pytest.fixture(scope="module")
def data() -> Data:
    X, relation = features(ROWS, 400, seed=0)
    y = np.random.default_rng(1).permutation(np.arange(ROWS) % 2)
    planted = np.argsort(-X.std(axis=0))[[30, 60]]
    X[:, planted[0]] += 2.5 * y * X[:, planted[0]].std()
    X[:, planted[1]] -= 2.5 * y * X[:, planted[1]].std()
    C = 12 * smallest_useful_c(X, y.astype(float), np.ones(ROWS))
    return Data(X, y, relation, planted, C, TrainingRows.of_answers(X, y, relation))


def test_planted_neurons_are_stable_and_few_are_with_shuffled_labels(data: Data):
    coef = fit_path(data.X, data.y, Cs=[data.C]).weights(0)
    share = stability(data.rows, data.C, coef, resamples=20)
    assert coef[data.planted[0]] > 0 > coef[data.planted[1]]
    assert share[data.planted].min() == 1.0
    null = shuffled_stability(data.rows, data.C, shuffles=3, resamples=10)
    assert (null.stable <= null.chosen).all()
    assert null.chosen.mean() > 0
    assert null.stable.mean() < null.chosen.mean()
    assert null.sentence == f"{null.stable.mean():.3g} of {null.chosen.mean():.3g} with shuffled labels"


def test_a_neuron_that_comes_back_with_the_other_sign_does_not_count(data: Data):
    coef = fit_path(data.X, data.y, Cs=[data.C]).weights(0)
    share = stability(data.rows, data.C, -coef, resamples=10)
    assert share[data.planted].max() == 0.0
    assert stability(data.rows, data.C, np.zeros(400), resamples=10)[data.planted].min() == 1.0


def test_halves_hold_whole_relations_and_weigh_as_much_as_all_rows():
    y, relation = np.arange(90) // 9 % 2, np.arange(90) % 9
    labels, answers = np.concatenate([y, np.zeros(90, np.int64)]), np.concatenate([np.arange(90), np.arange(90)])
    rows = TrainingRows(np.zeros((180, 1)), labels, answers, relation)
    halves = half_samples(rows, y, 10, seed=0)
    assert halves.shape == (10, 180)
    np.testing.assert_allclose(halves.sum(axis=1), 180)
    for one in halves:
        assert len(set(relation[np.flatnonzero(one[:90])].tolist()) & set(relation[one[:90] == 0].tolist())) == 0
        np.testing.assert_array_equal(one[:90], one[90:])
    pairs = halves.reshape(5, 2, 180) > 0
    assert (pairs[:, 0] ^ pairs[:, 1]).all()
    questions = np.arange(90) // 2
    for one in half_samples(TrainingRows.of_answers(np.zeros((90, 1)), y, questions, questions), y, 4, seed=0).reshape(
        4, 45, 2
    ):
        assert (one[:, 0] == one[:, 1]).all()


def test_labels_are_shuffled_within_relations_by_whole_questions():
    rng = np.random.default_rng(0)
    relation = np.repeat([0, 1, 2], 20)
    questions = np.arange(60) // 2
    y = np.repeat(rng.integers(0, 2, 30), 2)
    y[:20] = 1
    for one in shuffled_labels(y, questions, relation, 20, seed=1):
        assert one[:20].all()
        assert [one[relation == r].sum() for r in range(3)] == [y[relation == r].sum() for r in range(3)]
        assert (one.reshape(-1, 2)[:, 0] == one.reshape(-1, 2)[:, 1]).all()
    assert len({one.tobytes() for one in shuffled_labels(y, questions, relation, 20, seed=1)}) > 10
    # Where groups are the questions, labels move anywhere.
    free = shuffled_labels(y, questions, questions, 5, seed=1)
    assert not free[:, :20].all()
    labels, answers = np.concatenate([y, np.zeros(60, np.int64)]), np.tile(np.arange(60), 2)
    of_answers, of_rows = TrainingRows(np.zeros((120, 1)), labels, answers, questions, questions).shuffled(5, seed=1)
    np.testing.assert_array_equal(of_answers, free)
    np.testing.assert_array_equal(of_rows[:, :60], free)
    assert not of_rows[:, 60:].any()


def test_shuffled_selections_are_those_of_fits_to_shuffled_labels(data: Data, tmp_path: Path):
    found = shuffled_selections(data.rows, data.C, count=3, seed=5)
    labels = shuffled_labels(data.y, None, data.relation, 3, 5)
    for own, signs, y in zip(found.neurons, found.signs, labels, strict=True):
        coef = fit_path(data.X, y, Cs=[data.C]).weights(0)
        np.testing.assert_array_equal(own, np.flatnonzero(coef))
        np.testing.assert_array_equal(signs, np.sign(coef[own]))
    assert all(np.isin(a, b).all() for a, b in zip(found.sets("negative"), found.sets(), strict=True))
    assert sum(map(len, found.sets("positive"))) + sum(map(len, found.sets("negative"))) == sum(map(len, found.sets()))
    with pytest.raises(ValueError, match="sign should be"):
        found.sets("up")
    assert ShuffledSelections.load(tmp_path) is None
    found.save(tmp_path / SHUFFLED)
    again = ShuffledSelections.load(tmp_path)
    assert again
    assert (again.total, again.C, len(again)) == (400, data.C, 3)
    assert all((a == b).all() for a, b in zip(again.neurons + again.signs, found.neurons + found.signs, strict=True))
    content = (tmp_path / SHUFFLED).read_bytes()
    for bad in (b"nothing", content[:-9], content.replace(b"hneurons-shuffled", b"hneurons-xhuffled")):
        (tmp_path / SHUFFLED).write_bytes(bad)
        with pytest.raises(ShuffledError, match=r"shuffled\.safetensors"):
            ShuffledSelections.load(tmp_path)


def test_several_label_vectors_are_fitted_as_one_by_one(data: Data):
    labels = np.stack([data.y, data.y[::-1]])
    both = fit_paths(data.X, labels, np.ones((2, ROWS)), [data.C])
    for path, y in zip(both, labels, strict=True):
        np.testing.assert_allclose(path.weights(0), fit_path(data.X, y, Cs=[data.C]).weights(0))
    with pytest.raises(ValueError, match="labels must be those of 3 fits"):
        fit_paths(data.X, labels, np.ones((3, ROWS)), [data.C])


def test_without_both_classes_in_any_half_nothing_is_stable(data: Data):
    two = (np.arange(ROWS) * 2 // ROWS).astype(int)  # each half of the relations has one class
    share = stability(TrainingRows.of_answers(data.X, two, two), data.C, np.zeros(400), resamples=4)
    assert not (share > STABLE).any()
