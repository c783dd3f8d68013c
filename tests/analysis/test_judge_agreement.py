"""Judges are compared as counted by hand; files are read as what they are or refused."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai import Task, score, task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from sklearn.metrics import cohen_kappa_score

from hneurons_eval.analysis.bootstrap import cohens_kappa
from hneurons_eval.analysis.judge_agreement import (
    VERDICTS,
    JudgedAnswer,
    compare,
    disagreements,
    joined,
    judged_by_rule,
    judges_of,
    read_judged,
)
from hneurons_eval.analysis.metrics import kappa_statistic
from hneurons_eval.cli import main
from hneurons_eval.scorers.judge import judge

pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40)


# --- Cohen's kappa -----------------------------------------------------------------------------------


@given(pairs, st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_kappa_of_weights_is_the_kappa_of_repeated_rows(rows: list[tuple[str, str]], seed: int):
    first, second = (np.array(side) for side in zip(*rows, strict=True))
    weights = np.random.default_rng(seed).integers(0, 4, len(rows))
    drawn = np.repeat(first, weights), np.repeat(second, weights)
    (value,) = kappa_statistic(first, second)(weights[None].astype(float))
    if len(np.unique(np.concatenate(drawn))) < 2:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(cohen_kappa_score(*drawn))


def test_kappa_by_hand():
    # 100 rows: both yes 20, both no 15, yes/no 5, no/yes 10 of 50 -> observed .7, expected .5 * .6 + .5 * .4
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohens_kappa(first, second).estimate == pytest.approx(0.4)


def test_rows_of_one_question_are_resampled_together():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 60)
    second = np.where(rng.random(60) < 0.8, first, 1 - first)
    alone = cohens_kappa(first, second)
    repeated = [np.repeat(side, 10) for side in (first, second)]
    together = cohens_kappa(*repeated, clusters=np.repeat(np.arange(60), 10))
    apart = cohens_kappa(*repeated)
    assert together == pytest.approx(alone)
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


def test_kappa_is_refused_where_it_means_nothing():
    with pytest.raises(ValueError, match="not defined"):
        cohens_kappa(["a", "a"], ["a", "a"])
    with pytest.raises(ValueError, match="one length"):
        cohens_kappa(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="one length"):
        kappa_statistic([], [])


# --- reading -----------------------------------------------------------------------------------------

DRAWS: dict[str, Any] = {
    "q1": {
        "question": "Capital of France?",
        "responses": ["Paris", "Lyon", "Lutetia", "I don't know."],
        "judges": ["true", "f", True, "uncertain"],
        "ground_truth": ["Paris", "paris"],
    },
    "q2": {
        "question": "Capital of Italy?",
        "responses": ["Rome", "Milan"],
        "judges": ["t", "error"],
        "ground_truth": ["Rome"],
    },
}


def write_draws(path: Path, as_lines: bool = True) -> Path:
    lines = [json.dumps({key: value}) for key, value in DRAWS.items()]
    path.write_text("\n".join(lines) + "\n" if as_lines else json.dumps(DRAWS), encoding="utf-8")
    return path


LABELLED = [
    {"question": "Capital of France?", "response": "Paris", "aliases": '["Paris", "Lutetia"]', "label": "correct"},
    {"question": "Capital of France?", "response": "Lyon", "aliases": "Paris", "label": "INCORRECT "},
    {"question": "Capital of Italy?", "response": "I don't know", "aliases": "Rome", "label": "not attempted"},
    {"question": "Capital of Italy?", "response": "Milan, Rome or Pisa", "aliases": "Rome", "label": "t"},
    {"question": "Capital of Spain?", "response": "Madrid", "aliases": "Madrid", "label": ""},
]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["draws.jsonl", "draws.json"])
def test_draws_with_labels_are_read(tmp_path: Path, name: str):
    found = read_judged(write_draws(tmp_path / name, as_lines=name.endswith("l")))
    assert [(one.question[-7:], one.response, one.verdicts["judges"]) for one in found] == [
        ("France?", "Paris", "correct"),
        ("France?", "Lyon", "incorrect"),
        ("France?", "Lutetia", "correct"),
        ("France?", "I don't know.", "not_attempted"),
        (" Italy?", "Rome", "correct"),
        (" Italy?", "Milan", "unparsed"),
    ]
    assert len({one.id for one in found}) == 6
    assert found[0].aliases == ("Paris",)


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "labels.json"])
def test_labels_by_hand_are_read(tmp_path: Path, name: str):
    found = read_judged(write_rows(tmp_path / name, LABELLED))
    assert [one.verdicts["label"] for one in found] == ["correct", "incorrect", "not_attempted", "correct", "unparsed"]
    assert found[0].aliases == ("Paris", "Lutetia")
    assert [one.response for one in found] == [row["response"] for row in LABELLED]


def test_labels_without_questions_are_answers_on_their_own(tmp_path: Path):
    rows = [{"response": "Paris", "aliases": "Paris", "label": label} for label in ("t", "t", "f")]
    found = judged_by_rule(read_judged(write_rows(tmp_path / "labels.csv", rows)))
    assert compare(found, "rule", "label").questions == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "response,aliases\nParis,Paris\n", "row 1 of x.csv has the columns response, aliases: expected"),
        ("x.csv", "response,label\nParis,t\n", "row 1 of x.csv has no accepted answers"),
        ("x.csv", "response,aliases,label\nParis,Paris,maybe\n", "label 'maybe': expected one of correct: correct"),
        ("x.csv", "response,aliases,label\n", "is empty: expected"),
        ("x.jsonl", '{"response": 3, "aliases": ["3"], "label": "t"}\n', "response that is no text: 3"),
        ("x.jsonl", '{"question": "q", "responses": ["a"], "judges": [], "ground_truth": ["a"]}\n', "of one length"),
        ("x.jsonl", '{"question": "q", "responses": "a", "judges": "t", "ground_truth": ["a"]}\n', "of one length"),
        ("x.jsonl", '{"question": "q", "responses": ["a"], "judges": ["t"]}\n', "no accepted answers"),
        ("x.jsonl", '{"question": "q", "responses": ["a"], "judges": [{}], "ground_truth": ["a"]}\n', "label {}"),
        ("x.jsonl", '{"response": "a", "aliases": ["a"], "label": "t", "verdicts": ["t"]}\n', "an object of verdicts"),
        ("x.jsonl", "not JSON\n", "line 1 of x.jsonl is not JSON"),
        ("x.jsonl", "[1]\n", "not a JSON object"),
        ("x.json", "{}", "expected"),
        ("x.txt", "", "unknown extension '.txt'"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_was_expected(
    tmp_path: Path, name: str, content: str, message: str
):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_judged(tmp_path / name)
    done = hneurons(str(tmp_path / name))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "Traceback" not in done.output


# --- comparing ---------------------------------------------------------------------------------------


def answer(first: str, second: str, question: str = "q", response: str = "r", number: int = 0) -> JudgedAnswer:
    return JudgedAnswer(str(number), question, response, ("a",), {"one": first, "two": second})


def test_the_table_is_counted_and_answers_without_a_verdict_are_left_out():
    said = [
        *[("correct", "correct")] * 3,
        ("correct", "incorrect"),
        *[("incorrect", "not_attempted")] * 2,
        ("unparsed", "correct"),
        ("correct", "unparsed"),
    ]
    found = compare([answer(*both, question=f"q{k // 2}", number=k) for k, both in enumerate(said)], "one", "two")
    assert VERDICTS == ("correct", "incorrect", "not_attempted")
    assert found.table.tolist() == [[3, 1, 0], [0, 0, 2], [0, 0, 0]]
    assert (found.answers, found.questions, found.left_out) == (6, 3, 2)
    assert found.agreement.estimate == pytest.approx(3 / 6)
    assert found.agreement_correct.estimate == pytest.approx(5 / 6)
    first, second = zip(*said[:6], strict=True)
    assert found.kappa is not None
    assert found.kappa.estimate == pytest.approx(cohen_kappa_score(first, second))
    assert found.kappa_correct is not None
    assert found.kappa_correct.estimate == pytest.approx(
        cohen_kappa_score([one == "correct" for one in first], [one == "correct" for one in second])
    )
    assert found.agreement.low <= found.agreement.estimate <= found.agreement.high


def test_two_judges_who_only_ever_say_one_thing_have_no_kappa():
    found = compare([answer("correct", "correct", number=k) for k in range(5)], "one", "two")
    assert found.kappa is None
    assert found.agreement == pytest.approx((1, 1, 1))


def test_no_answer_in_common_is_refused():
    with pytest.raises(ValueError, match="of 2 answers they gave one on 1 and on 0"):
        compare([answer("correct", "unparsed"), answer("unparsed", "unparsed")], "one", "two")


def test_questions_that_differ_in_case_and_spacing_are_one():
    rows = [answer("correct", "correct", question=text, number=k) for k, text in enumerate(["A b?", "a  B", "c"])]
    assert compare(rows, "one", "two").questions == 2


def test_the_rule_judges_each_answer_by_its_own_aliases():
    rows = [
        JudgedAnswer("1", "q", "Paris", ("Paris",), {"rule": "incorrect", "x": "correct"}),
        JudgedAnswer("2", "q", "Paris", ("Rome",), {}),
        JudgedAnswer("3", "q", "I don't know.", ("Rome",), {}),
    ]
    found = judged_by_rule(rows)
    assert [one.verdicts["rule"] for one in found] == ["correct", "incorrect", "not_attempted"]
    assert judges_of(found) == ["rule", "x"]


def test_two_readings_are_joined_by_answer():
    first = [answer("correct", "correct", number=k, response=f"r{k}") for k in range(3)]
    second = [
        JudgedAnswer("0", "q", "r0", ("a",), {"two": "incorrect", "three": "correct"}),
        JudgedAnswer("1", "q", "changed", ("a",), {"three": "correct"}),
    ]
    (one,) = joined(first, second)
    assert one.verdicts == {"one": "correct", "two": "correct", "other two": "incorrect", "three": "correct"}
    with pytest.raises(ValueError, match="no answer in common"):
        joined(first, second[1:])


def test_disagreements_come_once_each_and_can_be_labelled_and_read_again(tmp_path: Path):
    rows = [
        answer("correct", "incorrect", response="a", number=1),
        answer("correct", "incorrect", response="b", number=2),
        answer("correct", "incorrect", response="b", number=3),
        answer("correct", "correct", response="c", number=4),
        answer("correct", "unparsed", response="d", number=5),
        answer("correct", "incorrect", response="b", question="p", number=6),
    ]
    found = disagreements(rows)
    assert [(row["question"], row["response"], row["times"], row["label"]) for row in found] == [
        ("q", "b", 2, ""),
        ("q", "a", 1, ""),
        ("p", "b", 1, ""),
    ]
    for row in found:
        row["label"] = "incorrect"
    again = read_judged(write_rows(tmp_path / "labelled.jsonl", found))
    assert [one.verdicts for one in again] == [{"one": "correct", "two": "incorrect", "label": "incorrect"}] * 3
    assert [row["label"] for row in disagreements(again)] == ["incorrect"] * 3


# --- the command -------------------------------------------------------------------------------------


def hneurons(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["judge-agreement", *arguments])


def reply(text: str) -> ModelOutput:
    output = ModelOutput.from_content("mockllm/model", text)
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    return output


ANSWERS = ["Paris", "Lutetia", "Lyon", "I don't know.", "Nice"]


def grader_saying(*verdicts: str) -> Any:
    said = iter(verdicts)
    return get_model(
        "mockllm/model", custom_outputs=lambda *_: reply(json.dumps({"verdict": next(said)})), memoize=False
    )


def judged_log(directory: Path, by: str, *verdicts: str) -> EvalLog:
    """A log of five answers to five questions and one to a question on something invented, judged one by one."""

    @task
    def collected() -> Task:
        samples = [
            Sample(id=k, input=f"Question {k}?", target=["Paris"], metadata={"question": f"Question {k}?"})
            for k in range(len(ANSWERS))
        ]
        unreal = Sample(id="unreal", input="Capital of Zorvia?", target="", metadata={"question": "?", "exists": False})
        return Task(dataset=[*samples, unreal], scorer=judge(by))

    answers = iter([*ANSWERS, "There is no such country."])
    (log,) = inspect_eval(
        collected,  # pyright: ignore[reportArgumentType]
        model=get_model("mockllm/model", custom_outputs=lambda *_: reply(next(answers)), memoize=False),
        model_roles={"grader": grader_saying(*verdicts)},
        log_dir=str(directory),
        display="none",
        max_samples=1,
    )
    assert log.status == "success", log.error
    return log


def test_a_log_that_a_grader_judged_is_compared_with_the_rule(tmp_path: Path):
    log = judged_log(tmp_path, "llm", "correct", "correct", "incorrect", "not_attempted", "maybe")
    done = hneurons(log.location, "--disagreements", str(tmp_path / "out" / "rows.jsonl"))
    assert done.exit_code == 0, done.output
    assert "rule and llm mockllm/model: 4 answers to 4 questions, 1 without a verdict of both left out" in done.output
    table = [
        line.split()[-3:] for line in done.output.splitlines() if line.startswith(("correct  ", "incorrect", "not"))
    ]
    assert table == [["1", "0", "0"], ["1", "1", "0"], ["0", "0", "1"]]
    assert "0.750 [" in done.output
    (row,) = map(json.loads, (tmp_path / "out" / "rows.jsonl").read_text().splitlines())
    assert row["response"] == "Lutetia"
    assert row["verdicts"] == {"rule": "incorrect", "llm mockllm/model": "correct"}


def test_a_log_in_json_and_a_second_judgement_in_it_are_read_too(tmp_path: Path):
    log = judged_log(tmp_path, "rule")
    again = log
    for verdicts in (["correct"] * 5, ["incorrect"] * 5):
        again = score(
            again, judge("llm"), model_roles={"grader": grader_saying(*verdicts)}, action="append", display="none"
        )
    write_eval_log(again, str(tmp_path / "again.json"))
    done = hneurons(str(tmp_path / "again.json"))
    assert done.exit_code == 0, done.output
    for pair in (
        "rule and llm mockllm/model:",
        "rule and llm mockllm/model 2:",
        "llm mockllm/model and llm mockllm/model 2:",
    ):
        assert pair in done.output


def test_two_logs_of_the_same_answers_are_compared(tmp_path: Path):
    first = judged_log(tmp_path / "a", "llm", *["correct"] * 5)
    log = score(
        read_eval_log(first.location),
        judge("cascade"),
        model_roles={"grader": grader_saying(*["incorrect"] * 5)},
        action="overwrite",
        display="none",
    )
    write_eval_log(log, str(tmp_path / "b.eval"))
    done = hneurons(first.location, "--against", str(tmp_path / "b.eval"))
    assert done.exit_code == 0, done.output
    assert "llm mockllm/model and cascade mockllm/model: 5 answers" in done.output


def test_a_log_that_only_the_rule_judged_is_refused_with_what_to_do(tmp_path: Path):
    log = judged_log(tmp_path, "rule")
    done = hneurons(log.location)
    assert done.exit_code == 1
    assert "inspect score" in done.output
    assert "grader=PROVIDER/MODEL" in done.output
    (tmp_path / "x.eval").write_text("nothing")
    assert "is not an Inspect log" in hneurons(str(tmp_path / "x.eval")).output


def test_labels_by_hand_are_compared(tmp_path: Path):
    done = hneurons(str(write_rows(tmp_path / "labels.csv", LABELLED)))
    assert done.exit_code == 0, done.output
    assert "rule and label: 4 answers to 2 questions, 1 without a verdict of both left out" in done.output
    assert "0.750 [0.500, 1.000]" in done.output


def test_draws_are_compared_by_question(tmp_path: Path):
    done = hneurons(str(write_draws(tmp_path / "draws.jsonl")))
    assert done.exit_code == 0, done.output
    assert "rule and judges: 5 answers to 2 questions, 1 without a verdict of both left out" in done.output


def test_help_says_which_files_it_takes():
    done = hneurons("-h")
    assert done.exit_code == 0
    for word in ("responses", "judges", "ground_truth", "aliases", "label", "--against", "--disagreements"):
        assert word in done.output


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    assert hneurons(str(tmp_path / "nowhere.csv")).exit_code == 2
    assert hneurons(str(tmp_path)).exit_code == 2
