"""Calibration is judged against its null, and Platt's recalibration finds what was planted."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from hneurons_eval.analysis.calibration import Platt, brier_skill, calibration, fit_platt
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.util.files import sealed


def test_perfect_probabilities_are_flagged_as_rarely_as_the_p_says():
    rng = np.random.default_rng(0)
    ps, errors, nulls = [], [], []
    for trial in range(250):
        p = rng.beta(1.5, 1.5, 150)
        found = calibration(rng.random(150) < p, p, seed=trial)
        ps.append(found["calibration_p"])
        errors.append(found["calibration_error"])
        nulls.append(found["calibration_error_null"])
    assert 0.01 <= np.mean(np.array(ps) <= 0.05) <= 0.09
    assert abs(np.mean(ps) - 0.5) < 0.06
    assert np.mean(errors) == pytest.approx(np.mean(nulls), abs=0.004)
    assert np.mean(nulls) > 0.05  # far from 0, though nothing is wrong


def test_overconfident_probabilities_are_flagged():
    rng = np.random.default_rng(1)
    flagged = 0
    for trial in range(20):
        p = rng.beta(2, 2, 250)
        found = calibration(rng.random(250) < p, expit(4 * logit(p)), seed=trial)
        flagged += found["calibration_p"] <= 0.05
        assert found["calibration_error"] > found["calibration_error_null"]
    assert flagged >= 18


def test_skill_of_the_constant_is_zero_and_below_it_is_worse():
    y = np.array([1] * 30 + [0] * 70)
    assert brier_skill(y, np.full(100, 0.3)) == pytest.approx(0)
    assert brier_skill(y, y) == 1
    assert brier_skill(y, np.full(100, 0.9)) < 0
    assert brier_skill(y, 1 - y) < -3
    assert np.isnan(brier_skill(np.ones(5), np.full(5, 0.5)))


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.4, -1.0), (3.0, 2.0)])
def test_platt_recovers_what_was_planted(slope: float, offset: float):
    rng = np.random.default_rng(2)
    z = rng.normal(-offset / slope, 1.5, 20_000)
    y = rng.random(20_000) < expit(slope * z + offset)
    found = fit_platt(y, z)
    assert found.slope == pytest.approx(slope, rel=0.08)
    assert found.offset == pytest.approx(offset, abs=0.15)
    assert calibration(y, found(z))["calibration_p"] > 0.01


def test_platt_keeps_the_order_whatever_the_labels_say():
    rng = np.random.default_rng(3)
    z = rng.normal(size=200)
    for y in (z < 0, z > 0, rng.random(200) < 0.5, np.arange(200) == 0):
        found = fit_platt(y, z)
        assert found.slope > 0
        assert np.isfinite([found.slope, found.offset]).all()
        assert (np.diff(found(np.sort(z))) > 0).all()
    assert fit_platt(z > 0, z).slope < 1000  # no class is certain
    flat = fit_platt([0, 1, 1], [2.0, 2.0, 2.0])
    assert 0.5 < float(flat(2.0)) < 2 / 3  # drawn in


@pytest.fixture
def probe() -> Probe:
    probe = Probe("l1", C=0.5)
    probe.coef_, probe.intercept_ = np.array([0.0, 2.0, -1.0, 0.5]), -0.3
    probe.widths, probe.model = (2, 2), "a-model"
    return probe.set_calibration(Platt(0.5, 1.25))


def test_calibration_moves_probabilities_and_not_decisions_and_is_kept(probe: Probe, tmp_path: Path):
    X = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    z = probe.decision_function(X)
    np.testing.assert_allclose(z, X.astype(np.float64) @ probe.coef_ - 0.3, atol=1e-6)
    np.testing.assert_allclose(probe.predict_proba(X)[:, 1], expit(0.5 * z + 1.25))
    np.testing.assert_array_equal(probe.predict(X), 0.5 * z + 1.25 > 0)
    probe.save(tmp_path / "p")
    again = Probe.load(tmp_path / "p")
    assert again.calibration_ == probe.calibration_
    np.testing.assert_array_equal(again.predict_proba(X), probe.predict_proba(X))
    assert Probe().calibration_ == Platt(1.0, 0.0)


def test_a_file_without_calibration_is_read_as_it_is_and_a_damaged_one_is_refused(probe: Probe, tmp_path: Path):
    probe.save(tmp_path / "p")
    file = tmp_path / "p" / "probe.json"
    record = json.loads(file.read_text())
    record.pop("sha256")
    written = record.pop("calibration")
    assert written == {"slope": 0.5, "offset": 1.25}
    file.write_text(json.dumps(sealed(record)))
    assert Probe.load(tmp_path / "p").calibration_ == Platt()
    for bad in (
        {"slope": 0.0, "offset": 1.0},
        {"slope": -1.0, "offset": 1.0},
        {"slope": "nan", "offset": 1.0},
        {"slope": 1.0, "offset": "inf"},
        {"slope": 1.0},
        {"slope": "steep", "offset": 0.0},
        {"slope": 10**400, "offset": 0.0},
        [1.0, 2.0],
        7,
        "1",
    ):
        file.write_text(json.dumps(sealed({**record, "calibration": bad})))
        with pytest.raises(ProbeError, match=r"probe\.json has a field that is missing or does not fit"):
            Probe.load(tmp_path / "p")
