"""Control neuron sets: uniform, layer-matched, contribution-matched and sd-matched.

```python
sets = random_sets(layout.widths, size=len(h), n=100, seed=0, exclude=h)
sets = layer_matched_sets(h, layout.widths, n=100)
sets = matched_sets(h, mean_contribution, n=100)               # contribution-matched; with deviations sd-matched
sets = control_sets(h, layout.widths, Activity.of(X), n=100)   # of each kind, the same replacements in every fold
```

Sets are ascending flat (layer-major) indices and never hold a neuron of the reference.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.util.files import ACTIVITY, write_atomically

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
KINDS = ("uniform", "layer", "contribution", "sd")
"""Kinds of control sets: uniform over the model, layer-matched, contribution-matched (by mean) and sd-matched. An L1
fit on raw columns prefers neurons of large deviation whatever the labels, so sd-matched sets are the hardest."""
NEIGHBOURS = 50
"""Neurons nearest in rank from which a matched neuron is drawn."""
TRIES = 8
"""Draws from one window before it is doubled."""


class ActivityError(ValueError):
    """An activity file that is damaged or of another model; says which and what to do."""


class Activity(NamedTuple):
    """Mean and standard deviation of every neuron's contribution over some answers: float64 `[neurons]` each."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, answers: NDArray[Any]) -> "Activity":
        """Of contributions `[answers, neurons]`, without a copy of them in float64."""
        mean = answers.mean(axis=0, dtype=np.float64)
        squares = np.zeros(answers.shape[1])
        for start in range(0, len(answers), 64):
            squares += ((answers[start : start + 64] - mean) ** 2).sum(axis=0)
        return cls(mean, np.sqrt(squares / len(answers)))


def control_sets(
    reference: ArrayLike,
    widths: Sequence[int],
    activity: Activity,
    n: int,
    seed: int = 0,
    exclude: ArrayLike | None = None,
) -> dict[str, Ints]:
    """n sets of each of `KINDS`, as large as the reference: int64 `[n, size]` by kind.

    Set number i replaces each neuron by one that depends on the seed, i and the neuron alone, unless that one is
    excluded or taken. So the sets of two references (those of two folds) share as many neurons as the references do.

    Args:
        reference: flat indices, at least one.
        widths: neurons in each layer.
        activity: of every neuron.
        n: sets of each kind.
        seed: of the replacements.
        exclude: flat indices that no set may hold; default the reference.

    Returns:
        by kind; a kind of which there are too few neurons is left out.

    Raises:
        ValueError: an empty reference; an index or an activity that does not fit.
    """
    chosen = np.unique(np.asarray(reference, np.int64))
    total, edges = int(sum(widths)), np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    outside = np.unique(chosen if exclude is None else np.asarray(exclude, np.int64))
    if not chosen.size or chosen[0] < 0 or chosen[-1] >= total or len(activity.mean) != total:
        raise ValueError(f"{chosen.size} neurons and {len(activity.mean)} activities do not fit {total} neurons.")
    layers = np.searchsorted(edges, chosen, side="right") - 1
    busy = np.bincount(layers, minlength=len(widths)) + np.histogram(outside, edges)[0]
    found: dict[str, Ints] = {}
    everything = np.arange(total)
    if chosen.size + outside.size <= total:
        found["uniform"] = _replaced(chosen, everything, np.zeros(chosen.size, np.int64), total, n, seed, outside)
        if (busy <= np.asarray(widths))[layers].all():
            found["layer"] = _replaced(
                chosen, everything, edges[layers], np.asarray(widths)[layers], n, seed + 1, outside
            )
        for offset, (kind, values) in enumerate((("contribution", activity.mean), ("sd", activity.deviation)), start=2):
            found[kind] = _near_in_rank(chosen, values, n, seed + offset, outside, NEIGHBOURS)
    return found


def _near_in_rank(reference: Ints, values: Floats, n: int, seed: int, exclude: Ints, neighbours: int) -> Ints:
    """n sets in which each neuron is replaced by one near it in rank of `values` `[neurons]`: int64 `[n, size]`."""
    total = len(values)
    order = np.argsort(values, kind="stable")
    place = np.empty(total, np.int64)
    place[order] = np.arange(total)
    start = np.clip(place[reference] - neighbours // 2, 0, max(0, total - neighbours - 1))
    return _replaced(reference, order, start, min(neighbours + 1, total), n, seed, exclude, grow=True)


def _replaced(
    reference: Ints,
    order: Ints,
    starts: Ints,
    widths: Any,
    n: int,
    seed: int,
    exclude: Ints,
    grow: bool = False,
) -> Ints:
    """n sets in which each neuron of the reference is replaced by one of its window: int64 `[n, size]`, ascending.

    Args:
        reference: flat indices.
        order: all neurons, in the order in which windows are cut.
        starts, widths: the window of each reference neuron in that order.
        grow: double a window from which `TRIES` draws were not free.
    """
    spans = np.broadcast_to(np.asarray(widths, np.int64), reference.shape)
    tries = 8 * TRIES
    total, sets = len(order), np.empty((n, reference.size), np.int64)
    outside = set(exclude.tolist())
    windows = list(zip(starts.tolist(), spans.tolist(), strict=True))
    for number in range(n):
        drawn = _hashed(seed, number, reference, tries)  # [size, tries] in [0, 1)
        taken = set(outside)
        for at, (start, width) in enumerate(windows):
            for turn in range(tries):
                wide = min(width << (turn // TRIES), total) if grow else width
                first = min(max(0, start - (wide - width) // 2), total - wide) if grow else start
                one = int(order[first + int(drawn[at, turn] * wide)])
                if one not in taken:
                    break
            else:  # crowded: the first that is free
                near = order[start : start + width] if not grow else order
                one = next(int(one) for one in near if int(one) not in taken)
            taken.add(one)
            sets[number, at] = one
    return np.sort(sets, axis=1)


def _hashed(seed: int, number: int, neurons: Ints, tries: int) -> Floats:
    """Numbers in [0, 1) from seed, number of the set, neuron and try alone (SplitMix64): `[neurons, tries]`."""
    mask = np.uint64(2**64 - 1)

    def mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) & mask
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB) & mask
        return bits ^ (bits >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        bits = mixed(np.array([number], np.uint64) * golden + np.uint64(seed % 2**63))
        bits = mixed(bits + neurons.astype(np.uint64) * golden)[:, None]
        bits = mixed(bits + np.arange(1, tries + 1, dtype=np.uint64) * golden)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_sets(
    widths: Sequence[int], size: int, n: int, seed: int = 0, exclude: ArrayLike | None = None
) -> list[Ints]:
    """n sets of `size` different neurons, each drawn uniformly from the whole model.

    Args:
        widths: neurons in each layer.
        exclude: flat indices that no set may hold: the reference neurons.

    Raises:
        ValueError: fewer than `size` neurons are left; an excluded index the model does not have.
    """
    total = int(sum(widths))
    pool = _outside(exclude, total)
    if not 0 < size <= pool.size:
        raise ValueError(f"a set of {size} neurons cannot be drawn from the {pool.size} that are allowed.")
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(pool, size, replace=False)) for _ in range(n)]


def layer_matched_sets(reference: ArrayLike, widths: Sequence[int], n: int, seed: int = 0) -> list[Ints]:
    """n sets with as many neurons in each layer as the reference has, none of them its own.

    Args:
        reference: flat indices.
        widths: neurons in each layer.

    Raises:
        ValueError: a layer in which the reference leaves too few neurons; an index the model does not have.
    """
    edges = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
    pool = _outside(reference, int(edges[-1]))
    chosen = np.unique(np.asarray(reference, np.int64))
    wanted = np.histogram(chosen, edges)[0] if chosen.size else np.zeros(len(edges) - 1, np.int64)
    pools = np.split(pool, np.searchsorted(pool, edges[1:-1]))
    for layer, (candidates, count) in enumerate(zip(pools, wanted, strict=True)):
        if count > candidates.size:
            raise ValueError(
                f"layer {layer} has {candidates.size} neurons beside the reference, too few to match {count}."
            )
    rng = np.random.default_rng(seed)

    def draw() -> Ints:
        parts = [rng.choice(p, c, replace=False) for p, c in zip(pools, wanted, strict=True) if c]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))

    return [draw() for _ in range(n)]


def matched_sets(
    reference: ArrayLike,
    values: ArrayLike,
    n: int,
    seed: int = 0,
    *,
    neighbours: int = NEIGHBOURS,
    own: bool = False,
) -> list[Ints]:
    """n sets of neurons with like values: contribution-matched with mean contributions, sd-matched with deviations.

    Each reference neuron is replaced by one of the `neighbours` nearest in rank; where those are taken, by one of twice
    as many, and so on.

    Args:
        reference: flat indices.
        values: of every neuron, `[neurons]`, for example the column means of the training contributions.
        n: how many sets.
        seed: of the replacements.
        neighbours: neurons from which a replacement is drawn.
        own: the sets may hold the reference's neurons too, as they must where the overlap of the reference with
            another set is compared with that of the sets.

    Raises:
        ValueError: fewer other neurons than the reference has; an index or a value that does not fit.
    """
    known = np.asarray(values, np.float64)
    if known.ndim != 1 or not np.isfinite(known).all():
        raise ValueError("values to match must be one finite number for each neuron.")
    chosen = np.unique(np.asarray(reference, np.int64))
    others = len(_outside(chosen, known.size))
    if not own and chosen.size > others:
        raise ValueError(f"{chosen.size} neurons cannot be matched by the {others} others.")
    exclude = np.zeros(0, np.int64) if own else chosen
    return list(_near_in_rank(chosen, known, n, seed, exclude, neighbours))


def _outside(neurons: ArrayLike | None, total: int) -> Ints:
    """Ascending flat indices of a model of `total` neurons that are not in `neurons`."""
    given = np.zeros(0, np.int64) if neurons is None else np.asarray(neurons, np.int64).ravel()
    if given.size and (given.min() < 0 or given.max() >= total):
        raise ValueError(f"flat index {given.min()}..{given.max()} does not fit a model of {total} neurons.")
    free = np.ones(total, np.bool_)
    free[given] = False
    return np.flatnonzero(free)


# ---- activity of every neuron, kept with a probe -------------------------------------------------


def save_activity(path: str | Path, mean: ArrayLike, deviation: ArrayLike) -> None:
    """Write mean and standard deviation of every neuron's contribution; the file appears whole or not at all.

    Args:
        path: the file, `ACTIVITY` in the probe's directory.
        mean: `[neurons]`, over the training answers.
        deviation: `[neurons]`, the same.

    Raises:
        ActivityError: lengths that differ, or a value that is not finite or a deviation below 0.
    """
    from safetensors.numpy import save_file

    tensors = {"mean": np.asarray(mean, np.float32), "deviation": np.asarray(deviation, np.float32)}
    _check_activity(str(path), tensors["mean"], tensors["deviation"])
    write_atomically(Path(path), lambda place: save_file(tensors, place))


def load_activity(directory: str | Path) -> Activity | None:
    """Activity from a probe's directory; None where it has no such file.

    Raises:
        ActivityError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(directory) / ACTIVITY
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        mean, deviation = tensors["mean"], tensors["deviation"]
    except (SafetensorError, KeyError, OSError, ValueError, TypeError) as error:
        raise ActivityError(f"{path} cannot be read ({error}); train the probe again") from None
    if mean.dtype != np.float32 or deviation.dtype != np.float32:
        raise ActivityError(f"{path} should hold float32 tensors; train the probe again")
    _check_activity(str(path), mean, deviation)
    return Activity(mean.astype(np.float64), deviation.astype(np.float64))


def _check_activity(name: str, mean: Floats32, deviation: Floats32) -> None:
    if mean.ndim != 1 or mean.shape != deviation.shape:
        raise ActivityError(f"{name}: mean and deviation should be [neurons], not {mean.shape} and {deviation.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all() and (deviation >= 0).all()):
        raise ActivityError(f"{name}: means should be finite, deviations finite and at least 0")
