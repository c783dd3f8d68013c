"""What parameter drift shows, as markdown for a log and as files in a directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hneurons_eval.analysis.drift_ranks import Ranking, by_layer, short_names
from hneurons_eval.report import drift_figures
from hneurons_eval.report.drift_section import KINDS, LEVEL
from hneurons_eval.util.files import write_atomically, write_text_atomically
from hneurons_eval.util.markdown import picture, table

MOST = 30
"""Neurons in a table."""
CONVENTION = "Normalised rank: 0 changed most, 1 changed least, 0.5 is chance."


def in_words(figures: Mapping[str, float]) -> str:
    """The main finding in one sentence, with its interval and p against the hardest kind of random sets."""
    mean, p = figures["mean_rank"], figures["p"]
    kinds = ", ".join(name.split("-matched")[0].split()[0] for kind, name in KINDS.items() if f"{kind}_p" in figures)
    if p <= LEVEL:
        way = "more" if figures["p_changed"] < figures["p_unchanged"] else "less"
        said = f"changed {way} than random neurons of every kind ({kinds})"
    else:
        said = f"are not shown to have changed otherwise than random neurons of every kind ({kinds})"
    interval = f"[{figures['mean_rank_low']:.3f}, {figures['mean_rank_high']:.3f}]"
    return f"mean normalised rank {mean:.3f} {interval}: they {said}; two-sided p = {p:.3g} against the hardest kind"


def headline(ranking: Ranking) -> str:
    """Markdown: the finding, the figures beside random sets, and where the neurons stand in each layer."""
    figures = ranking.figures()
    drift = ranking.drift
    lines = [
        f"**{in_words(figures).capitalize()}.** {len(ranking.flat)} of {drift.layout.total:,} neurons, "
        f"{drift.base} to {drift.checkpoint}. {CONVENTION}",
        f"{100 * figures['changed']:.1f} % of them point elsewhere than before, "
        f"{100 * figures['changed_all']:.1f} % of all neurons do.",
        tests_table(figures),
        picture(drift_figures.ranks_by_layer(ranking), "rank by layer, and mean rank among random sets"),
        kinds_table(figures),
        picture(drift_figures.distances_by_layer(ranking), "median 1 - cos by layer"),
        neurons_table(ranking, ranking.flat),
    ]
    return "\n\n".join(lines)


def tests_table(figures: Mapping[str, float]) -> str:
    """The mean rank beside that of each kind of random sets; one p for each."""
    rows = [
        [
            f"{int(figures[f'{kind}_sets']):,} {name}",
            f"{figures[f'{kind}_mean']:.3f} [{figures[f'{kind}_low']:.3f}, {figures[f'{kind}_high']:.3f}]",
            *(f"{figures[f'{kind}_p{way}']:.3g}" for way in ("_changed", "_unchanged", "")),
        ]
        for kind, name in KINDS.items()
        if f"{kind}_sets" in figures
    ]
    own = f"{figures['mean_rank']:.3f} [{figures['mean_rank_low']:.3f}, {figures['mean_rank_high']:.3f}]"
    header = ["", "mean rank (95 %)", "p: changed more", "p: changed less", "p: two-sided"]
    return table(header, [["these neurons", own, "", "", ""], *rows])


def kinds_table(figures: Mapping[str, float]) -> str:
    """Each kind of vector alone."""
    rows = [
        [kind, *(f"{figures[f'{kind}_{name}']:.3g}" for name in ("mean_rank", "median", "median_all"))]
        for kind in ("up", "down", "gate")
        if f"{kind}_mean_rank" in figures
    ]
    return table(["vectors", "mean rank", "median 1 - cos", "of all neurons"], rows)


def neurons_table(ranking: Ranking, flat: np.ndarray) -> str:
    """Neurons with their ranks and distances, those that changed most first."""
    drift = ranking.drift
    layers, indices = drift.layout.unflatten(flat)
    order = np.argsort(drift.rank[flat], kind="stable")
    rows = [
        [
            str(layers[k]),
            str(indices[k]),
            f"{drift.rank[flat[k]]:.4f}",
            *(f"{distances[flat[k]]:.3g}" for distances in drift.distances.values()),
        ]
        for k in order[:MOST].tolist()
    ]
    shown = table(["layer", "neuron", "rank", *(f"1 - cos, {kind}" for kind in drift.distances)], rows)
    return shown + (f"\n\n{len(flat) - MOST} more are not listed." if len(flat) > MOST else "")


def layer_account(rankings: Sequence[Ranking], layer: int) -> str:
    """Markdown: one layer at each checkpoint, and its chosen neurons at the last one."""
    names = short_names([one.drift.checkpoint for one in rankings])
    rows = []
    for name, ranking in zip(names, rankings, strict=True):
        here = by_layer(ranking)[layer]
        medians = [number(value) for pair in here.medians.values() for value in pair]
        rows.append([name, number(here.mean_rank), number(here.mean_rank_others), *medians])
    kinds = [f"1 - cos, {kind}{whose}" for kind in rankings[0].drift.distances for whose in ("", " (others)")]
    last = by_layer(rankings[-1])[layer]
    parts = [table(["checkpoint", "mean rank", "mean rank (others)", *kinds], rows)]
    if len(last.neurons):
        parts.append(neurons_table(rankings[-1], last.neurons))
    else:
        parts.append("None of the neurons is in this layer.")
    return "\n\n".join([f"{CONVENTION} Distances are medians.", *parts])


def number(value: float) -> str:
    """A number, or a dash for none."""
    return f"{value:.3g}" if np.isfinite(value) else "—"


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
    pictures = {
        "ranks.png": drift_figures.ranks_by_layer(last),
        "distances.png": drift_figures.distances_by_layer(last),
    }
    if len(rankings) > 1:
        names = short_names([one.drift.checkpoint for one in rankings])
        pictures["timeline.png"] = drift_figures.timeline(names, [one.figures() for one in rankings])
    write_text_atomically(directory / "drift.json", json.dumps(record, indent=1) + "\n")
    write_atomically(directory / "drift.safetensors", lambda path: save_file(tensors, path))
    for name, content in pictures.items():
        write_atomically(directory / name, lambda path, content=content: path.write_bytes(content))
    return [directory / name for name in ("drift.json", "drift.safetensors", *pictures)]


def timeline_account(rankings: Sequence[Ranking]) -> str:
    """Markdown: mean rank and distances over several checkpoints."""
    figures = [one.figures() for one in rankings]
    names = short_names([one.drift.checkpoint for one in rankings])
    rows = [
        [
            name,
            f"{one['mean_rank']:.3f} [{one['mean_rank_low']:.3f}, {one['mean_rank_high']:.3f}]",
            f"{one['p']:.3g}",
            *(f"{one[f'{kind}_{which}']:.3g}" for kind in ("up", "down") for which in ("median", "median_all")),
        ]
        for name, one in zip(names, figures, strict=True)
    ]
    header = ["checkpoint", "mean rank (95 %)", "p (hardest kind)", "1 - cos, up", "of all", "1 - cos, down", "of all"]
    return table(header, rows) + "\n\n" + picture(drift_figures.timeline(names, figures), "mean rank over checkpoints")
