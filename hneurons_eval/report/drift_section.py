"""What a report says of a log of the task `drift`: did training move these neurons more, or less, than others?

```python
drift_log = drift_log_of(read_log("LOG"), "drift")
section(drift_log), light(drift_log), picture(section(drift_log))
```
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hneurons_eval.artifacts.logs import figures_of
from hneurons_eval.report.detection import interval
from hneurons_eval.report.figures import BLUE, GREY, ORANGE, canvas, caption, png

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

KINDS: Mapping[str, str] = {
    "uniform": "uniform random sets",
    "layer": "layer-matched random sets",
    "contribution": "contribution-matched random sets",
    "sd": "sd-matched random sets",
}
LEVEL = 0.05


@dataclass(frozen=True)
class LayerRank:
    """Mean normalised rank of the chosen neurons of a layer, and of its others; NaN where there are none."""

    layer: int
    own: float
    others: float


@dataclass(frozen=True)
class DriftLog:
    """A log of `drift`.

    Attributes:
        title: for people.
        location, status: of the log.
        model: that was evaluated.
        base, checkpoints: what was compared with what.
        figures: as `Ranking.figures`; of several checkpoints also `NAME/mean_rank` and the like.
        layers: in order.
    """

    title: str
    location: str
    status: str
    model: str
    base: str
    checkpoints: tuple[str, ...]
    figures: Mapping[str, float]
    layers: tuple[LayerRank, ...]


def drift_log_of(log: "EvalLog", title: str) -> DriftLog:
    """What a log of `drift` found; it has to hold its samples."""
    figures = figures_of(log)
    layers = []
    for sample in log.samples or []:
        details = next((score.metadata or {} for score in (sample.scores or {}).values()), {})
        if type(details.get("layer")) is int:
            own, others = (_number(details.get(name)) for name in ("mean_rank", "mean_rank_others"))
            layers.append(LayerRank(details["layer"], own, others))
    about = log.eval.metadata or {}
    named = about.get("checkpoints")
    checkpoints = tuple(map(str, named)) if isinstance(named, list) else ()
    return DriftLog(
        title,
        log.location,
        str(log.status),
        log.eval.model,
        str(about.get("base") or "the base"),
        checkpoints,
        figures,
        tuple(sorted(layers, key=lambda one: one.layer)),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def light(one: DriftLog) -> dict[str, str]:
    """The line of the glance: whether the neurons moved otherwise than every kind of random sets.

    Amber where they did against some kinds only, or where layer- or contribution-matched sets could not be drawn:
    deep or strong neurons may move otherwise than others.
    """
    found = one.figures
    line = {"light": "grey", "what": one.title, "figure": "", "sentence": ""}
    if "mean_rank" not in found or "p" not in found:
        return line | {"sentence": f"Its log has no figures; its status is {one.status}."}
    line |= {"figure": f"mean rank {interval(found, 'mean_rank')}"}
    between = f"from {one.base} to {one.checkpoints[-1]}" if one.checkpoints else f"from {one.base}"
    p = found["p"]
    ps = {kind: found[f"{kind}_p"] for kind in KINDS if f"{kind}_p" in found}
    if p <= LEVEL:
        way = "more" if found["p_changed"] < found["p_unchanged"] else "less"
        said = f"Training {between} moved these neurons {way} than every kind of random sets (p = {p:.3g})"
        whys = {"layer": "depth", "contribution": "strength"}
        if lacking := [kind for kind in whys if kind not in ps]:
            sets = " and ".join(f"{kind}-matched" for kind in lacking)
            why = f"{sets} sets could not be drawn, so {' or '.join(whys[kind] for kind in lacking)} may be why"
            return line | {"light": "amber", "sentence": f"{said}; {why}."}
        return line | {"light": "green", "sentence": f"{said}."}
    if different := [kind for kind, value in ps.items() if value <= LEVEL]:
        same = " and ".join(kind for kind in ps if kind not in different) or "all kinds in one direction"
        said = f"Training {between} moved these neurons otherwise than {' and '.join(different)} random sets, but not"
        return line | {"light": "amber", "sentence": f"{said} than {same} (p = {p:.3g} against the hardest kind)."}
    return line | {"sentence": f"Training {between} is not shown to have moved these neurons otherwise (p = {p:.3g})."}


def section(one: DriftLog) -> dict[str, Any]:
    """The tables, and what the figure is drawn from; plain JSON values."""
    found = one.figures
    sets = [
        [
            f"{int(found[f'{kind}_sets']):,} {name}",
            f"{found[f'{kind}_mean']:.3f} [{found[f'{kind}_low']:.3f}, {found[f'{kind}_high']:.3f}]",
            *(f"{found[f'{kind}_p{way}']:.3g}" for way in ("_changed", "_unchanged", "")),
        ]
        for kind, name in KINDS.items()
        if {f"{kind}{end}" for end in ("_sets", "_mean", "_low", "_high", "_p", "_p_changed", "_p_unchanged")}
        <= found.keys()
    ]
    return {
        "title": one.title,
        "base": one.base,
        "checkpoints": list(one.checkpoints),
        "figures": dict(found),
        "sentence": light(one)["sentence"],
        "header": ["", "mean rank (95 %)", "p: changed more", "p: changed less", "p: two-sided"],
        "rows": [["these neurons", interval(found, "mean_rank"), "", "", ""], *sets] if "mean_rank" in found else [],
        "vectors": [
            [kind, *(f"{found[f'{kind}_{name}']:.3g}" for name in ("mean_rank", "median", "median_all"))]
            for kind in ("up", "down", "gate")
            if {f"{kind}_{name}" for name in ("mean_rank", "median", "median_all")} <= found.keys()
        ],
        "steps": [
            [name.removesuffix("/mean_rank"), interval(found, name)] for name in found if name.endswith("/mean_rank")
        ],
        "layers": [[one.layer, one.own, one.others] for one in one.layers],
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
