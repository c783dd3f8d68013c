"""Accepted answers (aliases) found in a text.

```python
text = Text("It is the Spider-Man film")
find_aliases(text, compile_aliases(("Spiderman",)))    # {(2, 4): 9}: words 2 and 3 (no "the"), 9 letters
is_whole_alias("Fork and knife", ("knife and fork",))  # True
```
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from hneurons_eval.judging.sentences import CLAUSE_END, core
from hneurons_eval.judging.words import (
    ARTICLES,
    DIGITS,
    FUNCTION_WORDS,
    NUMBER_WORDS,
    Word,
    dates_in_order,
    lexical_words,
    numbers_as_digits,
    word_list,
)


class Text:
    """The words of a text, and the same text without spaces, in which aliases are searched.

    "Spider-Man" and "Spiderman" are alike, as are "J. R. R." and "JRR". Matches begin and end at word borders: "ear"
    is not in "early".

    Attributes:
        source: the text.
        words: without articles; numbers and dates in one form.
        compact: the words joined.
        starts: the word that begins at a position of `compact`.
        ends: the word after the one that ends at a position of `compact`.
    """

    __slots__ = ("compact", "ends", "source", "starts", "words")

    def __init__(self, source: str) -> None:
        words = lexical_words(source)
        if any(w.text in ARTICLES for w in words):
            words = [w for k, w in enumerate(words) if not _is_article(words, k, source)] or words
        if any(w.text[0].isdigit() or w.text in NUMBER_WORDS for w in words):
            words = dates_in_order(numbers_as_digits(words, source), source)
        self.source, self.words = source, words
        self.starts: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        parts: list[str] = []
        at, after_digit = 0, False
        for k, (form, _, _) in enumerate(words):
            if after_digit and (form[0].isdigit() or form[0] == "-"):
                parts.append("\x1f")  # 1, 2 is not 12
                at += 1
            self.starts[at] = k
            parts.append(form)
            at += len(form)
            self.ends[at] = k + 1
            after_digit = form[-1].isdigit()
        self.compact = "".join(parts)


def _is_article(words: list[Word], k: int, source: str) -> bool:
    """Whether word k is an article, not the letter of "Vitamin A", "Hepatitis A virus" or "The answer is A."."""
    if words[k].text not in ARTICLES:
        return False
    if k + 1 == len(words):
        return k > 0 and all(w.text in ARTICLES for w in words)
    if source[words[k].end].isalnum():  # in a script without spaces
        return False
    if source[words[k].start] != "A" or k == 0 or words[k].text != "a":
        return True
    before = source[words[k - 1].end : words[k].start]
    after = source[words[k].end : words[k + 1].start]
    return bool(before.strip()) or (after == " " and not source[words[k + 1].start].islower())


class Alias(NamedTuple):
    """The search forms of an alias.

    Attributes:
        stem: its compact form, without a final plural s if `plural`.
        plural: whether a plural ending may follow.
        exact: all its words, articles included; compared with whole responses.
        whole_only: too short or too common to be searched inside a text.
        surface: as written.
    """

    stem: str
    plural: bool
    exact: str
    whole_only: bool
    surface: str


# Words of any sentence: an alias of these alone ("It", "The Who", "Yes") has to be the whole answer.
_COMMON = FUNCTION_WORDS | ARTICLES | frozenset(word_list("all any each many more most only same very"))


@lru_cache(maxsize=16384)
def compile_aliases(aliases: tuple[str, ...]) -> tuple[Alias, ...]:
    """The search forms of aliases, longest first; aliases without words are left out."""
    forms: dict[str, Alias] = {}
    for alias in aliases:
        for surface in _variants(alias):
            text = Text(surface)
            exact = exact_form(surface)
            # "The" is no answer; "A" is a letter, "The The" a band.
            if not text.words or exact in ("the", "an"):
                continue
            stem = text.compact
            single = len(stem) == 1 and stem.isalpha() and stem < "\u0e00"
            # "us" and "who" are words; "US" and "WHO" are searched in capitals (`_stands_alone`).
            common = all(w.text in _COMMON for w in text.words) and not _is_acronym(surface)
            plural = len(stem) >= 4 and stem[-1].isalpha()
            if plural and len(stem) >= 5 and stem.endswith("s") and not stem.endswith("ss"):
                stem = stem[:-1]
            if single or common:
                plural = False
            key = surface if len(stem) == 2 else text.compact  # case matters for two letters
            forms.setdefault(key, Alias(stem, plural, exact, single or common, surface.strip()))
    return tuple(sorted(forms.values(), key=lambda a: (-len(a.stem), a.stem, a.surface)))


def exact_form(text: str) -> str:
    """All words of a text, articles included, as one string."""
    return "\x1f".join(w.text for w in lexical_words(text))


_PARENTHESES = re.compile(r"\s*\([^()]*\)\s*")
_NAME = re.compile(r"[^\W\d_][^\s,]*(?:\s+[^\s,]+){0,2}")


def _variants(alias: str) -> list[str]:
    """The alias, and the same without its disambiguator, with the surname last, or with a pair's surnames only."""
    result = [alias]
    bare = _PARENTHESES.sub(" ", alias).strip()
    if bare and bare != alias and len(bare) > 1:
        result.append(bare)
    for name in list(result):
        left, comma, right = name.partition(",")
        left, right = left.strip(), right.strip()
        if comma and _NAME.fullmatch(left) and (right.startswith("(") or _NAME.fullmatch(right)):
            result.append(f"{right} {left}")
        pair = re.split(r"\s+(?:and|&)\s+", name)
        if len(pair) == 2 and not comma:
            if all(p[:1].isupper() for p in pair):
                result.append(f"{pair[1]} and {pair[0]}")
            if all(len(p.split()) in (2, 3) and all(w[0].isupper() for w in p.split()) for p in pair):
                first, second = (p.split()[-1] for p in pair)
                result += [f"{first} and {second}", f"{second} and {first}"]
    return result


def find_aliases(text: Text, aliases: Sequence[Alias]) -> dict[tuple[int, int], int]:
    """Word ranges of a text that match an alias, with the length of its stem; longest aliases first."""
    found: dict[tuple[int, int], int] = {}
    compact, starts, ends = text.compact, text.starts, text.ends
    for alias in aliases:
        if alias.whole_only:
            match = _as_whole(text, alias)
            if match is not None:
                found.setdefault(match, len(alias.stem))
            continue
        at = compact.find(alias.stem)
        while at >= 0:
            if at in starts:
                end = at + len(alias.stem)
                j = ends.get(end)
                if j is None and alias.plural and compact[end] == "s":
                    j = ends.get(end + 1)
                if j is None and alias.plural and compact[end - 1] in "osxzh" and compact.startswith("es", end):
                    j = ends.get(end + 2)
                if j is not None and _stands_alone(text, starts[at], j, alias):
                    found.setdefault((starts[at], j), len(alias.stem))
            at = compact.find(alias.stem, at + 1)
    if not found and text.words and len(text.source) < 1000:
        # "ABBA A B" and its alias "abba a b": case may decide whether "a" is an article or a letter.
        whole = exact_form(text.source)
        for alias in aliases:
            if alias.exact == whole and not alias.whole_only:
                found[0, len(text.words)] = len(alias.stem)
    return found


def characters(text: Text, match: tuple[int, int]) -> tuple[int, int]:
    """The characters of a range of words; the words of a date may be in another order than in the text."""
    inside = text.words[match[0] : match[1]]
    return min(w.start for w in inside), max(w.end for w in inside)


def _as_whole(text: Text, alias: Alias) -> tuple[int, int] | None:
    """The word range of an alias that is the whole answer, or is written exactly so inside it."""
    source = text.source
    if len(source) > 20 * len(alias.surface) + 200:
        return None
    start, end = core(source)
    lead_in = any(w.end <= start for w in text.words)
    if exact_form(source[start:end]) != alias.exact or (
        # After a lead-in the case must agree: "It is a" is cut off, its answer is not "A".
        lead_in and source[start:end] != alias.surface
    ):
        start = source.find(alias.surface)
        end = start + len(alias.surface)
        if "\x1f" not in alias.exact or start < 0 or alias.surface.islower():
            return None
        if source[start - 1 : start].isalnum() or source[end : end + 1].isalnum():
            return None
    inside = [k for k, w in enumerate(text.words) if start <= w.start and w.end <= end]
    return (inside[0], inside[-1] + 1) if inside else None


def _stands_alone(text: Text, i: int, j: int, alias: Alias) -> bool:
    """Whether words i to j, which spell the alias, are the alias and not a part of something else."""
    words, source = text.words, text.source
    two = len(alias.stem) == 2 and alias.stem.isalpha() and alias.stem.isascii()
    if two or (alias.stem in _COMMON and _is_acronym(alias.surface)):
        # "Us", "IT", "Li", "WHO": a longer text must have the capitals of the alias; dots do not count.
        start, end = characters(text, (i, j))
        said, written = source[start:end].replace(".", ""), alias.surface.replace(".", "")
        return len(words) == j - i or (not said.islower() if written.islower() else said == written)
    if all(DIGITS.fullmatch(w.text) for w in words[i:j]):
        # An end of "1939-1945", the minutes of "10:30" and the parts of "1/2" are other numbers.
        for k in (i, j):
            pair = words[max(k - 1, 0) : k + 1]
            between = source[pair[0].end : pair[-1].start]
            if all(DIGITS.fullmatch(w.text) for w in pair) and between in (*"-–—−/:.",):
                return False
    return True


def _is_acronym(surface: str) -> bool:
    letters = surface.replace(".", "").strip()
    return len(letters) > 1 and letters.isalpha() and letters.isascii() and letters.isupper()


# --- negation ----------------------------------------------------------------------------------------

_NEGATES = frozenset(word_list("not cannot never nor neither except excluding without unlike isnt wasnt"))


def is_negated(text: Text, match: tuple[int, int]) -> bool:
    """Whether a match is negated: "not Paris", "rather than Paris", "Paris is wrong"; but not "not only Paris"."""
    words, source = text.words, text.source
    i, j = match
    for k in range(i - 1, max(i - 5, -1), -1):
        if CLAUSE_END.search(source, words[k].end, max(words[k].end, words[k + 1].start)):
            break
        form, before = words[k].text, words[k - 1].text if k else ""
        after = words[k + 1].text
        if form == "but":
            break
        if form == "t" and before.endswith("n") and len(before) > 2:  # isn't, doesn't
            return True
        if form in _NEGATES and after not in ("only", "until", "just", "sure", "certain"):
            return True
        if (form == "than" and before in ("rather", "other")) or (form == "of" and before == "instead"):
            return True
    tail = [w.text for w in words[j : j + 3]]
    if (
        tail
        and tail[0] in ("is", "was", "isn", "wasn")
        and not CLAUSE_END.search(source, words[j - 1].end, max(words[j - 1].end, words[j].start))
    ):
        return tail[1:2] in (["not"], ["wrong"], ["incorrect"], ["false"], ["t"])
    return False


# --- whole responses in another spelling --------------------------------------------------------------

_TITLE = re.compile(
    r"(?:sir|dame|lord|lady|colonel|general|captain|major|admiral|lieutenant|sergeant|dr|doctor|professor|mr|mrs|ms"
    r"|miss|president|prime minister|king|queen|emperor|empress|pope|saint|st|reverend|prince|princess|senator"
    r"|governor)\.?\s+(?!(?:of|the|and|in|for)\b)(?=\S{2,}\s+\S{2})",
    re.IGNORECASE,
)


class _OtherForms(NamedTuple):
    """Forms in which a whole response may be an alias although no alias occurs in it."""

    untitled: frozenset[str]
    lists: frozenset[tuple[str, ...]]
    names: frozenset[tuple[str, ...]]


@lru_cache(maxsize=16384)
def _other_forms(aliases: tuple[str, ...]) -> _OtherForms:
    untitled = [alias[m.end() :] for alias in aliases if (m := _TITLE.match(alias))]
    lists = {things for alias in aliases if len(things := _listed_things(alias)) > 1}
    names = {words for alias in (*aliases, *untitled) if len(words := _name(alias)) > 2}
    return _OtherForms(frozenset(Text(name).compact for name in untitled), frozenset(lists), frozenset(names))


def is_whole_alias(response: str, aliases: tuple[str, ...]) -> bool:
    """Whether the whole response is an alias without its title, with its list reordered, or with initials.

    "William Pitt" is "Sir William Pitt", "salt, pepper" is "pepper and salt", "Anna Maria Keller" is "Anna M. Keller".
    "John Adams" is not "John Q. Adams".
    """
    if len(response) > 500:
        return False
    forms = _other_forms(aliases)
    start, end = core(response)
    said = response[start:end]
    if forms.untitled and Text(said).compact in forms.untitled:
        return True
    # `core` takes the "A," of "A, B, AB, O" for a lead-in.
    if forms.lists and not forms.lists.isdisjoint((_listed_things(said), _listed_things(response))):
        return True
    name = _name(said) if forms.names else ()
    return len(name) > 2 and any(_is_same_name(name, other) for other in forms.names)


_BETWEEN_THINGS = re.compile(
    r"(?:(?<!\d),|,(?!\d)|[;\n•|])\s*(?:(?:and|&)\s)?|\s(?:and|&|\+)\s|(?<=\w)/(?=\w)", re.IGNORECASE
)
_NUMBERING = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)])\s+")


def _listed_things(text: str) -> tuple[str, ...]:
    """The items of a list, sorted, in compact form; empty if an item has no words."""
    parts = [_NUMBERING.sub("", part, count=1) for part in _BETWEEN_THINGS.split(text)]
    things = [Text(_TITLE.sub("", part.strip(), count=1)).compact for part in parts]
    return tuple(sorted(things)) if all(things) else ()


def _name(text: str) -> tuple[str, ...]:
    return tuple(word.text for word in lexical_words(text))


def _is_same_name(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if len(one) != len(other) or min(len(one[0]), len(one[-1])) < 3 or one[0] != other[0] or one[-1] != other[-1]:
        return False
    middle = zip(one[1:-1], other[1:-1], strict=True)
    return all(a == b or (min(len(a), len(b)) == 1 and a[0] == b[0] and a.isalpha() and b.isalpha()) for a, b in middle)
