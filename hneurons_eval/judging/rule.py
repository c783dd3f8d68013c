"""Whether a response is right, without a model: aliases, refusals, and the replies of LLM judges.

```python
judge_by_rule("I think it's Paris.", ["Paris"])        # "correct"
judge_by_rule("Paris or Lyon", ["Paris"])              # "incorrect": it does not decide
judge_by_rule("I don’t know.", ["Paris"])              # "not_attempted"
parse_verdict('{"verdict": "incorrect"}')              # "incorrect"
parse_choice("Based on the context, C", choices)       # "C"
```

The rule is strict: it rather misses a right answer in an unlisted spelling than takes a wrong one for right.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

from hneurons_eval.judging.choices import parse_choice as parse_choice
from hneurons_eval.judging.spans import (
    CLAUSE_END,
    Text,
    characters,
    compile_aliases,
    core,
    find_aliases,
    is_negated,
    read,
    sentences,
)
from hneurons_eval.judging.words import ARTICLES, PLAIN_APOSTROPHES, lexical_words, word_list

Verdict = Literal["correct", "incorrect", "not_attempted"]


def normalise(text: str) -> str:
    """The words of a text in one form: NFKC, case and accents folded, punctuation and articles dropped.

    Numbers keep their sign and point and lose separators ("1,000" is "1000", "3.50" is "3.5"); "$5" reads
    "5 dollars" and "5%" "5 percent". Scripts other than Latin are kept. An article at the end is a letter
    ("Vitamin A"), and articles alone are kept ("The The"). Never raises.
    """
    words = [w.text for w in lexical_words(text)]
    if not all(w in ARTICLES for w in words):
        words = [w for w in words[:-1] if w not in ARTICLES] + words[-1:]
    return unicodedata.normalize("NFC", " ".join(words))


# --- the rule ----------------------------------------------------------------------------------------


def judge_by_rule(response: str, aliases: Sequence[str]) -> Verdict:
    """Compare a response with the accepted answers.

    "correct": an alias stands in the response as whole words, and is asserted: not in a question or a
    refusal, not negated ("not Paris"), not one of several candidates ("Paris or Lyon", a list). Where the
    response announces its answer ("... so the final answer is Lyon"), only that counts. An alias that lists
    several things may be listed in any order, and a name may be written with an initial or without its title.
    A hedged answer is an answer ("I'm not sure, but I think it is Paris"); a refusal without one is
    "not_attempted", as is an empty response.

    Raises:
        TypeError: aliases is a single string.
        ValueError: aliases is empty.
    """
    if isinstance(aliases, str):
        raise TypeError(f"aliases must be a list of accepted answers, not one string: pass [{aliases!r}]")
    if not aliases:
        raise ValueError("aliases is empty: pass at least one accepted answer, or drop the question")
    said = _own_part(response)
    text = read(said)
    if not text.words:
        return "not_attempted"
    if _is_written_otherwise(said, tuple(aliases)):
        return "correct"
    found = find_aliases(text, compile_aliases(tuple(aliases)))
    if not found:
        return "not_attempted" if is_refusal(said) else "incorrect"
    covered = len(text.words) == max(j - i for i, j in found)
    if covered:  # the usual case: the response is the alias
        return "correct"
    refused = _refused_parts(said)
    announced = _announced(said)
    asserted: list[tuple[int, int]] = []
    for match in found:
        start, end = characters(text, match)
        if any(a <= start and end <= b for a, b in refused) or _is_asked(said, start, end):
            continue
        if end > announced:
            if is_negated(text, match):
                return "incorrect"
            asserted.append(match)
    if not asserted:
        return "not_attempted" if is_refusal(said) else "incorrect"
    return "incorrect" if _is_undecided(text, asserted) else "correct"


class _Otherwise(NamedTuple):
    """The forms in which a whole response may be one of the aliases though none stands in it."""

    untitled: frozenset[str]
    lists: frozenset[tuple[str, ...]]
    names: frozenset[tuple[str, ...]]


_TITLE = re.compile(
    r"(?:sir|dame|lord|lady|colonel|general|captain|major|admiral|lieutenant|sergeant|dr|doctor|professor|mr|mrs|ms"
    r"|miss|president|prime minister|king|queen|emperor|empress|pope|saint|st|reverend|prince|princess|senator"
    r"|governor)\.?\s+(?!(?:of|the|and|in|for)\b)(?=\S{2,}\s+\S{2})",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def _otherwise(aliases: tuple[str, ...]) -> _Otherwise:
    untitled = [alias[m.end() :] for alias in aliases if (m := _TITLE.match(alias))]
    lists = {things for alias in aliases if len(things := _listed_things(alias)) > 1}
    names = {words for alias in (*aliases, *untitled) if len(words := _name(alias)) > 2}
    return _Otherwise(frozenset(read(name).compact for name in untitled), frozenset(lists), frozenset(names))


def _is_written_otherwise(response: str, aliases: tuple[str, ...]) -> bool:
    """Whether the whole response is an alias without its title, the things it lists, or its name with initials.

    "William Pitt" is "Sir William Pitt", "salt, pepper" is "pepper and salt", and "Anna Maria Keller" is "Anna M.
    Keller"; "John Adams" is not "John Q. Adams".
    """
    if len(response) > 500:
        return False
    forms = _otherwise(aliases)
    start, end = core(response)
    said = response[start:end]
    if forms.untitled and read(said).compact in forms.untitled:
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
    """What a text lists, in one order and form; empty if an item says nothing."""
    parts = [_NUMBERING.sub("", part, count=1) for part in _BETWEEN_THINGS.split(text)]
    things = [read(_TITLE.sub("", part.strip(), count=1)).compact for part in parts]
    return tuple(sorted(things)) if all(things) else ()


def _name(text: str) -> tuple[str, ...]:
    return tuple(word.text for word in lexical_words(text))


def _is_same_name(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if len(one) != len(other) or min(len(one[0]), len(one[-1])) < 3 or one[0] != other[0] or one[-1] != other[-1]:
        return False
    middle = zip(one[1:-1], other[1:-1], strict=True)
    return all(a == b or (min(len(a), len(b)) == 1 and a[0] == b[0] and a.isalpha() and b.isalpha()) for a, b in middle)


_NEXT_QUESTION = re.compile(r"\n[ \t*_#]*(?:question|q)\s*\d*\s*[:.]", re.IGNORECASE)
_ANNOUNCEMENT = re.compile(
    r"\b(?:(?:the|my|final|correct|right)\s+){0,3}(?:final\s+answer|answer\s+(?:is|was"
    r"|would\s+be)\b(?!\s+(?:not|in|correct|wrong|incorrect|unknown)\b)|answer[*_]*\s*:)"
    r"|\banswer[*_]*\s*:",
    re.IGNORECASE,
)


def _own_part(response: str) -> str:
    """The response up to a question that the model goes on to ask itself, as base models do."""
    m = _NEXT_QUESTION.search(response)
    return response[: m.start()] if m and response[: m.start()].strip() else response


def _announced(response: str) -> int:
    """Where the last announced answer begins; 0 without one."""
    at = 0
    for m in _ANNOUNCEMENT.finditer(response):
        if response[m.end() :].strip(" .:*_\n\t"):
            at = m.end()
    return at


_ASKS = re.compile(
    r"[\s\"'“*]*(?:question\b|q:|who|whom|whose|what|which|when|where|why|how|in what|in which|is|are|was"
    r"|were"
    r"|did|does|do|can|name)\b",
    re.IGNORECASE,
)


def _is_asked(response: str, start: int, end: int) -> bool:
    """Whether characters start to end stand inside a question: an echo, not an answer."""
    if "?" not in response[end:] and not re.match(r"\s*(?:question|q)\s*:", response, re.IGNORECASE):
        return False
    stop = re.compile(r"[?!\n]|\.(?=\s)").search(response, end)
    if (stop is not None and stop[0] != "?") or stop is None:
        line = response.rfind("\n", 0, start) + 1
        return re.match(r"\s*(?:question|q)\s*:", response[line:start], re.IGNORECASE) is not None
    begin = max(response.rfind(c, 0, start) for c in ".?!\n") + 1
    return _ASKS.match(response, begin, start) is not None


_NO_ALTERNATIVE = frozenset(word_list("not so more less even rather simply later else as just any other"))
_LIST_BREAK = re.compile(
    r"\s*(?:[,;\n•|]\s*(?:(?:and|or|&)\s)?|\s(?:or|and|&)\s|/)\s*(?:(?:[-*•]"
    r"|\d{1,2}[.)])\s)?\s*"
)
# "Austin, Texas, USA" and "Haight-Ashbury, San Francisco, California" are places, not lists.
_COUNTRIES = frozenset(
    word_list(
        "usa us u s uk united states of america kingdom england scotland wales ireland france germany italy "
        "spain canada australia india china japan mexico brazil russia turkey egypt netherlands belgium "
        "austria poland switzerland sweden norway denmark greece portugal argentina chile peru israel new "
        "zealand south africa"
    )
)
_REGIONS = _COUNTRIES | frozenset(
    word_list(
        "alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho illinois "
        "indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi "
        "missouri montana nebraska nevada hampshire jersey carolina dakota ohio oklahoma oregon pennsylvania "
        "north rhode island tennessee texas utah vermont wisconsin wyoming queensland tasmania ontario quebec "
        "alberta manitoba bavaria tuscany"
    )
)


def _is_undecided(text: Text, asserted: list[tuple[int, int]]) -> bool:
    """Whether the response names several candidates and not all of them are right.

    "X or Y"; "X/Y" and nothing else; three or more short items of which one is right. "Paris, France"
    and "Lennon and McCartney" are one answer.
    """
    words, source = text.words, text.source
    inside = {k for i, j in asserted for k in range(i, j)}
    for k, word in enumerate(words[:-1]):
        if word.text == "or" and k not in inside and words[k + 1].text not in _NO_ALTERNATIVE:
            if source[word.start : word.end] == "OR":  # "Portland, OR"
                continue
            left, right = _beside(text, k, -1), _beside(text, k, 1)
            named = any(words[n].text in ("known", "called") for n in left)  # "also known as X or Y"
            if left and right and not named and bool(inside & left) != bool(inside & right):
                return True
    for start, end in _listed(text, asserted):
        start, end = core(source, start, end)
        items = [(m, n) for m, n in _items(source, start, end)]
        members = [[k for k, w in enumerate(words) if m <= w.start < n] for m, n in items]
        members = [m for m in members if m]
        right = [not inside.isdisjoint(m) for m in members]
        if any(len(m) > 4 for m in members) or sum(right) == len(right):
            continue
        if len(members) == 2 and "/" in source[start:end] and all(len(words[m[0]].text) > 2 for m in members):
            return any(set(m) <= inside for m in members) and len(words) <= 8
        if len(members) >= 3 and sum(right) == 1 and not _is_place(text, members, right):
            return True
    return False


def _is_place(text: Text, members: list[list[int]], right: list[bool]) -> bool:
    """Whether three items name one place from the smaller to the larger, of which the last is not the answer."""
    if len(members) != 3 or right[2]:
        return False
    region = [all(text.words[k].text in _REGIONS for k in member) for member in members]
    last = members[2]
    between = text.source[text.words[members[1][-1]].end : text.words[last[0]].start]
    return between.strip() == "," and region[2] and not region[0]


def _beside(text: Text, k: int, step: int) -> set[int]:
    """Up to four words on one side of word `k`, within its clause; a comma before "or" is no end."""
    result: set[int] = set()
    at = k
    while 0 <= at + step < len(text.words) and len(result) < 4:
        a, b = sorted((text.words[at], text.words[at + step]), key=lambda w: w.start)
        gap = text.source[a.end : b.start]
        if CLAUSE_END.search(gap) and not (at == k and step < 0 and gap.strip() == ","):
            initial = gap.strip() == "." and len(a.text) == 1
            if not initial:
                break
        at += step
        result.add(at)
    return result


def _listed(text: Text, asserted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a response that may be lists: short lines, else the sentences with an alias."""
    source = text.source
    lines = [line for line in source.splitlines() if line.strip()]
    if 3 <= len(lines) <= 50 and all(len(line.split()) <= 5 for line in lines):
        return [(0, len(source))]
    at = [characters(text, m) for m in asserted[:20]]
    parts = [(a, b) for a, b in sentences(source) if b - a <= 1000]
    return [(a, b) for a, b in parts if any(a <= start and end <= b for start, end in at)]


def _items(source: str, start: int, end: int) -> list[tuple[int, int]]:
    result: list[tuple[int, int]] = []
    for m in _LIST_BREAK.finditer(source, start, end):
        if source.count("(", start, m.start()) > source.count(")", start, m.start()):
            continue  # an explanation, not another item
        if m[0] == "," and source[m.start() - 1].isdigit() and source[m.end() : m.end() + 1].isdigit():
            continue  # 12,000
        result.append((start, m.start()))
        start = m.end()
    return [*result, (start, end)]


# --- refusals ----------------------------------------------------------------------------------------

_NOTHING = re.compile(
    r"(?:(?:it|this|that|the answer|answer)(?: is| remains|'s)? )?(?:currently |still )?(?:unknown"
    r"|not known|unclear|uncertain)"
    r"|n/?a|idk|dunno|pass|unsure|not sure|no (?:answer|idea|clue|comment)|not (?:applicable"
    r"|available|specified|provided)"
    r"|no information(?: (?:is )?(?:available|found|provided|given))?|no data(?: available)?"
    r"|insufficient information"
    r"|(?:i )?(?:do not|don't|dont) know(?: (?:the answer|that|this|it))?|(?:i )?(?:cannot|can't) (?:say"
    r"|answer|tell)"
    r"|(?:the )?(?:answer|question) (?:cannot|can't) be (?:determined|answered)"
    r"|as an ai(?: (?:language )?model| assistant)?"
)
_SOFT = (
    r"(?:(?:really|honestly|just|simply|currently|actually|also|still|entirely|completely|quite|totally"
    r"|definitively|accurately) ){0,2}"
)
_ACT = (
    r"(?:answer|provide|determine|find|say|tell|identify|verify|confirm|help|assist|recall|remember|give"
    r"|access|know"
    r"|be (?:sure|certain)|comment|discuss|name|fulfill|comply|generate|share|offer|respond|predict|guess"
    r"|do that)\b"
)
_CUE = re.compile(
    rf"\bi {_SOFT}(?:do not|don't|dont|did not|didn't) {_SOFT}(?:know|recall|remember|understand"
    r"|have (?:any|enough|sufficient|access|information|knowledge|the|that|data|specific|a|an|real"
    r"|personal|reliable)\b)"
    rf"|\bi(?: am|'m) {_SOFT}(?:not {_SOFT}(?:sure|certain|aware|familiar|able|confident)|unsure"
    rf"|uncertain|unable|unaware|unfamiliar)\b"
    rf"|\bi(?: am|'m) (?:so |very )?sorry\b(?=\W*$|[,.!:;]| but\b| i (?:can|do|am))|^\W*(?:sorry"
    rf"|apologies|my apologies)\b(?=,| but| i)"
    rf"|\b(?:i|we) (?:cannot|can't|can not|could not|couldn't|won't|will not) {_SOFT}{_ACT}"
    rf"|^\W*(?:cannot|can't|unable to|not able to) (?:be )?{_ACT}"
    r"|\b(?:there is|there's|i have|i've|have|has|with|found) (?:no|not enough|insufficient"
    r"|limited) (?:\w+ ){0,2}?(?:information|data|records?|evidence|answer|knowledge|idea|clue|context"
    r"|access)\b"
    rf"|\b(?:unable|impossible|not possible) to {_SOFT}{_ACT}"
    r"|\b(?:is|are|remains?) (?:currently |still )?(?:unknown|not known|unclear|uncertain)(?: to me"
    r"| at this time)?(?=\W*$)"
    r"|\b(?:information|answer|data|details?|name) (?:is|was|are) not (?:\w+ )?(?:available|provided"
    r"|specified|mentioned|given|known)\b"
    r"|\b(?:beyond|outside|not in|not within) my (?:\w+ )?(?:knowledge|training|database|expertise|capabilit)"
    r"|\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b.{0,80}?\b(?:cannot|can't|don't"
    r"|do not|unable|not able|am not|no)\b",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"[,;:]?\s*\b(?:but|however|though|although|i (?:think|believe|guess|suspect|would (?:say|guess))|i'd"
    r"|my (?:best )?guess"
    r"|maybe|perhaps|probably|possibly|most likely|likely)\b|,(?=(?:\s*[^\s,]{1,40}){1,3}[.!?]?\s*$)",
    re.IGNORECASE,
)


def is_refusal(response: str) -> bool:
    """Whether a response refuses, or says that it does not know, and puts forward no answer all the same.

    "I'm not sure, but I think it is Paris" puts one forward and is no refusal; titles and names in capitals
    ("You Cannot Be Serious", "I Don't Know How to Love Him", "Unknown Mortal Orchestra") are none either.
    """
    start, end = core(response)
    plain = " ".join(response[start:end].translate(PLAIN_APOSTROPHES).lower().split()) if end - start < 200 else ""
    if not lexical_words(response) or _NOTHING.fullmatch(plain):
        return True
    refused = _refused_parts(response)
    if not refused:
        return False
    rest, at = [], 0
    for a, b in [*refused, (len(response), len(response))]:
        rest.append(response[at:a])
        at = b
    left = " ".join(rest).strip(" \n\t.,;:!?*\"'”’)(")
    if not left:
        return True
    turn = _TURN.match(left)
    if turn is not None:
        return not lexical_words(left[turn.end() :])
    # What follows without a turn is an answer only if it is as short as one.
    return len(left.split()) > 4 or _CUE.search(left.translate(PLAIN_APOSTROPHES)) is not None


def _refused_parts(response: str) -> list[tuple[int, int]]:
    """The clauses in which the response refuses, as character ranges."""
    plain = response.translate(PLAIN_APOSTROPHES)
    result: list[tuple[int, int]] = []
    if not _CUE_WORD.search(plain):
        return result
    for start, end in sentences(response):
        m = _CUE.search(plain[start:end])
        if m is None or _is_title(m[0]):
            continue
        turn = _TURN.search(plain, start + m.end(), end)
        result.append((start, turn.start() if turn else end))
    return result


# What every cue has one of: most responses have none and are done.
_CUE_WORD = re.compile(
    r"not\b|n't\b|dont\b|\bno\b|sorry|apolog|unable|unsure|unaware|unfamiliar|uncertain|unclear|unknown"
    r"|beyond|outside|impossible"
    r"|insufficient|limited",
    re.IGNORECASE,
)


def _is_title(cue: str) -> bool:
    words = [w for w in cue.split() if w[0].isalpha()]
    return len(words) > 2 and all(w[0].isupper() for w in words)


# --- the reply of an LLM judge -----------------------------------------------------------------------

_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)\s*```", re.DOTALL | re.IGNORECASE)
_DECORATION = " \t\r\n\"'`*_“”‘’"


def parse_verdict(text: str) -> Verdict | Literal["unparsed"]:
    """The verdict in an LLM judge's reply, which must be the label alone or the JSON object asked for.

    `{"verdict": "correct" | "incorrect" | "not_attempted"}`, as `parse_label` reads it.
    """
    found = parse_label(text, get_args(Verdict))
    return next((v for v in get_args(Verdict) if v == found), "unparsed")


def parse_label(text: str, labels: Sequence[str], key: str = "verdict") -> str:
    """The label in a judge's reply, which must be the label alone or a JSON object with the label under a key.

    The object may also have a "reason" string, and stand in one code fence; between the words of a label may be
    spaces or hyphens. Sentences, two labels, other keys and repeated keys are "unparsed": a class of its own, to be
    counted and never to be read as one of the labels.
    """
    text = text.strip()
    fence = _FENCE.fullmatch(text)
    if fence is not None:
        text = fence[1].strip()
    if text.startswith("{"):
        try:
            reply = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            return "unparsed"
        if not isinstance(reply, dict) or not reply.keys() <= {key, "reason"}:
            return "unparsed"
        if not isinstance(reply.get(key), str) or not isinstance(reply.get("reason", ""), str):
            return "unparsed"
        return _label(reply[key], labels)
    text = text.strip(_DECORATION)
    return _label(text.removesuffix(".").rstrip(_DECORATION), labels)


def _label(said: str, labels: Sequence[str]) -> str:
    form = said.lower()
    forms = (form, form.replace(" ", "_"), form.replace("-", "_"))
    return next((label for label in labels if label in forms), "unparsed")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("repeated key")
    return result
