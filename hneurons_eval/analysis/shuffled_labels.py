"""Probes on shuffled labels: what L1 selection finds where there is nothing to find.

```python
shuffled = shuffled_selections(rows, C, count=39)        # probe/variation.py
shuffled.save(directory / SHUFFLED)
ShuffledSelections.load(directory).sets(sign="positive")    # one array of flat indices for each shuffle
```

An L1 fit on raw columns prefers neurons of high variance whatever the labels are, so any two probes share neurons and
layers. Selections on shuffled labels have only that preference: they are the null distribution of overlap
(`overlap.against_shuffled`), of the number of neurons in a layer, and of stability.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.util.files import SHUFFLED, write_atomically

Ints = NDArray[np.int64]
SHUFFLES = 39
"""Shuffles by default; the smallest p they can show is 1 / 40."""
_FORMAT = {"format": "hneurons-shuffled", "version": "1"}


class ShuffledError(ValueError):
    """A file of shuffled selections that is damaged or of another kind; says which and what to do."""


@dataclass(frozen=True)
class ShuffledSelections:
    """Neurons selected on shuffled labels, one selection for each shuffle.

    Attributes:
        neurons: flat indices of the neurons with a weight, int64 `[selected]` for each shuffle, ascending.
        signs: 1 or -1, the sign of each neuron's weight, int8 `[selected]` for each shuffle.
        total: neurons of the model.
        C: at which they were fitted, that of the probe.
    """

    neurons: tuple[Ints, ...]
    signs: tuple[NDArray[np.int8], ...]
    total: int
    C: float

    def __post_init__(self) -> None:
        if len(self.neurons) != len(self.signs) or any(
            own.shape != sign.shape or own.ndim != 1 for own, sign in zip(self.neurons, self.signs, strict=False)
        ):
            raise ShuffledError("shuffled selections need one sign for each neuron")
        for own, sign in zip(self.neurons, self.signs, strict=True):
            if (np.diff(own) <= 0).any() or (own.size and (own[0] < 0 or own[-1] >= self.total)):
                raise ShuffledError(f"a shuffled selection holds neurons that a model of {self.total} does not have")
            if not np.isin(sign, (-1, 1)).all():
                raise ShuffledError("signs of shuffled selections should be 1 or -1")

    def __len__(self) -> int:
        return len(self.neurons)

    def sets(self, sign: str = "both") -> list[Ints]:
        """The neurons of each shuffle whose weight is `positive` or `negative`, or `both`: flat indices.

        Raises:
            ValueError: another sign.
        """
        return [own[kept] for own, kept in zip(self.neurons, self._kept(sign), strict=True)]

    def sets_signs(self, sign: str = "both") -> list[NDArray[np.int8]]:
        """The signs of the neurons that `sets` gives, 1 or -1."""
        return [own[kept] for own, kept in zip(self.signs, self._kept(sign), strict=True)]

    def _kept(self, sign: str) -> list[NDArray[np.bool_]]:
        wanted = {"positive": (1,), "negative": (-1,), "both": (1, -1)}.get(sign)
        if wanted is None:
            raise ValueError(f"sign should be positive, negative or both, found {sign!r}")
        return [np.isin(signs, wanted) for signs in self.signs]

    def save(self, path: str | Path) -> None:
        """Write as safetensors; the file appears whole or not at all. Its place is `SHUFFLED` in a probe's directory.

        Tensors: `neurons` int64 and `signs` int8, all shuffles one after the other; `ends` int64 `[shuffles]`, where
        each ends; `total` int64 and `C` float64, `[1]`.
        """
        from safetensors.numpy import save_file

        tensors = {
            "neurons": np.concatenate([np.zeros(0, np.int64), *self.neurons]),
            "signs": np.concatenate([np.zeros(0, np.int8), *self.signs]),
            "ends": np.cumsum([len(own) for own in self.neurons], dtype=np.int64),
            "total": np.array([self.total], np.int64),
            "C": np.array([self.C]),
        }
        write_atomically(Path(path), lambda place: save_file(tensors, place, _FORMAT))

    @classmethod
    def load(cls, directory: str | Path) -> "ShuffledSelections | None":
        """Read the selections in a probe's directory; None where it has none.

        Raises:
            ShuffledError: the file is damaged or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(directory) / SHUFFLED
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                if (file.metadata() or {}) | _FORMAT != file.metadata():
                    raise ShuffledError(f"{path} holds no shuffled selections of a version this program reads")
                names = ("neurons", "signs", "ends", "total", "C")
                neurons, signs, ends, total, C = (file.get_tensor(name) for name in names)
            if ends.ndim != 1 or (np.diff(ends, prepend=0) < 0).any() or ends[-1:].sum() != len(neurons):
                raise ShuffledError("the shuffles do not add up")
            return cls(
                tuple(own.astype(np.int64) for own in np.split(neurons, ends[:-1])) if len(ends) else (),
                tuple(own.astype(np.int8) for own in np.split(signs, ends[:-1])) if len(ends) else (),
                int(total[0]),
                float(C[0]),
            )
        except (SafetensorError, OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ShuffledError(f"{path} cannot be read ({error}); train the probe again") from None


def units_of(questions: ArrayLike | None, groups: ArrayLike) -> tuple[Ints, Ints | None]:
    """The question of each answer and, where groups are coarser than questions (relations), the group: numbers from 0.

    Args:
        questions: of each answer, `[answers]`; None: each answer its own.
        groups: what is held out whole, `[answers]`: the relation, or the question itself.

    Returns:
        int64 `[answers]`, and int64 `[answers]` or None.
    """
    held = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    asked = (
        np.arange(len(held))
        if questions is None
        else np.unique(np.asarray(questions), return_inverse=True)[1].astype(np.int64)
    )
    return asked, held if held.max(initial=-1) < asked.max(initial=-1) else None


def shuffled_labels(labels: ArrayLike, questions: ArrayLike | None, groups: ArrayLike, count: int, seed: int) -> Ints:
    """Labels shuffled among questions of one relation: int64 `[count, answers]`.

    Whole questions change places with others of as many answers, so that answers to one question keep their labels
    together, and every relation keeps its share of hallucinated answers. Where groups are no coarser than questions,
    labels are shuffled among all questions. Only shuffles with both classes exist, since no label is lost.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        questions: of each answer, `[answers]`; None: each answer its own.
        groups: the relation, or the question, `[answers]`.
        count: shuffles.
        seed: of the shuffles.
    """
    y = np.asarray(labels, np.int64)
    asked, relation = units_of(questions, groups)
    members = [np.flatnonzero(asked == unit) for unit in range(int(asked.max(initial=-1)) + 1)]
    pools: dict[tuple[int, int], list[int]] = {}
    for unit, own in enumerate(members):
        pools.setdefault((0 if relation is None else int(relation[own[0]]), len(own)), []).append(unit)
    rng = np.random.default_rng(seed)
    found = np.empty((count, len(y)), np.int64)
    for shuffle in found:
        for units in pools.values():
            rows = np.stack([members[unit] for unit in units])  # [questions, answers to each]
            shuffle[rows] = y[rows[rng.permutation(len(rows))]]
    return found
