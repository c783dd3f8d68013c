"""Neuron sets: (layer, index) pairs, their weights and stability, the model they are of and how they were chosen.

```python
neurons = NeuronSet.load("neurons.json")   # or a directory that holds a neurons.json, as a probe directory does
for layer, index, weight, sign in neurons: ...
neurons.to_frame()                         # needs pandas
neurons.positive, neurons.negative         # by the sign of the probe's weights; the positive ones are the H-neurons
neurons.save("copy.json")
flat = neurons.flat(layout)                # checked against the model's layout
neurons = NeuronSet.from_pretrained("owner/name")  # from the Hub; `push` puts them there
```
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.cards import About, repository_card
from hneurons_eval.util.files import CARD, NEURONS, is_intact, sealed, write_text_atomically
from hneurons_eval.util.frames import data_frame
from hneurons_eval.util.hub import OnHub

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "hneurons-neurons"
VERSION = 1
Sign = Literal["positive", "negative", "both"]
"""Which of a probe's neurons are meant, by the sign of their weights."""
SIGNS: tuple[Sign, ...] = get_args(Sign)
_LARGEST = 2**53
MAX_NEURONS = 50_000_000
"""More entries than any model has neurons; a file that claims more is not read."""


class NeuronSetError(ValueError):
    """A neuron file that cannot be read, or neurons that do not fit a model."""


@dataclass(frozen=True, eq=False)
class NeuronSet(OnHub):
    """Neurons of a model, sorted by layer and index, without repeats.

    Attributes:
        layers: int64 `[neurons]`, layer of each, from 0.
        indices: int64 `[neurons]`, index of each within its layer.
        weights: float64 `[neurons]`, the probe's weight of each, or None.
        model: name of the model they were found in, or None.
        widths: neurons in each layer of that model, or None if not known.
        provenance: how they were chosen; JSON.
        stability: float64 `[neurons]`, share of the resamples of questions in which each was selected, or None.

    Raises:
        NeuronSetError: lengths differ, negative or repeated entries, a weight that is not finite, a stability that is
            no share.
    """

    layers: np.ndarray
    indices: np.ndarray
    weights: np.ndarray | None = None
    model: str | None = None
    widths: tuple[int, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    stability: np.ndarray | None = None

    def __post_init__(self) -> None:
        layers, indices = _integers(self.layers, "layers"), _integers(self.indices, "indices")
        weights = None if self.weights is None else _numbers(self.weights, "weights")
        stability = None if self.stability is None else _numbers(self.stability, "stability")
        given = {"layers": layers, "indices": indices, "weights": weights, "stability": stability}
        lengths = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(lengths.values())) != 1:
            found = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise NeuronSetError(f"the lists of a neuron set should have one length, found {found}")
        if weights is not None and not np.isfinite(weights).all():
            raise NeuronSetError("a weight of the neuron set is not a finite number")
        if stability is not None and not ((stability >= 0) & (stability <= 1)).all():
            raise NeuronSetError("the stability of a neuron should be a share from 0 to 1")
        order = np.lexsort((indices, layers))
        layers, indices = layers[order], indices[order]
        if ((np.diff(layers) == 0) & (np.diff(indices) == 0)).any():
            raise NeuronSetError("a neuron is listed twice")
        if self.widths is not None:
            try:
                NeuronLayout(tuple(self.widths)).flat(layers, indices)
            except IndexError as error:
                raise NeuronSetError(f"the neuron set does not fit its own widths: {error}") from None
            object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "weights", None if weights is None else weights[order])
        object.__setattr__(self, "stability", None if stability is None else stability[order])

    @classmethod
    def from_flat(
        cls,
        indices: Sequence[int] | np.ndarray,
        layout: NeuronLayout,
        weights: np.ndarray | None = None,
        model: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> "NeuronSet":
        """The neurons with these flat (layer-major) indices of a layout.

        Raises:
            IndexError: a flat index that the layout does not have.
            NeuronSetError: indices that are not whole numbers of at least 0.
        """
        layers, within = layout.unflatten(_integers(indices, "indices"))
        return cls(layers, within, weights, model, layout.widths, dict(provenance or {}))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[tuple[int, int, float, str]]:
        """(layer, index, weight, sign) of each neuron; without weights these are NaN and `positive`."""
        weights = np.full(len(self), np.nan) if self.weights is None else self.weights
        for layer, index, weight in zip(self.layers, self.indices, weights, strict=True):
            sign = "negative" if weight < 0 else "none" if weight == 0 else "positive"
            yield int(layer), int(index), float(weight), sign

    def __repr__(self) -> str:
        total = f" of {sum(self.widths):,}" if self.widths else ""
        return f"<NeuronSet: {self.count_by_sign}{total}, {self.model or 'model unknown'}>"

    def to_frame(self) -> "pd.DataFrame":
        """A data frame with a row for each neuron: `model`, `layer`, `index`, `weight`, `stability`.

        The last two are missing where they are not known.

        Raises:
            ImportError: pandas is not installed.
        """
        given = ("layers", "indices", "weights", "stability")
        values = [[None] * len(self) if (one := getattr(self, name)) is None else one.tolist() for name in given]
        rows = [(self.model, *row) for row in zip(*values, strict=True)]
        return data_frame(rows, ("model", "layer", "index", "weight", "stability"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NeuronSet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of which neurons these are (not of weights or provenance)."""
        pairs = np.stack([self.layers, self.indices], axis=1).astype("<i8")
        return hashlib.sha256(pairs.tobytes()).hexdigest()

    @property
    def positive(self) -> "NeuronSet":
        """The neurons with a positive weight: the H-neurons of Gao et al. (2025), section 2.3. All, without weights."""
        return self if self.weights is None else self._where(self.weights > 0)

    @property
    def negative(self) -> "NeuronSet":
        """The neurons with a negative weight, which speak for a faithful answer. None, without weights."""
        return self._where(np.zeros(len(self), np.bool_) if self.weights is None else self.weights < 0)

    def of_sign(self, sign: str) -> "NeuronSet":
        """The `positive` or `negative` neurons, or `both`: this set.

        Raises:
            ValueError: another sign.
        """
        if sign not in SIGNS:
            raise ValueError(f"sign should be {', '.join(SIGNS[:-1])} or {SIGNS[-1]}, found {sign!r}")
        return self if sign == "both" else self.positive if sign == "positive" else self.negative

    @property
    def count_by_sign(self) -> str:
        """How many neurons there are in words: `17 neurons, 6 positive`, or `17 neurons` without weights."""
        plain = f"{len(self):,} neuron{'' if len(self) == 1 else 's'}"
        return plain if self.weights is None else f"{plain}, {len(self.positive):,} positive"

    def _where(self, kept: np.ndarray) -> "NeuronSet":
        return replace(
            self,
            layers=self.layers[kept],
            indices=self.indices[kept],
            weights=None if self.weights is None else self.weights[kept],
            stability=None if self.stability is None else self.stability[kept],
        )

    def flat(self, layout: NeuronLayout) -> np.ndarray:
        """Flat indices in a model's layout: int64 `[neurons]`.

        Raises:
            NeuronSetError: the set is of a model with other layers.
        """
        self.check(layout)
        return layout.flat(self.layers, self.indices)

    def check(self, layout: NeuronLayout, model: str = "the model") -> None:
        """Refuse a model that has other layers than the one these neurons are from.

        Raises:
            NeuronSetError: says both layouts.
        """
        if self.widths is not None and tuple(self.widths) != layout.widths:
            raise NeuronSetError(
                f"the neurons are of {self.model or 'a model'} with {NeuronLayout(tuple(self.widths))}, "
                f"but {model} has {layout}; use neurons found in this model"
            )
        try:
            layout.flat(self.layers, self.indices)
        except IndexError as error:
            raise NeuronSetError(f"the neurons do not fit {model}: {error}; use neurons found in this model") from None

    def save(self, path: str | Path) -> None:
        """Write as JSON; the file appears whole or not at all. A file that is written by hand needs no `sha256`."""
        record = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "widths": None if self.widths is None else list(self.widths),
            "layers": self.layers.tolist(),
            "indices": self.indices.tolist(),
            "weights": None if self.weights is None else self.weights.tolist(),
            "stability": None if self.stability is None else self.stability.tolist(),
            "provenance": dict(self.provenance),
        }
        write_text_atomically(Path(path), json.dumps(sealed(record), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "NeuronSet":
        """Read a neuron file, or the one in a probe directory; its `positive` neurons are the H-neurons.

        Raises:
            NeuronSetError: missing, not JSON, of another format, or with fields that do not fit.
        """
        path = Path(path)
        if os.path.isdir(path):  # False, where Path.is_dir raises, for a name that is too long for a file
            path /= NEURONS
        if not os.path.isfile(path):
            raise NeuronSetError(f"no neuron file at {path}; give a neuron JSON file or a directory with a {NEURONS}")
        try:
            record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError, OSError) as error:
            raise NeuronSetError(f"{path} is not a neuron file: {error}") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise NeuronSetError(f'{path} is not a neuron file: expected a JSON object with "format": "{FORMAT}"')
        if record.get("version") != VERSION or type(record["version"]) is not int:
            raise NeuronSetError(f"{path} has version {record.get('version')!r}, this program reads {VERSION}")
        if not is_intact(record):
            raise NeuronSetError(
                f"{path} is damaged: its content is not that of its sha256; get it again, or leave the sha256 out if "
                "you changed it by hand"
            )
        try:
            return cls(
                _number_list(record, "layers", int),
                _number_list(record, "indices", int),
                None if record.get("weights") is None else _number_list(record, "weights", float),
                _optional_text(record, "model"),
                _optional_widths(record),
                _optional_mapping(record, "provenance"),
                None if record.get("stability") is None else _number_list(record, "stability", float),
            )
        except NeuronSetError as error:
            raise NeuronSetError(f"{path}: {error}") from None

    @property
    def facts(self) -> list[tuple[str, object]]:
        """What a card says of these neurons, by name."""
        share = f" ({1000 * len(self) / sum(self.widths):.3f} per mille)" if self.widths else ""
        stable = None if self.stability is None or not len(self) else int((self.stability > 0.5).sum())
        return [
            ("neurons with a weight", f"{self.count_by_sign}{share}"),
            ("digest of the neurons (SHA-256)", self.digest),
            ("selected again on most halves of the questions", None if stable is None else f"{stable:,}"),
        ]

    def without_questions(self) -> "NeuronSet":
        """The same neurons, with the number and a hash in place of the training questions in their provenance."""
        kept = dict(self.provenance)
        questions = kept.pop("training_questions", None)
        if isinstance(questions, list):
            digest = hashlib.sha256(json.dumps(questions, sort_keys=True).encode()).hexdigest()
            kept |= {"training_questions_count": len(questions), "training_questions_sha256": digest}
        return replace(self, provenance=kept)

    def save_pretrained(self, directory: str | Path, about: About | None = None, name: str | None = None) -> None:
        """Write `neurons.json` and a card, as `push` uploads them; arguments as of `OnHub.save_pretrained`."""
        self.save(Path(directory) / NEURONS)
        known = (self.model, self.widths, self.facts, self.provenance, self.layers)
        text = repository_card("NeuronSet", name or str(directory), about or About(), *known)
        write_text_atomically(Path(directory) / CARD, text)


def check_alpha(alpha: Any) -> float:
    """A scaling factor as a float.

    Raises:
        ValueError: not a number, not finite, or negative.
    """
    if isinstance(alpha, str):
        with suppress(ValueError):
            alpha = float(alpha)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.integer | np.floating):
        raise ValueError(f"alpha should be a number of at least 0, found {alpha!r}")
    if not 0 <= alpha < _LARGEST:
        raise ValueError(f"alpha should be a finite number of at least 0, found {alpha}")
    return float(alpha)


def _integers(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise NeuronSetError(f"{name} should be a list of whole numbers")
    if array.size and array.min() < 0:
        raise NeuronSetError(f"{name} should not be negative, found {array.min()}")
    if array.size and array.max() > _LARGEST:
        raise NeuronSetError(f"{name} should be smaller, found {array.max()}")
    return array.astype(np.int64)


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise NeuronSetError(f"{name} should be a list of numbers") from None
    if array.ndim != 1:
        raise NeuronSetError(f"{name} should be a list of numbers")
    return array


def _number_list(record: Mapping[str, Any], key: str, kind: type) -> np.ndarray:
    values = record.get(key)
    allowed = (int,) if kind is int else (int, float)
    if not isinstance(values, list) or len(values) > MAX_NEURONS:
        raise NeuronSetError(f'"{key}" should be a list of numbers')
    if any(isinstance(v, bool) or not isinstance(v, allowed) for v in values):
        raise NeuronSetError(f'"{key}" should hold {"whole " if kind is int else ""}numbers only')
    # Compared before isfinite, which cannot take an integer that no float can hold.
    if any(abs(v) > _LARGEST or not math.isfinite(v) for v in values):
        raise NeuronSetError(f'"{key}" holds a number that is out of range')
    return np.asarray(values, np.int64 if kind is int else np.float64)


def _optional_widths(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    if record.get("widths") is None:
        return None
    widths = _number_list(record, "widths", int).tolist()
    if min(widths, default=0) < 1:
        raise NeuronSetError('"widths" should hold the number of neurons of each layer, at least 1')
    return tuple(widths)


def _optional_mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    if value is not None and not isinstance(value, dict):
        raise NeuronSetError(f'"{key}" should be a JSON object')
    return value or {}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _optional_text(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise NeuronSetError(f'"{key}" should be text')
    return value
