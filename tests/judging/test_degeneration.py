"""Text that is no answer any more, told from text that only looks odd."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hneurons_eval.judging.degeneration import (
    MAX_UNIT,
    MIN_REPEATS,
    is_degenerate,
    is_empty,
    is_other_language,
    is_repetitive,
)

ENGLISH = "Why do the birds of the north fly to the south when the winter is near?"


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "...", "—!?", "\u200b", "**"])
def test_nothing_said_is_empty(text: str):
    assert is_empty(text)


@pytest.mark.parametrize("text", ["4", "Paris", "東京", "é", "I", "½"])
def test_anything_said_is_not_empty(text: str):
    assert not is_empty(text)


words = st.text("abcdefghij", min_size=1, max_size=6)


@given(st.lists(words, min_size=1, max_size=MAX_UNIT, unique=True), st.integers(6, 20), st.lists(words, max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_phrase_said_over_and_over_is_repetitive_whatever_stands_before(
    phrase: list[str], times: int, before: list[str]
):
    assert is_repetitive(" ".join(before + phrase * times))


@given(st.lists(words, min_size=1, max_size=60, unique=True))
@settings(max_examples=100, deadline=None)
def test_words_that_are_all_different_are_not_repetitive(said: list[str]):
    assert not is_repetitive(" ".join(said))


@pytest.mark.parametrize(
    "text",
    [
        "yes yes yes",
        "ha ha ha ha",
        "Bora Bora",
        "It is 1, 2, 3, 4, 5, 6, 7, 8.",
        "New York, New York, and again New York; then Boston, Chicago, Denver, Dallas and Detroit.",
        "The cat sat. The dog sat. The bird flew. The fish swam.",
    ],
)
def test_emphasis_and_lists_are_not_repetitive(text: str):
    assert not is_repetitive(text)


@pytest.mark.parametrize("text", ["a" * 40, "哈哈" * 20, "the " * 7, "Paris\n" * 9, "no, no, no, no, no, no, no,"])
def test_one_sign_or_word_on_end_is_repetitive(text: str):
    assert is_repetitive(text)


def test_the_fewest_repeats_count_only_if_they_are_half_of_the_text():
    phrase = "it goes on and on "
    assert is_repetitive(phrase * MIN_REPEATS)
    rest = " ".join(f"word{k}" for k in range(60))
    assert not is_repetitive(phrase * MIN_REPEATS + rest)


@pytest.mark.parametrize(
    "text",
    [
        "Птицы летят на юг, потому что зимой мало корма.",
        "鳥は冬に南へ飛びます。",
        "الطيور تطير جنوبا في الشتاء",
        "Les oiseaux volent vers le sud pour les mois de froid et pour le printemps dans une bande.",
        "Die Vögel fliegen nach Süden und sind mit dem Frühling wieder da, denn es ist nicht mehr kalt.",
    ],
)
def test_an_answer_in_another_script_or_language_is_noticed(text: str):
    assert is_other_language(text, ENGLISH)
    assert is_degenerate(text, ENGLISH)


@pytest.mark.parametrize(
    "text",
    [
        "They look for food.",
        "Schadenfreude",
        "Tokyo (東京)",
        "42",
        "Los Angeles",
        "La Traviata, Il Trovatore, Le Nozze di Figaro, Der Rosenkavalier, Die Fledermaus",
        "In the winter there is not enough food for them in the north, and the days are short.",
    ],
)
def test_names_short_answers_and_plain_english_are_not_another_language(text: str):
    assert not is_other_language(text, ENGLISH)


def test_the_language_is_that_of_the_question():
    question = "¿Por qué los pájaros vuelan hacia el sur para pasar el invierno?"
    answer = (
        "Los pájaros vuelan al sur para encontrar comida, porque en el norte hay muy poca durante los meses de frío."
    )
    assert not is_other_language(answer, question)
    assert is_other_language(
        "The birds fly to the south, since there is not much food for them in the winter.", question
    )


@given(st.text(max_size=300), st.text(max_size=100))
@settings(max_examples=200, deadline=None)
def test_any_text_is_taken(response: str, asked: str):
    assert is_degenerate(response, asked) in (True, False)
    if is_empty(response):
        assert is_degenerate(response, asked)
