"""The rule for false premises: does a response accept the premise of a question or refute it?

```python
judge_premise("Why do cows lay eggs?", "Cows do not lay eggs.")   # "refuted"
judge_premise("Why do cows lay eggs?", "To feed their calves.")   # "accepted"
```

The rule looks for a denial about the question's own subject in the first sentences. It misses refutations without a
denial ("Madrid is the capital of Spain", asked since when it has been Germany's); an LLM judge sees them.
"""

import re
from itertools import islice
from typing import Literal

from hneurons_eval.judging.refusal import is_refusal
from hneurons_eval.judging.sentences import sentences
from hneurons_eval.judging.words import PLAIN_APOSTROPHES, lexical_words, word_list

PremiseVerdict = Literal["refuted", "accepted", "not_attempted"]
SENTENCES = 3
"""Responses refute a premise in their first sentences; later ones qualify an accepted premise."""

_DENIES = re.compile(
    r"\b(?:(?P<copula>is|are|was|were|be|been) (?:not|never|no)|(?P<short>(?:is|are|was|were)n't)"
    r"|no|not|never|none|neither|nobody|nowhere|nothing|cannot|\w+n't|impossible|nonexistent|non-existent)\b",
    re.IGNORECASE,
)
# Statements about the question itself need no word of its subject.
_OF_THE_QUESTION = re.compile(
    r"\b(?:(?:false|incorrect|mistaken|wrong|flawed|faulty|inaccurate) (?:premise|assumption|claim|statement|question)"
    r"|(?:premise|assumption|claim|statement|question)\b[^.]{0,60}\b(?:is|are|seems?|appears?|contains?)\b[^.]{0,30}"
    r"\b(?:false|incorrect|mistaken|wrong|flawed|inaccurate|misleading|error|mistake|nonsens\w+"
    r"|not (?:true|correct|accurate))"
    r"|misconception|misunderstanding|(?:is|are|it's|that's) (?:a )?myth\b|(?:urban legend)"
    r"|(?:is|are|was|were|be) (?:entirely |purely |completely )?(?:fictional|fictitious|mythical|imaginary"
    r"|made[- ]up(?! of))"
    r"|(?:do|does|did) not exist|(?:don|doesn|didn)'t exist|no such|trick question"
    r"|(?:is|are)(?: not|n't) (?:true|correct|accurate|possible|the case)"
    r"|(?:there|it|that|this) (?:is|are|was|were|has|have)(?: not|n't) (?:ever |actually )?been)\b",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"[\s\"'“*_(]*(?:no|not|none|never|neither|nobody|nowhere|nothing"
    r"|(?:they|it|we|he|she|you|there|this|that) (?:\w+ )?(?:not|never|cannot|\w+n't)|\w+n't)\b",
    re.IGNORECASE,
)
_CLAUSES = re.compile(
    r"[;:]|,\s*(?=(?:but|so|and)\b)|\b(?=(?:because|since|so that|which|when|if|while|until|unless|where)\b)",
    re.IGNORECASE,
)
_BUT_GRANTS = re.compile(
    r"\bnot (?:only|just|merely|simply|until|yet (?:fully )?(?:known|understood))\b", re.IGNORECASE
)
_EMPTY = frozenset(
    word_list(
        "a an the of to in on at by for with from as and or but if is are was were be been being do does did has have "
        "had why what which who whom whose when where how much many it its they them their he she his her you your we "
        "our i this that these those there than then so can could will would should may might must up out into over "
        "about not no"
    )
)


def judge_premise(question: str, response: str) -> PremiseVerdict:
    """Verdict on a response to a question with a possibly false premise."""
    text = response.translate(PLAIN_APOSTROPHES)
    if not lexical_words(text):
        return "not_attempted"
    subject = set(_stems(question))
    for number, (start, end) in enumerate(islice(sentences(text), SENTENCES)):
        sentence = text[start:end]
        if _OF_THE_QUESTION.search(sentence):
            return "refuted"
        for clause in _CLAUSES.split(sentence):
            denial = _DENIES.search(_BUT_GRANTS.sub(" ", clause))
            if denial is None:
                continue
            if number == 0 and _OPENS.match(clause):
                return "refuted"
            # "It was not a traditional typewriter" denies "traditional"; "do not run on petrol" denies "petrol".
            reach = 1 if denial["copula"] or denial["short"] else 3
            denied = _stems(clause[denial.end() :])[:reach]
            if subject.intersection(denied) and not is_refusal(response):
                return "refuted"
    return "not_attempted" if is_refusal(response) else "accepted"


def _stems(text: str) -> list[str]:
    return [_stem(word.text) for word in lexical_words(text) if word.text not in _EMPTY]


def _stem(word: str) -> str:
    """A word without its inflection."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
