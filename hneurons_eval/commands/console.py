"""What the commands print on."""

from rich.console import Console

SUMMARY_WIDTH = 118


def wide_console() -> Console:
    """Wide enough for the tables, which are worth more than the edge of a narrow window."""
    console = Console()
    return Console(width=max(console.width, SUMMARY_WIDTH))
