"""Figures of a sweep over alpha: by hand, against brute force, and on simulated sweeps with a known effect."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hneurons_eval.dose_response import NEGATIVE, Row, SweepError, arrange, dose_response, series_of, with_series
from hneurons_eval.report.dose_response import account, headline_table, outcomes_of, verdict
from hneurons_eval.report.figures import dose_response as draw
from hneurons_eval.statistics import holm, mcnemar, paired_difference, slope, wilson_interval

ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
ITEMS = [f"q{k}" for k in range(10)]
BASE = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
OFF = [1, 1, 0, 0, 0, 1, 0, 0, 0, 0]


def rows(
    by_alpha: dict[float, Sequence[float | None]],
    controls: dict[float, Sequence[Sequence[float | None]]] | None = None,
    kinds: Sequence[str] = (),
    name: str = "accuracy",
) -> list[Row]:
    """A row for each item and alpha, from lists of values over items."""
    found = []
    for alpha, values in by_alpha.items():
        sets = (controls or {}).get(alpha, ())
        for number, value in enumerate(values):
            given = [value, *(one[number] for one in sets)]
            found.append(Row(ITEMS[number], alpha, {name: given}, kinds=() if alpha == 1 else kinds))
    return found


def figures(*args, headlines: Sequence[str] = ("accuracy",), **kwargs) -> dict[str, float]:
    return dose_response(arrange(rows(*args, **kwargs))[""], headlines)


def test_figures_are_those_computed_by_hand():
    less, more = [0, *BASE[1:]], [*BASE[:5], 1, 1, *BASE[7:]]
    found = figures({0.0: OFF, 1.0: BASE}, {0.0: [BASE, less, more]}, ["uniform", "layer", "layer"])
    assert found["accuracy@1"] == 0.5
    assert found["accuracy@0"] == 0.3
    assert found["accuracy_low@0"] == pytest.approx(wilson_interval(3, 10).low)
    assert found["accuracy_difference@0"] == pytest.approx(-0.2)
    # three lost (q2, q3, q4), one won (q5)
    assert found["accuracy_p@0"] == pytest.approx(mcnemar(3, 1))
    assert found["accuracy_control@0"] == pytest.approx((0 - 0.1 + 0.2) / 3)
    assert found["accuracy_control_low@0"] == pytest.approx(-0.1)
    assert found["accuracy_control_high@0"] == pytest.approx(0.2)
    # |-0.2 - 0.0333| = 0.2333 is further from the controls' mean than any control is.
    assert found["accuracy_p_control@0"] == pytest.approx(1 / 4)
    # From alpha 0 to 1 accuracy rises by 20 points, that of the control sets by 0, 10 and -20.
    assert found["accuracy_slope"] == pytest.approx(20)
    assert found["accuracy_slope_control"] == pytest.approx(-10 / 3)
    assert found["accuracy_slope_uniform"] == pytest.approx(0)
    assert found["accuracy_slope_layer"] == pytest.approx(-5)
    assert found["accuracy_slope_p_control"] == pytest.approx(1 / 4)
    assert found["control_sets"] == 3
    assert not any(name.startswith("accuracy_difference@1") for name in found)


def test_intervals_are_the_paired_bootstrap_ones():
    found = figures({0.0: OFF, 1.0: BASE})
    expected = paired_difference(np.array(BASE, float), np.array(OFF, float), seed=0)
    ends = [found[f"accuracy_difference{end}@0"] for end in ("_low", "", "_high")]
    assert ends == pytest.approx([expected.low, expected.estimate, expected.high])
    line = slope([0.0, 1.0], np.stack([OFF, BASE], axis=1) * 100.0, seed=0)
    assert [found[f"accuracy_slope{end}"] for end in ("_low", "", "_high")] == pytest.approx(
        [line.low, line.estimate, line.high]
    )
    assert not any("control@" in name for name in found)


def test_p_values_are_corrected_over_alphas():
    found = figures({0.0: OFF, 1.0: BASE, 3.0: [1] * 10})
    raw = [mcnemar(3, 1), mcnemar(0, 5)]
    assert [found["accuracy_p@0"], found["accuracy_p@3"]] == pytest.approx(holm(raw).tolist())


def test_differences_are_paired_by_item_and_need_a_no_op():
    found = figures({0.0: [*OFF[:4], *[None] * 6], 1.0: BASE})
    assert found["accuracy_difference@0"] == pytest.approx(-0.5)
    assert found["accuracy_items@0"] == 4
    alone = figures({0.0: OFF}, {0.0: [OFF]}, ["uniform"])
    assert alone["accuracy@0"] == 0.3
    assert not any("difference" in name or "slope" in name for name in alone)


def test_negative_neurons_are_no_part_of_the_permutation():
    found = figures({0.0: OFF, 1.0: BASE}, {0.0: [BASE, [0] * 10]}, ["uniform", NEGATIVE])
    assert found["control_sets"] == 1
    assert found["accuracy_slope_control"] == pytest.approx(0)
    assert found["accuracy_slope_negative"] == pytest.approx(50)


def test_amounts_have_slopes_in_their_own_unit_and_outcomes_that_are_no_headline_no_differences():
    found = dose_response(arrange(rows({0.0: [10] * 10, 1.0: [14] * 10}, name="response_tokens"))[""], ["accuracy"])
    assert found["response_tokens_slope"] == pytest.approx(4)
    assert not any("difference" in name for name in found)


def test_whole_clusters_are_drawn():
    """Ten copies of one item are no more evidence than the item."""
    alone = [Row(f"q{k}", alpha, {"x": [float((k + int(alpha)) % 3 == 0)]}) for k in range(12) for alpha in (0.0, 1.0)]
    copies = [
        Row(f"{row.item}-{copy}", row.alpha, row.outcomes, cluster=row.item) for row in alone for copy in range(10)
    ]
    one, ten = (dose_response(arrange(own)[""], ["x"]) for own in (alone, copies))
    for name in ("x_slope", "x_slope_low", "x_slope_high", "x_difference_low@0"):
        assert ten[name] == pytest.approx(one[name])
    assert ten["items"] == 120
    assert ten["clusters"] == 12


@given(hnp.arrays(np.int8, (3, 4, 9), elements=st.integers(-1, 1)))
@settings(max_examples=60, deadline=None)
def test_curves_and_slopes_are_those_of_numpy_whatever_is_missing(values: np.ndarray):
    """-1 stands for an outcome that is not defined."""
    alphas = (0.0, 1.0, 2.0, 3.0)
    given_ = np.where(values < 0, np.nan, values.astype(float))
    given_[:, 1] = given_[0, 1]  # the no-op is one for all
    own = [
        Row(
            f"q{item}",
            alpha,
            {"x": [None if np.isnan(v) else v for v in (given_[:, a, item] if alpha != 1 else given_[:1, a, item])]},
            kinds=() if alpha == 1 else ("uniform", "layer"),
        )
        for item in range(9)
        for a, alpha in enumerate(alphas)
    ]
    found = dose_response(arrange(own)[""], ["x"])
    for a, alpha in enumerate(alphas):
        here = given_[0, a]
        if np.isnan(here).all():
            assert f"x@{alpha:g}" not in found
        else:
            assert found[f"x@{alpha:g}"] == pytest.approx(np.nanmean(here))
            assert found[f"x_low@{alpha:g}"] <= found[f"x@{alpha:g}"] + 1e-9
    if not np.isnan(given_[0]).all(axis=1).any():
        assert found["x_slope"] == pytest.approx(100 * np.polyfit(alphas, np.nanmean(given_[0], axis=1), 1)[0])


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(SweepError, match="q0 stands twice at alpha 0"):
        arrange([Row("q0", 0.0, {"x": [1]}), Row("q0", 0.0, {"x": [0]})])
    with pytest.raises(SweepError, match="other control sets"):
        arrange([Row("a", 0.0, {"x": [1, 1]}, kinds=["uniform"]), Row("b", 0.0, {"x": [1, 1]}, kinds=["layer"])])
    with pytest.raises(SweepError, match="0 control answers, expected 1"):
        arrange([Row("a", 0.0, {"x": [1, 1]}, kinds=["uniform"]), Row("b", 0.0, {"x": [1]}, kinds=["uniform"])])


def test_series_are_arranged_apart_and_named_where_there_are_several():
    both = [Row("q", alpha, {"x": [alpha]}, series=series) for series in ("plain", "resist") for alpha in (0.0, 1.0)]
    found = with_series({series: dose_response(sweep, ["x"]) for series, sweep in arrange(both).items()})
    assert found["plain/x@1"] == found["resist/x@1"] == 1
    assert sorted(series_of(found)) == ["plain", "resist"]
    assert "x@1" in with_series({"plain": {"x@1": 1.0}})
    assert arrange([]) == {}


# --- simulated sweeps ----------------------------------------------------------------------------------


def simulated(effect: float, seed: int, items: int = 60, sets: int = 20, control_effect: float = 0.0) -> list[Row]:
    """Items that differ in how easily they comply; `effect` is added to each one's probability per unit of alpha."""
    rng = np.random.default_rng(seed)
    ease = rng.uniform(0.25, 0.6, items)
    effects = [effect, *(control_effect + rng.normal(0, 0.002, sets))]
    found = []
    for item in range(items):
        base = float(rng.random() < ease[item])
        for alpha in ALPHAS:
            if alpha == 1:
                found.append(Row(f"q{item}", alpha, {"compliance": [base]}))
                continue
            p = np.clip([ease[item] + slope_ * (alpha - 1) for slope_ in effects], 0, 1)
            # Answers to one question resemble each other whatever the neurons: two in three are as at the no-op.
            same = rng.random(1 + sets) < 0.5
            drawn = np.where(same, rng.random() < p, rng.random(1 + sets) < p).astype(float)
            found.append(
                Row(f"q{item}", alpha, {"compliance": drawn.tolist()}, kinds=["uniform", "layer"] * (sets // 2))
            )
    return found


@pytest.mark.parametrize("effect", [0.0, 0.06])
def test_the_interval_of_the_slope_covers_the_true_slope_as_often_as_it_says(effect: float):
    covered = 0
    runs = 200
    for seed in range(runs):
        own = [
            Row(row.item, row.alpha, {"compliance": row.outcomes["compliance"][:1]})
            for row in simulated(effect, seed, sets=0)
        ]
        found = dose_response(arrange(own)[""], [])
        covered += found["compliance_slope_low"] <= 100 * effect <= found["compliance_slope_high"]
    # 95 % of 200: 190, binomial standard deviation 3.
    assert 178 <= covered <= 199


def test_a_planted_effect_is_found_at_its_size_and_a_null_is_not():
    kinds: dict[str, list[str]] = {"effect": [], "null": [], "shared": []}
    slopes = []
    for seed in range(20):
        for name, effect, control in (("effect", 0.08, 0.0), ("null", 0.0, 0.0), ("shared", 0.08, 0.08)):
            found = dose_response(arrange(simulated(effect, seed, control_effect=control))[""], ["compliance"])
            kinds[name].append(verdict(found, "compliance")[0])
            if name == "effect":
                slopes.append(found["compliance_slope"])
    assert np.mean(slopes) == pytest.approx(8, abs=1.5)
    assert kinds["effect"].count("effect") >= 16
    assert kinds["null"].count("effect") <= 2
    assert kinds["shared"].count("effect") <= 4


def test_what_would_have_been_seen_is_about_what_is_seen_in_four_of_five():
    seen = 0
    detectable = np.median(
        [dose_response(arrange(simulated(0.0, s, sets=0))[""], [])["compliance_slope_detectable"] for s in range(10)]
    )
    for seed in range(100):
        found = dose_response(arrange(simulated(float(detectable) / 100, seed, sets=0))[""], [])
        seen += found["compliance_slope_low"] > 0
    assert 65 <= seen <= 93


def test_an_effect_that_unparsed_answers_make_is_called_doubtful():
    """Compliance of what can be parsed rises only because those that resist can no longer be parsed."""
    found_rows = []
    for item in range(100):
        for k, alpha in enumerate(ALPHAS):
            complies = item < 50
            unparsed = not complies and item - 50 < 5 * k
            found_rows.append(
                Row(
                    f"q{item}",
                    alpha,
                    {
                        "compliance": [None if unparsed else float(complies)] * (1 if alpha == 1 else 3),
                        "compliance_of_all": [float(complies)] * (1 if alpha == 1 else 3),
                        "unparsed": [float(unparsed)] * (1 if alpha == 1 else 3),
                    },
                    kinds=() if alpha == 1 else ["uniform"] * 2,
                )
            )
    found = dose_response(arrange(found_rows)[""], ["compliance", "compliance_of_all"])
    assert found["compliance_slope_low"] > 0
    assert verdict(found, "compliance")[0] == "artefact"
    assert verdict(found, "compliance_of_all")[0] == "none"


# --- in words ------------------------------------------------------------------------------------------


def test_the_account_names_every_alpha_and_every_outcome_and_draws_the_curve():
    own = [
        Row(
            row.item,
            row.alpha,
            {**row.outcomes, "truncated": [0.0] * len(row.outcomes["compliance"])},
            kinds=row.kinds,
        )
        for row in simulated(0.08, 1)
    ]
    found = dose_response(arrange(own)[""], ["compliance"])
    text = account("A sweep", found, ["compliance"])
    assert text.count("data:image/png;base64,") == 1
    for alpha in ALPHAS:
        assert f"\n| {alpha:g} |" in text
    assert "stopped by the limit on tokens, %" in text
    assert outcomes_of(found) == ["compliance", "truncated"]
    assert "no-op" in headline_table(found, "compliance")
    assert draw(found, ["compliance"]).startswith(b"\x89PNG")
