"""`hneurons export`: the scaled model as a checkpoint, or as an adapter to the model."""

from pathlib import Path

import click

from hneurons_eval.cli.console import TextConsole


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--neurons", required=True, help="Neuron file, probe directory, log of the probe task, digest or Hub id.")
@click.option("--alpha", required=True, type=float, help="What to multiply the neurons by: 0 switches them off.")
@click.option(
    "--sign", default="positive", show_default=True, help="Of the weights: positive (the H-neurons), negative or both."
)
@click.option("--lora", is_flag=True, help="Write a LoRA adapter to MODEL and not a checkpoint.")
@click.option("--revision", help="Of a Hub id.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that the checkpoint brings.")
def export(
    model: str,
    out: Path,
    neurons: str,
    alpha: float,
    sign: str,
    lora: bool,
    revision: str | None,
    trust_remote_code: bool,
) -> None:
    """Write MODEL with the neurons scaled to the directory OUT, for vLLM, lm-eval, llama.cpp, transformers.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct. OUT must not exist. The weights are rewritten
    file by file, in the memory of one matrix.
    """
    from hneurons_eval.artifacts.references import neurons_to_scale
    from hneurons_eval.models.weights.export import export_adapter, export_checkpoint
    from hneurons_eval.util.errors import usage_errors

    write = export_adapter if lora else export_checkpoint
    with usage_errors():
        chosen = neurons_to_scale(neurons, sign)
        name = model.removeprefix("hneurons/")
        done = write(name, chosen, alpha, out, revision=revision, trust_remote_code=trust_remote_code)
    layers = ", ".join(f"{layer}: {count}" for layer, count in done.layers.items())
    console = TextConsole(soft_wrap=True, highlight=False)
    what = f"LoRA adapter of rank {done.rank} on {done.matrices} maps" if lora else f"{done.matrices} matrices changed"
    console.print(f"{len(chosen):,} neurons ({sign}) scaled by {alpha:g}; by layer: {layers}")
    console.print(f"{what}; {done.size:,} bytes of weights in {done.directory}")
