"""How often the verdicts of sweeps are right: planted nulls and planted effects, through the shipped functions.

    python benchmarks/validity_sweeps.py                  # 400 trials of each scene, two minutes on a core
    python benchmarks/validity_sweeps.py --trials 200 --seed 7

Each scene makes the outcomes of a sweep over three alphas (0, 1, 3) from a model of answers, runs
`dose_response`, `corrected` and `verdict` on them, and counts: how often each p is at most .05, how often each interval
covers the true value, how often each verdict is given. Rates have Wilson's 95 % intervals. Under a null, a rate of
rejection must be consistent with 5 % or less; intervals should cover 93 % or more.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.analysis.dose_response import Row, Sweep, arrange, corrected, dose_response
from hneurons_eval.report.verdicts import VERDICTS, verdict

Floats = NDArray[np.float64]
ALPHAS = (0.0, 1.0, 3.0)
SETS = 39
ITEMS = 50


@dataclass(frozen=True)
class Scene:
    """A planted truth.

    Attributes:
        name: for the table.
        make: from a generator to a sweep, and the true slope of the neurons.
        null: whether a verdict of `effect` would be wrong.
    """

    name: str
    make: Callable[[np.random.Generator], tuple[Sweep, float]]
    null: bool


@dataclass(frozen=True)
class Rate:
    """How often something happened: the scene, what, the rate with its interval, of how many trials."""

    scene: str
    what: str
    rate: float
    low: float
    high: float
    trials: int

    @classmethod
    def of(cls, scene: str, what: str, happened: Sequence[bool]) -> "Rate":
        rate, low, high = wilson_interval(sum(happened), len(happened))
        return cls(scene, what, rate, low, high, len(happened))


# --- answers ---------------------------------------------------------------------------------------------


def answers(
    rng: np.random.Generator, probability: Floats, noise: float, clusters: int = 1, items: int = ITEMS
) -> Floats:
    """Outcomes 0 or 1, `[conditions, alphas, items]`, that mostly stay as they are at alpha 1.

    An answer changes with alpha where its probability passes the item's own threshold, and besides by chance.

    Args:
        rng: of all that is drawn.
        probability: of a 1, `[conditions, alphas]`.
        noise: share of the answers that are drawn anew at a factor other than 1.
        clusters: so many items belong together; of several, four in five of what changes by chance is common.
        items: how many.
    """
    shape = (*probability.shape, items)
    member = np.arange(items) // clusters
    common = rng.random(shape) < (0.8 if clusters > 1 else 0.0)

    def uniform() -> Floats:
        of_clusters = rng.random((*probability.shape, member.max() + 1))[:, :, member]
        return np.where(common, of_clusters, rng.random(shape))

    found = (rng.random(items) < probability[:, :, None]).astype(float)
    redrawn = (uniform() < probability[:, :, None]).astype(float)
    anew = (uniform() < noise) & (np.array(ALPHAS) != 1)[:, None]
    return np.where(anew, redrawn, found)


def sweep_of(
    outcomes: Mapping[str, Floats], kinds: Sequence[str] = ("contribution",) * SETS, clusters: int = 1
) -> Sweep:
    """Outcomes `[1 + sets, alphas, items]`, NaN where not defined, as a sweep; by way of `arrange`."""
    items = next(iter(outcomes.values())).shape[2]
    rows = [
        Row(
            f"q{item}",
            alpha,
            {
                name: [None if np.isnan(v) else float(v) for v in values[: 1 if alpha == 1 else None, k, item]]
                for name, values in outcomes.items()
            },
            cluster=f"c{item // clusters}",
            kinds=() if alpha == 1 else kinds,
        )
        for item in range(items)
        for k, alpha in enumerate(ALPHAS)
    ]
    return arrange(rows)[""]


def probabilities(slopes: Floats, base: float = 0.5) -> Floats:
    """Probability of a 1 at each alpha, `[conditions, alphas]`, of conditions with these slopes in points."""
    return np.clip(base + slopes[:, None] / 100 * (np.array(ALPHAS) - 1), 0, 1)


def slopes_of_sets(rng: np.random.Generator, sd: float, number: int = SETS, mean: float = 0.0) -> Floats:
    return rng.normal(mean, sd, number)


def plain(own: float, sd: float, noise: float = 0.2, mean: float = 0.0) -> Callable[..., tuple[Sweep, float]]:
    """The neurons have one slope; those of the sets scatter around a mean."""

    def make(rng: np.random.Generator) -> tuple[Sweep, float]:
        slopes = np.array([own, *slopes_of_sets(rng, sd, mean=mean)])
        return sweep_of({"compliance": answers(rng, probabilities(slopes), noise)}), own

    return make


def exchangeable(rng: np.random.Generator) -> tuple[Sweep, float]:
    """The neurons are one more contribution-matched set, which move answers; uniform and layer-matched sets do less."""
    strong, weak = slopes_of_sets(rng, 6, SETS + 1), slopes_of_sets(rng, 1, 2 * SETS)
    kinds = ("contribution",) * SETS + ("uniform",) * SETS + ("layer",) * SETS
    slopes = np.concatenate([strong, weak])
    return sweep_of({"compliance": answers(rng, probabilities(slopes), 0.1)}, kinds), float(strong[0])


def harmful(rng: np.random.Generator) -> tuple[Sweep, float]:
    """The neurons are one of the sets, all of which cost something."""
    slopes = slopes_of_sets(rng, 2, SETS + 1, mean=-8)
    return sweep_of({"compliance": answers(rng, probabilities(slopes, 0.7), 0.1)}), float(slopes[0])


def broken(lost: float) -> Callable[..., tuple[Sweep, float]]:
    """The neurons change no verdict, but make three in ten of one kind of answer (0 or 1) unparsable at alpha 3."""

    def make(rng: np.random.Generator) -> tuple[Sweep, float]:
        values = answers(rng, probabilities(np.zeros(1 + SETS)), 0.0)
        gone = (values[0, 2] == lost) & (rng.random(ITEMS) < 0.3)
        unparsed = np.zeros_like(values)
        values[0, 2, gone], unparsed[0, 2, gone] = np.nan, 1.0
        return sweep_of({"compliance": values, "unparsed": unparsed}), 0.0

    return make


def clustered(rng: np.random.Generator) -> tuple[Sweep, float]:
    """Five prompts of each of thirty questions, whose changes are mostly common."""
    values = answers(rng, probabilities(np.zeros(1 + SETS)), 0.4, clusters=5, items=150)
    return sweep_of({"compliance": values}, clusters=5), 0.0


SCENES = (
    Scene("inert: nothing changes", plain(0, 0, noise=0.0), True),
    Scene("inert: answers change by chance", plain(0, 0), True),
    Scene("exchangeable with contribution-matched sets", exchangeable, True),
    Scene("exchangeable with sets that all harm", harmful, True),
    Scene("broken: 1 becomes unparsable", broken(1.0), True),
    Scene("broken: 0 becomes unparsable", broken(0.0), True),
    Scene("clusters of five, changes in common", clustered, True),
    Scene("less than the sets", plain(0, 1, noise=0.05, mean=-15), True),
    Scene("effect of 6 points", plain(6, 1), False),
    Scene("effect of 12 points", plain(12, 1), False),
    Scene("effect of 12 points, against the sets", plain(12, 1, mean=-5), False),
)


def trials(count: int, seed: int = 0, scenes: Sequence[Scene] = SCENES) -> list[Rate]:
    """Rejections, coverage and verdicts in `count` trials of each scene."""
    found: list[Rate] = []
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng([seed, number])
        happened: dict[str, list[bool]] = {}
        for _ in range(count):
            sweep, truth = scene.make(rng)
            figures = corrected({"": dose_response(sweep, ["compliance"])}, ["compliance"])[""]
            for what, true in _observed(figures, truth, scene).items():
                happened.setdefault(what, []).append(true)
        found += [Rate.of(scene.name, what, own) for what, own in happened.items()]
    return found


def _observed(figures: Mapping[str, float], truth: float, scene: Scene) -> dict[str, bool]:
    name = "compliance_slope"
    kind = verdict(figures, "compliance")[0]
    found = {f"verdict {one}": kind == one for one in VERDICTS}
    found["p of an effect <= .05"] = figures[f"{name}_p"] <= 0.05
    found["p (sets), hardest kind <= .05"] = figures[f"{name}_p_control"] <= 0.05
    found |= {
        f"p ({one}) <= .05": figures[f"{name}_p_{one}"] <= 0.05
        for one in ("uniform", "layer", "contribution")
        if f"{name}_p_{one}" in figures
    }
    if truth == 0 and scene.null:
        found["p of the slope <= .05"] = figures[f"{name}_p_own"] <= 0.05
        found["p (paired, Holm) <= .05 at any alpha"] = (
            min(figures["compliance_p@0"], figures["compliance_p@3"]) <= 0.05
        )
    if not scene.name.startswith("broken"):
        found["interval covers the slope"] = figures[f"{name}_low"] - 1e-9 <= truth <= figures[f"{name}_high"] + 1e-9
    return found


# --- power of what is called detectable --------------------------------------------------------------------


def detectable_power(count: int, seed: int = 0, sizes: Sequence[int] = (10, 16, 25, 50, 100, 200)) -> list[Rate]:
    """How often a slope, and a difference, of the size that a null sample calls detectable is then seen.

    Five samples with an effect for each of `count` null samples. The slopes are of seven alphas, between which items
    turn anywhere; the differences are of one alpha.
    """
    found = []
    seven, two = np.arange(7) / 2, np.array([1.0, 3.0])
    for size in sizes:
        for noise in (0.0, 0.05):
            rng = np.random.default_rng([seed, size, round(100 * noise)])
            seen: dict[str, list[bool]] = {"slope": [], "difference": []}
            for _ in range(count):
                figures = dose_response(_turned(rng, size, 0.0, noise, seven), [])
                slope = figures.get("x_slope_detectable", np.nan)
                figures = dose_response(_turned(rng, size, 0.0, noise, two), ["x"])
                difference = figures.get("x_detectable@3", np.nan)
                for _ in range(5):
                    if slope / _turned_slope(seven) <= 1:
                        own = dose_response(_turned(rng, size, slope / _turned_slope(seven), noise, seven), [])
                        seen["slope"].append(own["x_slope_low"] > 0)
                    if difference <= 1:
                        own = dose_response(_turned(rng, size, difference, noise, two), ["x"])
                        seen["difference"].append(own["x_p@3"] <= 0.05 and own["x_difference@3"] > 0)
            found += [
                Rate.of(
                    f"{size} questions, {100 * noise:.0f} % of answers by chance", f"detectable {what} is seen", own
                )
                for what, own in seen.items()
                if own
            ]
    return found


def coverage(count: int, seed: int = 0, sizes: Sequence[int] = (10, 20, 50, 200)) -> list[Rate]:
    """How often the interval of the slope covers it where few or many of few or many items turn from 0 to 1."""
    found, alphas = [], np.arange(7) / 2
    for size in sizes:
        for share in (0.02, 0.1, 0.3, 0.6):
            rng = np.random.default_rng([seed, size, round(100 * share)])
            truth, covered = share * _turned_slope(alphas), []
            for _ in range(count):
                own = dose_response(_turned(rng, size, share, 0.0, alphas), [])
                covered.append(own["x_slope_low"] <= truth <= own["x_slope_high"])
            found.append(Rate.of(f"{100 * share:.0f} % of {size} items turn", "interval covers the slope", covered))
    return found


def _turned_slope(alphas: Floats) -> float:
    """The mean slope of an item that turns from 0 to 1 after any of the alphas but the last, in points."""
    apart = alphas - alphas.mean()
    return float(np.mean([100 * apart[k:].sum() / (apart**2).sum() for k in range(1, len(alphas))]))


def _turned(rng: np.random.Generator, items: int, share: float, noise: float, alphas: Floats) -> Sweep:
    """A share of the items turns from 0 to 1 between two alphas; of the others answers change by chance, both ways."""
    values = np.repeat((rng.random(items) < 0.5).astype(float)[None], len(alphas), axis=0)
    by_chance = (rng.random(values.shape) < noise) & (alphas != 1)[:, None]
    values = np.where(by_chance, 1 - values, values)
    after = rng.integers(1, len(alphas), items)
    turned = (np.arange(len(alphas))[:, None] >= after).astype(float)
    values = np.where(rng.random(items) < share, turned, values)
    return Sweep(
        tuple(alphas.tolist()), tuple(map(str, range(items))), tuple(map(str, range(items))), (), {"x": values[None]}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="also write the rates there")
    args = parser.parse_args()
    rates = trials(args.trials, args.seed) + coverage(args.trials, args.seed)
    rates += detectable_power(args.trials // 2, args.seed)
    scene = ""
    for rate in rates:
        if not rate.rate and rate.what.startswith("verdict"):
            continue
        if rate.scene != scene:
            scene = rate.scene
            print(f"\n{scene} ({rate.trials} trials)")
        print(f"  {rate.what:40} {rate.rate:.3f} [{rate.low:.3f}, {rate.high:.3f}]")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump([vars(rate) for rate in rates], file, indent=1)


if __name__ == "__main__":
    main()
