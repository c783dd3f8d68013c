"""Degenerate text: empty, repetitive, or in another language than the question.

Scaling neurons far enough breaks a model, and a judge or parser can mistake its output for an effect. A sweep
therefore counts degenerate texts as an outcome of their own.
"""

import re
import unicodedata
from collections import Counter

MAX_UNIT = 12
"""Words in the longest phrase that is searched for repetition."""
MIN_REPEATS = 4
MIN_WORDS = 12
"""Words needed to recognise a language."""

# Frequent words that the other languages of the list rarely share.
_FREQUENT = {
    "en": "the and of is that was for with are this from have not they which you were their been has would there",
    "es": "el los las una por para con que del como pero más este esta fue sus también está son hay muy",
    "fr": "le les des est une dans pour qui que pas sur avec ce cette sont mais nous vous été aux ses",
    "de": "der die das und ist nicht ein eine mit für auf dem den von zu sich auch wird sind werden oder",
    "it": "il gli che della per una con sono del nel anche più è questo alla dei delle come ma di",
    "pt": "os uma para com não que do da em mais como foi dos são seu sua ao pelo também isso",
    "nl": "het een van en niet dat zijn voor met op aan ook als maar bij naar wordt deze door werd",
}
FREQUENT = {language: frozenset(words.split()) for language, words in _FREQUENT.items()}
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def is_empty(response: str) -> bool:
    """Whether a response has neither letters nor digits."""
    return not any(c.isalnum() for c in response)


def is_repetitive(response: str) -> bool:
    """Whether at least half of a response is one phrase (of up to 12 words), repeated four times or more in a row.

    Without spaces between words, or for a repeated character, characters count as words.
    """
    words = [word.casefold() for word in response.split()]
    if _repeats(words):
        return True
    characters = list("".join(response.split()))
    return len(characters) >= 24 and len(words) * 12 < len(characters) and _repeats(characters)


def _repeats(units: list[str]) -> bool:
    total = len(units)
    for length in range(1, min(MAX_UNIT, total // MIN_REPEATS) + 1):
        run = best = 0
        for at in range(length, total):
            run = run + 1 if units[at] == units[at - length] else 0
            best = max(best, run)
        # A run of r equal positions is a phrase repeated r / length + 1 times.
        covered = best + length
        if best and covered >= MIN_REPEATS * length and covered >= max(total / 2, MIN_REPEATS + 2):
            return True
    return False


def is_other_language(response: str, asked: str) -> bool:
    """Whether a response is mainly in another script, or clearly in another language, than the question.

    Scripts are told by letters, languages (seven of Latin script) by frequent words, in responses of at least a dozen
    words.
    """
    own, theirs = _script(response), _script(asked)
    if own is None or theirs is None:
        return False
    if own != theirs:
        return True
    said, question = _language(response), _language(asked, min_words=4)
    return said is not None and question is not None and said != question


def is_degenerate(response: str, asked: str) -> bool:
    """Whether a response is empty, repetitive, or in another language than the question."""
    return is_empty(response) or is_repetitive(response) or is_other_language(response, asked)


def _script(text: str) -> str | None:
    """The script of most letters; None for fewer than four letters."""
    names = [unicodedata.name(c, "").split(" ", 1)[0] for c in text[:4000] if c.isalpha()]
    if len(names) < 4:
        return None
    # Japanese and Chinese share characters; together they are one script here.
    counts = Counter("CJK" if name in ("HIRAGANA", "KATAKANA") else name for name in names)
    script, number = counts.most_common(1)[0]
    return script if 2 * number > len(names) else "MIXED"


def _language(text: str, min_words: int = MIN_WORDS) -> str | None:
    words = [word.casefold() for word in _WORD.findall(text[:8000])]
    if len(words) < min_words:
        return None
    shares = sorted(
        ((sum(word in frequent for word in words) / len(words), language) for language, frequent in FREQUENT.items()),
        reverse=True,
    )
    (most, language), (next_most, _) = shares[0], shares[1]
    return language if most >= 0.1 and most >= 2 * next_most else None
