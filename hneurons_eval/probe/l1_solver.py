"""L1 logistic regressions that share one X, solved along a path of C.  `l1_path` is the way in.

Minimised, for each C: C * sum_i s_i * log(1 + exp(-t_i (x_i . w + b))) + ||w||_1, t_i = 2 y_i - 1.

The path is warm-started from its smallest C. At each C the sequential strong rule (Tibshirani et al.
2012) names the neurons that could matter; on those, proximal Newton steps (Friedman et al. 2010; Yuan
et al. 2012, newGLMNET), each a quadratic solved over its Gram matrix; then one pass over all of X finds
neurons that were left out, and gives the duality gap (Ndiaye et al. 2017), which certifies the result.

Several fits (folds, resamples: the same X, other row weights) advance together, so that one pass over
X serves them all: each is a generator that yields the vector it wants multiplied with X.
"""

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs
from scipy.special import expit, xlogy
from threadpoolctl import threadpool_limits

from hneurons_eval.probe.l1_kernels import (
    Floats,
    Squares,
    combine,
    correlate_columns,
    correlate_rows,
    dots,
    gather,
    minimise_quadratic,
    mirror,
)

Ints = NDArray[np.int64]

THREADS = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
(dsyrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
STEP = 1.6  # the largest ratio of C between two warm starts


class _Columns:
    """X, one pass over all of it at a time, and copies of the columns in use.  X is [rows, neurons]."""

    def __init__(self, X: NDArray[Any]):
        self.X = X
        rows, neurons = X.shape
        self.slot = np.full(neurons, -1, np.int64)
        self.used = 0
        # Memory that is never touched is never committed: the copies cost what they hold.
        self.copies = np.empty((min(neurons, max(4096, neurons // 16)), rows), X.dtype)
        self.correlate = correlate_rows if X.strides[1] <= X.strides[0] else correlate_columns
        self.readers = 0  # of the store as it is now
        self.lock = Lock()
        self.squares = Squares()

    def correlations(self, residuals: Floats, pool: ThreadPoolExecutor) -> Floats:
        """residuals [fits, rows] -> residuals @ X, [fits, neurons]."""
        neurons = self.X.shape[1]
        out = np.empty((len(residuals), neurons))
        edges = np.linspace(0, neurons, THREADS + 1).astype(int)
        list(pool.map(lambda lo, hi: self.correlate(self.X, residuals, out, lo, hi), edges[:-1], edges[1:]))
        return out

    @contextmanager
    def taken(self, neurons: Ints) -> Iterator[tuple[NDArray[Any], Ints]]:
        """Copies of columns [some, rows], and which of them are these neurons.

        A full store is begun anew; one that another fit is reading is left to it and replaced.
        """
        with self.lock:
            missing = neurons[self.slot[neurons] < 0]
            if self.used + missing.size > len(self.copies):
                if neurons.size > len(self.copies) or self.readers:
                    size = max(len(self.copies), neurons.size)
                    del self.copies  # before the new one is made
                    self.copies = np.empty((size, self.X.shape[0]), self.X.dtype)
                    self.readers = 0
                self.slot[:] = -1
                self.used = 0
                missing = neurons
            if missing.size:
                gather(self.X, missing, self.copies[self.used : self.used + missing.size])
                self.slot[missing] = np.arange(self.used, self.used + missing.size)
                self.used += missing.size
            copies, slots = self.copies, self.slot[neurons]
            self.readers += 1
        try:
            yield copies, slots
        finally:
            with self.lock:
                self.readers -= copies is self.copies


@dataclass
class _Fit:
    """One regression on its way along the path: what to fit, and where it stands."""

    columns: _Columns
    y: Floats  # [rows], 0 or 1
    s: Floats  # [rows], weights >= 0
    tol: float
    penalise_intercept: bool
    w: Floats = field(init=False)  # [neurons]
    b: float = 0.0
    z: Floats = field(init=False)  # [rows], X w + b
    C: float = 0.0

    def __post_init__(self) -> None:
        self.w = np.zeros(self.columns.X.shape[1])
        self.z = np.zeros(len(self.y))
        self.support = np.zeros(0, np.int64)
        self._settle_intercept()

    def _settle_intercept(self) -> None:
        """The free intercept that is best for w: sum(s * (y - p)) = 0, by safeguarded Newton steps."""
        if self.penalise_intercept:
            return
        low, high = -np.inf, np.inf
        shift = 0.0
        for _ in range(100):
            p = expit(self.z + shift)
            slope = float(self.s @ (self.y - p))
            low, high = (shift, high) if slope > 0 else (low, shift)
            step = slope / max(float(self.s @ (p * (1 - p))), 1e-300)
            shift_next = shift + float(np.clip(step, -5.0, 5.0))
            if not low <= shift_next <= high:
                shift_next = (low + high) / 2
            if abs(shift_next - shift) <= 1e-15 * (1 + abs(shift)):
                break
            shift = shift_next
        self.b += shift
        self.z += shift

    def residual(self) -> Floats:
        return self.s * (self.y - expit(self.z))

    def loss(self, z: Floats) -> float:
        return float(self.s @ (np.logaddexp(0.0, z) - self.y * z))

    def objective(self, z: Floats, w: Floats, b: float) -> float:
        return self.C * self.loss(z) + float(np.abs(w).sum()) + self.penalise_intercept * abs(b)

    def gap(self, largest: float, residual: Floats) -> float:
        """(primal - dual) / primal, the dual point being the residual scaled until it is feasible.

        The dual of the problem is max C * sum_i s_i * entropy(a_i) over a in [0, 1] with
        |C * sum_i s_i t_i a_i x_ij| <= 1 for each neuron and, the intercept being free,
        sum_i s_i t_i a_i = 0. `largest` is the left side's largest value at a_i = |y_i - p_i|.
        """
        if self.penalise_intercept:
            largest = max(largest, abs(self.C * float(residual.sum())))
        a = np.abs(self.y - expit(self.z)) / max(1.0, largest)
        dual = -self.C * float(self.s @ (xlogy(a, a) + xlogy(1 - a, 1 - a)))
        primal = self.objective(self.z, self.w[self.support], self.b)
        return max(0.0, (primal - dual) / primal)

    def solve_on(self, neurons: Ints, tol: float) -> None:
        """Proximal Newton steps over these neurons alone until their relative duality gap is `tol`."""
        with self.columns.taken(neurons) as (copies, slots):
            self._solve_on(neurons, copies, slots, tol)

    def _solve_on(self, neurons: Ints, copies: NDArray[Any], slots: Ints, tol: float) -> None:
        g = np.empty(neurons.size)
        best, stalled = np.inf, 0
        for _ in range(100):
            residual = self.residual()
            dots(copies, slots, residual, g)
            g *= self.C
            w = self.w[neurons]
            gap = self.gap(float(np.abs(g).max(initial=0.0)), residual)
            stalled += best <= gap < 1e-4  # rounding may keep a very small gap out of reach
            best = min(best, gap)
            if gap <= tol or stalled > 5:
                return
            excess = np.where(w != 0, np.inf, np.abs(g) - 1.0)
            most = int(1.5 * np.count_nonzero(w)) + 50
            chosen = np.flatnonzero(excess > 0)
            if chosen.size > most:
                chosen = np.sort(chosen[np.argsort(-excess[chosen], kind="stable")[:most]])
            if not self._newton_step(neurons[chosen], copies, slots[chosen], g[chosen]):
                return

    def _newton_step(self, neurons: Ints, copies: NDArray[Any], slots: Ints, g: Floats) -> bool:
        """Minimise the quadratic model over these neurons, go there as far as it helps.  False: no help.

        copies[slots]: their columns, [neurons, rows].  g: minus the gradient of the loss, [neurons].
        """
        p = expit(self.z)
        h = self.C * self.s * np.maximum(p * (1 - p), 1e-8)
        w = self.w[neurons]
        means = np.zeros(len(w))
        if self.penalise_intercept:  # b is one more coordinate, whose column is 1
            w = np.append(w, self.b)
            g = np.append(g, self.C * float(self.residual().sum()))
        else:  # minimised over b, the model is that of columns centred with weights h
            dots(copies, slots, h, means)
            means /= h.sum()
        violation = float(np.max(np.where(w != 0, np.abs(g - np.sign(w)), np.abs(g) - 1.0), initial=0.0))
        with self.columns.squares.taken(len(w)) as G:
            G.fill(0.0)
            for rows in range(0, len(h), 256):  # in pieces, to hold little at a time
                part = slice(rows, rows + 256)
                block = np.ones((len(w), len(h[part])))
                block[: neurons.size] = copies[slots, part] - means[:, None]
                block *= np.sqrt(h[part])
                dsyrk(1.0, block.T, 1.0, G, trans=1, overwrite_c=1)  # its upper triangle
            mirror(G)
            u = minimise_quadratic(G, -g - G @ w, w, 0.02 * violation, self.columns.squares)
        d = u - w
        db = float(d[-1]) if self.penalise_intercept else -float(d @ means)
        dz = np.full(len(self.z), db)
        combine(copies, slots, d[: neurons.size], dz)
        before = self.C * self.loss(self.z) + float(np.abs(w).sum())  # the other penalties stay as they are
        noise = 1e-12 * before  # steps that promise less than rounding can show are taken all the same
        promised = -float(g @ d) + float((np.abs(u) - np.abs(w)).sum())
        if promised > noise:
            return False
        step = 1.0
        while not (
            self.C * self.loss(self.z + step * dz) + float(np.abs(w + step * d).sum())
            <= before + 0.01 * step * promised + noise
        ):
            step /= 2
            if step < 1e-8:
                return False
        self.w[neurons] = (u if step == 1.0 else w + step * d)[: neurons.size]
        self.b += step * db
        self.z += step * dz
        self.support = np.union1d(self.support, neurons)
        self.support = self.support[self.w[self.support] != 0]
        self._settle_intercept()
        return True

    def refresh(self) -> None:
        """z from w and b anew, so that rounding does not gather along the path."""
        self.z = np.full(len(self.y), self.b)
        with self.columns.taken(self.support) as (copies, slots):
            combine(copies, slots, self.w[self.support], self.z)
        self._settle_intercept()

    def _nominate(self, candidates: NDArray[np.bool_], size: Floats, threshold: float) -> None:
        """Add the neurons whose gradient [neurons] is above the threshold, a limited number: the largest."""
        fresh = np.flatnonzero(~candidates & (size >= threshold))
        most = max(1000, candidates.size // 20)
        if fresh.size > most:
            fresh = fresh[np.argsort(-size[fresh], kind="stable")[:most]]
        candidates[fresh] = True

    def run(self, Cs: Floats) -> Generator[Floats, Floats, list["Solution"]]:
        """Solve for ascending Cs.  Yields a residual [rows] and is sent its product with X, [neurons]."""
        found: list[Solution] = []
        correlation = yield self.residual()
        previous = 1.0 / max(float(np.abs(correlation).max()), 1e-300)
        gap = 0.0
        for C in Cs:
            steps = max(1, int(np.ceil(np.log(C / previous) / np.log(STEP) - 1e-9)))
            for target in [*np.geomspace(previous, C, steps + 1)[1:-1], C]:
                tol = self.tol if target == C else max(self.tol, 0.05)
                self.C = float(target)
                candidates = np.zeros(len(self.w), np.bool_)
                candidates[self.support] = True
                strong = max(2 - target / min(previous, target), 0.7)
                self._nominate(candidates, self.C * np.abs(correlation), strong)
                for _ in range(30):
                    self.solve_on(np.flatnonzero(candidates), 0.5 * tol)
                    residual = self.residual()
                    correlation = yield residual
                    size = self.C * np.abs(correlation)
                    gap = self.gap(float(size.max()), residual)
                    if gap <= tol or not (~candidates & (size > 1.0)).any():
                        break
                    self._nominate(candidates, size, 0.95)
                previous = float(target)
            found.append(Solution(self.support, self.w[self.support], self.b, gap, self.z))
            self.refresh()
        return found


@dataclass(frozen=True)
class Solution:
    """One fit at one C."""

    neurons: Ints  # where the weight is not 0
    weights: Floats
    intercept: float
    gap: float  # relative duality gap reached
    decision: Floats  # [rows], X w + b, of rows with weight 0 too


def solve(
    X: NDArray[Any], y: Floats, weights: Floats, Cs: Floats, tol: float, penalise_intercept: bool
) -> list[list[Solution]]:
    """One path for each row of `weights` [fits, rows].  X [rows, neurons], y 0 or 1 [fits, rows], Cs ascending.

    Raises:
        ValueError: X holds NaN or infinity, seen in the first pass over it.
    """
    columns = _Columns(X)
    fits = [_Fit(columns, own, s, tol, penalise_intercept).run(Cs) for own, s in zip(y, weights, strict=True)]
    solutions: list[list[Solution]] = [[] for _ in fits]
    asked = {k: next(fit) for k, fit in enumerate(fits)}

    def advance(k: int, answer: Floats) -> tuple[int, Floats | None]:
        try:
            return k, fits[k].send(answer)
        except StopIteration as end:
            solutions[k] = end.value
            return k, None

    # One BLAS thread a fit: the matrices are small, and fits run beside one another.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(THREADS) as pool:
        while asked:
            answers = columns.correlations(np.stack(list(asked.values())), pool)
            check_finite(X, answers)
            replies = pool.map(advance, asked, answers)
            asked = {k: residual for k, residual in replies if residual is not None}
    return solutions


def check_finite(X: NDArray[Any], correlations: Floats) -> None:
    """NaN and infinity in a column of X survive any product with it, so the products show them."""
    bad = ~np.isfinite(correlations).all(axis=0)
    if bad.any():
        neuron = int(np.flatnonzero(bad)[0])
        row = int(np.flatnonzero(~np.isfinite(X[:, neuron]))[0])
        raise ValueError(
            f"X must be finite, but {X[row, neuron]} stands at row {row}, neuron {neuron} "
            f"({int(bad.sum())} neurons are affected)."
        )


def smallest_useful_c(X: NDArray[Any], y: Floats, s: Floats) -> float:
    """1 / max_j |sum_i s_i (y_i - mean y) x_ij|: up to this C, with a free intercept, all weights are 0."""
    residual = s * (y - float(s @ y) / float(s.sum()))
    with ThreadPoolExecutor(THREADS) as pool:
        correlations = _Columns(X).correlations(residual[None], pool)
    check_finite(X, correlations)
    largest = float(np.abs(correlations).max())
    if largest <= 1e-13 * float(np.abs(X[:64]).max()) * float(np.abs(residual).sum()):
        raise ValueError("no column of X varies with y, so no C would select a neuron.")
    return 1.0 / largest
