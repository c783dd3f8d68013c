"""Consoles, units and options that several commands share."""

import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from hneurons_eval.util.markdown import visible

if TYPE_CHECKING:
    from hneurons_eval.analysis.bootstrap import Interval

SUMMARY_WIDTH = 118
DTYPE: dict[str, Any] = {
    "default": "auto",
    "help": "Precision of the weights: float32, bfloat16, float16, or auto for that of the checkpoint.",
}
REVISION: dict[str, Any] = {"help": "Branch, tag or commit of a Hub id; default main."}
TRUST: dict[str, Any] = {"is_flag": True, "help": "Run code that the checkpoint brings."}
SIGN: dict[str, Any] = {
    "default": "positive",
    "help": "Neurons by their weight in the probe: positive (the H-neurons), negative or both.",
}
NEURONS: dict[str, Any] = {
    "required": True,
    "help": "Neuron file, probe directory, log of the probe task, digest or Hub id.",
}


class TextConsole(Console):
    """A console that shows control characters in texts of models and files instead of sending them."""

    def say(self, text: str) -> None:
        """Print a text on one line, however long, in which nothing acts as markup."""
        self.print(text, markup=False, highlight=False, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


def wide_console() -> TextConsole:
    """A console at least as wide as the tables."""
    return TextConsole(width=max(Console().width, SUMMARY_WIDTH))


def interval(found: "Interval | None") -> str:
    """An interval as text, a dash without one."""
    return "—" if found is None else found.text()


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
