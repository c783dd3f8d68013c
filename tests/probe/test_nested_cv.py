"""Neurons are found where they were planted, and no answer helps to judge itself."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import Detected, detection, null_aurocs
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.shuffled_labels import SHUFFLES
from hneurons_eval.models.controls import KINDS, Activity
from hneurons_eval.probe import variation
from hneurons_eval.probe.baseline_classifiers import ComparedScores
from hneurons_eval.probe.choice_of_c import log_loss, smoothed
from hneurons_eval.probe.l1_path import fit_path
from hneurons_eval.probe.nested_cv import Identified, Search, part_by_sign
from hneurons_eval.probe.settings import IdentificationError, Settings
from hneurons_eval.probe.stability import STABLE, shuffled_stability, stability
from hneurons_eval.probe.training_sets import Answers
from hneurons_eval.probe.variation import label_null, vary
from hneurons_eval.scorers.captured import span_coverage
from hneurons_eval.scorers.detected import detection_figures
from hneurons_eval.scorers.judge import draw_rates, question_yield
from hneurons_eval.scorers.swept import dose_response_figures

WIDTHS = (60, 60)
PLANTED = (7, 33, 80, 111)
GROUPS = 12
ROWS = 240


def simulated(
    seed: int = 0, effect: float = 3.0
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.str_]]:
    """Contributions that are larger at the planted neurons where the answer is hallucinated."""
    rng = np.random.default_rng(seed)
    labels = np.tile([0, 1], ROWS // 2)
    groups = np.repeat([f"relation {g:02}" for g in range(GROUPS)], ROWS // GROUPS)
    answers = np.abs(rng.normal(size=(ROWS, sum(WIDTHS)))) / sum(WIDTHS)
    others = np.abs(rng.normal(size=(ROWS, sum(WIDTHS)))) / sum(WIDTHS)
    answers[:, PLANTED] += effect * labels[:, None] * rng.uniform(0.2, 1.0, (ROWS, len(PLANTED))) / sum(WIDTHS)
    return answers.astype(np.float32), others.astype(np.float32), labels, groups


def search(data: tuple[Any, Any, Any, Any] | None = None, settings: Settings | None = None, **changes: Any) -> Search:
    answers, others, labels, groups = data or simulated()
    rng = np.random.default_rng(5)
    chosen = settings or Settings(**{"C": "auto", "folds": 4, "controls": 5, "resamples": 10, "repeats": 0} | changes)
    scalars = {"length": rng.integers(1, 9, len(labels)).astype(float), "logprob": -rng.random(len(labels))}
    X = np.concatenate([answers, others]) if chosen.mode == "3-vs-1" else answers
    return Search(Answers(X, labels, groups, scalars=scalars), chosen)


def found(
    data: tuple[Any, Any, Any, Any] | None = None, settings: Settings | None = None, **changes: Any
) -> Identified:
    one = search(data, settings, **changes)
    one.fit()
    return one.choose(WIDTHS, "a model")


@pytest.fixture(scope="module")
def planted() -> Identified:
    return found()


# --- what is planted is found ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["3-vs-1", "1-vs-1"])
def test_planted_neurons_are_recovered(mode: str):
    result = found(mode=mode)
    neurons = result.probe.neurons()
    assert neurons.weights is not None
    flat = neurons.layers * WIDTHS[0] + neurons.indices
    heaviest = flat[np.argsort(-neurons.weights)[: len(PLANTED)]]
    assert set(heaviest.tolist()) == set(PLANTED)
    assert neurons.widths == WIDTHS
    assert neurons.model == "a model"


def test_detection_of_what_is_planted_is_high_and_beats_random_neurons(planted: Identified):
    labels = simulated()[2]
    assert auroc(labels, planted.probabilities) > 0.9
    assert (planted.predictions == labels).mean() > 0.8
    scores = planted.scores
    assert set(scores.sets) == {"probe", "positive"}
    for name, one in scores.sets.items():
        assert auroc(labels, one.chosen) > 0.9, name
        assert tuple(one.controls) == KINDS
        for kind, sets in one.controls.items():
            assert sets.shape == (5, ROWS)
            assert np.isfinite(sets).all()
            assert max(auroc(labels, scores) for scores in sets) < 0.8, (name, kind)
    assert abs(auroc(labels, scores.plain["length"]) - 0.5) < 0.15
    assert auroc(labels, scores.plain["dense"]) > 0.85
    assert auroc(labels, scores.plain["scalars_and_probe"]) > auroc(labels, scores.plain["scalars"]) + 0.3
    assert set(scores.plain) == {
        "length",
        "logprob",
        "scalars",
        "scalars_and_probe",
        "dense",
        "positive",
        "negative",
    }


def test_planted_neurons_are_selected_again_on_other_halves_of_the_questions():
    one = search(mode="1-vs-1")
    one.fit()
    found = vary(one, one.choose(WIDTHS, "a model"))
    assert found.stability.shape == (sum(WIDTHS),)
    others = np.delete(found.stability, PLANTED)
    assert found.stability[list(PLANTED)].min() >= 0.9
    assert others.mean() < 0.2
    assert np.isin(found.stability * 10, np.arange(11)).all()
    labels = simulated()[2]
    assert all(own.sum() == labels.sum() for own in found.null_labels)
    null = null_aurocs(found.null_labels, found.null_scores, one.data.groups.tolist(), np.zeros(ROWS).tolist())
    assert len(null) == len(found.shuffled) == SHUFFLES
    assert abs(null.mean() - 0.5) < 0.05
    assert null.max() < 0.75


def test_what_is_said_of_shuffled_labels_is_by_probes_that_did_not_see_them():
    one = search(mode="1-vs-1", C=40.0)
    one.fit()
    labels, scores = label_null(one, one.choose(WIDTHS, "a model"))
    for fit, test in zip(one.fits[1:], one.folds, strict=True):
        train = np.flatnonzero(fit.train)
        path = fit_path(one.data.X[train], labels[0][train], Cs=[40.0])
        expected = one.data.X[test].astype(float) @ path.weights(0) + path.intercepts[0]
        np.testing.assert_allclose(scores[0][test], expected, atol=0.02)


def test_without_an_effect_as_many_neurons_are_stable_as_with_shuffled_labels():
    answers, others, labels, groups = simulated(effect=0.0)
    one = search((answers, others, labels, groups), resamples=20, C=40.0)
    one.fit()
    result = one.choose(WIDTHS, "a model")
    share = stability(one.rows, 40.0, result.probe.coef_, 20, 2)
    assert share.mean() < 0.5
    null = shuffled_stability(one.rows, 40.0, shuffles=10)
    stable = int((share[result.probe.coef_ != 0] > STABLE).sum())
    assert null.stable.min() <= stable <= null.stable.max()


def test_a_question_in_two_groups_is_refused():
    answers, _, labels, groups = simulated()
    questions = np.array([f"q{k}" for k in range(ROWS)])
    Search(Answers(answers, labels, groups, questions), Settings(mode="1-vs-1"))
    questions[3] = questions[-1]
    with pytest.raises(IdentificationError, match="test part of a fold"):
        Search(Answers(answers, labels, groups, questions), Settings(mode="1-vs-1"))


def test_rows_that_do_not_fit_the_mode_are_refused():
    answers, _, labels, groups = simulated()
    with pytest.raises(IdentificationError, match="3-vs-1 needs 480 rows for 240 answers, found 240"):
        Search(Answers(answers, labels, groups), Settings())


def test_shuffled_labels_are_not_detected():
    answers, others, labels, groups = simulated()
    rng = np.random.default_rng(3)
    labels = labels.copy()
    for group in np.unique(groups):
        here = np.flatnonzero(groups == group)
        labels[here] = labels[rng.permutation(here)]
    result = found((answers, others, labels, groups))
    questions = [str(i) for i in range(ROWS)]
    figures = detection(
        Detected(
            labels,
            result.probabilities,
            result.predictions,
            questions,
            groups.tolist(),
            result.scores.plain,
            folds=result.fold_of.tolist(),
        )
    )
    assert figures["auroc_low"] < 0.5 < figures["auroc_high"]
    assert figures["auroc_p"] > 0.05
    assert figures["added_low"] < 0 < figures["added_high"]


def test_the_same_seed_finds_the_same(planted: Identified):
    again = found()
    np.testing.assert_array_equal(again.probabilities, planted.probabilities)
    for name, one in again.scores.sets.items():
        for kind, sets in one.controls.items():
            np.testing.assert_array_equal(sets, planted.scores.sets[name].controls[kind])
    assert again.C_by_fold == planted.C_by_fold
    assert again.probe.neurons() == planted.probe.neurons()


def test_a_dense_probe_detects_and_selects_nothing():
    result = found(penalty="l2")
    assert auroc(simulated()[2], result.probabilities) > 0.85
    assert result.scores.sets == {}
    assert "positive" not in result.scores.plain
    assert result.probe.penalty == "l2"


# --- no answer helps to judge itself -----------------------------------------------------------------


def test_every_group_is_held_out_once_and_whole(planted: Identified):
    groups = simulated()[3]
    assert sorted(np.concatenate(planted.folds).tolist()) == list(range(ROWS))
    for number, test in enumerate(planted.folds):
        others = np.concatenate([fold for k, fold in enumerate(planted.folds) if k != number])
        assert not set(groups[test]) & set(groups[others])


def test_inner_folds_hold_no_row_of_the_outer_test_groups():
    one = search()
    groups = one.data.groups
    for fit, test in zip(one.fits[1:], one.folds, strict=True):
        assert not fit.train[test].any()
        inner = np.concatenate(fit.inner)
        assert sorted(inner.tolist()) == np.flatnonzero(fit.train).tolist()
        for part in fit.inner:
            rest = np.setdiff1d(inner, part)
            assert not set(groups[part]) & set(groups[rest])
    held = [set(groups[test].tolist()) for test in one.folds]
    trained = one.training_groups()
    assert trained[0] == set(groups.tolist())
    assert all(not own & test for own, test in zip(trained[1:], held, strict=True))


def assert_same_scores(one: ComparedScores, other: ComparedScores, rows: NDArray[np.int64]) -> None:
    np.testing.assert_array_equal(one.chosen[rows], other.chosen[rows])
    assert one.controls.keys() == other.controls.keys()
    for kind, sets in one.controls.items():
        np.testing.assert_array_equal(sets[:, rows], other.controls[kind][:, rows])


@pytest.mark.parametrize("strength", ["auto", 15.0])
def test_labels_of_a_held_out_fold_do_not_change_its_probabilities(strength: float | str):
    answers, others, labels, groups = simulated()
    before = found((answers, others, labels, groups), C=strength)
    test = before.folds[1]
    flipped = labels.copy()
    for group in np.unique(groups[test]):  # as many of each class in each group, so that folds stay as they are
        here = np.flatnonzero(groups == group)
        flipped[here] = 1 - labels[here]
    after = found((answers, others, flipped, groups), C=strength)
    np.testing.assert_array_equal(after.folds[1], test)
    np.testing.assert_array_equal(after.probabilities[test], before.probabilities[test])
    np.testing.assert_array_equal(after.predictions[test], before.predictions[test])
    shared = set(after.scores.sets) & set(before.scores.sets)  # another fold may have no positive neurons now
    assert "probe" in shared
    for one, same in ((after.scores.sets[name], before.scores.sets[name]) for name in shared):
        assert_same_scores(one, same, test)
    for name, values in after.scores.plain.items():
        np.testing.assert_array_equal(values[test], before.scores.plain[name][test])
    assert after.C_by_fold[1] == before.C_by_fold[1]
    assert (after.probabilities != before.probabilities).any()  # the other folds were trained on other labels


@pytest.mark.parametrize("strength", ["auto", 60.0])
def test_features_of_a_held_out_fold_do_not_change_the_fit_it_is_tested_on(strength: float | str):
    answers, others, labels, groups = simulated()
    before = search((answers, others, labels, groups), C=strength)
    before.fit()
    test = before.folds[2]
    moved, beside = answers.copy(), others.copy()
    moved[test], beside[test] = moved[test][:, ::-1], beside[test][:, ::-1]
    after = search((moved, beside, labels, groups), C=strength)
    after.fit()
    own, same = before.fits[3].path, after.fits[3].path
    assert own is not None
    assert same is not None
    np.testing.assert_array_equal(same.Cs, own.Cs)
    np.testing.assert_array_equal(same.coefs.toarray(), own.coefs.toarray())
    np.testing.assert_array_equal(same.intercepts, own.intercepts)
    other, changed = before.fits[1].path, after.fits[1].path
    assert other is not None
    assert changed is not None
    assert (changed.coefs.toarray() != other.coefs.toarray()).any()


def test_suppression_decides_within_each_training_set():
    one = search(C="paper")
    one.fit()
    sets = one.candidates(WIDTHS, "a model")
    assert len(sets) == 5
    steps = [len(path) for path in sets]
    assert steps == [12] * 5
    for wanted in (3, 11):
        # A reward that no accuracy outweighs: that C is taken, in this training set and no other.
        suppressed = [[10.0 * (k == (wanted if fit == 2 else 6)) for k in range(12)] for fit in range(5)]
        result = one.choose(WIDTHS, "a model", suppressed)
        paths = [fit.path for fit in one.fits]
        assert all(path is not None for path in paths)
        expected = [float(path.Cs[wanted if n == 2 else 6]) for n, path in enumerate(paths) if n and path]
        assert result.C_by_fold == expected
        assert [row["suppressed_accuracy"] for row in result.curve] == suppressed[0]
    with pytest.raises(ValueError, match="suppressed"):
        one.choose(WIDTHS, "a model")


# --- signs -------------------------------------------------------------------------------------------


def with_negative_signal(seed: int = 0) -> tuple[Any, Any, NDArray[np.int64], NDArray[np.str_]]:
    """The planted neurons are louder in faithful answers: nothing but negative weights can tell the label."""
    answers, others, labels, groups = simulated(seed)
    return answers, others, 1 - labels, groups


def test_where_negative_weights_tell_the_label_the_positive_ones_alone_do_not():
    data = with_negative_signal()
    labels = data[2]
    result = found(data, mode="1-vs-1", C=200.0, folds=3)
    whole = auroc(labels, result.probabilities)
    own = {name: auroc(labels, result.scores.plain[name]) for name in ("positive", "negative")}
    assert whole > 0.9
    assert own["negative"] > 0.9
    assert own["positive"] < whole - 0.2
    assert auroc(labels, result.scores.sets["probe"].chosen) > 0.9
    assert auroc(labels, result.scores.sets["positive"].chosen) < whole - 0.2
    neurons = result.probe.neurons("both")
    assert set(PLANTED) <= set((neurons.negative.layers * WIDTHS[0] + neurons.negative.indices).tolist())
    assert not set(PLANTED) & set((neurons.positive.layers * WIDTHS[0] + neurons.positive.indices).tolist())
    assert len(neurons) == len(neurons.positive) + len(neurons.negative) == np.count_nonzero(result.probe.coef_)
    assert all(0 < some < every for some, every in zip(result.positive_by_fold, result.neurons_by_fold, strict=True))


def test_weights_of_either_sign_add_up_to_the_log_odds(planted: Identified):
    answers = simulated()[0]
    probe = planted.probe
    parts = [part_by_sign(answers, probe.coef_, sign) for sign in ("positive", "negative")]
    np.testing.assert_allclose(parts[0] + parts[1] + probe.intercept_, probe.decision_function(answers), atol=1e-9)
    np.testing.assert_allclose(parts[0], answers.astype(np.float64) @ np.maximum(probe.coef_, 0), atol=1e-6)


def test_control_sets_of_the_folds_share_as_much_as_the_selections_do():
    one = search(C=60.0, controls=40)
    one.fit()
    activity = Activity.of(one.data.answers)
    fits = one.fits[1:]
    selections = [one._selection(fit, 0, WIDTHS, activity) for fit in fits]  # pyright: ignore[reportPrivateUsage]
    for fit, selection in zip(fits, selections, strict=True):
        halves = one.half_paths(fit, 60.0)
        for (path, others), probe, positive in zip(halves, selection["probe"], selection["positive"], strict=True):
            assert set(probe.chosen.tolist()) == set(path.nonzero(0).tolist())
            assert set(positive.chosen.tolist()) == set(path.positive(0).tolist())
            for own in (probe, positive):
                # Chosen on one half and fitted on the other, whole groups apart, inside the training set.
                assert fit.train[own.answers].all()
                rest = np.setdiff1d(np.flatnonzero(fit.train), others)
                assert not set(one.data.groups[own.answers]) & set(one.data.groups[rest])
                for sets in own.controls.values():
                    assert sets.shape == (40, len(own.chosen))
                    assert not np.isin(sets, path.nonzero(0)).any()

    def shared(first: Any, second: Any) -> float:
        return len(np.intersect1d(first, second)) / np.sqrt(len(first) * len(second))

    first, second = selections[0]["probe"][0], selections[1]["probe"][0]
    truth = shared(first.chosen, second.chosen)
    for kind in KINDS:
        pairs = zip(first.controls[kind], second.controls[kind], strict=True)
        assert np.mean([shared(a, b) for a, b in pairs]) > 0.5 * truth  # crowded: 120 neurons in all


# --- the prior of 3-vs-1 and calibration --------------------------------------------------------------


def test_probabilities_have_the_share_of_the_answers_whatever_rows_were_beside_them(planted: Identified):
    labels = simulated()[2]
    assert planted.probabilities.mean() == pytest.approx(labels.mean(), abs=0.05)
    probe = planted.probe
    answers = simulated()[0]
    raw = probe.decision_function(answers)
    assert probe.calibration_.slope > 0
    np.testing.assert_allclose(probe.predict_proba(answers)[:, 1], probe.calibration_(raw))
    # The intercept of a probe that was trained on three rows of label 0 for each of label 1 is too low.
    assert (1 / (1 + np.exp(-raw))).mean() < labels.mean()
    assert 0.2 < probe.threshold_ < 0.8


# --- choosing C ----------------------------------------------------------------------------------------


def test_log_loss_is_that_of_the_best_intercept():
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, 400)
    y = (rng.random(400) < 1 / (1 + np.exp(-z))).astype(np.int64)
    own = log_loss(y, z)
    for moved in (-8.0, -1.1, 0.0, 3.0, 20.0):
        assert log_loss(y, z + moved) == pytest.approx(own, abs=1e-9)
    at = np.linspace(-1, 1, 4001)
    tried = np.logaddexp(0, z[None] + at[:, None]) - y * (z[None] + at[:, None])
    assert own == pytest.approx(tried.mean(axis=1).min(), abs=1e-6)
    constant = log_loss(y, np.full(400, -3.0))
    share = y.mean()
    assert constant == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))


def test_smoothing_finds_the_planted_minimum_under_noise():
    at = np.linspace(-1, 1, 12)
    rng = np.random.default_rng(1)
    for planted_at in (2, 5, 8):
        truth = 0.6 + 0.05 * (at - at[planted_at]) ** 2
        np.testing.assert_allclose(smoothed(truth), truth)
        noisy = truth + rng.normal(0, 0.004, (300, 12))
        found_at = np.array([np.argmin(smoothed(one)) for one in noisy])
        plain = noisy.argmin(axis=1)
        assert abs(found_at.mean() - planted_at) < 0.3
        assert found_at.std() < 0.75 * plain.std()
    few = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(smoothed(few), few)


def test_auto_takes_the_least_smoothed_loss_that_selects_a_positive_neuron():
    one = search()
    one.fit()
    fit = one.fits[1]
    path = fit.path
    assert path is not None
    losses = one.held_out(fit)[1]  # pyright: ignore[reportPrivateUsage]
    usable = (path.n_positive > 0) & (2 * path.n_nonzero <= sum(WIDTHS))
    assert usable.any()
    expected = int(np.argmin(np.where(usable, smoothed(losses), np.inf)))
    result = one.choose(WIDTHS, "a model")
    assert result.C_by_fold[0] == float(path.Cs[expected])
    assert result.neurons_by_fold[0] == path.n_nonzero[expected]
    assert result.positive_by_fold[0] == path.n_positive[expected] > 0
    assert [row["neurons"] for row in result.curve] == sorted(row["neurons"] for row in result.curve)
    assert all(row["held_out_log_loss"] <= np.log(2) + 1e-9 or row["neurons"] for row in result.curve)


def test_auto_takes_no_strength_that_selects_most_neurons():
    one = search(simulated(effect=0.0))
    one.fit()
    result = one.choose(WIDTHS, "a model")
    assert max(result.neurons_by_fold) <= sum(WIDTHS) / 2
    path = one.fits[1].path
    assert path is not None
    assert path.n_nonzero.max() > sum(WIDTHS) / 2


# --- how much it depends on the answers ----------------------------------------------------------------


def resampled(data: Any = None, **changes: Any) -> list[variation.Resampled]:
    one = search(data, **changes)
    said: list[str] = []
    made = variation.resampled(one, Activity.of(one.data.answers), said.append)
    assert len(said) in (0, one.settings.repeats)
    return made


def test_resamples_choose_again_and_depend_on_the_seed_alone():
    made, again, other = (resampled(repeats=2, seed=seed) for seed in (0, 0, 1))
    assert made == again
    assert made != other
    assert len(made) == 2
    for one in made:
        assert 0 < one.positive <= one.neurons < sum(WIDTHS)
        assert one.auroc > 0.8
        assert one.p == pytest.approx(1 / 40)  # better than all 39 sets
        assert one.C > 0
    assert resampled(repeats=2, C=60.0) == []  # nothing was chosen


def test_without_an_effect_resamples_are_no_better_than_sets():
    made = resampled(simulated(effect=0.0), mode="1-vs-1", repeats=6)
    ps = [one.p for one in made if np.isfinite(one.p)]
    assert len(ps) == len(made) == 6
    assert sum(p <= 0.05 for p in ps) <= 2
    assert abs(np.mean([one.auroc for one in made]) - 0.5) < 0.1


def test_a_resample_that_selects_most_neurons_has_no_p():
    made = resampled(simulated(effect=0.0), C="paper", repeats=3)
    assert all(np.isnan(one.p) == (2 * one.neurons > sum(WIDTHS)) for one in made)


# --- what cannot be fitted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "2-vs-1"}, "mode should be"),
        ({"penalty": "l3"}, "penalty should be"),
        ({"C": "best"}, "C should be"),
        ({"C": "accuracy"}, "C should be auto, paper or a number"),
        ({"C": 0}, "C should be"),
        ({"C": -1.0}, "C should be"),
        ({"C": float("nan")}, "C should be"),
        ({"C": float("inf")}, "C should be"),
        ({"C": True}, "C should be"),
        ({"folds": 1}, "folds"),
        ({"controls": 0}, "controls"),
        ({"resamples": -1}, "resamples"),
        ({"repeats": -1}, "repeats"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(IdentificationError, match=words):
        Settings(**changes)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(label: int):
    answers, others, labels, groups = simulated()
    with pytest.raises(IdentificationError, match="faithful" if label else "hallucinated"):
        search((answers, others, np.full_like(labels, label), groups))


def test_too_few_groups_are_refused():
    answers, others, labels, groups = simulated()
    with pytest.raises(IdentificationError, match="at least 3"):
        search((answers, others, labels, np.where(groups < "relation 06", "a", "b")))


def test_a_strength_that_selects_most_neurons_is_refused():
    with pytest.raises(IdentificationError, match="use a smaller C"):
        found(simulated(effect=0.0), C=1000.0)


def test_a_class_in_one_group_only_is_refused():
    answers, others, _, groups = simulated()
    with pytest.raises(IdentificationError, match="folds"):
        search((answers, others, (groups == "relation 00").astype(np.int64), groups))


def test_metrics_take_an_empty_list():
    made: list[Any] = [span_coverage(), detection_figures(), question_yield(), draw_rates(), dose_response_figures()]
    for metric in made:
        figures = metric([])
        assert all(np.isfinite(value) for value in figures.values())
