"""`hneurons report` shows every stage and every sweep, of each the newest, and the sweeps of external tasks."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from inspect_ai.log import EvalPlan, EvalPlanStep
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
    assert f"compliance (effect): Compliance (primary outcome) changes by {slope}" in done.output
    for alpha in "02":
        level, low, high = (100 * figures[f"compliance{part}@{alpha}"] for part in ("", "_low", "_high"))
        assert f"{level:.1f} [{low:.1f}, {high:.1f}]" in done.output
        assert f"{100 * figures[f'compliance_difference@{alpha}']:+.1f} [" in done.output
    assert "stopped by the limit on tokens, %" in done.output
    assert path.name in done.output


def test_a_flat_curve_is_said_to_show_nothing(tmp_path: Path):
    done = report(write_log(tmp_path, "falseqa", sweep_figures(0.0), metadata=SWEEP))
    assert "compliance (no effect seen): Compliance (primary outcome) changes by +0.00 points" in done.output
    assert "(effect)" not in done.output


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
    assert "Primary outcomes of 2 sweeps: after Holm's correction none show an effect" in said
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


def external(directory: Path, neurons: Path | None, alpha: float, right: int, of: int = 40, **more: Any) -> Path:
    samples = [scored(k, {"theirs": Score(value="C" if k < right else "I")}) for k in range(of)]
    args = {"alpha": alpha} | ({"neurons": str(neurons)} if neurons else {})
    return write_log(directory, "their_task", {"accuracy": right / of}, model_args=args, samples=samples, **more)


@pytest.fixture
def neurons(tmp_path: Path) -> Path:
    NeuronSet.from_flat([1, 2], NeuronLayout((5, 5))).save(tmp_path / "n.json")
    return tmp_path / "n.json"


def test_logs_of_an_external_task_at_several_alphas_are_one_sweep(tmp_path: Path, neurons: Path):
    for minute, (alpha, right) in enumerate(((0.0, 4), (1.0, 20), (2.0, 36))):
        external(tmp_path / "logs", neurons, alpha, right, minute=minute)
    done = report(tmp_path / "logs")
    assert done.exit_code == 0, done.output
    assert "their_task, theirs, with the neurons scaled" in done.output
    assert "Score (primary outcome) changes by +40.00 points per unit of alpha" in done.output
    assert "-40.0 [" in done.output
    assert "90.0 [" in done.output


def test_external_logs_that_are_no_sweep_are_shown_one_by_one_with_the_reason(tmp_path: Path, neurons: Path):
    external(tmp_path / "logs", neurons, 0.0, 4)
    external(tmp_path / "logs", neurons, 2.0, 9, minute=1)
    done = report(tmp_path / "logs")
    assert done.exit_code == 0, done.output
    assert "none of the logs is of the baseline; run the task with alpha=1 as well" in done.output
    assert "their_task at alpha 0 (score 0.100): 40 samples, scored by theirs." in done.output
    assert "their_task at alpha 2 (score 0.225)" in done.output


def test_where_there_is_nothing_to_report_it_says_what_report_shows(tmp_path: Path):
    done = report(external(tmp_path / "logs", None, 1.0, 4, model="openai/gpt"))
    assert done.exit_code == 1
    assert "nothing to report in" in done.output
    assert "abstain_when_risky" in done.output
    assert "pipeline" not in done.output


def test_a_sweep_without_control_sets_says_how_to_add_some(tmp_path: Path, neurons: Path):
    own = report(write_log(tmp_path / "own", "falseqa", sweep_figures(0.3, controls=0), metadata=SWEEP))
    assert "60 questions, no random control sets (to add some: -T controls=39)" in own.output
    for minute, (alpha, right) in enumerate(((0.0, 4), (1.0, 20))):
        external(tmp_path / "logs", neurons, alpha, right, minute=minute)
    theirs = report(tmp_path / "logs")
    assert "no random control sets (to add some: run the task with -M neurons=RANDOM.json" in theirs.output
    assert "log of their_task at alpha 0: " in theirs.output


@pytest.mark.parametrize("withheld", [6, 10])
def test_withheld_answers_are_counted_and_the_score_is_given_over_answered_and_over_all(tmp_path: Path, withheld: int):
    samples = []
    for k in range(10):
        score = Score(value="C" if withheld <= k < withheld + 3 else "I")
        sample = scored(k, {"theirs": score})
        sample.store["abstain_when_risky"] = [{"done": "abstained" if k < withheld else "kept"}]
        samples.append(sample)
    plan = EvalPlan(steps=[EvalPlanStep(solver="hneurons_eval/abstain_when_risky")])
    done = report(write_log(tmp_path, "quiz", {"accuracy": 0.3}, samples=samples, plan=plan))
    assert done.exit_code == 0, done.output
    assert f"withheld: quiz ({withheld} of 10): " in done.output
    if withheld == 6:
        assert "Score 0.750 over the 4 answered. Score 0.300 over all 10, withheld ones as wrong." in done.output
    else:
        assert ": Score 0.000 over all 10" in done.output


def test_the_answer_comes_first_and_says_what_is_shown_and_what_not(tmp_path: Path):
    figures = {"auroc": 0.8, "auroc_low": 0.7, "auroc_high": 0.9, "auroc_p": 0.001, "added": 0.01, "added_low": -0.02}
    write_log(tmp_path, "hneurons_eval/detect", figures)
    write_log(tmp_path, "falseqa", sweep_figures(0.3), metadata=SWEEP)
    write_log(tmp_path, "faitheval", sweep_figures(0.0), metadata=SWEEP)
    said = " ".join(report(tmp_path).output.split())
    # 39 control sets cannot show an effect after Holm's correction over two sweeps, 79 can.
    assert "Not shown: it adds to log-probability, entropy and length; scaling them has an effect (0 of 2" in said
    write_log(tmp_path, "falseqa", sweep_figures(0.3, controls=79), metadata=SWEEP, minute=9)
    said = " ".join(report(tmp_path).output.split())
    assert (
        "Shown: the probe detects hallucinations (AUROC 0.800 [0.700, 0.900], fresh answers); scaling them has an "
        "effect (1 of 2 sweeps: falseqa). Not shown: it adds to log-probability, entropy and length." in said
    )


def test_the_log_of_the_probe_task_alone_names_the_probe_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    directory = tmp_path / "run" / "artifacts" / "probes" / "aa" / "p"
    directory.mkdir(parents=True)
    summary = {"directory": "artifacts/probes/aa/p", "neurons_file": "artifacts/probes/aa/p.neurons.json"}
    sample = scored(1, {"detected": Score(value="C", metadata={"probe": summary})})
    path = write_log(tmp_path / "run" / "logs", "hneurons_eval/probe", {"auroc": 0.5}, samples=[sample])
    for place in (tmp_path, tmp_path / "run"):
        monkeypatch.chdir(place)
        assert f"probe: {directory}\n" in report(path).output
