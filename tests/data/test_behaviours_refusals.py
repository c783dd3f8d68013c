"""What the behaviour sets refuse, in which words, and where the public ones come from."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from behaviour_rows import FALSEQA_CSV, FORBIDDEN, TEMPLATES, faith, write
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.data import files
from hneurons_eval.data.behaviours import (
    PUBLIC_FILES,
    load_faitheval,
    load_falseqa,
    load_jailbreak,
    load_sycophancy,
    load_truthfulqa,
    loading,
    schemas,
)
from hneurons_eval.data.behaviours.rows import Row, Unusable
from hneurons_eval.data.questions import QuestionSetError

# --- malformed input -------------------------------------------------------------------------------------

GOOD_BASE: dict[str, Any] = {"dataset": "trivia_qa", "question": "Who?", "answer": ["Ann"]}


@pytest.mark.parametrize(
    ("load", "row", "message"),
    [
        (
            load_falseqa,
            {"prompt": "q", "label": 1},
            'has no column "question": found columns prompt, label; expected col',
        ),
        (load_falseqa, {"question": "q", "answer": "a"}, 'has no column "label"'),
        (
            load_falseqa,
            {"question": "q", "answer": "a", "label": 2},
            'has 2 in "label": expected 1 for a false premise',
        ),
        (load_falseqa, {"question": "q", "answer": {"a": 1}, "label": 1}, 'has a dict in "answer": expected a text or'),
        (load_falseqa, {"question": 7, "answer": "a", "label": 1}, 'has a int in "question": expected text; mend'),
        (load_faitheval, faith("AB", "A", context=["x"]), 'has a list in "context": expected text'),
        (load_faitheval, faith("AB", "A", choices="A or B"), 'has a str in "choices": expected labels and texts'),
        (load_faitheval, faith("AB", "A", choices={"label": ["A"], "text": ["x", "y"]}), "that do not match"),
        (load_faitheval, faith("AB", "A", choices={"A": 1, "B": 2}), "options in .* that are not text"),
        (load_faitheval, faith([["A"], "B"], "A"), "labels in .* that are neither text nor numbers"),
        (load_faitheval, faith("AB", ["A"]), 'has a list in "answerKey": expected the label of an option'),
        (load_sycophancy, {"base": "text"}, 'has a str in "base": expected an object'),
        (load_sycophancy, {"base": {"dataset": "trivia_qa"}, "metadata": {}}, 'in its base, has no column "question"'),
        (
            load_sycophancy,
            {"base": {**GOOD_BASE, "answer": [1]}, "metadata": {}},
            'an "answer" that is neither a text',
        ),
        (load_sycophancy, {"prompt": "Who?", "base": GOOD_BASE}, 'has a str in "prompt": expected a list of messages'),
        (load_sycophancy, {"prompt": [{"type": "ai"}], "base": GOOD_BASE}, "that begins with"),
        (
            load_sycophancy,
            {"base": {"dataset": "aqua_mc", "question": "q", "answers": "a or b", "correct_letter": "A"}, "id": 1},
            'no options in "answers": expected lines like',
        ),
        (load_sycophancy, {"question": "q", "kind": "essay"}, "has 'essay' in \"kind\": expected"),
        (load_sycophancy, {"question": "q", "kind": "choice"}, 'has no column "choices"'),
        (load_sycophancy, {"question": "q"}, 'has no column "aliases" or "answer" or "answers"'),
        (
            load_truthfulqa,
            {"Question": "q", "Best Answer": "b"},
            'has no column "Correct Answers" or "correct_answers"',
        ),
        (load_truthfulqa, {"question": "q", "mc1_targets": {}}, 'has a dict in "mc1_targets": expected'),
        (
            load_truthfulqa,
            {"question": "q", "mc1_targets": {"choices": ["a"], "labels": [1, 0]}},
            'choices and labels in "mc1_targets" that do not match',
        ),
        (
            load_truthfulqa,
            {"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 3]}},
            "a label that is neither 0 nor 1",
        ),
    ],
)
def test_a_malformed_row_is_refused_by_file_and_number(
    load: Callable[[str], Any], row: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(QuestionSetError, match=rf"^row 1 of a\.jsonl.*{message}") as caught:
        load(write(tmp_path / "a.jsonl", [row]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("questions", "templates", "message"),
    [
        ([{"question": "q"}], TEMPLATES, 'row 1 of q.jsonl has no column "content_policy_name" or "category"'),
        (FORBIDDEN, [{"text": "t"}], 'row 1 of t.jsonl has no column "prompt" or "template"'),
        (FORBIDDEN, [{"prompt": "t", "jailbreak": "maybe"}], "row 1 of t.jsonl has 'maybe' in \"jailbreak\""),
        ([FORBIDDEN[0], {**FORBIDDEN[1], "q_id": 0}], TEMPLATES, "row 2 of q.jsonl has the \"id\" '0-0' of row 1"),
    ],
)
def test_malformed_jailbreak_files_are_refused(
    questions: list[dict[str, Any]], templates: list[dict[str, Any]], message: str, tmp_path: Path
):
    with pytest.raises(QuestionSetError, match=re.escape(message)):
        load_jailbreak(write(tmp_path / "q.jsonl", questions), write(tmp_path / "t.jsonl", templates))


def test_an_id_that_stands_twice_is_refused(tmp_path: Path):
    rows = [faith("AB", "A"), faith("AB", "A", question="What?")]
    with pytest.raises(QuestionSetError, match=r"row 2 of a\.jsonl has the \"id\" 'f1' of row 1 of a\.jsonl: make"):
        load_faitheval(write(tmp_path / "a.jsonl", rows))


def test_files_that_cannot_be_read_are_refused_in_the_words_of_the_set(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("[1]", encoding="utf-8")
    with pytest.raises(QuestionSetError, match=r'line 1 of a\.jsonl is not a JSON object: .*"context"'):
        load_faitheval(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(QuestionSetError, match=r"a\.jsonl is empty: expected rows with columns"):
        load_falseqa(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(QuestionSetError, match="has an unknown extension: pass 'bundled', 'hub' or the path"):
        load_falseqa(str(tmp_path / "a.txt"))
    with pytest.raises(QuestionSetError, match=r"the falseqa file .*none\.csv does not exist"):
        load_falseqa(str(tmp_path / "none.csv"))
    with pytest.raises(QuestionSetError, match="the sycophancy set 'bundle' is unknown: pass 'bundled', 'hub'"):
        load_sycophancy("bundle")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["trivia_qa", "A"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["label", "text", "A", "B"]), inner),
    max_leaves=8,
)
columns = st.sampled_from(
    ["id", "question", "answer", "label", "context", "choices", "answerKey", "true_key", "kind", "aliases", "prompt",
     "base", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "mc1_targets", "mc2_targets",
     "content_policy_name", "jailbreak"]
)  # fmt: skip
bases = st.fixed_dictionaries(
    {"dataset": st.sampled_from([*schemas.SYCOPHANCY_SOURCES, "x"]), "question": json_values},
    optional=dict.fromkeys(("answer", "answers", "letters", "correct_letter", "A", "B"), json_values),
)


@given(st.dictionaries(columns, json_values) | st.fixed_dictionaries({"base": bases, "prompt": json_values}))
def test_no_row_whatever_it_holds_fails_otherwise_than_by_name(values: dict[str, Any]):
    for convert in (
        schemas.false_premise_question,
        schemas.counterfactual_question,
        schemas.sycophancy_question,
        schemas.truthful_question,
        schemas.forbidden_question,
        schemas.jailbreak_template,
    ):
        outcome = attempt(lambda convert=convert: convert(Row(values, "row 1 of a.jsonl", "columns")))
        if isinstance(outcome, QuestionSetError):
            assert str(outcome).startswith("row 1 of a.jsonl")
        else:
            assert str(outcome) if isinstance(outcome, Unusable) else outcome.id


def attempt(convert: Callable[[], Any]) -> Any:
    """What comes of it: the record, or why there is none. Anything else that is raised fails the test."""
    try:
        return convert()
    except (Unusable, QuestionSetError) as reason:
        return reason


# --- the public sets -------------------------------------------------------------------------------------


def test_public_sets_are_pinned_to_whole_commits():
    assert all(re.fullmatch("[0-9a-f]{40}", public.revision) for public in PUBLIC_FILES.values())


LOADERS: dict[str, Callable[[], Any]] = {
    "falseqa": lambda: load_falseqa("hub"),
    "faitheval": lambda: load_faitheval("hub"),
    "sycophancy": lambda: load_sycophancy("hub"),
    "truthfulqa": lambda: load_truthfulqa("hub"),
    "forbidden questions": lambda: load_jailbreak("hub", "hub"),
}


@pytest.mark.parametrize("name", LOADERS)
def test_without_a_network_one_sentence_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HNEURONS_CACHE", str(tmp_path))
    with pytest.raises(QuestionSetError, match=rf"cannot load the {name} set .*pass a local \.jsonl") as caught:
        LOADERS[name]()
    assert "\n" not in str(caught.value)
    assert ("or the bundled set" in str(caught.value)) == (name in loading.BUNDLED)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_set_of_the_hub_is_fetched_once_at_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked_for: list[tuple[Any, ...]] = []

    def snapshot_download(
        repo_id: str, *, repo_type: str, revision: str, allow_patterns: str, local_files_only: bool
    ) -> str:
        asked_for.append((repo_id, repo_type, revision, allow_patterns, local_files_only))
        if local_files_only and not (tmp_path / "data").exists():
            raise FileNotFoundError("nothing cached")
        (tmp_path / "data").mkdir(exist_ok=True)
        write(tmp_path / "data" / "test.parquet", [faith("1234", "B")])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (question,), report = load_faitheval("hub")
    assert question.context_key == "B"
    assert report.source == "Salesforce/FaithEval-counterfactual-v1.0@e655f7c8750a"
    public = PUBLIC_FILES["faitheval"]
    key = (public.repository, "dataset", public.revision, public.path)
    assert asked_for == [(*key, True), (*key, False)]
    load_faitheval("hub")
    assert asked_for[2:] == [(*key, True)]  # and no network


def test_falseqa_is_fetched_once_from_its_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HNEURONS_CACHE", str(tmp_path))
    urls: list[str] = []

    def fetch(url: str) -> bytes:
        urls.append(url)
        return FALSEQA_CSV.encode()

    monkeypatch.setattr(files, "_fetch", fetch)
    first, second = load_falseqa("hub"), load_falseqa("hub")
    assert first == second
    assert first[1].source == "thunlp/FalseQA@704bd7d21736"
    revision = PUBLIC_FILES["falseqa"].revision
    assert urls == [f"https://raw.githubusercontent.com/thunlp/FalseQA/{revision}/dataset/test.csv"]


def test_a_file_missing_from_the_repository_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(QuestionSetError, match=r"no file are_you_sure\.jsonl in the repository"):
        load_sycophancy("hub")
