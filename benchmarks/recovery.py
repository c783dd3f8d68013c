"""Are planted neurons found, and is nothing found where nothing is: recovery against sample size.

    python benchmarks/recovery.py                    # writes docs/recovery.json and docs/recovery.png; some minutes
    python benchmarks/recovery.py --quick            # small sizes, to see that all of it runs

Features are simulated as in bench_probe.py: positive, correlated through a few factors, each neuron on its own
scale; 30 neurons tell the label. The whole search runs (nested folds, C by held-out log-loss, half-samples), with true
labels and with labels shuffled. Recovery is the share of the planted neurons that are selected, false discovery the
share of the selected that are not planted; both also for the neurons that more than half of the half-samples select.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from bench_probe import simulate

from hneurons_eval.analysis.detection import Detected, detection
from hneurons_eval.probe.nested_cv import Search
from hneurons_eval.probe.settings import Settings
from hneurons_eval.probe.stability import STABLE, stability
from hneurons_eval.probe.training_sets import Answers

ROOT = Path(__file__).resolve().parents[1]
PLANTED = 30


def measure(rows: int, neurons: int, seed: int, shuffled: bool) -> dict[str, float]:
    """One search on simulated answers."""
    X, y, planted = simulate(rows, neurons, seed, PLANTED)
    if shuffled:
        y = np.random.default_rng(seed + 100).permutation(y)
    settings = Settings(mode="1-vs-1", C="auto", folds=5, controls=20, resamples=50, seed=seed)
    search = Search(Answers(X, y, np.arange(rows)), settings)
    search.fit()
    found = search.choose((neurons,), "simulated")
    share = stability(search.rows, found.probe.C_, found.probe.coef_, settings.resamples, seed)
    selected = np.flatnonzero(found.probe.coef_ > 0)
    stable = np.flatnonzero(share > STABLE)
    questions = [str(k) for k in range(rows)]
    sets = {name: (one.chosen, one.controls) for name, one in found.scores.sets.items()}
    no_relations = [None] * rows
    figures = detection(
        Detected(y, found.probabilities, found.predictions, questions, no_relations, {}, sets, found.fold_of.tolist())
    )
    names = ("auroc", "auroc_low", "auroc_high", "probe_uniform_auroc", "probe_uniform_p")
    return {
        **{name.removeprefix("probe_"): figures[name] for name in names},
        "selected": len(selected),
        "stable": len(stable),
        "most_stable": float(share.max()),
        **{f"recovered_{name}": float(np.isin(planted, own).mean()) for name, own in
           (("selected", selected), ("stable", stable))},
        **{f"false_{name}": float((~np.isin(own, planted)).mean()) if len(own) else 0.0 for name, own in
           (("selected", selected), ("stable", stable))},
    }  # fmt: skip


def plot(report: dict, path: Path) -> None:
    """Recovery, false discovery and AUROC against the number of answers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    sizes = sorted({run["rows"] for run in report["runs"]})

    def mean(name: str, rows: int, shuffled: bool) -> float:
        return float(np.mean([r[name] for r in report["runs"] if r["rows"] == rows and r["shuffled"] is shuffled]))

    for kind, style in (("selected", "o-"), ("stable", "s--")):
        axes[0].plot(sizes, [mean(f"recovered_{kind}", rows, False) for rows in sizes], style, label=kind)
        axes[1].plot(sizes, [mean(f"false_{kind}", rows, False) for rows in sizes], style, label=kind)
    for shuffled, label in ((False, "true labels"), (True, "shuffled labels")):
        middle = [mean("auroc", rows, shuffled) for rows in sizes]
        ends = [[mean(f"auroc_{end}", rows, shuffled) for rows in sizes] for end in ("low", "high")]
        axes[2].plot(sizes, middle, "o-", label=label)
        axes[2].fill_between(sizes, ends[0], ends[1], alpha=0.2)
    axes[2].axhline(0.5, color="grey", linestyle=":")
    titles = ("planted neurons recovered", "false discoveries", "held-out AUROC")
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, fontsize=10)
        one.set_xscale("log")
        one.set_xlabel("answers")
        one.set_ylim(-0.02, 1.02)
        one.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    sizes, neurons, seeds = ([100, 200], 1_000, [0]) if options.quick else ([100, 300, 1000], 10_000, [0, 1])
    runs = []
    for rows in sizes:
        for seed in seeds:
            for shuffled in (False, True):
                run = {"rows": rows, "seed": seed, "shuffled": shuffled} | measure(rows, neurons, seed, shuffled)
                runs.append(run)
                print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in run.items()}), flush=True)
    report = {"neurons": neurons, "planted": PLANTED, "runs": runs}
    if not options.quick:
        (options.out / "recovery.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        plot(report, options.out / "recovery.png")


if __name__ == "__main__":
    main()
