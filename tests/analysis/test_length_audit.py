"""The audit of length is flagged where length is what is told, and seldom where it is not."""

import numpy as np
import pytest

from hneurons_eval.analysis.length_audit import (
    MIN_CELL,
    length_audit,
    length_strata,
    neuron_effects,
    pair_weighted_statistic,
)
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.scorers.detected import audits_of
from hneurons_eval.util.packing import pack

ROWS = 300


def made(seed: int, truth: float = 0.0, length: float = 0.0, longer: float = 0.0):
    """Labels, lengths (hallucinated ones longer by `longer`), and 8 neurons of both signs that follow either."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, ROWS)
    lengths = rng.poisson(6, ROWS) + 1 + rng.poisson(longer, ROWS) * y
    scaled = (lengths - lengths.mean()) / lengths.std()
    signs = np.array([1, -1] * 4)
    X = rng.normal(size=(ROWS, 8)) + signs * (truth * y + length * scaled)[:, None]
    return y, lengths, np.arange(ROWS), X @ signs, X


def test_it_is_flagged_in_few_runs_where_length_has_nothing_to_do_with_it():
    """More than half of the neurons moved more by length, the old flag, is a coin flip (finding B2)."""
    for truth in (0.0, 0.8):
        found = [length_audit(*made(seed, truth)) for seed in range(30)]
        assert np.mean([one.flagged for one in found]) <= 0.1
        if not truth:
            moved = [2 * one.figures["moved_more_by_length"] > 8 for one in found]
            assert np.mean(moved) > 0.25


def test_a_score_of_length_is_flagged_and_one_of_truth_beside_length_says_what_is_left():
    only = length_audit(*made(0, length=0.8, longer=3.0))
    assert only.flagged
    assert "not shown to tell more than length" in only.sentence
    assert only.figures["auroc_given_length_low"] <= 0.5
    assert only.figures["follow_length"] > only.figures["follow_truth"]
    both = length_audit(*made(0, truth=0.8, length=0.8, longer=3.0))
    assert both.flagged
    assert both.figures["length_alone_auroc_low"] > 0.5
    assert both.figures["auroc_given_length_low"] > 0.5
    mixed = made(0, truth=0.3, length=0.0, longer=3.0)
    score = mixed[3] + 8.0 * (mixed[1] - mixed[1].mean()) / mixed[1].std()
    part = length_audit(*mixed[:3], score, None)
    assert part.figures["auroc_through_length_low"] > 0


def test_neurons_of_both_signs_are_told_apart():
    y, lengths, questions, _, X = made(1)
    long = lengths > np.median(lengths)
    X = X + 0.0
    X[:, 0] += 2.0 * y
    X[:, 1] -= 2.0 * y
    X[:, 2] -= 2.0 * long
    X[:, 3] += 2.0 * long + 2.0 * y
    found = neuron_effects(X, y, long, questions)
    assert (found.p <= 0.02).tolist() == [True, True, True] + [False] * 5
    assert np.abs(found.truth[:2]).min() > np.abs(found.length[:2]).max()
    assert abs(found.length[2]) > abs(found.truth[2])


def test_a_neuron_moved_alike_by_both_is_called_in_one_run_of_twenty():
    wrong = []
    for seed in range(150):
        y, lengths, questions, _, X = made(seed)
        long = lengths > np.median(lengths)
        own = X[:, :1] + 1.0 * y[:, None] - 1.0 * long[:, None]
        wrong.append(neuron_effects(own, y, long, questions).p[0] <= 0.05)
    assert 0.01 <= np.mean(wrong) <= 0.1


def test_strata_keep_equal_lengths_together_and_are_not_too_small():
    lengths = np.random.default_rng(0).poisson(5, 400)
    strata = length_strata(lengths)
    assert all(len(set(strata[lengths == one].tolist())) == 1 for one in set(lengths.tolist()))
    assert (np.diff(strata[np.argsort(lengths, kind="stable")]) >= 0).all()
    assert length_strata([4] * 30).tolist() == [0] * 30
    assert len(set(length_strata(np.arange(30)).tolist())) == 1
    assert np.bincount(length_strata(np.arange(400))).tolist() == [40] * 10


def test_the_statistic_is_the_pair_weighted_auroc():
    y, lengths, _, score, _ = made(3, 0.5)
    strata = length_strata(lengths)
    found = pair_weighted_statistic(y, score, strata)(np.ones((1, ROWS)))[0]
    pairs = [score[(strata == k) & (y == 1), None] - score[None, (strata == k) & (y == 0)] for k in np.unique(strata)]
    wins = np.concatenate([np.sign(apart).ravel() for apart in pairs])
    assert found == pytest.approx((wins.mean() + 1) / 2)
    assert pair_weighted_statistic(y, score, np.zeros(ROWS))(np.ones((1, ROWS)))[0] == pytest.approx(auroc(y, score))


def test_one_length_one_class_and_few_answers_are_no_error():
    y, _, questions, score, X = made(0)
    assert not length_audit(y, np.full(ROWS, 4), questions, score, X).flagged
    assert not length_audit([1, 1, 1], [1, 2, 3], [1, 2, 3]).flagged
    few = length_audit([0, 1, 0, 1], [1, 2, 3, 4], [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], np.ones((4, 2)))
    assert f"fewer than {MIN_CELL} answers" in few.sentence
    assert "follow_length" not in few.figures


def test_neurons_are_compared_on_fresh_answers_only():
    y, lengths, _, score, X = made(0)
    rows = [
        {"label": "hallucinated" if y[k] else "faithful", "probability": float(1 / (1 + np.exp(-score[k]))),
         "question": f"q{k}", "relation": None, "selected": pack(X[k]), "response_tokens": int(lengths[k]),
         "prompt_tokens": 9, "answer_tokens": 2}
        for k in range(ROWS)
    ]  # fmt: skip
    trained = next(audit for audit in audits_of([AnswerRecord.of(row) for row in rows]) if audit.name == "length")
    assert "single neurons are compared on fresh answers only" in trained.sentence
    assert "follow_length" not in trained.figures
    others = [AnswerRecord.of(row | {"verdict": "wrong"}) for row in rows]
    fresh = next(audit for audit in audits_of(others) if audit.name == "length")
    assert fresh.figures["audited_neurons"] == 8
