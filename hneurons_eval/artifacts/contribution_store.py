"""Contribution vectors on disk: rows in shards, checksummed, added while capturing, read a region at a time.

```python
spec = FeatureSpec(model=fingerprint, widths=layout.widths, regions=("answer", "other"), reduce="mean")
store = open_store(root / spec.digest, spec)       # one object for each directory in a process
if key not in store:
    store.add(key, Features(values, about={"question": question, "span": [0, 5]}, extras={"logprobs": logprobs}))
X = find_store(root, keys).matrix(keys, "answer")  # float32 [keys, neurons]
```

A store is a directory. `spec.json` says what all rows share; the rows stand in pairs of files:

- `NAME.rows`, the shard: 64 bytes that name the store and the shard, then the rows, each of them the values
  `[regions, neurons]` in the store's precision and after them the extras in float32, all little-endian;
- `NAME.jsonl`, its index: a header, then a line for each row that is finished, with its key, its place, the CRC-32
  of each region and of the extras, and what the row is about. Every line ends in a CRC-32 of its own text.

A shard is written by one process alone, which makes a new one when it starts and whenever one is full. A line is
added only when its row has been flushed to disk, so a process that is killed, a full disk or a power cut leave at
most bytes that no line names, or a last line without its end, and neither is data. CRC-32 because the enemy is
accident: it finds every burst of up to 32 bits, and misses other damage once in four thousand million times.

Rows are read by plain reads into one buffer and not through a memory map: a map of a file that has been cut short
kills the process instead of raising an error, and its pages count as memory in use. Reading one region touches and
verifies that region only, and a shard is open only while it is read.
"""

import hashlib
import itertools
import json
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hneurons_eval.util.files import write_atomically

FORMAT = "hneurons-features"
VERSION = 1
REDUCTIONS = ("mean", "max")
PRECISIONS = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
MAX_NEURONS = 2**30
MAX_REGIONS = 256
MAX_ROW_BYTES = 2**31
"""A row of 70B parameters and three regions in float32 has 28 million bytes."""
MAX_ABOUT_BYTES = 2**20
MAX_EXTRAS = 64
MAX_EXTRAS_BYTES = 2**24
_LONGEST_NAME = 256
_LONGEST_LINE = MAX_ABOUT_BYTES + 2**17
_MARK_BYTES = 64
_EXTRA = np.dtype("<f4")
_SPEC_FILE = "spec.json"
_ROWS, _INDEX = ".rows", ".jsonl"


class StoreError(ValueError):
    """Rows that cannot be stored or read; names the file and says what to do."""


@dataclass(frozen=True)
class FeatureSpec:
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
        if not _is_name(self.model):
            raise StoreError(
                f"model should be a fingerprint of 1 to {_LONGEST_NAME} characters, found {self.model!r:.80}"
            )
        if not isinstance(self.widths, tuple) or not self.widths or not all(_is_count(w, 1) for w in self.widths):
            raise StoreError(f"widths should be a tuple of positive integers, found {self.widths!r:.80}")
        named = isinstance(self.regions, tuple) and 0 < len(self.regions) <= MAX_REGIONS
        if not named or not all(map(_is_name, self.regions)) or len(set(self.regions)) < len(self.regions):
            raise StoreError(
                f"regions should be a tuple of 1 to {MAX_REGIONS} different names, found {self.regions!r:.80}"
            )
        if self.reduce not in REDUCTIONS:
            raise StoreError(f"reduce should be {' or '.join(REDUCTIONS)}, found {self.reduce!r:.80}")
        if self.precision not in PRECISIONS:
            raise StoreError(f"precision should be {' or '.join(PRECISIONS)}, found {self.precision!r:.80}")
        if self.neurons > MAX_NEURONS or self.row_bytes > MAX_ROW_BYTES:
            raise StoreError(
                f"{self.neurons} neurons in {len(self.regions)} regions make rows of {self.row_bytes} bytes; "
                f"at most {MAX_NEURONS} neurons and {MAX_ROW_BYTES} bytes are possible: check the widths"
            )

    @property
    def neurons(self) -> int:
        """Neurons of all layers together."""
        return sum(self.widths)

    @property
    def dtype(self) -> np.dtype[Any]:
        """In which values are stored."""
        return PRECISIONS[self.precision]

    @property
    def row_bytes(self) -> int:
        """Size of a row's values on disk, without its extras."""
        return len(self.regions) * self.neurons * self.dtype.itemsize

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all this, in hexadecimal."""
        text = json.dumps([FORMAT, VERSION, self.to_json()], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "widths": list(self.widths),
            "regions": list(self.regions),
            "reduce": self.reduce,
            "precision": self.precision,
        }

    @classmethod
    def from_json(cls, record: Any) -> "FeatureSpec":
        """The spec that `to_json` gave.

        Raises:
            StoreError: anything else.
        """
        names = {"model", "widths", "regions", "reduce", "precision"}
        if not isinstance(record, dict) or set(record) != names:
            raise StoreError(f"a spec should be an object with {', '.join(sorted(names))}, found {record!r:.80}")
        if not isinstance(record["widths"], list) or not isinstance(record["regions"], list):
            raise StoreError("widths and regions of a spec should be lists")
        if not isinstance(record["reduce"], str) or not isinstance(record["precision"], str):
            raise StoreError("reduce and precision of a spec should be words")
        return cls(
            record["model"],
            tuple(record["widths"]),
            tuple(record["regions"]),
            record["reduce"],
            record["precision"],
        )


@dataclass(frozen=True, eq=False)
class Features:
    """One row: the contributions of one answer.

    Attributes:
        values: float32 `[regions, neurons]`, in the order of the spec's regions.
        about: whatever should be known of the row (question, response, span, log, ...), as JSON.
        extras: small float32 vectors by name, such as `logprobs` `[tokens]`; kept in float32 in every store.
    """

    values: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)


class ContributionStore:
    """The rows of one spec in one directory, for any number of threads and processes at once.

    Args:
        directory: where the store is, or where one is made. Name it after `spec.digest`, so that every spec has its
            own.
        spec: what all rows have in common.

    Raises:
        StoreError: the directory is the store of another spec, or none that can be read.

    Every method looks first for what other processes have added, which costs a look at the directory and the size
    of each index, and raises StoreError where a file of the store is damaged, incomplete or not its own. Files that
    are deleted (a shard always together with its index) take their rows out of the store.
    """

    SHARD_BYTES: int = 2**30
    """A shard that would grow beyond this size is left for a new one."""

    def __init__(self, directory: Path, spec: FeatureSpec) -> None:
        self.directory = directory
        self.spec = spec
        self._writing = threading.Lock()  # held while a row is written; always taken before the other one
        self._lock = threading.Lock()  # held while `_places` and `_read` are used
        self._places: dict[str, _Place] = {}
        self._read: dict[str, tuple[int, int]] = {}  # for each index the bytes and lines that were read
        self._writer: _Writer | None = None
        self._establish()
        with self._lock:
            self._scan()

    def __contains__(self, key: str) -> bool:
        return not self.missing([key])

    def __len__(self) -> int:
        with self._lock:
            self._scan()
            return len(self._places)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of some keys that are not in the store.

        Raises:
            StoreError: something that is no key (64 hexadecimal digits).
        """
        return [key for key, place in zip(keys, self._find(keys), strict=True) if place is None]

    def index(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every key with what its row is about, in the order in which shards were begun and rows added.

        Reads the indexes line by line and no values.
        """
        with self._lock:
            self._scan()
            places = sorted((place, key) for key, place in self._places.items())
        for name, group in itertools.groupby(places, key=lambda entry: entry[0].shard):
            with self._open(name) as shard:
                for place, key in group:
                    yield key, shard.row(key, place).about

    def get(self, key: str) -> Features:
        """A row, verified; values are float32 whatever the precision.

        Raises:
            StoreError: no such row, or it is damaged.
        """
        (place,) = self._locate([key])
        values = np.empty((len(self.spec.regions), self.spec.neurons), self.spec.dtype)
        with self._open(place.shard) as shard:
            row = shard.row(key, place)
            for number, region in enumerate(values):
                shard.read_region(row, number, region)
            return Features(values.astype(np.float32, copy=False), row.about, shard.extras(row))

    def extras(self, key: str) -> dict[str, np.ndarray]:
        """The extras of a row, verified, without reading its values.

        Raises:
            StoreError: no such row, or it is damaged.
        """
        (place,) = self._locate([key])
        with self._open(place.shard) as shard:
            return shard.extras(shard.row(key, place))

    def matrix(self, keys: Sequence[str], region: str, out: np.ndarray | None = None) -> np.ndarray:
        """One region of many rows, verified: float32 `[keys, neurons]`, in the order of the keys.

        Shard by shard in the order on disk, whatever the order of the keys. Beside the result it needs the memory of
        one region of one row.

        Args:
            keys: which rows; a key may stand there twice.
            region: one of the spec's regions.
            out: float32 `[keys, neurons]` to fill and return; made where it is not given. After an error some of it
                is filled.

        Raises:
            StoreError: no such region or row, an `out` that does not fit, or a row that is damaged.
        """
        if region not in self.spec.regions:
            raise StoreError(
                f"no region {region!r:.80} is in {self.directory}, there are {', '.join(self.spec.regions)}"
            )
        number = self.spec.regions.index(region)
        shape = (len(keys), self.spec.neurons)
        if out is not None and (out.shape != shape or out.dtype != np.float32 or not out.flags.writeable):
            raise StoreError(f"out should be a writeable float32 {list(shape)}, found {out.dtype} {list(out.shape)}")
        places = self._locate(keys)
        result = np.empty(shape, np.float32) if out is None else out
        buffer = np.empty(self.spec.neurons, self.spec.dtype)
        order = sorted(range(len(keys)), key=lambda i: places[i])
        for name, group in itertools.groupby(order, key=lambda i: places[i].shard):
            with self._open(name) as shard:
                for i in group:
                    shard.read_region(shard.row(keys[i], places[i]), number, buffer)
                    result[i] = buffer
        return result

    def add(self, key: str, features: Features) -> None:
        """Add a row, which appears whole or not at all; a key that is there is left alone.

        On return it is safe from the death of the process, and from a power cut as soon as the system has written out
        its line in the index (the row itself has been flushed). Where two processes add the same key at the same
        moment both rows are kept, and the one in the older shard counts.

        Raises:
            StoreError: no key; values that are not `[regions, neurons]`, not finite, or lost in the store's
                precision (see `FeatureSpec`); `about` that is no JSON object or larger than `MAX_ABOUT_BYTES`; more
                extras than `MAX_EXTRAS` or `MAX_EXTRAS_BYTES`. Nothing has been written.
            OSError: it could not be written, for instance because the disk is full. The row is not in the store,
                which is as usable as before.
        """
        if key in self:
            return
        values = self._stored(features.values)
        extras = _extras(features.extras)
        tail = b"".join(vector.tobytes() for vector in extras.values())
        about = _about(features.about)
        checks = [_checksum(region.data) for region in values]

        def line(offset: int) -> bytes:
            lengths = {name: len(vector) for name, vector in extras.items()}
            return _sealed(_Row(key, offset, checks, lengths, _checksum(tail), about)._asdict())

        with self._writing:
            if key in self:  # another thread or process was faster
                return
            writer = self._writer_for(values.nbytes + len(tail))
            try:
                writer.append([values.reshape(-1).view(np.uint8).data, tail], line)
            except BaseException:
                if writer.torn:
                    self._drop_writer()
                raise
            with self._lock:
                self._scan()

    def close(self) -> None:
        """Finish the shard that is being written; adding another row begins a new one."""
        with self._writing:
            if self._writer is not None and self._writer.process == os.getpid():
                self._writer.flush()
            self._drop_writer()

    # ---- writing ----

    def _stored(self, values: np.ndarray) -> np.ndarray:
        """Values as they are written: `[regions, neurons]` in the store's precision."""
        shape = (len(self.spec.regions), self.spec.neurons)
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != shape:
            found = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
            raise StoreError(f"values should be float32 {list(shape)} (regions, neurons), found {found}")
        if not np.isfinite(values).all():
            bad = np.argwhere(~np.isfinite(values))[0]
            raise StoreError(
                f"values should be finite, found {values[tuple(bad)]} in region {self.spec.regions[bad[0]]} "
                f"at neuron {bad[1]}; nothing can be learnt from such a row: leave it out"
            )
        with np.errstate(over="ignore", under="ignore"):
            stored = np.ascontiguousarray(values, self.spec.dtype)
        for name, given, kept in zip(self.spec.regions, values, stored, strict=True):
            if not np.isfinite(kept).all() or (given.any() and not kept.any()):
                largest = np.abs(given).max()
                raise StoreError(
                    f"values of region {name} up to {largest:.4g} are out of the range of {self.spec.precision}; "
                    "use a store of precision float32"
                )
        return stored

    def _writer_for(self, size: int) -> "_Writer":
        """The shard to add a row of some size to; makes one where there is none or it is full."""
        writer = self._writer
        if writer is not None:
            with self._lock:
                present = writer.name in self._read
            if writer.process != os.getpid() or not present:  # a fork, or the files have been deleted
                self._drop_writer()
            elif writer.end > _MARK_BYTES and writer.end + size > self.SHARD_BYTES:
                writer.flush()
                self._drop_writer()
        if self._writer is None:
            self._establish()
            # The time first, so that names sort by age, and chance, so that no two processes choose the same.
            name = f"{time.time_ns() // 10**6:012x}-{secrets.token_hex(8)}"
            header = {"format": FORMAT, "version": VERSION, "shard": name, "spec": self.spec.digest}
            self._writer = _Writer(
                self.directory, name, self._mark(name), _sealed(header | {"row_bytes": self.spec.row_bytes})
            )
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _establish(self) -> None:
        """Make the directory and its spec, or check that they are this store's."""
        path = self.directory / _SPEC_FILE
        if not path.is_file():
            content = _sealed({"format": FORMAT, "version": VERSION, "spec": self.spec.to_json()})
            write_atomically(path, lambda temporary: temporary.write_bytes(content))
        found = _read_spec(path)
        if found != self.spec:
            differing = [
                f"{name} {theirs!r:.80} instead of {ours!r:.80}"
                for (name, theirs), ours in zip(found.to_json().items(), self.spec.to_json().values(), strict=True)
                if theirs != ours
            ]
            raise StoreError(
                f"{path} is of a store with {', '.join(differing)}; use another directory, one for each spec"
            )

    def _mark(self, name: str) -> bytes:
        """The first 64 bytes of a shard, by which it is known for this store's and this index's."""
        title = f"{FORMAT} {VERSION}\n".encode().ljust(_MARK_BYTES // 2, b"\0")
        return title + hashlib.sha256(f"{name} {self.spec.digest}".encode()).digest()

    # ---- reading ----

    def _find(self, keys: Sequence[str]) -> list["_Place | None"]:
        for key in keys:
            _check_key(key)
        with self._lock:
            self._scan()
            return [self._places.get(key) for key in keys]

    def _locate(self, keys: Sequence[str]) -> list["_Place"]:
        found = self._find(keys)
        missing = [key for key, place in zip(keys, found, strict=True) if place is None]
        if missing:
            raise StoreError(
                f"{len(missing)} of {len(keys)} rows are not in {self.directory}, the first is {missing[0]}; "
                "set HNEURONS_ARTIFACTS to the directory they were captured into, or run the capture task again"
            )
        return [place for place in found if place is not None]

    def _scan(self) -> None:
        """Take in what was added since the last look; the caller holds the lock."""
        names: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        indexes = {name.removesuffix(_INDEX) for name in names if name.endswith(_INDEX)}
        shards = {name.removesuffix(_ROWS) for name in names if name.endswith(_ROWS)}
        if not self._read.keys() <= indexes:  # what a deleted shard held may stand in another one too
            self._places.clear()
            self._read.clear()
        for name in sorted(shards - indexes):
            # The index is made before the first row is written, so rows without one have lost it.
            if self._has_rows(name) and not self._path(name, _INDEX).exists():
                raise StoreError(
                    f"{self._path(name, _ROWS)} has no index {name}{_INDEX} beside it; put the index back, or delete "
                    "the shard and run the capture task again"
                )
        for name in sorted(indexes):
            self._scan_index(name)

    def _scan_index(self, name: str) -> None:
        path = self._path(name, _INDEX)
        done, lines = self._read.get(name, (0, 0))
        has_rows = not lines and self._has_rows(name)  # asked before the index is read: rows come after its header
        found: list[tuple[str, _Place]] = []
        end = 0  # of the last row in the shard
        try:
            size = path.stat().st_size
            if lines and size == done:
                return
            if size < done:
                raise _damaged(path, f"is shorter than the {done} bytes it had")
            with path.open("rb") as file:
                file.seek(done)
                while (line := file.readline(_LONGEST_LINE + 1)).endswith(b"\n"):
                    lines += 1
                    if lines == 1:
                        self._check_header(path, line)
                    else:
                        row = _row(line, self.spec)
                        if row is None:
                            raise _damaged(path, f"line {lines} is damaged")
                        found.append((row.key, _Place(name, done, len(line))))
                        end = max(end, row.end(self.spec))
                    done += len(line)
        except FileNotFoundError:
            return  # deleted, or given up by a writer, since it was listed
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror})") from None
        # What follows the last end of line is a line that is being written, or whose writer was killed.
        if len(line) > _LONGEST_LINE:
            raise _damaged(path, f"line {lines + 1} has no end")
        if not lines and has_rows:
            raise _damaged(path, "has lost its header, line 1")
        if not lines or (name in self._read and not found):
            return
        with self._open(name) as shard:
            shard.check_size(end)
        self._read[name] = done, lines
        for key, place in found:
            if key not in self._places or place < self._places[key]:
                self._places[key] = place

    def _check_header(self, path: Path, line: bytes) -> None:
        header = _unsealed(line)
        if header is None or header.get("format") != FORMAT:
            raise StoreError(
                f"{path} line 1 is not the header of an index of {FORMAT}, or damaged; move it away, and the "
                f"{_ROWS} file of its name, and run the capture task again"
            )
        _check_version(path, header)
        if header.get("shard") != path.name.removesuffix(_INDEX):
            raise StoreError(f"{path} is the index of shard {header.get('shard')!r:.80}; give it its name back")
        if header.get("spec") != self.spec.digest:
            raise StoreError(
                f"{path} belongs to the store {header.get('spec')!r:.80}, this one is {self.spec.digest}; "
                f"move it and its {_ROWS} file back to where they were made"
            )
        if header.get("row_bytes") != self.spec.row_bytes:
            raise _damaged(
                path, f"line 1 claims rows of {header.get('row_bytes')!r:.80} bytes, they have {self.spec.row_bytes}"
            )

    def _has_rows(self, name: str) -> bool:
        try:
            return self._path(name, _ROWS).stat().st_size > _MARK_BYTES
        except FileNotFoundError:
            return False

    @contextmanager
    def _open(self, name: str) -> Iterator["_Shard"]:
        """A shard for reading, when its mark has been checked."""
        path, index = self._path(name, _ROWS), self._path(name, _INDEX)
        try:
            with FileIO(path) as rows, FileIO(index) as lines:
                mark = np.zeros(_MARK_BYTES, np.uint8)
                if not _read_into(rows, 0, mark) or mark.tobytes() != self._mark(name):
                    raise _damaged(path, f"is not the shard that {name}{_INDEX} describes")
                yield _Shard(self.spec, path, index, rows, lines)
        except OSError as error:
            found = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise StoreError(
                f"{error.filename or path} {found}; put {name}{_ROWS} and {name}{_INDEX} back, or delete both and run "
                "the capture task again"
            ) from None

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / (name + suffix)


_stores: dict[Path, ContributionStore] = {}
_stores_lock = threading.Lock()


def open_store(directory: Path, spec: FeatureSpec | None = None) -> ContributionStore:
    """The store in a directory, the same object for the same directory as long as the process lives.

    Args:
        directory: where it is.
        spec: of what it should be the store, which is then made where there is none; without, it must be there.

    Raises:
        StoreError: there is none, it has another spec, or it cannot be read.
    """
    with _stores_lock:
        place = directory.resolve()
        path = directory / _SPEC_FILE
        if spec is None and not path.is_file():
            raise StoreError(
                f"there are no features in {directory}: no {_SPEC_FILE}; set HNEURONS_ARTIFACTS to the directory they "
                "were captured into, or run the capture task"
            )
        expected = _read_spec(path) if spec is None else spec
        if place not in _stores or _stores[place].spec != expected:
            _stores[place] = ContributionStore(place, expected)
        return _stores[place]


def find_store(root: Path, keys: Sequence[str]) -> ContributionStore:
    """The store below a root that holds all rows of some keys.

    Args:
        root: directory of stores.
        keys: at least one.

    Raises:
        StoreError: there is none; says how many rows were found where, or which store could not be read.
    """
    if not keys:
        raise StoreError("no keys are given to find features of")
    held: list[str] = []
    unreadable: list[StoreError] = []
    for path in sorted(root.glob(f"*/{_SPEC_FILE}")):
        try:
            store = open_store(path.parent)
            missing = store.missing(keys)
        except StoreError as error:
            unreadable.append(error)
            continue
        if not missing:
            return store
        if len(missing) < len(keys):
            held.append(f"{path.parent} has {len(keys) - len(missing)}")
    if unreadable:
        raise unreadable[0]
    raise StoreError(
        f"no store below {root} has all {len(keys)} rows ({'; '.join(held) or 'none has any'}); "
        "set HNEURONS_ARTIFACTS to the directory they were captured into, or run the capture task again"
    )


class _Place(NamedTuple):
    """Where the line of a row stands in an index; places sort by the age of shards, then of rows."""

    shard: str
    start: int
    length: int


class _Row(NamedTuple):
    """A line of an index."""

    key: str
    offset: int
    checks: list[str]  # of each region
    extras: dict[str, int]  # length of each
    extras_check: str
    about: dict[str, Any]

    def end(self, spec: FeatureSpec) -> int:
        """Where its bytes end in the shard."""
        return self.offset + spec.row_bytes + sum(self.extras.values()) * _EXTRA.itemsize


class _Shard:
    """One shard and its index, open for reading."""

    def __init__(self, spec: FeatureSpec, path: Path, index: Path, rows: FileIO, lines: FileIO) -> None:
        self.spec, self.path, self.index = spec, path, index
        self._rows, self._lines = rows, lines

    def check_size(self, end: int) -> None:
        size = os.fstat(self._rows.fileno()).st_size
        if end > size:
            raise _damaged(self.path, f"has {size} bytes, its index names a row up to byte {end}: it is cut short")

    def row(self, key: str, place: _Place) -> _Row:
        line = np.empty(place.length, np.uint8)
        whole = _read_into(self._lines, place.start, line)
        row = _row(line.tobytes(), self.spec) if whole else None
        if row is None or row.key != key:
            raise _damaged(self.index, f"has changed at byte {place.start} since it was read")
        self.check_size(row.end(self.spec))
        return row

    def read_region(self, row: _Row, number: int, out: np.ndarray) -> None:
        """Fill `out`, `[neurons]` in the store's precision, and verify it."""
        self._verified(row, row.offset + number * out.nbytes, out, row.checks[number], self.spec.regions[number])

    def extras(self, row: _Row) -> dict[str, np.ndarray]:
        values = np.empty(sum(row.extras.values()), _EXTRA)
        self._verified(row, row.offset + self.spec.row_bytes, values, row.extras_check, "extras")
        ends = list(itertools.accumulate(row.extras.values()))
        return {
            name: values[end - length : end].astype(np.float32)
            for (name, length), end in zip(row.extras.items(), ends, strict=True)
        }

    def _verified(self, row: _Row, offset: int, out: np.ndarray, check: str, what: str) -> None:
        if not _read_into(self._rows, offset, out.view(np.uint8)) or _checksum(out.data) != check:
            raise _damaged(self.path, f"is damaged at byte {offset}, in the {what} of row {row.key}")


class _Writer:
    """The shard and index that this process is writing.

    Attributes:
        end: bytes of the shard up to the end of its last row.
        torn: nothing may be added any more, for there may be half a line at the end of the index.
        process: by which it was made; a fork of it must leave the files alone.
    """

    def __init__(self, directory: Path, name: str, mark: bytes, header: bytes) -> None:
        self.name, self.end, self.torn, self.process = name, len(mark), False, os.getpid()
        paths = [directory / (name + suffix) for suffix in (_ROWS, _INDEX)]
        files: list[FileIO] = []
        try:
            # The shard before the index, so that an index without its shard is always a loss.
            for path, content in zip(paths, (mark, header), strict=True):
                files.append(FileIO(path, "x"))
                _write(files[-1], content)
                os.fsync(files[-1].fileno())
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except BaseException:
            for file, path in reversed(list(zip(files, paths, strict=False))):
                file.close()
                path.unlink(missing_ok=True)
            raise
        self._rows, self._index = files

    def append(self, parts: Sequence[memoryview | bytes], line: Callable[[int], bytes]) -> None:
        """Write a row, flush it to disk, and then write `line(offset)`."""
        try:
            self._rows.seek(self.end)
            for part in parts:
                _write(self._rows, part)
            os.fsync(self._rows.fileno())
        except BaseException:
            try:
                self._rows.truncate(self.end)
            except OSError:
                self.torn = True
            raise
        offset, self.end = self.end, self._rows.tell()
        self.torn = True
        _write(self._index, line(offset))
        self.torn = False

    def flush(self) -> None:
        os.fsync(self._index.fileno())

    def close(self) -> None:
        self._rows.close()
        self._index.close()


def _check_key(key: str) -> None:
    if not _is_key(key):
        raise StoreError(f"{key!r:.80} is not a key of features (64 hexadecimal digits)")


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**63


def _extras(extras: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Extras as they are written."""
    kept: dict[str, np.ndarray] = {}
    for name, vector in extras.items():
        if not _is_name(name):
            raise StoreError(f"an extra's name should have 1 to {_LONGEST_NAME} characters, found {name!r:.80}")
        if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim != 1:
            raise StoreError(f"extra {name} should be a float32 vector, found {vector!r:.80}")
        if not np.isfinite(vector).all():
            raise StoreError(f"extra {name} should be finite, found {vector!r:.80}")
        kept[name] = vector.astype(_EXTRA)
    size = sum(vector.nbytes for vector in kept.values())
    if len(kept) > MAX_EXTRAS or size > MAX_EXTRAS_BYTES:
        raise StoreError(
            f"{len(kept)} extras of {size} bytes are given, a row takes {MAX_EXTRAS} of {MAX_EXTRAS_BYTES} bytes"
        )
    return kept


def _about(about: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(about, Mapping) or not all(isinstance(name, str) for name in about):
        raise StoreError(f"about should be an object with names, found {about!r:.80}")
    try:
        size = len(json.dumps(dict(about), separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"about should be JSON ({error}), found {about!r:.80}") from None
    if size > MAX_ABOUT_BYTES:
        raise StoreError(f"about has {size} bytes of JSON, a row takes {MAX_ABOUT_BYTES}; leave the longest out")
    return dict(about)


def _checksum(data: memoryview | bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def _seal(text: bytes) -> bytes:
    return f',"check":"{_checksum(text)}"}}\n'.encode()


_SEAL_BYTES = len(_seal(b""))


def _sealed(record: Mapping[str, Any]) -> bytes:
    """A line of JSON whose last member is the checksum of what stands before it."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False)[:-1].encode("ascii")
    return text + _seal(text)


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The record in such a line; None if it is damaged."""
    text, seal = line[:-_SEAL_BYTES], line[-_SEAL_BYTES:]
    if seal != _seal(text):
        return None
    try:
        record = json.loads(text + b"}")
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _row(line: bytes, spec: FeatureSpec) -> _Row | None:
    """The row of a line; None if it is damaged or does not fit the spec."""
    record = _unsealed(line)
    if record is None or tuple(record) != _Row._fields:
        return None
    row = _Row(**record)
    fits = (
        _is_key(row.key)
        and _is_count(row.offset, _MARK_BYTES)
        and isinstance(row.checks, list)
        and len(row.checks) == len(spec.regions)
        and isinstance(row.extras, dict)
        and all(_is_count(length, 0) for length in row.extras.values())
        and sum(row.extras.values()) * _EXTRA.itemsize <= MAX_EXTRAS_BYTES
        and isinstance(row.about, dict)
    )
    return row if fits else None


def _read_spec(path: Path) -> FeatureSpec:
    try:
        with path.open("rb") as file:
            record = _unsealed(file.read(_LONGEST_LINE))
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror})") from None
    if record is None or record.get("format") != FORMAT:
        raise StoreError(
            f"{path} is not the spec of a store of {FORMAT}, or damaged; delete it and run the capture task again, "
            "which makes it anew if the shards beside it are its own"
        )
    _check_version(path, record)
    try:
        return FeatureSpec.from_json(record.get("spec"))
    except StoreError as error:
        raise StoreError(f"{path} does not hold ({error}); delete it and run the capture task again") from None


def _check_version(path: Path, record: Mapping[str, Any]) -> None:
    if record.get("version") != VERSION:
        raise StoreError(
            f"{path} has version {record.get('version')!r:.80} of {FORMAT}, this program reads {VERSION}; "
            "use the program that wrote it, or another directory"
        )


def _read_into(file: FileIO, offset: int, out: np.ndarray) -> bool:
    """Fill bytes `[size]` from a place in a file; False if the file ends before."""
    file.seek(offset)
    view = out.data
    while view:
        count = file.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True


def _write(file: FileIO, data: memoryview | bytes) -> None:
    """Write all of it; a single write may take less."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _damaged(path: Path, what: str) -> StoreError:
    stem = path.name.removesuffix(path.suffix)
    return StoreError(
        f"{path} {what}; delete {stem}{_ROWS} and {stem}{_INDEX} and run the capture task again, "
        "which captures the answers in them anew and no others"
    )
