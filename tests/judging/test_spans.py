"""The span is the answer, in the response's own characters, whatever those characters are."""

import os
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hneurons_eval.judging.aliases import Text
from hneurons_eval.judging.spans import answer_span, token_positions
from hneurons_eval.judging.words import lexical_words


def said(question: str, response: str, *aliases: str) -> str | None:
    span = answer_span(question, response, aliases)
    return None if span is None else response[slice(*span)]


FRANCE = "What is the capital of France?"


@pytest.mark.parametrize(
    ("question", "response", "answer"),
    [
        (FRANCE, "Paris", "Paris"),
        (FRANCE, "  Paris.\n", "Paris"),
        (FRANCE, "The capital of France is Paris.", "Paris"),
        (FRANCE, "The capital of France is **Paris**.", "Paris"),
        (FRANCE, "Paris is the capital of France.", "Paris"),
        (FRANCE, "The answer is Paris.", "Paris"),
        (FRANCE, "Answer: Paris", "Paris"),
        (FRANCE, "**Answer:** “Paris”.", "Paris"),
        (FRANCE, '"Paris"', "Paris"),
        (FRANCE, "(Paris)", "Paris"),
        (FRANCE, "`Paris`", "Paris"),
        (FRANCE, "Well, I think it is Paris.", "Paris"),
        (FRANCE, "What is the capital of France? Paris.", "Paris"),
        (FRANCE, "The capital of France", "The capital of France"),  # nothing but echo
        (FRANCE, "...", "..."),
        (FRANCE, "I don’t know.", "I don’t know"),  # the caller filters refusals
        ("Which battle was fought in 1066?", "Battle of Hastings", "Battle of Hastings"),
        ("Who wrote it?", "J. R. R. Tolkien", "J. R. R. Tolkien"),
        ("Who?", 'The answer is "J. R. R. Tolkien".', "J. R. R. Tolkien"),
        ("Which film?", "It's a Wonderful Life", "It's a Wonderful Life"),
        ("Which hymn?", "There Is a Green Hill Far Away", "There Is a Green Hill Far Away"),
        (
            "Who invented the lamp?",
            "It was invented by Thomas Edison in his laboratory.",
            "Thomas Edison in his laboratory",
        ),
        ("Who invented the lamp?", "The lamp was invented by Thomas Edison.", "Thomas Edison"),
        ("From which country does halva come?", "The answer is: halva comes from Iran", "Iran"),
        ("To which continent does Peru belong?", "Peru belongs to the continent of South America.", "South America"),
        ("To which continent does Peru belong?", "The continent Peru belongs to is South America.", "South America"),
        ("To which continent does Peru belong?", "Peru belongs to Asia, which is the largest", "Asia"),
        ("Where are the Andes?", "The Andes are located in South America.", "South America"),
        ("What is an official language of Germany?", "The official language of Germany is German.", "German"),
        ("What was the currency of France?", "The currency of France was the franc.", "franc"),
        ("What is made of clay?", "It is a dish, and it is made of clay.", "a dish, and it is made of clay"),
        # Words of the question in a title or a name are the answer's own.
        ("Which sequel to The Long Way Home was it?", "The Long Way Home 2: Lost in Boston", None),
        ("What was the song that you know?", '"I Will Always Know" by Some Singer and Some Other One', None),
        ("Which southern college is it?", "Southern Institute of Learning (SIL) and the Other College", None),
        ("Which bank was it?", "Bank Bros. Holdings", None),
        ("Which song about love is it?", "Love Is All Around Us", None),
        ("Which band has a singer?", "Singers. They won twice.", "Singers"),
        ("Which part of the eye is it?", "part of the retina", None),
        # The period that belongs to an abbreviation, the bracket that belongs to what it opens.
        ("Which band?", "The band is called A.B.C.", "A.B.C."),
        ("Who?", "John Smith Jr.", "John Smith Jr."),
        ("Which vitamin?", "Vitamin C.", "Vitamin C"),
        ("Where are the Andes?", "The Andes are located in the Union (U).", "Union (U)"),
        ("What is on it?", "The Union (U) is on it.", "The Union (U)"),
        # What it says last, where it says that this is the answer.
        (FRANCE, "Lyon is not correct. The answer is Paris.", "Paris"),
        (FRANCE, "Let me think. Lyon is larger, so the final answer is: **Paris**.", "Paris"),
        (FRANCE, "Paris. I hope that the answer is correct.", "Paris"),
        (FRANCE, "Paris, or more likely, the answer is", "Paris, or more likely, the answer is"),
        ("Temperature?", "-12", "-12"),
        ("?", "🚁", "🚁"),
    ],
)
def test_without_an_alias_the_question_is_left_out(question: str, response: str, answer: str | None):
    """None: the response is left whole."""
    assert said(question, response) == (response if answer is None else answer)


@pytest.mark.parametrize("response", ["", " ", "\n\t", "\u3000"])
def test_no_span_in_white_space(response: str):
    assert answer_span(FRANCE, response, ["Paris"]) is None


@pytest.mark.parametrize(
    ("question", "response", "aliases", "answer"),
    [
        (FRANCE, "I believe that it is PARIS, of course", ["Paris"], "PARIS"),
        (FRANCE, "early, by ear", ["ear"], "ear"),
        ("?", "Cafe\u0301 Zu\u0308rich!", ["Café Zürich"], "Cafe\u0301 Zu\u0308rich"),
        ("?", "It’s Rock ’n’ Roll", ["Rock 'n' Roll"], "Rock ’n’ Roll"),
        ("?", "答えは東京です。", ["東京"], "東京"),
        ("?", "정답은 파리는", ["파리"], "파리"),
        ("?", "एक नई दिल्ली है", ["नई दिल्ली"], "नई दिल्ली"),
        ("?", "הבירה היא ירושלים.", ["ירושלים"], "ירושלים"),
        ("?", "It is a 🚁!", ["🚁"], "🚁"),
        ("?", "Ｐａｒｉｓ", ["Paris"], "Ｐａｒｉｓ"),
        ("?", "The beaches of Nice, France", ["Nice", "Nice, France"], "Nice, France"),
        ("Is it Paris or London?", "Is it Paris or London? It is Paris.", ["Paris"], "Paris"),
        ("?", "The band The Who did", ["The Who"], "The Who"),
        ("?", "It is Mamma Mia! of course", ["Mamma Mia!"], "Mamma Mia!"),
        ("?", "On July 4th, 1776, I think", ["1776-07-04"], "July 4th, 1776"),
        ("?", "some 12,000 people", ["12000"], "12,000"),
        ("?", "about twenty-five of them", ["25"], "twenty-five"),
        ("?", "It cost £500.", ["£500"], "£500"),
        ("?", "the JRR Tolkien book", ["J. R. R. Tolkien"], "JRR Tolkien"),
    ],
)
def test_alias_span(question: str, response: str, aliases: list[str], answer: str):
    assert said(question, response, *aliases) == answer


def test_the_occurrence_outside_the_echo_is_taken_then_the_first():
    question = "Was Paris or London the first capital?"
    response = "Was Paris or London the first capital? I say Paris. Paris!"
    assert answer_span(question, response, ["Paris"]) == (45, 50)


ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(ANY, ANY, st.lists(ANY, max_size=3))
def test_a_span_is_a_trimmed_part_of_the_response(question: str, response: str, aliases: list[str]):
    span = answer_span(question, response, aliases)
    assert span == answer_span(question, response, aliases)
    if not response.strip():
        assert span is None
        return
    assert span is not None
    start, end = span
    assert 0 <= start < end <= len(response)
    assert response[start:end] == response[start:end].strip()


CARRIER = st.text(st.sampled_from("xyz XYZ,;é漢🚀ش\n\u0301"), max_size=40)


@settings(max_examples=300, deadline=None)
@given(CARRIER, st.text("abcdeöß", min_size=5, max_size=12), CARRIER)
def test_an_embedded_alias_is_recovered(before: str, alias: str, after: str):
    response = f"{before} {alias} {after}"
    assert response[slice(*(answer_span("?", response, [alias]) or (0, 0)))] == alias


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_words_know_their_characters(text: str):
    for words in (lexical_words(text), Text(text).words):
        assert all(0 <= w.start < w.end <= len(text) and w.text for w in words)


def test_spans_do_not_depend_on_the_hash_seed():
    code = (
        "from hneurons_eval.judging.spans import answer_span as a\n"
        "print(a('Is it b or c?', 'It is b, or c, or B or C. bb', ['c', 'b', 'bb', 'or C', 'b or', 'B, or']))"
    )
    run = [sys.executable, "-c", code]
    seen = {
        subprocess.run(run, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in "012"
    }
    assert len(seen) == 1


HOSTILE = [
    "Paris or ", "1,", "(", "\n", "What is Paris? ", "Paris\n", "e\u0301", "the ", '"', "is ", "Paris is ", "A.",
    "capital of ", "the answer is ", ", which is ", "(Paris ",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.timeout(100)  # quadratic time takes minutes: a hang, not a slow machine
def test_a_hostile_response_does_not_hang(unit: str):
    response = unit * (100_000 // len(unit)) + "x"
    answer_span(FRANCE, response, ["Paris", "A", "1"])
    answer_span(FRANCE, response)


# Scripts, marks and signs whose characters take several bytes, several tokens, or join with what stands beside them.
SIGNS = [
    *"aZ9 .,;\n'\"()", *"éßñ", "e\u0301", *"漢字東京", *"한국", *"नमस्ते", *"ירוש", *"القاهرة", "\u200f", "🚁",
    "🧑\u200d🚀", "🇫🇷", "👍🏽", "\u0301", "\ufeff", "\u3000", "is ", "the ", "Which ",
]  # fmt: skip
SCRIPTS = st.lists(st.sampled_from(SIGNS), max_size=25).map("".join)


@settings(max_examples=300, deadline=None)
@given(SCRIPTS, SCRIPTS)
def test_a_span_stays_within_a_response_of_any_script(question: str, response: str):
    span = answer_span(question, response)
    assert (span is None) == (not response.strip())
    if span is not None:
        assert 0 <= span[0] < span[1] <= len(response)
        assert response[slice(*span)].strip() == response[slice(*span)]


@settings(max_examples=300, deadline=None)
@given(SCRIPTS, st.sampled_from(["Paris", "東京都", "القاهرة", "🧑\u200d🚀", "Zu\u0308rich"]), st.integers(1, 4))
def test_of_a_repeated_answer_one_occurrence_is_taken(before: str, alias: str, times: int):
    assume(alias not in before)
    response = before + " " + f"{alias} ; " * times
    start, end = answer_span("Which one?", response, [alias]) or (0, 0)
    assert response[start:end] == alias
    assert response.index(alias) == start


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_token_positions_are_the_tokens_that_share_a_character_with_the_span(data: st.DataObject):
    """By brute force over characters; tokens may share one, cover several or have none."""
    length = data.draw(st.integers(1, 12))
    edges = st.integers(0, length)
    offsets = data.draw(st.lists(st.tuples(edges, edges).map(lambda pair: (min(pair), max(pair))), max_size=12))
    start, end = sorted(data.draw(st.tuples(edges, edges)))
    found = token_positions(offsets, (start, end))
    assert found == [k for k, (a, b) in enumerate(offsets) if set(range(a, b)) & set(range(start, end))]


def test_token_positions():
    offsets = [(0, 0), (0, 3), (3, 9), (9, 9), (9, 10), (9, 10), (10, 12)]
    assert token_positions(offsets, (4, 10)) == [2, 4, 5]
    assert token_positions(offsets, (3, 4)) == [2]
    assert token_positions(offsets, (12, 15)) == []
    assert token_positions([], (0, 3)) == []


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from hneurons_eval.models.checkpoints import resolve_model

    return AutoTokenizer.from_pretrained(resolve_model("smollm2-135m-instruct"))


@settings(max_examples=200, deadline=None)
@given(question=SCRIPTS, response=SCRIPTS)
def test_tokens_of_the_span_spell_it_in_any_script(tokenizer, question: str, response: str):
    span = answer_span(question, response)
    if span is None:
        return
    encoded = tokenizer(response, return_offsets_mapping=True, add_special_tokens=False)
    offsets, ids = encoded["offset_mapping"], encoded["input_ids"]
    positions = token_positions(offsets, span)
    assert positions == list(range(positions[0], positions[-1] + 1))
    covered = {k for p in positions for k in range(*offsets[p])}
    assert set(range(*span)) <= covered
    for p, (a, b) in enumerate(offsets):
        assert (p in positions) == bool(set(range(a, b)) & set(range(*span)))
    assert response[slice(*span)] in tokenizer.decode([ids[p] for p in positions], clean_up_tokenization_spaces=False)


@pytest.mark.parametrize(
    ("response", "alias"),
    [
        ("The answer is Paris.", "Paris"),
        ("It is a 🧑‍🚀, I think", "🧑‍🚀"),
        ("答えは東京都です。", "東京都"),
        ("It’s “Don’t Look Now”, yes", "Don't Look Now"),
        ("Ça, c'est Zu\u0308rich!", "Zürich"),
        ("in 1,234,567 or so", "1234567"),
        ("العاصمة هي القاهرة.", "القاهرة"),
        ("Paris", "Paris"),
    ],
)
def test_tokens_of_a_byte_level_tokenizer_hold_the_whole_answer(tokenizer, response: str, alias: str):
    encoded = tokenizer(response, return_offsets_mapping=True, add_special_tokens=False)
    span = answer_span("?", response, [alias])
    assert span is not None
    positions = token_positions(encoded["offset_mapping"], span)
    assert positions == list(range(positions[0], positions[-1] + 1))
    # Decoding the very token ids gives the answer back, split characters and all.
    assert response[slice(*span)] in tokenizer.decode([encoded["input_ids"][k] for k in positions])
    without = [i for k, i in enumerate(encoded["input_ids"]) if k not in positions]
    assert response[slice(*span)] not in tokenizer.decode(without)
