"""The answer's place in a response, in characters and in tokens.

```python
start, end = answer_span("What is the capital of France?", "The capital is **Paris**.")
tokens = token_positions(offsets, (start, end))
```
"""

import re
from bisect import bisect_left
from collections.abc import Sequence

from hneurons_eval.judging.aliases import Text, characters, compile_aliases, find_aliases
from hneurons_eval.judging.sentences import core, sentences, trim
from hneurons_eval.judging.words import CURRENCIES, FUNCTION_WORDS, Word, word_list


def answer_span(question: str, response: str, aliases: Sequence[str] = ()) -> tuple[int, int] | None:
    """The answer's characters in a response, `[start, end)`.

    If an alias occurs, the span is the longest one, then the first, preferably outside an echo of the question.
    Otherwise the span is the first sentence with new words (after the last "the answer is", if there is one), without
    lead-ins ("It is"), quotes, markdown and the words of the question. If nothing is left, it is the whole response.
    A refusal has a span like any other text.

    Spans at aliases tell right answers from wrong ones by themselves (docs/spans.md): never give `aliases` for the
    data of a probe.

    Returns:
        None if the response is white space.
    """
    if not response.strip():
        return None
    text, asked = Text(response), Text(question)
    found = find_aliases(text, compile_aliases(tuple(aliases)))
    if found:
        # `found` has the longest alias first; by its own length, not by that of "Beatles'" and "Beatle".
        best = min(found, key=lambda m: (_is_echo(text, m, asked), -found[m], m[0]))
        return _as_written(response, characters(text, best), aliases)
    return _without_echo(text, asked)


def token_positions(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    """The positions of the tokens that overlap a span of characters; `offsets` as a tokenizer's `offset_mapping`.

    A token with the space before the answer counts, as does each of several tokens that share a character. Special
    tokens, which have no characters, never count.
    """
    start, end = span
    return [k for k, (a, b) in enumerate(offsets) if max(a, start) < min(b, end)]


# --- the answer without an alias ---------------------------------------------------------------------

_COPULAS = frozenset(word_list("is was are were be called named titled became become becomes"))
_LINKING = frozenset(word_list("based came come comes found known located made originates originated situated"))
_PREPOSITIONS = frozenset(word_list("as at by for from in into of on to with"))
_PRONOUNS = frozenset(word_list("he it she that they this"))
_STATED = re.compile(
    r"\b(?:the|my)\s+(?:(?:final|correct|right|actual|best)\s+){0,2}answer\s+(?:is|was|would\s+be|should\s+be)\b"
    r"(?!\s+(?:not|no|yes|that|in|correct|right|wrong|incorrect|unknown|unclear)\b)[\s*_]*:?",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r",\s+(?:which|where|who|whose|specifically)\b", re.IGNORECASE)
_CLOSING = re.compile(r"\.?\)")
_ABBREVIATED = re.compile(r"(?:^|[^\w.])(?:(?:[^\W\d_]\.)+[^\W\d_]|jr|sr|bros|inc|co|corp|ltd)$", re.IGNORECASE)


def _without_echo(text: Text, asked: Text) -> tuple[int, int]:
    source = text.source
    whole = core(source)
    if whole[0] >= whole[1]:  # punctuation only
        stripped = source.strip()
        at = source.index(stripped)
        return at, at + len(stripped)
    words = sorted(text.words, key=lambda w: w.start)
    echoes = _Echoes(asked)
    stated = [m.end() for m in _STATED.finditer(source, *whole)]
    found = _first_new(source, words, echoes, stated[-1], whole) if stated else None
    return _finished(source, found or _first_new(source, words, echoes, 0, whole) or whole)


def _first_new(
    source: str, words: list[Word], echoes: "_Echoes", begin: int, whole: tuple[int, int]
) -> tuple[int, int] | None:
    """The answer in the first sentence from `begin` with a word that the question lacks."""
    for a, b in sentences(source[begin : whole[1]]):
        start, end = core(source, max(begin + a, whole[0]), begin + b)
        first = bisect_left(words, start, key=lambda w: w.start)
        inside = words[first : bisect_left(words, end, key=lambda w: w.start)]
        new = [not (w.text in FUNCTION_WORDS or echoes.has(w, source)) for w in inside]
        if any(new):
            led = begin > 0 or first > bisect_left(words, a, key=lambda w: w.start)
            return _core_of_sentence(source, inside, new, (start, end), led)
    return None


class _Echoes:
    """The words of a question; lower-case words in every inflection ("belong", "belongs", "belonging")."""

    def __init__(self, asked: Text) -> None:
        self.exact = {w.text for w in asked.words}
        self.plain = {w.text for w in asked.words if _is_plain(w, asked.source)}
        self.inflected = {form for word in self.plain for form in _inflections(word)}

    def has(self, word: Word, source: str) -> bool:
        if word.text in self.exact:
            return True
        # "German" is no form of "Germany", nor "franc" of "France": names are not inflected.
        return _is_plain(word, source) and (
            word.text in _LINKING
            or word.text in self.inflected
            or any(form in self.plain for form in _inflections(word.text))
        )


def _is_plain(word: Word, source: str) -> bool:
    return source[word.start].islower() and word.text.isalpha() and len(word.text) > 2


def _inflections(word: str) -> tuple[str, ...]:
    stem = word[:-1]
    more = (stem + "ing",) if word.endswith("e") else (stem + "ies", stem + "ied") if word.endswith("y") else ()
    return (word + "s", word + "es", word + "d", word + "ed", word + "ing", *more)


def _core_of_sentence(
    source: str, inside: list[Word], new: list[bool], span: tuple[int, int], led: bool
) -> tuple[int, int]:
    """ANSWER in "<question> is ANSWER", "<question> comes from ANSWER" and "ANSWER is <question>".

    Other sentences stay whole: "Battle of Hastings" answers "Which battle ...", not "Hastings", and a title may hold
    any word of the question. `led`: a lead-in ("It was") is already cut.
    """
    start, end = span
    first = _past_copula(source, inside, new)
    past = _past_preposition(source, inside, new, first, led or first > 0)
    if past:
        start = inside[past].start
    start, end = _cut_tail(inside[past:], new[past:], (start, end))
    relative = _RELATIVE.search(source, inside[new.index(True, past)].end, end)
    return start, relative.start() if relative else end


def _past_copula(source: str, inside: list[Word], new: list[bool]) -> int:
    """The word after the verb of "<question> is ANSWER"; 0 if the sentence does not begin so."""
    subject = False
    for k, word in enumerate(inside):
        if word.text in _COPULAS and subject and source[word.start].islower():
            after = k + 1
            while after < len(inside) and inside[after].text in _COPULAS:  # "is called"
                after += 1
            return after if any(new[after:]) else 0
        if new[k]:
            return 0
        # "There Is a Green Hill" is a title.
        subject = subject or word.text in _PRONOUNS or word.text not in FUNCTION_WORDS
    return 0


def _past_preposition(source: str, inside: list[Word], new: list[bool], first: int, led: bool) -> int:
    """The word after "belongs to", "the continent of" or "found in", from `first` on; else `first`.

    At the beginning such words belong to the answer ("part of the retina").
    """
    past = first
    for k in range(first + 1, len(inside)):
        if new[k - 1] or new[k]:
            break
        verb = inside[k - 1]
        if (
            inside[k].text in _PREPOSITIONS
            and verb.text not in FUNCTION_WORDS
            and source[verb.start].islower()
            and (led or k - 1 > first)
            and k + 1 < len(inside)
        ):
            past = k + 1
    return past


def _cut_tail(inside: list[Word], new: list[bool], span: tuple[int, int]) -> tuple[int, int]:
    """The span without "is <question>" at its end."""
    for k in range(len(inside) - 1, 0, -1):
        if new[k]:
            break
        if inside[k].text in _COPULAS and any(new[:k]) and k + 1 < len(inside):
            # the first verb of "is called" ends the answer
            while k > 1 and inside[k - 1].text in _COPULAS:
                k -= 1
            # "a dish, and it is made" and "a dish that is made" go on about the answer.
            return span if inside[k - 1].text in FUNCTION_WORDS else (span[0], inside[k - 1].end)
    return span


def _finished(source: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span without its edges, but with a closing bracket and an abbreviation's period."""
    start, end = trim(source, *span)
    if source.count("(", start, end) > source.count(")", start, end):
        closing = _CLOSING.match(source, end)
        end = closing.end() if closing else end
    if source[end : end + 1] == "." and _ABBREVIATED.search(source[max(start, end - 16) : end]):
        end += 1
    return start, end


# --- the answer at an alias ---------------------------------------------------------------------------


def _is_echo(text: Text, match: tuple[int, int], asked: Text) -> bool:
    """Whether two or more words beside the match are beside it in the question too."""
    i, j = match
    said, question = text.words, asked.words
    width = j - i
    wanted = [w.text for w in said[i:j]]
    for p in range(len(question) - width + 1):
        if question[p].text != wanted[0] or [w.text for w in question[p : p + width]] != wanted:
            continue
        shared = 0
        while shared < 2 and i > shared and p > shared:
            if said[i - 1 - shared].text != question[p - 1 - shared].text:
                break
            shared += 1
        k = 0
        while shared < 2 and j + k < len(said) and p + width + k < len(question):
            if said[j + k].text != question[p + width + k].text:
                break
            shared, k = shared + 1, k + 1
        if shared >= 2:
            return True
    return False


def _as_written(source: str, span: tuple[int, int], aliases: Sequence[str]) -> tuple[int, int]:
    """The span with the parts of the alias that are no words: "The" Who, Mamma Mia"!"."""
    start, end = span
    for alias in sorted(set(aliases), key=lambda a: (-len(a), a)):
        a, b = trim(alias, 0, len(alias))
        at = source.lower().find(alias[a:b].lower(), max(0, start - 8), end + 8)
        if 0 <= at <= start and end <= at + b - a and len(source.lower()) == len(source):
            return at, at + b - a
    if source.count("(", start, end) > source.count(")", start, end) and source[end : end + 1] == ")":
        end += 1
    if source[start - 1 : start] in tuple(CURRENCIES):
        start -= 1
    return start, end + (source[end : end + 1] == "%")
