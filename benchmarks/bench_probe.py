"""The L1 path against single liblinear fits: time, objective, memory.

    python benchmarks/bench_probe.py             # 2,000 x 46,080, 20 values of C, 5 folds; some minutes
    python benchmarks/bench_probe.py --quick     # 600 x 6,000; seconds
    python benchmarks/bench_probe.py --large     # ours alone, 4,000 x 458,752 (7.3 GB): an 8B model's neurons

Features are simulated as contributions are: positive, correlated through a few factors, each neuron
on its own scale, some neurons telling the label. liblinear is timed at a few values of C spread over
the path; what 100 of its fits would take is extrapolated, and labelled so. Each side runs in a process
of its own; its memory is the peak above what it held with X loaded.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

FOLDS = 5


def simulate(
    rows: int, neurons: int, seed: int = 0, planted: int = 30, out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X float32 [rows, neurons], labels [rows], and the planted columns."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((rows, 40), dtype=np.float32)
    X = np.empty((rows, neurons), np.float32) if out is None else out
    for start in range(0, neurons, 4096):
        block = X[:, start : start + 4096]
        loadings = rng.standard_normal((40, block.shape[1]), dtype=np.float32) / np.float32(np.sqrt(40))
        noise = rng.standard_normal(block.shape, dtype=np.float32)
        scale = np.exp(rng.normal(np.log(1e-3), 1.0, block.shape[1])).astype(np.float32)
        block[:] = np.exp(0.36 * (factors @ loadings) + 0.3 * noise) * scale
    columns = rng.choice(neurons, planted, replace=False)
    signal = (X[:, columns] - X[:, columns].mean(axis=0)) / X[:, columns].std(axis=0)
    y = (rng.random(rows) < 1 / (1 + np.exp(-0.5 * signal.sum(axis=1)))).astype(np.int64)
    return X, y, columns


def peak_bytes() -> int:
    """Largest resident size of this process so far (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def objective(X: np.ndarray, y: np.ndarray, w: np.ndarray, b: float, C: float) -> float:
    """liblinear's own: C * log-losses + |w| + |b|."""
    active = np.flatnonzero(w)
    z = X[:, active].astype(np.float64) @ w[active] + b
    return C * float(np.sum(np.logaddexp(0, z) - y * z)) + float(np.abs(w).sum()) + abs(b)


def ours(X: np.ndarray, y: np.ndarray, picks: list[int]) -> dict:
    """Path and folds, timed; then liblinear's objective at the picked Cs, by the same solver."""
    from hneurons_eval.analysis.folds import grouped_folds
    from hneurons_eval.analysis.metrics import auroc
    from hneurons_eval.probe.l1_path import fit_path, fit_paths

    start = time.perf_counter()
    fit_path(np.ascontiguousarray(X[:100, :200]), np.arange(100) % 2)
    compiled = time.perf_counter() - start
    before = peak_bytes()
    start = time.perf_counter()
    path = fit_path(X, y)
    alone = time.perf_counter() - start
    memory_alone = peak_bytes() - before
    start = time.perf_counter()
    folds = grouped_folds(y, np.arange(len(y)), FOLDS)
    weights = np.ones((FOLDS + 1, len(y)))
    for own, test in zip(weights[1:], folds, strict=True):
        own[test] = 0.0
    paths = fit_paths(X, y, weights)
    seconds = time.perf_counter() - start
    memory = peak_bytes() - before
    same = fit_path(X, y, Cs=path.Cs[picks], penalise_intercept=True) if picks else None
    return {
        "peak": peak_bytes(),
        "compile": compiled,
        "path": alone,
        "cross_validation": seconds,
        "memory": memory,
        "memory_alone": memory_alone,
        "Cs": path.Cs.tolist(),
        "nonzero": path.n_nonzero.tolist(),
        "gap": float(max(p.gaps.max() for p in paths)),
        "auroc": max(
            float(np.mean([auroc(y[test], own.decisions[k, test]) for own, test in zip(paths[1:], folds, strict=True)]))
            for k in range(len(path.Cs))
        ),
        "objectives": []
        if same is None
        else [objective(X, y, same.weights(k), float(same.intercepts[k]), C) for k, C in enumerate(same.Cs)],
    }


def liblinear(X: np.ndarray, y: np.ndarray, Cs: list[float]) -> dict:
    """Single fits as the paper makes them (max_iter 1000, the default tolerance 1e-4)."""
    import sklearn
    from sklearn.linear_model import LogisticRegression

    new = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)  # which renamed the option
    l1: dict = {"l1_ratio": 1.0} if new else {"penalty": "l1"}
    warnings.simplefilter("ignore")
    before = peak_bytes()
    seconds, objectives, nonzero = [], [], []
    for C in Cs:
        start = time.perf_counter()
        model = LogisticRegression(solver="liblinear", C=C, **l1, max_iter=1000, random_state=0).fit(X, y)
        seconds.append(time.perf_counter() - start)
        objectives.append(objective(X, y, model.coef_[0], float(model.intercept_[0]), C))
        nonzero.append(int(np.count_nonzero(model.coef_)))
    return {
        "seconds": seconds,
        "objectives": objectives,
        "nonzero": nonzero,
        "memory": peak_bytes() - before,
    }


def apart(side: str, data: Path, argument: list) -> dict:
    """Run one side in its own process."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--data",
        str(data),
        "--argument",
        json.dumps(argument),
    ]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--neurons", type=int)
    parser.add_argument("--side", choices=("ours", "liblinear"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--argument", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        X, y = np.load(options.data / "X.npy"), np.load(options.data / "y.npy")
        print(json.dumps({"ours": ours, "liblinear": liblinear}[options.side](X, y, json.loads(options.argument))))
        return

    rows, neurons = (600, 6_000) if options.quick else (4_000, 458_752) if options.large else (2_000, 46_080)
    rows, neurons = options.rows or rows, options.neurons or neurons
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        X = np.lib.format.open_memmap(data / "X.npy", "w+", np.float32, (rows, neurons))
        _, y, _ = simulate(rows, neurons, out=X)
        X.flush()
        np.save(data / "y.npy", y)
        size = X.nbytes
        del X
        picks = [] if options.large else [3, 10, 17]
        mine = apart("ours", data, picks)
        Cs = mine["Cs"]
        fits = len(Cs) * FOLDS
        print(f"X: {rows:,} x {neurons:,} float32, {size / 1e9:.2f} GB; {len(Cs)} values of C, {FOLDS} folds")
        print(f"nonzero weights along the path: {mine['nonzero']}")
        show("ours, loading compiled code (the first time: compiling), s", mine["compile"])
        show(f"ours, one path, {len(Cs)} fits, s", mine["path"])
        show(f"ours, path and folds, {fits + len(Cs)} fits, s", mine["cross_validation"])
        show("ours, largest relative duality gap", mine["gap"], ".1e")
        show("ours, best out-of-fold AUROC", mine["auroc"], ".3f")
        show("ours, one path, memory beside X, in sizes of X", mine["memory_alone"] / size)
        show("ours, path and folds, memory beside X, in sizes of X", mine["memory"] / size)
        show("ours, largest resident size of the process, GB", mine["peak"] / 1e9)
        if options.large:
            return
        theirs = apart("liblinear", data, [Cs[k] for k in picks])
        for n, k in enumerate(picks):
            show(f"liblinear at C = {Cs[k]:.3f}, {theirs['nonzero'][n]} nonzero, s", theirs["seconds"][n])
            excess = theirs["objectives"][n] / mine["objectives"][n] - 1
            show("    its objective / ours - 1", excess, "+.1e")
        show("liblinear, memory beside X, in sizes of X", theirs["memory"] / size)
        total = float(np.mean(theirs["seconds"])) * fits
        show(f"liblinear, {fits} fits, EXTRAPOLATED from {len(picks)}, s", total, ".0f")
        show("ratio: extrapolated liblinear / measured path and folds", total / mine["cross_validation"], ".0f")


def show(what: str, value: float, form: str = ".2f") -> None:
    print(f"{what:<60}{format(value, form):>12}")


if __name__ == "__main__":
    main()
