"""All figures of reports and logs as PNG.

Each function takes plain numbers and returns the bytes of a PNG image; nothing is shown, no global state is used.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hneurons_eval.analysis.calibration import reliability
from hneurons_eval.analysis.dose_response import AMOUNTS, BASELINE_ALPHA, alphas_of
from hneurons_eval.report.detection import BASELINES, probe_name
from hneurons_eval.report.wording import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hneurons_eval.analysis.drift_ranks import Ranking
    from hneurons_eval.analysis.overlap import LayerBand

BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#d9822b", "#3a8f5c", "#8a8f98"
VECTORS = {"up": BLUE, "down": ORANGE, "gate": GREEN}
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


# --- neurons and probe -----------------------------------------------------------------------------------


def path_over_c(curve: Sequence[Mapping[str, float]], chosen: float) -> bytes:
    """Neurons, held-out accuracy and AUROC, and suppressed accuracy against C; a line at the chosen one.

    `curve` is that of `Identified`.
    """
    figure, (above, below) = _canvas(6.4, 4.8, 2)
    Cs = [point["C"] for point in curve]
    named = {"held_out_auroc": "held-out AUROC", "held_out_accuracy": "held-out accuracy",
             "suppressed_accuracy": "accuracy with the neurons suppressed"}  # fmt: skip
    for (name, label), color in zip(named.items(), (BLUE, ORANGE, GREEN), strict=True):
        if name in curve[0]:
            above.plot(Cs, [point[name] for point in curve], "o-", color=color, label=label, markersize=3)
    above.set_ylabel("share")
    _legend(above)
    below.plot(Cs, [max(point["neurons"], 0.5) for point in curve], "o-", color=GREY, markersize=3)
    below.set(yscale="log", xlabel="C (log-loss weight)", ylabel="neurons with a weight")
    for axes in (above, below):
        axes.set_xscale("log")
        axes.axvline(chosen, color="black", linewidth=0.8, linestyle=":")
    above.set_title(f"path of the L1 probe; dotted: the C taken, {chosen:.3g}", fontsize=10)
    return _png(figure)


def neurons_by_layer(layers: ArrayLike, widths: Sequence[int], band: "LayerBand") -> bytes:
    """How many of the neurons each layer has, over the null band of `overlap.layer_band` if that is informative.

    `layers` holds the layer of each neuron, `widths` the size of each layer.
    """
    counts = np.bincount(np.asarray(layers, np.int64), minlength=len(widths))
    figure, (axes,) = _canvas(6.4, 2.6, 1)
    at = np.arange(len(widths))
    if is_informative(band):
        axes.fill_between(at, band.low, band.high, color=GREY, alpha=0.3, step="mid", label=band.label)
        _legend(axes)
    axes.bar(at, counts, color=BLUE, width=0.7)
    axes.set(xlabel="layer", ylabel="neurons")
    axes.set_title(f"where the {int(counts.sum())} neurons sit", fontsize=10)
    return _png(figure)


def is_informative(band: "LayerBand") -> bool:
    """Whether a band is more than `0 to 1 in every layer`, as it is with few neurons."""
    return max(band.high) > 1 or max(band.low) > 0


def stability(weights: Sequence[float], shares: Sequence[float]) -> bytes:
    """How often each neuron is selected on half of the questions, against its weight."""
    figure, (axes,) = _canvas(6.4, 2.8, 1)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(weights, shares, "o", color=BLUE, markersize=4, alpha=0.7)
    axes.set_ylim(-0.03, 1.03)
    _caption(axes, "stability: dotted, half of the half-samples", "weight in the probe", "selected in half-samples")
    return _png(figure)


# --- detection and risk ----------------------------------------------------------------------------------


def detection(labels: ArrayLike, probabilities: ArrayLike) -> bytes:
    """ROC curve, reliability diagram, and the probabilities of either class."""
    y, p = np.asarray(labels), np.asarray(probabilities, float)
    figure, (roc, calibration, spread) = _canvas(9.0, 3.0, 1, 3)
    order = np.argsort(-p, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    hits, misses = np.cumsum(y[order])[ends], np.cumsum(1 - y[order])[ends]
    roc.plot(np.append(0, misses / max(misses[-1], 1)), np.append(0, hits / max(hits[-1], 1)), color=BLUE)
    _caption(roc, "ROC", "faithful answers flagged", "hallucinated answers flagged")
    bins = reliability(y, p)
    calibration.plot([mean for mean, _, _ in bins], [share for _, share, _ in bins], "o-", color=BLUE, markersize=4)
    _caption(calibration, "reliability", "probability", "share hallucinated")
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    edges = np.linspace(0, 1, 21)
    spread.hist([p[y == 0], p[y == 1]], edges.tolist(), color=[BLUE, ORANGE], label=["faithful", "hallucinated"])
    _legend(spread)
    _caption(spread, "probabilities", "probability", "answers")
    return _png(figure)


def baselines(figures: Mapping[str, float]) -> bytes:
    """AUROC of the probe (blue) beside control sets (orange, mean and middle 95 %) and baselines (grey)."""
    names = {"auroc": probe_name(figures), "probe_refit_auroc": "the probe's neurons, L2 refit"}
    colors = dict.fromkeys(names, BLUE) | {f"probe_{kind}_auroc": ORANGE for kind in KINDS}
    names |= {f"probe_{kind}_auroc": f"{label} sets of that size" for kind, label in KINDS.items()}
    names |= {f"{name}_auroc": label for name, label in BASELINES.items()}
    shown = [name for name in reversed(names) if figures.get(name) is not None]
    figure, (axes,) = _canvas(6.4, 0.8 + 0.24 * len(shown), 1)
    for place, name in enumerate(shown):
        value, color = figures[name], colors.get(name, GREY)
        ends = [figures.get(f"{name}_{end}") for end in ("low", "high")]
        axes.plot([value if end is None else end for end in ends], [place, place], color=color, linewidth=1.6)
        axes.plot([value], [place], "o", color=color, markersize=5)
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(figures["auroc"], color=BLUE, linewidth=0.6, alpha=0.5)
    axes.set_yticks(range(len(shown)), [names[name] for name in shown])
    _caption(axes, "the probe beside control sets and baselines", "AUROC, 95 %", "")
    return _png(figure)


def risk_coverage(losses: ArrayLike, risks: ArrayLike, threshold: float | None = None) -> bytes:
    """Selective error against coverage, between what random order and the oracle give.

    A loss is 1 where an answer is wrong. A point marks where answers above the threshold are withheld.
    """
    from hneurons_eval.analysis.selective_prediction import area_under_risk_coverage
    from hneurons_eval.analysis.selective_prediction import risk_coverage as curve

    loss, risk = np.asarray(losses, float), np.asarray(risks, float)
    coverage, error = curve(loss, risk)
    figure, (axes,) = _canvas(5.2, 3.4, 1)
    axes.plot(coverage, error, color=BLUE, label=f"by risk, area {area_under_risk_coverage(loss, risk):.3f}")
    axes.axhline(loss.mean(), color=GREY, linestyle=":", label=f"random order, area {loss.mean():.3f}")
    best = area_under_risk_coverage(loss, loss)
    axes.plot(*curve(loss, loss), color=GREEN, linewidth=0.9, label=f"oracle, area {best:.3f}")
    if threshold is not None and (given := int((risk <= threshold).sum())):
        axes.plot(coverage[given - 1], error[given - 1], "o", color=ORANGE, label=f"threshold {threshold:.2f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    _legend(axes)
    _caption(axes, f"risk and coverage, {len(loss)} answers", "share of answers given", "share of them wrong")
    return _png(figure)


# --- sweeps ----------------------------------------------------------------------------------------------


def dose_response(figures: Mapping[str, float], outcomes: Sequence[str]) -> bytes:
    """Each outcome over alpha with its interval, a panel each, and the band of control sets of the same size."""
    figure, panels = _canvas(3.6 * max(1, len(outcomes)), 3.0, 1, max(1, len(outcomes)))
    for axes, outcome in zip(panels, outcomes, strict=False):
        alphas = alphas_of(figures, outcome)
        scale, unit = (1.0, "") if outcome in AMOUNTS else (100.0, ", %")
        own, below, above, middle, low, high = (
            np.array([scale * figures.get(f"{outcome}{part}@{alpha:g}", np.nan) for alpha in alphas])
            for part in ("", "_low", "_high", "_control", "_control_low", "_control_high")
        )
        base = scale * figures.get(f"{outcome}@{BASELINE_ALPHA:g}", np.nan)
        at_baseline = np.equal(alphas, BASELINE_ALPHA)
        middle, low, high = (np.where(at_baseline, base, base + change) for change in (middle, low, high))
        if np.isfinite(middle).sum() > 1:
            axes.fill_between(alphas, low, high, color=GREY, alpha=0.25, linewidth=0, label="random sets, range")
            axes.plot(alphas, middle, color=GREY, linewidth=1)
        axes.errorbar(
            alphas, own, [own - below, above - own], color=BLUE, marker="o", markersize=4, capsize=2, linewidth=1.2,
            label="the neurons, 95 %",
        )  # fmt: skip
        axes.axvline(BASELINE_ALPHA, color="black", linewidth=0.8, linestyle=":")
        name = outcome.replace("_", " ")
        _caption(axes, name, "alpha (1: baseline)", f"{name}{unit}")
        _legend(axes, 7)
    return _png(figure)


# --- parameter drift -------------------------------------------------------------------------------------


def drift_by_layer(layers: Sequence[Sequence[float | None]], figures: Mapping[str, float | None]) -> bytes:
    """Mean rank of the neurons in each layer beside the layer's others: 0 changed most, 1 least, 0.5 is chance.

    `layers` are `[layer, mean rank of the neurons, of the others]`, with None for no neurons.
    """
    figure, (axes,) = _canvas(6.4, 2.8, 1)
    at, own, others = np.array(layers, float).T
    axes.plot(at, others, color=GREY, linewidth=1.4, label="others of the layer")
    axes.plot(at, own, "o", color=BLUE, markersize=4, label="these neurons")
    mean, low, high = (figures.get(name) for name in ("mean_rank", "uniform_low", "uniform_high"))
    if mean is not None:
        axes.axhline(mean, color=BLUE, linewidth=0.8, linestyle="--", label=f"their mean, {mean:.3f}")
    if low is not None and high is not None:
        axes.axhspan(low, high, color=ORANGE, alpha=0.15, linewidth=0, label="mean of random sets, 95 %")
    axes.set_ylim(-0.03, 1.03)
    _caption(axes, "mean rank by layer", "layer", "0 changed most, 1 least")
    _legend(axes, 7, below=0.22, ncols=4)
    return _png(figure)


def drift_ranks(ranking: "Ranking") -> bytes:
    """Normalised rank of every chosen neuron over the others of its layer; and their mean among random sets."""
    figure, (layers, means) = _canvas(9.0, 3.6, 1, 2)
    rank, starts = ranking.drift.rank, ranking.drift.layout.starts
    at = np.arange(len(starts) - 1)
    bands = np.array([np.quantile(rank[starts[k] : starts[k + 1]], SHARES) for k in at])  # [layers, shares]
    layers.fill_between(at, bands[:, 0], bands[:, 4], color=GREY, alpha=0.2, linewidth=0, label="all, middle 80 %")
    layers.fill_between(at, bands[:, 1], bands[:, 3], color=GREY, alpha=0.3, linewidth=0, label="all, middle half")
    layers.plot(at, bands[:, 2], color=GREY, linewidth=1.2, label="all, median")
    of = np.searchsorted(starts, ranking.flat, side="right") - 1
    layers.plot(of, rank[ranking.flat], "o", color=BLUE, markersize=3, alpha=0.8, label="H-neurons")
    layers.set_ylim(-0.03, 1.03)
    _caption(layers, "rank by layer", "layer", "normalised rank\n(0 changed most, 1 least)")
    _legend(layers, 7, below=0.18, ncols=4)
    for (kind, test), color in zip(ranking.tests.items(), (GREY, ORANGE, GREEN, BLUE), strict=False):
        means.hist(test.means, bins=40, color=color, alpha=0.5, label=f"{kind} sets, p = {test.p:.3g}")
    means.axvline(ranking.mean.estimate, color=BLUE, label="H-neurons")
    means.axvspan(ranking.mean.low, ranking.mean.high, color=BLUE, alpha=0.15, linewidth=0)
    _caption(means, f"mean rank {ranking.mean.estimate:.3f}", "mean normalised rank", "sets")
    _legend(means, 7, below=0.18, ncols=2)
    return _png(figure)


def drift_distances(ranking: "Ranking") -> bytes:
    """Median 1 - cos in each layer, by kind of vector: of the chosen neurons (points) and of all others (lines)."""
    from hneurons_eval.analysis.drift_ranks import by_layer

    rows, kinds = by_layer(ranking), list(ranking.drift.distances)
    figure, panels = _canvas(3.0 * len(kinds), 2.8, 1, len(kinds))
    at = [row.layer for row in rows]
    for axes, kind in zip(panels, kinds, strict=True):
        own, others = np.array([row.medians[kind] for row in rows]).T
        axes.plot(at, others, color=GREY, label="others")
        axes.plot(at, own, "o", color=VECTORS[kind], markersize=4, label="H-neurons")
        known = np.append(own, others)[np.isfinite(np.append(own, others))]
        if known.size and known.min() > 0:
            axes.set_yscale("log")
        _caption(axes, kind, "layer", "median 1 - cos")
        _legend(axes, 7)
    return _png(figure)


def drift_timeline(labels: Sequence[str], figures: Sequence[Mapping[str, float]]) -> bytes:
    """Mean rank and median distances over the checkpoints of one run; `figures` are those of each `Ranking`."""
    figure, (ranks, distances) = _canvas(9.0, 3.2, 1, 2)
    at = np.arange(len(labels))
    named = ("mean_rank", "mean_rank_low", "mean_rank_high", "uniform_low", "uniform_high")
    mean, low, high, random_low, random_high = np.array([[one[name] for name in named] for one in figures]).T
    ranks.fill_between(at, random_low, random_high, color=GREY, alpha=0.3, linewidth=0, label="random sets, 95 %")
    ends = [mean - low, high - mean]
    ranks.errorbar(at, mean, ends, fmt="o-", color=BLUE, markersize=4, capsize=2, label="H-neurons")
    ranks.set_ylim(-0.03, 1.03)
    _caption(ranks, "mean rank", "", "0 changed most, 1 least")
    for kind, color in VECTORS.items():
        if f"{kind}_median" in figures[0]:
            distances.plot(at, [one[f"{kind}_median_all"] for one in figures], "--", color=color, linewidth=1)
            distances.plot(at, [one[f"{kind}_median"] for one in figures], "o-", color=color, markersize=4, label=kind)
    _caption(distances, "median 1 - cos; dashed: all neurons, solid: H-neurons", "", "")
    for axes in (ranks, distances):
        axes.set_xticks(at, labels, rotation=20 if max(map(len, labels)) > 8 else 0, ha="right", fontsize=7)
        _legend(axes, 7)
    return _png(figure)


# --- what all figures share ------------------------------------------------------------------------------


def _caption(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def _legend(axes: "Axes", size: int = 8, below: float | None = None, ncols: int = 1) -> None:
    """A legend in the axes, or below them."""
    place: dict[str, Any] = {} if below is None else {"loc": "upper center", "bbox_to_anchor": (0.5, -below)}
    axes.legend(fontsize=size, frameon=False, ncols=ncols, **place)


def _canvas(width: float, height: float, rows: int, columns: int = 1) -> "tuple[Figure, list[Any]]":
    """An empty figure of some inches, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes: list[Any] = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for one in axes:
        one.tick_params(labelsize=8)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
