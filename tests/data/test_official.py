"""The official repository's files are read as they are, mapped to characters, and captured like a collect log."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai.log import EvalLog
from small_run import BUNDLED, stage

from hneurons_eval.data.official import find_labels, find_official, official_span, read_official
from hneurons_eval.data.questions import ANSWER_ONLY
from hneurons_eval.util.errors import UsageError

# --- answer tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "tokens", "answer", "found"),
    [
        ("It is Oslo.", ["It", "Ġis", "ĠOs", "lo", "."], ["ĠOs", "lo"], "Oslo"),
        ("It is Oslo.", ["▁It", "▁is", "▁Os", "lo", "."], ["▁Os", "lo"], "Oslo"),
        ("It is Oslo.", ["It", " is", " Os", "lo", "."], [" Os", "lo"], "Oslo"),
        ("It is Oslo.", ["It", "is", "Os", "lo", "."], ["Os", "lo"], "Oslo"),  # decoded without its spaces
        ("It is Oslo.", ["It", "Ġis", "ĠOs", "lo", "."], [" Os", "lo"], "Oslo"),  # written in two ways
        ("It is Oslo.", ["It", " is", " Os", "lo", "."], ["▁Os", "lo"], "Oslo"),
        ("Malmö\n\n", ["Mal", "mÃ¶", "ĊĊ"], ["Mal", "mÃ¶"], "Malmö"),
        ("Malmö\n\n", ["Mal", "mö", "\n\n"], ["Mal", "mö", "\n\n"], "Malmö"),
        ("Malmö", ["▁Mal", "m", "<0xC3>", "<0xB6>"], ["▁Mal", "m", "<0xC3>", "<0xB6>"], "Malmö"),
        ("by 🚁!", ["by", "ĠðŁ", "ļ", "ģ", "!"], ["ĠðŁ", "ļ", "ģ"], "🚁"),
        ("by 🚁!", ["by", " \ufffd", "\ufffd", "\ufffd", "!"], [" \ufffd", "\ufffd", "\ufffd"], "🚁"),
        ("by 🚁", ["by", " \ufffd", "\ufffd"], [" \ufffd", "\ufffd"], "🚁"),
        ("東京だ", ["æĿ±äº¬", "ãģł"], ["æĿ±äº¬"], "東京"),
        ("it's O'Hara's", ["it", "'s", "ĠO", "'", "Hara", "'s"], ["ĠO", "'", "Hara"], "O'Hara"),
        ("a ▁ b", ["a", " ▁", " b"], [" ▁"], "▁"),  # the sign itself
        ("<0x41>", ["<0x41>"], ["<0x41>"], "<0x41>"),
        ("\ufffd", ["\ufffd"], ["\ufffd"], "\ufffd"),
        ("Oslo", ["Os", "lo"], [], None),
        ("Oslo", [], ["Os", "lo"], None),
        ("Oslo or Oslo", ["Oslo", "Ġor", "ĠOslo"], ["ĠOslo"], "Oslo"),
        ("so Oslo or Oslo", ["so", "ĠOslo", "Ġor", "ĠOslo"], ["ĠOslo"], None),  # which of the two?
        ("so Oslo or Oslo", ["so", "ĠOslo", "Ġor", "ĠOslo"], [" Oslo"], None),
        ("Oslo, Bergen", ["Oslo", ",", "ĠBergen"], ["Oslo", "ĠBergen"], None),  # not contiguous
        ("Oslo", ["Os", "lo"], ["Ber", "gen"], None),
        ("Oslo", ["Ber", "gen"], ["Ber", "gen"], None),  # the tokens of another response
        ("Oslo!", ["Os", "lo"], ["Os", "lo"], None),
        ("a b", ["a", "Ġ", "b"], ["Ġ"], None),  # nothing but space
        ("é", ["\ufffd", "é"], ["é"], None),  # a part of a character that the response has no room for
        ("abc", ["\ufffd", "c"], ["c"], None),  # or that is none
        ("x Ã© é", ["x", " Ã©", " é"], ["Ã©"], None),  # one or the other, as it is read
    ],
)
def test_answer_tokens_are_found_in_the_response(
    response: str, tokens: list[str], answer: list[str], found: str | None
):
    span = official_span(response, tokens, answer)
    assert (None if span is None else response[slice(*span)]) == found


def test_the_occurrence_that_the_tokens_tell_is_taken():
    assert official_span("Oslo or Oslo", ["Oslo", "Ġor", "ĠOslo"], ["ĠOslo"]) == (8, 12)
    assert official_span("Oslo or Oslo", ["Oslo", "Ġor", "ĠOslo"], ["Oslo"]) == (0, 4)


SYMBOLS = {byte: chr(byte) for byte in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))}
SYMBOLS |= {byte: chr(256 + k) for k, byte in enumerate(b for b in range(256) if b not in SYMBOLS)}
SIGNS = [*"abcXYZ .,\n'", *"éÃ£", "e\u0301", *"漢字", *"ירוש", *"القا", "🚁", "🧑\u200d🚀", "▁", "Ġ"]
TEXT = st.lists(st.sampled_from(SIGNS), max_size=20).map("".join)


@st.composite
def cut_responses(draw: st.DrawFn) -> tuple[str, list[bytes], int, int]:
    """A text, its bytes in pieces, cut anywhere, and the first and past-the-last piece of an answer."""
    text = draw(TEXT.filter(str.strip))
    data = text.encode()
    edges = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=8))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    first = draw(st.integers(0, len(pieces) - 1))
    return text, pieces, first, draw(st.integers(first + 1, len(pieces)))


def characters_of(text: str, pieces: Sequence[bytes], first: int, last: int) -> set[int]:
    """The characters, white space aside, that share a byte with pieces `first` to `last`."""
    start, end = len(b"".join(pieces[:first])), len(b"".join(pieces[:last]))
    owner = [k for k, character in enumerate(text) for _ in character.encode()]
    return {k for k in owner[start:end] if text[k] not in " \n"}


def repeats(tokens: list[str], first: int, last: int) -> bool:
    wanted = tokens[first:last]
    return sum(tokens[k : k + len(wanted)] == wanted for k in range(len(tokens))) > 1


def edge(found: set[int]) -> tuple[int, int] | None:
    return (min(found), max(found) + 1) if found else None


@settings(max_examples=400, deadline=None)
@given(cut_responses())
def test_byte_level_tokens_give_exactly_their_characters(cut: tuple[str, list[bytes], int, int]):
    text, pieces, first, last = cut
    tokens = ["".join(SYMBOLS[byte] for byte in piece) for piece in pieces]
    span = official_span(text, tokens, tokens[first:last])
    expected = None if repeats(tokens, first, last) else edge(characters_of(text, pieces, first, last))
    assert span == expected


@settings(max_examples=400, deadline=None)
@given(cut_responses())
def test_decoded_tokens_cover_their_characters_even_where_characters_are_split(cut: tuple[str, list[bytes], int, int]):
    text, pieces, first, last = cut
    tokens = [piece.decode(errors="replace") for piece in pieces]
    span = official_span(text, tokens, tokens[first:last])
    inside = characters_of(text, pieces, first, last)
    if span is None:
        split = any("\ufffd" in token for token in tokens)
        assert split or not inside or repeats(tokens, first, last)
        return
    assert inside <= set(range(*span))
    if not any("\ufffd" in token for token in tokens):
        assert span == edge(inside)


@settings(max_examples=300, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=3))
def test_tokens_that_fit_or_do_not_give_a_span_within_the_response(text: str, tokens: list[str], answer: list[str]):
    span = official_span(text, tokens, answer)
    assert span is None or 0 <= span[0] < span[1] <= len(text)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    from hneurons_eval.models.checkpoints import resolve_model

    return AutoTokenizer.from_pretrained(resolve_model(BUNDLED.removeprefix("hneurons/")))


@settings(max_examples=150, deadline=None)
@given(TEXT.filter(str.strip), st.data())
def test_tokens_of_a_real_tokenizer_are_found_at_its_own_offsets(tokenizer: Any, text: str, data: st.DataObject):
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first + 1, len(tokens)))
    inside = {k for a, b in encoded["offset_mapping"][first:last] for k in range(a, b) if text[k] not in " \n"}
    expected = None if repeats(tokens, first, last) else edge(inside)
    assert official_span(text, tokens, tokens[first:last]) == expected


# --- files -------------------------------------------------------------------------------------------

CITIES = [
    "Oslo", "Lima", "Rome", "Cairo", "Quito", "Paris", "Tunis", "Seoul", "Dhaka", "Accra", "Sofia", "Praia", "Hanoi",
    "Minsk", "Kabul", "Delhi", "Lagos", "Osaka", "Milan", "Turin", "Basel", "Porto", "Malmo", "Gdansk",
]  # fmt: skip


def line(name: str, city: str, **changes: Any) -> str:
    fields = {
        "question": f"Which city is number {name}?{ANSWER_ONLY}",
        "response": f"It is {city}.",
        "tokenized_response": ["It", "Ġis", f"Ġ{city[:2]}", city[2:], "."],
        "answer_tokens": [f"Ġ{city[:2]}", city[2:]],
    }
    kept = {key: value for key, value in (fields | changes).items() if value is not None}
    return json.dumps({name: kept}, ensure_ascii=False) + "\n"


def write(directory: Path, lines: Sequence[str], labels: Any = None, part: str = "_train") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"m_answer_tokens{part}.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    if labels is not None:
        (directory / f"m{part}_qids.json").write_text(json.dumps(labels, indent=4))
    return path


def test_answers_are_read_with_their_labels(tmp_path: Path):
    lines = [line("a", "Oslo"), "\n", line("b", "Lima"), line("c", "Rome"), line("d", "Bern", answer_tokens=[])]
    read = read_official(write(tmp_path, lines, {"t": ["b", "x", "y"], "f": ["a", "d"]}))
    assert [(one.id, one.label) for one in read.answers] == [
        ("a", "hallucinated"),
        ("b", "faithful"),
        ("d", "hallucinated"),
    ]
    assert (read.without_label, read.without_answer) == (1, 2)
    assert read.labels == tmp_path / "m_train_qids.json"
    one = read.answers[0]
    assert one.prompt == "Which city is number a? Respond with the answer only, without any explanation."
    assert one.question == "Which city is number a?"
    assert one.response[slice(*(one.span or (0, 0)))] == "Oslo"
    assert read.answers[2].span is None


def test_lines_may_hold_what_json_allows(tmp_path: Path):
    path = write(tmp_path, [], {"t": ["a"], "f": ["b"]})
    lines = [
        line("a", "Oslo", response="It is\u2028Oslo."),
        line("b", "Lima", question="Who?", tokenized_response=None),
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(one.strip() for one in lines).encode())
    read = read_official(path)
    assert read.answers[0].response == "It is\u2028Oslo."
    assert (read.answers[1].question, read.answers[1].prompt, read.answers[1].span) == ("Who?", "Who?", None)


def test_lines_that_carry_their_verdict_need_no_labels(tmp_path: Path):
    verdicts = {"a": "true", "b": "false", "c": "uncertain"}
    lines = [line(name, "Oslo", judge=verdict) for name, verdict in verdicts.items()]
    read = read_official(write(tmp_path, lines))
    assert [(one.id, one.label) for one in read.answers] == [("a", "faithful"), ("b", "hallucinated")]
    assert (read.labels, read.without_label, read.without_answer) == (None, 1, 0)
    with pytest.raises(ValueError, match="line 2: b is judged f there and t in"):
        read_official(write(tmp_path, lines, {"t": ["a", "b"], "f": []}))


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        ("X_answer_tokens_train.jsonl", "X_train_qids.json"),
        ("X_answer_tokens_test.jsonl", "X_test_qids.json"),
        ("X_answer_tokens_test.jsonl", "X_qids_test.json"),
        ("X_answer_tokens.jsonl", "X_qids.json"),
        ("X_train_answer_tokens.jsonl", "X_train_qids.json"),
        ("answer_tokens.jsonl", "train_qids.json"),
        ("answer_tokens.jsonl", "qids.json"),
    ],
)
def test_labels_are_found_by_the_name_of_the_answers(tmp_path: Path, answers: str, labels: str):
    # Ids are those of the questions, so the labels of another model or part would fit, and be wrong.
    for name in ("Y_train_qids.json", "Y_qids.json", "X_train_ids.json", "X_dev_qids.json", answers):
        (tmp_path / name).touch()
    assert find_labels(tmp_path / answers) is None
    (tmp_path / labels).touch()
    assert find_labels(tmp_path / answers) == tmp_path / labels


def test_labels_that_two_files_may_hold_are_not_guessed(tmp_path: Path):
    path = write(tmp_path, [line("a", "Oslo")], {"t": ["a"], "f": []}, part="")
    (tmp_path / "m_train_qids.json").write_text('{"t": [], "f": ["a"]}')
    with pytest.raises(ValueError, match=r"m_qids\.json and m_train_qids\.json; say which with labels=FILE"):
        read_official(path)
    assert read_official(path, tmp_path / "m_train_qids.json").answers[0].label == "hallucinated"


def test_a_directory_stands_for_the_answers_in_it(tmp_path: Path):
    assert find_official("") is None
    assert find_official(str(tmp_path)) is None
    path = write(tmp_path, [line("a", "Oslo")])
    assert find_official(str(tmp_path)) == find_official(str(path)) == find_official(f"file://{path}") == path
    other = tmp_path / "other.jsonl"
    other.touch()
    assert find_official(str(other)) is None
    assert find_official(str(other), labelled=True) == other
    (tmp_path / "2026_collect_x.eval").touch()
    with pytest.raises(ValueError, match=r"m_answer_tokens_train\.jsonl, 2026_collect_x\.eval.*name the one you mean"):
        find_official(str(tmp_path))
    (tmp_path / "2026_collect_x.eval").unlink()
    write(tmp_path, [line("a", "Oslo")], part="_test")
    with pytest.raises(ValueError, match="several files of answers"):
        find_official(str(tmp_path))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no answers"),
        (["\n", " \n"], "holds no answers"),
        ([line("a", "Oslo"), "{nonsense}\n"], r"train\.jsonl, line 2 is not the JSON"),
        ([line("a", "Oslo"), "\n", '{"b": {"question": "Who?"\n'], "line 3 is not the JSON"),
        (["[" * 100_000], "line 1 is not the JSON it should be .nested too deeply"),
        (['{"a": ' + "9" * 5000 + "}"], "line 1 is not the JSON"),
        (['["a"]'], "line 1 should be an object with one id"),
        (["{}"], "line 1 should be an object with one id"),
        (['{"a": "Oslo"}'], "line 1 should be an object with one id"),
        ([json.dumps(json.loads(line("a", "Oslo")) | json.loads(line("b", "Oslo")))], "an object with one id"),
        ([line("a", "Oslo"), line("b", "Lima"), line("a", "Rome")], "line 3 has the id 'a' of line 1 again"),
        (['{"a": {"question": "Q", "response": "R", "response": "S"}}'], "'response' stands twice"),
        ([line("a", "Oslo", question=None)], "line 1 should have question as a string, found only response"),
        ([line("a", "Oslo", question=" ")], "line 1 has an empty question"),
        ([line("a", "Oslo", response=None)], "should have response as a string"),
        ([line("a", "Oslo", response=7)], "should have response as a string, found a number"),
        ([line("a", "Oslo", response=["Oslo"])], "should have response as a string, found a list"),
        ([line("a", "Oslo", tokenized_response="Oslo")], "tokenized_response as a list of strings, found a string"),
        ([line("a", "Oslo", answer_tokens=["Oslo", 3])], "answer_tokens as a list of strings, found a number in it"),
        ([line("a", "Oslo", judge=True)], "judge as a string, found a truth value"),
        (['{"a": {"question": "Q", "response": "\\ud83d"}}'], "line 1 has half of a surrogate pair in response"),
        (['{"\\udc00": {"question": "Q", "response": "R"}}'], "half of a surrogate pair in an id"),
        ([line("b", "Oslo")], "none of the 1 answers .* is among the 1 labels"),
    ],
)
def test_malformed_answers_are_refused_by_file_and_line(tmp_path: Path, lines: list[str], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        read_official(write(tmp_path, lines, {"t": ["a"], "f": []}))
    assert "m_answer_tokens_train.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_answers_that_are_not_text_are_refused(tmp_path: Path):
    path = write(tmp_path, [], {"t": ["a"], "f": []})
    path.write_bytes(line("a", "Oslo").encode() + b'{"b": "\xff\xfe"}\n')
    with pytest.raises(ValueError, match=r"line 2 is not the JSON it should be \(not UTF-8\)"):
        read_official(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("", "line 1 is not the JSON"),
        ('{"t": ["a"],\n "f": [,]}', "line 2 is not the JSON"),
        ('["a"]', "found a list"),
        ('{"t": ["a"]}', "found the keys t"),
        ("{}", "found the keys none"),
        ('{"t": ["a"], "f": [], "u": []}', "found the keys t, f, u"),
        ('{"t": ["a"], "f": null}', "f as a list of strings, found null"),
        ('{"t": ["a"], "f": [1]}', "f as a list of strings, found a number in it"),
        ('{"t": ["a", "b", "a"], "f": []}', "the id 'a' in t and again in t"),
        ('{"t": ["a"], "f": ["a"]}', "the id 'a' in t and again in f"),
        ('{"t": ["a"], "t": ["b"], "f": []}', "'t' stands twice"),
        ('{"t": [], "f": []}', "among the 0 labels"),
    ],
)
def test_malformed_labels_are_refused_by_file(tmp_path: Path, labels: str, message: str):
    path = write(tmp_path, [line("a", "Oslo")])
    (tmp_path / "m_train_qids.json").write_text(labels)
    with pytest.raises(ValueError, match=message) as caught:
        read_official(path)
    assert "m_train_qids.json" in str(caught.value)


def test_missing_labels_are_refused(tmp_path: Path):
    path = write(tmp_path, [line("a", "Oslo")])
    with pytest.raises(ValueError, match=r"has no labels .* labels=FILE"):
        read_official(path)
    with pytest.raises(ValueError, match="does not exist"):
        read_official(path, tmp_path / "nowhere.json")


# --- capturing them ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path]) -> str:
    return f"hneurons/{tiny_checkpoint(max_position_embeddings=512)}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """24 answers, half of either class, one of them without answer tokens, and one more of one class."""
    lines = [line(f"q{k}", city, **({"answer_tokens": []} if k == 3 else {})) for k, city in enumerate(CITIES)]
    names = [f"q{k}" for k in range(len(CITIES))]
    return write(tmp_path / "files", [*lines, line("more", "Bonn")], {"t": [*names[::2], "gone"], "f": names[1::2]})


def details(log: EvalLog) -> dict[str, dict[str, Any]]:
    return {str(s.id): (s.scores or {})["captured"].metadata or {} for s in log.samples or []}


def figures(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: one.value for score in log.results.scores for name, one in score.metrics.items()}


def test_official_answers_are_captured_at_the_authors_tokens_and_probed(tiny: str, files: Path, tmp_path: Path):
    log = stage("capture", tmp_path, tiny, responses=str(files), span="official")
    assert log.status == "success"
    assert {key: (log.eval.metadata or {})[key] for key in ("source", "labels", "span", "without_label")} == {
        "source": str(files),
        "labels": str(files.with_name("m_train_qids.json")),
        "span": "official",
        "without_label": 1,
    }
    assert (log.eval.metadata or {})["without_answer"] == 1
    assert "may be another model" in (log.eval.metadata or {})["answered_by"]
    found = details(log)
    assert set(found) == {f"q{k}" for k in range(24)}
    for name, one in found.items():
        city = CITIES[int(name[1:])]
        assert one["label"] == ("hallucinated" if int(name[1:]) % 2 else "faithful")
        assert one["question"] == f"Which city is number {name}?"
        assert (one["aliases"], one["relation"]) == ([], None)
        if name == "q3":
            assert not one.get("contributions")
        else:
            assert one["span"] == [6, 6 + len(city)]
            assert not one["whole_response"]
    sample = next(s for s in log.samples or [] if s.id == "q0")
    assert [m.text for m in sample.input if not isinstance(m, str)] == [f"Which city is number q0?{ANSWER_ONLY}"]
    assert figures(log)["span_missing"] == 1
    assert (figures(log)["faithful"], figures(log)["hallucinated"]) == (12, 11)
    probed = stage(
        "probe", tmp_path, tiny, features=log.location, mode="1-vs-1", penalty="l2", C=1.0, folds=3, controls=3
    )
    assert probed.status == "success"
    assert {str(s.id) for s in probed.samples or []} == set(found) - {"q3"}


@pytest.mark.parametrize("span", ["rule", "response"])
def test_other_spans_work_on_official_answers(tiny: str, files: Path, tmp_path: Path, span: str):
    log = stage("capture", tmp_path, tiny, responses=str(files.parent), span=span, per_class=5)
    found = details(log)
    assert Counter(one["label"] for one in found.values()) == {"faithful": 5, "hallucinated": 5}
    for name, one in found.items():
        city = CITIES[int(name[1:])]
        assert one["span"] == ([6, 6 + len(city)] if span == "rule" else [0, 7 + len(city)])
    whole = 1.0 if span == "response" else 0.0
    assert {figures(log)[f"whole_response{label}"] for label in ("", "_faithful", "_hallucinated")} == {whole}
    assert figures(log)["span_coverage"] == 1


def test_what_cannot_be_captured_is_refused_in_one_sentence(tiny: str, files: Path, tmp_path: Path):
    names = [f"q{k}" for k in range(4)]
    labels = {"t": names[:2], "f": names[2:]}
    bare = write(tmp_path / "bare", [line(name, "Oslo", answer_tokens=[]) for name in names], labels)
    one_class = write(tmp_path / "one", [line("a", "Oslo")], {"t": ["a"], "f": []})
    other = tmp_path / "other.json"
    other.write_text('{"t": ["nobody"], "f": []}')
    for options, message in (
        ({"responses": str(bare), "span": "official"}, "no answer tokens"),
        ({"responses": str(one_class)}, "1 consistently right and 0 consistently wrong .* labels of both classes"),
        ({"responses": str(files), "labels": str(other)}, "none of the 25 answers"),
        ({"responses": str(files), "labels": "nowhere.json"}, "does not exist"),
        ({"responses": str(tmp_path), "span": "official"}, "span=official goes with the official repository's files"),
        ({"responses": str(tmp_path), "labels": str(other)}, "labels goes with the official repository's files"),
        ({"responses": str(files), "span": "llm"}, "no grader is bound"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            stage("capture", tmp_path, tiny, **options)
        assert "\n" not in caught.value.message
    with pytest.raises(UsageError, match="hneurons/MODEL"):
        stage("capture", tmp_path, "mockllm/model", responses=str(files))
