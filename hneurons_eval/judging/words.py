"""Words in normal form, with their characters in the original text; numbers and dates.

```python
[w.text for w in lexical_words("L’Été, $1,000")]  # ["l", "ete", "1000", "dollars"]
```
"""

import re
import unicodedata
from decimal import Decimal
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

ARTICLES = frozenset({"a", "an", "the"})


def word_list(words: str) -> list[str]:
    return words.split()


FUNCTION_WORDS = frozenset(
    word_list(
        "about also and are as at be been being but by can could did do does for from had has have he "
        "her his i if in into is it its itself may me might must my no not of on or our she should so "
        "some such than that their them then there these they this those to too up us was we were what "
        "when where which while who whom whose why will with would yes you your"
    )
)


class Word(NamedTuple):
    """A word in normal form, and its characters `[start, end)` in the original text."""

    text: str
    start: int
    end: int


# Letters that Unicode does not decompose, and signs whose compatibility form would add letters to a word.
_FOLDED = {
    "ø": "o", "Ø": "o", "đ": "d", "Đ": "d", "ł": "l", "Ł": "l", "æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe",
    "ı": "i", "ð": "d", "Ð": "d", "þ": "th", "Þ": "th", "ħ": "h", "Ħ": "h", "™": " ", "®": " ", "©": " ",
    "℠": " ", "°": " ", "−": "-", "\u200b": " ", "€": "€", "£": "£", "¥": "¥",
}  # fmt: skip
CURRENCIES = {"$": "dollars", "€": "euros", "£": "pounds", "¥": "yen"}
_SIGNS = {"%": "percent", "&": "and"}
# In scripts without spaces (and in Korean, for its particles) each character is a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u115f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff"
)
_NUMBER = (
    r"(?P<number>(?:(?<![^\s(=$€£¥])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
    r"(?:(?![^\W_])|(?=[a-z]{2})(?!(?:st|nd|rd|th)\b)))"
)
_ASCII_WORD = re.compile(_NUMBER + r"|(?P<word>[a-z0-9]+(?:\+\+|#)?)|(?P<money>\$(?=\s?\d))|(?P<sign>[%&])")


@cache
def _any_word() -> re.Pattern[str]:
    # Python's \w lacks the vowel signs of Indic scripts.
    marks = "".join(
        c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c)[0] == "M" and not _is_dropped(c)
    )
    marks = f"[{marks}\u1160-\u11ff]"
    letter = f"(?:(?![{_UNSPACED}])[^\\W_])"
    return re.compile(
        f"{_NUMBER}|(?P<word>[{_UNSPACED}]{marks}*|{letter}(?:{letter}|{marks})*(?:\\+\\+|#)?)"
        r"|(?P<money>[$€£¥](?=\s?\d))|(?P<sign>[%&])|(?P<emoji>[^\x00-\x7f\s€£¥])"
    )


def _is_dropped(c: str) -> bool:
    # Accents, and the optional pointing of Hebrew and Arabic. Not the marks that are letters elsewhere.
    return (
        "\u0300" <= c <= "\u036f" or "\u0591" <= c <= "\u05c7" or "\u064b" <= c <= "\u065f"
        or "\u1ab0" <= c <= "\u1aff" or "\u20d0" <= c <= "\u20ff" or "\ufe00" <= c <= "\ufe2f"
    ) and unicodedata.category(c)[0] == "M"  # fmt: skip


@lru_cache(maxsize=8192)
def _fold(c: str) -> str:
    if c in _FOLDED:
        return _FOLDED[c]
    if c.isdecimal():
        return str(unicodedata.decimal(c))
    if c.isspace():
        return " "
    kept: list[str] = []
    for d in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", c).casefold()):
        kind = unicodedata.category(d)
        if _is_dropped(d) or (kind in ("Cf", "Sk") and ord(d) > 127):
            continue
        kept.append(d if d.isascii() or kind[0] in "LNM" or kind == "So" else "/" if d == "⁄" else " ")
    # "10²" is not 102, "1½" is not 11/2.
    apart = unicodedata.decomposition(c).startswith(("<super>", "<fraction>"))
    return " " + "".join(kept) if apart else "".join(kept)


@lru_cache(maxsize=8192)
def _attaches(c: str) -> bool:
    return c == "\u200d" or unicodedata.category(c)[0] == "M"


def lexical_words(text: str) -> list[Word]:
    """The words of a text, articles included, with case and accents folded; "1,000" is one word."""
    folded, origin = text.lower(), None
    if not text.isascii():
        pieces = [_fold(c) for c in text]
        folded = "".join(pieces)
        origin = [k for k, piece in enumerate(pieces) for _ in piece]
    result: list[Word] = []
    currency: Word | None = None
    for m in (_ASCII_WORD if origin is None else _any_word()).finditer(folded):
        form, kind, start, end = m[0], m.lastgroup, m.start(), m.end()
        if origin is not None:
            start, end = origin[start], origin[end - 1] + 1
            while end < len(text) and _attaches(text[end]):
                end += 1
            if kind == "word":
                form = unicodedata.normalize("NFKD", form)
        if kind == "number":
            form = form.replace(",", "")
            if "." in form:
                form = form.rstrip("0").rstrip(".")
        elif kind == "sign":
            form = _SIGNS[form]
        elif kind == "money":
            currency = Word(CURRENCIES[form], start, end)
            continue
        result.append(Word(form, start, end))
        if currency is not None:  # "$5" reads "5 dollars"
            result.append(currency)
            currency = None
    return result


PLAIN_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "\u00a0": " ", "\n": " "})
"""Table for `str.translate`: ASCII apostrophes and spaces in place of their variants and line breaks."""


# --- numbers and dates -------------------------------------------------------------------------------

_SMALL = {
    word: n
    for n, word in enumerate(
        word_list(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen"
        )
    )
}
_TENS = {word: 10 * n for n, word in enumerate(word_list("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    word: n
    for n, word in enumerate(
        word_list(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
            "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
        ),
        1,
    )
} | {word[:-1] + "ieth": n for word, n in _TENS.items()}
_MONTHS = word_list("january february march april may june july august september october november december")
_MONTH = {name[:n]: name for name in _MONTHS for n in (3, len(name))} | {"sept": "september"}
NUMBER_WORDS = frozenset({*_SMALL, *_TENS, *_SCALES, *_ORDINALS})
DIGITS = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?")  # longer ones are left as written
_NTH = re.compile(r"(\d{1,30})(?:st|nd|rd|th)")
_JOINED = re.compile(r"[\s-]*")
_DATE_GAP = re.compile(r"[\s,.]*(?:of\s+|the\s+)*", re.IGNORECASE)


def numbers_as_digits(words: list[Word], source: str) -> list[Word]:
    """Words with numbers as digits: "twenty-five" 25, "5 million" 5000000, "first" 1th, "nineteen ten" 1910."""
    result: list[Word] = []
    k = 0
    while k < len(words):
        form = words[k].text
        if not (form[0].isdigit() or form in NUMBER_WORDS or form in ("minus", "negative")):
            result.append(words[k])
            k += 1
            continue
        value, ordinal, j = _number_at(words, k, source)
        if j > k:
            digits = f"{value:f}" if isinstance(value, Decimal) else str(value)
            if "." in digits:
                digits = digits.rstrip("0").rstrip(".")
            unit = [w for w in words[k:j] if w.text in CURRENCIES.values()]
            result.append(Word(digits + ("th" if ordinal else ""), words[k].start, words[j - 1].end))
            result.extend(unit)  # "$5 million" reads "5000000 dollars"
        else:
            result.append(words[k])
            j = k + 1
        k = j
    return result


def _number_at(words: list[Word], k: int, source: str) -> tuple[Decimal | int, bool, int]:
    """The number at word `k`, whether it is an ordinal, and the word after it (`k` if there is no number)."""
    total: Decimal | int = 0
    group: Decimal | int | None = None
    last, sign, j = "", 1, k
    if words[k].text in ("minus", "negative") and k + 1 < len(words):
        if _number_at(words, k + 1, source)[2] == k + 1 and not DIGITS.fullmatch(words[k + 1].text):
            return 0, False, k
        sign, j = -1, k + 1
    first = j
    while j < len(words):
        text = words[j].text
        # The "$" of "$5 million" is the word after "5", but comes first in the text.
        said_to = max((w.end for w in words[max(first, j - 2) : j]), default=0)
        if j > first and not _JOINED.fullmatch(source, said_to, max(said_to, words[j].start)):
            break
        value = _SMALL.get(text, _TENS.get(text, _ORDINALS.get(text)))
        if text in _SCALES and last != "ordinal":
            scale = _SCALES[text]
            if scale == 100 and group is not None and (group >= 100 or last == "digits"):
                break
            if scale == 100:
                group = (1 if group is None else group) * 100
            else:
                total, group = total + (1 if group is None else group) * scale, None
            last = "scale"
        elif value is not None:
            room = group is None or last in ("scale", "and") or (last == "tens" and 0 < value < 10)
            year = last in ("teens", "tens") and group is not None and 10 <= group <= 20 and value >= 10
            if not room and not year:
                break
            group = (group or 0) * 100 + value if year and not room else (group or 0) + value
            last = "teens" if value > 9 else "unit"
            last = "ordinal" if text in _ORDINALS else "tens" if text in _TENS else last
            if year and not room and last == "teens":
                last = "unit"  # 1910 is complete
        elif text == "and" and last == "scale" and j + 1 < len(words):
            if words[j + 1].text not in _SMALL | _TENS | _ORDINALS:
                break
            last = "and"
        elif j == first and (m := _NTH.fullmatch(text)):
            group, last = int(m[1]), "ordinal"
        elif j == first and DIGITS.fullmatch(text):
            group, last = (Decimal(text) if "." in text else int(text)), "digits"
        elif text in CURRENCIES.values() and last == "digits" and j + 1 < len(words):
            if words[j + 1].text not in _SCALES:
                break
        else:
            break
        j += 1
        if last == "ordinal":
            break
    if j == first:
        return 0, False, k
    return sign * (total + (group or 0)), last == "ordinal", j


def dates_in_order(words: list[Word], source: str) -> list[Word]:
    """Words with dates as day (an ordinal), month, year: "July 4, 1776", "1776-07-04" and "4 Jul 1776"."""
    result: list[Word] = []
    k = 0
    while k < len(words):
        w = words[k]
        of = k + 1 < len(words) and words[k + 1].text == "of"  # "4th of July"
        near = [w, *words[k + 1 + of : k + 3 + of]]
        parts = [x.text for x in near]
        gaps = [source[a.end : b.start] for a, b in pairwise(near)]
        loose = [_DATE_GAP.fullmatch(g) is not None for g in gaps]
        taken = 0
        if gaps == ["-", "-"] and _is_year(parts[0]) and parts[1].isdigit() and _day(parts[2]):
            if 1 <= int(parts[1]) <= 12:
                month = Word(_MONTHS[int(parts[1]) - 1], near[1].start, near[1].end)
                result += [near[2]._replace(text=_day(parts[2])), month, near[0]]
                taken = 3
        elif loose[:1] == [True]:
            day, month = (1, 0) if parts[0] in _MONTH else (0, 1)
            if parts[month] in _MONTH and _day(parts[day]):
                result += [near[day]._replace(text=_day(parts[day])), near[month]._replace(text=_MONTH[parts[month]])]
                taken = 2 + of
            elif parts[0] in _MONTH and _is_year(parts[1]):
                result.append(w._replace(text=_MONTH[parts[0]]))
                taken = 1
        if not taken:
            result.append(w)
        k += max(taken, 1)
    return result


def _is_year(text: str) -> bool:
    return text.isdigit() and len(text) in (3, 4)


def _day(text: str) -> str:
    digits = text.removesuffix("th")
    return f"{int(digits)}th" if digits.isdigit() and len(digits) <= 2 and 1 <= int(digits) <= 31 else ""
