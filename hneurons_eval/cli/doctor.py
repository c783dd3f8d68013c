"""`hneurons doctor`: whether a model is supported, and what it takes."""

from typing import TYPE_CHECKING, Any

import click
import psutil
from rich.console import Console
from rich.table import Table

from hneurons_eval.cli.console import size, wide_console

if TYPE_CHECKING:
    from hneurons_eval.cli.diagnosis import Diagnosis


@click.command()
@click.argument("model")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--responses", default=1000, show_default=True, help="Faithful and hallucinated responses, each.")
@click.option("--tokens", default=512, show_default=True, help="Tokens of a prompt with its response.")
@click.option("--revision", help="Of a Hub id.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that the checkpoint brings.")
def doctor(model: str, **options: Any) -> None:
    """Whether MODEL is supported, its layers and neurons, and the memory that finding them takes.

    Only the configuration is read. MODEL is a Hub id, a local directory, or smollm2-135m-instruct.
    """
    from hneurons_eval.cli.diagnosis import diagnose

    try:
        diagnosis = diagnose(model.removeprefix("hneurons/"), **options)
    except ValueError as error:  # CheckpointError and UnsupportedModelError are such
        raise click.ClickException(str(error)) from error
    _print_diagnosis(diagnosis, wide_console())


def _print_diagnosis(diagnosis: "Diagnosis", console: Console) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("model", f"{diagnosis.model}, {diagnosis.model_class}: supported")
    for kind in diagnosis.kinds:
        layers = f"{kind.layers} layer{'' if kind.layers == 1 else 's'}"
        if kind.experts:
            shared = f" + {kind.shared:,} in shared experts" if kind.shared else ""
            table.add_row("", f"{layers} of {kind.experts} experts x {kind.each:,} neurons{shared} = {kind.width:,}")
        else:
            table.add_row("", f"{layers} of {kind.width:,} neurons, dense")
    table.add_row("neurons", f"{diagnosis.neurons:,} in {diagnosis.layers} layers")
    table.add_row("parameters", f"{diagnosis.parameters:,}, saved in {diagnosis.saved_dtype}")
    table.add_row("weights", ", ".join(f"{size(number)} in {dtype}" for dtype, number in diagnosis.weights.items()))
    rows, tokens = diagnosis.pass_shape
    passed = f"about {size(diagnosis.capture)} beside the weights for a pass over {rows} x {tokens} tokens"
    table.add_row("capture", f"{passed} in {diagnosis.dtype}")
    table.add_row(
        "features",
        f"{size(diagnosis.features)} on disk for {diagnosis.responses:,} + {diagnosis.responses:,} responses",
    )
    table.add_row("probe", ", ".join(f"about {size(number)} for {mode}" for mode, number in diagnosis.probe.items()))
    memory = psutil.virtual_memory()
    table.add_row("this machine", f"{size(memory.total)} of memory, {size(memory.available)} of it free")
    console.print(table, highlight=False)
    for limit in diagnosis.limits:
        console.print(f"- {limit}", highlight=False)
