"""The `hneurons` command."""

import click

from hneurons_eval import __version__
from hneurons_eval.commands.compare import compare
from hneurons_eval.commands.doctor import doctor
from hneurons_eval.commands.drift import drift
from hneurons_eval.commands.export import export
from hneurons_eval.commands.judge_agreement import judge_agreement
from hneurons_eval.commands.lm_eval import lm_eval
from hneurons_eval.commands.neurons import neurons
from hneurons_eval.commands.report import report
from hneurons_eval.commands.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hneurons")
def main() -> None:
    """Find, prove and switch off hallucination neurons in language models."""


for command in (run, report, doctor, judge_agreement, neurons, compare, drift, export, lm_eval):
    main.add_command(command)
