"""`hneurons neurons`: look at neuron files."""

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from hneurons_eval.neurons import NeuronSet, NeuronSetError


@click.group()
def neurons() -> None:
    """Look at neuron files."""


@neurons.command()
@click.argument("file", type=click.Path(exists=True))
@click.option("--most", type=click.IntRange(1), default=20, show_default=True, help="Neurons to list.")
def show(file: str, most: int) -> None:
    """The neurons in FILE (a neuron file or probe directory): how many, where, and the heaviest of them."""
    chosen, console = _load(file), Console()
    console.print(f"{len(chosen)} neurons of {chosen.model or 'a model that the file does not name'}", highlight=False)
    if chosen.widths:
        console.print(
            f"{1000 * len(chosen) / sum(chosen.widths):.3f} per mille of {sum(chosen.widths):,}", highlight=False
        )
    layers, counts = np.unique(chosen.layers, return_counts=True)
    console.print("by layer: " + ", ".join(f"{layer}: {count}" for layer, count in zip(layers, counts, strict=True)))
    stability = chosen.stability
    table = Table("layer", "index", "weight", *(() if stability is None else ("selected again",)), box=None)
    weights = chosen.weights if chosen.weights is not None else np.full(len(chosen), np.nan)
    for place in np.argsort(-np.nan_to_num(weights), kind="stable")[:most]:
        table.add_row(
            str(chosen.layers[place]),
            str(chosen.indices[place]),
            f"{weights[place]:.4g}" if chosen.weights is not None else "—",
            *(() if stability is None else (f"{stability[place]:.0%}",)),
        )
    console.print(table)


@neurons.command()
@click.argument("first", type=click.Path(exists=True))
@click.argument("second", type=click.Path(exists=True))
def compare(first: str, second: str) -> None:
    """How much two neuron sets of one model overlap, against chance."""
    from scipy.stats import hypergeom

    a, b = _load(first), _load(second)
    if a.widths is None or a.widths != b.widths:
        raise click.ClickException(f"{first} and {second} are of models with other layers, so they cannot be compared")
    pairs = [set(zip(s.layers.tolist(), s.indices.tolist(), strict=True)) for s in (a, b)]
    shared, total = len(pairs[0] & pairs[1]), sum(a.widths)
    union = len(pairs[0] | pairs[1])
    p = float(hypergeom.sf(shared - 1, total, len(a), len(b)))
    console = Console()
    console.print(
        f"{len(a)} and {len(b)} neurons, {shared} shared (Jaccard {shared / union if union else 0:.3f})",
        highlight=False,
    )
    console.print(f"by chance {len(a) * len(b) / total:.3f} would be; p = {p:.3g} (hypergeometric)", highlight=False)


def _load(file: str) -> NeuronSet:
    try:
        return NeuronSet.load(file)
    except (NeuronSetError, ValueError) as error:
        raise click.ClickException(str(error)) from error
