"""The rule judge, refusals, an LLM judge's verdicts and multiple-choice replies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hneurons_eval.judging.choices import parse_choice
from hneurons_eval.judging.refusal import is_refusal
from hneurons_eval.judging.replies import parse_verdict
from hneurons_eval.judging.rule import judge_by_rule, normalise


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles!", "beatles"),
        ("Don’t", "don t"),
        ("ÉCOLE Straße", "ecole strasse"),
        ("Ｐａｒｉｓ", "paris"),
        ("1,000", "1000"),
        ("3.50", "3.5"),
        ("3.5.", "3.5"),
        ("-12", "-12"),
        ("$5", "5 dollars"),
        ("50%", "50 percent"),
        ("The The", "the the"),
        ("Vitamin A", "vitamin a"),
        ("東京", "東 京"),
        ("Ελλάδα", "ελλαδα"),
        ("٣", "3"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, normal: str):
    assert normalise(text) == normal


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80))
def test_normalise_never_raises_and_settles(text: str):
    assert normalise(normalise(text)) == normalise(text)


CORRECT = [
    ("Paris", "Paris"),
    ("**Paris**.", "paris"),
    ("Cafe\u0301", "café"),
    ("東京です", "東京"),
    ("🚁", "🚁"),
    ("helicopter", "Helicopters"),
    ("potatoes", "Potato"),
    ("The Beatles' album", "Beatles"),
    ("Poe's", "Poe"),
    ("Spiderman", "Spider-Man"),
    ("JRR Tolkien", "J. R. R. Tolkien"),
    ("Simon & Garfunkel", "Simon and Garfunkel"),
    ("Lennon and McCartney", "John Lennon and Paul McCartney"),
    ("McCartney and Lennon", "John Lennon and Paul McCartney"),
    ("Sinclair Lewis", "Lewis, Sinclair"),
    ("Harry Sinclair Lewis", "Lewis, (Harry) Sinclair"),
    ("Sinclair Lewis", "(Harry) Sinclair Lewis"),
    ("Columbia", "Columbia (town)"),
    # numbers
    ("12", "twelve"),
    ("twelve", "12"),
    ("Ninety nine", "99"),
    ("twenty-one", "21"),
    ("two hundred and five", "205"),
    ("1.5 million", "1,500,000"),
    ("$5 million", "$5,000,000"),
    ("5 per cent", "5%"),
    ("1984", "Nineteen Eighty-Four"),
    ("the 1st", "First"),
    ("World War One", "World War 1"),
    # dates
    ("July 4, 1776", "4 July 1776"),
    ("on the 4th of July, 1776", "1776-07-04"),
    ("1776-07-04", "Jul. 4 1776"),
    ("July 4, 1776", "1776"),
    # short ones
    ("A", "A"),
    ("The answer is A.", "A"),
    ("It", "It"),
    ("The band The Who", "The Who"),
    ("The The", "The The"),
    ("Vitamin A is one", "Vitamin A"),
    ("Po River", "Po (disambiguation)"),
    # one answer, though it looks like two
    ("Paris, France", "Paris"),
    ("Austin, Texas, USA", "Austin"),
    ("Portland, OR", "Portland"),
    ("AC/DC", "AC/DC"),
    ("Truth or Dare", "Truth or Dare"),
    ("The Three Wise Men (or Magi)", "Three Wise Men"),
    ("Gold, frankincense, and myrrh", "gold, frankincense and myrrh"),
    ("Dutch (specifically, of Javanese, Frisian and Indonesian descent)", "Dutch"),
    ("The Alamo, San Antonio, Texas", "Alamo"),
    ("The Alamo, San Antonio, Texas", "San Antonio"),
    # an alias that lists things, in another order and with other signs between them
    ("knife, fork, spoon", "Knife, Fork and Spoon"),
    ("Spoon, fork and knife.", "knife, fork, and spoon"),
    ("1. Spoon\n2. Fork\n3. Knife", "Knife, fork & spoon"),
    ("The answer is: the fork and the knife", "knife and fork"),
    ("sugar + flour", "Flour and sugar"),
    ("A, C, B", "A, B and C"),
    ("2, 1", "1 and 2"),
    ("Dr. Anna Keller, Otto Brandt", "Otto Brandt and Anna Keller"),
    # a name without its title, or with an initial for a middle name
    ("Anna Keller", "Sir Anna Keller"),
    ("Anna Keller.", "PROFESSOR ANNA KELLER"),
    ("Otto IV", "King Otto IV"),
    ("Anna Maria Keller", "Anna M. Keller"),
    ("Anna M. Keller", "Dr Anna Maria Keller"),
    # asserted all the same
    ("It isn't Lyon, it's Paris", "Paris"),
    ("I'm not sure, but I think it is Paris", "Paris"),
    ("Not only Paris", "Paris"),
    ("You Cannot Be Serious", "You Cannot Be Serious"),
    ("I Can't Get No Satisfaction", "(I Can't Get No) Satisfaction"),
    ("Paris\n\nQuestion: What is the capital of Italy?\nAnswer: Rome", "Paris"),
]


@pytest.mark.parametrize(("response", "alias"), CORRECT)
def test_correct(response: str, alias: str):
    assert judge_by_rule(response, [alias]) == "correct"


INCORRECT: list[tuple[str, str]] = [
    ("early", "ear"),
    ("soil", "oil"),
    # numbers
    ("12,000", "12"),
    ("1.12", "12"),
    ("-12", "12"),
    ("5 million", "5"),
    ("1, 2", "12"),
    ("10:30", "30"),
    ("1939-1945", "1945"),
    ("12 July", "12"),
    # short ones, and words of every sentence
    ("A dog", "A"),
    ("It is a", "A"),
    ("I think so", "I"),
    ("It is London", "It"),
    ("who knows", "The Who"),
    ("Vitamin C", "Vitamin A"),
    ("Hepatitis B", "Hepatitis A"),
    ("the", "the"),
    ("the answer", "The"),
    ("London!", "!"),
    # negated
    ("not Paris", "Paris"),
    ("It isn't Paris, it's Lyon.", "Paris"),
    ("It isn’t Paris, it’s Lyon.", "Paris"),
    ("anything other than Paris", "Paris"),
    ("Paris is wrong", "Paris"),
    # several candidates
    ("Paris or Lyon", "Paris"),
    ("Paris, or Lyon", "Paris"),
    ("either Lyon or Paris", "Paris"),
    ("16 or 17", "17"),
    ("Paris/Lyon", "Paris"),
    ("It could be Paris, London, Rome", "Paris"),
    ("Paris, London, Rome and Berlin", "Rome"),
    ("France, Germany, Italy", "France"),
    ("1. Paris\n2. London\n3. Rome", "Paris"),
    ("Zurich, Geneva, Basel", "Geneva"),
    ("Alamo, Dallas and Texas", "Alamo"),
    # not all of the things that an alias lists, more than those, or another
    ("knife, fork", "knife, fork and spoon"),
    ("knife, fork, spoon, plate", "knife, fork and spoon"),
    ("knife, fork, knife", "knife and fork"),
    ("knife or fork", "fork and knife"),
    ("1, 23", "12 and 3"),
    # other people, and other things whose last words are the same
    ("John Adams", "John Q. Adams"),
    ("John Q. Adams", "John Adams"),
    ("Anna M. Keller", "Anna P. Keller"),
    ("Anna Maria Brandt", "Anna M. Keller"),
    ("Keller", "Professor Keller"),
    ("Northern Electric Company", "General Electric Company"),
    ("the North of Wales", "Prince of Wales"),
    ("None", "Paris"),
    # echoes, and another answer announced
    ("Is Paris the capital of France?", "Paris"),
    ("Question: Is it Paris\nAnswer: Rome", "Paris"),
    ("I considered Paris. The answer is Lyon.", "Paris"),
    # no refusals
    ("I'm not sure, but I think it is London", "Paris"),
    ("Unknown Mortal Orchestra", "Paris"),
    ("I Don't Know How to Love Him", "Paris"),
]


@pytest.mark.parametrize(("response", "alias"), INCORRECT)
def test_incorrect(response: str, alias: str):
    assert judge_by_rule(response, [alias]) == "incorrect"


def test_all_candidates_right():
    assert judge_by_rule("Istanbul or Constantinople", ["Istanbul", "Constantinople"]) == "correct"


REFUSALS = [
    "",
    "  \n",
    "...",
    "I don't know",
    "I don’t know.",
    "I dont know who that is",
    "I do not have enough information to answer.",
    "I'm not sure.",
    "I’m not sure about that.",
    "I cannot answer that.",
    "Sorry, I can't help with that.",
    "I apologize, but I cannot provide that information. Please consult the official website instead.",
    "As an AI language model, I don't have access to real-time data.",
    "Unknown",
    "The answer is unknown.",
    "No information available",
    "There is no information about this person.",
    "N/A",
    "I don't know who wrote Hamlet.",
]


@pytest.mark.parametrize("response", REFUSALS)
def test_refusals(response: str):
    assert is_refusal(response)
    assert judge_by_rule(response, ["Hamlet"]) == "not_attempted"


@pytest.mark.parametrize(
    "response",
    [
        "Paris",
        "You Cannot Be Serious",
        "Unknown Mortal Orchestra",
        "No Country for Old Men",
        "I don't know, but I think Paris",
    ],
)
def test_no_refusals(response: str):
    assert not is_refusal(response)


def test_aliases_are_checked():
    with pytest.raises(ValueError, match="at least one"):
        judge_by_rule("Paris", [])
    with pytest.raises(TypeError, match="list"):
        judge_by_rule("Paris", "Paris")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_any_text_is_judged(response: str, aliases: list[str]):
    verdict = judge_by_rule(response, aliases)
    assert verdict == judge_by_rule(response, aliases[::-1])
    if not normalise(response):
        assert verdict == "not_attempted"


@settings(max_examples=300, deadline=None)
@given(st.text("abcdefgé漢ש ", min_size=4, max_size=20).filter(lambda a: len(normalise(a)) > 3))
def test_the_alias_itself_is_correct(alias: str):
    assert judge_by_rule(alias, [alias]) == "correct"
    assert judge_by_rule(f"**{alias.upper()}**.", [alias]) == "correct"


@pytest.mark.parametrize(
    "unit",
    [
        *["Paris or ", "Paris\n", "1,", "1", "(", "\n", '"', "B. ", "not ", "\\boxed{"],
        *["I don't know. ", "the answer is ", "What is Paris? "],
    ],
)
@pytest.mark.timeout(100)  # quadratic time takes minutes: a hang, not a slow machine
def test_hostile_replies_do_not_hang(unit: str):
    text = unit * (100_000 // len(unit)) + "x"
    judge_by_rule(text, ["Paris", "A", "1"])
    is_refusal(text)
    parse_verdict(text)
    parse_choice(text, {"A": "Paris", "B": "1"})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("correct", "correct"),
        ("INCORRECT", "incorrect"),
        ("NOT ATTEMPTED", "not_attempted"),
        ("not-attempted.", "not_attempted"),
        (" **Correct** ", "correct"),
        ('"incorrect".', "incorrect"),
        ('{"verdict": "correct"}', "correct"),
        ('```json\n{"verdict": "not_attempted", "reason": "\\"incorrect\\""}\n```', "not_attempted"),
        ("", "unparsed"),
        ("true", "unparsed"),
        ("NOT CORRECT", "unparsed"),
        ("NOT ACCEPTED", "unparsed"),
        ("The answer is correct", "unparsed"),
        ("correct, incorrect", "unparsed"),
        ("incorrect, I mean correct", "unparsed"),
        ("correct..", "unparsed"),
        ('{"verdict": "correct", "verdict": "incorrect"}', "unparsed"),
        ('{"verdict": {"verdict": "correct"}}', "unparsed"),
        ('{"verdict": "correct", "score": 1}', "unparsed"),
        ('{"verdict": "correct", "reason": 1}', "unparsed"),
        ('{"reason": "correct"}', "unparsed"),
        ('{"verdict": "correct"} {"verdict": "incorrect"}', "unparsed"),
        ('["correct"]', "unparsed"),
        ('{"a":' * 10_000, "unparsed"),
    ],
)
def test_parse_verdict(text: str, verdict: str):
    assert parse_verdict(text) == verdict


CITIES = {"A": "London", "B": "Paris", "C": "Rome", "D": "New York City"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B) Paris", "B"),
        ("B Paris", "B"),
        ("C: Rome", "C"),
        ("The answer is B", "B"),
        ("Answer: (C)", "C"),
        ("Answer:\n\nB", "B"),
        ("The correct answer is **B**.", "B"),
        ("The answer is B because London is wrong", "B"),
        ("The answer is B, not C.", "B"),
        ("Based on the context, C", "C"),
        (r"final answer is \boxed{D}", "D"),
        (r"$\boxed{\text{B}}$", "B"),
        ("I choose D.", "D"),
        ("Option C", "C"),
        ("Paris", "B"),
        ("I think Paris", "B"),
        ("The answer is A. Wait. The final answer is C.", "C"),
        ("B\n\nExplanation: Paris is the capital, not London.", "B"),
        ("B. The correct answer is supported by the text.", "B"),
        ("Bacteria are small", None),
        ("A dog", None),
        ("The answer is A dog", None),
        ("I think it is a cat", None),
        ("A or B", None),
        ("A/B", None),
        ("A, B", None),
        ("Either A or B", None),
        ("The answer is A or B", None),
        ("Paris and Rome", None),
        ("B) London", None),
        ("A Paris", None),
        ("The answer is (B) London", None),
        ("not A", None),
        ("The answer is not A", None),
        ("It is not Paris", None),
        ("A. C. Clarke", None),
        ("Vitamin C", None),
        ("None of the above", None),
        ("", None),
    ],
)
def test_parse_choice(text: str, label: str | None):
    assert parse_choice(text, CITIES) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *[("2", "2"), ("1.", "1"), ("(3)", "3"), ("New York", "2"), ("York", "1"), ("12", "3")],
        *[("1.5", None), ("1,000", None)],
    ],
)
def test_numbered_choices_and_the_longer_text(text: str, label: str | None):
    assert parse_choice(text, {"1": "York", "2": "New York", "3": "12"}) == label


def test_choices_are_checked():
    with pytest.raises(ValueError, match="empty"):
        parse_choice("A", {})


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_reply_gives_a_label_or_none(text: str):
    assert parse_choice(text, CITIES) in {None, *CITIES}
    assert parse_verdict(text) in {"correct", "incorrect", "not_attempted", "unparsed"}


@pytest.mark.parametrize(
    ("response", "alias", "verdict"),
    [
        ("It is in the US.", "US", "correct"),
        ("the U.S.", "US", "correct"),
        ("The US", "U.S.", "correct"),
        ("Nobody told us.", "US", "incorrect"),
        ("It was founded by the WHO in 1948", "WHO", "correct"),
        ("The man who did it", "WHO", "incorrect"),
        ("He is there", "HE", "incorrect"),
    ],
)
def test_an_acronym_that_is_also_a_word_counts_in_capitals(response: str, alias: str, verdict: str) -> None:
    assert judge_by_rule(response, [alias]) == verdict
