"""Data of the behaviour suite: every public schema is read, and what is left out is counted."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from behaviour_rows import FALSEQA_CSV, FORBIDDEN, TEMPLATES, faith, write
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.data.behaviours import (
    load_faitheval,
    load_falseqa,
    load_jailbreak,
    load_sycophancy,
    load_truthfulqa,
    records,
)
from hneurons_eval.data.behaviours.rows import Unusable, letter_choices, text_list
from hneurons_eval.data.behaviours.schemas import fill_template
from hneurons_eval.data.questions import QuestionSetError

# --- FalseQA ---------------------------------------------------------------------------------------------


def test_falseqa_is_read_in_its_public_form(tmp_path: Path):
    path = tmp_path / "test.csv"
    path.write_text(FALSEQA_CSV, encoding="utf-8")
    questions, report = load_falseqa(str(path))
    assert [(q.question, q.false_premise, q.answers) for q in questions] == [
        ("Why is the sky made of cheese?", True, ("It is not.", "The sky isn't made of cheese.")),
        ("Why is the sky blue?", False, ("Air scatters blue light, mostly.",)),
        ("Who ate the moon?", True, ()),
    ]
    assert report.dropped == {'nothing in "question"': 1, "repeated rows": 1, "questions with both labels": 2}
    assert (report.source, report.rows, report.kept) == ("test.csv", 7, 3)
    assert str(report).startswith("3 of 7 rows of test.csv; left out: ")
    assert len({q.id for q in questions}) == 3
    assert load_falseqa(str(path))[0] == questions


def test_a_file_in_which_every_question_has_both_labels_is_refused(tmp_path: Path):
    rows = [{"question": "Is soup a planet?", "answer": "No.", "label": label} for label in (0, 1)]
    with pytest.raises(QuestionSetError, match=r"every question of a\.jsonl has both labels"):
        load_falseqa(write(tmp_path / "a.jsonl", rows))


@given(st.text() | st.lists(st.text()))
def test_text_lists_survive_being_written_as_python_or_json(value: str | list[str]):
    if isinstance(value, str):
        assert text_list(value) is not None or value.lstrip().startswith("[")
        return
    tidy = [item.strip() for item in value if item.strip()]
    assert text_list(value) == tidy
    assert text_list(json.dumps(value)) == tidy
    assert text_list(repr(value)) == tidy


# --- FaithEval -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "key", "named", "place", "changed"),
    [
        ("ABCD", "C", "ABCD", 2, False),
        ("BADC", "A", "BADC", 1, False),
        ("abcd", "b", "ABCD", 1, False),
        (["(A)", "B."], "(B)", "AB", 1, False),
        ("1234", "3", "ABCD", 2, True),
        ([1, 2, 3, 4], 3, "ABCD", 2, True),
        ([1.0, 2.0, 3.0], 2.0, "ABC", 1, True),
        ("1234", "B", "ABCD", 1, True),
        ("0123", "B", "ABCD", 1, True),
        ("0123", "1", "ABCD", 1, True),
        (["A", "2", "C"], "2", "ABC", 1, True),
    ],
)
def test_labels_become_letters_where_the_key_is_plain(
    labels: Any, key: Any, named: str, place: int, changed: bool, tmp_path: Path
):
    (question,), report = load_faitheval(write(tmp_path / "a.jsonl", [faith(labels, key)]))
    assert "".join(question.choices) == named
    assert question.choices[question.context_key] == f"option {place}"
    assert report.notes == ({"labels turned into letters": 1} if changed else {})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (faith("ABCD", "2"), "answer keys that fit no option"),
        (faith("ABCD", "E"), "answer keys that fit no option"),
        (faith("2345", "B"), "answer keys that fit no option"),
        (faith("1324", "B"), "answer keys that fit no option"),
        (faith("1234", "E"), "answer keys that fit no option"),
        (faith("ABBD", "B"), "repeated labels"),
        (faith("A", "A"), "fewer than two options, or more than 26"),
        (faith("AB", " "), 'nothing in "answerKey"'),
        (faith("AB", "A", choices={"A": "yes", "B": "Yes "}), "options that say the same"),
        (faith("AB", "A", choices={"A": "yes", "B": " "}), "options without text"),
        (faith("AB", "A", context=""), 'nothing in "context"'),
        (faith("AB", "A", true_key="A"), "contexts that support the true answer"),
    ],
)
def test_rows_without_a_plain_answer_key_are_dropped_and_counted(row: dict[str, Any], reason: str, tmp_path: Path):
    good = faith("ABCD", "A", id="f2", question="What?")
    (question,), report = load_faitheval(write(tmp_path / "a.jsonl", [row, good]))
    assert question.id == "f2"
    assert report.dropped == {reason: 1}
    with pytest.raises(QuestionSetError, match=r"none of the 1 rows of a\.jsonl can be used \(1 .*\): expected column"):
        load_faitheval(write(tmp_path / "a.jsonl", [row]))


@pytest.mark.parametrize("extension", [".csv", ".json", ".jsonl", ".parquet"])
def test_faitheval_is_the_same_from_every_format(extension: str, tmp_path: Path):
    rows = [
        faith("1234", "B", topic="physics", true_key="4"),
        faith("ABCD", "D", id="f2", question="Where?", topic="biology", true_key="A"),
        faith("ABCD", "2", id="f3", question="When?", topic="biology", true_key="A"),
    ]
    (one, other), report = load_faitheval(write(tmp_path / f"a{extension}", rows))
    assert (one.id, one.context_key, one.true_key, one.topic) == ("f1", "B", "D", "physics")
    assert (other.id, other.context_key, other.true_key) == ("f2", "D", "A")
    assert report.dropped == {"answer keys that fit no option": 1}
    assert report.notes == {"labels turned into letters": 1}


label_sets = st.one_of(
    st.integers(2, 8).map(lambda n: [chr(65 + k) for k in range(n)]),
    st.integers(2, 8).flatmap(lambda n: st.permutations([chr(65 + k) for k in range(n)])),
    st.integers(2, 8).map(lambda n: [str(k + 1) for k in range(n)]),
    st.lists(st.sampled_from([*"ABCDEFGH0123456789", "10", "x1"]), max_size=8),
)


@given(label_sets, st.sampled_from([*"ABCDEFGHI0123456789", "10", "", "AB"]))
def test_a_key_is_mapped_to_the_option_it_names_or_not_at_all(labels: list[str], key: str):
    texts = [f"text {k}" for k in range(len(labels))]
    try:
        choices, letter = letter_choices(labels, texts, key)
    except Unusable:
        assert not (len(labels) >= 2 and len(set(labels)) == len(labels) and key in labels)
        return
    assert list(choices.values()) == texts
    assert all(re.fullmatch("[A-Z]", label) for label in choices)
    chosen = texts.index(choices[letter])
    if key in labels:
        assert chosen == labels.index(key)
    else:
        assert key == chr(65 + chosen)
        assert [int(label) - int(labels[0]) for label in labels] == list(range(len(labels)))


# --- sycophancy ------------------------------------------------------------------------------------------


def asked(text: str) -> list[dict[str, str]]:
    return [{"type": "human", "content": text}, {"type": "ai", "content": "The answer is ("}]


OPTIONS = "\n(A)4\n(B)5 or\nmore\n(C)6"
SYCOPHANCY_EVAL = [
    {
        "prompt": asked("Who? Be brief."),
        "base": {
            "dataset": "trivia_qa",
            "question": "Who?",
            "answer": ["Ann", "ann ", "Anna"],
            "correct_answer": "Ann B.",
            "incorrect_answer": "Bob",
        },
        "metadata": {"prompt_template": "{question} Be brief."},
    },
    {"prompt": asked("Why?"), "base": {"dataset": "truthful_qa", "question": "Why?", "answer": ["Because"]}},
    {
        "prompt": asked("2+2?"),
        "base": {"dataset": "aqua_mc", "question": "2+2?", "answers": OPTIONS, "correct_letter": "A"},
    },
    {
        "prompt": asked("2-2?"),
        "base": {
            "dataset": "math_mc_cot",
            "question": "2-2?",
            "answers": "(A) 0\n(B) 1",
            "correct_letter": "A",
            "wrong_letter": "B",
        },
    },
    {
        "prompt": asked("Where?"),
        "base": {
            "dataset": "mmlu_mc_cot",
            "question": "Where?",
            "letters": "ABCD",
            "A": "here",
            "B": "there",
            "C": "(D) yonder",
            "D": "nowhere",
            "answers": "unused",
            "correct_letter": "D",
        },
    },
    {
        "prompt": asked("When?"),
        "base": {
            "dataset": "truthful_qa_mc",
            "question": "When?",
            "answers": "(A) now\n(B) never",
            "correct_letter": "B",
        },
    },
    {"prompt": asked("?"), "base": {"dataset": "poems", "question": "?", "answer": ["x"]}},
    {"prompt": asked("Whose?"), "base": {"dataset": "trivia_qa", "question": "Whose?", "answer": []}},
    {
        "prompt": asked("2?"),
        "base": {"dataset": "aqua_mc", "question": "2?", "answers": "(A)1\n(B)2", "correct_letter": "E"},
    },
]


def test_sycophancy_eval_is_mapped_to_open_and_choice_questions(tmp_path: Path):
    questions, report = load_sycophancy(write(tmp_path / "are_you_sure.jsonl", SYCOPHANCY_EVAL))
    assert [(q.source, q.kind, q.reasoning) for q in questions] == [
        ("trivia_qa", "open", False),
        ("truthful_qa", "open", False),
        ("aqua_mc", "choice", False),
        ("math_mc_cot", "choice", True),
        ("mmlu_mc_cot", "choice", True),
        ("truthful_qa_mc", "choice", False),
    ]
    trivia, truthful, aqua, mathematics, mmlu, truthful_mc = questions
    assert (trivia.aliases, trivia.prompt) == (("Ann B.", "Ann", "Anna"), "Who? Be brief.")
    assert truthful.aliases == ("Because",)
    assert (aqua.choices, aqua.key) == ({"A": "4", "B": "5 or more", "C": "6"}, "A")
    assert (mathematics.choices, mathematics.key) == ({"A": "0", "B": "1"}, "A")
    assert (mmlu.choices["C"], mmlu.key, mmlu.prompt) == ("(D) yonder", "D", "Where?")
    assert truthful_mc.choices == {"A": "now", "B": "never"}
    assert report.dropped == {
        "sub-datasets that the paper does not use": 1,
        "open questions without accepted answers": 1,
        "answer keys that fit no option": 1,
    }


def test_questions_that_differ_in_one_sign_are_two_questions(tmp_path: Path):
    rows = [
        {
            "base": {"dataset": "math_mc_cot", "question": q, "answers": "(A) 1\n(B) -1", "correct_letter": "A"},
            "metadata": {},
        }
        for q in ("What is x - 5?", "What is x + 5?", "What is x + 5?")
    ]
    questions, report = load_sycophancy(write(tmp_path / "a.jsonl", rows))
    assert [q.question for q in questions] == ["What is x - 5?", "What is x + 5?"]
    assert report.dropped == {"repeated rows": 1}


def test_sycophancy_reads_files_in_the_form_of_the_bundled_set(tmp_path: Path):
    rows = [
        {"question": "Which number follows one?", "aliases": ["2", "two"]},
        {"question": "Which is a number?", "choices": {"label": [1, 2], "text": ["seven", "red"]}, "answerKey": "A"},
    ]
    (number, choice), report = load_sycophancy(write(tmp_path / "a.jsonl", rows))
    assert (number.kind, number.aliases) == ("open", ("2", "two"))
    assert (choice.kind, choice.choices, choice.key) == ("choice", {"A": "seven", "B": "red"}, "A")
    assert report.notes == {"labels turned into letters": 1}


def test_half_a_character_in_a_question_is_no_obstacle(tmp_path: Path):
    row = {"question": "What is \ud83d?", "aliases": ["half an emoji"]}
    (question,), _ = load_sycophancy(write(tmp_path / "a.jsonl", [row]))
    assert question.question == row["question"]


# --- TruthfulQA ------------------------------------------------------------------------------------------

TRUTHFUL_CSV = {
    "Type": "Adversarial",
    "Category": "Soup",
    "Question": "What is soup?",
    "Best Answer": "A meal",
    "Correct Answers": "A meal; Food ;",
    "Incorrect Answers": "A planet; A bird",
    "Source": "https://example.org",
}


def test_truthfulqa_csv_gives_targets_as_the_authors_make_them(tmp_path: Path):
    rows = [
        TRUTHFUL_CSV,
        {**TRUTHFUL_CSV, "Question": "What is tea?", "Type": "Non-Adversarial", "Incorrect Answers": "Food"},
    ]
    rows.append({**TRUTHFUL_CSV, "Question": "What is air?", "Incorrect Answers": " ; "})
    (soup, tea), report = load_truthfulqa(write(tmp_path / "TruthfulQA.csv", rows))
    assert (soup.category, soup.adversarial, soup.best) == ("Soup", True, "A meal")
    assert (soup.correct, soup.incorrect) == (("A meal", "Food"), ("A planet", "A bird"))
    assert soup.mc1 == records.TruthfulChoices(("A meal", "A planet", "A bird"), (True, False, False))
    assert soup.mc2 == records.TruthfulChoices(("A meal", "Food", "A planet", "A bird"), (True, True, False, False))
    assert tea.adversarial is False
    assert report.dropped == {'nothing in "Incorrect Answers"': 1}
    assert report.notes == {"an answer listed as true and as false": 1}


def test_truthfulqa_is_read_from_both_configurations_of_the_hub(tmp_path: Path):
    generation = {
        "type": "Adversarial",
        "category": "Soup",
        "question": "What is soup?",
        "best_answer": "A meal",
        "correct_answers": ["A meal", "Food"],
        "incorrect_answers": ["A planet", "A bird"],
        "source": "",
    }
    (from_lists,), _ = load_truthfulqa(write(tmp_path / "generation.parquet", [generation]))
    (from_csv,), _ = load_truthfulqa(write(tmp_path / "a.csv", [TRUTHFUL_CSV]))
    assert from_lists == from_csv
    targets = {
        "question": "What is soup?",
        "mc1_targets": {"choices": ["A bird", "A meal"], "labels": [0, 1]},
        "mc2_targets": {"choices": ["A bird", "A meal", "Food"], "labels": [0, 1, 1]},
    }
    two_true = {**targets, "question": "2?", "mc1_targets": {"choices": ["a", "b", "c"], "labels": [1, 1, 0]}}
    all_true = {**targets, "question": "3?", "mc2_targets": {"choices": ["a", "b"], "labels": [1, 1]}}
    path = write(tmp_path / "multiple_choice.parquet", [targets, two_true, all_true])
    (question,), report = load_truthfulqa(path)
    assert (question.best, question.correct, question.incorrect) == ("A meal", ("A meal", "Food"), ("A bird",))
    assert question.mc1.true == (False, True)
    assert question.id == from_csv.id
    assert report.dropped == {
        "MC1 targets without exactly one true answer": 1,
        "targets that are all true or all false": 1,
    }


# --- jailbreak -------------------------------------------------------------------------------------------


def test_questions_are_paired_with_templates_by_the_seed_alone(tmp_path: Path):
    questions = write(tmp_path / "questions.csv", FORBIDDEN)
    templates = write(
        tmp_path / "templates.parquet",
        [*TEMPLATES, TEMPLATES[0], {"platform": "web", "prompt": "Hello.", "jailbreak": False}],
    )
    prompts, report = load_jailbreak(questions, templates, templates_per_question=2)
    assert len(prompts) == 12
    assert prompts == load_jailbreak(questions, templates, templates_per_question=2)[0]
    assert report.dropped == {"repeated rows": 1, "prompts that are no jailbreaks": 1}
    assert (report.rows, report.kept) == (13, 11)
    first = prompts[0]
    assert (first.question, first.category) == ("How is soup number 0 made?", "Recipes")
    assert first.prompt.endswith("\n\nHow is soup number 0 made?")
    assert first.id == f"0-0/{first.template_id}"
    one_each, _ = load_jailbreak(questions, templates)
    assert one_each == prompts[::2]
    fewer, _ = load_jailbreak(write(tmp_path / "fewer.csv", FORBIDDEN[3:]), templates)
    assert fewer == one_each[3:]
    assert [p.template_id for p in load_jailbreak(questions, templates, seed=1)[0]] != [p.template_id for p in one_each]
    assert len({p.template_id for p in load_jailbreak(questions, templates, templates_per_question=5)[0]}) == 5


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("You are X. [INSERT PROMPT HERE]", "You are X. Why?"),
        ("Say {question} and {{ prompt }}!", "Say Why? and Why?!"),
        ("[Your first question here] <<query>>", "Why? Why?"),
        ("Be bold.", "Be bold.\n\nWhy?"),
        ("Use [brackets] {name} (question)", "Use [brackets] {name} (question)\n\nWhy?"),
    ],
)
def test_the_question_goes_into_the_slots_of_a_template_or_behind_it(template: str, filled: str):
    assert fill_template(template, "Why?") == filled


def test_a_question_with_signs_of_a_pattern_stays_as_it_is():
    assert fill_template("[PROMPT] [PROMPT]", r"\1 \g<0>") == r"\1 \g<0> \1 \g<0>"


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_filled_template_holds_the_question_as_it_stands(template: str, question: str):
    assert question in fill_template(template, question)
    assert question in fill_template(template + "[INSERT QUESTION HERE]", question)


def test_more_templates_than_there_are_are_refused(tmp_path: Path):
    questions, templates = write(tmp_path / "q.csv", FORBIDDEN), write(tmp_path / "t.jsonl", TEMPLATES)
    for number in (0, 6):
        with pytest.raises(QuestionSetError, match=rf"from 1 to 5, the templates of t\.jsonl; found {number}"):
            load_jailbreak(questions, templates, templates_per_question=number)
