"""Baselines get their best chance, see no answer that they are tested on, and are the same when read again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.probe.baseline_classifiers import ALL_SCALARS, WITH_PROBE, BaselineError, Baselines, Scores
from hneurons_eval.probe.baselines import (
    POSITIVE_SET,
    PROBE_SET,
    Compared,
    Inputs,
    Selection,
    fit_baselines,
    out_of_fold,
    prompt_model,
    scalar_inputs,
)
from hneurons_eval.probe.l2 import gram
from hneurons_eval.probe.training_sets import TrainingRows

ROWS, NEURONS = 300, 400
CHOSEN = np.arange(5)
ALL = np.arange(1000)
"""All answers: of those in a fold only the training part is fitted on."""


def planted(seed: int = 0, rows: int = ROWS) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    X = np.exp(rng.normal(-6, 1, (rows, NEURONS))).astype(np.float32)
    y = rng.integers(0, 2, rows)
    X[:, :5] *= (1 + y[:, None]).astype(np.float32)
    return X, y


def selection(n: int = 4, seed: int = 1) -> Selection:
    rng = np.random.default_rng(seed)
    sets = np.stack([np.sort(rng.choice(np.arange(5, NEURONS), 5, replace=False)) for _ in range(n)])
    return {PROBE_SET: [Compared(CHOSEN, {"uniform": sets}, ALL)], POSITIVE_SET: [Compared(CHOSEN[:2], {}, ALL)]}


def given(X: NDArray[np.float32], y: NDArray[np.int64]) -> Inputs:
    rng = np.random.default_rng(9)
    return Inputs(
        X,
        {"length": 20 - 3 * y + rng.normal(0, 3, len(y)), "noise": rng.random(len(y))},
        rng.normal(size=(len(y), 24)) + 0.3 * y[:, None],
        gram(X[:, ::-1]),
        dense=gram(X),
    )


def log_odds(y: NDArray[np.int64], folds: int, seed: int = 3) -> list[NDArray[np.float64]]:
    """Of a probe that knows a little of each answer, anew for each fold."""
    rng = np.random.default_rng(seed)
    return [y + rng.normal(0, 2, len(y)) for _ in range(folds)]


def scores(X: NDArray[np.float32], y: NDArray[np.int64], inputs: Inputs | None = None) -> tuple[Scores, list[Any]]:
    folds = grouped_folds(y, np.arange(len(y)) // 2, 4)
    return out_of_fold(inputs or given(X, y), y, folds, [selection()] * 4, log_odds(y, 4)), folds


def test_sets_and_scalars_are_scikit_learns_out_of_fold():
    X, y = planted()
    inputs = given(X, y)
    found, folds = scores(X, y, inputs)
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    columns = [X[:, :5], *(X[:, one] for one in selection()[PROBE_SET][0].controls["uniform"])]
    probe, positive = found.sets[PROBE_SET], found.sets[POSITIVE_SET]
    together = np.column_stack([*inputs.scalars.values()])
    decisions = log_odds(y, 4)
    assert set(found.plain) == {"length", "noise", ALL_SCALARS, WITH_PROBE, "hidden", "prompt", "dense"}
    for fold, test in enumerate(folds):
        train = np.setdiff1d(np.arange(ROWS), test)
        for number, own in enumerate(columns):
            wide = own.astype(np.float64)
            expected = model.fit(wide[train], y[train]).predict_proba(wide[test])[:, 1]
            got = probe.chosen if number == 0 else probe.controls["uniform"][number - 1]
            np.testing.assert_allclose(got[test], expected, atol=1e-5)
        wide = X[:, :2].astype(np.float64)
        expected = model.fit(wide[train], y[train]).predict_proba(wide[test])[:, 1]
        np.testing.assert_allclose(positive.chosen[test], expected, atol=1e-5)
        for name, numbers in (
            ("length", together[:, :1]),
            (ALL_SCALARS, together),
            (WITH_PROBE, np.column_stack([together, decisions[fold]])),
        ):
            expected = model.fit(numbers[train], y[train]).predict_proba(numbers[test])[:, 1]
            np.testing.assert_allclose(found.plain[name][test], expected, atol=1e-5)
    assert auroc(y, probe.chosen) > 0.8
    assert positive.controls == {}


def test_a_single_scalar_is_not_repeated_as_all_scalars():
    X, y = planted()
    folds = grouped_folds(y, np.arange(ROWS), 3)
    found = out_of_fold(Inputs(X, {"length": y + 0.0}), y, folds, [{}] * 3, log_odds(y, 3))
    assert set(found.plain) == {"length", WITH_PROBE}
    assert found.sets == {}
    without = out_of_fold(Inputs(X, {"length": y + 0.0, "other": y * 1.0}), y, folds, [{}] * 3)
    assert set(without.plain) == {"length", "other", ALL_SCALARS}


def test_scalars_are_means_sums_and_the_least_likely_token():
    detail = {
        "response_tokens": 30,
        "prompt_tokens": 12,
        "answer_tokens": 4,
        "answer_logprob": -0.5,
        "answer_min_logprob": -1.25,
        "answer_entropy": 0.75,
    }
    assert {name: one.tolist() for name, one in scalar_inputs([detail]).items()} == {
        "length": [30.0],
        "question_length": [12.0],
        "logprob": [-0.5],
        "sequence_logprob": [-2.0],
        "min_logprob": [-1.25],
        "entropy": [0.75],
        "sequence_entropy": [3.0],
    }


def test_dense_classifiers_are_scikit_learns_on_features_as_they_are():
    X, y = planted()
    found, folds = scores(X, y)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)
    for name, columns in (("dense", X), ("prompt", X[:, ::-1])):
        wide = columns.astype(np.float64)
        for test in folds:
            train = np.setdiff1d(np.arange(ROWS), test)
            expected = model.fit(wide[train], y[train]).decision_function(wide[test])
            got = np.log(found.plain[name][test] / (1 - found.plain[name][test]))
            np.testing.assert_allclose(got, expected, atol=1e-4)


def test_rows_beside_the_answers_are_trained_on_with_their_own_answer():
    X, y = planted()
    stacked = np.concatenate([X, X[::-1] * 0.5])
    labels, answers = np.concatenate([y, np.zeros(ROWS, np.int64)]), np.arange(2 * ROWS) % ROWS
    folds = grouped_folds(y, np.arange(ROWS), 3)
    inputs = Inputs(X, rows=TrainingRows(stacked, labels, answers), dense=gram(stacked))
    found = out_of_fold(inputs, y, folds, [selection()] * 3)
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000)
    on_few = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    probe = found.sets[PROBE_SET]
    for test in folds:
        used = np.flatnonzero(~np.isin(answers, test))
        model.fit(stacked[used].astype(np.float64), labels[used])
        expected = model.predict_proba(X[test].astype(np.float64))[:, 1]
        np.testing.assert_allclose(found.plain["dense"][test], expected, atol=1e-5)
        # The probe's neurons and the control sets see the same rows as the probe does, one in four of them label 1.
        for own, got in (
            (CHOSEN, probe.chosen),
            *zip(selection()[PROBE_SET][0].controls["uniform"], probe.controls["uniform"], strict=True),
        ):
            on_few.fit(stacked[np.ix_(used, own)].astype(np.float64), labels[used])
            expected = on_few.predict_proba(X[np.ix_(test, own)].astype(np.float64))[:, 1]
            np.testing.assert_allclose(got[test], expected, atol=1e-5)
    kept = fit_baselines(inputs, y, selection())
    on_few.fit(stacked[:, :5].astype(np.float64), labels)
    got = kept.scores(X, {}, None, None).sets[PROBE_SET].chosen
    np.testing.assert_allclose(got, on_few.predict_proba(X[:, :5].astype(np.float64))[:, 1], atol=1e-5)


def test_neurons_chosen_on_either_half_are_fitted_on_the_other_and_averaged():
    X, y = planted()
    folds = grouped_folds(y, np.arange(ROWS), 3)
    sets = selection()[PROBE_SET][0].controls
    halves = [Compared(CHOSEN, sets, ALL[:150]), Compared(CHOSEN[:3], {"uniform": sets["uniform"][:, :3]}, ALL[150:])]
    found = out_of_fold(Inputs(X), y, folds, [{PROBE_SET: halves}] * 3).sets[PROBE_SET]
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    for test in folds:
        expected = []
        for half in halves:
            train = np.setdiff1d(np.intersect1d(half.answers, np.arange(ROWS)), test)
            model.fit(X[np.ix_(train, half.chosen)].astype(np.float64), y[train])
            expected.append(model.predict_proba(X[np.ix_(test, half.chosen)].astype(np.float64))[:, 1])
        np.testing.assert_allclose(found.chosen[test], np.mean(expected, axis=0), atol=1e-5)
    assert found.controls["uniform"].shape == (4, ROWS)


def test_labels_of_a_fold_do_not_change_its_scores():
    X, y = planted()
    inputs = given(X, y)
    before, folds = scores(X, y, inputs)
    flipped = y.copy()
    flipped[folds[0]] = 1 - y[folds[0]]
    after = out_of_fold(inputs, flipped, folds, [selection()] * 4, log_odds(y, 4))
    for name, values in before.plain.items():
        np.testing.assert_array_equal(after.plain[name][folds[0]], values[folds[0]])
        assert (after.plain[name] != values).any()
    for name, one in before.sets.items():
        same = after.sets[name]
        np.testing.assert_array_equal(same.chosen[folds[0]], one.chosen[folds[0]])
        for kind, sets in one.controls.items():
            np.testing.assert_array_equal(same.controls[kind][:, folds[0]], sets[:, folds[0]])


def test_answers_in_no_fold_have_no_score():
    X, y = planted()
    found = out_of_fold(given(X, y), y, [np.arange(100)], [selection()])
    probe = found.sets[PROBE_SET]
    for values in (*found.plain.values(), probe.chosen, *probe.controls["uniform"]):
        assert np.isfinite(values[:100]).all()
        assert np.isnan(values[100:]).all()


def test_out_of_fold_chance_is_chance():
    X, y = planted(rows=600)
    rng = np.random.default_rng(4)
    sets = np.stack([rng.choice(np.arange(5, NEURONS), 20, replace=False) for _ in range(60)])
    folds = grouped_folds(y, np.arange(600), 5)
    noise = rng.normal(size=(600, 24))
    found = out_of_fold(
        Inputs(X, {"noise": rng.random(600), "constant": np.ones(600)}, noise),
        y,
        folds,
        [{PROBE_SET: [Compared(CHOSEN, {"u": sets}, ALL)]}] * 5,
    )
    assert abs(np.mean([auroc(y, one) for one in found.sets[PROBE_SET].controls["u"]]) - 0.5) < 0.02
    assert abs(auroc(y, found.plain["noise"]) - 0.5) < 0.1
    assert abs(auroc(y, found.plain["hidden"]) - 0.5) < 0.1
    assert np.isfinite(found.plain["constant"]).all()


def test_what_is_kept_scores_new_answers_as_before_saving(tmp_path: Path):
    X, y = planted()
    inputs = given(X, y)
    _, prompt = prompt_model(np.ascontiguousarray(X[:, ::-1]), y)
    kept = fit_baselines(inputs, y, selection(), prompt, log_odds(y, 1)[0])
    kept.save(tmp_path / "probe" / "baselines.safetensors")
    again = Baselines.load(tmp_path / "probe" / "baselines.safetensors")
    new, truth = planted(5)
    asked = given(new, truth)
    decisions = log_odds(truth, 1, seed=8)[0]
    own = kept.scores(new, asked.scalars, asked.hidden, new[:, ::-1], decisions)
    read = again.scores(new, asked.scalars, asked.hidden, new[:, ::-1], decisions)
    assert set(own.plain) == {"length", "noise", ALL_SCALARS, WITH_PROBE, "hidden", "prompt", "dense"}
    for name, values in own.plain.items():
        np.testing.assert_allclose(read.plain[name], values, atol=1e-5)
    assert own.sets.keys() == read.sets.keys() == {PROBE_SET, POSITIVE_SET}
    for name, one in own.sets.items():
        np.testing.assert_array_equal(read.sets[name].chosen, one.chosen)
        assert read.sets[name].controls.keys() == one.controls.keys()
        for kind, sets in one.controls.items():
            np.testing.assert_array_equal(read.sets[name].controls[kind], sets)
    assert auroc(truth, own.sets[PROBE_SET].chosen) > 0.8
    assert WITH_PROBE not in kept.scores(new, asked.scalars, None, None).plain
    model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=1000))
    trained, tried = (
        np.column_stack([*inputs.scalars.values(), log_odds(y, 1)[0]]),
        np.column_stack([*asked.scalars.values(), decisions]),
    )
    np.testing.assert_allclose(own.plain[WITH_PROBE], model.fit(trained, y).predict_proba(tried)[:, 1], atol=1e-5)
    assert auroc(truth, own.plain["dense"]) > 0.6
    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(own.plain["dense"], reference.predict_proba(new.astype(np.float64))[:, 1], atol=1e-5)


def test_an_input_that_is_not_given_leaves_its_baseline_out():
    X, y = planted()
    kept = fit_baselines(Inputs(X, {"length": y + 0.0}, given(X, y).hidden), y, {})
    found = kept.scores(X[:3], {}, None, None)
    assert found.plain == {}
    assert found.sets == {}
    with pytest.raises(BaselineError, match="hidden has 3 numbers, the baseline took 24"):
        kept.scores(X[:3], {}, np.ones((3, 3)), None)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path):
    X, y = planted()
    path = tmp_path / "baselines.safetensors"
    fit_baselines(Inputs(X, {"length": y + 0.0}), y, selection()).save(path)
    content = path.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(BaselineError, match=r"baselines\.safetensors"):
            Baselines.load(path)
    path.write_bytes(content)
    tensors = load_file(path)
    save_file(tensors, path)
    with pytest.raises(BaselineError, match="not a file of baselines"):
        Baselines.load(path)
    path.unlink()
    with pytest.raises(BaselineError, match="cannot be read"):
        Baselines.load(path)


@pytest.mark.parametrize(
    ("labels", "scalars", "words"),
    [
        ([0, 1, 2], {}, "0 or 1"),
        ([0, 1], {}, "2 labels for 3 answers"),
        ([0, 1, 1], {"length": [1.0, float("nan"), 2.0]}, "length must be one finite number"),
        ([0, 1, 1], {"length": [1.0]}, "length must be one finite number"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(labels: list[int], scalars: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        out_of_fold(Inputs(np.ones((3, 4)), scalars), labels, [np.array([0])], [{}])


def test_training_rows_of_one_class_are_refused():
    with pytest.raises(ValueError, match="fold 0 do not hold both classes"):
        out_of_fold(Inputs(np.ones((4, 4))), [0, 0, 1, 1], [np.array([2, 3])], [{}])
