"""What the commands print on, and how they write sizes and times."""

import math
from typing import Any

from rich.console import Console
from rich.text import Text

from hneurons_eval.util.markdown import visible

SUMMARY_WIDTH = 118


class TextConsole(Console):
    """A console on which texts of models and files stay texts: their control characters are shown and not sent."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


def wide_console() -> Console:
    """Wide enough for the tables, which are worth more than the edge of a narrow window."""
    console = Console()
    return TextConsole(width=max(console.width, SUMMARY_WIDTH))


def size(number: float) -> str:
    """Bytes in the unit that suits them: `1.5 GiB`."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    power = min(int(math.log(max(number, 1), 1024)), len(units) - 1)
    return f"{number / 1024**power:.3g} {units[power]}" if power else f"{number:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
