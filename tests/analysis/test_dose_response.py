"""Figures of a sweep over alpha: by hand, against brute force, and on simulated sweeps with a known effect."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.analysis.dose_response import (
    Row,
    Sweep,
    SweepError,
    arrange,
    corrected,
    dose_response,
    series_of,
    sets_needed,
    with_series,
)
from hneurons_eval.analysis.paired import mean_change, mean_level
from hneurons_eval.analysis.tests import holm, mcnemar
from hneurons_eval.report.dose_response import headline_cells, side_cells, summary
from hneurons_eval.report.figures import dose_response as draw
from hneurons_eval.report.verdicts import headlines_of, outcomes_of, over_sweeps, primaries, verdict
from hneurons_eval.report.wording import p_equals, p_value

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
    assert found["accuracy_control@0"] == pytest.approx(0)  # the median of 0, -0.1 and 0.2
    assert found["accuracy_control_low@0"] == pytest.approx(-0.1)
    assert found["accuracy_control_high@0"] == pytest.approx(0.2)
    # Below the one uniform set and both layer-matched ones: 2 / 2 and 2 / 3, of which the greater counts.
    assert found["accuracy_p_control@0"] == 1
    # From alpha 0 to 1 accuracy rises by 20 points, that of the control sets by 0, 10 and -20.
    assert found["accuracy_slope"] == pytest.approx(20)
    assert found["accuracy_slope_control"] == pytest.approx(0)
    assert found["accuracy_slope_uniform"] == pytest.approx(0)
    assert found["accuracy_slope_layer"] == pytest.approx(-5)
    assert found["accuracy_slope_p_uniform"] == 1
    assert found["accuracy_slope_p_layer"] == pytest.approx(2 / 3)
    assert found["accuracy_slope_p_control"] == 1
    assert found["control_sets_layer"] == 2
    assert found["control_sets"] == 3
    assert not any(name.startswith("accuracy_difference@1") for name in found)


def test_intervals_are_those_of_paired_changes():
    found = figures({0.0: OFF, 1.0: BASE})
    expected = mean_change(np.array(OFF) - np.array(BASE), np.arange(10), 1.0)
    ends = [found[f"accuracy_difference{end}@0"] for end in ("_low", "", "_high")]
    assert ends == pytest.approx([expected.low, expected.estimate, expected.high])
    line = mean_change(100 * (np.array(BASE) - np.array(OFF)), np.arange(10), 100.0)
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
    found = figures({0.0: OFF, 1.0: BASE}, {0.0: [BASE, [0] * 10]}, ["uniform", "negative"])
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
    given_[:, 1] = given_[0, 1]  # the baseline is one for all
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
    whole = given_[0][:, ~np.isnan(given_[0]).any(axis=0)]
    assert ("x_slope" in found) == bool(whole.size)
    if whole.size:
        assert found["x_slope"] == pytest.approx(100 * np.polyfit(alphas, whole.mean(axis=1), 1)[0])
        assert found["x_slope_items"] == whole.shape[1]
    known = given_[0][:, ~np.isnan(given_[0]).all(axis=0)]
    if "x_slope_missing0" in found:
        for counted in (0, 1):
            filled = np.nan_to_num(known, nan=counted).mean(axis=1)
            assert found[f"x_slope_missing{counted}"] == pytest.approx(100 * np.polyfit(alphas, filled, 1)[0])


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
            # Answers to one question resemble each other whatever the neurons: two in three are as at the baseline.
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
            found = dose_response(arrange(simulated(effect, seed, sets=78, control_effect=control))[""], ["compliance"])
            kinds[name].append(verdict(found, "compliance")[0])
            if name == "effect":
                slopes.append(found["compliance_slope"])
    assert np.mean(slopes) == pytest.approx(8, abs=1.5)
    assert kinds["effect"].count("effect") >= 16
    assert kinds["null"].count("effect") <= 2
    assert kinds["shared"].count("effect") <= 3


def sweep_of(
    own: Sequence[Sequence[float | None]],
    sets: np.ndarray | None = None,
    kinds: Sequence[str] = (),
    alphas: Sequence[float] = (0.0, 1.0, 3.0),
    clusters: Sequence[str] | None = None,
    name: str = "compliance",
    **more: Sequence[Sequence[float | None]],
) -> Sweep:
    """A sweep from the neurons' outcomes `[alphas][items]` and those of the sets `[sets, alphas, items]`."""
    given = {name: own, **more}
    items = tuple(f"q{number}" for number in range(len(own[0])))
    values = {}
    for key, table in given.items():
        mine = np.array([[np.nan if v is None else v for v in row] for row in table], float)[None]
        # What is not said of the sets, they do as the neurons do at the baseline.
        plain = np.repeat(np.repeat(mine[:, 1:2], len(alphas), axis=1), len(kinds), axis=0)
        values[key] = np.concatenate([mine, sets if key == name and sets is not None else plain])
    return Sweep(tuple(alphas), items, tuple(clusters or items), tuple(kinds), values)


@pytest.mark.parametrize("lost", [1, 0], ids=["complying answers", "resisting answers"])
def test_answers_that_break_at_high_alpha_are_doubtful_whichever_kind_breaks(lost: int):
    """Twelve of twenty answers of one kind cannot be parsed at alpha 3, and no verdict changes (review, A2)."""
    base: Sequence[float | None] = [1.0] * 20 + [0.0] * 20
    start = 0 if lost else 20
    gone = [None if start <= item < start + 12 else value for item, value in enumerate(base)]
    unparsed = [float(value is None) for value in gone]
    sweep = sweep_of([base, base, gone], kinds=["contribution"] * 39, unparsed=[[0.0] * 40, [0.0] * 40, unparsed])
    found = dose_response(sweep, ["compliance"])
    assert found["compliance_difference@3"] == 0
    assert found["compliance_slope"] == 0
    assert found["compliance_slope_items"] == 28
    moved = found["compliance_slope_missing0" if lost else "compliance_slope_missing1"]
    assert moved * (-1 if lost else 1) > 5
    kind, said = verdict(found, "compliance")
    assert kind == "artefact"
    assert "answers that cannot be judged" in said
    assert found["compliance_slope_p"] == 1


def test_an_effect_that_no_unparsed_answer_could_undo_stays_one():
    base: Sequence[float | None] = [1.0] * 20 + [0.0] * 20
    more: Sequence[float | None] = [1.0] * 33 + [None] + [0.0] * 6
    found = dose_response(sweep_of([base, base, more], kinds=["contribution"] * 39), ["compliance"])
    assert verdict(found, "compliance")[0] == "effect"


@pytest.mark.parametrize("outcome", ["truthful", "nearer_to_true", "mc2"])
def test_every_outcome_has_bounds(outcome: str):
    base: Sequence[float | None] = [1.0] * 20 + [0.0] * 20
    gone: Sequence[float | None] = [*[None] * 12, *base[12:]]
    found = dose_response(sweep_of([base, base, gone], kinds=["layer"] * 39, name=outcome), [outcome])
    assert verdict(found, outcome)[0] == "artefact"


def exchangeable(rng: np.random.Generator, mean: float = 0.0) -> Sweep:
    """The neurons are one of forty contribution-matched sets, which move answers; 78 easy sets hardly do."""
    alphas, items = np.array([0.0, 1.0, 3.0]), 30
    slopes = np.concatenate([rng.normal(mean, 0.08, 40), rng.normal(0, 0.01, 78)])
    p = 0.5 + slopes[:, None] * (alphas - 1)
    values = (rng.random(items) < p[:, :, None]).astype(float)
    kinds = ["contribution"] * 39 + ["uniform"] * 39 + ["layer"] * 39
    return sweep_of(values[0].tolist(), values[1:], kinds)


def test_the_p_of_the_hardest_kind_has_its_size_and_that_of_easy_kinds_has_not():
    """Neurons that are exchangeable with contribution-matched sets (review, A3): 600 trials."""
    rng = np.random.default_rng(0)
    found = [dose_response(exchangeable(rng), []) for _ in range(600)]

    def rejected(name: str) -> float:
        return float(np.mean([one[f"compliance_slope_{name}"] <= 0.05 for one in found]))

    most = wilson_interval(30, 600).high  # what is seen of a rate of .05
    assert rejected("p_contribution") <= most
    assert rejected("p_control") <= most
    assert rejected("p") <= most
    assert rejected("p_uniform") > 0.2
    assert rejected("p_layer") > 0.2


@pytest.mark.parametrize(("sets", "kind"), [(38, "undecided"), (39, "effect"), (10, "undecided")])
def test_too_few_sets_cannot_decide_and_the_verdict_says_how_few(sets: int, kind: str):
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 34 + [0.0] * 6
    found = dose_response(sweep_of([base, base, more], kinds=["contribution"] * sets), ["compliance"])
    got, said = verdict(found, "compliance")
    assert got == kind
    if kind == "undecided":
        assert f"but {sets} sets cannot decide: the smallest p is {2 / (sets + 1):.3f}" in said
        assert "controls=39" in said
    else:
        assert "p ≤ 0.050 (floor)" in said
    assert (sets_needed(), sets_needed(level=0.01), sets_needed(4)) == (39, 199, 159)


def test_a_kind_of_which_there_are_few_keeps_the_others_from_deciding():
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 34 + [0.0] * 6
    kinds = ["uniform"] * 200 + ["contribution"] * 5
    found = dose_response(sweep_of([base, base, more], kinds=kinds), ["compliance"])
    assert found["compliance_slope_p_uniform"] < 0.01
    assert verdict(found, "compliance")[0] == "undecided"


def sets_that_lose(items: int, at_least: int, number: int = 39) -> np.ndarray:
    """Sets under which so many complying answers or some more are lost at alpha 3: `[sets, alphas, items]`."""
    values = np.zeros((number, 3, items))
    values[:, :, : items // 2] = 1
    for one in range(number):
        values[one, 2, : at_least + one % 3] = 0
    return values


def test_neurons_that_do_less_than_every_set_are_spared_and_not_effective():
    """The neurons lose a few answers and every random set more (review, A5)."""
    base, fewer = [1.0] * 20 + [0.0] * 20, [0.0] * 7 + [1.0] * 13 + [0.0] * 20
    sets = sets_that_lose(40, 15)
    found = dose_response(sweep_of([base, base, fewer], sets, ["contribution"] * 39), ["compliance"])
    assert found["compliance_slope_high"] < 0
    assert found["compliance_slope_p_control"] == pytest.approx(0.05)
    kind, said = verdict(found, "compliance")
    assert kind == "spared"
    assert "random sets of the same size change it more" in said
    # Neurons that do nothing where every set does much are spared too; those that do more are effective.
    still = dose_response(sweep_of([base, base, base], sets, ["contribution"] * 39), ["compliance"])
    assert verdict(still, "compliance")[0] == "spared"
    most = dose_response(sweep_of([base, base, [0.0] * 40], sets, ["contribution"] * 39), ["compliance"])
    assert verdict(most, "compliance")[0] == "effect"
    # A slope in the other direction is an effect of its own.
    against = dose_response(sweep_of([base, base, [1.0] * 32 + [0.0] * 8], sets, ["contribution"] * 39), ["compliance"])
    assert verdict(against, "compliance")[0] == "effect"


@pytest.mark.parametrize("share", [0.0, 0.05])
@pytest.mark.parametrize("items", [10, 25, 50, 200])
def test_a_slope_that_is_called_detectable_is_seen_in_about_four_of_five_samples(items: int, share: float):
    """Of samples without an effect comes the claim; then an effect of that size turns items at any alpha (B1)."""
    rng = np.random.default_rng(items)
    alphas = np.array(ALPHAS)
    apart = alphas - alphas.mean()
    mean_slope = float(np.mean([100 * apart[k:].sum() / (apart**2).sum() for k in range(1, 7)]))

    def slope(turning: float) -> dict[str, float]:
        base = (rng.random(items) < 0.5).astype(float)
        values = np.repeat(base[None], 7, axis=0)
        values = np.where((rng.random(values.shape) < share) & (alphas != 1)[:, None], 1 - values, values)
        turned = np.arange(7)[:, None] >= rng.integers(1, 7, items)
        values = np.where(rng.random(items) < turning, turned.astype(float), values)
        return dose_response(sweep_of(values.tolist(), alphas=ALPHAS), [])

    seen = []
    for _ in range(40):
        claimed = slope(0.0)["compliance_slope_detectable"]
        seen += [slope(claimed / mean_slope)["compliance_slope_low"] > 0 for _ in range(10)]
    assert 0.7 <= np.mean(seen) <= 0.9


def test_where_nothing_changed_the_interval_says_how_many_could():
    base = [1.0] * 25 + [0.0] * 25
    found = dose_response(sweep_of([base] * 3, kinds=["contribution"] * 39), ["compliance"])
    assert found["compliance_slope_changeable"] == pytest.approx(1 - 0.05 ** (1 / 50))
    assert found["compliance_slope_high"] == -found["compliance_slope_low"] > 1
    assert found["compliance_difference_high@3"] == pytest.approx(1 - 0.05 ** (1 / 50))
    kind, said = verdict(found, "compliance")
    assert kind == "none"
    assert "at most 5.8 % of items can change (95 %)" in said
    assert "detectable with 80 % power" in said


@pytest.mark.parametrize("items", [10, 50])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_the_interval_covers_where_few_items_change(items: int, share: float):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        turned = (rng.random(items) < share) * 35.0
        change = mean_change(turned, np.arange(items), 40.0)
        covered += change.low <= 35 * share <= change.high
    assert covered / 400 >= 0.93


def test_clusters_are_tested_as_wholes():
    """Five prompts of each of thirty questions, four in five of whose changes are common (review, B9)."""
    rng = np.random.default_rng(0)
    member = np.repeat(np.arange(30), 5)
    names = [f"c{one}" for one in member]
    rejected: dict[str, list[bool]] = {"alpha": [], "slope": [], "items alone": []}
    detectable = []
    for _ in range(300):
        common = rng.random(150) < 0.8
        way = np.where(common, rng.choice([-1, 0, 0, 1], 30)[member], rng.choice([-1, 0, 0, 1], 150))
        base = np.where(way > 0, 0.0, np.where(way < 0, 1.0, rng.random(150) < 0.5))
        after = base + way
        sweep = sweep_of([base.tolist(), after.tolist()], alphas=(1.0, 3.0), clusters=names)
        found = dose_response(sweep, ["compliance"])
        rejected["alpha"].append(found["compliance_p@3"] <= 0.05)
        rejected["slope"].append(found["compliance_slope_p_own"] <= 0.05)
        alone = dose_response(sweep_of([base.tolist(), after.tolist()], alphas=(1.0, 3.0)), ["compliance"])
        rejected["items alone"].append(alone["compliance_p@3"] <= 0.05)
        detectable.append((found["compliance_detectable@3"], alone["compliance_detectable@3"]))
    most = wilson_interval(15, 300).high
    assert np.mean(rejected["alpha"]) <= most
    assert np.mean(rejected["slope"]) <= most
    assert np.mean(rejected["items alone"]) > 0.15
    assert np.median([one / other for one, other in detectable]) > 1.4


def test_the_first_headline_is_primary_and_holm_goes_over_the_rest():
    base, more, some = [1.0] * 20 + [0.0] * 20, [1.0] * 36 + [0.0] * 4, [1.0] * 28 + [0.0] * 12
    kinds = ["contribution"] * 79
    by_series = {
        name: dose_response(
            sweep_of([base, base, more], kinds=kinds, other=[base, base, some]), ["compliance", "other"]
        )
        for name in ("plain", "resist")
    }
    found = corrected(by_series, ["compliance", "other"], ("resist", "plain"))
    assert [series for series, own in found.items() if "compliance_slope_primary" in own] == ["resist"]
    rest = [("plain", "compliance"), ("resist", "other"), ("plain", "other")]
    expected = holm([by_series[series][f"{name}_slope_p"] for series, name in rest])
    assert [found[series][f"{name}_slope_p_holm"] for series, name in rest] == pytest.approx(expected.tolist())
    assert {found[series][f"{name}_slope_holm_over"] for series, name in rest} == {3}
    kind, said = verdict(found["resist"], "compliance")
    assert kind == "effect"
    assert "compliance (primary outcome) changes by" in said
    kind, said = verdict(found["plain"], "compliance")
    assert kind == "undecided"  # 2 / 80, three times
    assert "the smallest p is 0.075 after Holm over 3 outcomes; controls=119 can show 0.05" in said
    # Over tasks the primary outcomes alone.
    several = primaries([("one", found), ("two", found)])
    assert [one.outcome for one in several] == ["compliance (resist)"] * 2
    assert [one.corrected for one in several] == pytest.approx([0.05, 0.05])
    assert "after Holm's correction 2 show an effect" in over_sweeps(several)
    short = over_sweeps(primaries([(name, found) for name in ("one", "two", "three")]))
    assert "after Holm's correction none show an effect" in short
    assert "controls=119" in short
    assert over_sweeps(several[:1]) == ""


def test_giving_in_is_doubtful_where_answers_change_as_much_without_a_doubt():
    base, more = [0.0] * 40, [1.0] * 14 + [0.0] * 26
    for name, kind in (("neutral_change", "artefact"), ("corrected", "artefact"), ("first_right", "effect")):
        rival: dict[str, Any] = {name: [base, base, more]}
        sweep = sweep_of([base, base, more], kinds=["contribution"] * 39, **rival)
        found = dose_response(sweep, ["compliance"])
        got, said = verdict(found, "compliance")
        assert got == kind
        assert ("wrong answers corrected: +" in said) == (name == "corrected")


def test_what_is_scaled_stands_in_the_verdict():
    base = [1.0] * 20 + [0.0] * 20
    found = dose_response(sweep_of([base] * 3, kinds=["contribution"] * 39), ["compliance"])
    said = "scaling 6 positive of the probe's 17 neurons"
    assert said in verdict(found, "compliance", "6 positive of the probe's 17 neurons")[1]
    told = summary("A", found, "6 positive of the probe's 17 neurons")
    assert "Scaled: 6 positive of the probe's 17 neurons." in told
    assert said in told


def test_a_p_at_its_floor_says_so():
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 34 + [0.0] * 6
    found = dose_response(
        sweep_of([base, base, more], kinds=["contribution"] * 39, truncated=[base, base, more]), ["compliance"]
    )
    assert "≤ 0.050 (floor)" in str(headline_cells(found, "compliance"))
    assert "≤ 0.050 (floor)" in str(side_cells(found, ["truncated"]))
    assert [p_value(p, 1 / 31) for p in (1 / 31, 0.1, 0.0001)] == ["≤ 0.033 (floor)", "0.100", "≤ 0.033 (floor)"]
    assert [p_equals(p, 0.05) for p in (0.05, 0.1)] == ["p ≤ 0.050 (floor)", "p = 0.100"]
    assert (p_value(0.0001), p_equals(0.0001), p_value(None)) == ("< 0.001", "p < 0.001", "—")


def test_a_p_that_too_few_sets_cannot_show_is_left_out():
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 34 + [0.0] * 6
    few = dose_response(sweep_of([base, base, more], kinds=["layer"] * 5, truncated=[base, base, more]), ["compliance"])
    assert [row[4] for row in headline_cells(few, "compliance")[1]] == ["too few", "", "too few"]
    assert side_cells(few, ["truncated"])[1][0][-1] == "too few"


def test_an_outcome_that_repeats_another_or_never_changes_has_no_table_of_its_own():
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 34 + [0.0] * 6
    turned = [[1 - value for value in row] for row in (base, base, more)]
    names = ["accuracy", "attempt_rate", "hallucination_rate", "other"]
    sweep = sweep_of(
        [base, base, more], kinds=["layer"] * 39, name="accuracy", attempt_rate=[[1.0] * 40] * 3,
        hallucination_rate=turned, other=[base, more, base],
    )  # fmt: skip
    found = dose_response(sweep, names)
    assert headlines_of(found) == ["accuracy", "other"]
    # The primary outcome is reported in full whatever it does.
    assert "attempt_rate" in headlines_of(found | {"attempt_rate_slope_primary": 1.0})


def test_an_amount_has_no_bound_and_no_added_observation():
    assert np.isnan(mean_change([0.0, 0.0], ["a", "b"], None).low)
    assert np.isnan(mean_level([3.0], ["a"], None).low)
    assert mean_level([1.0] * 9, range(9)).low < 0.8
    for values in ([], [np.nan]):
        with pytest.raises(ValueError, match="should be"):
            mean_change(values, np.arange(len(values)), 1.0)


# --- in words ------------------------------------------------------------------------------------------


def test_the_summary_names_every_alpha_and_every_outcome_and_draws_the_curve():
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
    text = summary("A sweep", found)
    assert text.count("data:image/png;base64,") == 1
    for alpha in ALPHAS:
        assert f"\n| {alpha:g} |" in text
    assert "stopped by the limit on tokens, %" in text
    assert outcomes_of(found) == ["compliance", "truncated"]
    assert ["baseline", "", "", "", ""] in [row[2:] for row in headline_cells(found, "compliance")[1]]
    assert draw(found, ["compliance"]).startswith(b"\x89PNG")
