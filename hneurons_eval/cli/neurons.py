"""`hneurons neurons`: list, compare and share neurons."""

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from hneurons_eval.artifacts.logs import figures_of
from hneurons_eval.artifacts.references import Reference, resolve
from hneurons_eval.cli.compare import compare
from hneurons_eval.cli.console import TextConsole
from hneurons_eval.util.cards import About
from hneurons_eval.util.errors import UsageError, usage_errors
from hneurons_eval.util.hub import copy_files, fetch

INTERVALS = ("auroc", "balanced_accuracy", "auroc_pooled", "added")
COUNTS = ("answers", "hallucinated", "brier_skill", "probe_p")
SHOWN = (*(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high")), *COUNTS)
"""Figures of a probe's log that its card shows."""


@click.group()
def neurons() -> None:
    """List, compare and share neurons."""


@neurons.command(short_help="List the neurons with the largest weights.")
@click.argument("source")
@click.option("--most", type=click.IntRange(1), default=20, help="Number of neurons to list.")
def show(source: str, most: int) -> None:
    """List the neurons of SOURCE: number, layers, and those with the largest absolute weights.

    SOURCE is a neuron file, a probe directory, the log of the probe task, a digest or a Hub id.
    """
    found, console = resolve(source), TextConsole()
    # An empty set is shown too; `signed` refuses it, and says why an L2 probe has none.
    chosen = found.neurons if found.neurons is not None else found.signed("both")
    counted = f"{len(chosen):,} neuron{'' if len(chosen) == 1 else 's'}"
    if chosen.weights is not None:
        positive = len(chosen.positive)
        counted += f": {positive:,} with a positive weight (the H-neurons), {len(chosen) - positive:,} with a negative"
    console.say(f"{counted}; of {chosen.model or 'a model that the file does not name'}")
    if chosen.widths:
        console.say(f"{len(chosen) / sum(chosen.widths):.4%} of {sum(chosen.widths):,} neurons")
    layers, counts = np.unique(chosen.layers, return_counts=True)
    console.say("by layer: " + ", ".join(f"{layer}: {count}" for layer, count in zip(layers, counts, strict=True)))
    stability = chosen.stability
    table = Table("layer", "index", "weight", *(() if stability is None else ("selected on half-samples",)), box=None)
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


@neurons.command(short_help="Upload neurons or a probe to the Hub.")
@click.argument("source")
@click.argument("repository")
@click.option("--data", help="Question sets, for the card; default those of the log.")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", help="Branch to commit to; default main.")
def push(source: str, repository: str, data: str | None, private: bool, revision: str | None) -> None:
    """Upload SOURCE to the REPOSITORY owner/name of the Hub, with a card.

    SOURCE is a neuron file, a probe directory, a digest, or the log of the probe task, whose figures the card then
    shows. A probe goes with its baselines, activity and selections on shuffled labels.
    """
    found = resolve(source)
    about = _about(found) if data is None else replace(_about(found), data=data)
    thing = found.signed("both") if found.probe is None else found.probe
    beside = None if found.probe is None else found.directory
    with usage_errors():
        click.echo(thing.push(repository, about, beside, private=private, revision=revision))


@neurons.command(short_help="Download neurons or a probe from the Hub.")
@click.argument("repository")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit; default main.")
def pull(repository: str, out: Path, revision: str | None) -> None:
    """Download the probe or the neurons in a REPOSITORY of the Hub to OUT, for `-M neurons=OUT`."""
    if out.exists():
        raise UsageError(f"{out} exists; give another name")
    with usage_errors():
        fetched = fetch(repository, revision)
        found = resolve(fetched)
        if found.probe is None:
            found.signed("both").save(out)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staged:
                copy_files(fetched, Path(staged) / out.name)
                (Path(staged) / out.name).rename(out)
    kind, of = ("neurons", found.neurons) if found.probe is None else ("probe", found.probe)
    click.echo(f"{kind} of {(of and of.model) or 'a model that it does not name'}: {out}")


def _about(found: Reference) -> About:
    """Facts for the card that the files lack: data and figures of the log, and the fingerprint of a model at hand."""
    from hneurons_eval.models.checkpoints import CheckpointError, fingerprint

    log, thing = found.log, found.probe or found.neurons
    revision = None if log is None else log.eval.model_args.get("revision")
    known: dict[str, Any] = {"revision": revision}
    if thing is not None and thing.model:
        # Left out where the model cannot be found.
        with suppress(CheckpointError):
            known["fingerprint"] = fingerprint(thing.model, revision)
    if log is not None:
        figures = figures_of(log)
        known |= {"data": log.eval.dataset.name, "metrics": {name: figures[name] for name in SHOWN if name in figures}}
    return About(**known)
