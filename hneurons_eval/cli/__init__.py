"""The `hneurons` command: one module a subcommand, loaded when it is asked for."""

from importlib import import_module

import click

from hneurons_eval import __version__

COMMANDS = {
    "run": "run",
    "report": "report",
    "neurons": "neurons",
    "compare": "compare",
    "export": "export",
    "drift": "drift",
    "doctor": "doctor",
    "judge-agreement": "judge_agreement",
    "lm-eval": "lm_eval",
}
"""Module of each subcommand, in the order of use; the command in it has the name of the module."""


class _Commands(click.Group):
    """A group of which each command is imported on first use: `hneurons --version` loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        return None if module is None else getattr(import_module(f"{__name__}.{module}"), module)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hneurons")
def main() -> None:
    """Find, prove and switch off hallucination neurons in language models."""
