"""Dose-response of scaled neurons: curves over alpha, slopes, and comparison with control sets.

```python
sweeps = arrange(rows)                       # by series: a prompt, a question set
figures = dose_response(sweeps[""], ["compliance"])
figures["compliance_slope"]                  # points per unit of alpha, with _low and _high
```

The baseline (alpha = 1) is the reference of every difference. All comparisons are paired by item: a slope is the mean
of the slopes of the items that have the outcome at every alpha. Intervals and tests are over whole clusters of items
(`hneurons_eval.analysis.paired`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.bootstrap import flat, wilson_interval
from hneurons_eval.analysis.paired import Change, design_effect, mean_change, mean_level, sign_flip_p
from hneurons_eval.analysis.tests import holm, minimum_detectable_effect, permutation_p, two_sided_p

Floats = NDArray[np.float64]
BASELINE_ALPHA = 1.0
"""Alpha of the unscaled model."""
AMOUNTS = frozenset({"response_tokens"})
"""Outcomes other than shares: their slopes are in their own unit, all others' in points (hundredths)."""
SIGNED = frozenset({"compliance_beyond_neutral"})
"""Differences of two shares, from -1 to 1; all other outcomes except amounts are from 0 to 1."""
NOT_RANDOM = frozenset({"positive", "negative"})
"""Control sets that are not random: the strongest neurons of the sign that is not scaled."""
LEVEL = 0.05


class SweepError(ValueError):
    """Inconsistent outcomes; the message names them."""


@dataclass(frozen=True)
class Row:
    """Outcomes of one item at one alpha.

    Attributes:
        item: the question; the same at each alpha.
        alpha: the factor.
        outcomes: by name, of the answer with the neurons scaled and then of each control set, in one order
            throughout: 0 or 1, a share, or an amount; None where the outcome is not defined. At the baseline the
            first stands for all.
        series: reported separately: a prompt, a question set.
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
        values: by outcome `[1 + control sets, alphas, items]`, the neurons first; NaN = missing.
    """

    alphas: tuple[float, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Mapping[str, Floats] = field(repr=False)


def arrange(rows: Iterable[Row]) -> dict[str, Sweep]:
    """Sweeps by series, from rows in any order.

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
            if row.alpha == BASELINE_ALPHA:
                values[name][:, at, where] = numbers[0]  # there all sets are the unscaled model
            elif len(numbers) == 1 + len(kinds):
                values[name][:, at, where] = numbers
            else:
                raise SweepError(
                    f"{row.item} at alpha {row.alpha:g} has {len(numbers) - 1} control answers, expected {len(kinds)}"
                )
    return Sweep(tuple(alphas), tuple(items), tuple(clusters), kinds, values)


def dose_response(sweep: Sweep, headlines: Sequence[str]) -> dict[str, float]:
    """Metrics of a sweep: curves, differences to the baseline, slopes, and the same of control sets.

    Args:
        headlines: outcomes that are reported in full; of the others only curve, slope and the sets' slopes.

    Returns:
        `items`, `clusters`, `control_sets` (random ones) and `control_sets_<kind>`. Of each outcome:

        - `<outcome>@<alpha>` with a 95 % interval (`<outcome>_low@<alpha>`, `..._high@...`: Wilson for yes or no, else
          Student's t over clusters), and `<outcome>_items@<alpha>` where items lack it.
        - `<outcome>_slope` with interval: the mean over items that have the outcome at every alpha (`_slope_items`) of
          the least-squares slope of the item's own curve, in points per unit of alpha; `_slope_p_own` of no change,
          `_slope_detectable` (the minimum detectable slope at 80 % power) and, where no item changed,
          `_slope_changeable`, the largest share of items that can change (95 %).
        - `<outcome>_slope_missing0` and `_slope_missing1` with intervals, where an item lacks the outcome at some
          alphas: the slope with missing values counted as the minimum, and as the maximum (Manski 1989).
        - For each kind of random sets `_slope_<kind>` (median), `_slope_<kind>_low` and `_high` (minimum and maximum),
          and `_slope_p_<kind>`, the two-sided rank p; of all kinds together `_slope_control` with `_low` and `_high`,
          and `_slope_p_control`, the largest p of any kind (Berger 1982: an intersection-union test, so that its level
          is that of one test).
        - `_slope_p`: of an effect of these neurons: the largest of `_slope_p_own`, those of both bounds, and the p
          against each kind of sets in the direction of the slope.

        Of headlines also `<outcome>_difference@<alpha>` to the baseline (shares) with interval, `<outcome>_p@<alpha>`
        (sign flips of clusters, which is McNemar's exact test where items stand alone; Holm's correction over alphas),
        `<outcome>_detectable@<alpha>`, and the sets' differences `<outcome>_control@<alpha>` with `_low`, `_high` and
        `_p_control` (the largest of the kinds, not corrected).
    """
    random = {
        kind: [place for place, one in enumerate(sweep.kinds, start=1) if one == kind]
        for kind in dict.fromkeys(sweep.kinds)
        if kind not in NOT_RANDOM
    }
    found: dict[str, float] = {
        "items": len(sweep.items),
        "clusters": len(set(sweep.clusters)),
        "control_sets": sum(map(len, random.values())),
        **{f"control_sets_{kind}": len(places) for kind, places in random.items()},
    }
    if not sweep.items:
        return found
    curves = _Curves(sweep, random)
    for name in sweep.values:
        found |= curves.levels(name)
        found |= curves.slopes(name)
        if name in headlines:
            found |= curves.differences(name)
    return found


class _Curves:
    def __init__(self, sweep: Sweep, random: Mapping[str, Sequence[int]]) -> None:
        self.sweep, self.random = sweep, random
        self.clusters = np.unique(np.array(sweep.clusters), return_inverse=True)[1]
        self.single = len(set(sweep.clusters)) == len(sweep.items)
        alphas = np.array(sweep.alphas)
        self.line = (alphas - alphas.mean()) / max(float(((alphas - alphas.mean()) ** 2).sum()), 1e-12)
        self.base = sweep.alphas.index(BASELINE_ALPHA) if BASELINE_ALPHA in sweep.alphas else None

    def levels(self, name: str) -> dict[str, float]:
        """The curve of the neurons."""
        found: dict[str, float] = {}
        for alpha, values in zip(self.sweep.alphas, self.sweep.values[name][0], strict=True):
            present = np.isfinite(values)
            if not present.any():
                continue
            own = values[present]
            if self.single and name not in AMOUNTS | SIGNED and np.isin(own, (0, 1)).all():
                interval = wilson_interval(int(own.sum()), own.size)
            else:
                interval = mean_level(own, self.clusters[present], None if name in AMOUNTS else _range(name))
            found |= flat(name, interval, f"@{alpha:g}")
            if own.size < present.size:
                found[f"{name}_items@{alpha:g}"] = own.size
        return found

    def slopes(self, name: str) -> dict[str, float]:
        """The slope of the neurons, its bounds, and the slopes of the control sets."""
        values = self.sweep.values[name]  # [1 + sets, alphas, items]
        complete = np.asarray(np.isfinite(values).all(axis=1))  # [1 + sets, items]
        if len(self.sweep.alphas) < 2 or not complete[0].any():
            return {}
        own = self._slope(name, values[0][:, complete[0]], self.clusters[complete[0]])
        found = flat(f"{name}_slope", own.interval)
        found |= {f"{name}_slope_items": own.items, f"{name}_slope_p_own": own.p}
        for key, value in (("detectable", own.detectable), ("changeable", own.changeable)):
            if np.isfinite(value):
                found[f"{name}_slope_{key}"] = value
        tested = [own.p]
        known = np.asarray(np.isfinite(values[0]).any(axis=0))
        if name not in AMOUNTS and (known & ~complete[0]).any():
            for key, value in zip(("missing0", "missing1"), _range(name), strict=True):
                counted = np.where(np.isfinite(values[0]), values[0], value)[:, known]
                bound = self._slope(name, counted, self.clusters[known])
                found |= flat(f"{name}_slope_{key}", bound.interval)
                tested.append(bound.p if bound.estimate * own.estimate > 0 else 1.0)
        scale = 1.0 if name in AMOUNTS else 100.0
        of_items = np.einsum("a,sai->si", scale * self.line, np.where(np.isfinite(values), values, 0.0))
        with np.errstate(invalid="ignore"):
            slopes = (of_items * complete).sum(axis=1) / complete.sum(axis=1)
        # Rounded, so that a flat curve has a slope of 0 and not of 1e-15.
        slopes = np.round(slopes, 9)
        found |= self._against(f"{name}_slope", slopes)
        for kind in NOT_RANDOM & set(self.sweep.kinds):
            found[f"{name}_slope_{kind}"] = float(slopes[1 + self.sweep.kinds.index(kind)])
        beyond = [
            min(1.0, 2 * permutation_p(abs(slopes[0]), np.sign(slopes[0]) * sets))
            for sets in (slopes[places][np.isfinite(slopes[places])] for places in self.random.values())
            if sets.size and slopes[0]
        ]
        if f"{name}_slope_p_control" in found:
            found[f"{name}_slope_p"] = max(*tested, *beyond) if slopes[0] else 1.0
        return found

    def _slope(self, name: str, values: Floats, clusters: NDArray[np.int64]) -> Change:
        """Mean slope of complete curves `[alphas, items]`."""
        scale = 1.0 if name in AMOUNTS else 100.0
        of_items = np.round(scale * self.line @ values, 9)
        if name in AMOUNTS:
            return mean_change(of_items, clusters, None)
        low, high = _range(name)
        turned = scale * (high - low) * np.cumsum(self.line[::-1])[:-1]  # of an item that changes once, at any alpha
        return mean_change(of_items, clusters, float(turned.max()), float((turned**2).sum() / turned.sum()))

    def _against(self, name: str, means: Floats, at: str = "") -> dict[str, float]:
        """Median and range of random sets, and the two-sided rank p of the neurons among each kind."""
        found: dict[str, float] = {}
        tested = []
        for kind, places in self.random.items():
            sets = means[places][np.isfinite(means[places])]
            if not sets.size:
                continue
            tested.append(two_sided_p(float(means[0]), sets))
            if not at:
                found |= _spread(f"{name}_{kind}", sets, at) | {f"{name}_p_{kind}": tested[-1]}
        if tested:
            everything = means[[place for places in self.random.values() for place in places]]
            found |= _spread(f"{name}_control", everything[np.isfinite(everything)], at)
            found[f"{name}_p_control{at}"] = max(tested)
        return found

    def differences(self, name: str) -> dict[str, float]:
        """Each alpha against the baseline, paired by item."""
        if self.base is None:
            return {}
        values = self.sweep.values[name]
        found: dict[str, float] = {}
        tested: dict[float, float] = {}
        low, high = _range(name)
        for k, alpha in enumerate(self.sweep.alphas):
            apart = values[:, k] - values[:, self.base]  # [1 + sets, items]
            present = np.isfinite(apart)
            if k == self.base or not present[0].any():
                continue
            at, own, clusters = f"@{alpha:g}", apart[0][present[0]], self.clusters[present[0]]
            change = mean_change(own, clusters, None if name in AMOUNTS else high - low)
            found |= flat(f"{name}_difference", change.interval, at)
            with np.errstate(invalid="ignore", divide="ignore"):
                means = np.where(present, apart, 0.0).sum(axis=1) / present.sum(axis=1)
            found |= self._against(name, np.round(means, 12), at)
            tested[alpha] = sign_flip_p(own, clusters)
            if np.isin(own, (-1, 0, 1)).all():
                effect = design_effect(own, clusters)
                detectable = minimum_detectable_effect(own.size, change.changed / own.size, design_effect=effect)
                if np.isfinite(detectable):
                    found[f"{name}_detectable{at}"] = detectable
        for alpha, corrected in zip(tested, holm(list(tested.values())) if tested else (), strict=True):
            found[f"{name}_p@{alpha:g}"] = float(corrected)
        return found


def _range(name: str) -> tuple[float, float]:
    """Minimum and maximum of an outcome."""
    return (-1.0, 1.0) if name in SIGNED else (0.0, 1.0)


def _spread(name: str, sets: Floats, at: str) -> dict[str, float]:
    """Median and range of the control sets."""
    return {
        f"{name}{at}": float(np.median(sets)),
        f"{name}_low{at}": float(sets.min()),
        f"{name}_high{at}": float(sets.max()),
    }


def corrected(
    by_series: Mapping[str, Mapping[str, float]], headlines: Sequence[str], order: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Mark the primary outcome of a task and correct the other headlines for multiple testing.

    The primary outcome is the first headline that has a slope, in the first series that has it; it is tested alone.
    Holm's correction (1979) goes over all other headlines of all series.

    Args:
        by_series: as `dose_response` gives them.
        headlines: the most important first.
        order: series that come before others; the rest by name.

    Returns:
        `by_series` with `<outcome>_slope_primary` (1) of the one, and `<outcome>_slope_p_holm` and
        `<outcome>_slope_holm_over` (how many) of the others.
    """
    found = {series: dict(figures) for series, figures in by_series.items()}
    rank = {series: place for place, series in enumerate(order)}
    ordered = sorted(found, key=lambda series: (rank.get(series, len(rank)), series))
    tested = [(series, name) for name in headlines for series in ordered if f"{name}_slope" in found[series]]
    if not tested:
        return found
    (first, primary), *others = tested
    found[first][f"{primary}_slope_primary"] = 1.0
    others = [(series, name) for series, name in others if f"{name}_slope_p" in found[series]]
    p = holm([found[series][f"{name}_slope_p"] for series, name in others])
    for (series, name), value in zip(others, p, strict=True):
        found[series] |= {f"{name}_slope_p_holm": float(value), f"{name}_slope_holm_over": len(others)}
    return found


def smallest_p(sets: float) -> float:
    """Smallest two-sided p with so many random sets: 2 / (sets + 1)."""
    return min(1.0, 2 / (sets + 1))


def sets_needed(tests: int = 1, level: float = LEVEL) -> int:
    """Number of sets of a kind that can show `level` after Holm's correction over so many tests: 39 for one at .05."""
    return round(2 * tests / level) - 1


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
