"""The report's sections on risks and on drift: there when the logs hold them, and saying what their figures say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.scorer import Score
from report_logs import sweep_figures, write_log
from test_report_html import HOSTILE, Page

from hneurons_eval.analysis.selective_prediction import ScoredAnswer, risk_figures
from hneurons_eval.cli import main
from hneurons_eval.report import drift_section, risk_section
from hneurons_eval.report.content import content
from hneurons_eval.report.html_page import pictures
from hneurons_eval.report.wording import StageFigures

THRESHOLD = 0.6


def details_of(number: int, told: bool = True) -> dict[str, Any]:
    """Every third answer is wrong; its risk is high where it can be told, but for one answer."""
    wrong = number % 3 == 0
    risk = (0.5 + 0.4 * (wrong or number == 1) if told else 0.5) + 0.002 * (number * 7 % 13)
    return {
        "probability": risk,
        "threshold": THRESHOLD,
        "task_score": 0.0 if wrong else 1.0,
        "response_tokens": 5 + number % 2,
        "answer_logprob": -1.0 - 0.01 * (number * 5 % 11),
    }


def write_risks(
    directory: Path, rows: list[dict[str, Any]], minute: int = 0, task: str = "their_task", **model_args: Any
) -> Path:
    """A log of a task of others, to which `inspect score` has added risks beside its own scores."""
    directory.mkdir(parents=True, exist_ok=True)
    usable = [row for row in rows if isinstance(row.get("probability"), float)]
    found = risk_figures([ScoredAnswer.of(k, row) for k, row in enumerate(usable)])
    metrics = {name: EvalMetric(name=name, value=value) for name, value in found.items()}
    theirs = EvalScore(name="match", scorer="match", metrics={"accuracy": EvalMetric(name="accuracy", value=0.9)})
    risks = EvalScore(name="hallucination_risk", scorer="hneurons_eval/hallucination_risk", metrics=metrics)
    samples = [
        EvalSample(
            id=f"{k:03d}",
            epoch=1,
            input=HOSTILE,
            target="",
            scores={
                "match": Score(value="C"),
                "hallucination_risk": Score(value=0.5, answer=HOSTILE, metadata=row),
            },
        )
        for k, row in enumerate(rows)
    ]
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=f"2026-01-01T00:{minute:02d}:00+00:00",
            task=task,
            dataset=EvalDataset(name="<b>theirs"),
            model="hneurons/a-model",
            model_args=model_args,
            config=EvalConfig(),
        ),
        results=EvalResults(scores=[theirs, risks]),
        samples=samples,
    )
    path = directory / f"risk-{minute}.eval"
    write_eval_log(log, str(path))
    return path


def write_drift(directory: Path, figures: dict[str, float], minute: int = 0) -> Path:
    samples = [
        EvalSample(
            id=f"layer {layer:02d}",
            epoch=1,
            input="?",
            target="",
            scores={"drifted": Score(value=0.4, metadata={"layer": layer, "mean_rank": 0.1 * layer or None,
                                                          "mean_rank_others": 0.5})},
        )
        for layer in range(4)
    ]  # fmt: skip
    about = {"base": "org/base", "checkpoints": ["org/<i>chat</i>"], "neurons": "n.json", "neurons_digest": "d"}
    return write_log(
        directory,
        "hneurons_eval/drift",
        figures,
        metadata=about,
        samples=samples,
        minute=minute,
        name=f"d{minute}.eval",
    )


DRIFT = {
    "mean_rank": 0.2, "mean_rank_low": 0.1, "mean_rank_high": 0.3, "neurons": 9.0,
    "p": 0.002, "p_changed": 0.001, "p_unchanged": 1.0,
    **{f"{kind}_{name}": value for kind in ("uniform", "layer", "contribution", "sd") for name, value in {
        "mean": 0.5, "low": 0.35, "high": 0.65, "sets": 2000.0, "p": 0.002, "p_changed": 0.001, "p_unchanged": 1.0,
    }.items()},
    **{f"{kind}_{name}": 0.01 for kind in ("up", "down") for name in ("mean_rank", "median", "median_all")},
}  # fmt: skip


def write(logs: Path, tmp_path: Path) -> tuple[Page, dict[str, Any], str]:
    html, out = tmp_path / "report.html", tmp_path / "report.json"
    done = CliRunner(env={"COLUMNS": "300"}).invoke(
        main, ["report", str(logs), "--html", str(html), "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    return Page(html.read_text(encoding="utf-8")), json.loads(out.read_text(encoding="utf-8")), done.output


def test_a_log_with_risks_has_a_section_with_its_figures_and_its_curve(tmp_path: Path):
    path = write_risks(tmp_path / "logs", [details_of(k) for k in range(60)])
    page, said, printed = write(tmp_path / "logs", tmp_path)
    (one,) = said["risk"]
    assert one["losses"] == [float(k % 3 == 0) for k in range(60)]
    assert one["threshold"] == THRESHOLD
    assert 0.95 < one["figures"]["auroc"] < 1
    assert ["wrong, by the task's own scorer", f"0.333 [{one['figures']['error_low']:.3f}, "
            f"{one['figures']['error_high']:.3f}]"] in one["rows"]  # fmt: skip
    assert "accuracy" not in one["figures"]  # of their scorer
    assert {"id": "risk"} in [attrs for _, attrs in page.tags]
    assert {"id": "picture-risk-0"} in [attrs for _, attrs in page.tags]
    assert "#risk" in page.values("href")
    assert [line["status"] for line in said["overview"]] == ["green"]
    assert "20 of 60 answers are wrong (33.3 %); the risk tells them" in page.text
    assert "20 of 60 answers are wrong (33.3 %); the risk tells them" in printed
    assert said["logs"][0]["location"].endswith(path.name)
    assert "<b>theirs" in page.text  # a name of theirs, as text
    assert "b" not in [tag for tag, _ in page.tags]


def test_risks_that_tell_nothing_are_red_and_so_are_none_of_the_answers(tmp_path: Path):
    write_risks(tmp_path / "logs", [details_of(k, told=False) for k in range(60)])
    _, said, _ = write(tmp_path / "logs", tmp_path)
    (line,) = said["overview"]
    assert line["status"] == "red"
    assert "does not tell them" in line["sentence"]


def test_of_two_logs_of_a_task_the_newer_counts_and_odd_samples_are_left_out(tmp_path: Path):
    write_risks(tmp_path / "logs", [details_of(k, told=False) for k in range(60)], minute=1)
    rows = [*(details_of(k) for k in range(60)), {"skipped": "empty answer"}, {"probability": True, "threshold": 0.5}]
    write_risks(tmp_path / "logs", rows, minute=2)
    write_risks(tmp_path / "logs", [details_of(k) for k in range(9)], minute=3, task="another_task")
    _, said, _ = write(tmp_path / "logs", tmp_path)
    assert sorted(len(one["risks"]) for one in said["risk"]) == [9, 60]
    assert said["overview"][0]["status"] == "green"


def test_risks_at_several_alphas_are_told_apart_by_alpha(tmp_path: Path):
    for minute, alpha in enumerate((0, 1.0, "3")):
        write_risks(tmp_path / "logs", [details_of(k) for k in range(30)], minute, alpha=alpha)
    _, said, _ = write(tmp_path / "logs", tmp_path)
    titles = [line["what"] for line in said["overview"]]
    assert titles == [f"risk: their_task on <b>theirs at alpha {alpha}" for alpha in "013"]


def line_of(**figures: float) -> dict[str, str]:
    return risk_section.overview_line(StageFigures("risk", figures, "l"))


@pytest.mark.parametrize(
    ("figures", "status", "words"),
    [
        ({}, "grey", "No answer has a risk"),
        ({"answers": 50}, "grey", "no score of the task"),
        ({"answers": 50, "error": 1.0}, "grey", "nothing to tell apart"),
        ({"answers": 10, "error": 0.2, "auroc": 1.0, "auroc_low": 1.0}, "grey", "2 of the rarer kind are too few"),
        ({"answers": 50, "error": 0.5, "auroc": 1.0, "auroc_low": 1.0, "auroc_high": 1.0}, "grey", "without width"),
        ({"answers": 50, "error": 0.5, "auroc": 0.7, "auroc_low": 0.5}, "red", "reaches .5"),
        ({"answers": 50, "error": 0.5, "auroc": 0.7, "auroc_low": 0.6, "length_auroc": 0.6}, "amber", "the length"),
        ({"answers": 50, "error": 0.5, "auroc": 0.7, "auroc_low": 0.6, "logprob_auroc": 0.8}, "amber", "log-prob"),
        ({"answers": 50, "error": 0.5, "auroc": 0.7, "auroc_low": 0.6, "length_auroc": 0.5}, "green", "tells them"),
    ],
)
def test_risks_have_the_status_that_their_figures_earn(figures: dict[str, float], status: str, words: str):
    found = line_of(**figures)
    assert found["status"] == status
    assert words in found["sentence"]


def test_answers_that_were_withheld_are_not_in_the_curve():
    answers = (
        ScoredAnswer("a", 0.9, 0.5, 0.0, done="abstained"),
        ScoredAnswer("b", 0.2, 0.5, 1.0, done="kept"),
        ScoredAnswer("c", 0.3, 0.5, None, refused=True),
    )
    said = risk_section.section(StageFigures("risk", {"answers": 3.0}, "l", details=answers))
    assert (said["losses"], said["risks"]) == ([0.0], [0.2])
    assert "risk-0" not in pictures(content([StageFigures("risk", {"answers": 0.0}, "l")]))


def test_a_log_of_drift_has_a_section_and_is_no_sweep(tmp_path: Path):
    write_drift(tmp_path / "logs", DRIFT)
    page, said, printed = write(tmp_path / "logs", tmp_path)
    (one,) = said["drift"]
    assert said["sweeps"] == []
    assert one["rows"][0] == ["these neurons", "0.200 [0.100, 0.300]", "", "", ""]
    assert one["rows"][1] == ["2,000 uniform random sets", "0.500 [0.350, 0.650]", "0.001", "1", "0.002"]
    assert one["layers"] == [[0, None, 0.5], [1, 0.1, 0.5], [2, 0.2, 0.5], [3, pytest.approx(0.3), 0.5]]
    assert [row[0] for row in one["vectors"]] == ["up", "down"]
    assert {"id": "picture-drift-0"} in [attrs for _, attrs in page.tags]
    assert one["rows"][3][0] == "2,000 contribution-matched random sets"
    assert "moved these neurons more than every kind of random sets (p = 0.002)" in page.text
    assert "from org/base to org/<i>chat</i>" in page.text
    assert "moved these neurons more" in " ".join(printed.split())
    assert [line["status"] for line in said["overview"]] == ["green"]


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"p": 0.3, **{f"{kind}_p": 0.3 for kind in ("uniform", "layer", "contribution", "sd")}}, "grey", "not shown"),
        ({"p": 0.3, "contribution_p": 0.3}, "amber", "than uniform and layer and sd random sets, but not than contri"),
        ({"p": 1.0}, "amber", "but not than all kinds in one direction"),
        ({"p_changed": 1.0, "p_unchanged": 0.001}, "green", "less than every kind"),
    ],
)
def test_drift_has_the_status_that_its_figures_earn(changed: dict[str, float], status: str, words: str):
    found = drift_section.overview_line(
        StageFigures("drift", DRIFT | changed, "l", {"base": "b", "checkpoints": ["c"]})
    )
    assert found["status"] == status
    assert words in found["sentence"]


def test_drift_without_matched_sets_or_without_figures_is_said_to_be_so():
    for kind, why in (("layer", "depth"), ("contribution", "strength")):
        fewer = {name: value for name, value in DRIFT.items() if not name.startswith(f"{kind}_")}
        found = drift_section.overview_line(StageFigures("drift", fewer, "l", {"base": "b", "checkpoints": []}))
        assert found["status"] == "amber"
        assert f"{kind}-matched sets could not be drawn, so {why} may be why" in found["sentence"]
    nothing = StageFigures("drift", {}, "l", {"base": "b", "checkpoints": []}, status="error")
    assert "status is error" in drift_section.overview_line(nothing)["sentence"]
    assert drift_section.section(nothing)["rows"] == []
    assert pictures(content([nothing])) == {}


def test_steps_of_a_run_stand_in_a_table(tmp_path: Path):
    steps = {f"{name}/mean_rank{end}": value for name in ("s1", "s2")
             for end, value in (("", 0.4), ("_low", 0.3), ("_high", 0.5))}  # fmt: skip
    write_drift(tmp_path / "logs", DRIFT | steps)
    _, said, _ = write(tmp_path / "logs", tmp_path)
    assert said["drift"][0]["steps"] == [["s1", "0.400 [0.300, 0.500]"], ["s2", "0.400 [0.300, 0.500]"]]


def test_sections_stand_beside_sweeps_and_are_left_out_where_there_are_no_such_logs(tmp_path: Path):
    write_log(tmp_path / "logs", "falseqa", sweep_figures(0.3), metadata={"neurons_digest": "d"})
    page, said, _ = write(tmp_path / "logs", tmp_path)
    assert said["risk"] == said["drift"] == []
    assert "risk" not in page.values("id")
    write_drift(tmp_path / "logs", DRIFT)
    write_risks(tmp_path / "logs", [details_of(k) for k in range(30)])
    page, said, _ = write(tmp_path / "logs", tmp_path)
    assert {"scaling", "risk", "drift"} <= set(page.values("id"))
    assert len(said["logs"]) == 3
    assert np.isfinite(said["risk"][0]["figures"]["aurc"])
