"""Size and power of what is said of neuron sets: overlap, drift, the audits of length and relation, stability.

```sh
python benchmarks/validity_sets.py --trials 200
```

Everything goes through the shipped functions, on simulated contributions: standard deviations of a heavy tail, factors
that many neurons share, relations. Rates stand with Wilson 95 % intervals; the aim is in the same row. A test is
well made where its rate under a null is .05 or less, and an interval where it covers .93 or more. 200 trials take five
minutes of one core.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.audits import label_from_group
from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.analysis.drift import Drift
from hneurons_eval.analysis.drift_ranks import mean_rank_interval, rank_neurons
from hneurons_eval.analysis.length_audit import length_audit
from hneurons_eval.analysis.overlap import against_shuffled, overlap, sd_matched_overlap
from hneurons_eval.analysis.shuffled_labels import shuffled_labels
from hneurons_eval.models.controls import Activity
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.l1_path import fit_paths
from hneurons_eval.probe.l1_solver import smallest_useful_c
from hneurons_eval.probe.stability import STABLE, shuffled_stability, stability
from hneurons_eval.probe.training_sets import TrainingRows
from hneurons_eval.probe.variation import shuffled_selections

LAYOUT = NeuronLayout((500,) * 4)
ROWS, RELATIONS = 200, 10
MULTIPLE = 10.0
"""C, in multiples of the smallest that selects a neuron."""
SMALL, PLANTED = 0.05, 10
SHUFFLES, RESAMPLES = 19, 10


@dataclass(frozen=True)
class Rate:
    """How often something was said: `hits` of `trials`; `aim` is what it should be, in words."""

    name: str
    hits: int
    trials: int
    aim: str

    def record(self) -> dict[str, float | str]:
        """As JSON, with the Wilson 95 % interval."""
        found = wilson_interval(self.hits, self.trials)
        return {"rate": found.estimate, "low": found.low, "high": found.high, "trials": self.trials, "aim": self.aim}


def contributions(seed: int, rows: int = ROWS) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Contributions float32 `[rows, neurons]`, and the relation of each row `[rows]`."""
    rng = np.random.default_rng(seed)
    deviation = np.exp(rng.normal(-7, 1.2, LAYOUT.total))
    relation = np.arange(rows) % RELATIONS
    factors = np.column_stack([rng.normal(size=(rows, 5)), np.eye(RELATIONS)[relation] * np.sqrt(RELATIONS)])
    loadings = rng.normal(size=(factors.shape[1], LAYOUT.total)) * np.sqrt(0.2 / factors.shape[1])
    own = rng.normal(size=(rows, LAYOUT.total)) * np.sqrt(0.8)
    return ((factors @ loadings + own) * deviation).astype(np.float32), relation


def balanced(relation: NDArray[np.int64], seed: int, count: int = 1) -> NDArray[np.int64]:
    """Label vectors with half of each relation hallucinated, int64 `[count, rows]`."""
    return shuffled_labels(np.arange(len(relation)) // RELATIONS % 2, None, relation, count, seed)


def c_for(X: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    """The C of the trials on these rows."""
    return MULTIPLE * smallest_useful_c(X, y.astype(float), np.ones(len(y)))


def chosen(coef: NDArray[np.float64]) -> NeuronSet:
    """The neurons of a fit, with their weights."""
    flat = np.flatnonzero(coef)
    return NeuronSet.from_flat(flat, LAYOUT, coef[flat])


def overlaps(trials: int) -> Iterator[Rate]:
    """Two probes on the same answers: labels shuffled independently, and halves of answers with planted neurons."""
    from scipy.stats import hypergeom

    counts: dict[str, int] = dict.fromkeys(("p", "larger", "positive", "uniform", "matched"), 0)
    for trial in range(trials):
        X, relation = contributions(trial)
        labels = balanced(relation, trial, 2)
        C = c_for(X, labels[0])
        first, second = (chosen(path.weights(0)) for path in fit_paths(X, labels, np.ones(labels.shape), [C]))
        shuffled = [
            shuffled_selections(TrainingRows.of_answers(X, y, relation), C, SHUFFLES, 10_000 + 2 * trial + k)
            for k, y in enumerate(labels)
        ]
        ps = [against_shuffled(first, second, shuffled[0]).p, against_shuffled(second, first, shuffled[1]).p]
        counts["p"] += ps[0] <= SMALL
        counts["larger"] += max(ps) <= SMALL
        counts["positive"] += against_shuffled(first.positive, second.positive, shuffled[0], "positive").p <= SMALL
        both = overlap(first, second)
        counts["uniform"] += float(hypergeom.sf(both.shared - 1, both.total, both.first, both.second)) <= SMALL
        matched = sd_matched_overlap(first, second, X.std(axis=0), trial)
        counts["matched"] += both.shared + both.opposite > matched.high
    yield Rate("overlap, null: p of one probe <= .05", counts["p"], trials, "<= .05")
    yield Rate("overlap, null: verdict (larger p)", counts["larger"], trials, "<= .05")
    yield Rate("overlap, null: p of positive weights", counts["positive"], trials, "<= .05")
    yield Rate("overlap, null: above the middle 95 % of sd-matched sets", counts["matched"], trials, "shown without p")
    yield Rate("overlap, null: hypergeometric p (no longer shown)", counts["uniform"], trials, "why it is gone")
    found = 0
    for trial in range(trials // 4):
        X, relation = contributions(trial, 2 * ROWS)
        y = balanced(relation, trial)[0]
        planted = np.argsort(-X.std(axis=0))[20 : 20 + 4 * PLANTED : 4]
        X[:, planted] += y[:, None] * X[:, planted].std(axis=0)
        halves = [slice(0, ROWS), slice(ROWS, None)]
        C = c_for(X[:ROWS], y[:ROWS])
        sets = [chosen(fit_paths(X[half], y[half], np.ones((1, ROWS)), [C])[0].weights(0)) for half in halves]
        stored = [
            shuffled_selections(TrainingRows.of_answers(X[half], y[half], relation[half]), C, SHUFFLES, trial)
            for half in halves
        ]
        ps = [against_shuffled(sets[k], sets[1 - k], stored[k]).p for k in (0, 1)]
        found += max(ps) <= SMALL
    yield Rate(f"overlap, {PLANTED} planted neurons: verdict", found, trials // 4, "power")


def drifts(trials: int) -> Iterator[Rate]:
    """Mean rank of few neurons: coverage, and p where strength moves neurons."""
    shapes = {"even": (1, 1), "low": (2, 5), "two-sided": (0.5, 0.5), "skewed": (0.3, 1.5), "high": (5, 1)}
    for size in (6, 13, 47):
        for name, (a, b) in shapes.items():
            rng = np.random.default_rng(size)
            covered = 0
            for _ in range(5 * trials):
                found = mean_rank_interval(rng.beta(a, b, size))
                covered += found.low <= a / (a + b) <= found.high
            yield Rate(f"drift, interval, {size} neurons, ranks {name}", covered, 5 * trials, ">= .93")
    for size in (6, 47):
        counts: dict[str, int] = dict.fromkeys(("alike", "strong", "uniform", "moved"), 0)
        for trial in range(trials):
            rng = np.random.default_rng(trial)
            strength = np.exp(rng.normal(size=LAYOUT.total))
            noise = rng.normal(size=LAYOUT.total)
            weights = strength / strength.sum()
            own = np.sort(rng.choice(LAYOUT.total, size, replace=False, p=weights))  # strong neurons are chosen
            neurons = NeuronSet.from_flat(own, LAYOUT)
            activity = Activity(strength, strength)
            for name, moved in (("alike", noise), ("strong", np.log(strength) + noise)):
                drift = Drift("a", "b", LAYOUT, {"up": moved, "down": moved})
                ranking = rank_neurons(drift, neurons, 99, trial, activity)
                counts[name] += ranking.p <= SMALL
                counts["uniform"] += name == "strong" and ranking.tests["uniform"].p <= SMALL
            noise[own] += 1.5
            moved = Drift("a", "b", LAYOUT, {"up": noise, "down": noise})
            counts["moved"] += rank_neurons(moved, neurons, 99, trial, activity).p <= SMALL
        yield Rate(f"drift, null, {size} neurons: verdict", counts["alike"], trials, "<= .05")
        yield Rate(f"drift, strong neurons move more, {size}: verdict", counts["strong"], trials, "<= .05")
        yield Rate(f"drift, strong neurons move more, {size}: p (uniform)", counts["uniform"], trials, "why not alone")
        yield Rate(f"drift, {size} neurons moved by 1.5 sd: verdict", counts["moved"], trials, "power")


def audits(trials: int) -> Iterator[Rate]:
    """The audits of length and relation where neither, only truth, only length, or both matter."""
    rows = 400
    signs = np.array([1, -1] * 8)
    cases = {
        "neither matters": (0.0, 0.0, 0.0, "<= .05"),
        "only truth matters": (0.7, 0.0, 0.0, "<= .05"),
        "length moves neurons and tells no label": (0.0, 0.7, 0.0, "flag wanted"),
        "only length matters": (0.0, 0.7, 2.0, "flag wanted"),
        "truth and length matter": (0.7, 0.7, 2.0, "flag wanted"),
    }
    for name, (truth, length, longer, aim) in cases.items():
        flagged, coin = 0, 0
        for trial in range(trials):
            rng = np.random.default_rng(trial)
            y = rng.integers(0, 2, rows)
            lengths = rng.poisson(6, rows) + 1 + rng.poisson(longer, rows) * y
            scaled = (lengths - lengths.mean()) / lengths.std()
            half = signs * (np.arange(16) < 8)  # the other eight neurons follow neither
            X = rng.normal(size=(rows, 16)) + half * (truth * y + length * scaled)[:, None]
            found = length_audit(y, lengths, np.arange(rows), X @ half, X, trial)
            flagged += found.flagged
            coin += 2 * found.figures["moved_more_by_length"] > 16
        yield Rate(f"length audit, {name}", flagged, trials, aim)
        if name == "neither matters":
            yield Rate(f"length audit, {name}: more than half moved more by length", coin, trials, "why it is gone")
    told, free = 0, 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        groups = rng.integers(0, 12, rows)
        names = [str(group) for group in groups]
        free += label_from_group(rng.integers(0, 2, rows), names, "relation", seed=trial).flagged
        shares = np.clip(0.5 + 0.15 * rng.normal(size=12), 0.05, 0.95)[groups]
        told += label_from_group((rng.random(rows) < shares).astype(int), names, "relation", seed=trial).flagged
    yield Rate("relation audit, relation says nothing", free, trials, "<= .05")
    yield Rate("relation audit, shares vary by .15 (sd)", told, trials, "flag wanted")


def stabilities(trials: int) -> Iterator[Rate]:
    """Neurons called stable where labels are shuffled, and whether the shuffled count says so beforehand."""
    stable, total, foretold, inside, planted_stable = 0, 0, 0.0, 0, 0
    for trial in range(trials):
        X, relation = contributions(trial)
        y = balanced(relation, trial)[0]
        rows = TrainingRows.of_answers(X, y, relation)
        C = c_for(X, y)
        coef = fit_paths(X, y, np.ones((1, ROWS)), [C])[0].weights(0)
        own = int((stability(rows, C, coef, RESAMPLES, trial)[coef != 0] > STABLE).sum())
        null = shuffled_stability(rows, C, SHUFFLES, RESAMPLES, 50_000 + trial)
        stable, total, foretold = stable + own, total + int((coef != 0).sum()), foretold + float(null.stable.mean())
        inside += own > null.stable.max()
        if trial < trials // 4:
            planted = np.argsort(-X.std(axis=0))[20 : 20 + 4 * PLANTED : 4]
            moved = X.copy()
            moved[:, planted] += y[:, None] * X[:, planted].std(axis=0)
            coef = fit_paths(moved, y, np.ones((1, ROWS)), [C])[0].weights(0)
            share = stability(replace(rows, X=moved), C, coef, RESAMPLES, trial)
            planted_stable += int((share[planted] > STABLE).sum())
    yield Rate("stability, null: share of chosen neurons called stable", stable, total, "no error control")
    yield Rate("stability, null: the same, as shuffles foretell", round(foretold), total, "alike")
    yield Rate("stability, null: more stable than in any of 19 shuffles", inside, trials, "<= .05")
    yield Rate("stability, planted neurons called stable", planted_stable, PLANTED * (trials // 4), "power")


def main() -> None:
    """Run all trials and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--out", type=Path, help="JSON file of the rates")
    options = parser.parse_args()
    records: dict[str, dict[str, float | str]] = {}
    for part in (overlaps, drifts, audits, stabilities):
        began = time.monotonic()
        for rate in part(options.trials):
            records[rate.name] = found = rate.record()
            interval = f"{found['rate']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
            print(f"{rate.name:62} {interval:24} {rate.trials:6}  {rate.aim}", flush=True)
        print(f"  {part.__name__}: {time.monotonic() - began:.0f} s", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
