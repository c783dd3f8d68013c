"""Where the answer stands in a response, in characters and in tokens.

```python
start, end = answer_span("What is the capital of France?", "The capital is **Paris**.")
tokens = token_positions(offsets, (start, end))
```

The lower half of the module is the reading of text that `judging` shares: a text as words (`words`), and
aliases found among them.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from hneurons_eval.judging.words import (
    ARTICLES,
    CURRENCIES,
    DIGITS,
    NUMBER_WORDS,
    Word,
    dates_in_order,
    lexical_words,
    numbers_as_digits,
    word_list,
)


def answer_span(question: str, response: str, aliases: Sequence[str] = ()) -> tuple[int, int] | None:
    """The characters of `response` that hold the answer, half-open.

    The longest alias that occurs, outside an echo of the question where there is a choice, then the
    first. Without one, what is left of the first sentence that says something once lead-ins ("The
    answer is"), quotes, markdown and the parts that repeat the question are set aside, or of what
    follows a later "the answer is"; the whole response where nothing would be left. A refusal has a
    span like any other text: whether to use it is the caller's decision. None for a response of white
    space.

    A span cut to an alias tells right answers from wrong ones by itself (docs/spans.md), so what trains
    or feeds a probe must not give `aliases`.
    """
    if not response.strip():
        return None
    text, asked = read(response), read(question)
    found = find_aliases(text, compile_aliases(tuple(aliases)))
    if found:
        # `found` has the longest alias first; by its own length, not by that of "Beatles'" and "Beatle".
        best = min(found, key=lambda m: (_is_echo(text, m, asked), -found[m], m[0]))
        return _as_written(response, characters(text, best), aliases)
    return _without_echo(text, asked)


def token_positions(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> list[int]:
    """The tokens whose characters overlap `span`; `offsets` is a tokenizer's `offset_mapping`.

    A token that covers the space before the answer counts, and so does each of several tokens that
    share one character. Tokens without characters (special tokens) never count.
    """
    start, end = span
    return [k for k, (a, b) in enumerate(offsets) if max(a, start) < min(b, end)]


# --- the answer without an alias ---------------------------------------------------------------------

_FUNCTION_WORDS = frozenset(
    word_list(
        "about also and are as at be been being but by can could did do does for from had has have he "
        "her his i if in into is it its itself may me might must my no not of on or our she should so "
        "some such than that their them then there these they this those to too up us was we were what "
        "when where which while who whom whose why will with would yes you your"
    )
)
_COPULAS = frozenset(word_list("is was are were be called named titled became become becomes"))
_LINKING = frozenset(word_list("based came come comes found known located made originates originated situated"))
_PREPOSITIONS = frozenset(word_list("as at by for from in into of on to with"))
_PRONOUNS = frozenset(word_list("he it she that they this"))
_QUOTES = {'"': '"', "“": "”", "‘": "’", "'": "'", "«": "»", "„": "“", "「": "」", "『": "』", "`": "`"}
_OPENING = frozenset('"“„«「')
_WRAPPERS = {**_QUOTES, "(": ")", "[": "]"}
_EDGE_BEFORE = " \t\r\n\f\v*_`#>~:;,.-–—•"
_EDGE_AFTER = " \t\r\n\f\v*_`~:;,.-–—。、"

_ANSWER_IS = (
    r"(?:(?:the|my|your|final|correct|right|best|short)\s+){0,3}answer\s*"
    r"(?:to\s+(?:the|this|your)\s+question\s*)?"
)
_LEAD_IN = re.compile(
    r"(?:(?:so|well|ok|okay|sure|certainly|yes|hmm|actually|answer|a)\s*[,!:](?:\s+|(?<=:))"
    rf"|{_ANSWER_IS}(?:\s*[*_]*(?:is|was|would\s+be|should\s+be)\b[\s*_]*:?|[*_]*\s*:)"
    r"|i\s+(?:think|believe|guess|suspect|would\s+say|would\s+guess)(?:\s+that)?\b(?=\s*\S)"
    r"|(?:it|this|that|they|these|he|she)\s+(?:is|was|are|were|would\s+be|might\s+be|could\s+be"
    r"|may\s+be)(?:\s+called)?\b(?=\s*\S)"
    r"|(?:it|that)['’]s\b(?=[^\n]*\.\s*$))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[!?。！？](?=\s|$)|(?<!\W\w)(?<!^\w)\.(?=[\s*_\"”’)]*(?:\s|$))|[。！？]|\n+")
_STATED = re.compile(
    r"\b(?:the|my)\s+(?:(?:final|correct|right|actual|best)\s+){0,2}answer\s+(?:is|was|would\s+be|should\s+be)\b"
    r"(?!\s+(?:not|no|yes|that|in|correct|right|wrong|incorrect|unknown|unclear)\b)[\s*_]*:?",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r",\s+(?:which|where|who|whose|specifically)\b", re.IGNORECASE)
_CLOSING = re.compile(r"\.?\)")
_ABBREVIATED = re.compile(r"(?:^|[^\w.])(?:(?:[^\W\d_]\.)+[^\W\d_]|jr|sr|bros|inc|co|corp|ltd)$", re.IGNORECASE)
_ABBREVIATIONS = frozenset(word_list("bros corp mr mrs ms dr st jr sr mt vs no inc co ltd prof gen capt col lt"))


def core(text: str, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """`[start, end)` without lead-ins, markdown, wrapping quotes and brackets, and the final period."""
    start, end = _trim(text, start, len(text) if end is None else end)
    for _ in range(4):  # "Well, I think the answer is: ..." has three; more is not a lead-in
        m = _LEAD_IN.match(text, start, end)
        if m is None:
            break
        inner = _trim(text, m.end(), end)
        if inner[0] >= inner[1]:
            break
        start, end = inner
    return start, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while True:
        before = start, end
        while start < end and (text[start] in _EDGE_BEFORE or text[start].isspace()):
            if text[start] == "-" and text[start + 1 : start + 2].isdigit():  # the sign of a number
                break
            start += 1
        while end > start and (text[end - 1] in _EDGE_AFTER or text[end - 1].isspace()):
            end -= 1
        if end - start > 2 and _WRAPPERS.get(text[start]) == text[end - 1]:
            # "(a) or (b)" begins and ends with brackets that are not each other's.
            inner = text[start + 1 : end - 1]
            if text[start] not in inner and text[end - 1] not in inner:
                start, end = start + 1, end - 1
        elif end - start > 1 and text[start] in _OPENING and _QUOTES[text[start]] not in text[start + 1 : end]:
            start += 1  # a quote that the response never closes
        elif end - start > 1 and text[end - 1] in '"”»」' and not _OPENING & set(text[start : end - 1]):
            end -= 1
        if (start, end) == before:
            return start, end


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The sentences and lines of a text as character ranges; initials and "St." do not end one."""
    start = 0
    for m in _SENTENCE_END.finditer(text):
        if m[0] == ".":
            k = m.start()
            while k > start and text[k - 1].isalpha() and m.start() - k < 6:
                k -= 1
            if text[k : m.start()].lower() in _ABBREVIATIONS and m.end() < len(text):
                continue
        if text[start : m.end()].strip():
            yield start, m.end()
        start = m.end()
    if text[start:].strip():
        yield start, len(text)


def _without_echo(text: "Text", asked: "Text") -> tuple[int, int]:
    source = text.source
    whole = core(source)
    if whole[0] >= whole[1]:  # punctuation only
        stripped = source.strip()
        at = source.index(stripped)
        return at, at + len(stripped)
    words = sorted(text.words, key=lambda w: w.start)
    echoes = _Echoes(asked)
    stated = None
    for m in _STATED.finditer(source, whole[0], whole[1]):
        stated = m.end()
    found = None if stated is None else _first_new(source, words, echoes, stated, whole)
    return _finished(source, found or _first_new(source, words, echoes, 0, whole) or whole)


def _first_new(
    source: str, words: list[Word], echoes: "_Echoes", begin: int, whole: tuple[int, int]
) -> tuple[int, int] | None:
    """The answer in the first sentence from `begin` that has a word the question has not."""
    for a, b in sentences(source[begin : whole[1]]):
        start, end = core(source, max(begin + a, whole[0]), begin + b)
        first = bisect_left(words, start, key=lambda w: w.start)
        inside = words[first : bisect_left(words, end, key=lambda w: w.start)]
        new = [not (w.text in _FUNCTION_WORDS or echoes.has(w, source)) for w in inside]
        if any(new):
            led = begin > 0 or first > bisect_left(words, a, key=lambda w: w.start)
            return _core_of_sentence(source, inside, new, (start, end), led)
    return None


class _Echoes:
    """The words of a question, those in small letters in every inflection: "belong", "belongs", "belonging"."""

    def __init__(self, asked: "Text") -> None:
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
    """Cut "<question's words> is ANSWER", "<question's words> comes from ANSWER", "ANSWER is <question's words>".

    Anything else stays whole: "Battle of Hastings" is the answer to "Which battle ...", not "Hastings", and
    in a title any word may be the question's. `led`: a lead-in ("It was") has been cut already.
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
    """The word after the verb of "<question's words> is ANSWER"; 0 where the sentence does not begin so."""
    subject = False
    for k, word in enumerate(inside):
        if word.text in _COPULAS and subject and source[word.start].islower():
            after = k + 1
            while after < len(inside) and inside[after].text in _COPULAS:  # "is called"
                after += 1
            return after if any(new[after:]) else 0
        if new[k]:
            return 0
        # "There Is a Green Hill" is a title, and names nothing that was asked for.
        subject = subject or word.text in _PRONOUNS or word.text not in _FUNCTION_WORDS
    return 0


def _past_preposition(source: str, inside: list[Word], new: list[bool], first: int, led: bool) -> int:
    """From `first` on, the word after "belongs to", "the continent of", "found in"; `first` without such words.

    Without anything before it ("part of the retina") such a word is the answer's own.
    """
    past = first
    for k in range(first + 1, len(inside)):
        if new[k - 1] or new[k]:
            break
        verb = inside[k - 1]
        if (
            inside[k].text in _PREPOSITIONS
            and verb.text not in _FUNCTION_WORDS
            and source[verb.start].islower()
            and (led or k - 1 > first)
            and k + 1 < len(inside)
        ):
            past = k + 1
    return past


def _finished(source: str, span: tuple[int, int]) -> tuple[int, int]:
    """Without edges, but with the closing bracket and the abbreviation's period that belong to the answer."""
    start, end = _trim(source, *span)
    if source.count("(", start, end) > source.count(")", start, end):
        closing = _CLOSING.match(source, end)
        end = closing.end() if closing else end
    if source[end : end + 1] == "." and _ABBREVIATED.search(source[max(start, end - 16) : end]):
        end += 1
    return start, end


def _cut_tail(inside: list[Word], new: list[bool], span: tuple[int, int]) -> tuple[int, int]:
    for k in range(len(inside) - 1, 0, -1):
        if new[k]:
            break
        if inside[k].text in _COPULAS and any(new[:k]) and k + 1 < len(inside):
            # the first verb of "is called" ends the answer
            while k > 1 and inside[k - 1].text in _COPULAS:
                k -= 1
            # "a dish, and it is made" and "a dish that is made" go on about the answer.
            return span if inside[k - 1].text in _FUNCTION_WORDS else (span[0], inside[k - 1].end)
    return span


def _is_echo(text: "Text", match: tuple[int, int], asked: "Text") -> bool:
    """Whether two or more words next to the match stand next to it in the question too."""
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
    """Take in what belongs to the alias though not to its words: "The" Who, Mamma Mia"!"."""
    start, end = span
    for alias in sorted(set(aliases), key=lambda a: (-len(a), a)):
        a, b = _trim(alias, 0, len(alias))
        at = source.lower().find(alias[a:b].lower(), max(0, start - 8), end + 8)
        if 0 <= at <= start and end <= at + b - a and len(source.lower()) == len(source):
            return at, at + b - a
    if source.count("(", start, end) > source.count(")", start, end) and source[end : end + 1] == ")":
        end += 1
    if source[start - 1 : start] in tuple(CURRENCIES):
        start -= 1
    return start, end + (source[end : end + 1] == "%")


# --- reading and finding -----------------------------------------------------------------------------


class Text:
    """A text as words (articles dropped, numbers and dates in one form) and as one string without spaces.

    Aliases are looked up in `compact`, from word start to word end, so that "Spider-Man", "Spiderman" and
    "J. R. R." and "JRR" are alike while "ear" is not in "early".
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


read = Text


class Alias(NamedTuple):
    """An alias ready to be found: `stem` is its compact form, without a final plural s if `plural`."""

    stem: str
    plural: bool
    exact: str  # compact form of the whole alias, articles kept: what a whole response is compared with
    whole_only: bool  # too short or common to be looked for inside a text
    surface: str  # the alias as it was written


# Words that stand in any sentence: as an alias ("It", "The Who", "Yes") only as the whole answer.
_COMMON = _FUNCTION_WORDS | ARTICLES | frozenset(word_list("all any each many more most only same very"))


@lru_cache(maxsize=16384)
def compile_aliases(aliases: tuple[str, ...]) -> tuple[Alias, ...]:
    """Aliases in the forms in which they are looked for; those without a word in them are left out."""
    forms: dict[str, Alias] = {}
    for alias in aliases:
        for surface in _variants(alias):
            text = read(surface)
            exact = exact_form(surface)
            # "The" is no answer; "A" is a letter, "The The" a band.
            if not text.words or exact in ("the", "an"):
                continue
            stem = text.compact
            single = len(stem) == 1 and stem.isalpha() and stem < "\u0e00"
            # "US" and "WHO" are words only in small letters; in capitals they are looked for (`_stands`).
            common = all(w.text in _COMMON for w in text.words) and not _is_acronym(surface)
            plural = len(stem) >= 4 and stem[-1].isalpha()
            if plural and len(stem) >= 5 and stem.endswith("s") and not stem.endswith("ss"):
                stem = stem[:-1]
            if single or common:
                plural = False
            key = surface if len(stem) == 2 else text.compact  # of two letters, case counts
            forms.setdefault(key, Alias(stem, plural, exact, single or common, surface.strip()))
    return tuple(sorted(forms.values(), key=lambda a: (-len(a.stem), a.stem, a.surface)))


def exact_form(text: str) -> str:
    """All the words of a text, articles too, as one string."""
    return "\x1f".join(w.text for w in lexical_words(text))


_PARENTHESES = re.compile(r"\s*\([^()]*\)\s*")
_NAME = re.compile(r"[^\W\d_][^\s,]*(?:\s+[^\s,]+){0,2}")


def _variants(alias: str) -> list[str]:
    """The alias; without its disambiguator; with the surname last; a pair of people by surname."""
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
    """Where aliases stand in a text: ranges of words, with the length of the alias, longest first."""
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
                if j is None and alias.plural:
                    j = ends.get(end + 1) if compact[end] == "s" else None
                    if j is None and compact[end - 1] in "osxzh" and compact.startswith("es", end):
                        j = ends.get(end + 2)
                if j is not None and _stands(text, starts[at], j, alias):
                    found.setdefault((starts[at], j), len(alias.stem))
            at = compact.find(alias.stem, at + 1)
    if not found and text.words and len(text.source) < 1000:
        # "ABBA A B" and its alias "abba a b": whether "a" is an article or a letter may hang on its case.
        whole = exact_form(text.source)
        for alias in aliases:
            if alias.exact == whole and not alias.whole_only:
                found[0, len(text.words)] = len(alias.stem)
    return found


def characters(text: Text, match: tuple[int, int]) -> tuple[int, int]:
    """The characters of a range of words, which a date may have put in another order."""
    inside = text.words[match[0] : match[1]]
    return min(w.start for w in inside), max(w.end for w in inside)


_NEGATES = frozenset(word_list("not cannot never nor neither except excluding without unlike isnt wasnt"))
CLAUSE_END = re.compile(r"[,.;:!?\n()—–]")


def is_negated(text: Text, match: tuple[int, int]) -> bool:
    """ "not Paris", "isn't in Paris", "rather than Paris", "Paris is wrong"; not "not only Paris"."""
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


def _as_whole(text: Text, alias: Alias) -> tuple[int, int] | None:
    source = text.source
    if len(source) > 20 * len(alias.surface) + 200:
        return None
    start, end = core(source)
    lead_in = any(w.end <= start for w in text.words)
    if exact_form(source[start:end]) != alias.exact or (
        # After a lead-in the case must agree: "It is a" breaks off before its answer, which is not "A".
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


def _stands(text: Text, i: int, j: int, alias: Alias) -> bool:
    """Whether words i to j, which spell the alias, are that alias and not a part of something else."""
    words, source = text.words, text.source
    two = len(alias.stem) == 2 and alias.stem.isalpha() and alias.stem.isascii()
    if two or (alias.stem in _COMMON and _is_acronym(alias.surface)):
        # "Us", "IT", "Li", "WHO": in a longer text only in capitals as the alias has them, dots aside.
        start, end = characters(text, (i, j))
        said, written = source[start:end].replace(".", ""), alias.surface.replace(".", "")
        return len(words) == j - i or (not said.islower() if written.islower() else said == written)
    if all(DIGITS.fullmatch(w.text) for w in words[i:j]):
        # One end of "1939-1945", the minutes of "10:30" and the half of "1/2" are other numbers.
        for k in (i, j):
            pair = words[max(k - 1, 0) : k + 1]
            between = source[pair[0].end : pair[-1].start]
            if all(DIGITS.fullmatch(w.text) for w in pair) and between in (*"-–—−/:.",):
                return False
    return True


def _is_acronym(surface: str) -> bool:
    letters = surface.replace(".", "").strip()
    return len(letters) > 1 and letters.isalpha() and letters.isascii() and letters.isupper()


def _is_article(words: list[Word], k: int, source: str) -> bool:
    """Not the letter in "Vitamin A", "Hepatitis A virus" or "The answer is A."."""
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
