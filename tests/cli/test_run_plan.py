"""`hneurons run` tells what it will do and what that costs before it does it, and `--plan` does no more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from families import make_config
from small_run import Run, small_run

from hneurons_eval.artifacts.pipeline_steps import PipelineSteps
from hneurons_eval.cli import calibration, doctor, main, run_plan
from hneurons_eval.cli.calibration import Pace, calibrate
from hneurons_eval.cli.console import duration, size
from hneurons_eval.cli.run_plan import Planned, cost, planned
from hneurons_eval.data.presets import PRESETS
from hneurons_eval.data.questions import Question, load_questions, split_questions
from hneurons_eval.engine.engine import get_engine

STEPS = PipelineSteps(
    dataset="facts", preset="quick", draws=5, judge="rule", mode="1-vs-1", penalty="l1", C="auto", alphas="0,1,3",
    controls=100, questions=50, sweep_controls=20, behaviours="", seed=0,
)  # fmt: skip
PACE = Pace(drawn=0.1, single=0.2, tokens=10.0, capture=0.05, answers=96, seconds=9.0)


def changed(**changes: Any) -> PipelineSteps:
    return PipelineSteps(**{**vars(STEPS), **changes})


def questions(number: int) -> list[Question]:
    return [Question(f"q{k}", f"Question {k}?", (f"answer {k}",), None) for k in range(number)]


def stages(steps: PipelineSteps = STEPS, train: int = 300, test: int = 70) -> dict[str, Planned]:
    return {stage.name: stage for stage in planned(questions(train), questions(test), steps)}


def test_the_demo_is_planned_as_it_was_run():
    train, test = split_questions(load_questions("facts"))
    found = {stage.name: stage for stage in planned(train, test, STEPS)}
    assert (found["collect"].questions, found["collect"].answers) == (1951, 5 * 1951)
    assert found["detect"].answers == found["detect"].captured == 550
    # The baseline once, and at 0 and 3 the neurons, twenty random sets and the negative one.
    assert found["closed_book"].answers == 50 * (1 + 2 * 22)
    assert found["capture"].captured == 2 * 975
    assert list(found) == ["collect", "capture", "probe", "detect", "closed_book"]


def test_a_sweep_asks_no_more_than_planned():
    run: Run = small_run()
    log = run.logs["closed_book"]
    asked = [sample for sample in log.samples or [] if "alpha" in (sample.metadata or {})]
    answers = sum(1 + len(sample.store.get("controls", [])) for sample in asked)
    steps = changed(sweep_controls=2, questions=8)
    planned_answers = stages(steps, test=len(load_questions(str(run.questions))))["closed_book"].answers
    without_negative = 8 * (1 + 2 * 3)
    assert answers in (planned_answers, without_negative)
    assert answers <= planned_answers


@pytest.mark.parametrize(
    ("changes", "stage", "expected"),
    [
        ({"C": "paper"}, "probe", 11 * 12 * 100),
        ({"C": "auto"}, "probe", 0),
        ({"C": "paper", "penalty": "l2"}, "probe", 0),
        ({"sweep_controls": 0}, "closed_book", 50 * (1 + 2)),
        ({"alphas": "1,2"}, "closed_book", 50 * (1 + 22)),
    ],
)
def test_what_the_options_add_is_in_the_plan(changes: dict[str, Any], stage: str, expected: int):
    assert stages(changed(**changes))[stage].answers == expected


def test_an_l2_probe_has_no_neurons_to_sweep():
    assert list(stages(changed(penalty="l2", behaviours="falseqa"))) == ["collect", "capture", "probe", "detect"]


def test_behaviours_are_planned_with_their_own_questions():
    found = stages(changed(behaviours="falseqa,faitheval,sycophancy", questions=10))
    each = 1 + 2 * 22
    assert found["falseqa"].answers == 2 * 10 * each  # either premise
    assert found["faitheval"].answers == 2 * 10 * each  # either prompt
    assert found["sycophancy"].answers == 2 * 10 * (1 + 3 * each)  # open and choice, three answers after the first
    assert [found[name].tokens for name in ("falseqa", "faitheval", "sycophancy")] == [128, 256, 512]


def test_three_rows_in_one_class_are_fitted_with_the_papers_mode():
    one, three = (stages(changed(mode=mode))["probe"].fitted for mode in ("1-vs-1", "3-vs-1"))
    assert three == 2 * one
    assert stages(changed(C="0.5"))["probe"].fitted * 12 == one


def test_costs_are_what_the_pace_says():
    found = stages()
    collected = cost(found["collect"], PACE, 1000)
    assert collected.seconds == pytest.approx(1500 * 0.1)
    assert collected.passes == 1500 * 11  # a prompt and ten tokens each
    captured = cost(found["capture"], PACE, 1000)
    assert captured.seconds == pytest.approx(300 * 0.05)
    assert captured.passes == 300
    assert captured.disk == 300 * 3 * 1000 * 4 + 300 * run_plan.LOG_BYTES["capture"]
    assert cost(found["detect"], PACE, 1000).seconds == pytest.approx(70 * 0.2 * run_plan.CAPTURE_COST)
    assert cost(found["probe"], PACE, 2000).seconds == pytest.approx(
        2 * (cost(found["probe"], PACE, 1000).seconds or 0.0)
    )


def test_answers_unlike_those_measured_are_reckoned_at_full_length():
    swept = Planned("falseqa", 10, 100, 128, like_collect=False)
    alike = Planned("closed_book", 10, 100, 24)
    assert cost(swept, PACE, 1000).seconds == pytest.approx(100 * 128 * 0.02)
    assert cost(alike, PACE, 1000).seconds == pytest.approx(100 * 10 * 0.02)
    assert cost(Planned("closed_book", 10, 100, 4), PACE, 1000).passes == 500


@pytest.fixture
def tiny(tiny_checkpoint: Callable[..., Path]) -> str:
    return str(tiny_checkpoint("llama"))


def test_a_calibration_measures_and_stops_in_time(tiny: str, monkeypatch: pytest.MonkeyPatch):
    engine = get_engine(tiny, dtype="float32")
    prompts = [(1, 5, 9, 30 + k) for k in range(4)]
    found = calibrate(engine, prompts, PRESETS["quick"], 5)
    assert min(found.drawn, found.single, found.capture) > 0
    assert 0 < found.tokens <= PRESETS["quick"].max_tokens
    assert found.answers > 5 + 8
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    assert calibrate(engine, prompts, PRESETS["quick"], 5).answers == 5 + 8


def hneurons(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    rows = [{"question": f"What is {k} plus {k}?", "answer": str(2 * k)} for k in range(20)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_plan_prints_every_stage_and_runs_none(tiny: str, dataset: str, tmp_path: Path):
    logs = tmp_path / "logs"
    done = hneurons(
        "run", tiny, "--dataset", dataset, "--preset", "quick", "--dtype", "float32", "--plan", "--log-dir", str(logs)
    )
    assert done.exit_code == 0, done.output
    assert not logs.exists()
    assert not (tmp_path / "artifacts").exists()
    assert "plan for hneurons/" in done.output
    names = ("collect", "capture", "probe", "detect", "closed_book", "falseqa", "faitheval", "sycophancy", "in all")
    found = [done.output.index(f"\n{name} ") for name in names]
    assert found == sorted(found)
    assert "requests to" not in done.output
    assert "memory: probe at most" in done.output
    assert "disk: contributions and logs" in done.output


def test_a_plan_without_weights_leaves_out_times_and_a_run_is_refused(dataset: str, tmp_path: Path):
    make_config("llama").save_pretrained(tmp_path / "model")
    words = ("run", str(tmp_path / "model"), "--dataset", dataset, "--log-dir", str(tmp_path / "logs"))
    done = hneurons(*words, "--plan")
    assert done.exit_code == 0, done.output
    assert "sycophancy" in done.output
    assert "disk: contributions and logs" in done.output
    assert "no times: cannot load" in done.output
    refused = hneurons(*words)
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: cannot load")
    assert not (tmp_path / "logs").exists()


def test_a_run_prints_its_plan_before_the_first_stage(tiny: str, dataset: str, tmp_path: Path):
    logs = tmp_path / "logs"
    done = hneurons(
        "run", tiny, "--dataset", dataset, "--preset", "quick", "--dtype", "float32", "--display", "none",
        "--log-dir", str(logs),
    )  # fmt: skip
    assert done.output.index("plan for hneurons/") < done.output.index("Hallucination neurons of")
    assert done.exit_code != 0  # random weights know no sums, so there is nothing to train on
    assert [path.name.split("_")[1] for path in logs.glob("*.eval")] == ["collect"]


def test_requests_to_a_grader_are_in_the_plan_and_a_judge_without_one_is_refused(tiny: str, dataset: str):
    options = ("run", tiny, "--dataset", dataset, "--preset", "quick", "--judge", "cascade", "--dtype", "float32")
    refused = hneurons(*options, "--plan")
    assert refused.exit_code == 1
    assert "--grader" in refused.output
    done = hneurons(*options, "--plan", "--grader", "mockllm/model")
    train, test = split_questions(load_questions(dataset))
    sweep = len(test) * (1 + 6 * 41)
    assert f"at most {len(train) * 5 + len(test) + sweep:,} requests to mockllm/model" in done.output


def test_what_does_not_fit_is_said(tiny: str, dataset: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    done = hneurons("run", tiny, "--dataset", dataset, "--preset", "quick", "--dtype", "float32", "--plan")
    assert "10 bytes free: NOT ENOUGH" in done.output


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_times_are_written_in_the_unit_that_suits_them(seconds: float, text: str):
    assert duration(seconds) == text


def test_sizes_are_written_in_the_unit_that_suits_them():
    assert [size(number) for number in (0, 999, 1536, 3 * 2**40)] == ["0 bytes", "999 bytes", "1.5 KiB", "3 TiB"]
