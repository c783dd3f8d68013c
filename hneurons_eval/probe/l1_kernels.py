"""Compiled inner loops of the L1 solver: float32 columns, sums in float64, the GIL released."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]


class Squares:
    """Square matrices to work in, taken and given back, for any number of threads.

    A fit wanders between threads, and the allocator of each would keep what its largest matrix took. This memory is
    mapped: it counts as far as it was touched, and goes back to the system when it is outgrown.
    """

    def __init__(self) -> None:
        self.free: list[Floats] = []

    @contextmanager
    def taken(self, side: int) -> Iterator[Floats]:
        """[side, side] in Fortran's order; what stands in it is anybody's."""
        try:
            memory = self.free.pop()
        except IndexError:
            memory = np.empty(0)
        if memory.size < side * side:
            memory = np.frombuffer(mmap.mmap(-1, 2 * side * side * memory.itemsize))  # twice: it will grow
        try:
            yield memory[: side * side].reshape(side, side, order="F")
        finally:
            self.free.append(memory)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba, keeping the machine code on disk where there is a writable place for it."""
    flags = {"reassoc", "contract"}  # sums may be vectorised; NaN and infinity keep their meaning
    try:
        return njit(cache=True, nogil=True, fastmath=flags)(function)
    except RuntimeError:  # numba found no writable cache directory
        return njit(cache=False, nogil=True, fastmath=flags)(function)


@compiled
def correlate_rows(X, R, out, first, last):  # pragma: no cover - compiled
    """out[f, j] = sum_i R[f, i] * X[i, j] for columns first..last of a row-major X, in float64."""
    n = X.shape[0]
    for start in range(first, last, 2048):
        stop = min(start + 2048, last)
        for f in range(R.shape[0]):
            for j in range(start, stop):
                out[f, j] = 0.0
        for i in range(0, n - n % 4, 4):
            for f in range(R.shape[0]):
                r0, r1, r2, r3 = R[f, i], R[f, i + 1], R[f, i + 2], R[f, i + 3]
                for j in range(start, stop):
                    out[f, j] += r0 * X[i, j] + r1 * X[i + 1, j] + r2 * X[i + 2, j] + r3 * X[i + 3, j]
        for i in range(n - n % 4, n):
            for f in range(R.shape[0]):
                for j in range(start, stop):
                    out[f, j] += R[f, i] * X[i, j]


@compiled
def correlate_columns(X, R, out, first, last):  # pragma: no cover - compiled
    """The same for a column-major X."""
    for j in range(first, last):
        for f in range(R.shape[0]):
            total = 0.0
            for i in range(X.shape[0]):
                total += R[f, i] * X[i, j]
            out[f, j] = total


@compiled
def gather(X, neurons, out):  # pragma: no cover - compiled
    """out[k] = X[:, neurons[k]], a block of rows at a time."""
    n = X.shape[0]
    for start in range(0, n, 32):
        for k in range(neurons.size):
            for i in range(start, min(start + 32, n)):
                out[k, i] = X[i, neurons[k]]


@compiled
def dots(columns, slots, r, out):  # pragma: no cover - compiled
    """out[k] = columns[slots[k]] . r"""
    for k in range(slots.size):
        row = slots[k]
        total = 0.0
        for i in range(r.size):
            total += columns[row, i] * r[i]
        out[k] = total


@compiled
def combine(columns, slots, weights, out):  # pragma: no cover - compiled
    """out += sum_k weights[k] * columns[slots[k]]"""
    for k in range(slots.size):
        if weights[k] != 0.0:
            row, weight = slots[k], weights[k]
            for i in range(out.size):
                out[i] += weight * columns[row, i]


@compiled
def mirror(G):  # pragma: no cover - compiled
    """Copy the upper triangle to the lower, and raise the diagonal by a rounding's worth."""
    for j in range(G.shape[0]):
        G[j, j] *= 1.0 + 1e-12
        for i in range(j):
            G[j, i] = G[i, j]


@compiled
def gather_square(G, chosen, out):  # pragma: no cover - compiled
    """out[a, b] = G[chosen[a], chosen[b]]"""
    for b in range(chosen.size):
        for a in range(chosen.size):
            out[a, b] = G[chosen[a], chosen[b]]


@compiled
def descend(G, gradient, u, tolerance, epochs):  # pragma: no cover - compiled
    """Cyclic coordinate descent on u.G.u/2 + linear.u + ||u||_1; `gradient` = G u + linear, kept up."""
    worst = 0.0
    for _ in range(epochs):
        worst = 0.0
        for j in range(u.size):
            curvature = G[j, j]
            if curvature <= 0.0:
                continue
            target = curvature * u[j] - gradient[j]
            new = 0.0
            if target > 1.0:
                new = (target - 1.0) / curvature
            elif target < -1.0:
                new = (target + 1.0) / curvature
            change = new - u[j]
            if change != 0.0:
                u[j] = new
                worst = max(worst, abs(change) * curvature)
                for k in range(u.size):
                    gradient[k] += change * G[k, j]
        if worst <= tolerance:
            break
    return worst


def minimise_quadratic(G: Floats, linear: Floats, u: Floats, tolerance: float, squares: Squares) -> Floats:
    """argmin_u of u.G.u/2 + linear.u + ||u||_1, from the start `u`.

    Coordinate descent finds the signs; an exact solve on them, cut where a sign would change, then
    spares it the slow tail that strongly correlated neurons cause.
    """
    u = u.copy()
    gradient = G @ u + linear
    for _ in range(50):
        if descend(G, gradient, u, tolerance, 200) <= tolerance:
            break
        active = np.flatnonzero(u)
        if active.size == 0:
            continue
        now = u[active]
        with squares.taken(active.size) as part:
            gather_square(G, active, part)
            try:
                factor = linalg.cho_factor(part, lower=True, overwrite_a=True, check_finite=False)
            except linalg.LinAlgError:
                continue
            wanted = linalg.cho_solve(factor, -(linear[active] + np.sign(now)), check_finite=False)
        flips = wanted * now < 0
        step = 1.0
        if flips.any():
            step = float(np.min(now[flips] / (now[flips] - wanted[flips])))
        moved = now + step * (wanted - now)
        moved[moved * now <= 0] = 0.0
        u[active] = moved
        gradient = G @ u + linear
    return u
