"""Stability: how often neurons are selected again on half of the answers, also with shuffled labels.

```python
share = stability(rows, C, coef)
null = shuffled_stability(rows, C)
print(f"{(share[chosen] > STABLE).sum()} of {chosen.sum()} stable; {null.sentence}")
```

A share above one half carries no error control by itself (the bound of Meinshausen and Bühlmann 2010 is infinite
there). The number of stable neurons under shuffled labels shows what it is worth.

Half-samples come in complementary pairs (Shah and Samworth 2013, section 2), of whole relations where there are any,
else of questions: neurons that code for a relation come back on every half that holds it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.shuffled_labels import units_of
from hneurons_eval.probe.l1_path import fit_paths
from hneurons_eval.probe.training_sets import TrainingRows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STABLE = 0.5
"""A neuron selected in more than this share of half-samples is called stable."""


def stability(rows: TrainingRows, C: float, coef: ArrayLike, resamples: int = 50, seed: int = 0) -> Floats:
    """Share of half-samples in which each neuron is selected with the sign that it has in the probe: `[neurons]`.

    A neuron without a weight in the probe has the share of its more frequent sign. Drawn rows weigh more, so that the
    loss is as large against the penalty as with all rows. Halves that lack a class are left out; where all do, every
    share is 0.

    Args:
        rows: training rows of the probe.
        C: that of the probe.
        coef: weights of the probe, `[neurons]`.
        resamples: half-samples, in pairs; an odd number is rounded down.
        seed: of the halves.

    Raises:
        ValueError: as `fit_paths`.
    """
    weights = half_samples(rows, rows.answer_labels, resamples, seed)
    if not len(weights):
        return np.zeros(rows.X.shape[1])
    paths = fit_paths(rows.X, rows.labels, weights, [C])
    return _shares([path.weights(0) for path in paths], np.asarray(coef))


@dataclass(frozen=True)
class ShuffledStability:
    """Numbers of selected and of stable neurons with shuffled labels.

    Attributes:
        chosen: neurons selected on all rows, for each shuffle: int64 `[shuffles]`.
        stable: those of them that are stable, `[shuffles]`.
    """

    chosen: Ints
    stable: Ints

    @property
    def sentence(self) -> str:
        """The means over shuffles in words: `6 of 50 with shuffled labels`."""
        return f"{self.stable.mean():.3g} of {self.chosen.mean():.3g} with shuffled labels"


def shuffled_stability(
    rows: TrainingRows, C: float, shuffles: int = 5, resamples: int = 20, seed: int = 0
) -> ShuffledStability:
    """Numbers of selected and stable neurons at the same C with labels shuffled within relations.

    Every shuffle selects on all rows, and again on half-samples as `stability` does. The default numbers make 105 fits
    at one C, which share their passes over X.

    Args:
        rows, C: as `stability`.
        shuffles: of the labels.
        resamples: half-samples of each shuffle.
        seed: of shuffles and halves.

    Raises:
        ValueError: as `fit_paths`.
    """
    labels, weights, ends = [], [], []
    for number, (own, y) in enumerate(zip(*rows.shuffled(shuffles, seed), strict=True)):
        halves = half_samples(rows, own, resamples, seed + number)
        weights.append(np.concatenate([np.ones((1, len(y))), halves]))
        labels.append(np.tile(y, (len(weights[-1]), 1)))
        ends.append(len(weights[-1]))
    paths = fit_paths(rows.X, np.concatenate(labels), np.concatenate(weights), [C])
    counts = []
    for start, end in zip(np.cumsum([0, *ends[:-1]]), np.cumsum(ends), strict=True):
        coef, *halves = (path.weights(0) for path in paths[start:end])
        stable = (_shares(halves, coef) if halves else np.zeros(len(coef))) > STABLE
        counts.append([(coef != 0).sum(), (stable & (coef != 0)).sum()])
    return ShuffledStability(*np.array(counts, np.int64).T)


def half_samples(rows: TrainingRows, labels: ArrayLike, resamples: int, seed: int) -> Floats:
    """Row weights of half-samples in complementary pairs: `[halves, rows]`; 0 leaves a row out.

    Relations are split where there are any, else questions. The weights of the drawn rows add up to the number of rows.

    Args:
        rows: training rows.
        labels: of each answer, `[answers]`; halves with one class only are left out.
        resamples, seed: as `stability`.
    """
    y = np.asarray(labels)
    asked, relation = units_of(rows.questions, rows.members)
    member = asked if relation is None else relation
    rng = np.random.default_rng(seed)
    weights = []
    for _ in range(resamples // 2):
        half = rng.permutation(int(member.max()) + 1) % 2
        for side in (0, 1):
            drawn = half[member] == side
            if len(np.unique(y[drawn])) == 2:
                weights.append(drawn[rows.answers] * (len(y) / drawn.sum()))
    return np.array(weights, np.float64).reshape(len(weights), len(rows.answers))


def _shares(coefs: list[Floats], reference: Floats) -> Floats:
    """Share of fits in which each neuron has the sign of the reference: `[neurons]`."""
    positive, negative = np.zeros(len(reference)), np.zeros(len(reference))
    for coef in coefs:
        positive += coef > 0
        negative += coef < 0
    times = np.where(reference > 0, positive, np.where(reference < 0, negative, np.maximum(positive, negative)))
    return times / len(coefs)
