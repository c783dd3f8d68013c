"""`hneurons lm-eval`: tasks of lm-evaluation-harness on a scaled model."""

from importlib.util import find_spec

import click

from hneurons_eval.util.errors import UsageError, usage_errors


@click.command("lm-eval", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def lm_eval(arguments: tuple[str, ...]) -> None:
    """Run tasks of lm-evaluation-harness on a model with scaled neurons.

    \b
    Example:
      hneurons lm-eval --model-args pretrained=MODEL,neurons=neurons.json,alpha=0 --tasks hellaswag

    ARGUMENTS are those of lm_eval, except for --model. Model args are those of its model hf, and neurons (a neuron
    file, probe directory, log of the probe task, digest or Hub id) and alpha.
    """
    if find_spec("lm_eval") is None:
        raise UsageError("lm-evaluation-harness is not installed; run: pip install 'hneurons-eval[lm-eval]'")
    from hneurons_eval.engine.lm_eval import run

    with usage_errors():
        run(arguments)
