"""Measures against scikit-learn and by hand; intervals by how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, roc_auc_score

from hneurons_eval.analysis.bootstrap import bootstrap_interval, wilson_interval
from hneurons_eval.analysis.metrics import (
    auroc,
    auroc_statistic,
    brier,
    headline_first,
    mean_statistic,
    stratified_auroc,
)
from hneurons_eval.analysis.tests import holm, mcnemar, minimum_detectable_effect, permutation_p, two_sided_p

labelled = st.lists(st.tuples(st.integers(0, 1), st.integers(-5, 5)), min_size=2, max_size=60).filter(
    lambda rows: len({y for y, _ in rows}) == 2
)


@given(labelled)
@settings(max_examples=150, deadline=None)
def test_auroc_is_scikit_learns_ties_included(rows):
    y, s = np.array(rows).T
    assert auroc(y, s) == pytest.approx(roc_auc_score(y, s))


@given(labelled)
@settings(max_examples=50, deadline=None)
def test_auroc_is_the_share_of_pairs_in_order(rows):
    y, s = np.array(rows).T
    pairs = np.sign(s[y == 1][:, None] - s[y == 0][None])
    assert auroc(y, s) == pytest.approx((pairs.mean() + 1) / 2)
    assert auroc(y, s) + auroc(1 - y, s) == pytest.approx(1)
    assert auroc(y, np.exp(s)) == pytest.approx(auroc(y, s))


@given(labelled, st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_auroc_of_weights_is_the_auroc_of_repeated_rows(rows, seed):
    y, s = np.array(rows).T
    weights = np.random.default_rng(seed).integers(0, 4, len(y))
    repeated_y, repeated_s = np.repeat(y, weights), np.repeat(s, weights)
    value = auroc_statistic(y, s)(weights[None].astype(float))[0]
    if np.unique(repeated_y).size < 2:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(roc_auc_score(repeated_y, repeated_s))


def test_a_headline_moves_to_the_front_and_nothing_else_moves():
    figures = {"n": 1.0, "plain/slope": 2.0, "resist/slope": 3.0, "slope_low": 4.0}
    assert list(headline_first(figures, "auroc", "slope")) == ["plain/slope", "n", "resist/slope", "slope_low"]
    assert headline_first(figures, "slope") == figures
    assert list(headline_first(figures, "none")) == list(figures)


def test_brier_is_scikit_learns():
    y, p = np.array([0, 1, 1, 0]), np.array([0.1, 0.4, 0.9, 0.5])
    assert brier(y, p) == pytest.approx(brier_score_loss(y, p))
    with pytest.raises(ValueError, match="between 0 and 1"):
        brier(y, p + 1)


def test_stratified_auroc_takes_no_credit_for_telling_strata_apart():
    rng = np.random.default_rng(0)
    relation = np.repeat([0, 1, 2, 3], 200)
    y = (rng.random(800) < np.array([0.1, 0.4, 0.6, 0.9])[relation]).astype(int)
    scores = relation + rng.normal(0, 0.1, 800)  # knows the relation, and nothing else
    assert auroc(y, scores) > 0.7
    assert abs(stratified_auroc(y, scores, relation) - 0.5) < 0.07
    y2, s2, of = [0, 1, 0, 0, 1, 1, 1], [0, 1, 1, 2, 0, 5, 5], list("aabbbcc")
    assert stratified_auroc(y2, s2, of) == pytest.approx((1 + 0) / 2)
    with pytest.raises(ValueError, match="no stratum"):
        stratified_auroc([0, 1], [1, 2], ["a", "b"])
    with pytest.raises(ValueError, match="one entry"):
        stratified_auroc([0, 1], [1, 2], ["a"])


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="every label is 1"):
        auroc([1, 1], [0, 1])
    with pytest.raises(ValueError, match="NaN"):
        auroc([0, 1], [0, np.nan])
    with pytest.raises(ValueError, match="0 or 1"):
        auroc([0, 2], [0, 1])
    with pytest.raises(ValueError, match="one length"):
        auroc([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="not defined"):
        bootstrap_interval(mean_statistic([np.nan]), [0])
    with pytest.raises(ValueError, match="no rows"):
        bootstrap_interval(mean_statistic([]), [])
    with pytest.raises(ValueError, match="too few rows"):
        bootstrap_interval(auroc_statistic([0, 1], [0, 1]), [0, 1], n=200, seed=1)
    with pytest.raises(ValueError, match="p-values"):
        holm([0.1, 2])
    with pytest.raises(ValueError, match="finite"):
        permutation_p(1.0, [np.nan])
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)
    with pytest.raises(ValueError, match="design_effect"):
        minimum_detectable_effect(0, 0.1)


# -- intervals ---------------------------------------------------------------------------------


def test_cluster_bootstrap_covers_where_the_row_bootstrap_does_not():
    rng = np.random.default_rng(0)
    clustered = rows = 0
    for trial in range(150):
        question = np.repeat(np.arange(60), 5)
        values = rng.normal(0, 1, 60)[question] + rng.normal(0, 0.3, 300)  # the true mean is 0
        by_question = bootstrap_interval(mean_statistic(values), question, n=400, seed=trial)
        by_row = bootstrap_interval(mean_statistic(values), np.arange(300), n=400, seed=trial)
        clustered += by_question.low <= 0 <= by_question.high
        rows += by_row.low <= 0 <= by_row.high
    assert 0.88 <= clustered / 150 <= 0.99
    assert rows / 150 < 0.75


def test_auroc_interval_covers_the_truth():
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(150):
        y = np.repeat([0, 1], 100)
        s = rng.normal(0, 1, 200) + y  # AUROC = Phi(1 / sqrt 2)
        low, high = bootstrap_interval(auroc_statistic(y, s), np.arange(200), n=400, seed=trial)[1:]
        held += low <= 0.7602 <= high
    assert 0.89 <= held / 150 <= 0.99


def test_bootstrap_is_seeded():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1000)
    s = rng.random(1000) + 0.3 * y
    first = bootstrap_interval(auroc_statistic(y, s), np.arange(1000) // 2, n=2000, seed=4)
    assert first == bootstrap_interval(auroc_statistic(y, s), np.arange(1000) // 2, n=2000, seed=4)
    assert first != bootstrap_interval(auroc_statistic(y, s), np.arange(1000) // 2, n=2000, seed=5)
    assert first.low < first.estimate == auroc(y, s) < first.high


# -- tests -------------------------------------------------------------------------------------


def test_wilson_interval_covers_and_stays_inside():
    for p, n in [(0.02, 50), (0.5, 30), (0.9, 100)]:
        k = np.arange(n + 1)
        held = [(w := wilson_interval(int(i), n)).low <= p <= w.high for i in k]
        assert binom.pmf(k, n, p)[held].sum() > 0.92
    assert wilson_interval(0, 10).low == 0
    assert wilson_interval(10, 10).high == 1
    assert wilson_interval(8, 10)[1:] == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_mcnemar_is_the_exact_binomial():
    assert mcnemar(5, 15) == pytest.approx(2 * binom.cdf(5, 20, 0.5))
    assert mcnemar(7, 7) == 1
    assert mcnemar(0, 0) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([]).size == 0


def test_permutation_p_is_never_zero_and_uniform_under_the_null():
    assert permutation_p(5.0, [1, 2, 3]) == 0.25
    assert permutation_p(2.0, [1, 2, 3]) == 0.75
    rng = np.random.default_rng(0)
    p = [permutation_p(*(lambda v: (v[0], v[1:]))(rng.random(20))) for _ in range(2000)]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("items", [10, 16, 50, 200, 800])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_minimum_detectable_effect_is_detected_as_often_as_promised(items: int, noise: float):
    """Some items change by chance, as often one way as the other, and the effect changes others."""
    effect = minimum_detectable_effect(items, noise)
    up, down = min(noise / 2 + effect, 1 - noise / 2), noise / 2
    draws = np.random.default_rng(0).multinomial(items, [up, down, max(0.0, 1 - up - down)], size=1000)
    power = np.mean([mcnemar(int(b), int(c)) < 0.05 for b, c, _ in draws])
    assert 0.7 < power < 0.87


def test_a_minimum_detectable_effect_shrinks_with_the_sample_and_grows_with_clusters():
    effect = minimum_detectable_effect(800, 0.2)
    assert minimum_detectable_effect(3200, 0.2) == pytest.approx(effect / 2, rel=0.1)
    assert minimum_detectable_effect(1600, 0.2, design_effect=2) == pytest.approx(effect)
    assert minimum_detectable_effect(400, 0.2) == pytest.approx(minimum_detectable_effect(401, 0.2), rel=0.05)
    assert np.isnan(minimum_detectable_effect(3, 0.05))


@pytest.mark.parametrize("draw", ["standard_normal", "standard_exponential", "standard_cauchy"])
def test_a_two_sided_rank_p_has_its_size_whatever_the_distribution_and_a_distance_from_the_mean_has_not(draw: str):
    values = getattr(np.random.default_rng(0), draw)((4000, 40))
    rejected = np.mean([two_sided_p(one[0], one[1:]) <= 0.05 for one in values])
    assert 0.04 < rejected < 0.06
    assert two_sided_p(9.0, np.arange(8)) == pytest.approx(2 / 9)
    assert two_sided_p(3.5, np.arange(8)) == 1
