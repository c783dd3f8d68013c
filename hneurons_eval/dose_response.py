"""What scaling neurons does to answers, as curves over alpha beside control sets, from outcomes of single answers.

```python
sweeps = arrange(rows)                       # by series: a prompt, a question set
figures = dose_response(sweeps[""], ["compliance"])
figures["compliance_slope"]                  # points per unit of alpha, with _low and _high
```

The untouched model (alpha 1, the no-op) is the reference of every difference. All comparisons are paired by item,
and resampling draws whole clusters of items.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.statistics import (
    Interval,
    flat,
    holm,
    mcnemar,
    minimum_detectable_effect,
    permutation_p,
    resample_weights,
    wilson_interval,
)

Floats = NDArray[np.float64]
NO_OP = 1.0
"""The factor that leaves the model as it is."""
AMOUNTS = frozenset({"response_tokens"})
"""Outcomes that are no share: their slopes are in their own unit, all others' in points (hundredths)."""
NEGATIVE = "negative"
"""The kind of the control set that is not drawn at random: neurons with the most negative weights."""
RESAMPLES = 2000
POWER_AND_LEVEL = 2.801585
"""z(.975) + z(.80): an effect of so many standard errors is seen in 80 % of samples at the 5 % level."""


class SweepError(ValueError):
    """Outcomes that do not fit together; says which."""


@dataclass(frozen=True)
class Row:
    """What one item gave at one alpha.

    Attributes:
        item: the question; the same at each alpha.
        alpha: the factor.
        outcomes: by name, of the answer with the neurons scaled and then of each control set, in one order
            throughout: 0 or 1, a share, or an amount; None where the outcome is not defined. At the no-op the first
            stands for all.
        series: what is reported for itself: a prompt, a question set.
        cluster: the unit of resampling; None: the item.
        kinds: how each control set was drawn.
    """

    item: str
    alpha: float
    outcomes: Mapping[str, Sequence[float | None]]
    series: str = ""
    cluster: str | None = None
    kinds: Sequence[str] = ()


@dataclass(frozen=True)
class Sweep:
    """The outcomes of one series.

    Attributes:
        alphas: ascending.
        items: of the rows.
        clusters: of each item.
        kinds: of each control set.
        values: by outcome `[1 + control sets, alphas, items]`, the neurons first; NaN where there is none.
    """

    alphas: tuple[float, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Mapping[str, Floats] = field(repr=False)


def arrange(rows: Iterable[Row]) -> dict[str, Sweep]:
    """Rows in any order as one array an outcome, by series.

    Raises:
        SweepError: an item twice at one alpha, or control sets that differ between rows.
    """
    by_series: dict[str, list[Row]] = {}
    for row in rows:
        by_series.setdefault(row.series, []).append(row)
    return {series: _arranged(series, own) for series, own in by_series.items()}


def _arranged(series: str, rows: list[Row]) -> Sweep:
    alphas = sorted({row.alpha for row in rows})
    items = list(dict.fromkeys(row.item for row in rows))
    kinds = max((tuple(row.kinds) for row in rows), key=len)
    place_of_item = {item: number for number, item in enumerate(items)}
    place_of_alpha = {alpha: number for number, alpha in enumerate(alphas)}
    names = list(dict.fromkeys(name for row in rows for name in row.outcomes))
    values = {name: np.full((1 + len(kinds), len(alphas), len(items)), np.nan) for name in names}
    clusters = list(items)
    seen: set[tuple[str, float]] = set()
    for row in rows:
        if (row.item, row.alpha) in seen:
            raise SweepError(f"{row.item} stands twice at alpha {row.alpha:g}{f' of {series}' if series else ''}")
        seen.add((row.item, row.alpha))
        if row.kinds and tuple(row.kinds) != kinds:
            raise SweepError(f"{row.item} at alpha {row.alpha:g} was answered with other control sets than the rest")
        at, where = place_of_alpha[row.alpha], place_of_item[row.item]
        clusters[where] = row.cluster or row.item
        for name, given in row.outcomes.items():
            numbers = np.array([np.nan if value is None else float(value) for value in given])
            if row.alpha == NO_OP:
                values[name][:, at, where] = numbers[0]  # all sets are the plain model there
            elif len(numbers) == 1 + len(kinds):
                values[name][:, at, where] = numbers
            else:
                raise SweepError(
                    f"{row.item} at alpha {row.alpha:g} has {len(numbers) - 1} control answers, expected {len(kinds)}"
                )
    return Sweep(tuple(alphas), tuple(items), tuple(clusters), kinds, values)


def dose_response(sweep: Sweep, headlines: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Curves, differences to the no-op, slopes, and what control sets do, as flat figures.

    Args:
        headlines: outcomes that are reported in full; of the others only curve, slope and the sets' slopes.

    Returns:
        `items`, `clusters`, `control_sets`; of each outcome `<outcome>@<alpha>` with 95 % interval
        (`<outcome>_low@<alpha>`, `..._high@...`: Wilson for yes or no, else bootstrap), and `<outcome>_slope`: of the
        least-squares line through the curve, in points per unit of alpha, with paired bootstrap interval, and
        `<outcome>_slope_detectable`, the slope that would be seen in 80 % of such samples. Against the random control
        sets together: `<outcome>_slope_control` (mean, `_low` and `_high`: least and greatest) and two-sided
        permutation p `<outcome>_slope_p_control`; of each kind of sets `<outcome>_slope_<kind>`.
        Of headlines also `<outcome>_difference@<alpha>` to the no-op (shares) with paired bootstrap interval,
        `<outcome>_p@<alpha>` (McNemar, Holm's correction over alphas), `<outcome>_detectable@<alpha>`, and the sets'
        differences `<outcome>_control@<alpha>` with `_low`, `_high` and `_p_control`.
    """
    random = [number for number, kind in enumerate(sweep.kinds, start=1) if kind != NEGATIVE]
    found: dict[str, float] = {
        "items": len(sweep.items),
        "clusters": len(set(sweep.clusters)),
        "control_sets": len(random),
    }
    if not sweep.items:
        return found
    curves = _Curves(sweep, random, seed)
    for name in sweep.values:
        found |= curves.shape(name)
        if name in headlines:
            found |= curves.differences(name)
    return found


class _Curves:
    def __init__(self, sweep: Sweep, random: Sequence[int], seed: int) -> None:
        self.sweep, self.random = sweep, list(random)
        self.single = len(set(sweep.clusters)) == len(sweep.items)
        self.weights = np.concatenate(list(resample_weights(sweep.clusters, RESAMPLES, seed)))
        alphas = np.array(sweep.alphas)
        self.line = (alphas - alphas.mean()) / max(float(((alphas - alphas.mean()) ** 2).sum()), 1e-12)
        self.base = sweep.alphas.index(NO_OP) if NO_OP in sweep.alphas else None

    def shape(self, name: str) -> dict[str, float]:
        """The curve and its slope, and the slopes of the control sets."""
        values = self.sweep.values[name]  # [1 + sets, alphas, items]
        present = np.isfinite(values)
        filled = np.where(present, values, 0.0)
        counts = present.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = filled.sum(axis=2) / counts  # [1 + sets, alphas]
            drawn = (self.weights @ filled[0].T) / (self.weights @ present[0].T)  # [resamples, alphas]
        binary = bool(np.isin(values[0][present[0]], (0, 1)).all()) and name not in AMOUNTS
        found: dict[str, float] = {}
        for k, alpha in enumerate(self.sweep.alphas):
            if counts[0, k]:
                own = (
                    wilson_interval(int(filled[0, k].sum()), int(counts[0, k]))
                    if binary and self.single
                    else _interval(float(means[0, k]), drawn[:, k])
                )
                found |= flat(name, own, f"@{alpha:g}")
                if counts[0, k] < len(self.sweep.items):
                    found[f"{name}_items@{alpha:g}"] = int(counts[0, k])
        if len(self.sweep.alphas) > 1 and counts[0].all():
            found |= self._slopes(name, means, drawn)
        return found

    def _slopes(self, name: str, means: Floats, drawn: Floats) -> dict[str, float]:
        scale = 1.0 if name in AMOUNTS else 100.0
        # Rounded, so that a flat curve has a slope of 0 and not of 1e-15.
        slopes = np.round(scale * means @ self.line, 9)  # [1 + sets]
        resampled = np.round(scale * drawn @ self.line, 9)
        found = flat(f"{name}_slope", _interval(float(slopes[0]), resampled))
        if np.isfinite(resampled).sum() > RESAMPLES / 2:
            found[f"{name}_slope_detectable"] = POWER_AND_LEVEL * float(np.nanstd(resampled))
        sets = slopes[self.random]
        sets = sets[np.isfinite(sets)]
        if sets.size:
            found |= _spread(f"{name}_slope", float(slopes[0]), sets)
        for kind in dict.fromkeys(self.sweep.kinds):
            own = slopes[[number for number, one in enumerate(self.sweep.kinds, start=1) if one == kind]]
            if np.isfinite(own).any():
                found[f"{name}_slope_{kind}"] = float(np.nanmean(own))
        return found

    def differences(self, name: str) -> dict[str, float]:
        """Each alpha against the no-op, paired by item."""
        if self.base is None:
            return {}
        values = self.sweep.values[name]
        found: dict[str, float] = {}
        changed: dict[float, float] = {}
        for k, alpha in enumerate(self.sweep.alphas):
            apart = values[:, k] - values[:, self.base]  # [1 + sets, items]
            present = np.isfinite(apart)
            if k == self.base or not present[0].any():
                continue
            at, filled = f"@{alpha:g}", np.where(present, apart, 0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                means = filled.sum(axis=1) / present.sum(axis=1)
                drawn = (self.weights @ filled[0]) / (self.weights @ present[0])
            found |= flat(f"{name}_difference", _interval(float(means[0]), drawn), at)
            sets = means[self.random]
            sets = sets[np.isfinite(sets)]
            if sets.size:
                found |= {key + at: value for key, value in _spread(name, float(means[0]), sets).items()}
            own = apart[0][present[0]]
            if name not in AMOUNTS and np.isin(own, (-1, 0, 1)).all():
                lost, won = int((own < 0).sum()), int((own > 0).sum())
                changed[alpha] = mcnemar(lost, won)
                detectable = minimum_detectable_effect(own.size, (lost + won) / own.size)
                if np.isfinite(detectable):
                    found[f"{name}_detectable{at}"] = detectable
        for alpha, corrected in zip(changed, holm(list(changed.values())) if changed else (), strict=True):
            found[f"{name}_p@{alpha:g}"] = float(corrected)
        return found


def _interval(estimate: float, resampled: Floats) -> Interval:
    kept = resampled[np.isfinite(resampled)]
    if kept.size <= resampled.size / 2:
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def _spread(name: str, own: float, sets: Floats) -> dict[str, float]:
    """Mean and range of the control sets, and how far out the neurons lie among them."""
    center = sets.mean()
    return {
        f"{name}_control": float(center),
        f"{name}_control_low": float(sets.min()),
        f"{name}_control_high": float(sets.max()),
        f"{name}_p_control": permutation_p(abs(own - center), np.abs(sets - center)),
    }


def alphas_of(figures: Mapping[str, float], outcome: str) -> list[float]:
    """The alphas at which an outcome has a figure, ascending."""
    return sorted(float(name.split("@")[1]) for name in figures if name.startswith(f"{outcome}@"))


def series_of(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures whose names carry a series (`plain/compliance@1`) by series; all under "" where there is only one."""
    found: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        series, _, own = name.rpartition("/")
        found.setdefault(series, {})[own] = value
    return found


def with_series(by_series: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The inverse of `series_of`: names carry their series where there are several."""
    return {
        (f"{series}/{name}" if len(by_series) > 1 else name): value
        for series, figures in by_series.items()
        for name, value in figures.items()
    }
