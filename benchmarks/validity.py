"""A self-test of the statistics: size and power of every p-value and verdict, and coverage of every interval.

    python benchmarks/validity.py                    # 200 trials of each; hours on two cores. Rewrites docs/validity.md
    python benchmarks/validity.py --only sweeps      # probe, sets, sweeps or criterion alone
    python benchmarks/validity.py --trials 4 --dry   # a few trials, to see that all of it runs; writes nothing

The whole search and every verdict run on planted effects and planted nulls: shuffled labels, neurons that are all worth
the same, inert and harmful interventions, broken answers, clusters. Under a null a p or a verdict should be right in
95 % of trials or more; an interval of 95 % should cover in 93 % or more. What does not is marked.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import validity_probe
import validity_sets
import validity_sweeps

from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.probe.nested_cv import Search
from hneurons_eval.probe.training_sets import Answers, TrainingSet
from hneurons_eval.util.markdown import table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "validity.md"
RECORD = PAGE.with_suffix(".json")
START, END = "<!-- {}: written by benchmarks/validity.py -->", "<!-- end of {} -->"
ROWS, NEURONS = 144, 240
NULL, COVERS, POWER = "at most .05", "at least .93", ""


@dataclass(frozen=True)
class Rate(validity_sweeps.Rate):
    """A rate and what is aimed at."""

    aim: str = POWER

    @property
    def missed(self) -> bool:
        """Whether the interval of the rate lies beyond the aim."""
        return (self.aim == NULL and self.low > 0.05) or (self.aim == COVERS and self.high < 0.93)


def probe_rates(trials: int, workers: int) -> list[Rate]:
    """The whole search on simulated answers."""
    found: list[Rate] = []
    with ProcessPoolExecutor(workers) as pool:
        for scene, nulls in validity_probe.NULLS.items():
            count = trials if nulls else max(trials // 4, 1)  # power needs no great precision
            jobs = [pool.submit(validity_probe.one_trial, scene, ROWS, NEURONS, seed) for seed in range(count)]
            happened: dict[str, list[float]] = {}
            for job in jobs:
                for what, value in job.result().items():
                    happened.setdefault(what, []).append(value)
            for what, values in happened.items():
                if what == "neurons":
                    continue
                covers = what.startswith("coverage")
                null = any(what.split(": ", 1)[1].startswith(start) for start in nulls)
                own = wilson_interval(int(sum(values)), len(values))
                aim = COVERS if covers else NULL if null else POWER
                found.append(Rate(scene, what, own.estimate, own.low, own.high, len(values), aim))
    return found


def sets_rates(trials: int, workers: int) -> list[Rate]:
    """Overlap, drift, audits and stability."""
    parts = (validity_sets.overlaps, validity_sets.drifts, validity_sets.audits, validity_sets.stabilities)
    found = []
    for part in parts:
        for rate in part(trials):
            own = rate.record()
            aim = {"<= .05": NULL, ">= .93": COVERS}.get(str(own["aim"]), str(own["aim"]))
            found.append(
                Rate(
                    part.__name__,
                    rate.name,
                    float(own["rate"]),
                    float(own["low"]),
                    float(own["high"]),
                    rate.trials,
                    aim,
                )
            )
    return found


def sweep_rates(trials: int, workers: int) -> list[Rate]:
    """Verdicts, p-values and intervals of sweeps."""
    rates = validity_sweeps.trials(trials) + validity_sweeps.coverage(trials)
    rates += validity_sweeps.detectable_power(max(trials // 2, 1))
    nulls = {scene.name for scene in validity_sweeps.SCENES if scene.null}
    found = []
    for rate in rates:
        wrong = rate.scene in nulls and (rate.what == "verdict effect" or rate.what.startswith("p "))
        # Easy kinds are shown for comparison; the verdict rests on the hardest.
        easy = rate.what.startswith(("p (uniform)", "p (layer)"))
        aim = COVERS if "covers" in rate.what else "no verdict" if wrong and easy else NULL if wrong else POWER
        if rate.rate or not rate.what.startswith("verdict"):
            found.append(Rate(**vars(rate), aim=aim))
    return found


# --- the choice of C -----------------------------------------------------------------------------------------


def criterion(trials: int, workers: int) -> list[dict[str, float | str]]:
    """How much the number of neurons and the AUROC vary over bootstrap samples, by how C is chosen."""
    found = []
    for scene in ("planted", "redundant"):
        chosen: dict[str, list[tuple[float, float]]] = {}
        for number in range(max(trials // 20, 1)):
            for rule, pairs in _resampled(scene, number, min(trials, 20)).items():
                chosen.setdefault(rule, []).extend(pairs)
        for rule, pairs in chosen.items():
            sizes, aurocs = np.array(pairs).T
            found.append(
                {
                    "scene": scene,
                    "C by": rule,
                    "neurons, median": float(np.median(sizes)),
                    "5 % to 95 %": "{:.0f} to {:.0f}".format(*np.quantile(sizes, [0.05, 0.95])),
                    "sd of log": float(np.log(np.maximum(sizes, 1)).std()),
                    "AUROC, left out": float(aurocs.mean()),
                    "sd": float(aurocs.std()),
                }
            )
    return found


def _resampled(scene: str, seed: int, samples: int) -> dict[str, list[tuple[float, float]]]:
    """Number of neurons and AUROC on answers left out, for each rule and bootstrap sample of one population."""
    rng = np.random.default_rng(seed)
    X, y, _, _ = validity_probe.world(scene, 800, seed).draw(320, rng)
    groups = np.array([f"{one}" for one in np.arange(len(y)) // 2])  # pairs of questions
    search = Search(Answers(X, y, groups), validity_probe.SETTINGS)
    found: dict[str, list[tuple[float, float]]] = {"log-loss, parabola (auto)": [], "accuracy, maximum (paper)": []}
    names, member = np.unique(groups, return_inverse=True)
    for _ in range(samples):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member]
        rows, left_out = np.flatnonzero(times), np.flatnonzero(times == 0)
        inner = [rows[part] for part in grouped_folds(y[rows], groups[rows], 3, 1)]
        fit = TrainingSet(times > 0, inner, times.astype(float))
        fit.path, fit.inner_decisions = search.fit_one(fit, search.grid(fit.weights))
        accuracies, _, _ = search.held_out(fit)
        usable = fit.fitted_path.n_positive > 0
        best = int(np.argmax(np.where(usable, accuracies, -np.inf)))
        for rule, k in zip(found, (search.best(fit, None), best), strict=True):
            value = auroc(y[left_out], search.decisions(fit.fitted_path)[k, left_out])
            found[rule].append((float(fit.fitted_path.n_nonzero[k]), value))
    return found


# --- the page --------------------------------------------------------------------------------------------------


def rates_table(rates: Sequence[Rate]) -> str:
    """Rates as markdown, those beyond their aim in bold; single p-values without an aim are left to the record."""
    rows = []
    for one in rates:
        if not one.aim and ("p of" in one.what or one.what.split(": ")[-1].startswith(("interval of", "over "))):
            continue
        value = f"{one.rate:.3f} [{one.low:.3f}, {one.high:.3f}]"
        rows.append([one.scene, one.what, f"**{value}**" if one.missed else value, str(one.trials), one.aim])
    return table(["scene", "what", "rate", "trials", "aim"], rows)


def criterion_table(found: Sequence[dict[str, float | str]]) -> str:
    """The choice of C as markdown."""
    rows = [[value if isinstance(value, str) else f"{value:.3g}" for value in one.values()] for one in found]
    return table(list(found[0]), rows)


def write(part: str, text: str) -> None:
    """Replace a part of the page."""
    page = PAGE.read_text(encoding="utf-8")
    start, end = START.format(part), END.format(part)
    before, rest = page.split(start)
    PAGE.write_text(f"{before}{start}\n\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


PARTS: dict[str, Callable[[int, int], Sequence[Rate]]] = {
    "sweeps": sweep_rates,
    "sets": sets_rates,
    "probe": probe_rates,
}


def main() -> None:
    """Run the parts, print their tables, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--only", choices=[*PARTS, "criterion"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    for part in [options.only] if options.only else [*PARTS, "criterion"]:
        if part == "criterion":
            found = criterion(options.trials, options.workers)
            text, record[part] = criterion_table(found), found
        else:
            rates = PARTS[part](options.trials, options.workers)
            text, record[part] = rates_table(rates), [asdict(rate) for rate in rates]
        print(f"\n{part}\n{text}", flush=True)
        if not options.dry:
            write(part, text)
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
