"""The rule that judges a response against its accepted answers, without a model.

```python
judge_by_rule("I think it's Paris.", ["Paris"])        # "correct"
judge_by_rule("Paris or Lyon", ["Paris"])              # "incorrect": several candidates
judge_by_rule("I don’t know.", ["Paris"])              # "not_attempted"
```

The rule is strict: it misses right answers in unlisted spellings rather than accept wrong ones.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from hneurons_eval.judging.aliases import Text, characters, compile_aliases, find_aliases, is_negated, is_whole_alias
from hneurons_eval.judging.refusal import is_refusal, refused_parts
from hneurons_eval.judging.sentences import CLAUSE_END, core, sentences
from hneurons_eval.judging.words import ARTICLES, lexical_words, word_list

Verdict = Literal["correct", "incorrect", "not_attempted"]


def normalise(text: str) -> str:
    """The words of a text in normal form: NFKC, case and accents folded, without punctuation and articles.

    Numbers keep sign and point and lose separators ("1,000" is "1000", "3.50" is "3.5"). "$5" is "5 dollars", "5%" is
    "5 percent". Other scripts than Latin are kept. A final article is a letter ("Vitamin A"), and articles alone are
    kept ("The The"). Never raises.
    """
    words = [w.text for w in lexical_words(text)]
    if not all(w in ARTICLES for w in words):
        words = [w for w in words[:-1] if w not in ARTICLES] + words[-1:]
    return unicodedata.normalize("NFC", " ".join(words))


def judge_by_rule(response: str, aliases: Sequence[str]) -> Verdict:
    """Verdict on a response, given the accepted answers, at least one.

    Returns:
        "correct" if the response asserts an alias: it occurs as whole words, outside questions and refusals, not
        negated ("not Paris"), and not as one of several candidates ("Paris or Lyon", a list). If the response
        announces its answer ("... so the final answer is Lyon"), only the announced one counts. Lists may be in
        another order than in the alias, and names may have initials or lack their title. A hedged answer is an answer
        ("I'm not sure, but I think it is Paris").
        "not_attempted" if the response is empty or a refusal without an answer.
        "incorrect" otherwise.

    Raises:
        TypeError: aliases is a single string.
        ValueError: aliases is empty.
    """
    if isinstance(aliases, str):
        raise TypeError(f"aliases must be a list of accepted answers, not one string: pass [{aliases!r}]")
    if not aliases:
        raise ValueError("aliases is empty: pass at least one accepted answer, or drop the question")
    said = _own_part(response)
    text = Text(said)
    if not text.words:
        return "not_attempted"
    if is_whole_alias(said, tuple(aliases)):
        return "correct"
    found = find_aliases(text, compile_aliases(tuple(aliases)))
    if not found:
        return "not_attempted" if is_refusal(said) else "incorrect"
    if len(text.words) == max(j - i for i, j in found):  # the response is the alias
        return "correct"
    refused = refused_parts(said)
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


_NEXT_QUESTION = re.compile(r"\n[ \t*_#]*(?:question|q)\s*\d*\s*[:.]", re.IGNORECASE)
_ANNOUNCEMENT = re.compile(
    r"\b(?:(?:the|my|final|correct|right)\s+){0,3}(?:final\s+answer|answer\s+(?:is|was"
    r"|would\s+be)\b(?!\s+(?:not|in|correct|wrong|incorrect|unknown)\b)|answer[*_]*\s*:)"
    r"|\banswer[*_]*\s*:",
    re.IGNORECASE,
)


def _own_part(response: str) -> str:
    """The response up to the next question, which base models go on to ask themselves."""
    m = _NEXT_QUESTION.search(response)
    return response[: m.start()] if m and response[: m.start()].strip() else response


def _announced(response: str) -> int:
    """The character at which the last announced answer begins; 0 without one."""
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
    """Whether `[start, end)` is inside a question: an echo, not an answer."""
    if "?" not in response[end:] and not re.match(r"\s*(?:question|q)\s*:", response, re.IGNORECASE):
        return False
    stop = re.compile(r"[?!\n]|\.(?=\s)").search(response, end)
    if stop is None or stop[0] != "?":
        line = response.rfind("\n", 0, start) + 1
        return re.match(r"\s*(?:question|q)\s*:", response[line:start], re.IGNORECASE) is not None
    begin = max(response.rfind(c, 0, start) for c in ".?!\n") + 1
    return _ASKS.match(response, begin, start) is not None


# --- several candidates -------------------------------------------------------------------------------

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
    """Whether the response names several candidates, and some of them are wrong.

    Candidates are "X or Y", "X/Y" alone, and three or more short items of which one is right. "Paris, France" and
    "Lennon and McCartney" are one answer.
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
        items = ([k for k, w in enumerate(words) if m <= w.start < n] for m, n in _items(source, start, end))
        members = [item for item in items if item]
        right = [not inside.isdisjoint(m) for m in members]
        if any(len(m) > 4 for m in members) or sum(right) == len(right):
            continue
        if len(members) == 2 and "/" in source[start:end] and all(len(words[m[0]].text) > 2 for m in members):
            return any(set(m) <= inside for m in members) and len(words) <= 8
        if len(members) >= 3 and sum(right) == 1 and not _is_place(text, members, right):
            return True
    return False


def _is_place(text: Text, members: list[list[int]], right: list[bool]) -> bool:
    """Whether three items name one place, from smaller to larger, and the last is not the answer."""
    if len(members) != 3 or right[2]:
        return False
    region = [all(text.words[k].text in _REGIONS for k in member) for member in members]
    between = text.source[text.words[members[1][-1]].end : text.words[members[2][0]].start]
    return between.strip() == "," and region[2] and not region[0]


def _beside(text: Text, k: int, step: int) -> set[int]:
    """Up to four words on one side of word `k`, within its clause; a comma before "or" does not end it."""
    result: set[int] = set()
    at = k
    while 0 <= at + step < len(text.words) and len(result) < 4:
        a, b = sorted((text.words[at], text.words[at + step]), key=lambda w: w.start)
        gap = text.source[a.end : b.start]
        comma_before = at == k and step < 0 and gap.strip() == ","
        initial = gap.strip() == "." and len(a.text) == 1
        if CLAUSE_END.search(gap) and not comma_before and not initial:
            break
        at += step
        result.add(at)
    return result


def _listed(text: Text, asserted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a response that may be lists: all of it if it is short lines, else the sentences with an alias."""
    source = text.source
    lines = [line for line in source.splitlines() if line.strip()]
    if 3 <= len(lines) <= 50 and all(len(line.split()) <= 5 for line in lines):
        return [(0, len(source))]
    at = [characters(text, m) for m in asserted[:20]]
    parts = [(a, b) for a, b in sentences(source) if b - a <= 1000]
    return [(a, b) for a, b in parts if any(a <= start and end <= b for start, end in at)]


def _items(source: str, start: int, end: int) -> list[tuple[int, int]]:
    """The items of a list as character ranges."""
    result: list[tuple[int, int]] = []
    for m in _LIST_BREAK.finditer(source, start, end):
        if source.count("(", start, m.start()) > source.count(")", start, m.start()):
            continue  # an explanation, not another item
        if m[0] == "," and source[m.start() - 1].isdigit() and source[m.end() : m.end() + 1].isdigit():
            continue  # 12,000
        result.append((start, m.start()))
        start = m.end()
    return [*result, (start, end)]
