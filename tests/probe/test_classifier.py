"""The L1 path against scikit-learn and against the optimality conditions; the probe and its files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc, best_threshold
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.probe import l1_kernels, l1_solver
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.probe.l1_path import Path as L1Path
from hneurons_eval.probe.l1_path import fit_path, fit_paths
from hneurons_eval.probe.l2 import fit_l2

# scikit-learn 1.8 renamed the option.
L1 = {"l1_ratio": 1.0} if tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8) else {"penalty": "l1"}


def contributions(rows: int, neurons: int, seed: int = 0, planted: int = 8, strength: float = 1.2):
    """Non-negative, small, correlated, each neuron on its own scale; some neurons tell the label."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((rows, 10)) @ rng.standard_normal((10, neurons)) / np.sqrt(10)
    X = np.exp(0.5 * latent + 0.4 * rng.standard_normal((rows, neurons)))
    X = (X * np.exp(rng.normal(np.log(3e-3), 1.0, neurons))).astype(np.float32)
    loud = np.argsort(-X.std(axis=0))[: max(planted, neurons // 3)]  # unscaled, the L1 norm charges quiet neurons more
    where = rng.choice(loud, planted, replace=False)
    signal = (X[:, where] - X[:, where].mean(axis=0)) / X[:, where].std(axis=0)
    y = (rng.random(rows) < expit(strength * signal.sum(axis=1))).astype(int)
    return X, y, np.sort(where)


def objective(X, y, w, b, C, s=None, penalise_intercept=False):
    z = np.asarray(X, np.float64) @ w + b
    losses = np.logaddexp(0, z) - y * z
    return C * float(losses @ (np.ones(len(y)) if s is None else s)) + np.abs(w).sum() + penalise_intercept * abs(b)


@pytest.fixture(scope="module")
def problem():
    return contributions(300, 800)


@pytest.fixture(scope="module")
def exact(problem):
    X, y, _ = problem
    return fit_path(X, y, tol=1e-9)


# -- the path is the optimum -------------------------------------------------------------------


@pytest.mark.parametrize("penalise_intercept", [True, False])
@pytest.mark.parametrize("multiple", [3.0, 40.0])
def test_path_is_liblinears_optimum(problem, exact, multiple, penalise_intercept):
    X, y, _ = problem
    C = float(exact.Cs[0]) * multiple
    ours = fit_path(X, y, Cs=[C], tol=1e-9, penalise_intercept=penalise_intercept)
    theirs = LogisticRegression(
        **L1,  # type: ignore[arg-type]
        C=C,
        solver="liblinear",
        tol=1e-8,
        max_iter=100_000,
        random_state=0,
        intercept_scaling=1 if penalise_intercept else 1000,
    ).fit(X.astype(np.float64), y)
    mine = objective(X, y, ours.weights(0), ours.intercepts[0], C, None, penalise_intercept)
    reference = objective(X, y, theirs.coef_[0], theirs.intercept_[0], C, None, penalise_intercept)
    assert mine <= reference * (1 + 1e-9)
    if penalise_intercept:  # otherwise liblinear still penalises |b| / 1000, and differs by that
        assert mine == pytest.approx(reference, rel=1e-6)
        assert np.array_equal(np.flatnonzero(ours.weights(0)), np.flatnonzero(theirs.coef_[0]))
        assert np.allclose(ours.weights(0), theirs.coef_[0], rtol=1e-2, atol=1e-3 * np.abs(theirs.coef_).max())
    else:
        assert mine == pytest.approx(reference, rel=1e-3)


def test_every_point_meets_the_optimality_conditions(problem, exact):
    X, y, _ = problem
    for k, C in enumerate(exact.Cs):
        w = exact.weights(k)
        residual = y - expit(X.astype(np.float64) @ w + exact.intercepts[k])
        slope = C * (X.astype(np.float64).T @ residual)
        assert abs(residual.sum()) < 1e-8  # the free intercept
        assert np.abs(slope).max() <= 1 + 1e-5
        assert np.abs(slope[w != 0] - np.sign(w[w != 0])).max(initial=0) < 1e-5


def test_gap_bounds_the_distance_to_the_optimum(problem, exact):
    X, y, _ = problem
    loose = fit_path(X, y, Cs=exact.Cs, tol=1e-3)
    assert (loose.gaps <= 1e-3).all()
    for k, C in enumerate(exact.Cs):
        best = objective(X, y, exact.weights(k), exact.intercepts[k], C)
        reached = objective(X, y, loose.weights(k), loose.intercepts[k], C)
        assert best * (1 - 1e-9) <= reached <= best / (1 - loose.gaps[k]) * (1 + 1e-9)


def test_default_grid_starts_where_the_first_neuron_enters(problem, exact):
    X, y, _ = problem
    assert exact.Cs.size == 20
    assert exact.Cs[-1] / exact.Cs[0] == pytest.approx(1000)
    assert exact.n_nonzero[0] == 0
    assert fit_path(X, y, Cs=[exact.Cs[0] * 1.02], tol=1e-9).n_nonzero[0] == 1
    assert (exact.n_nonzero <= len(y)).all()
    assert (exact.n_positive <= exact.n_nonzero).all()
    assert [exact.positive(k).size for k in range(20)] == exact.n_positive.tolist()
    assert np.allclose(exact.decisions[7], X.astype(np.float64) @ exact.weights(7) + exact.intercepts[7])


def test_warm_and_cold_starts_agree_whatever_the_order(problem, exact):
    X, y, _ = problem
    picks = [13, 4, 9]
    shuffled = fit_path(X, y, Cs=exact.Cs[picks], tol=1e-9)
    for row, k in enumerate(picks):
        cold = fit_path(X, y, Cs=[exact.Cs[k]], tol=1e-9)
        scale = np.abs(exact.weights(k)).max()
        for other in (cold.weights(0), shuffled.weights(row)):
            assert np.allclose(other, exact.weights(k), atol=2e-3 * scale)
            assert np.array_equal(other != 0, exact.weights(k) != 0)


def test_memory_order_and_mapping_do_not_matter(problem, exact, tmp_path):
    X, y, _ = problem
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    Cs = exact.Cs[:12]
    plain = fit_path(X, y, Cs=Cs)
    assert np.array_equal(fit_path(mapped, y, Cs=Cs).coefs.toarray(), plain.coefs.toarray())
    assert np.array_equal(fit_path(X, y, Cs=Cs).coefs.toarray(), plain.coefs.toarray())  # deterministic
    columns = fit_path(np.asfortranarray(X), y, Cs=Cs, tol=1e-9)
    assert np.allclose(columns.coefs.toarray(), exact.coefs[:12].toarray(), atol=1e-3 * exact.coefs[:12].max())


def test_rows_of_weight_zero_are_as_if_removed(problem):
    X, y, _ = problem
    keep = np.random.default_rng(1).random(len(y)) < 0.7
    Cs = fit_path(X, y).Cs[3:14:5]
    masked = fit_path(X, y, Cs=Cs, sample_weight=keep.astype(float), tol=1e-9)
    removed = fit_path(X[keep], y[keep], Cs=Cs, tol=1e-9)
    assert np.allclose(masked.coefs.toarray(), removed.coefs.toarray(), atol=1e-3 * abs(removed.coefs).max())
    assert np.allclose(masked.decisions[:, keep], removed.decisions, atol=1e-3)


def test_weight_two_is_the_row_twice(problem):
    X, y, _ = problem
    Cs = fit_path(X, y).Cs[[8]]
    s = np.where(np.arange(len(y)) < 50, 2.0, 1.0)
    weighted = fit_path(X, y, Cs=Cs, sample_weight=s, tol=1e-9)
    repeated = fit_path(np.vstack([X, X[:50]]), np.append(y, y[:50]), Cs=Cs, tol=1e-9)
    assert np.allclose(weighted.weights(0), repeated.weights(0), atol=1e-3 * np.abs(repeated.weights(0)).max())


def test_fits_side_by_side_are_the_fits_alone(problem):
    X, y, _ = problem
    weights = np.random.default_rng(0).integers(0, 3, (3, len(y))).astype(float)
    Cs = fit_path(X, y).Cs[2:12:3]
    together = fit_paths(X, y, weights, Cs)
    for s, path in zip(weights, together, strict=True):
        assert np.array_equal(fit_path(X, y, Cs=Cs, sample_weight=s).coefs.toarray(), path.coefs.toarray())


def test_a_full_column_store_is_replaced_safely(problem, exact, monkeypatch):
    X, y, _ = problem
    make = l1_solver._Columns.__init__

    def small(self, X):
        make(self, X)
        self.copies = self.copies[:20]

    monkeypatch.setattr(l1_solver._Columns, "__init__", small)
    s = np.ones((3, len(y)))
    for path in fit_paths(X, y, s, exact.Cs[:14], tol=1e-9):
        assert np.allclose(path.coefs.toarray(), exact.coefs[:14].toarray(), atol=1e-3 * exact.coefs[:14].max())


def test_matrices_to_work_in_are_apart_while_taken_and_used_again_after():
    squares = l1_kernels.Squares()
    for side in (3, 5, 0, 4):
        with squares.taken(side) as outer, squares.taken(side + 2) as inner:
            assert (outer.shape, inner.shape) == ((side, side), (side + 2, side + 2))
            assert all(square.flags.f_contiguous for square in (outer, inner))
            assert not np.shares_memory(outer, inner)
    with pytest.raises(RuntimeError, match="stopped"), squares.taken(9):
        raise RuntimeError("stopped")
    assert len(squares.free) == 2  # as many as were ever held at once, the last one given back too


def test_what_stood_in_the_matrices_before_does_not_matter(problem, exact, monkeypatch):
    X, y, _ = problem
    make = l1_kernels.Squares.__init__

    def soiled(self):
        make(self)
        self.free += [np.full(10_000, np.nan) for _ in range(4)]

    monkeypatch.setattr(l1_kernels.Squares, "__init__", soiled)
    Cs = exact.Cs[:12]
    clean = fit_path(X, y, Cs=Cs, tol=1e-9)
    assert np.allclose(clean.coefs.toarray(), exact.coefs[:12].toarray(), atol=1e-3 * exact.coefs[:12].max())


def test_constant_repeated_and_empty_columns_do_no_harm(problem):
    X, y, _ = problem
    odd = np.column_stack([X[:, :40], X[:, :40], np.ones((len(y), 2)), np.zeros((len(y), 2))]).astype(np.float32)
    path = fit_path(odd, y, tol=1e-7)
    assert (path.gaps <= 1e-7).all()
    assert not path.coefs[:, 80:].nnz


def test_separable_classes_stay_finite():
    X = np.array([[0.0, 1], [0.1, 3], [1.0, 2], [1.2, 1]], np.float32)
    path = fit_path(X, [0, 0, 1, 1], Cs=[1, 100, 10_000], tol=1e-7)
    assert (path.gaps <= 1e-7).all()
    assert np.isfinite(path.coefs.data).all()


def cross_validated(X, y, Cs=None, groups=None, k=5, **options) -> tuple[list[L1Path], list, np.ndarray]:
    """Paths of all rows and without each fold, the folds, and the log-odds of each row by the path without it."""
    folds = grouped_folds(y, np.arange(len(y)) if groups is None else groups, k)
    weights = np.ones((k + 1, len(y)))
    for own, test in zip(weights[1:], folds, strict=True):
        own[test] = 0.0
    paths = fit_paths(X, y, weights, Cs, **options)
    decisions = np.zeros((len(paths[0].Cs), len(y)))
    for path, test in zip(paths[1:], folds, strict=True):
        decisions[:, test] = path.decisions[:, test]
    return paths, folds, decisions


def test_planted_neurons_are_found_and_shuffled_labels_find_nothing():
    X, y, planted = contributions(1200, 3000, seed=3, planted=6, strength=2.0)
    paths, _, decisions = cross_validated(X, y)
    k = int(np.argmax([auroc(y, z) for z in decisions]))
    assert auroc(y, decisions[k]) > 0.85
    assert all(set(planted) <= set(path.positive(k)) for path in paths)
    shuffled = np.random.default_rng(0).permutation(y)
    _, _, decisions = cross_validated(X, shuffled, paths[0].Cs[:12])
    assert all(abs(auroc(shuffled, z) - 0.5) < 0.07 for z in decisions[3:])


# -- folds -------------------------------------------------------------------------------------


def test_weights_of_zero_are_fitting_without_the_fold(problem):
    X, y, _ = problem
    paths, folds, decisions = cross_validated(X, y, groups=np.arange(len(y)) // 3, k=4, tol=1e-8)
    for test, path in zip(folds, paths[1:], strict=True):
        train = np.setdiff1d(np.arange(len(y)), test)
        alone = fit_path(X[train], y[train], Cs=path.Cs[[6]], tol=1e-8)
        z = X[test].astype(np.float64) @ alone.weights(0) + alone.intercepts[0]
        assert np.allclose(decisions[6, test], z, atol=1e-2)


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_grouped_folds_cover_every_row_once_and_split_no_group(seed, k):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, rng.integers(k, 60), 200)
    y = rng.integers(0, 2, 200)
    if np.unique(groups).size < k:
        return
    folds = grouped_folds(y, groups, k, seed)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(200))
    assert sum(np.unique(groups[f]).size for f in folds) == np.unique(groups).size
    again = grouped_folds(y, groups, k, seed)
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))


def test_grouped_folds_are_alike_in_size_and_class():
    rng = np.random.default_rng(0)
    y = (rng.random(1000) < 0.3).astype(int)
    folds = grouped_folds(y, np.arange(1000), 5)
    assert {len(f) for f in folds} <= set(range(196, 205))
    assert max(y[f].sum() for f in folds) - min(y[f].sum() for f in folds) <= 1
    assert not np.array_equal(folds[0], grouped_folds(y, np.arange(1000), 5, seed=1)[0])
    with pytest.raises(ValueError, match="there are 3 groups"):
        grouped_folds(y, np.arange(1000) % 3, 5)


# -- errors ------------------------------------------------------------------------------------


def test_errors_say_what_is_wrong():
    X, y, _ = contributions(40, 30)
    broken = X.copy()
    broken[7, 3] = np.nan
    for bad in (np.inf, -np.inf, np.nan):
        broken[7, 3] = bad
        with pytest.raises(ValueError, match="row 7, neuron 3"):
            fit_path(broken, y)
        with pytest.raises(ValueError, match="row 7, neuron 3"):
            fit_path(broken, y, Cs=[1.0])
    cases = [
        ((X, y + 1), {}, "labels must be 0 or 1"),
        ((X, np.zeros(40)), {}, "every label is 0"),
        ((X, y[:-1]), {}, "one label for each of the 40 rows"),
        ((X, y, np.arange(39)), {}, "groups must have one entry"),
        ((X, y), {"Cs": [1.0, -1.0]}, "finite number above 0"),
        ((X, y), {"Cs": [np.inf]}, "finite number above 0"),
        ((X, y), {"Cs": []}, "finite number above 0"),
        ((X[0], y), {}, "must be \\[rows, neurons\\]"),
        ((X.astype(np.float16), y), {}, "float32 or float64"),
        ((X, y), {"sample_weight": y.astype(float)}, "no row of class 0"),
        ((X, y), {"sample_weight": -np.ones(40)}, "at least 0"),
        ((X, y), {"sample_weight": np.ones(3)}, "one entry for each of the 40 rows"),
        ((np.ones_like(X), y), {}, "no column of X varies"),
    ]
    for arguments, options, words in cases:
        with pytest.raises(ValueError, match=words) as caught:
            fit_path(*arguments, **options)
        assert str(caught.value).count(". ") == 0


def test_compiled_code_works_without_a_writable_cache(monkeypatch):
    def njit(cache, **flags):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(l1_kernels, "njit", njit)
    assert l1_kernels.compiled(len) is len


def test_the_package_stays_light():
    heavy = ("numba", "sklearn", "scipy", "torch")
    code = f"import sys, hneurons_eval; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# -- L2 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "neurons"), [(200, 900), (900, 20)])
@pytest.mark.parametrize("C", [0.1, 1000.0])
def test_l2_is_scikit_learns_optimum(rows, neurons, C):
    X, y, _ = contributions(rows, neurons)
    X = X * 100
    w, b = fit_l2(X, y.astype(float), C)
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(X.astype(np.float64), y)

    def value(w, b):
        z = X.astype(np.float64) @ w + b
        return C * float(np.sum(np.logaddexp(0, z) - y * z)) + float(w @ w) / 2

    assert value(w, b) <= value(theirs.coef_[0], theirs.intercept_[0]) * (1 + 1e-6)
    assert np.allclose(w, theirs.coef_[0], atol=2e-2 * np.abs(w).max())


def test_l2_rows_of_weight_zero_are_as_if_removed():
    X, y, _ = contributions(150, 400)
    keep = np.arange(150) % 4 > 0
    masked = fit_l2(X, y.astype(float), 10.0, keep.astype(float))
    removed = fit_l2(X[keep], y[keep].astype(float), 10.0)
    assert np.allclose(masked[0], removed[0], atol=1e-6)


# -- the probe ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probe(problem):
    X, y, _ = problem
    return Probe(C=20.0).fit(X, y, widths=(300, 500), model="org/model", metadata={"seed": 1})


def test_probe_predicts_as_its_weights_say(problem, probe):
    X, y, _ = problem
    p = probe.predict_proba(X)
    assert p.shape == (len(y), 2)
    assert np.allclose(p.sum(axis=1), 1)
    assert np.allclose(p[:, 1], expit(X.astype(np.float64) @ probe.coef_ + probe.intercept_))
    assert np.array_equal(probe.predict(X), (p[:, 1] > 0.5).astype(int))
    assert np.mean(probe.predict(X) == y) > 0.75
    dense = Probe("l2", C=20.0).fit(X, y)
    assert np.count_nonzero(dense.coef_) == X.shape[1]
    assert np.allclose(dense.decision_function(X), X.astype(np.float64) @ dense.coef_ + dense.intercept_)


def test_neurons_are_the_positive_weights_layer_by_layer(probe):
    neurons = probe.neurons()
    flat = np.flatnonzero(probe.coef_ > 0)
    assert 0 < flat.size < np.count_nonzero(probe.coef_)  # non-zero is not positive
    assert np.array_equal(neurons.flat(NeuronLayout((300, 500))), flat)
    assert np.array_equal(neurons.layers, (flat >= 300).astype(int))
    assert np.array_equal(neurons.weights, probe.coef_[flat])
    assert (neurons.model, neurons.widths) == ("org/model", (300, 500))


def test_probe_from_a_path_is_the_probe_fitted(problem, exact):
    X, y, _ = problem
    fitted = Probe(C=float(exact.Cs[9]), tol=1e-9).fit(X, y)
    taken = Probe.from_path(exact, 9)
    assert np.allclose(taken.predict_proba(X), fitted.predict_proba(X), atol=1e-4)
    assert taken.C_ == fitted.C_


def test_weights_that_leave_one_class_are_refused(problem):
    X, y, _ = problem
    for penalty in ("l1", "l2"):
        with pytest.raises(ValueError, match="leave no row of one class"):
            Probe(penalty).fit(X, y, sample_weight=y)


def test_a_strength_that_selects_no_neuron_warns(problem):
    X, y, _ = problem
    with pytest.warns(UserWarning, match="C = 1e-06 selects no neuron"):
        probe = Probe(C=1e-6).fit(X, y)
    assert np.ptp(probe.predict_proba(X)[:, 1]) == 0
    assert "0 positive and 0 negative weights" in repr(probe)


def test_labels_of_any_kind_come_back(problem, probe, tmp_path):
    X, y, _ = problem
    names = np.where(y == 1, "wrong", "right")
    named = Probe(C=20.0).fit(X, names, widths=(300, 500))
    assert named.classes_.tolist() == ["right", "wrong"]
    assert np.array_equal(named.coef_, probe.coef_)
    assert np.array_equal(named.predict(X), np.where(probe.predict(X) == 1, "wrong", "right"))
    with pytest.raises(ProbeError, match="labels 0 and 1, not"):
        named.save(tmp_path / "p")
    with pytest.raises(ValueError, match="Only binary classification"):
        Probe().fit(X, np.arange(len(y)) % 3)


def test_repr_says_strength_and_neurons(probe):
    positive, negative = int((probe.coef_ > 0).sum()), int((probe.coef_ < 0).sum())
    said = f"{positive} positive and {negative} negative weights of 800 neurons, model org/model"
    assert repr(probe) == f"<Probe l1, C = 20: {said}>"
    assert repr(Probe(C=2.0)) == "Probe(C=2.0)"


# -- scikit-learn ------------------------------------------------------------------------------

CHECKS_THAT_FAIL = {"check_dont_overwrite_parameters": "`widths`, `model` and `metadata` are public names without _"}
OF_L1 = {"check_estimators_nan_inf": "predict reads only neurons with a weight, and on these data there are none"}


@parametrize_with_checks(
    [Probe("l1"), Probe("l2")],
    expected_failed_checks=lambda one: CHECKS_THAT_FAIL | (OF_L1 if one.penalty == "l1" else {}),
)
@pytest.mark.filterwarnings("ignore:C = .* selects no neuron")
def test_the_probe_is_an_estimator(estimator, check):
    check(estimator)


def test_clones_have_the_parameters_and_not_the_fit(probe):
    copy: Any = clone(probe.set_params(threshold=0.4))
    probe.set_params(threshold=0.5)
    assert copy.get_params() == {"C": 20.0, "penalty": "l1", "threshold": 0.4, "tol": 1e-6}
    assert not hasattr(copy, "coef_")


def test_cross_validation_holds_groups_out(problem):
    X, y, _ = problem
    questions = np.arange(len(y)) // 3
    scores = cross_val_score(Probe(C=20.0), X, y, groups=questions, cv=GroupKFold(3), scoring="roc_auc")
    for value, (train, test) in zip(scores, GroupKFold(3).split(X, y, questions), strict=True):
        own = Probe(C=20.0).fit(X[train], y[train])
        assert value == pytest.approx(auroc(y[test], own.decision_function(X[test])))


@pytest.mark.filterwarnings("ignore:C = .* selects no neuron")
def test_a_grid_search_in_a_pipeline_finds_the_best_strength(problem):
    X, y, _ = problem
    pipeline = make_pipeline(StandardScaler(), Probe())
    search = GridSearchCV(pipeline, {"probe__C": [0.02, 0.1, 10.0]}, cv=GroupKFold(3), scoring="roc_auc")
    search.fit(X, y, groups=np.arange(len(y)) // 3, probe__model="org/model")
    best = search.best_estimator_.named_steps["probe"]
    assert best.C_ == search.best_params_["probe__C"] < 10.0
    assert best.model == "org/model"
    assert np.count_nonzero(best.coef_) > 0
    assert search.best_score_ > 0.75


def test_save_and_load_return_the_same_probe(problem, probe, tmp_path):
    X, _, _ = problem
    where = tmp_path / "deep" / "llama-3.1-8b"
    probe.set_threshold(0.4, "balanced accuracy, out of fold").save(where)
    probe.save(where)  # over itself
    back = Probe.load(where)
    assert sorted(p.name for p in where.iterdir()) == ["neurons.json", "probe.json", "weights.safetensors"]
    assert [p.name for p in where.parent.iterdir()] == ["llama-3.1-8b"]
    assert np.array_equal(back.coef_, probe.coef_)
    assert np.array_equal(back.predict_proba(X), probe.predict_proba(X))
    for name in (
        "intercept_",
        "C_",
        "penalty_",
        "threshold_",
        "threshold_source_",
        "widths",
        "model",
        "metadata",
    ):
        assert getattr(back, name) == getattr(probe, name)
    assert back.neurons() == probe.neurons()


def test_damaged_probes_are_refused_by_name(probe, tmp_path):
    where = tmp_path / "p"

    def refused(change, words):
        probe.save(where)
        change()
        with pytest.raises(ProbeError, match=words) as caught:
            Probe.load(where)
        assert str(where) in str(caught.value)
        for name in ("probe.json", "weights.safetensors"):
            (where / name).unlink(missing_ok=True)

    weights, record = where / "weights.safetensors", where / "probe.json"

    def edit(**fields):
        content = json.loads(record.read_text())
        del content["sha256"]  # as whoever edits it by hand would
        record.write_text(json.dumps(content | fields))

    def swap(coef, intercept=0.0):
        import hashlib

        from safetensors.numpy import save

        weights.write_bytes(save({"coef": np.asarray(coef), "intercept": np.array([intercept])}))
        edit(weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest())

    refused(lambda: weights.write_bytes(weights.read_bytes()[:-9]), "damaged")
    refused(lambda: weights.unlink(), "cannot be read")
    refused(lambda: record.unlink(), "cannot be read")
    refused(lambda: record.write_text(record.read_text()[:40]), "not JSON")
    refused(lambda: record.write_text("[1]"), "not a probe")
    refused(lambda: edit(format="other"), "not a probe")
    refused(lambda: edit(version=99), "version 99")
    refused(lambda: edit(widths=[1, 2]), "does not fit")
    refused(lambda: edit(model=3), "does not fit")
    refused(lambda: edit(penalty="l3"), "does not fit")
    refused(lambda: edit(threshold=float("nan")), "does not fit")
    refused(lambda: swap(np.full(800, np.nan)), "not finite")
    refused(lambda: swap(np.ones(800, np.float32)), "float64")
    refused(lambda: swap(np.ones(799)), "does not fit")

    def foreign():
        weights.write_bytes(b"\x80\x04not safetensors")
        import hashlib

        edit(weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest())

    refused(foreign, "must hold the tensors")


def test_probe_errors(problem, probe, tmp_path):
    X, y, _ = problem
    for options, words in [
        ({"penalty": "l3"}, "penalty"),
        ({"C": 0}, "C must be"),
        ({"tol": 0.0}, "tol must be"),
        ({"threshold": 2}, "probability"),
    ]:
        with pytest.raises(ValueError, match=words):
            Probe(**options).fit(X, y)
    with pytest.raises(ValueError, match="800 columns"):
        Probe().fit(X, y, widths=(300, 400))
    with pytest.raises(ProbeError, match="799 features, but Probe is expecting 800"):
        probe.predict_proba(X[:, :799])
    broken = X[:3].copy()
    broken[1, np.flatnonzero(probe.coef_)[0]] = np.nan
    with pytest.raises(ProbeError, match="row 1"):
        probe.predict_proba(broken)
    broken = X.copy()
    broken[9, 9] = np.inf
    with pytest.raises(ValueError, match="finite"):
        Probe("l2").fit(broken, y)
    for use in (
        lambda: Probe().predict_proba(X),
        lambda: Probe().neurons(),
        lambda: Probe().save(tmp_path / "x"),
    ):
        with pytest.raises(ProbeError, match="not fitted"):
            use()
    unwritable = Probe(C=1.0).fit(X, y, metadata={"loss": float("nan")})
    with pytest.raises(ProbeError, match="JSON"):
        unwritable.save(tmp_path / "x")
    assert not (Path(tmp_path) / "x").exists()


def test_best_threshold_balances_the_classes():
    assert best_threshold([0, 0, 0, 1], [0.1, 0.15, 0.2, 0.3]) == pytest.approx(0.25)
    y, p = np.array([0, 1, 0, 1, 1]), np.array([0.2, 0.1, 0.4, 0.6, 0.9])
    cut = best_threshold(y, p)
    assert 0.4 < cut < 0.6


def test_top_neurons_are_those_whose_weight_times_contribution_is_largest():
    rng = np.random.default_rng(0)
    probe = Probe()
    probe.coef_, probe.intercept_, probe.widths = rng.normal(size=30) * (rng.random(30) < 0.5), 0.1, (10, 20)
    X = rng.random((4, 30)).astype(np.float32)
    for row, found in zip(X, probe.top_neurons(X, n=3), strict=True):
        products = row.astype(np.float64) * probe.coef_
        expected = sorted(np.flatnonzero(probe.coef_).tolist(), key=lambda k: -abs(products[k]))[:3]
        assert [(0, k) if k < 10 else (1, k - 10) for k in expected] == [one[:2] for one in found]
        assert [weight * value for *_, weight, value in found] == pytest.approx(products[expected].tolist())
    probe.coef_ = np.zeros(30)
    assert probe.top_neurons(X) == [[], [], [], []]
