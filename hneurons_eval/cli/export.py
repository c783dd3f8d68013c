"""`hneurons export`: the scaled model as a checkpoint, or as an adapter to the model."""

from pathlib import Path

import click

from hneurons_eval.cli.console import NEURONS, REVISION, SIGN, TRUST, TextConsole


@click.command()
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--neurons", **NEURONS)
@click.option("--alpha", required=True, type=float, help="Factor of the neurons: 0 switches them off, 2 doubles them.")
@click.option("--sign", **SIGN)
@click.option("--lora", is_flag=True, help="Write a LoRA adapter to MODEL in place of a checkpoint.")
@click.option("--revision", **REVISION)
@click.option("--trust-remote-code", **TRUST)
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
    """Write MODEL with the neurons scaled to the directory OUT, for vLLM, lm-eval, llama.cpp or transformers.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct. OUT must not exist. The weights are rewritten
    file by file, which takes the memory of one matrix.

    \b
    Example:
      hneurons export org/model model-without-them --neurons logs --alpha 0
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
    console = TextConsole()
    what = f"LoRA adapter of rank {done.rank} on {done.matrices} maps" if lora else f"{done.matrices} matrices changed"
    console.say(f"{len(chosen):,} neurons ({sign}) scaled by {alpha:g}; by layer: {layers}")
    console.say(f"{what}; {done.size:,} bytes of weights in {done.directory}")
