"""What a report says of a log of the task `drift`: did training move these neurons more, or less, than others?

```python
stage = drift_log(read_log("LOG"))
section(stage), overview_line(stage)
```
"""

import math
from typing import TYPE_CHECKING, Any

from hneurons_eval.analysis.dose_response import LEVEL
from hneurons_eval.artifacts.logs import figures_of
from hneurons_eval.report.wording import KINDS, Cells, Figures, Line, StageFigures, interval, is_number, line

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog


def drift_log(log: "EvalLog") -> StageFigures:
    """What a log of `drift` found; it has to hold its samples."""
    layers: list[tuple[int, float, float]] = []
    for sample in log.samples or []:
        details = next((score.metadata or {} for score in (sample.scores or {}).values()), {})
        if type(details.get("layer")) is int:
            ranks = (details.get(name) for name in ("mean_rank", "mean_rank_others"))
            own, others = (float(rank) if is_number(rank) else math.nan for rank in ranks)
            layers.append((details["layer"], own, others))
    about = log.eval.metadata or {}
    named = about.get("checkpoints")
    facts = {
        "model": log.eval.model,
        "base": str(about.get("base") or "the base"),
        "checkpoints": list(map(str, named)) if isinstance(named, list) else [],
    }
    title = f"drift: {log.eval.dataset.name or ''}"
    return StageFigures(
        "drift", figures_of(log), log.location, facts, title, status=str(log.status), details=sorted(layers)
    )


def overview_line(stage: StageFigures) -> Line:
    """Whether the neurons moved otherwise than every kind of random sets.

    Amber where they did against some kinds only, or where there are no layer- or contribution-matched sets: deep or
    strong neurons may move otherwise than others.
    """
    found = stage.figures
    if "mean_rank" not in found or "p" not in found:
        return line("grey", stage.name, "", f"Its log has no figures; its status is {stage.status}.")
    p, ps = found["p"], {kind: found[f"{kind}_p"] for kind in KINDS if f"{kind}_p" in found}
    base, checkpoints = stage.facts["base"], stage.facts["checkpoints"]
    said = f"Training from {base}{f' to {checkpoints[-1]}' if checkpoints else ''}"
    different = [kind for kind, value in ps.items() if value <= LEVEL]
    if p <= LEVEL:
        way = "more" if found["p_changed"] < found["p_unchanged"] else "less"
        said += f" moved these neurons {way} than every kind of random sets (p = {p:.3g})"
        whys = {"layer": "depth", "contribution": "strength"}
        lacking = [kind for kind in whys if kind not in ps]
        if lacking:
            sets, why = " and ".join(KINDS[kind] for kind in lacking), " or ".join(whys[kind] for kind in lacking)
            said += f"; {sets} sets could not be drawn, so {why} may be why"
        status = "amber" if lacking else "green"
    elif different:
        same = " and ".join(kind for kind in ps if kind not in different) or "all kinds in one direction"
        said += f" moved these neurons otherwise than {' and '.join(different)} random sets, but not than {same} "
        said += f"(p = {p:.3g} against the hardest kind)"
        status = "amber"
    else:
        said += f" is not shown to have moved these neurons otherwise (p = {p:.3g})"
        status = "grey"
    return line(status, stage.name, f"mean rank {interval(found, 'mean_rank')}", f"{said}.")


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


def section(stage: StageFigures) -> dict[str, Any]:
    """The tables, and what the figure is drawn from; plain JSON values."""
    found, ranks = stage.figures, [name for name in stage.figures if name.endswith("/mean_rank")]
    header, rows = tests_cells(found)
    return {
        "title": stage.name,
        "base": stage.facts["base"],
        "checkpoints": stage.facts["checkpoints"],
        "figures": dict(found),
        "sentence": overview_line(stage)["sentence"],
        "header": header,
        "rows": rows,
        "vectors": vectors_cells(found)[1],
        "steps": [[name.removesuffix("/mean_rank"), interval(found, name)] for name in ranks],
        "layers": [list(layer) for layer in stage.details],
    }
