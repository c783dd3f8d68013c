"""Neurons are found where they were planted, and no answer helps to judge itself."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hneurons_eval.evaluation import detection, usable_strata
from hneurons_eval.identification import Answers, IdentificationError, Identified, Search, Settings
from hneurons_eval.scorers.captured import span_coverage
from hneurons_eval.scorers.detected import detection_figures
from hneurons_eval.scorers.judge import draw_rates, question_yield
from hneurons_eval.scorers.swept import dose_response_figures
from hneurons_eval.stability import STABLE, shuffled_stability
from hneurons_eval.statistics import auroc

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
    chosen = settings or Settings(**{"C": "auto", "folds": 4, "controls": 5, "resamples": 10} | changes)
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
    assert auroc(labels, scores.refit) > 0.9
    assert set(scores.controls) >= {"uniform", "contribution"}
    for kind, sets in scores.controls.items():
        assert sets.shape == (5, ROWS)
        assert np.isfinite(sets).all()
        assert max(auroc(labels, one) for one in sets) < 0.8, kind
    assert abs(auroc(labels, scores.plain["length"]) - 0.5) < 0.15
    assert auroc(labels, scores.plain["dense"]) > 0.85
    assert set(scores.plain) == {"length", "logprob", "dense"}


def test_planted_neurons_are_selected_again_on_other_halves_of_the_questions(planted: Identified):
    assert planted.stability is not None
    assert planted.stability.shape == (sum(WIDTHS),)
    others = np.delete(planted.stability, PLANTED)
    assert planted.stability[list(PLANTED)].min() >= 0.9
    assert others.mean() < 0.2
    assert np.isin(planted.stability * 10, np.arange(11)).all()


def test_without_an_effect_as_many_neurons_are_stable_as_with_shuffled_labels():
    answers, others, labels, groups = simulated(effect=0.0)
    one = search((answers, others, labels, groups), resamples=20, C=40.0)
    one.fit()
    result = one.choose(WIDTHS, "a model")
    assert result.stability is not None
    assert result.stability.mean() < 0.5
    rows = (one.data.X, one.row_labels, one.row_answers, None, groups)
    null = shuffled_stability(*rows, 40.0, shuffles=10)
    stable = int((result.stability[result.probe.coef_ != 0] > STABLE).sum())
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
    figures = detection(
        labels.tolist(),
        result.probabilities.tolist(),
        result.predictions.tolist(),
        [str(i) for i in range(ROWS)],
        groups.tolist(),
        {},
    )
    assert figures["auroc_low"] < 0.5 < figures["auroc_high"]


def test_the_same_seed_finds_the_same(planted: Identified):
    again = found()
    np.testing.assert_array_equal(again.probabilities, planted.probabilities)
    for kind, sets in again.scores.controls.items():
        np.testing.assert_array_equal(sets, planted.scores.controls[kind])
    np.testing.assert_array_equal(again.stability, planted.stability)
    assert again.C_by_fold == planted.C_by_fold
    assert again.probe.neurons() == planted.probe.neurons()


def test_a_dense_probe_detects_and_selects_nothing():
    result = found(penalty="l2")
    assert auroc(simulated()[2], result.probabilities) > 0.85
    assert result.neurons_by_fold == [0] * 4
    assert np.isnan(result.scores.refit).all()
    assert result.stability is None
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


@pytest.mark.parametrize("strength", ["auto", 60.0])
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
    np.testing.assert_array_equal(after.scores.refit[test], before.scores.refit[test])
    for kind, sets in after.scores.controls.items():
        np.testing.assert_array_equal(sets[:, test], before.scores.controls[kind][:, test])
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


# --- what cannot be fitted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "2-vs-1"}, "mode should be"),
        ({"penalty": "l3"}, "penalty should be"),
        ({"C": "best"}, "C should be"),
        ({"C": 0}, "C should be"),
        ({"C": -1.0}, "C should be"),
        ({"C": float("nan")}, "C should be"),
        ({"C": float("inf")}, "C should be"),
        ({"C": True}, "C should be"),
        ({"folds": 1}, "folds"),
        ({"controls": 0}, "controls"),
        ({"resamples": 1}, "resamples"),
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


# --- figures of detection ----------------------------------------------------------------------------


def scores(seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str], list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 90)
    relations = [f"r{k % 3}" for k in range(90)]
    # A relation moves all its scores, so that the pooled AUROC is not the one within relations.
    p = np.clip(0.3 * labels + 0.5 * rng.random(90) + 0.2 * (np.arange(90) % 3 == 1), 0, 1)
    return labels, p, [f"q{k}" for k in range(90)], relations


def test_detection_figures_are_those_computed_directly():
    labels, p, questions, relations = scores()
    controls = np.random.default_rng(1).random((4, 90))
    figures = detection(
        labels.tolist(),
        p.tolist(),
        (p > 0.5).astype(int).tolist(),
        questions,
        relations,
        {"length": (-p).tolist(), "broken": [float("nan")] * 90},
        {"uniform": controls},
        p.tolist(),
    )
    within = [np.array(relations) == r for r in ("r0", "r1", "r2")]
    own = np.mean([auroc(labels[r], p[r]) for r in within])
    random = [np.mean([auroc(labels[r], c[r]) for r in within]) for c in controls]
    assert figures["answers"] == 90
    assert figures["hallucinated"] == labels.sum()
    assert figures["relations"] == 3
    assert figures["auroc"] == pytest.approx(own)
    assert figures["auroc_pooled"] == pytest.approx(auroc(labels, p))
    assert figures["auroc"] != pytest.approx(figures["auroc_pooled"])
    assert figures["accuracy"] == pytest.approx(((p > 0.5) == labels).mean())
    assert figures["majority_accuracy"] == pytest.approx(max(labels.mean(), 1 - labels.mean()))
    assert figures["length_auroc"] == pytest.approx(1 - own)
    assert "broken_auroc" not in figures
    assert figures["uniform_auroc"] == pytest.approx(np.mean(random))
    assert figures["uniform_sets"] == 4
    assert figures["refit_auroc"] == pytest.approx(own)
    assert figures["uniform_p"] == figures["uniform_p_refit"] == pytest.approx(1 / 5)
    assert figures["brier"] == pytest.approx(np.mean((p - labels) ** 2))
    bins = np.array_split(np.argsort(p, kind="stable"), 10)
    error = np.mean([abs(p[part].mean() - labels[part].mean()) for part in bins])
    assert figures["calibration_error"] == pytest.approx(error)
    for name in ("auroc", "auroc_pooled", "accuracy", "length_auroc"):
        assert figures[f"{name}_low"] < figures[name] < figures[f"{name}_high"]


def test_small_relations_are_left_out_of_the_mean_within_relations():
    labels = np.array([0, 1] * 6 + [0, 1] * 2)
    relations = ["large"] * 12 + ["small"] * 4
    assert usable_strata(labels, relations).tolist() == [True] * 12 + [False] * 4
    p = np.where(labels == 1, 0.9, 0.1)
    p[12:] = 1 - p[12:]
    figures = detection(labels.tolist(), p.tolist(), [0] * 16, [str(k) for k in range(16)], relations, {})
    assert figures["auroc"] == 1.0
    assert figures["auroc_pooled"] < 1.0
    assert figures["answers_in_relations"] == 12


@pytest.mark.parametrize("labels", [[], [1], [0, 0, 0], [1] * 20])
def test_detection_of_one_class_has_counts_only(labels: list[int]):
    n = len(labels)
    figures = detection(labels, [0.5] * n, [0] * n, ["q"] * n, [None] * n, {"length": [1.0] * n})
    assert figures == {"answers": n, "hallucinated": sum(labels)}


def test_two_answers_have_an_estimate_and_no_interval():
    figures = detection([0, 1], [0.1, 0.9], [0, 1], ["a", "b"], [None, None], {})
    assert figures["auroc"] == 1.0


def test_metrics_take_an_empty_list():
    made: list[Any] = [span_coverage(), detection_figures(), question_yield(), draw_rates(), dose_response_figures()]
    for metric in made:
        figures = metric([])
        assert all(np.isfinite(value) for value in figures.values())
