"""Refusing bad input in one sentence, before any work is begun."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from hneurons_eval.markdown import visible


class Refused(click.ClickException, ValueError):
    """Input with which no work is begun; the command line prints its one sentence, not a traceback."""

    def format_message(self) -> str:
        return visible(self.message)  # it may repeat what stands in a file of somebody else's


@contextmanager
def refusing() -> Iterator[None]:
    """Turn the library's ValueErrors into one sentence on the command line."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
