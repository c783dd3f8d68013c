"""What two neuron sets and two probes share is counted, and tested against probes on shuffled labels."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from heavy_tails import features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from small_run import Run, small_run

from hneurons_eval.analysis.overlap import (
    against_shuffled,
    layer_band,
    overlap,
    risk_agreement,
    sd_matched_overlap,
    spearman_statistic,
)
from hneurons_eval.analysis.shuffled_labels import SHUFFLED, ShuffledSelections, shuffled_labels
from hneurons_eval.artifacts.contribution_shards import Contributions, StoreSpec
from hneurons_eval.artifacts.contribution_store import ContributionStore
from hneurons_eval.cli import main
from hneurons_eval.models.controls import ACTIVITY, save_activity
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.l1_path import fit_paths
from hneurons_eval.probe.l1_solver import smallest_useful_c
from hneurons_eval.probe.training_sets import TrainingRows
from hneurons_eval.probe.variation import selections_of, shuffled_selections

SMALL = NeuronLayout((4, 3))


def neurons(flat: Any, layout: NeuronLayout = SMALL, weights: Any = None) -> NeuronSet:
    return NeuronSet.from_flat(np.asarray(flat, np.int64), layout, weights)


def ranked(a: Any, b: Any) -> float:
    found: Any = stats.spearmanr(a, b)
    return float(found.statistic)


subsets = st.lists(st.integers(0, 6), unique=True, max_size=7)


@given(subsets, subsets)
@settings(max_examples=60, deadline=None)
def test_overlap_counts_what_sets_share_and_is_the_same_the_other_way_round(first: list[int], second: list[int]):
    found = overlap(neurons(first), neurons(second))
    both, union = set(first) & set(second), set(first) | set(second)
    assert (found.first, found.second, found.shared, found.total) == (len(first), len(second), len(both), 7)
    assert found.jaccard == pytest.approx(len(both) / len(union) if union else 0.0)
    assert found.expected == pytest.approx(len(first) * len(second) / 7)
    counts = [
        sum(k < 4 for k in first) * sum(k < 4 for k in second),
        sum(k >= 4 for k in first) * sum(k >= 4 for k in second),
    ]
    assert found.expected_within_layers == pytest.approx(counts[0] / 4 + counts[1] / 3)
    other = overlap(neurons(second), neurons(first))
    assert (found.shared, found.jaccard, found.expected) == (other.shared, other.jaccard, other.expected)


def test_layers_are_counted_each_for_itself():
    layout = NeuronLayout((50, 50, 50, 50))
    found = overlap(neurons([0, 1, 2, 60, 150], layout), neurons([1, 2, 3, 61, 199, 101], layout))
    rows = [(one.layer, one.first, one.second, one.shared) for one in found.layers]
    assert rows == [(0, 3, 3, 2), (1, 1, 1, 0), (2, 0, 1, 0), (3, 1, 1, 0)]
    assert found.layers[0].expected == pytest.approx(9 / 50)


def test_a_neuron_with_the_other_sign_is_not_shared():
    first = neurons([0, 1, 2, 3], weights=np.array([1.0, -1.0, 2.0, -2.0]))
    second = neurons([0, 1, 2, 5], weights=np.array([3.0, -1.0, -2.0, 1.0]))
    found = overlap(first, second)
    assert (found.shared, found.opposite) == (2, 1)
    assert found.jaccard == pytest.approx(2 / 6)
    assert overlap(first.positive, second.positive).shared == 1
    assert overlap(first, neurons([0, 1, 2, 5])).shared == 3


def test_weights_of_shared_neurons_are_ranked():
    first = neurons([0, 1, 2, 3, 4], weights=np.array([1.0, 2.0, 3.0, 4.0, 9.0]))
    second = neurons([0, 1, 2, 3, 5], weights=np.array([10.0, 20.0, 40.0, 30.0, 1.0]))
    assert overlap(first, second).weights == pytest.approx(0.8)
    assert overlap(neurons([0, 1, 2]), second).weights is None
    assert overlap(neurons([0, 1], weights=np.array([1.0, 2.0])), second).weights is None
    assert overlap(neurons([0, 1, 2], weights=np.ones(3)), second).weights is None


def test_sets_of_other_or_unknown_layers_are_refused():
    with pytest.raises(NeuronSetError, match="other layers"):
        overlap(neurons([0]), neurons([0], NeuronLayout((4, 4))))
    with pytest.raises(NeuronSetError, match="does not say how wide"):
        overlap(neurons([0]), NeuronSet(np.array([0]), np.array([0])))
    with pytest.raises(NeuronSetError, match="train the probe again"):
        against_shuffled(neurons([0]), neurons([0]), selections_of([np.ones(9)], 1.0))


# --- the null of L1 probes --------------------------------------------------------------------------------

ROWS, WIDE = 160, NeuronLayout((500, 500))


def on_shuffled_labels(seed: int, fits: int) -> tuple[Any, list[NeuronSet], ShuffledSelections]:
    """Features with a heavy tail of deviations, and L1 probes on independently shuffled labels."""
    X, relation = features(ROWS, WIDE.total, seed)
    labels = shuffled_labels(np.arange(ROWS) // 6 % 2, None, relation, fits, seed)
    C = 8 * smallest_useful_c(X, labels[0].astype(float), np.ones(ROWS))
    coefs = [path.weights(0) for path in fit_paths(X, labels, np.ones(labels.shape), [C])]
    found = [neurons(flat := np.flatnonzero(coef), WIDE, coef[flat]) for coef in coefs]
    return X, found, shuffled_selections(TrainingRows.of_answers(X, labels[0], relation), C, 39, seed + 100)


def test_probes_on_independently_shuffled_labels_are_found_alike_in_one_pair_of_twenty():
    """The hypergeometric p called nearly all of these pairs alike (finding A8)."""
    from scipy.stats import hypergeom

    ps: dict[str, list[float]] = {"both": [], "positive": []}
    uniform, matched = [], []
    for seed in range(4):
        X, probes, shuffled = on_shuffled_labels(seed, 20)
        deviation = X.std(axis=0)
        for first, second in itertools.product(probes[:10], probes[10:]):
            for sign, found in ps.items():
                found.append(against_shuffled(first.of_sign(sign), second.of_sign(sign), shuffled, sign).p)
            both = overlap(first, second)
            uniform.append(float(hypergeom.sf(both.shared - 1, WIDE.total, both.first, both.second)))
        near = sd_matched_overlap(probes[0], probes[10], deviation)
        matched.append(near.estimate / overlap(probes[0], probes[10]).expected)
    for found in ps.values():
        assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.09
    assert np.mean(np.array(uniform) <= 0.05) > 0.8
    assert min(matched) > 3  # as variable neurons share several times what uniform draws do


def test_probes_that_share_what_the_labels_make_are_found_alike():
    X, relation = features(ROWS, WIDE.total, 3)
    y = shuffled_labels(np.arange(ROWS) // 6 % 2, None, relation, 1, 3)[0]
    planted = np.argsort(-X.std(axis=0))[20:60:4]
    X[:, planted] += y[:, None] * X[:, planted].std(axis=0)
    C = 8 * smallest_useful_c(X, y.astype(float), np.ones(ROWS))
    halves = np.stack([np.arange(ROWS) % 2 == side for side in (0, 1)]) * 2.0
    coefs = [path.weights(0) for path in fit_paths(X, y, halves, [C])]
    first, second = (neurons(flat := np.flatnonzero(coef), WIDE, coef[flat]) for coef in coefs)
    half = np.flatnonzero(halves[0])
    stored = shuffled_selections(TrainingRows.of_answers(X[half], y[half], relation[half]), 2 * C, 39)
    found = against_shuffled(first, second, stored)
    assert found.p == 1 / 40
    assert found.jaccard < overlap(first, second).jaccard
    assert found.low <= found.shared <= found.high


def test_the_band_of_layers_is_of_the_best_null_there_is(tmp_path: Path):
    X, probes, shuffled = on_shuffled_labels(0, 2)
    layout = NeuronLayout((300, 700))
    flat = probes[0].flat(WIDE)
    uniform = layer_band(flat, layout.widths)
    assert "no null" in uniform.label
    save_activity(tmp_path / ACTIVITY, X.mean(axis=0), X.std(axis=0))
    matched = layer_band(flat, layout.widths, tmp_path)
    assert matched.label == "sd-matched, 95 %"
    shuffled.save(tmp_path / SHUFFLED)
    found = layer_band(flat, layout.widths, tmp_path)
    assert found.label == "39 shuffles of the labels, 95 %"
    shares = np.array([[(one < 300).mean(), (one >= 300).mean()] for one in shuffled.sets()]) * len(flat)
    np.testing.assert_allclose([found.low, found.high], np.quantile(shares, [0.025, 0.975], axis=0))


# --- risks --------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=12),
)
@settings(max_examples=100, deadline=None)
def test_weighted_ranks_are_those_of_rows_repeated(rows: list[tuple[int, int, int]]):
    a, b, counts = (np.array(column, float) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(a)), counts.astype(int))
    found = spearman_statistic(a, b)(counts[None])[0]
    if len(set(a[repeated])) < 2 or len(set(b[repeated])) < 2:
        assert np.isnan(found) or abs(found) < 1e-6
    else:
        assert found == pytest.approx(ranked(a[repeated], b[repeated]), abs=1e-9)


def test_risks_that_agree_and_risks_that_do_not():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    questions = [f"q{number // 3}" for number in range(300)]
    same = risk_agreement(p, p**2, p > 0.5, p**2 > 0.25, questions)
    assert same.spearman
    assert same.spearman.estimate == pytest.approx(1.0)
    assert same.same_calls == (1.0, 1.0, 1.0)
    assert same.questions == 100
    other = risk_agreement(p, q := rng.random(300), p > 0.5, q > 0.5, questions)
    assert other.spearman
    assert other.spearman.low < 0 < other.spearman.high
    assert other.same_calls.low < 0.5 < other.same_calls.high
    assert other.kappa
    assert other.kappa.low < 0 < other.kappa.high
    assert other.risky == pytest.approx((np.mean(p > 0.5), np.mean(q > 0.5)))


def test_probes_that_say_the_same_of_all_have_no_correlation():
    found = risk_agreement([0.5] * 4, [0.1, 0.2, 0.3, 0.4], [1] * 4, [1] * 4, list("abcd"))
    assert found.spearman is None
    assert found.kappa is None
    assert found.same_calls.estimate == 1.0


@pytest.mark.parametrize(
    ("first", "questions", "said"),
    [([], [], "at least one answer"), ([0.5, 0.5], ["a"], "one length"), ([float("nan")], ["a"], "not a finite")],
)
def test_risks_that_cannot_be_compared_are_refused(first: list[float], questions: list[str], said: str):
    calls = [0] * len(first)
    with pytest.raises(ValueError, match=said):
        risk_agreement(first, first, calls, calls, questions)


# --- the command --------------------------------------------------------------------------------------


def hneurons(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = small_run()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(made.artifacts))
    return made


def directory_of(run: Run) -> str:
    sample = (run.logs["probe"].samples or [])[0]
    assert sample.scores
    return (sample.scores["detected"].metadata or {})["probe"]["directory"]


def test_two_files_are_compared_by_either_name_of_the_command(tmp_path: Path):
    for name, flat in (("a", [0, 1, 4]), ("b", [1, 5])):
        neurons(flat).save(tmp_path / f"{name}.json")
    files = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    done = hneurons("compare", *files, "--layers")
    assert done.exit_code == 0, done.output
    assert "the model has 7 neurons" in done.output
    assert "1 (0.250)" in done.output
    assert "uniform draws (not a null for L1 probes)" in done.output
    assert "No test: neither probe has its selections on shuffled labels" in done.output
    assert "p =" not in done.output
    rows = [line.split() for line in done.output.splitlines() if line.split()[:1] in (["0"], ["1"])]
    assert [row[:5] for row in rows] == [["0", "2", "1", "1", "0.5"], ["1", "1", "1", "0", "0.333"]]
    assert hneurons("neurons", "compare", *files, "--layers").output == done.output


def test_a_run_agrees_with_itself_and_risks_are_compared_on_its_capture_log(run: Run):
    log, capture = run.logs["probe"].location, run.logs["capture"].location
    done = hneurons("compare", log, directory_of(run), "--features", capture)
    assert done.exit_code == 0, done.output
    assert "(1.000)" in done.output
    assert "Spearman of the probabilities  1.000 [1.000, 1.000]" in done.output
    assert "share of same calls            1.000 [1.000, 1.000]" in done.output
    captured = sum(bool((s.scores or {})["captured"].value) for s in run.logs["capture"].samples or [])
    assert f"risk on {captured} answers" in done.output


def test_two_probes_on_a_store_say_what_their_probabilities_say(tmp_path: Path):
    rng = np.random.default_rng(0)
    X = rng.random((90, SMALL.total)).astype(np.float32)
    y = (X[:, 1] + 0.3 * rng.random(90) > 0.65).astype(int)
    store = ContributionStore(tmp_path / "store", StoreSpec(model="m", widths=SMALL.widths, regions=("answer",)))
    for number, row in enumerate(X):
        store.add(f"{number:064x}", Contributions(row[None], {"question": f"q{number // 2}"}, {}))
    probes = [Probe(C=C).fit(X, y, widths=SMALL.widths) for C in (3.0, 30.0)]
    for number, probe in enumerate(probes):
        probe.save(tmp_path / f"p{number}")
    done = hneurons("compare", str(tmp_path / "p0"), str(tmp_path / "p1"), "--features", str(tmp_path / "store"))
    assert done.exit_code == 0, done.output
    p = [probe.predict_proba(X)[:, 1] for probe in probes]
    assert f"Spearman of the probabilities  {ranked(*p):.3f} [" in done.output
    calls = [probe.predict(X) for probe in probes]
    assert f"share of same calls            {np.mean(calls[0] == calls[1]):.3f} [" in done.output
    assert "risk on 90 answers to 45 questions" in done.output


def test_probes_with_their_shuffled_selections_get_a_test_and_its_floor(tmp_path: Path):
    X, _, shuffled = on_shuffled_labels(0, 2)
    y = np.arange(ROWS) // 6 % 2
    probe = Probe(C=shuffled.C).fit(X, y, widths=WIDE.widths)
    for name in ("a", "b"):
        probe.save(tmp_path / name)
    names = str(tmp_path / "a"), str(tmp_path / "b")
    shuffled.save(tmp_path / "a" / SHUFFLED)
    save_activity(tmp_path / "a" / ACTIVITY, X.mean(axis=0), X.std(axis=0))
    done = hneurons("compare", *names)
    assert done.exit_code == 0, done.output
    assert "labels of the first shuffled 39 times" in done.output
    assert "neurons as variable as the first's (any sign)" in done.output
    assert "this is half of the test" in done.output
    shuffled.save(tmp_path / "b" / SHUFFLED)
    done = hneurons("compare", *names)
    assert "They share more than probes on shuffled labels do: p = 0.025 (at least 0.025)." in done.output
    (tmp_path / "b" / SHUFFLED).write_bytes(b"nothing")
    done = hneurons("compare", *names)
    assert done.exit_code == 1
    assert "cannot be read" in done.output
    assert "Traceback" not in done.output


def test_dense_probes_are_compared_by_their_risks_only(tmp_path: Path, run: Run):
    found = Probe.load(directory_of(run))
    rng = np.random.default_rng(0)
    X, y = rng.random((20, sum(found.widths))).astype(np.float32), np.arange(20) % 2
    Probe("l2").fit(X, y, widths=found.widths).save(tmp_path / "dense")
    refused = hneurons("compare", str(tmp_path / "dense"), directory_of(run))
    assert refused.exit_code == 1
    assert "is of an L2 probe, which selects no neurons" in refused.output
    capture = run.logs["capture"].location
    done = hneurons("compare", str(tmp_path / "dense"), directory_of(run), "--features", capture)
    assert done.exit_code == 0, done.output
    assert "Jaccard" not in done.output
    assert "Spearman" in done.output


def test_what_cannot_be_compared_is_said_in_one_line(tmp_path: Path, run: Run):
    neurons([1]).save(tmp_path / "n.json")
    file, capture = str(tmp_path / "n.json"), run.logs["capture"].location
    for arguments, said in (
        ((file, str(tmp_path / "none.json")), "does not exist"),
        ((file, str(tmp_path)), "holds no log of the probe task"),
        ((file, capture), "is a log of capture"),
        ((file, directory_of(run)), "other layers"),
        ((file, file, "--features", capture), "holds neurons and no probe"),
    ):
        done = hneurons("compare", *arguments)
        assert done.exit_code == 1, done.output
        assert said in done.output
        assert "Traceback" not in done.output
