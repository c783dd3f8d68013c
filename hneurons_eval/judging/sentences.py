"""Sentences of a text, and what is left of one without lead-ins, quotes and markdown.

```python
text = "St. Louis. It is in Missouri."
[text[a:b] for a, b in sentences(text)]   # ["St. Louis.", " It is in Missouri."]
core("The answer is: **Paris**.")         # (17, 22)
```
"""

import re
from collections.abc import Iterator

from hneurons_eval.judging.words import word_list

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
_ABBREVIATIONS = frozenset(word_list("bros corp mr mrs ms dr st jr sr mt vs no inc co ltd prof gen capt col lt"))
CLAUSE_END = re.compile(r"[,.;:!?\n()—–]")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """The sentences and lines of a text as character ranges; initials and abbreviations ("St.") end none."""
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


def core(text: str, start: int = 0, end: int | None = None) -> tuple[int, int]:
    """`[start, end)` without lead-ins, markdown, wrapping quotes and brackets, and the final period."""
    start, end = trim(text, start, len(text) if end is None else end)
    for _ in range(4):  # "Well, I think the answer is: ..." has three
        m = _LEAD_IN.match(text, start, end)
        if m is None:
            break
        inner = trim(text, m.end(), end)
        if inner[0] >= inner[1]:
            break
        start, end = inner
    return start, end


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """`[start, end)` without white space, punctuation, markdown, and wrapping quotes or brackets."""
    while True:
        before = start, end
        while start < end and (text[start] in _EDGE_BEFORE or text[start].isspace()):
            if text[start] == "-" and text[start + 1 : start + 2].isdigit():  # the sign of a number
                break
            start += 1
        while end > start and (text[end - 1] in _EDGE_AFTER or text[end - 1].isspace()):
            end -= 1
        if end - start > 2 and _WRAPPERS.get(text[start]) == text[end - 1]:
            # The outer brackets of "(a) or (b)" are no pair.
            inner = text[start + 1 : end - 1]
            if text[start] not in inner and text[end - 1] not in inner:
                start, end = start + 1, end - 1
        elif end - start > 1 and text[start] in _OPENING and _QUOTES[text[start]] not in text[start + 1 : end]:
            start += 1  # a quote that is never closed
        elif end - start > 1 and text[end - 1] in '"”»」' and not _OPENING & set(text[start : end - 1]):
            end -= 1
        if (start, end) == before:
            return start, end
