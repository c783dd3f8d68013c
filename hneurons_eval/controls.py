"""Control neuron sets: drawn at random, as deep in the model as the reference, or as strong.

```python
sets = random_sets(layout.widths, size=len(h), n=100, seed=0, exclude=h)
sets = layer_matched_sets(h, layout.widths, n=100)
sets = contribution_matched_sets(h, mean_contribution, n=100)
```

Sets are ascending flat (layer-major) indices and never hold a neuron of the reference.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
KINDS = ("uniform", "layer", "contribution")
"""How control sets are drawn: from the whole model, with as many in each layer, with as much contribution."""


def control_sets(
    chosen: ArrayLike, widths: Sequence[int], mean_contribution: ArrayLike, n: int, seed: int = 0
) -> dict[str, Ints]:
    """n sets of each kind, as large as the reference: int64 `[n, size]` by kind.

    An empty reference is compared with sets of one neuron. A kind of which there are too few neurons is left out.

    Args:
        chosen: flat indices of the reference.
        widths: neurons in each layer.
        mean_contribution: `[neurons]`.

    Raises:
        ValueError: the reference is more than half of the model; an index or a mean that does not fit.
    """
    reference = np.unique(np.asarray(chosen, np.int64))
    sets = {"uniform": random_sets(widths, max(1, reference.size), n, seed, reference)}
    # The other kinds need something to be like.
    like = reference if reference.size else sets["uniform"][0]
    layers, counts = np.unique(np.searchsorted(np.cumsum(widths), like, side="right"), return_counts=True)
    if (2 * counts <= np.asarray(widths)[layers]).all():
        sets["layer"] = layer_matched_sets(like, widths, n, seed)
    sets["contribution"] = contribution_matched_sets(like, mean_contribution, n, seed)
    return {kind: np.stack(drawn) for kind, drawn in sets.items()}


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


def contribution_matched_sets(
    reference: ArrayLike, mean_contribution: ArrayLike, n: int, seed: int = 0, *, neighbours: int = 50
) -> list[Ints]:
    """n sets whose neurons contribute as much as the reference's do.

    For each reference neuron one is drawn from the `neighbours` others nearest to it in rank of mean
    contribution; when all of those are taken, from twice as many, and so on.

    Args:
        reference: flat indices.
        mean_contribution: [neurons], for example the column means of the training features.

    Raises:
        ValueError: fewer other neurons than the reference has; an index or a mean that does not fit.
    """
    means = np.asarray(mean_contribution, np.float64)
    if means.ndim != 1 or not np.isfinite(means).all():
        raise ValueError("mean contributions must be one finite number for each neuron.")
    chosen = np.unique(np.asarray(reference, np.int64))
    pool = _outside(chosen, means.size)
    if chosen.size > pool.size:
        raise ValueError(f"{chosen.size} neurons cannot be matched by the {pool.size} others.")
    ranked = pool[np.argsort(means[pool], kind="stable")]
    places = np.searchsorted(means[ranked], means[chosen])
    rng = np.random.default_rng(seed)
    sets = []
    for _ in range(n):
        taken = np.zeros(ranked.size, np.bool_)
        for place in places[rng.permutation(places.size)]:
            width = min(max(1, neighbours), ranked.size)
            while True:
                start = int(np.clip(place - width // 2, 0, ranked.size - width))
                free = np.flatnonzero(~taken[start : start + width])
                if free.size:
                    break
                width = min(2 * width, ranked.size)
            taken[start + rng.choice(free)] = True
        sets.append(np.sort(ranked[taken]))
    return sets


def _outside(neurons: ArrayLike | None, total: int) -> Ints:
    """Ascending flat indices of a model of `total` neurons that are not in `neurons`."""
    given = np.zeros(0, np.int64) if neurons is None else np.asarray(neurons, np.int64).ravel()
    if given.size and (given.min() < 0 or given.max() >= total):
        raise ValueError(f"flat index {given.min()}..{given.max()} does not fit a model of {total} neurons.")
    free = np.ones(total, np.bool_)
    free[given] = False
    return np.flatnonzero(free)
