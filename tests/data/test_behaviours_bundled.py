"""The bundled behaviour sets: whole, balanced, varied, and judged as they should be."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import resources
from itertools import combinations
from typing import Any

import pytest

from hneurons_eval.data.behaviours import (
    PUBLIC_FILES,
    load_faitheval,
    load_falseqa,
    load_jailbreak,
    load_sycophancy,
    load_truthfulqa,
    loading,
)
from hneurons_eval.data.questions import QuestionSetError, normalise_question
from hneurons_eval.judging.choices import parse_choice
from hneurons_eval.judging.rule import judge_by_rule

PACKAGE = resources.files("hneurons_eval.data.behaviours")
BUNDLED = {
    name: [json.loads(line) for line in (PACKAGE / f"{name}.jsonl").read_text("utf-8").splitlines()]
    for name in loading.BUNDLED
}


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.casefold())


def holds(text: str, part: str) -> bool:
    """Whether the words of `part` stand in `text`, in a row."""
    return f" {' '.join(words(part))} " in f" {' '.join(words(text))} "


def shared(one: str, other: str) -> float:
    """The share of the shorter question's words that the other one has too."""
    a, b = set(words(one)), set(words(other))
    return len(a & b) / min(len(a), len(b))


def test_bundled_sets_load_whole_and_in_order():
    for name, load in (("falseqa", load_falseqa), ("faitheval", load_faitheval), ("sycophancy", load_sycophancy)):
        loaded, report = load("bundled")
        assert [item.id for item in loaded] == [row["id"] for row in BUNDLED[name]]
        assert (report.rows, report.kept) == (len(loaded), len(loaded))
        assert not report.dropped
        assert not report.notes


def test_bundled_sets_are_the_bytes_that_the_description_names():
    description = (PACKAGE / "BEHAVIOURS.md").read_text("utf-8")
    for name, rows in BUNDLED.items():
        digest = hashlib.sha256((PACKAGE / f"{name}.jsonl").read_bytes()).hexdigest()
        assert f"`{digest}`" in description, f"{name}.jsonl changed: correct its checksum in BEHAVIOURS.md"
        assert f"| `{name}.jsonl` | {len(rows)} |" in description
    for public in PUBLIC_FILES.values():
        assert public.revision in description


@pytest.mark.parametrize("name", loading.BUNDLED)
def test_no_two_bundled_questions_are_nearly_the_same(name: str):
    for one, other in combinations(BUNDLED[name], 2):
        if one.get("pair", 0) == other.get("pair", 1) or one.get("kind") != other.get("kind"):
            continue
        assert shared(one["question"], other["question"]) <= 0.7, (one["question"], other["question"])


@pytest.mark.parametrize("name", loading.BUNDLED)
def test_bundled_texts_are_tidy(name: str):
    for row in BUNDLED[name]:
        assert re.fullmatch(r"[a-z0-9-]+", row["id"])
        assert row["question"][-1] in '?".', row
        for text in (row["question"], row.get("answer", "x"), row.get("context", "x"), *row.get("aliases", [])):
            assert text == " ".join(text.split()), row
            assert text


def test_every_false_premise_has_a_true_twin_that_is_worded_alike():
    pairs: dict[str, list[dict[str, Any]]] = {}
    for row in BUNDLED["falseqa"]:
        pairs.setdefault(row["pair"], []).append(row)
    assert len(pairs) >= 120
    for false, true in pairs.values():
        assert (false["label"], true["label"]) == (1, 0)
        assert false["topic"] == true["topic"]
        assert abs(len(words(false["question"])) - len(words(true["question"]))) <= 3, false
        assert shared(false["question"], true["question"]) >= 0.5, false
        assert words(false["question"]) != words(true["question"])


def test_the_length_of_a_question_does_not_tell_whether_its_premise_is_false():
    lengths = {
        label: [len(words(r["question"])) for r in BUNDLED["falseqa"] if r["label"] == label] for label in (0, 1)
    }
    assert abs(sum(lengths[1]) / len(lengths[1]) - sum(lengths[0]) / len(lengths[0])) < 0.5


def test_false_premises_vary_in_form_and_topic_and_are_refuted_in_short():
    rows = [row for row in BUNDLED["falseqa"] if row["label"] == 1]
    forms = Counter(words(row["question"])[0] for row in rows)
    assert {"why", "how", "when", "who", "which", "where"} <= forms.keys()
    assert max(forms.values()) < len(rows) / 2
    assert len({row["topic"] for row in rows}) >= 8
    for row in rows:
        assert 1 <= len(re.findall(r"[.!?](?=\s|$)", row["answer"])) <= 2, row


def test_counterfactual_contexts_are_passages_that_support_one_option_and_not_the_true_one():
    rows = BUNDLED["faitheval"]
    assert len(rows) >= 120
    for row in rows:
        options = dict(zip(row["choices"]["label"], row["choices"]["text"], strict=True))
        assert list(options) == ["A", "B", "C", "D"]
        assert 40 <= len(row["context"].split()) <= 120, row["id"]
        assert row["answerKey"] != row["true_key"]
        found = {label for label, text in options.items() if holds(row["context"], text)}
        assert found == {row["answerKey"]}, (row["id"], found)


def test_answer_keys_are_spread_evenly_over_the_labels():
    for name, key in (("faitheval", "answerKey"), ("faitheval", "true_key"), ("sycophancy", "answerKey")):
        counts = Counter(row[key] for row in BUNDLED[name] if key in row)
        assert set(counts) == set("ABCD")
        assert max(counts.values()) - min(counts.values()) <= 1, (name, key, counts)


def test_options_can_be_told_apart_by_the_parser():
    questions = [*load_faitheval("bundled")[0], *load_sycophancy("bundled")[0]]
    for question in questions:
        for label, text in question.choices.items():
            for reply in (label, f"{label}) {text}", f"The answer is {label}.", f"The answer is: {text}", text):
                assert parse_choice(reply, question.choices) == label, (question.id, reply)


def test_sycophancy_is_half_open_and_half_choice():
    questions, _ = load_sycophancy("bundled")
    kinds = Counter(question.kind for question in questions)
    assert kinds["open"] == kinds["choice"]
    assert len(questions) >= 120
    for question in questions:
        if question.kind == "open":
            assert question.aliases
            assert question.key is None
            assert not question.choices
        else:
            assert question.key in question.choices
            assert len(question.choices) == 4
            assert not question.aliases


def test_aliases_of_open_questions_are_judged_correct_and_do_not_stand_in_the_question():
    for question in load_sycophancy("bundled")[0]:
        for alias in question.aliases:
            for reply in (alias, f"{alias.capitalize()}.", f"The answer is {alias}.", f"I am sure that it is {alias}."):
                assert judge_by_rule(reply, question.aliases) == "correct", (question.id, reply)
            assert not holds(question.question, alias), question
        assert judge_by_rule("I don't know.", question.aliases or ("x",)) == "not_attempted"


def test_importing_and_loading_the_bundled_sets_loads_nothing_heavy():
    code = (
        "import sys; from hneurons_eval.data import behaviours as b;"
        "b.load_falseqa(); b.load_faitheval(); b.load_sycophancy();"
        "print([m for m in ('torch', 'datasets', 'pyarrow', 'huggingface_hub', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_normalised_questions_of_the_bundled_sets_are_unique():
    for rows in BUNDLED.values():
        assert len({normalise_question(row["question"]) for row in rows}) == len(rows)


def test_harmful_text_and_truthfulqa_are_not_bundled():
    with pytest.raises(QuestionSetError, match="the truthfulqa set 'bundled' is unknown: pass 'hub' or the path"):
        load_truthfulqa("bundled")
    with pytest.raises(QuestionSetError, match="forbidden questions set 'bundled' is unknown: pass 'hub'"):
        load_jailbreak("bundled")
    assert sorted(path.name for path in PACKAGE.iterdir() if path.name.endswith(".jsonl")) == [
        "faitheval.jsonl",
        "falseqa.jsonl",
        "sycophancy.jsonl",
    ]
