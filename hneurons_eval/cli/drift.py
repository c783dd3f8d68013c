"""`hneurons drift`: rank of neurons by how far training moved them."""

from pathlib import Path

import click
from rich.table import Table

from hneurons_eval.cli.console import NEURONS, SIGN, wide_console


@click.command()
@click.argument("base")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHAT...")
@click.option("--neurons", **NEURONS)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Directory to write figures and JSON to.")
@click.option("--sets", type=click.IntRange(1), default=2000, help="Random neuron sets of each kind.")
@click.option("--seed", default=0, help="Seed of the random sets.")
@click.option("--sign", **SIGN)
def drift(
    base: str, checkpoints: tuple[str, ...], neurons: str, out: Path | None, sets: int, seed: int, sign: str
) -> None:
    """Rank neurons by how far training from BASE to CHAT moved their weights, among all neurons.

    BASE and CHAT are Hub ids (org/model@revision), local directories, or smollm2-135m-instruct. Several CHATs, the
    steps of one run in order, make a timeline. The safetensors files are read matrix by matrix; no model is loaded.
    Rank 0 changed most, 1 least, 0.5 is chance. Contribution- and sd-matched random sets need the probe's directory
    or log.

    \b
    Example:
      hneurons drift org/model-base org/model-chat --neurons logs --out drift
    """
    from hneurons_eval.analysis.drift_ranks import follow
    from hneurons_eval.artifacts.references import resolve
    from hneurons_eval.models.controls import load_activity
    from hneurons_eval.report.drift_summary import in_words, write_drift
    from hneurons_eval.report.wording import KINDS
    from hneurons_eval.util.errors import usage_errors

    console = wide_console()
    names = [name.removeprefix("hneurons/") for name in (base, *checkpoints)]
    with usage_errors():
        found = resolve(neurons)
        chosen = found.chosen(sign)
        activity = None if found.directory is None else load_activity(found.directory)
        with console.status("reading") as status:
            rankings = follow(names[0], names[1:], chosen, sets, seed, status.update, activity)
    grid = Table(box=None, pad_edge=False)
    kinds = [kind for kind in KINDS if kind in rankings[0].tests]
    columns = ("checkpoint", "mean rank", "p changed more", "p less", *(f"p {kind}" for kind in kinds))
    for column in (*columns, "up", "down", "gate"):
        grid.add_column(column, no_wrap=True)
    for one in rankings:
        figures = one.figures()
        tests = ["p_changed", "p_unchanged", *(f"{kind}_p" for kind in kinds)]
        ranks = [f"{kind}_mean_rank" for kind in ("up", "down", "gate")]
        grid.add_row(
            Path(one.drift.checkpoint).name,
            f"{figures['mean_rank']:.3f} [{figures['mean_rank_low']:.3f}, {figures['mean_rank_high']:.3f}]",
            *(f"{figures[name]:.4f}" if name in figures else "—" for name in tests),
            *(f"{figures[name]:.3f}" if name in figures else "—" for name in ranks),
        )
    signed = "all" if chosen.weights is None else sign
    console.say(f"{len(chosen)} neurons ({signed}) of {rankings[0].drift.layout}; base {base}")
    console.print(grid, highlight=False)
    console.print(
        "rank 0 changed most, 1 least, 0.5 is chance; p changed more, p less: one-sided, against the hardest kind of "
        "random sets; p of a kind: two-sided; up, down, gate: mean rank by these vectors alone",
        style="dim",
    )
    console.say(f"{in_words(rankings[-1].figures()).capitalize()}.")
    if out is not None:
        with usage_errors():
            written = write_drift(rankings, out)
        console.say(f"written: {', '.join(map(str, written))}")
