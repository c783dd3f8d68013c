"""What a report says of a log of the task `drift`: did training move these neurons more, or less, than others?

```python
drift_log = drift_log_of(read_log("LOG"), "drift")
section(drift_log), overview_line(drift_log), picture(section(drift_log))
```
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hneurons_eval.analysis.dose_response import LEVEL
from hneurons_eval.artifacts.logs import figures_of
from hneurons_eval.report.figures import BLUE, GREY, ORANGE, canvas, caption, png
from hneurons_eval.report.wording import KINDS, Cells, Figures, Line, interval, line

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog


class DriftLog(NamedTuple):
    """A log of `drift`: what it is of, its figures (as `Ranking.figures`, of several checkpoints also
    `NAME/mean_rank` and the like), and of each layer `[layer, mean rank of the neurons, of the others]`.
    """

    title: str
    location: str
    status: str
    model: str
    base: str
    checkpoints: tuple[str, ...]
    figures: Figures
    layers: Sequence[tuple[int, float, float]]


def drift_log_of(log: "EvalLog", title: str) -> DriftLog:
    """What a log of `drift` found; it has to hold its samples."""
    figures = figures_of(log)
    layers: list[tuple[int, float, float]] = []
    for sample in log.samples or []:
        details = next((score.metadata or {} for score in (sample.scores or {}).values()), {})
        if type(details.get("layer")) is int:
            own, others = (_number(details.get(name)) for name in ("mean_rank", "mean_rank_others"))
            layers.append((details["layer"], own, others))
    about = log.eval.metadata or {}
    named = about.get("checkpoints")
    checkpoints = tuple(map(str, named)) if isinstance(named, list) else ()
    base = str(about.get("base") or "the base")
    return DriftLog(title, log.location, str(log.status), log.eval.model, base, checkpoints, figures, sorted(layers))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def overview_line(one: DriftLog) -> Line:
    """Whether the neurons moved otherwise than every kind of random sets.

    Amber where they did against some kinds only, or where there are no layer- or contribution-matched sets: deep or
    strong neurons may move otherwise than others.
    """
    found = one.figures
    if "mean_rank" not in found or "p" not in found:
        return line("grey", one.title, "", f"Its log has no figures; its status is {one.status}.")
    figure = f"mean rank {interval(found, 'mean_rank')}"
    between = f"from {one.base} to {one.checkpoints[-1]}" if one.checkpoints else f"from {one.base}"
    p = found["p"]
    ps = {kind: found[f"{kind}_p"] for kind in KINDS if f"{kind}_p" in found}
    if p <= LEVEL:
        way = "more" if found["p_changed"] < found["p_unchanged"] else "less"
        said = f"Training {between} moved these neurons {way} than every kind of random sets (p = {p:.3g})"
        whys = {"layer": "depth", "contribution": "strength"}
        if lacking := [kind for kind in whys if kind not in ps]:
            sets = " and ".join(KINDS[kind] for kind in lacking)
            why = f"{sets} sets could not be drawn, so {' or '.join(whys[kind] for kind in lacking)} may be why"
            return line("amber", one.title, figure, f"{said}; {why}.")
        return line("green", one.title, figure, f"{said}.")
    if different := [kind for kind, value in ps.items() if value <= LEVEL]:
        same = " and ".join(kind for kind in ps if kind not in different) or "all kinds in one direction"
        said = f"Training {between} moved these neurons otherwise than {' and '.join(different)} random sets, but not"
        return line("amber", one.title, figure, f"{said} than {same} (p = {p:.3g} against the hardest kind).")
    said = f"Training {between} is not shown to have moved these neurons otherwise (p = {p:.3g})."
    return line("grey", one.title, figure, said)


def tests_cells(found: Figures) -> Cells:
    """The mean rank beside that of each kind of random sets; one p for each."""
    rows = [["these neurons", interval(found, "mean_rank"), "", "", ""]] if "mean_rank" in found else []
    for kind, name in KINDS.items():
        if not {f"{kind}{end}" for end in ("_sets", "_mean", "_p", "_p_changed", "_p_unchanged")} <= found.keys():
            continue
        mean = f"{found[f'{kind}_mean']:.3f} [{found[f'{kind}_low']:.3f}, {found[f'{kind}_high']:.3f}]"
        ps = [f"{found[f'{kind}_p{way}']:.3g}" for way in ("_changed", "_unchanged", "")]
        rows.append([f"{int(found[f'{kind}_sets']):,} {name} random sets", mean, *ps])
    return ["", "mean rank (95 %)", "p: changed more", "p: changed less", "p: two-sided"], rows


def vectors_cells(found: Figures) -> Cells:
    """Each kind of vector alone."""
    names = ("mean_rank", "median", "median_all")
    rows = [
        [kind, *(f"{found[f'{kind}_{name}']:.3g}" for name in names)]
        for kind in ("up", "down", "gate")
        if {f"{kind}_{name}" for name in names} <= found.keys()
    ]
    return ["vectors", "mean rank", "median 1 - cos", "of all neurons"], rows


def section(one: DriftLog) -> dict[str, Any]:
    """The tables, and what the figure is drawn from; plain JSON values."""
    found = one.figures
    header, rows = tests_cells(found)
    return {
        "title": one.title,
        "base": one.base,
        "checkpoints": list(one.checkpoints),
        "figures": dict(found),
        "sentence": overview_line(one)["sentence"],
        "header": header,
        "rows": rows,
        "vectors": vectors_cells(found)[1],
        "steps": [
            [name.removesuffix("/mean_rank"), interval(found, name)] for name in found if name.endswith("/mean_rank")
        ],
        "layers": [list(layer) for layer in one.layers],
    }


def picture(said: Mapping[str, Any]) -> bytes | None:
    """Mean rank of the neurons in each layer beside the layer's others; None without layers.

    Ranks: 0 changed most, 1 least, 0.5 is chance.
    """
    layers: Sequence[Sequence[Any]] = said["layers"]
    if not layers:
        return None
    figure, (axes,) = canvas(6.4, 2.8, 1)
    at = [layer for layer, _, _ in layers]
    axes.plot(at, [_number(others) for _, _, others in layers], color=GREY, linewidth=1.4, label="others of the layer")
    axes.plot(at, [_number(own) for _, own, _ in layers], "o", color=BLUE, markersize=4, label="these neurons")
    mean = said["figures"].get("mean_rank")
    if mean is not None:
        axes.axhline(mean, color=BLUE, linewidth=0.8, linestyle="--", label=f"their mean, {mean:.3f}")
    low, high = (said["figures"].get(f"uniform_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        axes.axhspan(low, high, color=ORANGE, alpha=0.15, linewidth=0, label="mean of random sets, 95 %")
    axes.set_ylim(-0.03, 1.03)
    caption(axes, "mean rank by layer", "layer", "0 changed most, 1 least")
    axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4)
    return png(figure)
