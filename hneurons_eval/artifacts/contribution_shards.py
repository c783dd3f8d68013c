"""Shards of a contribution store: safetensors files of some rows, with checksums in their metadata.

```python
with safetensors.safe_open("SHARD.safetensors", "numpy") as file:  # any tool can open one
    X = file.get_tensor("answer")              # [rows, neurons], in the store's precision
    rows = json.loads(file.metadata()["rows"])  # of each row: key, about, extras (lengths), checks
```

A shard has a tensor for each region, and one named `extras` with the float32 vectors of all rows, one after the other.
Its metadata hold `format`, `version`, `spec` and `rows` (JSON), and `check`, the CRC-32 of spec and rows together. The
`checks` of a row are the CRC-32 of each of its regions and of its extras: they find every burst of up to 32 bits.
"""

import hashlib
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from hneurons_eval.util.files import write_atomically

FORMAT = "hneurons-contributions"
VERSION = "1"
REDUCTIONS = ("mean", "max")
PRECISIONS = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_DTYPES = {np.dtype("<f4"): "F32", np.dtype("<f2"): "F16"}
MAX_REGIONS = 256
MAX_ROW_BYTES = 2**31
"""A row of a 70B model and three regions in float32 has 28 million bytes."""
MAX_ABOUT_BYTES = 2**20
MAX_EXTRAS = 64
MAX_EXTRAS_BYTES = 2**24
_EXTRAS = "extras"
_RESERVED = {_EXTRAS, "__metadata__"}
_EMPTY = np.empty(0, np.float32)


class StoreError(ValueError):
    """Contributions that cannot be stored or read; names the file and says what to do."""


@dataclass(frozen=True)
class StoreSpec:
    """What all rows of a store have in common.

    Attributes:
        model: fingerprint of the checkpoint.
        widths: neurons of each layer.
        regions: name of each region, in the order of the values.
        reduce: `mean` or `max` over the tokens of a region.
        precision: `float32`, or `float16` at half the size: values from 6.1e-5 to 65504 keep a relative precision
            of 2**-11 (0.05 %), smaller ones an absolute precision of 2**-25 (3e-8).

    Raises:
        StoreError: a value out of range.
    """

    model: str
    widths: tuple[int, ...]
    regions: tuple[str, ...]
    reduce: str = "mean"
    precision: str = "float32"

    def __post_init__(self) -> None:
        regions = self.regions if isinstance(self.regions, tuple) and all(map(_is_name, self.regions)) else ()
        if not _is_name(self.model):
            raise StoreError(f"model should be a fingerprint of 1 to 256 characters, found {self.model!r:.80}")
        if not isinstance(self.widths, tuple) or not self.widths or not all(_is_count(w, 1) for w in self.widths):
            raise StoreError(f"widths should be a tuple of positive integers, found {self.widths!r:.80}")
        if not 0 < len(regions) == len({*regions} - _RESERVED) <= MAX_REGIONS:
            raise StoreError(
                f"regions should be a tuple of 1 to {MAX_REGIONS} different names, none of them "
                f"{' or '.join(sorted(_RESERVED))}, found {self.regions!r:.80}"
            )
        if self.reduce not in REDUCTIONS:
            raise StoreError(f"reduce should be {' or '.join(REDUCTIONS)}, found {self.reduce!r:.80}")
        if self.precision not in tuple(PRECISIONS):
            raise StoreError(f"precision should be {' or '.join(PRECISIONS)}, found {self.precision!r:.80}")
        if self.row_bytes > MAX_ROW_BYTES:
            raise StoreError(
                f"{self.neurons} neurons in {len(self.regions)} regions make rows of {self.row_bytes} bytes, at most "
                f"{MAX_ROW_BYTES} are possible: check the widths"
            )

    @property
    def neurons(self) -> int:
        """Neurons of all layers together."""
        return sum(self.widths)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values on disk."""
        return PRECISIONS[self.precision]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's values on disk, without its extras."""
        return len(self.regions) * self.neurons * self.dtype.itemsize

    @cached_property
    def text(self) -> str:
        """All this as JSON."""
        return json.dumps(asdict(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all this, in hexadecimal."""
        return hashlib.sha256(f"{FORMAT} {VERSION} {self.text}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Contributions:
    """One row of a store: the contributions of one answer.

    Attributes:
        values: float32 `[regions, neurons]`, in the order of the spec's regions.
        about: question, response, span and whatever else describes the answer, as JSON.
        extras: small float32 vectors by name, such as `logprobs` `[tokens]`; kept in float32 in every store.
    """

    values: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)


class EncodedRow(NamedTuple):
    """A row as it is written.

    Attributes:
        values: `[regions, neurons]` in the store's precision; a copy.
        extras: all extras in one float32 vector; a copy.
        entry: key, about, lengths of extras and checksums, as JSON.
    """

    values: np.ndarray
    extras: np.ndarray
    entry: str


def encode(key: str, row: Contributions, spec: StoreSpec) -> EncodedRow:
    """Check a row and encode it.

    Raises:
        StoreError: values that are not `[regions, neurons]`, not finite, or lost in the spec's precision; `about` that
            is no JSON object or larger than `MAX_ABOUT_BYTES`; more extras than `MAX_EXTRAS` or `MAX_EXTRAS_BYTES`.
    """
    values, extras = _encode_values(row.values, spec), _encode_extras(row.extras)
    checks = {name: _checksum(region.data) for name, region in zip(spec.regions, values, strict=True)}
    lengths = {name: len(vector) for name, vector in row.extras.items()}
    entry = json.dumps({"key": key, "extras": lengths, "checks": checks | {_EXTRAS: _checksum(extras.data)}})
    return EncodedRow(values, extras, f'{entry[:-1]}, "about": {_encode_about(row.about)}}}')


def write_shard(path: Path, spec: StoreSpec, rows: Sequence[EncodedRow]) -> None:
    """Write a shard, which appears whole or not at all, and is not flushed to disk.

    `safetensors.numpy.save` would copy all values three times, which took half of the time.

    Args:
        path: of the shard.
        spec: of its store.
        rows: at least one.

    Raises:
        OSError: it could not be written.
    """
    entries = f"[{','.join(row.entry for row in rows)}]"
    metadata = {"format": FORMAT, "version": VERSION, "spec": spec.text, "rows": entries}
    header: dict[str, Any] = {"__metadata__": metadata | {"check": _checksum((spec.text + entries).encode())}}
    parts = {_EXTRAS: [row.extras for row in rows]}  # first, where they are aligned
    parts |= {name: [row.values[number] for row in rows] for number, name in enumerate(spec.regions)}
    end = 0
    for name, vectors in parts.items():
        start, end = end, end + sum(vector.nbytes for vector in vectors)
        shape = [sum(map(len, vectors))] if name == _EXTRAS else [len(rows), spec.neurons]
        header[name] = {"dtype": _DTYPES[vectors[0].dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for vector in itertools.chain(*parts.values()):
                file.write(vector.data)

    write_atomically(path, write, sync=False)


class _Entry(NamedTuple):
    """A row's entry in the metadata, its number in the shard, and where its extras begin."""

    number: int
    start: int
    key: str
    about: dict[str, Any]
    extras: dict[str, int]
    checks: dict[str, str]


class Shard:
    """A shard that is open for reading; see `open_shard`.

    Attributes:
        path: of the file.
        spec: of its store.
        entries: the entry of each key, in the order of the rows.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self.entries: dict[str, _Entry] = {}
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise _damaged(path, f"is not a shard of {FORMAT}")
        if metadata.get("version") != VERSION:
            raise StoreError(
                f"{path} has version {metadata.get('version')!r:.80} of {FORMAT}, this program reads {VERSION}; "
                "use the program that wrote it, or another directory"
            )
        spec, rows = metadata.get("spec", ""), metadata.get("rows", "")
        if metadata.get("check") != _checksum((spec + rows).encode()):
            raise _damaged(path, "has damaged metadata")
        start = 0
        try:
            fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in json.loads(spec).items()}
            self.spec = StoreSpec(**fields)
            for number, record in enumerate(json.loads(rows)):
                entry = _Entry(number, start, **record)
                lengths = list(entry.extras.values())
                checked = entry.checks.keys() == {*self.spec.regions, _EXTRAS} and isinstance(entry.about, dict)
                if not checked or not is_key(entry.key) or not all(_is_count(length, 0) for length in lengths):
                    raise ValueError(f"row {number} is not well-formed")
                self.entries[entry.key] = entry
                start += sum(lengths)
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise _damaged(path, f"has metadata that are not those of a store ({error})") from None
        self._slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, a file is no mapping
        found = {name: (one.get_dtype(), one.get_shape()) for name, one in self._slices.items()}
        expected = dict.fromkeys(self.spec.regions, (_DTYPES[self.spec.dtype], [len(self.entries), self.spec.neurons]))
        if found != expected | {_EXTRAS: ("F32", [start])}:
            raise _damaged(path, f"has tensors that its metadata do not describe: {found!r:.200}")

    def region(self, key: str, name: str) -> np.ndarray:
        """One region of a row, verified: `[neurons]` in the store's precision."""
        entry = self._entry(key)
        return self._verified(entry, name, self._slices[name][entry.number])

    def extras(self, key: str) -> dict[str, np.ndarray]:
        """The extras of a row, verified."""
        entry = self._entry(key)
        lengths = list(entry.extras.values())
        end = entry.start + sum(lengths)
        vector = self._slices[_EXTRAS][entry.start : end] if end > entry.start else _EMPTY  # no slice may be empty
        parts = np.split(self._verified(entry, _EXTRAS, vector), np.cumsum(lengths))
        return dict(zip(entry.extras, parts, strict=False))  # after the last extra, split leaves an empty part

    def row(self, key: str) -> Contributions:
        """A row, verified, with float32 values."""
        values = np.stack([self.region(key, name) for name in self.spec.regions])
        return Contributions(values.astype(np.float32, copy=False), self._entry(key).about, self.extras(key))

    def _entry(self, key: str) -> _Entry:
        if key not in self.entries:
            raise _damaged(self.path, f"has lost row {key} since it was first read")
        return self.entries[key]

    def _verified(self, entry: _Entry, name: str, values: np.ndarray) -> np.ndarray:
        if _checksum(values.data) != entry.checks[name]:
            raise _damaged(self.path, f"is damaged in the {name} of row {entry.key}")
        return values


@contextmanager
def open_shard(path: Path) -> Iterator[Shard]:
    """A shard, memory-mapped; its metadata are checked, and its values as they are read.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it is damaged or no shard.
    """
    try:
        with safe_open(path, "numpy") as file:
            yield Shard(path, file)
    except FileNotFoundError:
        raise
    except SafetensorError as error:
        raise _damaged(path, f"is not a whole safetensors file ({error})") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); see its permissions and its disk") from None


def is_key(value: Any) -> bool:
    """Whether a value is the key of a row: 64 hexadecimal digits."""
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _encode_values(values: np.ndarray, spec: StoreSpec) -> np.ndarray:
    shape = (len(spec.regions), spec.neurons)
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != shape:
        found = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise StoreError(f"values should be float32 {list(shape)} (regions, neurons), found {found}")
    if not np.isfinite(values).all():
        region, neuron = np.argwhere(~np.isfinite(values))[0]
        raise StoreError(
            f"values should be finite, found {values[region, neuron]} in region {spec.regions[region]} at neuron "
            f"{neuron}; nothing can be learnt from such a row: leave it out"
        )
    with np.errstate(over="ignore", under="ignore"):
        encoded = np.array(values, spec.dtype, order="C")
    for name, given, kept in zip(spec.regions, values, encoded, strict=True):
        if not np.isfinite(kept).all() or (given.any() and not kept.any()):
            raise StoreError(
                f"values of region {name} up to {np.abs(given).max():.4g} are out of the range of {spec.precision}; "
                "use a store of precision float32"
            )
    return encoded


def _encode_extras(extras: Mapping[str, np.ndarray]) -> np.ndarray:
    for name, vector in extras.items():
        if not _is_name(name):
            raise StoreError(f"an extra's name should have 1 to 256 printable characters, found {name!r:.80}")
        if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim != 1:
            raise StoreError(f"extra {name} should be a float32 vector, found {vector!r:.80}")
        if not np.isfinite(vector).all():
            raise StoreError(f"extra {name} should be finite, found {vector!r:.80}")
    encoded = np.concatenate([_EMPTY, *extras.values()])
    if len(extras) > MAX_EXTRAS or encoded.nbytes > MAX_EXTRAS_BYTES:
        raise StoreError(
            f"{len(extras)} extras of {encoded.nbytes} bytes are given, "
            f"a row takes {MAX_EXTRAS} of {MAX_EXTRAS_BYTES} bytes"
        )
    return encoded


def _encode_about(about: Mapping[str, Any]) -> str:
    if not isinstance(about, Mapping) or not all(isinstance(name, str) for name in about):
        raise StoreError(f"about should be an object with names, found {about!r:.80}")
    try:
        text = json.dumps(dict(about), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"about should be JSON ({error}), found {about!r:.80}") from None
    if len(text) > MAX_ABOUT_BYTES:
        raise StoreError(f"about has {len(text)} bytes of JSON, a row takes {MAX_ABOUT_BYTES}; leave the longest out")
    return text


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**63


def _checksum(data: memoryview | bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path} {what}; delete it and run the capture task again, which captures the answers in it anew and no others"
    )
