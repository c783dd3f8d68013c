"""Write docs/commands.md from the commands themselves: `python docs/make_commands.py`."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from hneurons_eval.cli import main
from hneurons_eval.util.files import write_text_atomically

PAGE = Path(__file__).with_name("commands.md")
HEAD = """# Commands

What `hneurons COMMAND --help` says. Everything that evaluates a model can be run by `inspect eval` as well
([tasks](task_reference.md)); these commands are for what is around it.
"""


def commands(group: click.Group, before: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name, those of groups within groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def page() -> str:
    """The page as markdown."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands(main, "hneurons"))])


def _section(name: str, command: click.Command) -> str:
    # Within its group, whose settings it has: click keeps on the command which option of help it found first.
    context = click.Context(command, info_name=name, parent=click.Context(main, **main.context_settings))
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## {name}", "", f"```sh\n{name} {usage}\n```", "", _paragraphs(command.help or "")]
    rows = [_row(option, context) for option in command.params if isinstance(option, click.Option)]
    if rows:
        parts += ["", "| option | default | meaning |", "| --- | --- | --- |", *rows]
    return "\n".join(parts) + "\n"


def _paragraphs(text: str) -> str:
    """Click's help as markdown: paragraphs on one line, its verbatim blocks as code."""
    found = []
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.lstrip().startswith("\b"):
            title, *lines = [line.strip() for line in part.strip().removeprefix("\b").strip().splitlines()]
            found.append("\n".join([title, "", "```sh", *lines, "```"]))
        else:
            found.append(" ".join(part.split()))
    return "\n\n".join(found)


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    kind = option.make_metavar(context)
    shown = f"{names} {_cell(kind)}" if not option.is_flag else names
    default = option.get_default(context) if option.show_default or isinstance(option.default, str | int) else None
    given = f"`{default}`" if default not in (None, False, "") and not option.is_flag else ""
    return f"| {shown} | {given} | {_cell(option.help or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_text_atomically(PAGE, page())
