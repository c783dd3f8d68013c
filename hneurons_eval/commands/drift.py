"""`hneurons drift`: how far training moved some neurons, among all."""

from pathlib import Path

import click
from rich.table import Table

from hneurons_eval.commands.console import wide_console


@click.command()
@click.argument("base")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHAT...")
@click.option("--neurons", required=True, help="A neuron file, a probe directory, or the digest of a kept set.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Directory for figures and numbers.")
@click.option("--sets", type=click.IntRange(1), default=2000, show_default=True, help="Random sets of each kind.")
@click.option("--seed", default=0, show_default=True)
def drift(base: str, checkpoints: tuple[str, ...], neurons: str, out: Path | None, sets: int, seed: int) -> None:
    """How far training from BASE to CHAT moved some neurons' weights, ranked among all neurons.

    BASE and CHAT are Hub ids (org/model@revision), local directories, or smollm2-135m-instruct. Several CHATs, the
    steps of one run in order, make a timeline. Neither model is loaded: their safetensors files are read matrix by
    matrix. Rank 0 changed most, 1 least, 0.5 is chance.
    """
    from hneurons_eval.artifacts import find_neurons
    from hneurons_eval.drift import follow
    from hneurons_eval.refusals import refusing
    from hneurons_eval.report.drift_account import in_words, write_drift

    console = wide_console()
    names = [name.removeprefix("hneurons/") for name in (base, *checkpoints)]
    with refusing():
        chosen = find_neurons(neurons)
        with console.status("reading") as status:
            rankings = follow(names[0], names[1:], chosen, sets, seed, status.update)
    grid = Table(box=None, pad_edge=False)
    for column in (
        "checkpoint", "mean rank", "p changed more", "p less", "as deep: p more", "p less", "up", "down", "gate"
    ):  # fmt: skip
        grid.add_column(column, no_wrap=True)
    for one in rankings:
        figures = one.figures()
        tests = [f"{kind}_p_{way}" for kind in ("uniform", "layer") for way in ("changed", "unchanged")]
        ranks = [f"{kind}_mean_rank" for kind in ("up", "down", "gate")]
        grid.add_row(
            Path(one.drift.checkpoint).name,
            f"{figures['mean_rank']:.3f} [{figures['mean_rank_low']:.3f}, {figures['mean_rank_high']:.3f}]",
            *(f"{figures[name]:.4f}" if name in figures else "—" for name in tests),
            *(f"{figures[name]:.3f}" if name in figures else "—" for name in ranks),
        )
    console.print(f"{len(chosen)} neurons of {rankings[0].drift.layout}; base {base}", highlight=False, soft_wrap=True)
    console.print(grid, highlight=False)
    console.print(
        "rank 0 changed most, 1 least, 0.5 is chance; p against random sets of the whole model, and as deep in it; "
        "up, down, gate: mean rank by these vectors alone",
        style="dim",
    )
    console.print(f"{in_words(rankings[-1].figures()).capitalize()}.", highlight=False, soft_wrap=True)
    if out is not None:
        with refusing():
            written = write_drift(rankings, out)
        console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)
