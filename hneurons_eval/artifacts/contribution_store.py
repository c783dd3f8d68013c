"""Contribution store: a directory of safetensors shards, written while answers are captured, read region by region.

```python
spec = StoreSpec(model=fingerprint, widths=layout.widths, regions=("answer", "other"), reduce="mean")
store = open_store(root / spec.digest, spec)       # one object for each directory in a process
if key not in store:
    store.add(key, Contributions(values, about={"question": question, "span": [0, 5]}, extras={"logprobs": logprobs}))
X = find_store(root, keys).matrix(keys, "answer")  # float32 [keys, neurons]
```

What a shard holds is described in `contribution_shards.py`. `add` returns when its row is in a shard: a process that is
killed loses only rows whose `add` had not returned. Rows that threads add at the same time share a small shard
(`NAME_00`, `NAME_01`, ...). As soon as a process has added `SHARD_ROWS` rows, it writes them as one shard (`NAME`),
flushes that to disk and deletes its small ones; no process touches the shards of another. Files that begin with a dot
are what a killed process was writing; they are ignored and may be deleted.
"""

import atexit
import itertools
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hneurons_eval.artifacts.contribution_shards import (
    Contributions,
    EncodedRow,
    Shard,
    StoreError,
    StoreSpec,
    encode,
    is_key,
    open_shard,
    write_shard,
)

_SUFFIX = ".safetensors"
_REMEDY = "set HNEURONS_ARTIFACTS to the directory they were captured into, or run the capture task again"


class ContributionStore:
    """The rows of one spec in one directory, for any number of threads and processes at once.

    Every method first looks for shards that other processes have added or merged, and raises StoreError where a shard
    is damaged or of another store. A shard that is deleted takes its rows out of the store.

    Args:
        directory: of the store; made with the first row. Name it after `spec.digest`, so that every spec has its own.
        spec: what all rows have in common.

    Raises:
        StoreError: the directory holds another store, or one that cannot be read.
    """

    SHARD_ROWS: int = 32
    """Rows of a full shard."""
    SHARD_BYTES: int = 2**26
    """Values of a full shard where its rows are large. So many bytes of rows stay in memory until they are merged."""

    def __init__(self, directory: Path, spec: StoreSpec) -> None:
        self.directory = directory
        self.spec = spec
        self._writing = threading.Lock()  # held while shards are written; always taken before the other one
        self._lock = threading.Lock()  # held while the next three are used
        self._shards: dict[str, tuple[str, ...]] = {}  # the keys in each shard
        self._places: dict[str, str] = {}  # the shard of each key
        self._waiting: dict[str, EncodedRow] = {}  # rows to write
        self._small = _SmallShards()
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
        """Every key and what its row is about, shard by shard from the oldest; reads no values."""
        with self._lock:
            self._scan()
            keys = sorted(self._places, key=lambda key: self._places[key])
        for number, shard in self._opened(keys):
            yield keys[number], shard.entries[keys[number]].about

    def get(self, key: str) -> Contributions:
        """A row, verified; values are float32 in every precision.

        Raises:
            StoreError: no such row, or it is damaged.
        """
        return next(shard.row(key) for _, shard in self._opened([key]))

    def extras(self, key: str) -> dict[str, np.ndarray]:
        """The extras of a row, verified, without reading its values.

        Raises:
            StoreError: no such row, or it is damaged.
        """
        return next(shard.extras(key) for _, shard in self._opened([key]))

    def matrix(self, keys: Sequence[str], region: str, out: np.ndarray | None = None) -> np.ndarray:
        """One region of many rows, verified: float32 `[keys, neurons]`, in the order of the keys.

        Reads nothing else, shard by shard. Beside the result it needs the memory of one region of one row.

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
        shape = (len(keys), self.spec.neurons)
        if out is not None and (out.shape != shape or out.dtype != np.float32 or not out.flags.writeable):
            raise StoreError(f"out should be a writeable float32 {list(shape)}, found {out.dtype} {list(out.shape)}")
        result = np.empty(shape, np.float32) if out is None else out
        for number, shard in self._opened(keys):
            result[number] = shard.region(keys[number], region)
        return result

    def add(self, key: str, row: Contributions) -> None:
        """Add a row, which is in a shard on return; a key that is there is left alone.

        The row is then safe from the death of the process, and from a power cut once `SHARD_ROWS` rows or `flush`
        have merged it. Where two processes add a key at the same moment, both rows are kept, and the one in the older
        shard counts.

        Raises:
            StoreError: no key, or a row that `contribution_shards.encode` refuses. Nothing has been written.
            OSError: it could not be written, for instance because the disk is full. The row is not in the store, which
                is as usable as before.
        """
        if key in self:
            return
        encoded = encode(key, row, self.spec)
        with self._lock:
            self._waiting[key] = encoded
        full: list[_SmallShards] = []
        with self._writing:
            try:
                while key not in self:  # else another thread or process was faster
                    with self._lock:
                        waiting = {key: encoded} | self._waiting
                        rows = {other: row for other, row in waiting.items() if other not in self._places}
                    full += self._write(rows)
            finally:
                with self._lock:
                    self._waiting.pop(key, None)
        for small in full:
            self._merge(small)

    def flush(self) -> None:
        """Merge the small shards that this process has written; `open_store` sees to it when the process ends."""
        with self._writing:
            small, self._small = self._small, _SmallShards()
        self._merge(small)

    def _write(self, rows: dict[str, EncodedRow]) -> "list[_SmallShards]":
        """Write a small shard of the first rows; what is to be merged. The caller holds `_writing`."""
        if self._small.process != os.getpid():  # a fork
            self._small = _SmallShards()
        small = self._small
        limit = max(1, min(self.SHARD_ROWS, self.SHARD_BYTES // self.spec.row_bytes))
        batch = dict(itertools.islice(rows.items(), limit - len(small.rows)))
        path = self.directory / f"{small.name}_{len(small.paths):02d}{_SUFFIX}"
        write_shard(path, self.spec, list(batch.values()))
        small.paths.append(path)
        small.rows += batch.values()
        with self._lock:
            for key in batch:
                self._waiting.pop(key, None)
        if len(small.rows) < limit:
            return []
        self._small = _SmallShards()
        return [small]

    def _merge(self, small: "_SmallShards") -> None:
        if small.process == os.getpid() and small.paths and all(path.exists() for path in small.paths):
            with suppress(OSError):  # such as a full disk: the small shards stay, which hold the same
                merged = self.directory / (small.name + _SUFFIX)
                write_shard(merged, self.spec, small.rows)
                for path in small.paths:
                    path.unlink(missing_ok=True)
                with merged.open("rb") as file:
                    os.fsync(file.fileno())

    def _find(self, keys: Sequence[str]) -> list[str | None]:
        """The shard of each key."""
        for key in keys:
            if not is_key(key):
                raise StoreError(f"{key!r:.80} is not a key of contributions (64 hexadecimal digits)")
        with self._lock:
            self._scan()
            return [self._places.get(key) for key in keys]

    def _opened(self, keys: Sequence[str]) -> Iterator[tuple[int, Shard]]:
        """The number of each key with its open shard, shard by shard from the oldest."""
        left = list(range(len(keys)))
        while left:
            places = self._find([keys[number] for number in left])
            found = sorted((place, number) for place, number in zip(places, left, strict=True) if place is not None)
            if len(found) < len(left):
                absent = [keys[number] for place, number in zip(places, left, strict=True) if place is None]
                where = f"are not in {self.directory}, the first is {absent[0]}"
                raise StoreError(f"{len(absent)} of {len(keys)} rows {where}; {_REMEDY}")
            left = []
            for name, group in itertools.groupby(found, key=lambda pair: pair[0]):
                numbers = [number for _, number in group]
                try:
                    with open_shard(self.directory / name) as shard:
                        for number in numbers:
                            yield number, shard
                except FileNotFoundError:  # merged into another one, or deleted
                    left += numbers

    def _scan(self) -> None:
        """Take in shards that were added and drop those that are gone; the caller holds the lock."""
        names, listed = None, _shard_names(self.directory)
        while listed != names:  # a listing may miss a merged shard and its small ones alike: it has to stay the same
            names = listed
            if self._shards.keys() - names:
                self._shards = {name: keys for name, keys in self._shards.items() if name in names}
                self._places = {key: name for name in sorted(self._shards, reverse=True) for key in self._shards[name]}
            for name in sorted(names - self._shards.keys()):
                with suppress(FileNotFoundError), open_shard(self.directory / name) as shard:
                    self._check_spec(shard)
                    self._shards[name] = tuple(shard.entries)
                    for key in shard.entries:
                        self._places[key] = min(name, self._places.get(key, name))
            listed = _shard_names(self.directory)

    def _check_spec(self, shard: Shard) -> None:
        if shard.spec != self.spec:
            theirs, ours = asdict(shard.spec), asdict(self.spec)
            differing = [f"{n} {theirs[n]!r:.80} instead of {ours[n]!r:.80}" for n in ours if theirs[n] != ours[n]]
            raise StoreError(
                f"{shard.path} is of a store with {', '.join(differing)}; use another directory, one for each spec"
            )


@dataclass
class _SmallShards:
    """What a process has written since it last merged.

    Attributes:
        name: of the shard that they will be merged into: the time first, so that names sort by age, and a random part,
            so that no two processes choose the same.
        process: that wrote them.
        paths: of the small shards.
        rows: in all of them.
    """

    name: str = field(default_factory=lambda: f"{time.time_ns() // 10**6:012x}-{secrets.token_hex(8)}")
    process: int = field(default_factory=os.getpid)
    paths: list[Path] = field(default_factory=list)
    rows: list[EncodedRow] = field(default_factory=list)


_stores: dict[Path, ContributionStore] = {}
_stores_lock = threading.Lock()


def open_store(directory: Path, spec: StoreSpec | None = None) -> ContributionStore:
    """The store in a directory, the same object for the same directory as long as the process lives.

    Args:
        directory: of the store.
        spec: what its rows have in common; without it, there must be a shard that says so.

    Raises:
        StoreError: there is none, it has another spec, or it cannot be read.
    """
    with _stores_lock:
        place = directory.resolve()
        for name in sorted(_shard_names(place)) if spec is None else ():
            with suppress(FileNotFoundError), open_shard(place / name) as shard:
                spec = shard.spec
                break
        if spec is None:
            raise StoreError(f"there are no contributions in {directory}; {_REMEDY}")
        if place not in _stores or _stores[place].spec != spec:
            _stores[place] = ContributionStore(place, spec)
            atexit.register(_stores[place].flush)
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
        raise StoreError("no keys are given to find contributions of")
    held: list[str] = []
    unreadable: list[StoreError] = []
    for directory in sorted(path for path in root.glob("*") if path.is_dir()):
        try:
            if not is_store(directory):
                continue
            store = open_store(directory)
            missing = store.missing(keys)
        except StoreError as error:
            unreadable.append(error)
            continue
        if not missing:
            return store
        if len(missing) < len(keys):
            held.append(f"{directory} has {len(keys) - len(missing)}")
    if unreadable:
        raise unreadable[0]
    raise StoreError(f"no store below {root} has all {len(keys)} rows ({'; '.join(held) or 'none has any'}); {_REMEDY}")


def is_store(directory: Path) -> bool:
    """Whether a directory holds shards.

    Raises:
        StoreError: it cannot be read, or holds a store in a format that is no longer read.
    """
    return bool(_shard_names(directory))


def _shard_names(directory: Path) -> set[str]:
    """Names of the shards in a directory, which need not exist."""
    names: set[str] = set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.endswith(".rows"):
                    raise StoreError(
                        f"{entry.path} is in a format that is no longer read; delete {directory} and run the capture "
                        "task again"
                    )
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".") and entry.is_file():
                    names.add(entry.name)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"{directory} cannot be read ({error.strerror})") from None
    return names
