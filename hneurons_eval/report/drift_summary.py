"""What parameter drift shows, as markdown for a log and as files in a directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hneurons_eval.analysis.dose_response import LEVEL
from hneurons_eval.analysis.drift_ranks import Ranking, by_layer, short_names
from hneurons_eval.report import figures as draw
from hneurons_eval.report.drift_section import tests_cells, vectors_cells
from hneurons_eval.report.wording import KINDS, interval
from hneurons_eval.util.files import write_atomically, write_text_atomically
from hneurons_eval.util.markdown import picture, table

MAX_NEURONS = 30
"""Neurons in a table."""
CONVENTION = "Normalised rank: 0 changed most, 1 changed least, 0.5 is chance."


def in_words(figures: Mapping[str, float]) -> str:
    """The main finding in one sentence, with its interval and p against the hardest kind of random sets."""
    p = figures["p"]
    kinds = ", ".join(kind for kind in KINDS if f"{kind}_p" in figures)
    if p <= LEVEL:
        way = "more" if figures["p_changed"] < figures["p_unchanged"] else "less"
        said = f"changed {way} than random neurons of every kind ({kinds})"
    else:
        said = f"are not shown to have changed otherwise than random neurons of every kind ({kinds})"
    mean = interval(figures, "mean_rank")
    return f"mean normalised rank {mean}: they {said}; two-sided p = {p:.3g} against the hardest kind"


def headline(ranking: Ranking) -> str:
    """Markdown: the finding, the figures beside random sets, and where the neurons stand in each layer."""
    figures = ranking.figures()
    drift = ranking.drift
    lines = [
        f"**{in_words(figures).capitalize()}.** {len(ranking.flat)} of {drift.layout.total:,} neurons, "
        f"{drift.base} to {drift.checkpoint}. {CONVENTION}",
        f"{100 * figures['changed']:.1f} % of them point elsewhere than before, "
        f"{100 * figures['changed_all']:.1f} % of all neurons do.",
        table(*tests_cells(figures)),
        picture(draw.drift_ranks(ranking), "rank by layer, and mean rank among random sets"),
        table(*vectors_cells(figures)),
        picture(draw.drift_distances(ranking), "median 1 - cos by layer"),
        _neurons_table(ranking, ranking.flat),
    ]
    return "\n\n".join(lines)


def _neurons_table(ranking: Ranking, flat: np.ndarray) -> str:
    """Neurons with their ranks and distances, those that changed most first."""
    drift = ranking.drift
    first = flat[np.argsort(drift.rank[flat], kind="stable")][:MAX_NEURONS]
    rows = []
    for layer, index, one in zip(*drift.layout.unflatten(first), first, strict=True):
        distances = [f"{distances[one]:.3g}" for distances in drift.distances.values()]
        rows.append([str(layer), str(index), f"{drift.rank[one]:.4f}", *distances])
    shown = table(["layer", "neuron", "rank", *(f"1 - cos, {kind}" for kind in drift.distances)], rows)
    return shown + (f"\n\n{len(flat) - MAX_NEURONS} more are not listed." if len(flat) > MAX_NEURONS else "")


def layer_summary(rankings: Sequence[Ranking], layer: int) -> str:
    """Markdown: one layer at each checkpoint, and its chosen neurons at the last one."""
    names = short_names([one.drift.checkpoint for one in rankings])
    rows = []
    for name, ranking in zip(names, rankings, strict=True):
        here = by_layer(ranking)[layer]
        values = [here.mean_rank, here.mean_rank_others, *(one for pair in here.medians.values() for one in pair)]
        rows.append([name, *(f"{value:.3g}" if np.isfinite(value) else "—" for value in values)])
    kinds = [f"1 - cos, {kind}{whose}" for kind in rankings[0].drift.distances for whose in ("", " (others)")]
    shown = table(["checkpoint", "mean rank", "mean rank (others)", *kinds], rows)
    own = by_layer(rankings[-1])[layer].neurons
    neurons = _neurons_table(rankings[-1], own) if len(own) else "None of the neurons is in this layer."
    return f"{CONVENTION} Distances are medians.\n\n{shown}\n\n{neurons}"


def write_drift(rankings: Sequence[Ranking], directory: Path) -> list[Path]:
    """Write the figures (JSON), every neuron's distances and ranks (safetensors) and the pictures; their paths.

    `drift.safetensors` holds `up`, `down`, `gate` (where there is one), `score` and `rank`: float64
    `[checkpoints, neurons]`; and `chosen`, the flat indices of the neurons.
    """
    from safetensors.numpy import save_file

    last = rankings[-1]
    record = {
        "base": last.drift.base,
        "widths": list(last.drift.layout.widths),
        "convention": CONVENTION,
        "checkpoints": [{"checkpoint": one.drift.checkpoint, **one.figures()} for one in rankings],
    }
    tensors: dict[str, np.ndarray] = {
        kind: np.stack([one.drift.distances[kind] for one in rankings]) for kind in last.drift.distances
    }
    tensors |= {name: np.stack([getattr(one.drift, name) for one in rankings]) for name in ("score", "rank")}
    tensors["chosen"] = last.flat
    pictures = {"ranks.png": draw.drift_ranks(last), "distances.png": draw.drift_distances(last)}
    if len(rankings) > 1:
        names = short_names([one.drift.checkpoint for one in rankings])
        pictures["timeline.png"] = draw.drift_timeline(names, [one.figures() for one in rankings])
    write_text_atomically(directory / "drift.json", json.dumps(record, indent=1) + "\n")
    write_atomically(directory / "drift.safetensors", lambda path: save_file(tensors, path))
    for name, content in pictures.items():
        write_atomically(directory / name, lambda path, content=content: path.write_bytes(content))
    return [directory / name for name in ("drift.json", "drift.safetensors", *pictures)]


def timeline_summary(rankings: Sequence[Ranking]) -> str:
    """Markdown: mean rank and distances over several checkpoints."""
    figures = [one.figures() for one in rankings]
    names = short_names([one.drift.checkpoint for one in rankings])
    shown = ("p", "up_median", "up_median_all", "down_median", "down_median_all")
    rows = [
        [name, interval(one, "mean_rank"), *(f"{one[key]:.3g}" for key in shown)]
        for name, one in zip(names, figures, strict=True)
    ]
    header = ["checkpoint", "mean rank (95 %)", "p (hardest kind)", "1 - cos, up", "of all", "1 - cos, down", "of all"]
    return table(header, rows) + "\n\n" + picture(draw.drift_timeline(names, figures), "mean rank over checkpoints")
