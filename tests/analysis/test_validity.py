"""A small run of the self-test of the statistics (benchmarks/validity.py): planted effects are seen, nulls are not."""

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks() -> Any:
    """The benchmarks as modules."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def test_a_planted_effect_is_detected_adds_and_beats_sets_and_a_null_is_not():
    import validity_probe

    planted = validity_probe.one_trial("planted", 144, 120, 3)
    nulls = [validity_probe.one_trial("null", 96, 60, seed) for seed in range(2)]
    for how in ("held out", "fresh"):
        for verdict in ("detects", "adds", "better neurons"):
            assert planted[f"{how}: verdict {verdict}"] == 1.0
            assert sum(one[f"{how}: verdict {verdict}"] for one in nulls) <= 1
    for claims in validity_probe.NULLS.values():
        # A claim that is misspelt would never be counted as wrong.
        assert all(any(what.split(": ", 1)[-1].startswith(claim) for what in planted) for claim in claims)


def test_a_weak_probe_of_a_redundant_world_is_told_from_one_that_adds():
    import validity_probe

    found = [validity_probe.one_trial("redundant", 144, 60, seed) for seed in range(2)]
    assert sum(one["fresh: verdict detects"] for one in found) >= 1
    assert sum(one["fresh: verdict adds"] for one in found) <= 1


def test_sweeps_of_planted_effects_and_nulls():
    import validity_sweeps

    rates = {(rate.scene, rate.what): rate.rate for rate in validity_sweeps.trials(12)}
    nulls = {scene.name for scene in validity_sweeps.SCENES if scene.null}
    assert all(rates[name, "verdict effect"] <= 3 / 12 for name in nulls)
    assert max(rates[scene.name, "verdict effect"] for scene in validity_sweeps.SCENES if not scene.null) >= 10 / 12


def test_rates_beyond_their_aim_are_marked():
    import validity

    rates = [
        validity.Rate("null", "p", 0.12, 0.08, 0.17, 200, validity.NULL),
        validity.Rate("null", "p", 0.06, 0.03, 0.1, 200, validity.NULL),
        validity.Rate("any", "interval", 0.8, 0.74, 0.85, 200, validity.COVERS),
        validity.Rate("effect", "p", 0.9, 0.8, 0.95, 50),
    ]
    assert [one.missed for one in rates] == [True, False, True, False]
    text = validity.rates_table(rates)
    assert text.count("**") == 4
    for part in (*validity.PARTS, "criterion"):
        page = validity.PAGE.read_text(encoding="utf-8")
        assert page.index(validity.START.format(part)) < page.index(validity.END.format(part))
