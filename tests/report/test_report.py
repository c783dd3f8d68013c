"""`hneurons report` shows every stage and every sweep, of each the newest, and the sweeps of other people's tasks."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from inspect_ai.scorer import Score
from report_logs import scored, sweep_figures, write_log

from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet

SWEEP = {"neurons_digest": "d", "neurons": "n.json"}


def report(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["report", *map(str, arguments)])


def test_a_sweep_that_no_list_names_is_shown_with_its_verdict_and_its_figures(tmp_path: Path):
    figures = sweep_figures(0.3)
    path = write_log(tmp_path, "hneurons_eval/a_new_behaviour", figures, metadata=SWEEP)
    done = report(path)
    assert done.exit_code == 0, done.output
    assert "a_new_behaviour, with the neurons scaled" in done.output
    slope = f"{figures['compliance_slope']:+.2f} points per unit of alpha"
    assert f"effect: compliance (primary outcome) changes by {slope}" in done.output
    for alpha in "02":
        level, low, high = (100 * figures[f"compliance{part}@{alpha}"] for part in ("", "_low", "_high"))
        assert f"{level:.1f} [{low:.1f}, {high:.1f}]" in done.output
        assert f"{100 * figures[f'compliance_difference@{alpha}']:+.1f} [" in done.output
    assert "stopped by the limit on tokens, %" in done.output
    assert path.name in done.output


def test_a_flat_curve_is_said_to_show_nothing(tmp_path: Path):
    done = report(write_log(tmp_path, "falseqa", sweep_figures(0.0), metadata=SWEEP))
    assert "none: compliance (primary outcome) changes by +0.00 points" in done.output
    assert "effect:" not in done.output


def test_each_series_of_a_sweep_is_shown_for_itself(tmp_path: Path):
    figures = sweep_figures(0.3, ("plain", "resist"))
    done = report(write_log(tmp_path, "faitheval", figures, metadata=SWEEP))
    for series in ("plain", "resist"):
        assert f"{series}: 60 questions, 39 uniform random sets of the same size" in done.output
        assert f"changes by {figures[f'{series}/compliance_slope']:+.2f} points" in done.output


def test_over_several_sweeps_the_primary_outcomes_are_corrected_and_what_is_scaled_is_named(tmp_path: Path):
    about = SWEEP | {"scaled": "6 positive of the probe's 17 neurons"}
    first = write_log(tmp_path, "falseqa", sweep_figures(0.3), metadata=about, minute=1)
    one = report(first)
    assert "falseqa, with 6 positive of the probe's 17 neurons scaled" in one.output
    assert "Holm's correction" not in one.output
    write_log(tmp_path, "faitheval", sweep_figures(0.3), metadata=about, minute=2)
    said = " ".join(report(tmp_path).output.split())
    assert "Over the primary outcomes of 2 sweeps, after Holm's correction none show an effect" in said
    assert "controls=79 can" in said


def test_of_a_sweep_the_newest_log_counts_and_another_data_set_is_another_sweep(tmp_path: Path):
    old = write_log(tmp_path, "falseqa", sweep_figures(0.0), metadata=SWEEP, minute=1)
    new = write_log(tmp_path, "falseqa", sweep_figures(0.3), metadata=SWEEP, minute=2)
    other = write_log(tmp_path, "falseqa", sweep_figures(0.2), metadata=SWEEP, args={"dataset": "x/own.csv"})
    unfinished = write_log(tmp_path, "falseqa", None, metadata=SWEEP, minute=9, status="started")
    done = report(tmp_path)
    assert done.exit_code == 0, done.output
    assert new.name in done.output
    assert other.name in done.output
    assert "falseqa on own, with" in done.output
    assert old.name not in done.output
    assert unfinished.name not in done.output


def test_a_sweep_that_has_not_ended_is_said_to_have_no_figures(tmp_path: Path):
    done = report(write_log(tmp_path, "falseqa", None, metadata=SWEEP, status="started"))
    assert done.exit_code == 0, done.output
    assert "its status is started" in done.output


def test_names_and_paths_are_not_taken_for_markup(tmp_path: Path):
    path = write_log(tmp_path, "falseqa", sweep_figures(0.3), metadata=SWEEP, args={"dataset": "[bold]x.csv"})
    done = report(path)
    assert done.exit_code == 0, done.output
    assert "falseqa on [bold]x, with" in done.output


def foreign(directory: Path, neurons: Path | None, alpha: float, right: int, of: int = 40, **more: Any) -> Path:
    samples = [scored(k, {"theirs": Score(value="C" if k < right else "I")}) for k in range(of)]
    args = {"alpha": alpha} | ({"neurons": str(neurons)} if neurons else {})
    return write_log(directory, "their_task", {"accuracy": right / of}, model_args=args, samples=samples, **more)


@pytest.fixture
def neurons(tmp_path: Path) -> Path:
    NeuronSet.from_flat([1, 2], NeuronLayout((5, 5))).save(tmp_path / "n.json")
    return tmp_path / "n.json"


def test_logs_of_a_task_of_others_at_several_alphas_are_one_sweep(tmp_path: Path, neurons: Path):
    for minute, (alpha, right) in enumerate(((0.0, 4), (1.0, 20), (2.0, 36))):
        foreign(tmp_path / "logs", neurons, alpha, right, minute=minute)
    done = report(tmp_path / "logs")
    assert done.exit_code == 0, done.output
    assert "their_task, theirs, with the neurons scaled" in done.output
    assert "score (primary outcome) changes by +40.00 points per unit of alpha" in done.output
    assert "-40.0 [" in done.output
    assert "90.0 [" in done.output


def test_logs_of_others_that_are_no_sweep_are_named_with_the_reason(tmp_path: Path, neurons: Path):
    foreign(tmp_path / "logs", neurons, 0.0, 4)
    foreign(tmp_path / "logs", neurons, 2.0, 9, minute=1)
    done = report(tmp_path / "logs")
    assert done.exit_code == 1
    assert "alpha=1" in done.output
    write_log(tmp_path / "logs", "falseqa", sweep_figures(0.3), metadata=SWEEP)
    done = report(tmp_path / "logs")
    assert done.exit_code == 0, done.output
    assert "falseqa, with" in done.output
    assert "alpha=1" in done.output


def test_a_single_log_of_others_is_no_log_of_ours(tmp_path: Path, neurons: Path):
    done = report(foreign(tmp_path / "logs", neurons, 0.0, 4))
    assert done.exit_code == 1
    assert "run the pipeline first" in done.output
