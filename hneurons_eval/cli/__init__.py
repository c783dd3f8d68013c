"""The `hneurons` command: one module a subcommand, loaded on first use."""

from importlib import import_module

import click

from hneurons_eval import __version__

COMMANDS = {
    "doctor": ("doctor", "Check a model: supported? memory, disk, time."),
    "run": ("run", "Find the neurons and test them: the whole pipeline."),
    "report": ("report", "Summarise logs, as text, HTML or JSON."),
    "neurons": ("neurons", "List, compare and share neurons."),
    "compare": ("compare", "Compare two neuron sets or probes."),
    "export": ("export", "Write a checkpoint or LoRA with neurons scaled."),
    "drift": ("drift", "Rank neurons by how far training moved them."),
    "judge-agreement": ("judge_agreement", "Compare the rule judge with other verdicts."),
    "lm-eval": ("lm_eval", "Run lm-evaluation-harness on a scaled model."),
}
"""Module and summary of each subcommand, in the order of use; the command has the name of its module."""


class _Commands(click.Group):
    """A group that imports a command on first use: `hneurons --help` loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module, _ = COMMANDS.get(cmd_name, (None, ""))
        return None if module is None else getattr(import_module(f"{__name__}.{module}"), module)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands, in the order of use"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hneurons")
def main() -> None:
    """Find the neurons of a language model that tell hallucinated answers from faithful ones, test them, and scale
    them.

    \b
    Example:
      hneurons run smollm2-135m-instruct --preset quick
      hneurons report logs --html report.html
      hneurons export smollm2-135m-instruct without-them --neurons logs --alpha 0

    Every step is also an Inspect task: inspect eval hneurons_eval/collect --model hneurons/MODEL. Docs: docs/index.md
    in the repository.
    """
