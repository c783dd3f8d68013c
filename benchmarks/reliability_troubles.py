"""Stages on a full disk, where nothing can be written, beside one another, and with a clock that goes wrong."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reliability_kills import Undisturbed, next_command
from reliability_runs import (
    Place,
    Stage,
    command,
    contributions,
    differences,
    end,
    logs_of,
    rounding,
    run_to_the_end,
    samples,
    start,
)

PAGE = 4096
MAX_ROUNDING = 1e-4
CLOCK = """
import time

_time, _ns, _begin = time.time, time.time_ns, time.monotonic()


def _back() -> int:
    # A day back after {after} seconds, and every {after} seconds another.
    return int((time.monotonic() - _begin) / {after}) * 86_400


time.time = lambda: _time() - _back()
time.time_ns = lambda: _ns() - _back() * 10**9
"""


@dataclass(frozen=True)
class Found:
    """What one trial came to.

    Attributes:
        what: was tried.
        times: how often.
        lost: what was lost or wrong, one line each.
        remark: what else should be known.
        seconds: it took.
    """

    what: str
    times: int
    lost: list[str]
    remark: str
    seconds: float


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[bool]:
    """A file system of some size in a directory; False where nothing can be mounted here."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", place], check=False)


def more_room(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", place], check=True)


def said_in(place: Place) -> str:
    return (place.directory / "said.txt").read_text(errors="replace")


def go_on(stage: Stage, place: Place) -> list[str]:
    """Restart until everything is finished; what went wrong."""
    for _ in range(2 * stage.tasks + 2):
        words = next_command(stage, place)
        if words is None:
            return []
        if run_to_the_end(words, place) != 0:
            return [f"a restart failed: {' '.join(words)}; see {place.directory}/said.txt"]
    return [f"no end of restarts; see {place.directory}/said.txt"]


def fresh(stage: Stage, work: Path, name: str) -> Place:
    place = Place(work / stage.name.replace(" ", "-") / name)
    if stage.artifacts is not None:
        shutil.copytree(stage.artifacts, place.artifacts)
    return place


def pages(directory: Path) -> int:
    """Pages of memory that the files of a directory take."""
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()] if directory.exists() else []
    return sum(-(-size // PAGE) for size in sizes)


def full_disk(stage: Stage, work: Path, whole: Undisturbed, where: str) -> Found:
    """A stage whose artifacts (or logs) get half the room that they need, and that is gone on with when there is more.

    The disk is a file system in memory.
    """
    begin = time.monotonic()
    place = fresh(stage, work, f"full-{where}")
    disk: Path = getattr(place, where)
    size = f"{(pages(disk) + pages(getattr(whole.place, where))) // 2 * PAGE // 1024}k"
    kept = place.directory / "kept"
    if disk.exists():
        shutil.move(disk, kept)
    lost: list[str] = []
    with small_disk(disk, size) as mounted:
        if not mounted:
            return Found(f"full disk, {where}, {stage.name}", 0, [], "no file system can be mounted here", 0.0)
        if kept.exists():
            shutil.copytree(kept, disk, dirs_exist_ok=True)
        # As people run it: with `--display none` Inspect keeps to itself that it could not write its log.
        status = run_to_the_end(command(stage, place, display="plain"), place)
        ended = [log.status for log in logs_of(place)[0]]
        if "success" in ended:
            lost.append("it says that it succeeded, although the disk was full")
        told = "No space left" in " ".join(said_in(place).split()) or any(
            "No space left" in (log.error.message if log.error else "") for log in logs_of(place)[0]
        )
        if not told:
            lost.append(f"nothing says that the disk was full; see {place.directory}/said.txt")
        more_room(disk)
        lost += go_on(stage, place) or differences(place, whole.place)
    remark = f"room for {size}B; exit status {status}"
    return Found(f"full disk, {where}, {stage.name}", 1, lost, remark, time.monotonic() - begin)


def unwritable(stage: Stage, work: Path) -> Found:
    """Artifacts in a directory that nobody can write to, root included: refused before any work."""
    begin = time.monotonic()
    place = fresh(stage, work, "unwritable")
    place.logs.mkdir(parents=True)
    environment = place.environment() | {"HNEURONS_ARTIFACTS": "/proc/hneurons"}
    done = subprocess.run(
        command(stage, place), env=environment, cwd=place.directory, capture_output=True, text=True, timeout=120
    )
    said = (done.stdout + done.stderr).strip()
    lost = [] if done.returncode and "HNEURONS_ARTIFACTS" in said else [f"not refused by name: {said[-300:]}"]
    lost += ["a traceback"] if "Traceback" in said else []
    lost += ["a log was begun"] if list(place.logs.glob("*.eval")) else []
    last = (said.splitlines() or [""])[-1]
    return Found(f"unwritable directory, {stage.name}", 1, lost, last[:160], time.monotonic() - begin)


def side_by_side(stage: Stage, work: Path, whole: Undisturbed, times: int) -> Found:
    """Two processes that do the same stage at the same time with the same artifacts."""
    begin = time.monotonic()
    lost: list[str] = []
    twice = 0
    for number in range(times):
        one = fresh(stage, work, f"pair-{number}")
        other = Place(work / stage.name.replace(" ", "-") / f"pair-{number}-other")
        other.directory.mkdir(parents=True)
        os.symlink(one.artifacts, other.artifacts)
        one.artifacts.mkdir(parents=True, exist_ok=True)
        processes = [start(command(stage, place), place) for place in (one, other)]
        try:
            statuses = [process.wait(180) for process in processes]
        finally:
            for process in processes:
                end(process)
        if any(statuses):
            lost.append(f"exit statuses {statuses}; see {one.directory}/said.txt and {other.directory}/said.txt")
            continue
        for place in (one, other):
            lost += [f"pair {number}: {line}" for line in differences(place, whole.place)[:10]]
        twice += contributions(one)[1]
    remark = f"{twice} rows were computed by both; the older counts"
    return Found(f"two processes on one artifact root, {stage.name}", times, lost, remark, time.monotonic() - begin)


def wrong_clock(stage: Stage, work: Path, whole: Undisturbed, times: int, rng: random.Random) -> Found:
    """A clock that jumps back by a day again and again, in a process that is killed and gone on with."""
    begin = time.monotonic()
    lost: list[str] = []
    for number in range(times):
        place = fresh(stage, work, f"clock-{number}")
        patched = place.directory / "clock"
        patched.mkdir(parents=True)
        after = whole.starting + rng.uniform(0.2, 0.8) * whole.working
        (patched / "sitecustomize.py").write_text(CLOCK.format(after=after))
        turned = _Turned(place.directory, str(patched))
        process = start(command(stage, turned), turned, afresh=True)
        time.sleep(after + rng.uniform(0.1, 0.5) * whole.working)
        end(process)
        lost += go_on(stage, turned) or [f"trial {number}: {line}" for line in differences(place, whole.place)[:10]]
    what = f"clock that jumps back by days, and a kill, {stage.name}"
    return Found(what, times, lost, "", time.monotonic() - begin)


class _Turned(Place):
    """A place whose processes see another clock."""

    def __init__(self, directory: Path, patched: str) -> None:
        super().__init__(directory)
        object.__setattr__(self, "patched", patched)

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": self.patched}  # pyright: ignore[reportAttributeAccessIssue]


def in_half_precision(stage: Stage, work: Path) -> list[Found]:
    """How many answers depend on the batch in bfloat16, and whether `strict` makes an end of that."""
    found: list[Found] = []
    for name, more, limit in (("bfloat16", (), 24), ("bfloat16, strict", ("deterministic=true",), 8)):
        begin = time.monotonic()
        texts = []
        for connections in (3, 200):
            options = (*stage.options, "--limit", str(limit), "--max-connections", str(connections))
            other = replace(stage, options=options, model_args=("dtype=bfloat16", *more))
            place = fresh(other, work, f"{name.replace(', ', '-')}-{connections}")
            if run_to_the_end(command(other, place), place) != 0:
                return [Found(name, 1, [f"it failed; see {place.directory}/said.txt"], "", time.monotonic() - begin)]
            texts.append({key: sample.output.completion for key, sample in samples(logs_of(place)[0])})
        differ = sum(texts[0][key] != texts[1].get(key) for key in texts[0])
        lost = [f"{differ} answers differ"] if differ and more else []
        what = f"other batches in {name}, {stage.name}"
        remark = f"{differ} of {len(texts[0])} answers differ"
        found.append(Found(what, 1, lost, remark, time.monotonic() - begin))
    return found


def rounded(stage: Stage, work: Path) -> Found:
    """The same stage in other batches without `strict`: the same texts, contributions up to rounding."""
    begin = time.monotonic()
    places: list[Place] = []
    for connections in (3, 200):
        options = (*stage.options, "--max-connections", str(connections))
        other = replace(stage, options=options, model_args=("dtype=float32",))
        places.append(fresh(other, work, f"rounded-{connections}"))
        if run_to_the_end(command(other, places[-1]), places[-1]) != 0:
            return Found("other batches in float32", 1, ["it failed"], "", time.monotonic() - begin)
    largest, texts = rounding(*places)
    lost = [f"{texts} texts differ"] if texts else []
    lost += [f"contributions differ by {largest:.1e}"] if largest > MAX_ROUNDING else []
    remark = f"no text differs; contributions by at most {largest:.1e} of the largest"
    what = f"other batches in float32, {stage.name}"
    return Found(what, 1, lost, remark, time.monotonic() - begin)


def in_other_batches(stage: Stage, work: Path, whole: Undisturbed, connections: int) -> Found:
    """The same with other batches and another hash seed: bit for bit the same."""
    begin = time.monotonic()
    other = replace(stage, options=(*stage.options, "--max-connections", str(connections)))
    place = fresh(stage, work, f"connections-{connections}")
    lost = [] if run_to_the_end(command(other, place), place, afresh=True) == 0 else ["it failed"]
    lost = lost or differences(place, whole.place)[:20]
    what = f"{connections} requests at a time instead of all, another PYTHONHASHSEED, {stage.name}"
    return Found(what, 1, lost, "", time.monotonic() - begin)
