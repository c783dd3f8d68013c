"""Rows come back as they were added, whoever else writes, is killed or runs out of disk; damage is found and named."""

import itertools
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.numpy import load, save_file

from hneurons_eval.artifacts import contribution_store
from hneurons_eval.artifacts.contribution_shards import Contributions, StoreError, StoreSpec
from hneurons_eval.artifacts.contribution_store import ContributionStore, find_store, is_store, open_store

SPEC = StoreSpec(model="a" * 64, widths=(4, 3), regions=("answer", "other"), reduce="mean", precision="float32")
BIG = StoreSpec("big", (150_000,), ("answer", "other"), "mean", "float32")


def key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def row(number: int, spec: StoreSpec = SPEC) -> Contributions:
    """A row that its number decides."""
    shape = (len(spec.regions), spec.neurons)
    values = ((np.arange(np.prod(shape)) * (2 * number + 1) % 997 + 1) / 998).astype(np.float32).reshape(shape)
    about = {"number": number, "question": f"Où est n° {number}?"}
    return Contributions(values, about, {"logprobs": -np.arange(number % 5, dtype=np.float32)})


def store_with(directory: Path, numbers: range, spec: StoreSpec = SPEC) -> ContributionStore:
    store = ContributionStore(directory, spec)
    for number in numbers:
        store.add(key(number), row(number, spec))
    return store


def assert_same(found: Contributions, added: Contributions, spec: StoreSpec = SPEC) -> None:
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


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.safetensors"))


def metadata(shard: Path) -> dict[str, str]:
    with safe_open(shard, "numpy") as file:
        return file.metadata()


def kept_in(shard: Path) -> list[int]:
    return [entry["about"]["number"] for entry in json.loads(metadata(shard)["rows"])]


def write_metadata(shard: Path, **changes: str) -> None:
    """The same tensors with other metadata, and the right checksum of them."""
    texts = metadata(shard) | changes
    check = f"{zlib.crc32((texts['spec'] + texts['rows']).encode()):08x}"
    save_file(load(shard.read_bytes()), shard, {**texts, "check": check})


names = st.text(min_size=1, max_size=8).filter(
    lambda name: name.isprintable() and name not in ("extras", "__metadata__")
)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
jsons = simple | st.lists(simple, max_size=3) | st.dictionaries(st.text(), simple, max_size=3)
specs = st.builds(
    StoreSpec,
    names,
    st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from(["mean", "max"]),
    st.sampled_from(["float32", "float16"]),
)


def rows_of(spec: StoreSpec) -> st.SearchStrategy[list[Contributions]]:
    elements = floats if spec.precision == "float32" else st.floats(-65504, 65504, width=32)
    values = arrays(np.float32, (len(spec.regions), spec.neurons), elements=elements)
    extras = st.dictionaries(names, arrays(np.float32, st.integers(0, 5), elements=floats), max_size=3)
    about = st.dictionaries(st.text(), jsons, max_size=3)
    return st.lists(st.builds(Contributions, values, about, extras), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(specs, st.data())
def test_every_row_makes_the_round_trip(tmp_path_factory: pytest.TempPathFactory, spec: StoreSpec, data: st.DataObject):
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
            # The precision that StoreSpec promises.
            error = np.abs(found.values.astype(np.float64) - added.values)
            allowed = {"float32": 0.0, "float16": np.maximum(np.abs(added.values) * 2.0**-11, 2.0**-25)}
            assert (error <= allowed[spec.precision]).all()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_matrix_holds_its_keys_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str):
    spec = replace(SPEC, precision=precision)
    monkeypatch.setattr(ContributionStore, "SHARD_ROWS", 3)
    ticks = iter(range(10**18, 2 * 10**18, 10**9))
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks))  # shards of one millisecond have no order
    store = store_with(tmp_path, range(20), spec)
    assert [len(kept_in(shard)) for shard in shards(tmp_path)] == [3] * 6 + [1] * 2
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
    spec = StoreSpec("m", (20_000,) * 5, ("answer", "other", "prompt"), "mean", precision)
    store = store_with(tmp_path, range(40), spec)
    keys = [key(number) for number in range(40)]
    region = spec.neurons * 4
    for out, allowed in ((None, 42 * region), (np.empty((40, spec.neurons), np.float32), 2 * region)):
        tracemalloc.start()
        store.matrix(keys, "other", out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < allowed


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_shard_is_what_the_docstring_says(tmp_path: Path, precision: str):
    spec = replace(SPEC, precision=precision)
    store_with(tmp_path, range(3), spec).flush()
    (shard,) = shards(tmp_path)
    added = [row(number, spec) for number in range(3)]
    with safe_open(shard, "numpy") as file:
        texts = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a file is no mapping
    assert sorted(tensors) == ["answer", "extras", "other"]
    for where, region in enumerate(spec.regions):
        np.testing.assert_array_equal(
            tensors[region], np.stack([one.values[where] for one in added]).astype(spec.dtype)
        )
        assert tensors[region].dtype == spec.dtype
    np.testing.assert_array_equal(tensors["extras"], np.concatenate([one.extras["logprobs"] for one in added]))
    assert texts.keys() == {"format", "version", "spec", "rows", "check"}
    assert json.loads(texts["spec"]) == {
        **vars(SPEC),
        "precision": precision,
        "widths": [4, 3],
        "regions": ["answer", "other"],
    }
    assert texts["check"] == f"{zlib.crc32((texts['spec'] + texts['rows']).encode()):08x}"
    for number, entry in enumerate(json.loads(texts["rows"])):
        parts = [*added[number].values.astype(spec.dtype), added[number].extras["logprobs"]]
        checks = {n: f"{zlib.crc32(v.tobytes()):08x}" for n, v in zip((*spec.regions, "extras"), parts, strict=True)}
        about = {"key": key(number), "about": dict(added[number].about), "extras": {"logprobs": number}}
        assert entry == about | {"checks": checks}


def test_small_shards_are_merged_when_there_are_enough_rows_or_bytes(tmp_path: Path):
    store = ContributionStore(tmp_path, SPEC)
    store.SHARD_ROWS, store.SHARD_BYTES = 4, 5 * SPEC.row_bytes
    for number in range(9):
        store.add(key(number), row(number))
        store.add(key(0), row(7))  # a key that is there is left alone
    assert [kept_in(shard) for shard in shards(tmp_path)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    store.SHARD_BYTES = 3 * SPEC.row_bytes
    for number in range(9, 12):
        store.add(key(number), row(number))
    assert [len(kept_in(shard)) for shard in shards(tmp_path)] == [4, 4, 3, 1]
    store.flush()
    store.flush()
    assert len(shards(tmp_path)) == 4
    assert_has(store, *range(12))
    assert_has(ContributionStore(tmp_path, SPEC), *range(12))


def test_what_is_changed_after_it_was_added_is_not_merged(tmp_path: Path):
    store, mine = ContributionStore(tmp_path, SPEC), row(3)
    store.add(key(3), mine)
    mine.values[:] = 9
    mine.extras["logprobs"][:] = 9
    store.flush()
    assert_has(store, 3)


def test_a_reader_goes_on_when_shards_are_merged_under_it(tmp_path: Path):
    writer = store_with(tmp_path, range(4))
    reader = ContributionStore(tmp_path, SPEC)
    found = reader.index()
    assert next(found) == (key(0), row(0).about)
    before = shards(tmp_path)
    writer.flush()
    assert not any(path.exists() for path in before)
    assert [about["number"] for _, about in found] == [1, 2, 3]
    assert_has(reader, *range(4))


def test_a_listing_that_misses_a_merged_shard_and_its_small_ones_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    writer = store_with(tmp_path, range(3))
    reader = ContributionStore(tmp_path, SPEC)
    writer.flush()
    own = contribution_store._shard_names
    listings = [set[str]()]
    monkeypatch.setattr(
        contribution_store, "_shard_names", lambda directory: listings.pop() if listings else own(directory)
    )
    assert_has(reader, 0, 1, 2)


def test_a_reader_sees_what_others_add_and_forgets_what_is_deleted(tmp_path: Path):
    reader, writer = ContributionStore(tmp_path, SPEC), ContributionStore(tmp_path, SPEC)
    for number in range(3):
        assert key(number) not in reader
        writer.add(key(number), row(number))
        assert_has(reader, number)
    writer.flush()
    writer.add(key(3), row(3))
    assert len(reader) == 4
    assert reader.missing([key(9), key(3), key(8)]) == [key(9), key(8)]
    (gone,) = (shard for shard in shards(tmp_path) if 3 in kept_in(shard))
    gone.unlink()
    assert key(3) not in reader
    assert len(reader) == len(writer) == 3
    writer.flush()  # does not bring back what was deleted
    assert key(3) not in writer
    writer.add(key(3), row(3))
    assert_has(reader, 3)
    shutil.rmtree(tmp_path)
    writer.flush()
    assert not tmp_path.exists()
    assert len(reader) == 0
    writer.add(key(4), row(4))
    assert_has(reader, 4)


def test_of_a_key_that_stands_twice_all_readers_take_the_older_row(tmp_path: Path):
    store = store_with(tmp_path, range(2))
    time.sleep(0.002)
    other = ContributionStore(tmp_path / "other", SPEC)
    other.add(key(0), row(5))
    other.add(key(6), row(6))
    for shard in shards(other.directory):
        shutil.copy(shard, tmp_path)
    for _ in range(2):
        for reader in (store, ContributionStore(tmp_path, SPEC)):
            assert_has(reader, 0, 1, 6)
            assert len(reader) == 3
        store.flush()  # merging makes no row younger
    (gone,) = (shard for shard in shards(tmp_path) if 6 in kept_in(shard))
    gone.unlink()
    assert len(store) == 2
    assert_has(store, 0, 1)


def test_rows_that_threads_add_at_once_share_shards(tmp_path: Path):
    store = ContributionStore(tmp_path, SPEC)
    store.SHARD_ROWS = 7

    def work(first: int) -> None:
        for number in (*range(first, 40), *range(first)):
            store.add(key(number), row(number))
            assert_has(store, number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(0, 40, 5)))
    kept = [kept_in(shard) for shard in shards(tmp_path)]
    assert sorted(itertools.chain(*kept)) == list(range(40))  # every row once
    assert [len(numbers) for numbers in kept].count(7) == 5
    assert_has(ContributionStore(tmp_path, SPEC), *range(40))


def test_threads_that_wait_for_one_write_share_its_shard(tmp_path: Path):
    store = ContributionStore(tmp_path, SPEC)
    with ThreadPoolExecutor(6) as pool:
        with store._writing:  # as if a write took long
            done = [pool.submit(store.add, key(number), row(number)) for number in range(6)]
            while len(store._waiting) < 6:
                time.sleep(0.001)
            assert not any(one.done() for one in done)
        for one in done:
            one.result()
    (shard,) = shards(tmp_path)
    assert sorted(kept_in(shard)) == list(range(6))


def write_and_report(directory: Path, first: int, last: int) -> None:
    """What the subprocesses of the next tests do: say what they are about to add and what they have added."""
    store = ContributionStore(directory, BIG)
    store.SHARD_ROWS = 5

    def work(number: int) -> None:
        if key(number) not in store:
            os.write(1, f"compute {number}\n".encode())
            store.add(key(number), row(number, BIG))
        os.write(1, f"done {number}\n".encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(first, last)))


def writing(directory: Path, first: int, last: int) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, str(directory), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_write_at_once(tmp_path: Path):
    with writing(tmp_path, 0, 16) as one, writing(tmp_path, 8, 24) as other:
        reader = ContributionStore(tmp_path, BIG)
        for process in (one, other):
            for line in process.stdout or ():
                if line.startswith("done"):
                    assert_has(reader, int(line.split()[1]))
    assert (one.returncode, other.returncode) == (0, 0)
    assert_has(reader, *range(24))


def test_killed_writers_lose_nothing_that_they_reported_and_compute_none_of_it_again(tmp_path: Path):
    done: set[int] = set()
    for attempt in range(5):
        with writing(tmp_path, 0, 300) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout):
                what, number = line.split()
                if what == "done":
                    done.add(int(number))
                else:
                    assert int(number) not in done
                if count == 5 * attempt + 9:
                    time.sleep(0.003 * attempt)
                    process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        store = ContributionStore(tmp_path, BIG)
        kept = {about["number"] for _, about in store.index()}
        assert done <= kept
        assert_has(store, *kept)


def test_a_kill_at_any_step_keeps_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def attempt(directory: Path, last: int) -> None:
        """Add rows and be killed at the call number `last` of those that change files."""
        calls = 0

        def counted(own: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return own(*args, **options)

            return call

        for place, name in ((os, "replace"), (os, "fsync"), (Path, "open"), (Path, "unlink"), (Path, "chmod")):
            monkeypatch.setattr(place, name, counted(getattr(place, name)))
        store = ContributionStore(directory, SPEC)
        store.SHARD_ROWS = 3
        for number in range(5):
            store.add(key(number), row(number))
            os.write(reports, bytes([number]))
        store.flush()

    added: list[int] = []
    last = 0
    for last in range(1, 100):
        reported, reports = os.pipe()
        if not (child := os.fork()):
            try:
                attempt(tmp_path / str(last), last)
            finally:
                os._exit(0)
        os.close(reports)
        with os.fdopen(reported, "rb") as file:
            added = list(file.read())
        killed = os.waitpid(child, 0)[1] == signal.SIGKILL
        store = ContributionStore(tmp_path / str(last), SPEC)
        assert_has(store, *added)
        assert len(store) <= len(added) + 1
        if not killed:
            break
    assert added == list(range(5))
    assert last > 5 * 3 + 2 * 4 + 5  # each add, each merge, each small shard that it deletes


@pytest.mark.parametrize("flushes", [False, True])
def test_a_fork_begins_shards_of_its_own(tmp_path: Path, flushes: bool):
    store = store_with(tmp_path, range(2))
    if not (child := os.fork()):
        try:
            if flushes:  # nothing, for the parent wrote it
                store.flush()
            store.add(key(2), row(2))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert sorted(map(kept_in, shards(tmp_path))) == [[0], [1], [2]]
    store.add(key(3), row(3))
    store.flush()
    assert_has(store, *range(4))
    assert sorted(map(kept_in, shards(tmp_path))) == [[0, 1, 3], [2]]


def test_a_process_merges_its_small_shards_when_it_ends(tmp_path: Path):
    script = f"""
import sys, numpy as np
sys.path[:0] = {sys.path!r}
from pathlib import Path
from hneurons_eval.artifacts import contribution_store
from hneurons_eval.artifacts.contribution_shards import Contributions, StoreSpec
from hneurons_eval.artifacts.contribution_store import open_store
store = open_store(Path({str(tmp_path)!r}), StoreSpec("m", (4,), ("answer",)))
for number in range(3):
    store.add(f"{{number:064x}}", Contributions(np.ones((1, 4), np.float32), {{"number": number}}))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    (shard,) = shards(tmp_path)
    assert kept_in(shard) == [0, 1, 2]


@pytest.mark.parametrize("room", [0, 1, 40, 1000, 8000])
def test_a_disk_that_is_full_keeps_the_row_out_and_the_store_usable(tmp_path: Path, room: int):
    store = store_with(tmp_path, range(3))
    before = sorted(tmp_path.iterdir())
    large = replace(row(3), extras={"hidden": np.ones(2000, np.float32)})
    with no_file_beyond(room), pytest.raises(OSError, match="too large"):
        store.add(key(3), large)
    assert sorted(tmp_path.iterdir()) == before  # the space is given back
    for reader in (store, ContributionStore(tmp_path, SPEC)):
        assert reader.missing([key(number) for number in range(4)]) == [key(3)]
        assert_has(reader, 0, 1, 2)
    store.add(key(3), large)
    assert_same(ContributionStore(tmp_path, SPEC).get(key(3)), large)


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The write across a size is cut short and the next one refused, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_leaves_small_shards_as_they_are(tmp_path: Path):
    store = store_with(tmp_path, range(3))
    before = shards(tmp_path)
    with no_file_beyond(before[0].stat().st_size + 10):
        store.flush()
    assert sorted(tmp_path.iterdir()) == before
    store.add(key(3), row(3))
    store.flush()
    assert_has(store, *range(4))


def test_a_row_that_fails_fails_alone(tmp_path: Path):
    store = ContributionStore(tmp_path, SPEC)
    large = replace(row(0), extras={"hidden": np.ones(20_000, np.float32)})
    with ThreadPoolExecutor(4) as pool, no_file_beyond(50_000):
        with store._writing:
            waits = [pool.submit(store.add, key(0), large)]
            while not store._waiting:
                time.sleep(0.001)
            waits += [pool.submit(store.add, key(number), row(number)) for number in (1, 2, 3)]
            while len(store._waiting) < 4:
                time.sleep(0.001)
        failed = [isinstance(one.exception(), OSError) for one in waits]
    assert failed[0]
    kept = [number for number in range(1, 4) if not failed[number]]
    assert_has(store, *kept)
    assert len(store) == len(kept)


def assert_holds_the_first(directory: Path, count: int) -> None:
    store = ContributionStore(directory, SPEC)
    assert [about["number"] for _, about in store.index()] == list(range(count))
    assert_has(store, *range(count))


def test_a_shard_cut_anywhere_is_named(tmp_path: Path):
    store_with(tmp_path, range(3)).flush()
    (shard,) = shards(tmp_path)
    for size in range(shard.stat().st_size - 1, -1, -1):
        os.truncate(shard, size)
        with pytest.raises(StoreError, match=rf"{shard.name} is not a whole safetensors file .* delete it and run"):
            ContributionStore(tmp_path, SPEC)


def test_a_bit_that_flips_anywhere_is_found(tmp_path: Path):
    store_with(tmp_path, range(3)).flush()
    (shard,) = shards(tmp_path)
    content = shard.read_bytes()
    with shard.open("r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes([byte ^ 1 << place % 8]), place)
            with pytest.raises(StoreError, match=shard.name):
                assert_holds_the_first(tmp_path, 3)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert_holds_the_first(tmp_path, 3)


def test_damage_under_a_reader_is_named_by_what_reads_it(tmp_path: Path):
    store = store_with(tmp_path, range(3))
    store.flush()
    (shard,) = shards(tmp_path)
    content = shard.read_bytes()
    place = content.index(row(1).values[1].tobytes())
    shard.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    keys = [key(number) for number in range(3)]
    np.testing.assert_array_equal(store.matrix(keys, "answer")[1], row(1).values[0])
    np.testing.assert_array_equal(store.extras(key(1))["logprobs"], row(1).extras["logprobs"])
    for read in (lambda: store.matrix(keys, "other"), lambda: store.get(key(1))):
        with pytest.raises(StoreError, match=rf"{shard.name} is damaged in the other of row {key(1)}; delete it and"):
            read()
    assert_has(store, 0, 2)
    shard.write_bytes(content[:-20])
    with pytest.raises(StoreError, match=rf"{shard.name} is not a whole safetensors file"):
        store.get(key(2))
    other = store_with(tmp_path / "other", range(2))
    other.flush()
    shutil.copy(shards(other.directory)[0], shard)
    with pytest.raises(StoreError, match=rf"{shard.name} has lost row {key(2)}"):
        store.get(key(2))


Change = Callable[[Path], object]


def entry(number: int, **changes: Any) -> Change:
    """Another entry of a row, with the right checksum."""

    def apply(shard: Path) -> None:
        rows = json.loads(metadata(shard)["rows"])
        rows[number] |= changes
        write_metadata(shard, rows=json.dumps(rows))

    return apply


def spec_of(**changes: Any) -> Change:
    return lambda shard: write_metadata(shard, spec=json.dumps(json.loads(metadata(shard)["spec"]) | changes))


def meta(**changes: str) -> Change:
    return lambda shard: write_metadata(shard, **changes)


def with_tensors(**changes: np.ndarray) -> Change:
    return lambda shard: save_file(load(shard.read_bytes()) | changes, shard, metadata(shard))


FOREIGN: dict[str, tuple[Change, str]] = {
    "no shard at all": (lambda shard: shard.write_bytes(b"x" * 10_000), "is not a whole safetensors file"),
    "nothing": (lambda shard: shard.write_bytes(b""), "is not a whole safetensors file"),
    "a checkpoint": (lambda shard: save_file({"w": np.ones(3)}, shard), "is not a shard of hneurons-contributions"),
    "another format": (meta(format="table"), "is not a shard of hneurons-contributions"),
    "another version": (meta(version="2"), "has version '2' .* this program reads 1"),
    "unreadable spec": (meta(spec="{"), "has metadata that are not"),
    "a spec without an end": (meta(spec="[" * 200_000), "has metadata that are not"),
    "rows that are none": (meta(rows="[1]"), "has metadata that are not"),
    "rows without an end": (meta(rows="[" * 200_000), "has metadata that are not"),
    "too few rows": (meta(rows="[]"), "has tensors that its metadata do not describe"),
    "endless extras": (entry(2, extras={"hidden": 2**61}), "has tensors that its metadata do not describe"),
    "extras beyond all numbers": (entry(2, extras={"hidden": 2**63}), "row 2 is not well-formed"),
    "extras of negative length": (entry(2, extras={"a": 3, "b": -1}), "row 2 is not well-formed"),
    "extras that are none": (entry(2, extras=[2]), "has metadata that are not"),
    "a key that is a path": (entry(2, key="../" * 21 + "x"), "row 2 is not well-formed"),
    "a key twice": (entry(2, key=key(1)), "has tensors that its metadata do not describe"),
    "too few checks": (entry(2, checks={"answer": "00000000"}), "row 2 is not well-formed"),
    "another row's checks": (
        lambda s: entry(2, checks=json.loads(metadata(s)["rows"])[1]["checks"])(s),
        "is damaged in",
    ),
    "about that is no object": (entry(2, about=[1]), "row 2 is not well-formed"),
    "an unknown member": (entry(2, more=1), "has metadata that are not"),
    "another region": (with_tensors(prompt=np.ones((3, 7), np.float32)), "has tensors that its metadata do not"),
    "double precision": (with_tensors(answer=np.ones((3, 7))), "has tensors that its metadata do not"),
    "other widths": (with_tensors(answer=np.ones((3, 6), np.float32)), "has tensors that its metadata do not"),
    "the store of another model": (spec_of(model="b"), "is of a store with model 'b' instead of 'aaaa"),
    "other layers": (spec_of(widths=[3, 4]), r"is of a store with widths \(3, 4\) instead of \(4, 3\)"),
    "other regions": (spec_of(regions=["other", "answer"]), "is of a store with regions"),
    "endless neurons": (spec_of(widths=[2**63]), "widths should be"),
    "rows of 10 GB": (spec_of(widths=[2**30] * 2), "bytes, at most 2147483648 are possible"),
    "an unknown property": (spec_of(more=1), "has metadata that are not"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_foreign_or_absurd_is_named_before_memory_is_spent(tmp_path: Path, what: str):
    store_with(tmp_path, range(3)).flush()
    (shard,) = shards(tmp_path)
    apply, message = FOREIGN[what]
    apply(shard)
    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match=f"{shard.name} .*{message}"):
            ContributionStore(tmp_path, SPEC).get(key(2))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_store_of_the_former_format_is_refused_by_name(tmp_path: Path):
    old = tmp_path / "old"
    old.mkdir()
    for name in ("spec.json", "0193-ab.rows", "0193-ab.jsonl"):
        (old / name).write_text("{}")
    uses: list[Callable[[], object]] = [lambda: ContributionStore(old, SPEC), lambda: open_store(old)]
    uses += [lambda: is_store(old), lambda: find_store(tmp_path, [key(0)])]
    for use in uses:
        with pytest.raises(StoreError, match=rf"0193-ab.rows is in a format .* delete {old} and run the capture task"):
            use()
    store_with(tmp_path / "new", range(2))
    assert find_store(tmp_path, [key(0)]).directory == tmp_path / "new"  # it does no harm where it is not needed


def test_what_a_killed_process_or_a_user_left_there_does_no_harm(tmp_path: Path):
    for name in ("notes.txt", ".00_00.safetensors.x.tmp", ".hidden.safetensors"):
        (tmp_path / name).write_text("{")
    (tmp_path / "a.safetensors").mkdir()
    (tmp_path / "b.safetensors").symlink_to(tmp_path / "nowhere")
    assert_has(store_with(tmp_path, range(2)), 0, 1)
    (tmp_path / "a file").write_text("")
    with pytest.raises(StoreError, match="a file cannot be read"):
        ContributionStore(tmp_path / "a file", SPEC)


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
        ContributionStore(tmp_path, SPEC).add(key(0), Contributions(*parts))
    assert not list(tmp_path.iterdir())


def test_values_that_half_precision_would_lose_are_refused(tmp_path: Path):
    store = ContributionStore(tmp_path, replace(SPEC, precision="float16"))
    large, tiny = np.ones((2, 7), np.float32), np.ones((2, 7), np.float32)
    large[1, 2], tiny[0] = 65520.0, 2.0**-26
    with pytest.raises(StoreError, match=r"region other up to 6.552e\+04 are out of the range of float16; use"):
        store.add(key(0), Contributions(large))
    with pytest.raises(StoreError, match=r"region answer up to 1.49e-08 are out of the range of float16"):
        store.add(key(0), Contributions(tiny))
    large[1, 2] = 65504.0
    store.add(key(0), Contributions(large))
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
    large = [StoreSpec(f"{n}b", (w,) * n, ("answer", "other", "prompt")) for n, w in ((32, 14336), (80, 28672))]
    assert [spec.neurons for spec in large] == [458_752, 2_293_760]
    changes: list[dict[str, Any]] = [{"model": "b"}, {"widths": (3, 4)}, {"reduce": "max"}, {"precision": "float16"}]
    specs = [*large, SPEC, replace(SPEC, regions=("other", "answer")), *(replace(SPEC, **change) for change in changes)]
    assert len({spec.digest for spec in specs}) == len(specs)
    wrong: list[tuple[str, Any]] = [("model", ""), ("reduce", "sum"), ("precision", "bfloat16")]
    wrong += [("widths", widths) for widths in ((), (3, 0), [4, 3], (True,), (2**62, 2**62), (2**29, 2**29))]
    wrong += [("regions", regions) for regions in ((), ("answer", "answer"), "answer", ("",), ("a\n",), ("extras",))]
    for field, value in wrong:
        with pytest.raises(StoreError, match=field):
            replace(SPEC, **{field: value})


def test_rows_are_found_in_the_store_that_has_them_all(tmp_path: Path):
    with pytest.raises(StoreError, match=f"there are no contributions in {tmp_path / 'mean'}; set HNEURONS"):
        open_store(tmp_path / "mean")
    one, other = (open_store(tmp_path / name, replace(SPEC, reduce=name)) for name in ("mean", "max"))
    for number in range(4):
        one.add(key(number), row(number))
        other.add(key(number + 3), row(number + 3))
    assert open_store(tmp_path / "mean") is open_store(tmp_path / "y" / ".." / "mean", SPEC) is one
    with pytest.raises(StoreError, match=r"\.safetensors is of a store with reduce 'max' instead of 'mean'"):
        open_store(tmp_path / "max", SPEC)
    assert find_store(tmp_path, [key(0), key(3)]) is one
    assert find_store(tmp_path, [key(6), key(3)]) is other
    with pytest.raises(StoreError, match=r"has all 3 rows \(\S+max has 1; \S+mean has 2\)"):
        find_store(tmp_path, [key(0), key(1), key(6)])
    with pytest.raises(StoreError, match=rf"no store below {tmp_path} has all 1 rows \(none has any\); set HNEURONS"):
        find_store(tmp_path, [key(99)])
    with pytest.raises(StoreError, match="no keys"):
        find_store(tmp_path, [])
    # Damage in a store that is not needed does no harm; where it may be needed it is what the error is about.
    shards(other.directory)[0].write_bytes(b"")
    assert find_store(tmp_path, [key(0), key(3)]) is one
    open_store(tmp_path / "mean").flush()
    with pytest.raises(StoreError, match=r"max\S+\.safetensors (is not a whole|has lost)"):
        find_store(tmp_path, [key(6), key(99)])


if __name__ == "__main__":
    write_and_report(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
