"""The option that a reply to a multiple-choice question chooses.

```python
parse_choice("Based on the context, C", {"A": "Paris", "B": "Lyon", "C": "Nice"})  # "C"
```
"""

import re
from collections.abc import Mapping

from hneurons_eval.judging.aliases import Text, is_negated
from hneurons_eval.judging.sentences import sentences
from hneurons_eval.judging.words import PLAIN_APOSTROPHES, word_list

_STATEMENT = re.compile(
    r"\\boxed\s*\{(?:\\text\s*\{)?"
    r"|\b(?:answer|choice|option|selection)(?:\s+(?:to\s+(?:the|this)\s+question|here))?[*_]*\s*(?:(?:is"
    r"|would be|should be|must be)\b[\s*_]*:?|:)"
    r"|\b(?:i(?:'d| would| will|'ll)?\s+(?:choose|pick|select|go with|answer))\b",
    re.IGNORECASE,
)
_BEFORE_ANOTHER = re.compile(r"(?:\b(?:not|never|or|and|neither)|n't)(?:\s+\w+)?[\s(*]*$", re.IGNORECASE)
_BECAUSE = frozenset(word_list("because since as due based for which with given is"))


def parse_choice(text: str, choices: Mapping[str, str]) -> str | None:
    """The label of the option that a reply chooses, or None if the choice is unclear.

    The last stated answer decides ("The answer is B", "\\boxed{D}"). Without one, it is the label at the beginning or
    the end of the reply ("(B)", "B) Paris", "Based on the context, C"), else the only option whose whole text occurs.
    None for words that begin with a label's letter, "A dog", "A or B", "not A", and a label with another option's text.
    `choices` are the options' texts by label.

    Raises:
        ValueError: choices is empty.
    """
    if not choices:
        raise ValueError("choices is empty: pass the options as {label: text}")
    reader = _Choices(choices)
    text = text.strip().translate(PLAIN_APOSTROPHES | {10: "\n"})
    for m in list(_STATEMENT.finditer(text))[:-9:-1]:  # the last eight are enough
        rest = text[m.end() : m.end() + 2000].lstrip()
        if m[0].startswith("\\"):
            rest = rest.partition("}")[0]
        line = next((part for part in rest.split("\n") if part.strip(" *_:\t")), "")
        label, plain = reader.settle(line, stated=True)
        if label is not None or not plain:
            return label
    return reader.settle(text, stated=False)[0]


class _Choices:
    """The options of one question, as patterns."""

    def __init__(self, choices: Mapping[str, str]) -> None:
        self.texts = {label: Text(text).compact for label, text in choices.items()}
        exact = {label.casefold(): label for label in choices}
        self.labels = exact if len(exact) == len(choices) else {label: label for label in choices}
        one = "|".join(re.escape(label) for label in sorted(choices, key=lambda c: (-len(c), c)))
        edge = r"[\s*_(\[{\"'`$“]*"
        flags = re.IGNORECASE if len(exact) == len(choices) else 0
        again = rf"(?:option\s+)?({one})(?!\w)"
        self.first = re.compile(rf"{edge}(?:(?:option|choice|answer)\s{edge})?({one})(?!\w)([)\]}}*_\"'`$”]*)", flags)
        self.last = re.compile(
            r"(?:[,:]|\b(?:is|option|choice|choose|select|pick|answer|be))[\s*_(\[\"'`“]*"
            rf"(?<!\w)({one})[\s)\]}}*_\"'`”.]*$",
            flags,
        )
        self.another = re.compile(rf"\s*(?:,|/|&)?\s*(?:(?:or|and)\b)?{edge}{again}", flags)
        self.joined = re.compile(rf"\s*(?:/|&|,?\s*(?:or|and)\b){edge}{again}", flags)

    def settle(self, text: str, stated: bool) -> tuple[str | None, bool]:
        """The label, and whether None means that no option was named (True) or a contradiction or denial (False)."""
        named = self._named(text)
        if re.match(r"[\s*_]*(?:not|neither|isn't|never|either)\b", text, re.IGNORECASE):
            return None, False
        m = self.first.match(text)
        if m is not None:
            label, rest = self.labels[self._key(m[1])], text[m.end() :]
            also = rest[1:].rstrip(" .") if rest[:1] in ".,:-" else ""
            if self.joined.match(rest) or self.another.fullmatch(also):
                return None, False
            bare = not rest.strip(" .!*_\"'`)]}$\n,;:")
            marked = rest.startswith("\n") or bool(m[2].strip("*_\"'`"))
            marked = marked or re.match(r"\s?[.):;–—-](?=[\s*_]|$)", rest) is not None
            if rest[:1] == "," and rest[1:2].isspace():
                marked = stated or m[1] not in ("A", "I", "a", "i")
            if re.match(r"[.)]\s*(?:" + "|".join(map(re.escape, self.labels.values())) + r")[.)]", rest):
                return None, False  # initials, or two labels
            word = re.match(r"\s+([a-z]+)", rest)
            if stated and word is not None and word[1] in _BECAUSE:
                marked = True
            if bare:
                return label, True
            begins = self._named(next((rest[a:b] for a, b in sentences(rest[:2000])), rest[:2000]))
            if begins and label not in begins and not m[1].islower() and self._starts(rest, begins):
                return None, False
            if marked and (m[1].isupper() or m[1].isdigit() or m[2] or stated):
                return (label, True)
            if label in begins and len(begins) == 1:
                return label, True
            if begins and stated and m[1] not in ("A", "I", "a", "i"):
                return None, False
        m = self.last.search(text[-200:])
        if m is not None and (m[1].isupper() or m[1].isdigit()):
            label = self.labels[self._key(m[1])]
            before = text[-200:][: m.start(1)]
            if _BEFORE_ANOTHER.search(before):
                return None, False
            return (label, True) if not named or named == {label} else (None, False)
        if len(named) == 1 and not self._denied(text):
            return next(iter(named)), True
        return None, not named

    def _key(self, label: str) -> str:
        return label.casefold() if label.casefold() in self.labels else label

    def _starts(self, rest: str, named: set[str]) -> bool:
        """Whether the text after a label begins with an option's text."""
        text = Text(rest[:2000])
        return any(text.compact.startswith(self.texts[label]) for label in named)

    def _find(self, text: Text) -> list[tuple[int, int, str]]:
        """Word ranges of the options' texts, with their labels; the longer where one holds the other."""
        found: list[tuple[int, int, str]] = []
        for label, wanted in self.texts.items():
            at = text.compact.find(wanted) if wanted else -1
            while at >= 0:
                if at in text.starts and at + len(wanted) in text.ends:
                    found.append((text.starts[at], text.ends[at + len(wanted)], label))
                at = text.compact.find(wanted, at + 1)
                if len(found) > 200:
                    return found
        return [
            (i, j, label)
            for i, j, label in found
            if not any(a <= i and j <= b and (a, b) != (i, j) for a, b, _ in found)
        ]

    def _named(self, text: str) -> set[str]:
        """The options whose whole text occurs."""
        return {label for _, _, label in self._find(Text(text))}

    def _denied(self, text: str) -> bool:
        words = Text(text)
        return any(is_negated(words, (i, j)) for i, j, _ in self._find(words))
