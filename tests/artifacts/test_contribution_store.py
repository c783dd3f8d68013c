"""Rows come back as they were added, whoever else writes, is killed or runs out of disk; damage is found and named."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hneurons_eval.artifacts.contribution_store import (
    ContributionStore,
    Features,
    FeatureSpec,
    StoreError,
    find_store,
    open_store,
)

SPEC = FeatureSpec(model="a" * 64, widths=(4, 3), regions=("answer", "other"), reduce="mean", precision="float32")
BIG = FeatureSpec("big", (150_000,), ("answer", "other"), "mean", "float32")


def key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def row(number: int, spec: FeatureSpec = SPEC) -> Features:
    """A row that its number decides."""
    shape = (len(spec.regions), spec.neurons)
    values = ((np.arange(np.prod(shape)) * (2 * number + 1) % 997 + 1) / 998).astype(np.float32).reshape(shape)
    about = {"number": number, "question": f"Où est n° {number}?"}
    return Features(values, about, {"logprobs": -np.arange(number % 5, dtype=np.float32)})


def store_with(directory: Path, numbers: range, spec: FeatureSpec = SPEC) -> ContributionStore:
    store = ContributionStore(directory, spec)
    for number in numbers:
        store.add(key(number), row(number, spec))
    return store


def assert_same(found: Features, added: Features, spec: FeatureSpec = SPEC) -> None:
    assert found.about == added.about
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, added.values.astype(spec.dtype).astype(np.float32))
    assert list(found.extras) == list(added.extras)
    for name, vector in added.extras.items():
        assert found.extras[name].dtype == np.float32
        np.testing.assert_array_equal(found.extras[name], vector)


def assert_has(store: ContributionStore, *numbers: int) -> None:
    for number in numbers:
        assert key(number) in store
        assert_same(store.get(key(number)), row(number, store.spec), store.spec)


def files(directory: Path) -> tuple[list[Path], list[Path]]:
    return sorted(directory.glob("*.rows")), sorted(directory.glob("*.jsonl"))


def sealed(record: dict[str, Any]) -> bytes:
    """A line as the module's docstring describes it."""
    text = json.dumps(record, separators=(",", ":"))[:-1].encode()
    return text + b',"check":"%08x"}\n' % zlib.crc32(text)


def opened(line: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name != "check"}


names = st.text(min_size=1, max_size=8)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
jsons = simple | st.lists(simple, max_size=3) | st.dictionaries(st.text(), simple, max_size=3)
specs = st.builds(
    FeatureSpec,
    names,
    st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from(["mean", "max"]),
    st.sampled_from(["float32", "float16"]),
)


def rows_of(spec: FeatureSpec) -> st.SearchStrategy[list[Features]]:
    elements = floats if spec.precision == "float32" else st.floats(-65504, 65504, width=32)
    values = arrays(np.float32, (len(spec.regions), spec.neurons), elements=elements)
    extras = st.dictionaries(names, arrays(np.float32, st.integers(0, 5), elements=floats), max_size=3)
    about = st.dictionaries(st.text(), jsons, max_size=3)
    return st.lists(st.builds(Features, values, about, extras), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(specs, st.data())
def test_every_row_makes_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, spec: FeatureSpec, data: st.DataObject
):
    rows = data.draw(rows_of(spec))
    if spec.precision == "float16":
        assume(all(region.astype(np.float16).any() or not region.any() for row in rows for region in row.values))
    directory = tmp_path_factory.mktemp("store") / spec.digest
    store = ContributionStore(directory, spec)
    for number, added in enumerate(rows):
        store.add(key(number), added)
    for reader in (store, open_store(directory)):
        assert reader.spec == spec
        assert list(reader.index()) == [(key(number), added.about) for number, added in enumerate(rows)]
        for number, added in enumerate(rows):
            found = reader.get(key(number))
            assert_same(found, added, spec)
            assert_same(replace(found, extras=reader.extras(key(number))), added, spec)
            # The precision that FeatureSpec promises.
            error = np.abs(found.values.astype(np.float64) - added.values)
            allowed = {"float32": 0.0, "float16": np.maximum(np.abs(added.values) * 2.0**-11, 2.0**-25)}
            assert (error <= allowed[spec.precision]).all()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_matrix_holds_its_keys_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str):
    spec = replace(SPEC, precision=precision)
    monkeypatch.setattr(ContributionStore, "SHARD_BYTES", 4 * spec.row_bytes)
    ticks = iter(range(10**18, 2 * 10**18, 10**9))
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks))  # shards of one millisecond have no order
    store = store_with(tmp_path, range(20), spec)
    assert len(files(tmp_path)[0]) > 4
    assert [about["number"] for _, about in store.index()] == list(range(20))
    numbers = [19, 3, 4, 3, 0, 11, 18]
    keys = [key(number) for number in numbers]
    for where, region in enumerate(spec.regions):
        expected = np.stack([row(n, spec).values[where] for n in numbers]).astype(spec.dtype).astype(np.float32)
        found = store.matrix(keys, region)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
        wide = np.full((len(keys), spec.neurons + 4), -1, np.float32)
        part = wide[:, 2:-2]
        assert store.matrix(keys, region, out=part) is part
        np.testing.assert_array_equal(wide, np.pad(expected, ((0, 0), (2, 2)), constant_values=-1))
    assert store.matrix([], "other").shape == (0, spec.neurons)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_matrix_takes_the_memory_of_its_result_and_of_one_row(tmp_path: Path, precision: str):
    spec = FeatureSpec("m", (20_000,) * 5, ("answer", "other", "prompt"), "mean", precision)
    store = store_with(tmp_path, range(40), spec)
    keys = [key(number) for number in range(40)]
    region = spec.neurons * 4
    for out, allowed in ((None, 42 * region), (np.empty((40, spec.neurons), np.float32), 2 * region)):
        tracemalloc.start()
        store.matrix(keys, "other", out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < allowed


def test_the_files_are_what_the_docstring_says(tmp_path: Path):
    store_with(tmp_path, range(3)).add(key(0), row(7))  # a key that is there is left alone
    (rows,), (index,) = files(tmp_path)
    header, *lines = index.read_bytes().splitlines(keepends=True)
    common = {"format": "hneurons-features", "version": 1}
    assert header == sealed(common | {"shard": rows.stem, "spec": SPEC.digest, "row_bytes": 2 * 7 * 4})
    assert (tmp_path / "spec.json").read_bytes() == sealed(common | {"spec": SPEC.to_json()})
    content = b""
    for number, found in enumerate(lines):
        added = row(number)
        parts = [region.tobytes() for region in (*added.values, added.extras["logprobs"])]
        *checks, last = (f"{zlib.crc32(part):08x}" for part in parts)
        record = {"key": key(number), "offset": 64 + len(content), "checks": checks}
        record |= {"extras": {"logprobs": number}, "extras_check": last, "about": added.about}
        assert found == sealed(record)
        content += b"".join(parts)
    assert rows.read_bytes()[64:] == content
    assert len(lines) == 3


def test_a_reader_sees_what_others_add_and_forgets_what_is_deleted(tmp_path: Path):
    reader, writer = ContributionStore(tmp_path, SPEC), ContributionStore(tmp_path, SPEC)
    for number in range(3):
        assert key(number) not in reader
        writer.add(key(number), row(number))
        assert_has(reader, number)
    writer.close()
    writer.add(key(3), row(3))
    assert len(reader) == 4
    assert reader.missing([key(9), key(3), key(8)]) == [key(9), key(8)]
    shards, indexes = files(tmp_path)
    assert len(shards) == 2
    gone = next(i for i, path in enumerate(indexes) if key(3) in path.read_text())
    shards[gone].unlink()
    indexes[gone].unlink()
    assert key(3) not in reader
    assert len(reader) == len(writer) == 3
    writer.add(key(3), row(3))  # not into the file that is gone
    assert_has(reader, 3)
    shutil.rmtree(tmp_path)
    assert len(reader) == 0
    writer.add(key(4), row(4))
    assert_has(reader, 4)


def test_of_a_key_that_stands_twice_all_readers_take_the_older_row(tmp_path: Path):
    store = store_with(tmp_path, range(2))
    time.sleep(0.002)
    other = ContributionStore(tmp_path / "other", SPEC)
    other.add(key(0), row(5))
    other.add(key(6), row(6))
    for paths in files(other.directory):
        shutil.copy(paths[0], tmp_path)
    for reader in (store, ContributionStore(tmp_path, SPEC)):
        assert_has(reader, 0, 1, 6)
        assert len(reader) == 3


def test_threads_of_one_process_share_a_shard(tmp_path: Path):
    store = ContributionStore(tmp_path, SPEC)

    def work(first: int) -> None:
        for number in (*range(first, 40), *range(first)):
            store.add(key(number), row(number))
            assert_has(store, number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(0, 40, 5)))
    (_, (index,)) = files(tmp_path)
    assert len(index.read_bytes().splitlines()) == 41  # every row once
    assert_has(ContributionStore(tmp_path, SPEC), *range(40))


def write_and_report(directory: Path, first: int, last: int) -> None:
    """What the subprocesses of the next tests do: a line is printed for each row that was added."""
    store = ContributionStore(directory, BIG)
    store.SHARD_BYTES = 5 * BIG.row_bytes
    for number in range(first, last):
        store.add(key(number), row(number, BIG))
        print(number, flush=True)


def writing(directory: Path, first: int, last: int) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, str(directory), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(tmp_path: Path):
    with writing(tmp_path, 0, 16) as one, writing(tmp_path, 8, 24) as other:
        reader = ContributionStore(tmp_path, BIG)
        for process in (one, other):
            for line in process.stdout or ():
                assert_has(reader, int(line))
    assert (one.returncode, other.returncode) == (0, 0)
    assert_has(reader, *range(24))


def test_a_killed_writer_loses_nothing_that_it_reported(tmp_path: Path):
    reported: set[int] = set()
    for attempt in range(4):
        with writing(tmp_path, 100 * attempt, 100 * attempt + 100) as process:
            assert process.stdout is not None
            for _ in range(2 + attempt):
                reported.add(int(process.stdout.readline()))
            time.sleep(0.003 * attempt)
            process.send_signal(signal.SIGKILL)
            reported.update(int(line) for line in process.stdout)
        assert process.returncode == -signal.SIGKILL
    store = ContributionStore(tmp_path, BIG)
    kept = {about["number"] for _, about in store.index()}
    assert reported <= kept
    assert len(kept) <= len(reported) + 4  # and at most the one that each was about to report
    assert_has(store, *kept)


def test_a_fork_begins_a_shard_of_its_own(tmp_path: Path):
    store = store_with(tmp_path, range(2))
    if not (child := os.fork()):
        try:
            store.add(key(2), row(2))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    store.add(key(3), row(3))
    assert_has(store, *range(4))
    assert len(files(tmp_path)[0]) == 2


FULL = [f"{where} + {size}" for where in ("row", "line") for size in (0, 1, 40, 55)]
FULL += [*(f"new shard + {size}" for size in (0, 30, 64, 100)), "row, when flushed", "new shard, when flushed"]


@pytest.mark.parametrize("where", FULL)
def test_a_disk_that_is_full_keeps_the_row_out_and_the_store_usable(tmp_path: Path, where: str):
    store = ContributionStore(tmp_path, SPEC)
    # A long extra makes the shard longer than its index, a long text the index longer than the shard.
    extras = {"hidden": np.ones(1 if "line" in where else 2000, np.float32)}
    about = {"text": "x" * (9000 if "line" in where else 1)}
    for number in range(3):
        store.add(key(number), replace(row(number), extras=extras))
    (rows,), (index,) = files(tmp_path)
    if "new" in where:
        store.close()
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    flush = mock.patch("os.fsync", side_effect=OSError(28, "too large")) if "flush" in where else nullcontext()
    # No file can grow beyond a limit: the write across it is cut short and the next one refused, as on a full disk.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if "+" in where:
        room = {"row": before[rows], "lin": before[index], "new": 0}[where[:3]] + int(where.rpartition("+")[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with flush, pytest.raises(OSError, match="too large"):
            store.add(key(3), replace(row(3), about=about))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if "line" not in where:
        assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before  # the space is given back
    for reader in (store, ContributionStore(tmp_path, SPEC)):
        assert reader.missing([key(number) for number in range(4)]) == [key(3)]
        assert_same(reader.get(key(2)), replace(row(2), extras=extras))
    store.add(key(3), row(3))
    assert_has(ContributionStore(tmp_path, SPEC), 3)


def assert_holds_the_first(directory: Path, count: int) -> None:
    store = ContributionStore(directory, SPEC)
    assert [about["number"] for _, about in store.index()] == list(range(count))
    assert_has(store, *range(count))


def test_an_index_cut_anywhere_keeps_the_rows_before_the_cut(tmp_path: Path):
    store_with(tmp_path, range(3))
    _, (index,) = files(tmp_path)
    content = index.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content), -1, -1):
        os.truncate(index, size)
        if size < ends[0]:  # there are rows, so there was a header
            with pytest.raises(StoreError, match=rf"{index.name} has lost its header"):
                ContributionStore(tmp_path, SPEC)
        else:
            assert_holds_the_first(tmp_path, sum(end <= size for end in ends) - 1)
    index.write_bytes(content[:-20])
    store_with(tmp_path, range(4))  # goes on in a shard of its own
    assert_has(ContributionStore(tmp_path, SPEC), *range(4))
    assert len(files(tmp_path)[0]) == 2


def test_a_shard_cut_anywhere_is_named_unless_only_unfinished_rows_are_lost(tmp_path: Path):
    store_with(tmp_path, range(3))
    (rows,), (index,) = files(tmp_path)
    content, (header, *lines) = rows.read_bytes(), index.read_bytes().splitlines(keepends=True)
    ends = [64] + [opened(line)["offset"] + SPEC.row_bytes + 4 * number for number, line in enumerate(lines)]
    assert ends[-1] == len(content)
    for size in range(len(content) - 1, -1, -1):
        os.truncate(rows, size)
        with pytest.raises(StoreError, match=rf"{rows.name} (has {size} bytes|is not the shard)"):
            ContributionStore(tmp_path, SPEC)
    rows.write_bytes(content)
    for finished in (2, 1, 0):  # rows of a writer that was killed while it wrote the next one or its line
        index.write_bytes(header + b"".join(lines[:finished]) + lines[finished][: 30 * finished])
        for size in range(ends[finished + 1], ends[finished] - 1, -1):
            os.truncate(rows, size)
            assert_holds_the_first(tmp_path, finished)


@pytest.mark.parametrize("suffix", [".rows", ".jsonl", "spec.json"])
def test_a_bit_that_flips_anywhere_is_found(tmp_path: Path, suffix: str):
    store_with(tmp_path, range(3))
    (path,) = tmp_path.glob(f"*{suffix}")
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place)
            if (suffix, place) == (".jsonl", len(content) - 1):
                # Without its end the last line looks like one that was never finished, and its row is not there.
                assert_holds_the_first(tmp_path, 2)
            else:
                with pytest.raises(StoreError, match=path.name):
                    assert_holds_the_first(tmp_path, 3)
            os.pwrite(file.fileno(), bytes([byte]), place)


def test_damage_under_a_reader_is_named_by_what_reads_it(tmp_path: Path):
    store = store_with(tmp_path, range(3))
    (rows,), (index,) = files(tmp_path)
    lines, values = index.read_bytes(), rows.read_bytes()
    damaged = bytearray(values)
    damaged[opened(lines.splitlines()[2])["offset"] + SPEC.row_bytes - 1] ^= 1  # the end of row 1's second region
    rows.write_bytes(damaged)
    keys = [key(number) for number in range(3)]
    np.testing.assert_array_equal(store.matrix(keys, "answer")[1], row(1).values[0])
    np.testing.assert_array_equal(store.extras(key(1))["logprobs"], row(1).extras["logprobs"])
    for read in (lambda: store.matrix(keys, "other"), lambda: store.get(key(1))):
        with pytest.raises(StoreError, match=rf"{rows.name} is damaged .* in the other of row {key(1)}; delete"):
            read()
    assert_has(store, 0, 2)
    rows.write_bytes(values[:-20])
    with pytest.raises(StoreError, match=rf"{rows.name} has .* bytes, its index names a row up to"):
        store.get(key(2))
    *before, one, two = lines.splitlines(keepends=True)
    index.write_bytes(b"".join([*before, two, one]))  # lines of equal length, each of them whole
    with pytest.raises(StoreError, match=f"{index.name} has changed at byte"):
        store.get(key(2))
    index.write_bytes(lines.replace(b'"number":1', b'"number":7'))
    with pytest.raises(StoreError, match=rf"{index.name} line 3 is damaged; delete .* and run the capture task"):
        ContributionStore(tmp_path, SPEC)
    index.write_bytes(lines[:-9])
    with pytest.raises(StoreError, match=f"{index.name} is shorter than"):
        store.get(key(1))


Change = Callable[[Path, Path], object]


def line(number: int, name: str = "*.jsonl", **changes: Any) -> Change:
    """Another content of a line, with the right checksum."""

    def apply(rows: Path, _: Path) -> None:
        (path,) = rows.parent.glob(name)
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number] = sealed(opened(lines[number]) | changes)
        path.write_bytes(b"".join(lines))

    return apply


def change_spec(**changes: Any) -> Change:
    return line(0, "spec.json", spec=SPEC.to_json() | changes)


def foreign(rows: Path, **changes: Any) -> list[Path]:
    """Shard and index of another store."""
    store_with(rows.parent / "foreign", range(3), replace(SPEC, **changes))
    return [paths[0] for paths in files(rows.parent / "foreign")]


FOREIGN: dict[str, tuple[Change, str]] = {
    "shard gone": (lambda rows, index: rows.unlink(), "ROWS is not there; put"),
    "index gone": (lambda rows, index: index.unlink(), "ROWS has no index"),
    "shard is a directory": (lambda rows, index: (rows.unlink(), rows.mkdir()), "ROWS cannot be read"),
    "pair renamed": (lambda *pair: [p.rename(p.with_stem("other")) for p in pair], "other.jsonl is the index of shard"),
    "another shard": (lambda rows, index: shutil.copy(foreign(rows)[0], rows), "ROWS is not the shard that INDEX"),
    "another model's shard": (lambda r, _: [shutil.copy(p, r.parent) for p in foreign(r, model="b")], "belongs to the"),
    "no shard at all": (lambda rows, index: rows.write_bytes(b"x" * 10_000), "ROWS is not the shard"),
    "no index at all": (lambda rows, index: index.write_bytes(b"some text\n" * 100), "INDEX line 1 is not the header"),
    "an index without an end": (lambda rows, index: index.write_bytes(b"x" * 2**21), "INDEX line 1 has no end"),
    "another format": (line(0, format="table"), "INDEX line 1 is not the header"),
    "another version": (line(0, version=2), "INDEX has version 2 .* this program reads 1"),
    "rows of 10 GB": (line(0, row_bytes=10**10), "INDEX line 1 claims rows of 10000000000 bytes"),
    "a row beyond the end": (line(3, offset=2**62), "ROWS has .* bytes, its index names"),
    "a row beyond all numbers": (line(3, offset=2**63), "INDEX line 4 is damaged"),
    "a row before the first": (line(3, offset=3), "INDEX line 4 is damaged"),
    "endless extras": (line(3, extras={"hidden": 2**61}), "INDEX line 4 is damaged"),
    "extras beyond the end": (line(3, extras={"hidden": 2**20}), "ROWS has .* bytes, its index names"),
    "extras of negative length": (line(3, extras={"a": -1}), "INDEX line 4 is damaged"),
    "a key that is a path": (line(3, key="../" * 21 + "x"), "INDEX line 4 is damaged"),
    "too few checks": (line(3, checks=["00000000"]), "INDEX line 4 is damaged"),
    "an unknown member": (line(3, more=1), "INDEX line 4 is damaged"),
    "the store of another model": (change_spec(model="b"), "spec.json is of a store with model 'b' instead of 'aaaa"),
    "other widths": (change_spec(widths=[4, 4]), r"spec.json is of a store with widths \[4, 4\] instead of \[4, 3\]"),
    "other regions": (change_spec(regions=["answer"]), "spec.json is of a store with regions"),
    "endless neurons": (change_spec(widths=[2**63]), "spec.json does not hold .widths should be"),
    "rows of 10 GB in the spec": (change_spec(widths=[2**30] * 2), "spec.json does not hold .* bytes are possible"),
    "a spec of another version": (line(0, "spec.json", version=7), "spec.json has version 7"),
    "no spec at all": (lambda rows, index: (rows.parent / "spec.json").write_text("{}"), "spec.json is not the spec"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_moved_foreign_or_absurd_is_named_before_memory_is_spent(tmp_path: Path, what: str):
    store = store_with(tmp_path / "store", range(3))
    store.close()
    (rows,), (index,) = files(store.directory)
    apply, message = FOREIGN[what]
    apply(rows, index)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=message.replace("ROWS", rows.name).replace("INDEX", index.name)):
            ContributionStore(store.directory, SPEC)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_what_a_killed_process_or_a_user_left_there_does_no_harm(tmp_path: Path):
    for name in ("notes.txt", ".spec.json.x.tmp", "00-begun.rows", "00-begun.jsonl", "01-begun.rows"):
        (tmp_path / name).write_text('{"format":"hneu')
    assert_has(store_with(tmp_path, range(2)), 0, 1)


VALUES = row(0).values
ONE = np.ones(1, np.float32)


REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "not a number": ((VALUES * np.float32(np.nan),), "finite, found nan in region answer at neuron 0"),
    "infinite": ((VALUES * np.float32(-np.inf),), "finite, found -inf"),
    "too few neurons": ((VALUES[:, :6],), r"float32 \[2, 7\] .*, found float32 \[2, 6\]"),
    "double precision": ((VALUES.astype(np.float64),), "found float64"),
    "a list": ((VALUES.tolist(),), "found list"),
    "no JSON": ((VALUES, {"span": {1, 2}}), "about should be JSON"),
    "NaN in JSON": ((VALUES, {"score": float("nan")}), "about should be JSON"),
    "no names": ((VALUES, {1: 2}), "object with names"),
    "a long text": ((VALUES, {"text": "x" * 2**20}), "about has 1048587 bytes of JSON"),
    "extras that are no vector": ((VALUES, {}, {"hidden": VALUES}), "hidden should be a float32 vector"),
    "infinite extras": ((VALUES, {}, {"logprobs": ONE * np.float32(np.inf)}), "logprobs should be finite"),
    "endless extras": ((VALUES, {}, {"h": np.zeros(2**22 + 1, np.float32)}), "1 extras of 16777220 bytes"),
    "many extras": ((VALUES, {}, {str(n): ONE for n in range(65)}), "65 extras"),
    "an extra without a name": ((VALUES, {}, {"": ONE}), "name should have"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_row_that_cannot_be_kept_is_refused_before_anything_is_written(tmp_path: Path, what: str):
    parts, message = REFUSED[what]
    with pytest.raises(StoreError, match=message):
        ContributionStore(tmp_path, SPEC).add(key(0), Features(*parts))
    assert [path.name for path in tmp_path.iterdir()] == ["spec.json"]


def test_values_that_half_precision_would_lose_are_refused(tmp_path: Path):
    store = ContributionStore(tmp_path, replace(SPEC, precision="float16"))
    large, tiny = np.ones((2, 7), np.float32), np.ones((2, 7), np.float32)
    large[1, 2], tiny[0] = 65520.0, 2.0**-26
    with pytest.raises(StoreError, match=r"region other up to 6.552e\+04 are out of the range of float16; use"):
        store.add(key(0), Features(large))
    with pytest.raises(StoreError, match=r"region answer up to 1.49e-08 are out of the range of float16"):
        store.add(key(0), Features(tiny))
    large[1, 2] = 65504.0
    store.add(key(0), Features(large))
    np.testing.assert_array_equal(store.get(key(0)).values, large)


def test_what_is_no_key_no_region_no_row_or_no_place_for_it_is_said(tmp_path: Path):
    store = store_with(tmp_path, range(2))
    uses: list[Callable[[Any], Any]] = [store.__contains__, store.get, store.extras, lambda k: store.add(k, row(0))]
    for wrong in ("", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n", "é" * 64, 5, None):
        for use in uses:
            with pytest.raises(StoreError, match="64 hexadecimal digits"):
                use(wrong)
    with pytest.raises(StoreError, match=f"1 of 2 rows are not in {tmp_path}, the first is {key(7)}; set HNEURONS"):
        store.matrix([key(0), key(7)], "answer")
    with pytest.raises(StoreError, match=r"no region 'prompt' .* there are answer, other"):
        store.matrix([key(0)], "prompt")
    frozen = np.zeros((1, 7), np.float32)
    frozen.setflags(write=False)
    for out in (np.zeros((1, 7)), np.zeros((2, 7), np.float32), frozen):
        with pytest.raises(StoreError, match=r"writeable float32 \[1, 7\]"):
            store.matrix([key(0)], "answer", out=out)


def test_a_spec_out_of_range_is_refused_and_every_other_has_its_own_digest():
    large = [FeatureSpec(f"{n}b", (w,) * n, ("answer", "other", "prompt")) for n, w in ((32, 14336), (80, 28672))]
    assert [spec.neurons for spec in large] == [458_752, 2_293_760]
    changes: list[dict[str, Any]] = [{"model": "b"}, {"widths": (3, 4)}, {"reduce": "max"}, {"precision": "float16"}]
    specs = [*large, SPEC, replace(SPEC, regions=("other", "answer")), *(replace(SPEC, **change) for change in changes)]
    assert len({spec.digest for spec in specs}) == len(specs)
    wrong: list[tuple[str, Any]] = [("model", ""), ("reduce", "sum"), ("precision", "bfloat16")]
    wrong += [("widths", widths) for widths in ((), (3, 0), [4, 3], (True,), (2**62, 2**62), (2**29, 2**29))]
    wrong += [("regions", regions) for regions in ((), ("answer", "answer"), "answer", ("",))]
    for field, value in wrong:
        with pytest.raises(StoreError, match=field):
            replace(SPEC, **{field: value})


def test_rows_are_found_in_the_store_that_has_them_all(tmp_path: Path):
    with pytest.raises(StoreError, match=f"there are no features in {tmp_path / 'mean'}"):
        open_store(tmp_path / "mean")
    one, other = (open_store(tmp_path / name, replace(SPEC, reduce=name)) for name in ("mean", "max"))
    assert open_store(tmp_path / "mean") is open_store(tmp_path / "y" / ".." / "mean", SPEC) is one
    with pytest.raises(StoreError, match=r"spec.json is of a store with reduce 'max' instead of 'mean'"):
        open_store(tmp_path / "max", SPEC)
    for number in range(4):
        one.add(key(number), row(number))
        other.add(key(number + 3), row(number + 3))
    assert find_store(tmp_path, [key(0), key(3)]) is one
    assert find_store(tmp_path, [key(6), key(3)]) is other
    with pytest.raises(StoreError, match=r"has all 3 rows \(\S+max has 1; \S+mean has 2\)"):
        find_store(tmp_path, [key(0), key(1), key(6)])
    with pytest.raises(StoreError, match=rf"no store below {tmp_path} has all 1 rows \(none has any\); set HNEURONS"):
        find_store(tmp_path, [key(99)])
    with pytest.raises(StoreError, match="no keys"):
        find_store(tmp_path, [])
    # Damage in a store that is not needed does no harm; where it may be needed it is what the error is about.
    files(other.directory)[1][0].write_bytes(b"")
    assert find_store(tmp_path, [key(0), key(3)]) is one
    with pytest.raises(StoreError, match=r"\.jsonl is shorter than"):
        find_store(tmp_path, [key(6), key(99)])


if __name__ == "__main__":
    write_and_report(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
