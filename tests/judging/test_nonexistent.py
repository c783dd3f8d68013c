"""NonExist: real and invented entities that look alike, names that no list knows, and what counts as an assertion."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import MultinomialNB

from hneurons_eval.data.build.make_facts import fold as fold_words
from hneurons_eval.data.build.make_nonexist import comparable
from hneurons_eval.data.questions import Question, QuestionSetError, load_questions, normalise_question
from hneurons_eval.data.questions.nonexist import (
    GENDERS,
    TEMPLATES,
    entities,
    fold,
    genus_morphemes,
    is_near,
    joined,
    known_names,
    nonexist_questions,
)
from hneurons_eval.judging.nonexistent import judge_nonexistent, label_of
from hneurons_eval.judging.rule import judge_by_rule

QUESTIONS = load_questions("nonexist")
PAIRS = list(zip(QUESTIONS[::2], QUESTIONS[1::2], strict=True))
PACKAGE = resources.files("hneurons_eval.data.questions")


def name_of(question: Question) -> str:
    return question.metadata["entity"]


def as_bytes(questions: list[Question]) -> bytes:
    rows = [[q.id, q.question, list(q.aliases), q.relation, q.exists, dict(q.metadata)] for q in questions]
    return json.dumps(rows, ensure_ascii=False).encode()


# --- the set ---------------------------------------------------------------------------------------------


def test_every_relation_has_as_many_invented_as_real_questions():
    counts = Counter((q.relation, q.exists) for q in QUESTIONS)
    assert counts == {(relation, exists): 50 for relation in TEMPLATES for exists in (True, False)}
    assert {relation.split("/")[0] for relation in TEMPLATES} == set(entities())


def test_every_beginning_of_the_set_is_balanced():
    for size in (16, 64, 400):
        counts = Counter((q.relation, q.exists) for q in QUESTIONS[:size])
        assert set(counts.values()) == {size // 16}


def test_only_real_things_have_answers():
    assert all(bool(q.aliases) == q.exists for q in QUESTIONS)


def test_ids_questions_and_entities_are_unique():
    assert len({q.id for q in QUESTIONS}) == len({normalise_question(q.question) for q in QUESTIONS}) == len(QUESTIONS)
    assert len({name_of(q) for q in QUESTIONS}) == len(QUESTIONS)
    assert all(re.fullmatch(r"[\w-]+", q.id) for q in QUESTIONS)


def test_twins_name_each_other():
    for real, invented in PAIRS:
        assert (real.exists, invented.exists) == (True, False)
        assert real.relation == invented.relation
        assert (real.metadata["twin"], invented.metadata["twin"]) == (invented.id, real.id)
        assert real.metadata["domain"] == str(real.relation).split("/")[0]


def test_the_set_is_the_bytes_that_the_description_names():
    digest = hashlib.sha256(as_bytes(QUESTIONS)).hexdigest()
    assert digest in (PACKAGE / "NONEXIST.md").read_text("utf-8"), f"correct NONEXIST.md: the questions are {digest}"


def test_the_set_does_not_depend_on_the_order_of_hashes():
    code = (
        "import hashlib, json; from hneurons_eval.data.questions import load_questions;"
        "print(hashlib.sha256(repr(load_questions('nonexist')).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_another_seed_invents_other_names():
    one, two = ({name_of(q) for q in nonexist_questions(seed, 10) if not q.exists} for seed in (0, 1))
    assert len(one & two) < 8
    assert as_bytes(nonexist_questions(1, 10)) == as_bytes(nonexist_questions(1, 10))


@pytest.mark.parametrize("size", [0, -1, 56, 10**6])
def test_more_questions_than_entities_are_refused(size: int):
    with pytest.raises(QuestionSetError, match=r"per_relation should be from 1 to \d+"):
        nonexist_questions(per_relation=size)


def test_the_largest_set_that_is_offered_can_be_had():
    with pytest.raises(QuestionSetError) as caught:
        nonexist_questions(per_relation=10**6)
    most = int(re.findall(r"from 1 to (\d+)", str(caught.value))[0])
    assert most >= 50
    assert len(nonexist_questions(per_relation=most)) == 16 * most


# --- nothing on the surface ------------------------------------------------------------------------------


def test_real_and_invented_questions_share_one_template():
    for question in QUESTIONS:
        assert question.question.replace(name_of(question), "{}") == TEMPLATES[str(question.relation)]


def test_twins_have_the_same_words_capitals_and_nearly_the_same_length():
    for real, invented in PAIRS:
        one, other = name_of(real), name_of(invented)
        assert abs(len(one) - len(other)) <= 1, (one, other)
        assert [w[0].isupper() for w in one.split()] == [w[0].isupper() for w in other.split()], (one, other)
        assert other.replace(" ", "").isalpha()
        assert other.isascii()
        assert [w[1:].islower() for w in one.split()] == [w[1:].islower() for w in other.split()]


def test_length_tells_nothing():
    for relation in TEMPLATES:
        rows = [q for q in QUESTIONS if q.relation == relation]
        auroc = roc_auc_score([q.exists for q in rows], [len(q.question) for q in rows])
        assert 0.4 < auroc < 0.6, (relation, auroc)


def letter_auroc() -> dict[str, float]:
    """How well letter groups of a name tell real from invented, by domain, each pair held out with its twin."""
    found = {}
    for domain in entities():
        rows = [(k, q) for k, pair in enumerate(PAIRS) for q in pair if q.metadata["domain"] == domain]
        y = np.array([q.exists for _, q in rows])
        counts = CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)).fit_transform([name_of(q) for _, q in rows])
        scores = np.zeros(len(y))
        for train, test in GroupKFold(5).split(counts, y, [k for k, _ in rows]):
            scores[test] = MultinomialNB().fit(counts[train], y[train]).predict_proba(counts[test])[:, 1]
        found[domain] = float(roc_auc_score(y, scores))
    return found


def test_letter_groups_tell_less_than_they_could():
    """NONEXIST.md gives the figures; a list of unlike names would reach 0.95 and more."""
    found = letter_auroc()
    assert all(auroc < 0.86 for auroc in found.values()), found
    assert sum(found.values()) / len(found) < 0.75, found


# --- the real entities -----------------------------------------------------------------------------------


def test_every_domain_has_enough_real_entities_without_repetition():
    for domain, pool in entities().items():
        assert len(pool) >= 110, domain
        assert len({fold(entity.name) for entity in pool}) == len(pool), domain
        assert all(entity.answers for entity in pool)


def test_no_answer_stands_in_its_question():
    for pool in entities().values():
        for entity in pool:
            for relation, aliases in entity.answers.items():
                question = f" {fold_words(TEMPLATES[relation].format(entity.name))} "
                assert not [a for a in aliases if f" {fold_words(a)} " in question], (entity.name, relation)


@pytest.mark.parametrize(
    ("name", "relation", "right", "wrong"),
    [
        ("metformin", "medicine/treats", "Type 2 diabetes", "Hypertension"),
        ("ciprofloxacin", "medicine/class", "It is a fluoroquinolone antibiotic.", "macrolide"),
        ("Panthera leo", "species/common_name", "The lion", "The tiger"),
        ("Aquila chrysaetos", "species/kind", "a bird of prey", "a fish"),
        ("Erzurum", "places/continent", "Asia", "Africa"),
        ("Nottingham", "places/country", "the UK", "France"),
        ("Nokia", "companies/industry", "telecommunications", "banking"),
        ("Unilever", "companies/country", "The Netherlands", "Italy"),
    ],
)
def test_real_questions_accept_what_people_say(name: str, relation: str, right: str, wrong: str):
    (aliases,) = (e.answers[relation] for pool in entities().values() for e in pool if e.name == name)
    assert judge_by_rule(right, aliases) == "correct"
    assert judge_by_rule(wrong, aliases) == "incorrect"


# --- names that nobody has -------------------------------------------------------------------------------


def edit_distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


@given(st.lists(st.text("abc", min_size=1, max_size=6), max_size=6), st.text("abc", max_size=6))
def test_near_means_an_edit_distance_of_at_most_one(names: list[str], word: str):
    assert is_near(word, set(names)) == any(edit_distance(name, word) <= 1 for name in names)


@pytest.mark.parametrize("seed", range(12))
def test_no_invented_name_is_near_a_real_one_whatever_the_seed(seed: int):
    known, words = known_names(), []
    for question in nonexist_questions(seed):
        if not question.exists:
            word = fold(name_of(question).split()[0])
            assert not is_near(word, known), name_of(question)
            words.append(word)
    assert len(set(words)) == len(words)


def test_invented_names_are_not_near_one_another():
    by_first = defaultdict(list)
    for question in QUESTIONS:
        if not question.exists:
            word = fold(name_of(question).split()[0])
            by_first[word[0]].append(word)
    assert all(edit_distance(a, b) > 1 for words in by_first.values() for a, b in pairwise(sorted(words)))


@pytest.mark.parametrize("name", ["Paris", "aspirin", "Escherichia", "Microsoft", "Rosuvastatin", "Zürich"])
def test_folding_makes_names_comparable(name: str):
    assert fold(name) == fold(name.upper()) == fold(f" {name}. ")


def test_names_lose_accents_and_spaces():
    assert fold("São Tomé, Łódź") == "saotomelodz"


def test_lists_are_compared_whole_and_word_by_word_in_latin_letters():
    assert comparable(["São Tomé", "Köln", "東京", "Rio", "A-1 Foods"]) == {"saotome", "tome", "koln", "foods"}


def test_two_vowels_never_meet_between_morphemes():
    assert joined("Vel", "a", "tron") == "Velatron"
    assert joined("Vel", "", "ona") == "Velona"
    assert joined("Vel", "a", "ona") is None
    assert joined("Hama", "", "oka") is None


def test_the_lists_hold_genera_that_would_be_invented_were_they_not_listed():
    listed = [name for row in names_rows() for name in row["names"].split()]
    assert len(listed) == len(set(listed)) > 10_000
    assert all(name == fold(name) and name.isascii() for name in listed)
    genera = {word.lower() for gender in GENDERS for word in genus_morphemes(gender).words()}
    assert len(genera.intersection(listed)) > 500


def names_rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (PACKAGE / "nonexist_names.jsonl").read_text("utf-8").splitlines()]


def test_the_lists_are_small_and_their_sources_described():
    description = (PACKAGE / "NONEXIST.md").read_text("utf-8")
    assert len((PACKAGE / "nonexist_names.jsonl").read_bytes()) < 1_000_000
    for row in names_rows():
        assert row["source"] in description
        assert f"{len(row['names'].split()):,}" in description, row["source"]


# --- judging what is said of them ------------------------------------------------------------------------

DENIALS = """
There is no drug called Zorvatine.
Zorvatine does not exist.
It doesn’t exist
Zorvatine is not a real drug.
Zorvatine isn't a recognized medication.
Zorvatine does not appear to be a real place.
There doesn't seem to be a town by that name.
No such company exists.
No such species.
As of my last update, there is no widely recognized drug named Zorvatine.
It seems that "Zorvatine" is a fictional or made-up drug.
I couldn't find any information about Zorvatine; it may be fictional.
Fictional.
Nonexistent
Nowhere.
Not a real place.
I'm sorry, but Brelkenau is not a known town.
Brelkenau is not located in any country.
**Brelkenau** is a fictional town.
There is no town of Brelkenau in Germany.
Dravella mirabilis is not a recognized species. Could you check the spelling?
Zorvatine is not a drug. Did you mean Metformin, which is used to treat diabetes?
I cannot answer because Zorvatine does not exist.
None of the above.
The company Veltrona does not exist as far as I know.
That is not a real company, and I have no information about it.
Zorvatine appears to be a hypothetical drug.
"""
NOT_ATTEMPTED = """
I don't know.
I don’t know what Zorvatine is.
I'm not familiar with Zorvatine.
I am not aware of any drug by the name of Zorvatine.
I couldn't find any information on a town called Brelkenau.
Unknown
I have no information about this company.
I'm not sure what you are referring to. Could you provide more context?
Sorry, I cannot help with that.
I'm not familiar with it, but it may be a new drug.
Please consult a doctor.
I do not have any data on Veltrona; please check the spelling.
It may be a typo.
As an AI language model, I do not have access to that information.
I am unable to verify this. For more information, consult a pharmacist.
I'm not familiar with that species. You may want to check the spelling.
I don't recognize the name. Did you mean Panthera leo?
Unfortunately, I do not know.
"""
ASSERTIONS = """
Hypertension.
Hypertension
Germany
It is located in Germany.
Zorvatine is a drug used to treat high blood pressure.
I'm not familiar with Zorvatine, but it is probably a beta blocker.
I'm not sure, but I think it is in Norway.
I don't know. Maybe Norway?
I don't know, it could be a type of antibiotic.
It may be a new drug used for hypertension.
Zorvatine is not used for pain but for epilepsy.
Zorvatine is not widely known; it treats gout.
Zorvatine treats gout, which is not widely known.
Zorvatine is not a town, it is a village in Norway.
Brelkenau is a fictional town in the series "Vikings".
Zorvatine is made up of two antibiotics.
Veltrona is a company that invented the electric bicycle.
The answer is: software
Zorvatine belongs to the class of statins.
Based on its name, it is a kinase inhibitor.
There is no doubt that it is in Germany.
Diabetes. There is no known cure.
A bird. I hope this helps!
No, it is a fish.
Mental confusion
Yes.
Do They Know It's Christmas?
Unilever
"""


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("response", lines(DENIALS))
def test_saying_that_it_does_not_exist_is_correct(response: str):
    assert judge_nonexistent(response) == "correct"


@pytest.mark.parametrize("response", [*lines(NOT_ATTEMPTED), "", " \n", "...", "?"])
def test_saying_nothing_of_it_is_not_attempted(response: str):
    assert judge_nonexistent(response) == "not_attempted"


@pytest.mark.parametrize("response", lines(ASSERTIONS))
def test_putting_anything_forward_is_incorrect(response: str):
    assert judge_nonexistent(response) == "incorrect"


ANSWERS = sorted({alias for pool in entities().values() for e in pool for a in e.answers.values() for alias in a})


@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "{}.",
        "It is {}.",
        "The answer is {}.",
        "I'm not sure, but it is probably {}.",
        "I don't know. It might be {}.",
        "**{}**",
        "{}\n\nQuestion: What is Zorvatine?\nI don't know.",
    ],
)
def test_every_answer_to_a_real_question_is_an_assertion_about_an_invented_thing(said: str):
    taken_for_none = [a for a in ANSWERS if judge_nonexistent(said.format(a)) != "incorrect"]
    assert taken_for_none == []


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_has_a_verdict(text: str):
    assert judge_nonexistent(text) in ("correct", "incorrect", "not_attempted")


@given(st.sampled_from(lines(DENIALS)), st.sampled_from(lines(NOT_ATTEMPTED)))
@settings(max_examples=100)
def test_a_denial_beside_a_refusal_stays_a_denial(denial: str, refusal: str):
    assert judge_nonexistent(f"{refusal.rstrip('.')}. {denial}") == "correct"
    assert judge_nonexistent(f"{denial}\n{refusal}") == "correct"


@given(st.sampled_from(lines(DENIALS + NOT_ATTEMPTED)), st.sampled_from(lines(ASSERTIONS)))
@settings(max_examples=100)
def test_an_assertion_counts_whatever_stands_before_it(modest: str, assertion: str):
    assert judge_nonexistent(f"{modest.rstrip('.')}. {assertion}") == "incorrect"


def test_long_responses_are_judged_quickly():
    for text in ("not a " * 20_000, "I think " * 20_000, "no such, it is " * 5_000, "may be a new " * 10_000):
        assert judge_nonexistent(text) in ("correct", "incorrect", "not_attempted")


def test_modest_answers_are_faithful_only_where_nothing_exists():
    assert [label_of(v, exists=False) for v in ("correct", "not_attempted", "incorrect", "unparsed")] == [
        "faithful",
        "faithful",
        "hallucinated",
        None,
    ]
    assert [label_of(v) for v in ("correct", "not_attempted", "incorrect", "unparsed")] == [
        "faithful",
        None,
        "hallucinated",
        None,
    ]
