"""Two neuron sets and two probes are compared against what chance gives, by counting and by formula alike."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from small_run import Run, small_run

from hneurons_eval.cli import main
from hneurons_eval.comparison import overlap, risk_agreement, spearman_statistic
from hneurons_eval.features import Features, FeatureSpec, FeatureStore
from hneurons_eval.layout import NeuronLayout
from hneurons_eval.neurons import NeuronSet, NeuronSetError
from hneurons_eval.probe import Probe

SMALL = NeuronLayout((4, 3))


def neurons(flat: Any, layout: NeuronLayout = SMALL, weights: Any = None) -> NeuronSet:
    return NeuronSet.from_flat(np.asarray(flat, np.int64), layout, weights)


def ranked(a: Any, b: Any) -> float:
    found: Any = stats.spearmanr(a, b)
    return float(found.statistic)


def by_counting(first: list[int], second: list[int], within: bool) -> tuple[float, float]:
    """Mean number shared, and share of all second sets of this size that share as many; all of them drawn."""
    parts = [range(4), range(4, 7)] if within else [range(7)]
    sizes = [sum(flat in part for flat in second) for part in parts]
    drawn = [
        set(itertools.chain(*chosen))
        for chosen in itertools.product(
            *(itertools.combinations(part, size) for part, size in zip(parts, sizes, strict=True))
        )
    ]
    counts = [len(one & set(first)) for one in drawn]
    shared = len(set(first) & set(second))
    return float(np.mean(counts)), float(np.mean([count >= shared for count in counts]))


subsets = st.lists(st.integers(0, 6), unique=True, max_size=7)


@given(subsets, subsets)
@settings(max_examples=100, deadline=None)
def test_chance_is_what_drawing_all_sets_gives(first: list[int], second: list[int]):
    found = overlap(neurons(first), neurons(second))
    assert found.shared == len(set(first) & set(second))
    assert (found.first, found.second, found.total) == (len(first), len(second), 7)
    for chance, within in ((found.anywhere, False), (found.within_layers, True)):
        expected, p = by_counting(first, second, within)
        assert chance.expected == pytest.approx(expected)
        assert chance.p == pytest.approx(p)
    union = len(set(first) | set(second))
    assert found.jaccard == pytest.approx(found.shared / union if union else 0.0)


@given(subsets, subsets)
@settings(max_examples=60, deadline=None)
def test_it_is_the_same_the_other_way_round(first: list[int], second: list[int]):
    one, other = overlap(neurons(first), neurons(second)), overlap(neurons(second), neurons(first))
    assert (one.shared, one.jaccard) == (other.shared, other.jaccard)
    assert one.anywhere.p == pytest.approx(other.anywhere.p)
    assert one.within_layers.p == pytest.approx(other.within_layers.p)


def test_layers_are_counted_each_for_itself():
    layout = NeuronLayout((50, 50, 50, 50))
    found = overlap(neurons([0, 1, 2, 60, 150], layout), neurons([1, 2, 3, 61, 199, 101], layout))
    rows = [(one.layer, one.first, one.second, one.shared) for one in found.layers]
    assert rows == [(0, 3, 3, 2), (1, 1, 1, 0), (2, 0, 1, 0), (3, 1, 1, 0)]
    first = found.layers[0]
    assert first.chance.expected == pytest.approx(9 / 50)
    assert first.chance.p == pytest.approx((3 * 47 + 1) / 19600)  # at least 2 of 3 among 3 of 50
    assert first.p_holm == pytest.approx(3 * first.chance.p)  # three layers have neurons of both
    assert found.layers[2].p_holm == 1.0


def test_sets_that_only_prefer_the_same_layer_are_no_surprise_within_layers():
    layout = NeuronLayout((20, 2000))
    rng = np.random.default_rng(0)
    first, second = (neurons(rng.choice(20, 10, replace=False), layout) for _ in range(2))
    found = overlap(first, second)
    assert found.anywhere.p < 1e-6
    assert found.within_layers.p > 0.05


def test_weights_of_shared_neurons_are_ranked():
    first = neurons([0, 1, 2, 3, 4], weights=np.array([1.0, 2.0, 3.0, 4.0, 9.0]))
    second = neurons([0, 1, 2, 3, 5], weights=np.array([10.0, 20.0, 40.0, 30.0, 1.0]))
    found = overlap(first, second)
    assert found.weights
    assert found.weights[0] == pytest.approx(0.8)
    assert overlap(neurons([0, 1, 2]), second).weights is None
    assert overlap(neurons([0, 1], weights=np.array([1.0, 2.0])), second).weights is None
    assert overlap(neurons([0, 1, 2], weights=np.ones(3)), second).weights is None


def test_sets_of_other_or_unknown_layers_are_refused():
    with pytest.raises(NeuronSetError, match="other layers"):
        overlap(neurons([0]), neurons([0], NeuronLayout((4, 4))))
    with pytest.raises(NeuronSetError, match="does not say how wide"):
        overlap(neurons([0]), NeuronSet(np.array([0]), np.array([0])))


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
    assert "3 and 2 neurons, 1 shared (Jaccard 0.250); the model has 7" in done.output
    rows = [line.split() for line in done.output.splitlines() if line.split()[:1] in (["0"], ["1"])]
    assert [row[:5] for row in rows] == [["0", "2", "1", "1", "0.5"], ["1", "1", "1", "0", "0.333"]]
    assert hneurons("neurons", "compare", *files, "--layers").output == done.output


def test_a_run_agrees_with_itself_and_risks_are_compared_on_its_capture_log(run: Run):
    log, capture = run.logs["probe"].location, run.logs["capture"].location
    done = hneurons("compare", log, directory_of(run), "--features", capture)
    assert done.exit_code == 0, done.output
    assert "(Jaccard 1.000)" in done.output
    assert "Spearman of the probabilities  1.000 [1.000, 1.000]" in done.output
    assert "share of same calls            1.000 [1.000, 1.000]" in done.output
    captured = sum(bool((s.scores or {})["captured"].value) for s in run.logs["capture"].samples or [])
    assert f"risk on {captured} answers" in done.output


def test_two_probes_on_a_store_say_what_their_probabilities_say(tmp_path: Path):
    rng = np.random.default_rng(0)
    X = rng.random((90, SMALL.total)).astype(np.float32)
    y = (X[:, 1] + 0.3 * rng.random(90) > 0.65).astype(int)
    store = FeatureStore(tmp_path / "store", FeatureSpec(model="m", widths=SMALL.widths, regions=("answer",)))
    for number, row in enumerate(X):
        store.add(f"{number:064x}", Features(row[None], {"question": f"q{number // 2}"}, {}))
    store.close()
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
        ((file, str(tmp_path / "none.json")), "no neuron file"),
        ((file, str(tmp_path)), "holds no log of the probe task"),
        ((file, capture), "is a log of capture"),
        ((file, directory_of(run)), "other layers"),
        ((file, file, "--features", capture), "is a neuron set, which says nothing of answers"),
    ):
        done = hneurons("compare", *arguments)
        assert done.exit_code == 1, done.output
        assert said in done.output
        assert "Traceback" not in done.output
