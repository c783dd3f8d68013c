"""Figures of parameter drift as PNG: where some neurons stand among all, by layer, and over the steps of a run.

Each function takes plain numbers and returns the bytes of a PNG image, as in `report.figures`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hneurons_eval.analysis.drift_ranks import Ranking, by_layer
from hneurons_eval.report.figures import BLUE, GREEN, GREY, ORANGE, canvas, caption, png

COLORS = {"up": BLUE, "down": ORANGE, "gate": GREEN}
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


def ranks_by_layer(ranking: Ranking, label: str = "H-neurons") -> bytes:
    """Every chosen neuron's normalised rank over the others of its layer; and their mean among random sets."""
    figure, (layers, means) = canvas(9.0, 3.6, 1, 2)
    rank, starts = ranking.drift.rank, ranking.drift.layout.starts
    at = np.arange(len(starts) - 1)
    bands = np.array([np.quantile(rank[starts[k] : starts[k + 1]], SHARES) for k in at])  # [layers, shares]
    layers.fill_between(at, bands[:, 0], bands[:, 4], color=GREY, alpha=0.2, linewidth=0, label="all, middle 80 %")
    layers.fill_between(at, bands[:, 1], bands[:, 3], color=GREY, alpha=0.3, linewidth=0, label="all, middle half")
    layers.plot(at, bands[:, 2], color=GREY, linewidth=1.2, label="all, median")
    of = np.searchsorted(starts, ranking.flat, side="right") - 1
    layers.plot(of, rank[ranking.flat], "o", color=BLUE, markersize=3, alpha=0.8, label=label)
    layers.set_ylim(-0.03, 1.03)
    caption(layers, "rank by layer", "layer", "normalised rank\n(0 changed most, 1 least)")
    layers.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)
    for (kind, test), color in zip(ranking.tests.items(), (GREY, ORANGE, GREEN, BLUE), strict=False):
        means.hist(test.means, bins=40, color=color, alpha=0.5, label=f"{kind} sets, p = {test.p:.3g}")
    means.axvline(ranking.mean.estimate, color=BLUE, label=label)
    means.axvspan(ranking.mean.low, ranking.mean.high, color=BLUE, alpha=0.15, linewidth=0)
    caption(means, f"mean rank {ranking.mean.estimate:.3f}", "mean normalised rank", "sets")
    means.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return png(figure)


def distances_by_layer(ranking: Ranking, label: str = "H-neurons") -> bytes:
    """Median 1 - cos in each layer, by kind of vector: of the chosen neurons (points) and of all others (lines)."""
    rows = by_layer(ranking)
    kinds = list(ranking.drift.distances)
    figure, axes = canvas(3.0 * len(kinds), 2.8, 1, len(kinds))
    for one, kind in zip(axes, kinds, strict=True):
        at = [row.layer for row in rows]
        one.plot(at, [row.medians[kind][1] for row in rows], color=GREY, label="others")
        one.plot(at, [row.medians[kind][0] for row in rows], "o", color=COLORS[kind], markersize=4, label=label)
        shown = [value for row in rows for value in row.medians[kind] if np.isfinite(value)]
        if shown and min(shown) > 0:
            one.set_yscale("log")
        caption(one, kind, "layer", "median 1 - cos")
        one.legend(fontsize=7, frameon=False)
    return png(figure)


def timeline(labels: Sequence[str], figures: Sequence[Mapping[str, float]], label: str = "H-neurons") -> bytes:
    """Mean rank and median distances over the checkpoints of one run, in the order given.

    Args:
        labels: name of each checkpoint.
        figures: of each, as `Ranking.figures`.
        label: what the chosen neurons are called.
    """
    figure, (ranks, distances) = canvas(9.0, 3.2, 1, 2)
    at = np.arange(len(labels))
    ranks.fill_between(at, [one["uniform_low"] for one in figures], [one["uniform_high"] for one in figures],
                       color=GREY, alpha=0.3, linewidth=0, label="random sets, 95 %")  # fmt: skip
    middle = np.array([one["mean_rank"] for one in figures])
    ends = np.array([[one["mean_rank"] - one["mean_rank_low"], one["mean_rank_high"] - one["mean_rank"]]
                     for one in figures]).T  # fmt: skip
    ranks.errorbar(at, middle, ends, fmt="o-", color=BLUE, markersize=4, capsize=2, label=label)
    ranks.set_ylim(-0.03, 1.03)
    caption(ranks, "mean rank", "", "0 changed most, 1 least")
    for kind, color in COLORS.items():
        if f"{kind}_median" in figures[0]:
            distances.plot(at, [one[f"{kind}_median_all"] for one in figures], "--", color=color, linewidth=1)
            distances.plot(at, [one[f"{kind}_median"] for one in figures], "o-", color=color, markersize=4, label=kind)
    caption(distances, f"median 1 - cos; dashed: all neurons, solid: {label}", "", "")
    for one in (ranks, distances):
        one.set_xticks(at, labels, rotation=20 if max(map(len, labels)) > 8 else 0, ha="right", fontsize=7)
        one.legend(fontsize=7, frameon=False)
    return png(figure)
