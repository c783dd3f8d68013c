"""Untrusted text (from models and files) in markdown and on terminals: nothing in it acts as markup."""

import base64
import re
from collections.abc import Sequence
from unicodedata import category


def visible(text: str) -> str:
    """A text with its control characters, such as terminal escapes and bidirectional marks, shown as `\\x1b`."""
    return "".join(c if c in "\n\t" or c.isprintable() or category(c) == "Zs" else f"\\x{ord(c):02x}" for c in text)


def quoted(text: str) -> str:
    """A text as a fenced block, with a fence longer than any run of backticks in it and visible control characters."""
    plain = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{plain}\n{fence}"


def marked(text: str, span: Sequence[int] | None) -> str:
    """A text with brackets ⟦⟧ around characters `[start, end)`."""
    if span is None:
        return text
    start, end = span
    return f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"


def picture(png: bytes, alt: str) -> str:
    """A PNG image as markdown with the data inline."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are right-aligned."""
    align = [":---", *("---:" for _ in header[1:])]
    cells = [[_cell(text) for text in row] for row in (header, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], align, *cells[1:]))


_MARKUP = re.compile(r"(?<!\\)(?:\||<(?=[A-Za-z/!?])|\]\()")


def _cell(text: str) -> str:
    """A text on one line with cell borders, HTML and links escaped, unless they are already."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", visible(" ".join(text.split())))
