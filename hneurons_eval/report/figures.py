"""Figures as PNG: the path over C, neurons by layer, ROC and reliability, dose-response, risk and coverage.

Each function takes plain numbers and returns the bytes of a PNG image; nothing is shown, no global state is used.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from hneurons_eval.analysis.calibration import reliability
from hneurons_eval.analysis.dose_response import AMOUNTS, BASELINE_ALPHA, alphas_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hneurons_eval.analysis.overlap import LayerBand

BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#d9822b", "#3a8f5c", "#8a8f98"


def path_over_c(curve: Sequence[Mapping[str, float]], chosen: float) -> bytes:
    """Neurons, held-out accuracy and AUROC, and suppressed accuracy against C.

    Args:
        curve: as `Identified.curve`.
        chosen: the C that was taken.
    """
    figure, (above, below) = canvas(6.4, 4.8, 2)
    Cs = [point["C"] for point in curve]
    named = {"held_out_auroc": "held-out AUROC", "held_out_accuracy": "held-out accuracy",
             "suppressed_accuracy": "accuracy with the neurons suppressed"}  # fmt: skip
    for (name, label), color in zip(named.items(), (BLUE, ORANGE, GREEN), strict=True):
        if name in curve[0]:
            above.plot(Cs, [point[name] for point in curve], "o-", color=color, label=label, markersize=3)
    above.set_ylabel("share")
    above.legend(fontsize=8, frameon=False)
    below.plot(Cs, [max(point["neurons"], 0.5) for point in curve], "o-", color=GREY, markersize=3)
    below.set_yscale("log")
    below.set_ylabel("neurons with a weight")
    below.set_xlabel("C (log-loss weight)")
    for axes in (above, below):
        axes.set_xscale("log")
        axes.axvline(chosen, color="black", linewidth=0.8, linestyle=":")
    above.set_title(f"path of the L1 probe; dotted: the C taken, {chosen:.3g}", fontsize=10)
    return png(figure)


def neurons_by_layer(layers: ArrayLike, widths: Sequence[int], band: "LayerBand") -> bytes:
    """How many neurons each layer has, over the band of what it has where the labels say nothing, if that says much.

    Args:
        layers: of each neuron.
        widths: neurons in each layer.
        band: from `overlap.layer_band`; its label says what it is made of.
    """
    counts = np.bincount(np.asarray(layers, np.int64), minlength=len(widths))
    figure, (axes,) = canvas(6.4, 2.6, 1)
    at = np.arange(len(widths))
    if is_informative(band):
        axes.fill_between(at, band.low, band.high, color=GREY, alpha=0.3, step="mid", label=band.label)
        axes.legend(fontsize=8, frameon=False)
    axes.bar(at, counts, color=BLUE, width=0.7)
    axes.set_xlabel("layer")
    axes.set_ylabel("neurons")
    axes.set_title(f"where the {int(counts.sum())} neurons sit", fontsize=10)
    return png(figure)


def is_informative(band: "LayerBand") -> bool:
    """Whether a band is more than `0 to 1 in every layer`, as it is with few neurons."""
    return max(band.high) > 1 or max(band.low) > 0


def detection(labels: ArrayLike, probabilities: ArrayLike) -> bytes:
    """ROC curve, reliability diagram, and the probabilities of either class."""
    y, p = np.asarray(labels), np.asarray(probabilities, float)
    figure, (roc, calibration, spread) = canvas(9.0, 3.0, 1, 3)
    order = np.argsort(-p, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    hits, misses = np.cumsum(y[order])[ends], np.cumsum(1 - y[order])[ends]
    roc.plot(np.append(0, misses / max(misses[-1], 1)), np.append(0, hits / max(hits[-1], 1)), color=BLUE)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    caption(roc, "ROC", "faithful answers flagged", "hallucinated answers flagged")
    bins = reliability(y, p)
    calibration.plot([mean for mean, _, _ in bins], [share for _, share, _ in bins], "o-", color=BLUE, markersize=4)
    calibration.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    caption(calibration, "reliability", "probability", "share hallucinated")
    edges = np.linspace(0, 1, 21)
    spread.hist([p[y == 0], p[y == 1]], edges.tolist(), color=[BLUE, ORANGE], label=["faithful", "hallucinated"])
    spread.legend(fontsize=8, frameon=False)
    caption(spread, "probabilities", "probability", "answers")
    return png(figure)


def dose_response(figures: Mapping[str, float], outcomes: Sequence[str]) -> bytes:
    """Each outcome over alpha with its interval, and the band of what control sets of the same size do.

    Args:
        figures: as `dose_response.dose_response` gives them.
        outcomes: one panel each.
    """
    figure, panels = canvas(3.6 * max(1, len(outcomes)), 3.0, 1, max(1, len(outcomes)))
    for axes, outcome in zip(panels, outcomes, strict=False):
        alphas = alphas_of(figures, outcome)
        scale = 1.0 if outcome in AMOUNTS else 100.0

        def curve(part: str, at: Sequence[float] = alphas, outcome: str = outcome, scale: float = scale) -> list[float]:
            return [scale * figures.get(f"{outcome}{part}@{alpha:g}", np.nan) for alpha in at]

        base = scale * figures.get(f"{outcome}@{BASELINE_ALPHA:g}", np.nan)
        low, high, middle = (
            [
                base if alpha == BASELINE_ALPHA else base + value
                for alpha, value in zip(alphas, curve(part), strict=True)
            ]
            for part in ("_control_low", "_control_high", "_control")
        )
        if np.isfinite(middle).sum() > 1:
            axes.fill_between(alphas, low, high, color=GREY, alpha=0.25, linewidth=0, label="random sets, range")
            axes.plot(alphas, middle, color=GREY, linewidth=1)
        own, below, above = curve(""), curve("_low"), curve("_high")
        axes.errorbar(
            alphas, own, [np.subtract(own, below), np.subtract(above, own)], color=BLUE, marker="o", markersize=4,
            capsize=2, linewidth=1.2, label="the neurons, 95 %",
        )  # fmt: skip
        axes.axvline(BASELINE_ALPHA, color="black", linewidth=0.8, linestyle=":")
        unit = "" if outcome in AMOUNTS else ", %"
        caption(axes, outcome.replace("_", " "), "alpha (1: baseline)", f"{outcome.replace('_', ' ')}{unit}")
        axes.legend(fontsize=7, frameon=False)
    return png(figure)


def risk_coverage(losses: ArrayLike, risks: ArrayLike, threshold: float | None = None) -> bytes:
    """Selective error against coverage, between what random order and the oracle give.

    Args:
        losses: of each answer, 1 where it is wrong.
        risks: of each answer.
        threshold: marked by the point where answers above it are withheld; None: no point.
    """
    from hneurons_eval.analysis.selective_prediction import area_under_risk_coverage
    from hneurons_eval.analysis.selective_prediction import risk_coverage as curve

    loss, risk = np.asarray(losses, float), np.asarray(risks, float)
    coverage, error = curve(loss, risk)
    figure, (axes,) = canvas(5.2, 3.4, 1)
    axes.plot(coverage, error, color=BLUE, label=f"by risk, area {area_under_risk_coverage(loss, risk):.3f}")
    axes.axhline(loss.mean(), color=GREY, linestyle=":", label=f"random order, area {loss.mean():.3f}")
    best = area_under_risk_coverage(loss, loss)
    axes.plot(*curve(loss, loss), color=GREEN, linewidth=0.9, label=f"oracle, area {best:.3f}")
    if threshold is not None and (given := int((risk <= threshold).sum())):
        axes.plot(coverage[given - 1], error[given - 1], "o", color=ORANGE, label=f"threshold {threshold:.2f}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, frameon=False)
    caption(axes, f"risk and coverage, {len(loss)} answers", "share of answers given", "share of them wrong")
    return png(figure)


def caption(axes: "Axes", title: str, x: str, y: str) -> None:
    """Title and axis labels in the sizes that all figures have."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def canvas(width: float, height: float, rows: int, columns: int = 1) -> "tuple[Figure, list[Any]]":
    """An empty figure of some inches, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    axes: list[Any] = list(np.atleast_1d(figure.subplots(rows, columns)).ravel())
    for one in axes:
        one.tick_params(labelsize=8)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()
