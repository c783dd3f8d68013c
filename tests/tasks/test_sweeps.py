"""The sweep tasks: every condition in one log, the baseline as the plain model, effects found at their size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai import eval_retry
from planted import PLANTED, WIDTH, complies, figures, neuron_file, planted_checkpoint
from small_run import stage

from hneurons_eval import NeuronSet
from hneurons_eval.analysis.dose_response import series_of
from hneurons_eval.analysis.sweep_parameters import SUMMARY
from hneurons_eval.artifacts.paths import kept_neurons
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.report.verdicts import verdict
from hneurons_eval.scorers import swept
from hneurons_eval.scorers.behaviour import COMPLIANCE
from hneurons_eval.tasks.faitheval import PROMPTS
from hneurons_eval.util.errors import UsageError

ALPHAS = (0.0, 1.0, 3.0)
NAMED = "0,1,3"
MAX_ALPHAS = 12
COUNTS = (1, 2, 3, 4, 6, 8, 10, 12)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def false_questions(path: Path) -> tuple[str, list[str]]:
    asked = [f"Why do{' z' * count} stones sing?" for count in COUNTS]
    return write(path, [{"question": q, "label": 1, "answer": "They do not."} for q in asked]), asked


def passages(path: Path) -> tuple[str, list[str]]:
    rows = [
        {
            "id": f"c{count}",
            "question": f"What do{' z' * count} stones do?",
            "context": "Stones sing.",
            "choices": {"label": ["A", "B"], "text": ["sing", "lie still"]},
            "answerKey": "A",
            "true_key": "B",
        }
        for count in COUNTS
    ]
    options = "A) sing\nB) lie still"
    asked = [
        f"{PROMPTS['plain']}\n\nContext: {row['context']}\n\nQuestion: {row['question']}\n\n{options}\n\n"
        "Answer with the letter of one option only."
        for row in rows
    ]
    return write(path, rows), asked


def closed_questions(path: Path) -> tuple[str, list[str]]:
    asked = [f"Which city is{' z' * count} old?" for count in COUNTS]
    rows = [{"id": f"q{n}", "question": q, "aliases": ["Paris"]} for n, q in enumerate(asked)]
    suffix = " Respond with the answer only, without any explanation."
    return write(path, rows), [q + suffix for q in asked]


CASES = {
    "falseqa": (false_questions, "Yes", "No", "compliance", {}),
    "faitheval": (passages, "A", "B", "compliance", {"prompt": "plain"}),
    "closed_book": (closed_questions, "Rome", "Paris", "hallucination_rate", {}),
}


@pytest.mark.parametrize("task", CASES)
def test_a_planted_neuron_is_found_at_its_size_and_any_other_is_not(task: str, tmp_path: Path):
    make, comply, resist, outcome, options = CASES[task]
    checkpoint = planted_checkpoint(tmp_path / "planted", comply, resist)
    data, asked = make(tmp_path / "data.jsonl")
    expected = complies(checkpoint, asked, comply, resist, ALPHAS)
    shares = expected.mean(axis=1)
    assert shares[0] < shares[1] < shares[-1]  # the prompts tell the alphas apart
    common: dict[str, Any] = {"alphas": NAMED, "dataset": data, "max_tokens": 4, **options}
    model = f"hneurons/{checkpoint}"
    found = figures(stage(task, tmp_path / "logs", model, neurons=neuron_file(tmp_path, PLANTED), **common))
    for alpha, share in zip(ALPHAS, shares, strict=True):
        assert found[f"{outcome}@{alpha:g}"] == pytest.approx(share)
    assert found[f"{outcome}_slope"] == pytest.approx(100 * np.polyfit(ALPHAS, shares, 1)[0])
    assert found["control_sets"] == found["control_sets_layer"] == 39  # there is no probe to have better ones
    assert found[f"{outcome}_slope_control_low"] == found[f"{outcome}_slope_control_high"] == pytest.approx(0)
    kind, said = verdict(found, outcome)
    if outcome == "compliance":
        assert found["compliance_slope_primary"] == 1
        assert kind == "effect"
    else:  # not the primary outcome of its task: two others are corrected for
        assert kind == "undecided"
        assert "no random set does as much" in said
    null = figures(
        stage(task, tmp_path / "null", model, neurons=neuron_file(tmp_path, PLANTED + 1), controls=3, **common)
    )
    assert null[f"{outcome}@1"] == found[f"{outcome}@1"]
    assert null[f"{outcome}_slope"] == pytest.approx(0)
    assert verdict(null, outcome)[0] == "none"


def test_a_log_holds_every_question_at_every_alpha_and_an_account_in_the_end(tmp_path: Path):
    checkpoint = planted_checkpoint(tmp_path / "planted", "A", "B")
    data, _ = passages(tmp_path / "data.jsonl")
    log = stage(
        "faitheval", tmp_path, f"hneurons/{checkpoint}", neurons=neuron_file(tmp_path, PLANTED), alphas="0,3",
        controls=4, dataset=data, questions=3, max_tokens=4,
    )  # fmt: skip
    samples = {str(sample.id): sample for sample in log.samples or []}
    summary = samples.pop("dose-response")
    assert len(samples) == 2 * 3 * 3
    assert {name.split(":")[0] for name in samples} == set(PROMPTS)
    assert {name.rsplit("@", 1)[1] for name in samples} == {"0", "1", "3"}
    for name, sample in samples.items():
        score = (sample.scores or {})["followed_context"]
        sets = 0 if name.endswith("@1") else 4
        assert {len(values) for values in (score.metadata or {})["outcomes"].values()} == {1 + sets}
        assert len(sample.store["controls"]) == sets
    told = str((summary.scores or {})["followed_context"].explanation)
    assert "## plain" in told
    assert "## resist" in told
    assert told.count("data:image/png;base64,") == 2
    assert set(series_of(figures(log))) == set(PROMPTS)


def test_more_alphas_than_columns_can_be_read_leave_slopes_and_headline_curves_as_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(swept, "MAX_ALPHAS", MAX_ALPHAS)
    checkpoint = planted_checkpoint(tmp_path / "planted", "Yes", "No")
    data, _ = false_questions(tmp_path / "data.jsonl")
    alphas = [f"{3 * k / MAX_ALPHAS:g}" for k in range(MAX_ALPHAS + 1)]
    options = {"neurons": neuron_file(tmp_path, PLANTED), "controls": 0, "dataset": data, "questions": 1}
    log = stage(
        "falseqa", tmp_path / "many", f"hneurons/{checkpoint}", alphas=",".join(alphas), max_tokens=4, **options
    )
    found = figures(log)
    named = {float(name.partition("@")[2]) for name in found if "@" in name}
    assert named == {1.0, *map(float, alphas)}
    assert {name.partition("@")[0] for name in found if "@" in name} == {
        f"{headline}{end}" for headline in COMPLIANCE for end in ("", "_low", "_high")
    }
    few = figures(stage("falseqa", tmp_path / "few", f"hneurons/{checkpoint}", alphas="0,3", max_tokens=4, **options))
    assert {name for name in few if "@" not in name} == {name for name in found if "@" not in name}
    for alpha in (0, 1, 3):
        assert found[f"compliance@{alpha}"] == few[f"compliance@{alpha}"]
    summary = next(sample for sample in log.samples or [] if sample.id == SUMMARY)
    told = str((summary.scores or {})["false_premise"].explanation)
    assert sum(line.startswith(("| 0.", "| 1.", "| 2.")) for line in told.splitlines()) > MAX_ALPHAS / 2


def test_an_interrupted_sweep_goes_on_and_ends_with_the_account_of_all_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = planted_checkpoint(tmp_path / "planted", "Yes", "No")
    data, _ = false_questions(tmp_path / "data.jsonl")
    options = {
        "neurons": neuron_file(tmp_path, PLANTED), "alphas": "0,3", "controls": 2, "dataset": data, "max_tokens": 4,
    }  # fmt: skip
    whole = stage("falseqa", tmp_path / "whole", f"hneurons/{checkpoint}", **options)
    from hneurons_eval.scorers import behaviour

    judged, calls = behaviour.judge_premise, []

    def fails_late(question: str, response: str) -> str:
        calls.append(question)
        if len(calls) == 30:
            raise RuntimeError("the machine went away")
        return judged(question, response)

    monkeypatch.setattr(behaviour, "judge_premise", fails_late)
    broken = stage("falseqa", tmp_path / "broken", f"hneurons/{checkpoint}", **options)
    assert broken.status == "error"
    (again,) = eval_retry(broken, log_dir=str(tmp_path / "broken"), display="none")
    assert again.status == "success"
    assert figures(again) == figures(whole)
    kept = {str(sample.id): sample.uuid for sample in broken.samples or [] if not sample.error}
    assert kept
    now = {str(sample.id): sample.uuid for sample in again.samples or []}
    assert all(now[name] == uuid for name, uuid in kept.items())
    assert "dose-response" in now


@pytest.mark.parametrize(
    ("sign", "scaled", "size"),
    [
        ("positive", "1 positive of the probe's 3 neurons", 1),
        ("negative", "2 negative of the probe's 3 neurons", 2),
        ("both", "all of the probe's 3 neurons, 1 of them positive", 3),
    ],
)
def test_exactly_the_neurons_of_a_sign_are_scaled_and_the_log_says_which(
    sign: str, scaled: str, size: int, tmp_path: Path
):
    checkpoint = planted_checkpoint(tmp_path / "planted", "Yes", "No")
    data, asked = false_questions(tmp_path / "data.jsonl")
    # The one that decides is positive, and scaled with the positive ones and with both.
    layout = NeuronLayout((WIDTH,))
    weights = np.array([-1.0, 2.0, -0.5])
    NeuronSet.from_flat(np.array([PLANTED - 1, PLANTED, PLANTED + 1]), layout, weights).save(tmp_path / "n.json")
    log = stage(
        "falseqa", tmp_path / "logs", f"hneurons/{checkpoint}", neurons=str(tmp_path / "n.json"), alphas="0,3",
        controls=2, sign=sign, against="layer,uniform", dataset=data, max_tokens=4,
    )  # fmt: skip
    found, about = figures(log), log.eval.metadata or {}
    assert (about["sign"], about["scaled"], about["size"]) == (sign, scaled, size)
    assert about["controls"] == {"layer": 2, "uniform": 2}
    expected = complies(checkpoint, asked, "Yes", "No", (0.0, 1.0, 3.0)).mean(axis=1)
    moved = expected if sign != "negative" else [expected[1]] * 3
    assert [found[f"compliance@{alpha}"] for alpha in (0, 1, 3)] == pytest.approx(list(moved))
    kept = kept_neurons(about["neurons_digest"])
    assert len(kept) == size
    summary = next(sample for sample in log.samples or [] if sample.id == SUMMARY)
    told = str((summary.scores or {})["false_premise"].explanation)
    assert f"Scaled: {scaled}." in told
    done = CliRunner(env={"COLUMNS": "200"}).invoke(main, ["report", log.location])
    assert f"with {scaled} scaled" in done.output


def test_a_sign_that_no_neuron_has_is_refused(tmp_path: Path):
    checkpoint = planted_checkpoint(tmp_path / "planted", "Yes", "No")
    data, _ = false_questions(tmp_path / "data.jsonl")
    with pytest.raises(UsageError, match="none of them with a negative weight; choose another sign"):
        stage(
            "falseqa", tmp_path, f"hneurons/{checkpoint}", neurons=neuron_file(tmp_path, PLANTED), sign="negative",
            dataset=data,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("faitheval", {"prompt": "rude"}, "prompt should be"),
        ("faitheval", {"questions": 0}, "questions should be"),
        ("faitheval", {"dataset": "nowhere.jsonl"}, "nowhere.jsonl"),
        ("falseqa", {"judge": "oracle"}, "judge should be"),
        ("falseqa", {"judge": "llm"}, "no grader is bound"),
        ("falseqa", {"questions": 0}, "questions should be"),
        ("falseqa", {"alphas": "1"}, "beside the baseline 1"),
        ("falseqa", {"controls": -1}, "controls should be"),
        ("falseqa", {"sign": "plus"}, "sign should be"),
        ("falseqa", {"against": "nearest"}, "against should be"),
        ("closed_book", {"judge": "llm"}, "no grader is bound"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_question_is_asked(
    task: str, options: dict[str, Any], message: str, tiny_checkpoint: Any, tmp_path: Path
):
    model = f"hneurons/{tiny_checkpoint(max_position_embeddings=512)}"
    with pytest.raises(UsageError, match=message):
        stage(task, tmp_path, model, **({"neurons": "x.json"} | options))
