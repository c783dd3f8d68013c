"""Figures of detection are those computed directly, their tests have their size, and folds are not mixed."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, t

from hneurons_eval.analysis.bootstrap import RESAMPLES, resample_weights
from hneurons_eval.analysis.detection import (
    PERMUTATIONS,
    Detected,
    StratifiedAuroc,
    detection,
    rank_within,
    usable_strata,
)
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.tests import permutation_p
from hneurons_eval.models.controls import KINDS, Activity, control_sets
from hneurons_eval.probe.baselines import Compared, Inputs, out_of_fold
from hneurons_eval.probe.set_classifiers import fit_sets

RELATIONS = np.array([f"r{k % 3}" for k in range(90)])


def scores(seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str], list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 90)
    # A relation moves all its scores, so that the pooled AUROC is not the one within relations.
    p = np.clip(0.3 * labels + 0.5 * rng.random(90) + 0.2 * (np.arange(90) % 3 == 1), 0, 1)
    return labels, p, [f"q{k}" for k in range(90)], RELATIONS.tolist()


def consistent(count: int, trials: int, level: float = 0.05) -> bool:
    """Whether the 99 % interval of a rate (Clopper-Pearson) reaches down to the level."""
    return count == 0 or float(beta.ppf(0.005, count, trials - count + 1)) <= level


def within(labels: NDArray[Any], values: NDArray[Any], strata: NDArray[Any] = RELATIONS) -> NDArray[np.float64]:
    return np.array([auroc(labels[strata == one], values[strata == one]) for one in np.unique(strata)])


def test_detection_figures_are_those_computed_directly():
    labels, p, questions, relations = scores()
    controls = np.random.default_rng(1).random((4, 90))
    calls = (p > 0.5).astype(int)
    figures = detection(
        Detected(
            labels.tolist(),
            p.tolist(),
            calls.tolist(),
            questions,
            relations,
            {"length": (-p).tolist(), "broken": [float("nan")] * 90},
            {"probe": (p, {"uniform": controls, "sd": np.concatenate([controls, [2 * p]])})},
        )
    )
    own = within(labels, p)
    random = [within(labels, one).mean() for one in controls]
    assert figures["answers"] == 90
    assert figures["hallucinated"] == labels.sum()
    assert figures["relations"] == 3
    assert figures["auroc"] == pytest.approx(own.mean())
    pairs = [(labels[r == RELATIONS] == 1).sum() * (labels[r == RELATIONS] == 0).sum() for r in ("r0", "r1", "r2")]
    assert figures["auroc_weighted"] == pytest.approx(np.average(own, weights=pairs))
    assert figures["auroc_weighted"] != pytest.approx(figures["auroc"], abs=1e-6)
    assert figures["auroc_pooled"] == pytest.approx(auroc(labels, p))
    assert figures["auroc"] != pytest.approx(figures["auroc_pooled"])
    assert figures["accuracy"] == pytest.approx((calls == labels).mean())
    shares = [(calls[labels == k] == k).mean() for k in (0, 1)]
    assert figures["balanced_accuracy"] == pytest.approx(np.mean(shares))
    assert figures["majority_accuracy"] == pytest.approx(max(labels.mean(), 1 - labels.mean()))
    assert figures["length_auroc"] == pytest.approx(1 - own.mean())
    assert figures["length_difference"] == pytest.approx(2 * own.mean() - 1)
    assert "broken_auroc" not in figures
    assert "broken_difference" not in figures
    assert figures["probe_uniform_auroc"] == pytest.approx(np.mean(random))
    assert figures["probe_uniform_sets"] == 4
    assert figures["probe_refit_auroc"] == pytest.approx(own.mean())
    assert figures["probe_uniform_p"] == pytest.approx(1 / 5)
    assert figures["probe_sd_p"] == figures["probe_p"] == pytest.approx(2 / 6)  # the verdict is on the hardest kind
    assert figures["brier"] == pytest.approx(np.mean((p - labels) ** 2))
    bins = np.array_split(np.argsort(p, kind="stable"), 10)
    error = np.mean([abs(p[part].mean() - labels[part].mean()) for part in bins])
    assert figures["calibration_error"] == pytest.approx(error)
    for name in ("auroc", "auroc_pooled", "accuracy", "balanced_accuracy", "length_auroc", "length_difference"):
        assert figures[f"{name}_low"] < figures[name] < figures[f"{name}_high"]


def test_balanced_accuracy_is_half_for_a_constant_call_whatever_is_common():
    labels = np.array([1] * 80 + [0] * 20)
    p = np.linspace(0.4, 0.9, 100)
    figures = detection(Detected(labels, p, np.ones(100, int), list(range(100)), [None] * 100))
    assert figures["accuracy"] == figures["majority_accuracy"] == 0.8
    assert figures["balanced_accuracy"] == 0.5
    assert figures["balanced_accuracy_low"] < 0.5 < figures["balanced_accuracy_high"]  # not of no width


def test_paired_differences_are_those_of_a_bootstrap_by_hand():
    labels, p, _, relations = scores(2)
    rng = np.random.default_rng(6)
    other = 0.2 * labels + rng.random(90)
    questions = [f"q{k // 2}" for k in range(90)]  # two answers each
    figures = detection(Detected(labels, p, labels, questions, relations, {"length": other}))
    assert figures["length_difference"] == pytest.approx((within(labels, p) - within(labels, other)).mean())
    drawn = []
    for weights in np.concatenate([*resample_weights(np.array(questions), RESAMPLES, 0)]).astype(int):
        rows = np.repeat(np.arange(90), weights)
        apart = []
        for one in np.unique(RELATIONS):
            own = rows[RELATIONS[rows] == one]
            if len(set(labels[own].tolist())) == 2:
                apart.append(auroc(labels[own], p[own]) - auroc(labels[own], other[own]))
        drawn.append(np.mean(apart))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert figures["length_difference_low"] == pytest.approx(low, abs=1e-9)
    assert figures["length_difference_high"] == pytest.approx(high, abs=1e-9)
    # Paired: narrower than two intervals side by side where the two scores go together.
    near = p + rng.normal(0, 0.01, 90)
    figures = detection(Detected(labels, p, labels, questions, relations, {"length": near}))
    assert figures["length_difference_high"] - figures["length_difference_low"] < 0.04
    assert figures["auroc_high"] - figures["auroc_low"] > 0.08


@pytest.mark.parametrize("knows", [True, False])
def test_what_the_probe_adds_is_found_where_it_is_and_not_where_it_is_not(knows: bool):
    rng = np.random.default_rng(11)
    rows = 400
    y = rng.integers(0, 2, rows)
    scalars = {"logprob": y + rng.normal(0, 2, rows), "length": rng.normal(size=rows)}
    folds = grouped_folds(y, np.arange(rows), 5)
    decisions = [(1.5 * y if knows else 0 * y) + rng.normal(0, 1.5, rows)] * 5
    found = out_of_fold(Inputs(rng.random((rows, 3)), scalars), y, folds, [{}] * 5, decisions)
    figures = detection(Detected(y, found.plain["scalars"], y, list(range(rows)), [None] * rows, found.plain))
    both, alone = (auroc(y, found.plain[name]) for name in ("scalars_and_probe", "scalars"))
    assert figures["added"] == pytest.approx(both - alone)
    if knows:
        assert figures["added"] > 0.05
        assert figures["added_low"] > 0
    else:
        assert figures["added_low"] <= 0 <= figures["added_high"]


def test_ranks_within_folds_do_not_see_what_each_fold_does_to_its_scores():
    labels, p, questions, relations = scores(3)
    folds = (np.arange(90) // 3) % 5
    transforms = [lambda z: z, lambda z: z / 9, lambda z: z**3 / 2, lambda z: 0.5 + z / 4, lambda z: np.exp(z) / 9]
    moved = np.array([transforms[fold](value) for fold, value in zip(folds, p, strict=True)])
    given = [
        Detected(labels, one, labels, questions, relations, {"length": own}, {"probe": (own, {"sd": [own]})}, folds)  # pyright: ignore[reportArgumentType]
        for one, own in ((p, 1 - p), (moved, 1 - moved))
    ]
    first, second = (detection(one) for one in given)
    for name in first:
        if name.startswith(("auroc", "length", "probe")):
            assert second[name] == pytest.approx(first[name], nan_ok=True), name
    assert first["auroc_pooled"] == pytest.approx(auroc(labels, rank_within(p, folds.tolist())))
    mixed = detection(Detected(labels, moved, labels, questions, relations))
    assert mixed["auroc_pooled"] != pytest.approx(first["auroc_pooled"], abs=0.01)
    np.testing.assert_array_equal(rank_within([0.3, 0.1, 0.1, 0.9], ["a", "a", "b", "b"]), [0.75, 0.25, 0.25, 0.75])


def test_the_interval_over_relations_is_the_t_interval_of_their_aurocs():
    labels, p, questions, relations = scores(4)
    figures = detection(Detected(labels, p, labels, questions, relations, {"length": p**2 % 0.4}))
    for name, own in (
        ("auroc", within(labels, p)),
        ("length_difference", within(labels, p) - within(labels, p**2 % 0.4)),
    ):
        low, high = t.interval(0.95, 2, own.mean(), own.std(ddof=1) / np.sqrt(3))
        assert figures[f"{name}_relations_low"] == pytest.approx(low)
        assert figures[f"{name}_relations_high"] == pytest.approx(high)
    two = detection(Detected(labels[:60], p[:60], labels[:60], questions[:60], ["a", "b"] * 30))
    assert two["relations"] == 2
    assert "auroc_relations_low" not in two


def test_the_p_of_permuted_labels_has_its_size_and_its_floor():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], 20)
    y = np.tile([0, 1], 30)
    of = StratifiedAuroc(y, strata, np.arange(60))
    trials = 200
    ps = np.array([permutation_p(*of.shuffled(rng.normal(size=60) + strata, seed=k)) for k in range(trials)])
    assert consistent(int((ps <= 0.05).sum()), trials)
    assert abs(ps.mean() - 0.5) < 0.07
    assert permutation_p(*of.shuffled(y + 0.0)) == pytest.approx(1 / (PERMUTATIONS + 1))
    assert permutation_p(*of.shuffled(np.ones(60))) == 1.0
    assert permutation_p(*of.shuffled(-y)) > 0.99


def test_small_relations_are_left_out_of_the_mean_within_relations():
    labels = np.array([0, 1] * 6 + [0, 1] * 2)
    relations = ["large"] * 12 + ["small"] * 4
    assert usable_strata(labels, relations).tolist() == [True] * 12 + [False] * 4
    p = np.where(labels == 1, 0.9, 0.1)
    p[12:] = 1 - p[12:]
    figures = detection(Detected(labels, p, [0] * 16, [str(k) for k in range(16)], relations))
    assert figures["auroc"] == 1.0
    assert figures["auroc_pooled"] < 1.0
    assert figures["answers_in_relations"] == 12


@pytest.mark.parametrize("labels", [[], [1], [0, 0, 0], [1] * 20])
def test_detection_of_one_class_has_counts_only(labels: list[int]):
    n = len(labels)
    figures = detection(Detected(labels, [0.5] * n, [0] * n, ["q"] * n, [None] * n, {"length": [1.0] * n}))
    assert figures == {"answers": n, "hallucinated": sum(labels)}


def test_two_answers_have_an_estimate_and_no_interval():
    figures = detection(Detected([0, 1], [0.1, 0.9], [0, 1], ["a", "b"], [None, None]))
    assert figures["auroc"] == 1.0


def test_a_random_set_in_the_place_of_the_neurons_has_a_small_p_as_rarely_as_it_says():
    """A4: whatever is chosen, where it is no better than what is drawn, P(p <= .05) is about .05 over folds."""
    rng = np.random.default_rng(7)
    rows, neurons, size, sets, trials = 120, 400, 4, 39, 300
    X = (rng.normal(size=(rows, neurons)) * np.exp(rng.normal(0, 1, neurons))).astype(np.float32)
    y = np.tile([0, 1], rows // 2)
    X[:, ::4] += 0.8 * y[:, None] * X[:, ::4].std(axis=0)  # a quarter tells the label a little
    folds = grouped_folds(y, np.arange(rows), 5)
    said = np.empty((rows, neurons))  # what each neuron says of each answer, by its class means in the other folds
    for test in folds:
        train = np.setdiff1d(np.arange(rows), test)
        apart = X[train][y[train] == 1].mean(axis=0) - X[train][y[train] == 0].mean(axis=0)
        said[test] = X[test] * apart / X[train].var(axis=0)
    activity = Activity.of(X)
    counts = dict.fromkeys(KINDS, 0)
    of = StratifiedAuroc(y, np.zeros(rows, int), np.arange(rows))
    for trial in range(trials):
        fixed = np.sort(rng.choice(neurons, size, replace=False))
        drawn = control_sets(fixed, (200, 200), activity, sets, trial)
        both = np.concatenate([fixed[None], *(drawn[kind] for kind in KINDS)])
        aurocs = of.means(said[:, both].sum(axis=2).T)
        for number, kind in enumerate(KINDS):
            own = aurocs[1 + number * sets : 1 + (number + 1) * sets]
            counts[kind] += permutation_p(float(aurocs[0]), own) <= 0.05
    for kind, count in counts.items():
        assert consistent(count, trials), (kind, count / trials)


def test_control_sets_in_a_fold_of_other_neurons_come_from_that_folds_selection():
    """Folds whose selections differ: the scores of set i in each fold are by the replacement of that fold's neurons."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(90, 200)).astype(np.float32), np.tile([0, 1], 45)
    folds = grouped_folds(y, np.arange(90), 2)
    activity = Activity.of(X)
    chosen = [np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6])]
    selections = [{"probe": [Compared(own, control_sets(own, (200,), activity, 5), np.arange(90))]} for own in chosen]
    found = out_of_fold(Inputs(X), y, folds, selections).sets["probe"]
    for test, selection in zip(folds, selections, strict=True):
        train = np.setdiff1d(np.arange(90), test)
        for kind, sets in selection["probe"][0].controls.items():
            own = fit_sets(X, sets, y.astype(float), train).scores(X[test])
            np.testing.assert_array_equal(found.controls[kind][:, test], own)
