"""`hneurons neurons`: look at neuron files, compare them, share them."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.table import Table

from hneurons_eval.cli.compare import compare
from hneurons_eval.cli.console import TextConsole
from hneurons_eval.cli.references import Named, named
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.util.errors import UsageError, usage_errors

if TYPE_CHECKING:
    from hneurons_eval.artifacts.hub import About

INTERVALS = ("auroc", "balanced_accuracy", "auroc_pooled", "added")
SHOWN = (
    *(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")),
    "answers",
    "hallucinated",
    "brier_skill",
    "probe_p",
)
"""Figures of a probe's log that its card shows."""


@click.group()
def neurons() -> None:
    """Look at neuron files, compare and share them."""


@neurons.command()
@click.argument("file", type=click.Path(exists=True))
@click.option("--most", type=click.IntRange(1), default=20, show_default=True, help="Neurons to list.")
def show(file: str, most: int) -> None:
    """The neurons in FILE (a neuron file or probe directory): how many, where, and those of the largest weights."""
    chosen, console = _load(file), TextConsole()
    named = chosen.model or "a model that the file does not name"
    console.print(f"{chosen.count_by_sign}, of {named}", highlight=False, markup=False)
    if chosen.widths:
        console.print(
            f"{1000 * len(chosen) / sum(chosen.widths):.3f} per mille of {sum(chosen.widths):,}", highlight=False
        )
    layers, counts = np.unique(chosen.layers, return_counts=True)
    console.print("by layer: " + ", ".join(f"{layer}: {count}" for layer, count in zip(layers, counts, strict=True)))
    stability = chosen.stability
    table = Table("layer", "index", "weight", *(() if stability is None else ("selected again",)), box=None)
    weights = chosen.weights if chosen.weights is not None else np.full(len(chosen), np.nan)
    for place in np.argsort(-np.abs(np.nan_to_num(weights)), kind="stable")[:most]:
        table.add_row(
            str(chosen.layers[place]),
            str(chosen.indices[place]),
            f"{weights[place]:+.4g}" if chosen.weights is not None else "—",
            *(() if stability is None else (f"{stability[place]:.0%}",)),
        )
    console.print(table)


neurons.add_command(compare)


@neurons.command()
@click.argument("source")
@click.argument("repository")
@click.option("--data", help="What they were found in, and tried on; default what the log says.")
@click.option("--private", is_flag=True, help="Make the repository private, if it is made.")
@click.option("--revision", help="Branch to commit to; default main.")
def push(source: str, repository: str, data: str | None, private: bool, revision: str | None) -> None:
    """Upload SOURCE to the REPOSITORY owner/name of the Hub, with a card.

    SOURCE is a neuron file, a probe directory, or the log of the probe task, whose figures the card then shows.
    """
    from hneurons_eval.artifacts.hub import push as upload

    found = named(source)
    thing = found.probe or found.neurons
    assert thing is not None
    with usage_errors():
        about = replace(_about(found), **({} if data is None else {"data": data}))
        click.echo(upload(thing, repository, about=about, private=private, revision=revision))


@neurons.command()
@click.argument("repository")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit; default main.")
def pull(repository: str, out: Path, revision: str | None) -> None:
    """Bring the probe or the neurons in a REPOSITORY of the Hub to OUT, as `-M neurons=OUT` takes them."""
    from hneurons_eval.artifacts.hub import load

    if out.exists():
        raise UsageError(f"{out} exists; give another name")
    with usage_errors():
        found = load(repository, revision)
        found.save(out)
    kind = "neurons" if isinstance(found, NeuronSet) else "probe"
    click.echo(f"{kind} of {found.model or 'a model that it does not name'}: {out}")


def _about(found: Named) -> "About":
    """What the card says beside what the neurons know: of a log its data and figures; the model where it is at hand."""
    from hneurons_eval.artifacts.hub import About
    from hneurons_eval.models.checkpoints import CheckpointError, fingerprint

    log, thing = found.log, found.probe or found.neurons
    revision = None if log is None else log.eval.model_args.get("revision")
    known: dict[str, Any] = {"neurons": found.neurons if found.probe is not None else None, "revision": revision}
    if thing is not None and thing.model:
        # Left out where the model cannot be found.
        with suppress(CheckpointError):
            known["fingerprint"] = fingerprint(thing.model, revision)
    if log is not None:
        known["data"] = log.eval.dataset.name
        figures = {
            name: float(value.value)
            for score in (log.results.scores if log.results else ())
            for name, value in score.metrics.items()
        }
        known["metrics"] = {name: figures[name] for name in SHOWN if name in figures}
    return About(**known)


def _load(file: str) -> NeuronSet:
    try:
        return NeuronSet.load(file)
    except (NeuronSetError, ValueError) as error:
        raise click.ClickException(str(error)) from error
