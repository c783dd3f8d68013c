"""The frames of a run hold every answer once, with what its log says of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inspect_ai.log import EvalLog
from small_run import Run, small_run

from hneurons_eval.artifacts import frames
from hneurons_eval.artifacts.frames import FrameError
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.util.errors import UsageError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = small_run()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(made.artifacts))
    return made


def figures(log: EvalLog) -> dict[str, float]:
    assert log.results
    return {name: float(one.value) for score in log.results.scores for name, one in score.metrics.items()}


def test_every_draw_is_a_row_and_the_verdicts_make_up_the_logs_shares(run: Run):
    log = run.logs["collect"]
    frame = frames.answers(log)
    assert list(frame.columns) == list(frames.ANSWERS)
    assert len(frame) == len(log.samples or [])
    assert not frame.duplicated(["id", "draw"]).any()
    assert set(frame.draw) == {1, 2, 3}
    assert set(frame.judge) == {"rule"}
    assert set(frame.model) == {"hneurons/smollm2-135m-instruct"}
    share = frame[frame.verdict != "unparsed"].verdict.eq("correct").mean()
    assert share == pytest.approx(figures(log)["correct"])
    right = frame.groupby("id").verdict.agg(lambda own: (own == "correct").all()).sum()
    assert right == figures(log)["right"]
    by_id = {(str(sample.id), sample.epoch): sample for sample in log.samples or []}
    rows: Any = frame.to_dict("records")
    for row in rows:
        sample = by_id[row["id"], row["draw"]]
        assert row["response"] == sample.output.completion
        assert row["question"] == sample.metadata["question"]


@pytest.mark.parametrize("stage", ["probe", "detect"])
def test_every_answer_that_was_tried_is_a_row_with_the_call_and_the_baselines(run: Run, stage: str):
    log = run.logs[stage]
    frame = frames.detections(log)
    assert list(frame.columns[: len(frames.DETECTIONS)]) == list(frames.DETECTIONS)
    assert len(frame) == len(log.samples or [])
    assert set(frame.stage) == {stage}
    called = frame[frame.probability.notna()]
    assert len(called) == figures(log)["answers"]
    assert called.label.eq("hallucinated").sum() == figures(log)["hallucinated"]
    if stage == "detect":  # a held-out answer's call is by the threshold of the probe that did not see it
        assert (called.prediction == (called.probability > called.threshold)).all()
    assert (called.correct == (called.label == np.where(called.prediction == 1, "hallucinated", "faithful"))).all()
    if "accuracy" in figures(log):
        assert called.correct.mean() == pytest.approx(figures(log)["accuracy"])
    assert any(name.startswith("baseline_") for name in frame.columns)
    assert called.span_end.gt(called.span_start).all()
    skipped = frame[frame.probability.isna()]
    assert skipped.skipped.notna().all()
    assert skipped.correct.isna().all()


def test_a_sweep_has_a_row_for_each_item_alpha_and_set(run: Run):
    log = run.logs["closed_book"]
    frame = frames.sweep(log)
    assert list(frame.columns[: len(frames.SWEEP)]) == list(frames.SWEEP)
    assert not frame.duplicated(["item", "series", "alpha", "set"]).any()
    counts = frame.groupby("alpha")["set"].agg(lambda own: tuple(sorted(set(own)))).to_dict()
    controls = [f"control {number}" for number in range(1, sum((log.eval.metadata or {})["controls"].values()) + 1)]
    scaled = (*controls, "neurons")
    assert len(controls) > 1
    assert counts == {0.0: scaled, 1.0: ("baseline",), 3.0: scaled}
    kinds = frame[frame.alpha == 0].groupby("set").kind.agg(lambda own: set(own.dropna()))
    assert kinds["neurons"] == set()
    assert set().union(*(kinds[name] for name in controls)) == set((log.eval.metadata or {})["controls"])
    assert (frame.groupby(["alpha", "set"]).size() == frame.item.nunique()).all()
    outcomes = [name for name in frame.columns if name not in frames.SWEEP]
    assert {"accuracy", "truncated"} <= set(outcomes)
    own = frame[(frame["set"] == "neurons") & (frame.alpha == 3)]
    assert own.accuracy.mean() == pytest.approx(figures(log)["accuracy@3"])
    by_id = {str(sample.id): sample for sample in log.samples or []}
    details = [(sample.scores or {}) for sample in by_id.values()]
    expected = [
        value
        for scores in details
        for score in scores.values()
        for value in ((score.metadata or {}).get("outcomes") or {}).get("truncated", [])
    ]
    assert sorted(frame.truncated) == sorted(expected)


def test_neurons_of_files_and_probes_stand_one_below_the_other(tmp_path: Path):
    layout = NeuronLayout((3, 3))
    first = NeuronSet(
        np.array([1, 0]), np.array([2, 1]), np.array([0.5, 1.5]), "m", layout.widths, stability=np.array([1.0, 0.25])
    )
    NeuronSet.from_flat([4], layout).save(tmp_path / "b.json")
    first.save(tmp_path / "a.json")
    X = np.random.default_rng(0).random((20, 6)).astype(np.float32)
    probe = Probe(C=100.0).fit(X, np.arange(20) % 2, widths=layout.widths)
    probe.save(tmp_path / "probe")
    frame: Any = frames.neurons([tmp_path / "a.json", tmp_path / "b.json", tmp_path / "probe"])
    assert list(frame.columns) == list(frames.NEURONS)
    head = frame[frame.file == str(tmp_path / "a.json")]
    assert head[["layer", "index", "weight", "stability"]].values.tolist() == [[0, 1, 1.5, 0.25], [1, 2, 0.5, 1.0]]
    bare = frame[frame.file == str(tmp_path / "b.json")]
    assert bare.weight.isna().all()
    both = probe.neurons("both")
    assert 0 < len(both.positive) < len(both)
    assert len(frame) == 3 + len(both)
    assert frame[frame.file == str(tmp_path / "probe")].weight.tolist() == np.asarray(both.weights).tolist()
    alone: Any = frames.neurons(str(tmp_path / "b.json"))
    assert alone[["layer", "index"]].values.tolist() == bare[["layer", "index"]].values.tolist() == [[1, 1]]
    assert len(frames.neurons([])) == 0
    with pytest.raises(UsageError, match="does not exist"):
        frames.neurons(tmp_path / "c.json")


@pytest.mark.parametrize("make", [frames.answers, frames.detections, frames.sweep])
def test_logs_are_taken_as_files_directories_and_lists_alike(run: Run, make: Any):
    directory = run.directory / "logs"
    whole = make(directory)
    files = sorted(directory.glob("*.eval"))
    pd.testing.assert_frame_equal(make(str(directory)), whole)
    pd.testing.assert_frame_equal(make(files), whole)
    assert whole.log.nunique() == (2 if make is frames.detections else 1)


def test_logs_without_what_is_asked_for_are_refused(run: Run, tmp_path: Path):
    with pytest.raises(FrameError, match="holds no answers that a probe was tried on"):
        frames.detections(run.logs["collect"].location)
    with pytest.raises(FrameError, match="holds no answers that"):
        frames.answers(tmp_path)
    with pytest.raises(FrameError, match="no log at"):
        frames.sweep(tmp_path / "none.eval")
    (tmp_path / "bad.eval").write_text("no")
    with pytest.raises(FrameError, match="is not an Inspect log"):
        frames.answers(tmp_path / "bad.eval")
    with pytest.raises(FrameError, match="the logs given hold no"):
        frames.sweep([run.logs["collect"]])
