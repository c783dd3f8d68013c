"""Text of models inside markdown, so that nothing in it is taken for markup."""

import base64
import re
from collections.abc import Sequence


def quoted(text: str) -> str:
    """A text as a fenced block; the fence is longer than any run of backticks in it, control characters are shown."""
    plain = "".join(c if c in "\n\t" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
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
    """A markdown table; numbers are right-aligned but for the first column."""
    align = [":---", *("---:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, align, *rows))
