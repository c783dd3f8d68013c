"""The whole search for neurons on planted nulls and planted effects: size, power and coverage of what `probe` reports.

Features are simulated like contributions: deviations over three orders of magnitude, neurons that move together, and
relations that some neurons code for. Labels are balanced within relations. Scenarios:

* `null`: labels drawn at random. Nothing can be detected, nothing added, and no neurons are better than others.
* `exchangeable`: every neuron tells the label as well as any other, with noise of its own. The probe detects; whether
  its neurons are better than sets of equal size is a null.
* `redundant`: the label is what a scalar tells and what neurons tell is a noisy copy of that scalar. The probe detects
  and adds nothing.
* `planted`: twelve neurons tell the label, and no scalar does: an effect for all three questions.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import Detected, detection, null_aurocs
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.probe.baseline_classifiers import Scores
from hneurons_eval.probe.nested_cv import Identified, Search
from hneurons_eval.probe.settings import Settings
from hneurons_eval.probe.training_sets import Answers
from hneurons_eval.probe.variation import label_null
from hneurons_eval.report.detection import verdicts

Floats = NDArray[np.float64]
RELATIONS = 6
SETS = ("p of the probe's neurons", "p of the positive neurons", "verdict better neurons")
NULLS: dict[str, tuple[str, ...]] = {
    "null": ("p of detection", "interval of AUROC", "interval of what", "over relations", "verdict", *SETS),
    "exchangeable": SETS,
    "redundant": ("interval of what", "over relations", "verdict adds"),
    "planted": (),
}
"""Claims that would be wrong, by scenario."""
SETTINGS = Settings(mode="1-vs-1", folds=RELATIONS, controls=39, resamples=2, repeats=0)


@dataclass(frozen=True)
class World:
    """A population of answers.

    Attributes:
        neurons: how many there are.
        draw: answers of it: contributions `[rows, neurons]`, labels, relations and a scalar, `[rows]` each.
    """

    neurons: int
    draw: Callable[[int, np.random.Generator], tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], Floats]]


def world(scenario: str, neurons: int, seed: int) -> World:
    """A population of one of the scenarios."""
    rng = np.random.default_rng(seed)
    deviation = np.exp(rng.normal(-7, 1.2, neurons))
    # Where all neurons are to be worth the same they must not share noise: a set that cancels it would be better.
    shared = 0.0 if scenario == "exchangeable" else 0.2
    loadings = rng.normal(size=(3 + RELATIONS, neurons)) * np.sqrt(shared / (3 + RELATIONS))
    told = np.zeros(neurons)
    if scenario == "planted":
        told[rng.choice(np.argsort(-deviation)[: neurons // 4], 12, replace=False)] = 0.45
    elif scenario in ("exchangeable", "redundant"):
        told[:] = 0.25
    told *= rng.choice([-1.0, 1.0], neurons)

    def draw(
        rows: int, own: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], Floats]:
        relation = np.arange(rows) % RELATIONS
        y = (np.arange(rows) // RELATIONS + relation) % 2
        scalar = own.normal(size=rows) + (1.2 * (y - 0.5) if scenario == "redundant" else 0.0)
        signal = scalar if scenario == "redundant" else 2.0 * (y - 0.5)
        if scenario == "null":
            signal = np.zeros(rows)
        factors = np.column_stack([own.normal(size=(rows, 3)), np.eye(RELATIONS)[relation] * np.sqrt(RELATIONS)])
        X = factors @ loadings + own.normal(size=(rows, neurons)) + signal[:, None] * told
        return (X * deviation).astype(np.float32), y.astype(np.int64), relation, scalar

    return World(neurons, draw)


def one_trial(scenario: str, rows: int, neurons: int, seed: int) -> dict[str, float]:
    """One search on answers of a new population: which claims it makes, and which intervals hold the truth."""
    population = world(scenario, neurons, seed)
    rng = np.random.default_rng(seed + 1_000_000)
    X, y, relation, scalar = population.draw(rows, rng)
    scalars = {"length": rng.normal(size=rows), "logprob": scalar}
    search = Search(Answers(X, y, relation.astype(str), scalars=scalars), SETTINGS)
    search.fit()
    found = search.choose((neurons // 2, neurons - neurons // 2), "simulated")
    sets = {name: (one.chosen, one.controls) for name, one in found.scores.sets.items()}
    folds = found.fold_of.tolist()
    null = null_aurocs(*label_null(search, found), relation.tolist(), folds)
    held_out = detection(
        Detected(
            y, found.probabilities, found.predictions, np.arange(rows).tolist(), relation.tolist(),
            found.scores.plain, sets, folds, null,
        ),
        seed,
    )  # fmt: skip
    result = {f"held out: {name}": value for name, value in claims(held_out).items()}
    result["neurons"] = float((found.probe.coef_ != 0).sum())

    new, labels, of_relation, sure = population.draw(rows, rng)
    scores = _scores(found, new, sure, rng)
    p = found.probe.predict_proba(new)[:, 1]
    fresh = detection(
        Detected(
            labels, p, (p > found.probe.threshold_).astype(int), np.arange(rows).tolist(), of_relation.tolist(),
            scores.plain, {name: (one.chosen, one.controls) for name, one in scores.sets.items()},
        ),
        seed,
    )  # fmt: skip
    result |= {f"fresh: {name}": value for name, value in claims(fresh).items()}
    truths = _truth(found, search, population, 20 * rows, rng)
    for how, figures in (("fresh", fresh), ("held out", held_out)):
        for name, truth in truths[how].items():
            for kind in ("", "_relations"):
                ends = [figures.get(f"{name}{kind}_{end}", np.nan) for end in ("low", "high")]
                if np.isfinite(ends).all():
                    over = " over relations" if kind else ""
                    result[f"coverage, {how}: {name}{over}"] = float(ends[0] <= truth <= ends[1])
    return result


def _scores(found: Identified, X: NDArray[np.float32], scalar: Floats, rng: np.random.Generator) -> Scores:
    scalars = {"length": rng.normal(size=len(X)), "logprob": scalar}
    return found.baselines.scores(X, scalars, None, None, found.probe.decision_function(X))


def _truth(
    found: Identified, search: Search, population: World, count: int, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """What the figures estimate, on so many answers that their error does not matter.

    Fresh answers are those of the probe that is kept; held-out ones in each relation those of the probe of its fold,
    which was trained on fewer.
    """
    X, y, relation, scalar = population.draw(count, rng)
    scalars = {"length": rng.normal(size=count), "logprob": scalar}
    z = found.probe.decision_function(X)
    plain = replace(found.baselines, sets={}).scores(X, scalars, None, None, z).plain
    called = found.probe.predict_proba(X)[:, 1] > found.probe.threshold_

    def within(values: Floats) -> float:
        return float(np.mean([auroc(y[relation == one], values[relation == one]) for one in range(RELATIONS)]))

    of_fold = np.full(count, np.nan)
    for fit, test, C in zip(search.fits[1:], search.folds, found.C_by_fold, strict=True):
        assert fit.path is not None
        here = np.isin(relation, np.unique(search.data.groups[test]).astype(int))
        of_fold[here] = X[here].astype(np.float64) @ fit.path.weights(int(np.flatnonzero(fit.path.Cs == C)[0]))
    return {
        "fresh": {
            "auroc": within(z),
            "logprob_difference": within(z) - within(plain["logprob"]),
            "added": within(plain["scalars_and_probe"]) - within(plain["scalars"]),
            "balanced_accuracy": float(np.mean([(called == y)[y == k].mean() for k in (0, 1)])),
        },
        "held out": {
            "auroc": within(of_fold),
            "logprob_difference": within(of_fold) - within(plain["logprob"]),
        },
    }


def claims(figures: dict[str, float]) -> dict[str, float]:
    """Which p-values are at most .05, which intervals exclude their null, and which verdicts are green; 1 or 0."""
    said = {
        "p of detection": figures.get("auroc_p", 1.0) <= 0.05,
        "interval of AUROC above .5": figures.get("auroc_low", 0.0) > 0.5,
        "interval of what the probe adds above 0": figures.get("added_low", -1.0) > 0,
        "over relations, what it adds above 0": figures.get("added_relations_low", -1.0) > 0,
        "p of calibration": figures.get("calibration_p", 1.0) <= 0.05,
        "p of the probe's neurons, all kinds": figures.get("probe_p", 1.0) <= 0.05,
        "p of the positive neurons, all kinds": figures.get("positive_p", 1.0) <= 0.05,
    }
    for kind in ("uniform", "layer", "contribution", "sd"):
        said[f"p of the probe's neurons, {kind}"] = figures.get(f"probe_{kind}_p", 1.0) <= 0.05
    for name, (light, _) in zip(("detects", "adds", "better neurons"), verdicts(figures), strict=False):
        said[f"verdict {name}"] = light == "green"
    return {name: float(value) for name, value in said.items()}
