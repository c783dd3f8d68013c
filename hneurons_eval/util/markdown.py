"""Text of models and of strangers' files in markdown and on terminals, so that nothing in it is taken for markup."""

import base64
import re
from collections.abc import Sequence
from unicodedata import category


def visible(text: str) -> str:
    """A text in which control characters, those that turn the writing round among them, are shown and not sent."""
    return "".join(c if c in "\n\t" or c.isprintable() or category(c) == "Zs" else f"\\x{ord(c):02x}" for c in text)


def quoted(text: str) -> str:
    """A text as a fenced block; the fence is longer than any run of backticks in it, control characters are shown."""
    plain = visible(text)
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{plain}\n{fence}"


def marked(text: str, span: Sequence[int] | None) -> str:
    """A text with characters `[start, end)` between ⟦ and ⟧."""
    if span is None:
        return text
    start, end = span
    return f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"


def picture(png: bytes, alt: str) -> str:
    """A PNG image as markdown that needs no other file."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; numbers are right-aligned but for the first column. Cells are text on one line."""
    align = [":---", *("---:" for _ in header[1:])]
    cells = [[_cell(text) for text in row] for row in (header, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], align, *cells[1:]))


_MARKUP = re.compile(r"(?<!\\)(?:\||<(?=[A-Za-z/!?])|\]\()")


def _cell(text: str) -> str:
    """A text that ends neither its cell nor its row, and is no element and no link; what is escaped stays so."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", visible(" ".join(text.split())))
