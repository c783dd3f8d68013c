"""The tokens of an answer, each coloured by what the probe makes of it alone, as a PNG image."""

import io
import threading
import unicodedata
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import expit

COLUMNS = 84
"""Characters in a line."""
MAX_TOKENS = 256
"""Tokens that are drawn; of a longer answer those around the span."""
_SIZE = 9.0  # points
_ADVANCE, _LINE = 0.602 * _SIZE / 72, 1.9 * _SIZE / 72  # inches, of DejaVu Sans Mono
_DRAWING = threading.Lock()  # fonts are shared by all figures of a process


class Cell(NamedTuple):
    """One token in the picture: its text as drawn, where, how wide, its log-odds, whether it is in the span."""

    text: str
    line: int
    column: int
    width: int
    logit: float
    inside: bool


def token_heat_map(text: str, tokens: Sequence[tuple[int, int, float]], span: Sequence[int] | None) -> bytes:
    """Lines of tokens from blue (faithful) over white to red (hallucinated), the answer's span underlined.

    The colour of a token is the probability that its log-odds stand for.

    Args:
        text: the response.
        tokens: of each token its characters `[start, end)` in the text and its log-odds.
        span: characters of the answer, or None.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    cells = layout_cells(text, tokens, span)
    lines = 1 + max(cell.line for cell in cells)
    columns = max(cell.column + cell.width for cell in cells)
    with _DRAWING:
        figure = Figure(figsize=(max(columns, 24) * _ADVANCE + 0.1, lines * _LINE + 0.1), facecolor="white", dpi=110)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(-0.5, max(columns, 24) + 0.5)
        axes.set_ylim(lines + 0.1, -0.1)
        colours = colormaps["coolwarm"]
        for cell in cells:
            corner, colour = (cell.column, cell.line + 0.08), colours(float(expit(cell.logit)))
            axes.add_patch(Rectangle(corner, cell.width, 0.8, facecolor=colour, alpha=0.75, linewidth=0))
            if cell.inside:
                axes.plot([cell.column, cell.column + cell.width], [cell.line + 0.92] * 2, color="black", linewidth=1.2)
            axes.text(
                cell.column, cell.line + 0.48, cell.text, family="DejaVu Sans Mono", size=_SIZE, va="center",
                parse_math=False,
            )  # fmt: skip
        out = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # what the font lacks is drawn as a box
            FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def layout_cells(text: str, tokens: Sequence[tuple[int, int, float]], span: Sequence[int] | None) -> list[Cell]:
    """Where each token goes; a line ends after a line break and before a token that would not fit."""
    start, end = (0, 0) if span is None else span
    first = 0
    if len(tokens) > MAX_TOKENS:
        centre = next((place for place, token in enumerate(tokens) if token[1] > start), 0)
        first = min(max(0, centre - MAX_TOKENS // 2), len(tokens) - MAX_TOKENS)
    cells: list[Cell] = []
    line = column = done = 0
    for place, (begin, stop, logit) in enumerate(tokens[first : first + MAX_TOKENS]):
        # Tokens that share a character (bytes of an emoji): it stands with the first of them.
        begin = max(begin, done)
        done = max(done, stop)
        shown = "".join("↵" if c == "\n" else c if c.isprintable() else "·" for c in text[begin:stop])
        shown = f"…{shown}" if first and place == 0 else shown
        inside = begin < end and stop > start
        for piece in (shown[at : at + COLUMNS] for at in range(0, len(shown), COLUMNS)):
            width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in piece)
            if column and column + width > COLUMNS:
                line, column = line + 1, 0
            cells.append(Cell(piece, line, column, width, logit, inside))
            column += width
        if "\n" in text[begin:stop]:
            line, column = line + 1, 0
    return cells or [Cell("∅", 0, 0, 1, 0.0, False)]
