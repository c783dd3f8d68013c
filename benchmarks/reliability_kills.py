"""Stages as real processes that are killed at random and started again, held against runs that nobody disturbed.

A chain is one run of a stage in directories of its own: it is started, killed at a random moment, gone on with as a
user would (`inspect eval-retry` on its newest log; the same command where there is no log yet; for the pipeline the
same command with `resume`), killed again, and at last left to finish. Then its texts, scores, metrics, contributions,
probes and neurons are held against those of the undisturbed run, to the bit.
"""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reliability_runs import (
    MAX_SECONDS,
    Place,
    Stage,
    command,
    contributions,
    differences,
    end,
    final_logs,
    logs_of,
    lost_outputs,
    new_log,
    retry,
    run_to_the_end,
    samples,
    start,
    strays,
)

from hneurons_eval.artifacts.logs import fullest

MAX_KILLS_IN_A_CHAIN = 4
BEFORE_THE_LOG = 0.15
"""Share of kills that come while the program still starts."""
UNDISTURBED = "undisturbed"


@dataclass
class Row:
    """What the chains of one stage came to.

    Attributes:
        kills: by signal.
        early: kills while the program still started, before there was a log.
        chains: runs that were disturbed.
        restarts: how often something was started again.
        finished: samples that stood in the log of a killed process.
        repeated: of those, how many were done again.
        twice: rows of contributions that were computed and stored twice.
        differences: what is not as in the undisturbed run; one line each.
        strays: files of killed writers that are left.
        outputs: samples whose output was not recovered, but in their scores.
        survived: processes that a SIGTERM did not end within a few seconds.
        unreadable: logs that cannot be read after a kill.
        seconds: of all this.
    """

    kills: dict[str, int] = field(default_factory=lambda: {"SIGKILL": 0, "SIGTERM": 0})
    early: int = 0
    chains: int = 0
    restarts: int = 0
    finished: int = 0
    repeated: int = 0
    twice: int = 0
    differences: list[str] = field(default_factory=list)
    strays: int = 0
    outputs: int = 0
    survived: int = 0
    unreadable: int = 0
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        return sum(self.kills.values())


# --- the undisturbed run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed: where it is, seconds until its log began, and seconds from then on."""

    place: Place
    starting: float
    working: float


def undisturbed(stage: Stage, work: Path) -> Undisturbed:
    """Run a stage once to the end.

    Raises:
        RuntimeError: it failed by itself; says where its output is.
    """
    place = Place(work / stage.name.replace(" ", "-") / UNDISTURBED)
    if stage.artifacts is not None:
        shutil.copytree(stage.artifacts, place.artifacts)
    begin = time.monotonic()
    process = start(command(stage, place), place)
    logged = begin
    while process.poll() is None and time.monotonic() - begin < MAX_SECONDS:
        if logged == begin and new_log(place, set()):
            logged = time.monotonic()
        time.sleep(0.01)
    end(process)
    done = final_logs(logs_of(place)[0])
    if process.returncode != 0 or len(done) != stage.tasks:
        raise RuntimeError(
            f"{stage.name} fails undisturbed, with {sorted(done)} finished; see {place.directory}/said.txt"
        )
    return Undisturbed(place, logged - begin, time.monotonic() - logged)


# --- killing -----------------------------------------------------------------------------------------------


def next_command(stage: Stage, place: Place) -> list[str] | None:
    """How a user goes on: None where everything is finished."""
    logs, _ = logs_of(place)
    ended = {log.eval.task_id for log in logs if log.status == "success"}
    interrupted = [log for log in logs if log.eval.task_id not in ended]
    if interrupted:
        same = [log for log in interrupted if log.eval.task_id == interrupted[-1].eval.task_id]
        return retry(Path(fullest(same).location), place)
    if len(final_logs(logs)) == stage.tasks:
        return None
    return command(stage, place, resume=stage.tasks > 1 and bool(ended))


def kill_once(
    words: Sequence[str], place: Place, whole: Undisturbed, rng: random.Random, left: float, row: Row
) -> None:
    """Start a command and kill it at a random moment; nothing is counted where it ends before."""
    early = rng.random() < BEFORE_THE_LOG
    wait = rng.uniform(0, whole.starting if early else whole.working * left)
    kind = rng.choice([signal.SIGKILL, signal.SIGTERM])
    before = set(place.logs.glob("*.eval"))
    process = start(words, place)
    begin = time.monotonic()
    begun = begin if early else None
    while process.poll() is None:
        now = time.monotonic()
        if begun is None and new_log(place, before):
            begun = now
        if (begun is not None and now - begun >= wait) or now - begin > MAX_SECONDS:
            break
        time.sleep(0.003)
    row.restarts += 1
    if process.poll() is not None:
        return
    if time.monotonic() - begin > MAX_SECONDS:
        row.differences.append(f"a process hung: {' '.join(words)}")
    process.send_signal(kind)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        row.survived += 1
        end(process)
    row.kills[kind.name] += 1
    row.early += not new_log(place, before)


def chain(stage: Stage, work: Path, whole: Undisturbed, number: int, kills: int, rng: random.Random, row: Row) -> None:
    """One run, killed up to so many times; what it came to is added to the row."""
    place = Place(work / stage.name.replace(" ", "-") / f"chain-{number}")
    if stage.artifacts is not None:
        shutil.copytree(stage.artifacts, place.artifacts)
    row.chains += 1
    done: dict[tuple[str, str, int], str | None] = {}
    total = sum(1 for _ in samples(logs_of(whole.place)[0]))
    wanted = min(kills, MAX_KILLS_IN_A_CHAIN)
    first = row.killed
    words: list[str] | None = command(stage, place)
    attempts = 0
    while words is not None and row.killed - first < wanted:
        kill_once(words, place, whole, rng, 1 - len(done) / max(total, 1), row)
        logs, unreadable = logs_of(place)
        row.unreadable += unreadable
        for key, sample in samples(logs):
            done.setdefault(key, sample.uuid)
        words = next_command(stage, place)
    while words is not None and attempts < 2 * stage.tasks + 2:
        attempts += 1
        row.restarts += 1
        if run_to_the_end(words, place, afresh=attempts == 1 and number == 1) != 0:
            row.differences.append(f"a restart failed: {' '.join(words)}; see {place.directory}/said.txt")
            return
        words = next_command(stage, place)
    if words is not None:
        row.differences.append(f"chain {number} does not come to its end; see {place.directory}/said.txt")
        return
    kept = {key: sample.uuid for key, sample in samples(list(final_logs(logs_of(place)[0]).values()))}
    row.finished += len(done)
    row.repeated += sum(kept.get(key) != uuid for key, uuid in done.items())
    row.twice += contributions(place)[1]
    row.strays += strays(place)
    row.outputs += lost_outputs(place, whole.place)
    row.differences += [f"chain {number}: {one}" for one in differences(place, whole.place)[:20]]
    if not row.differences:
        with suppress(OSError):
            shutil.rmtree(place.directory)


def killed(stage: Stage, work: Path, kills: int, rng: random.Random) -> tuple[Row, Undisturbed]:
    """Kill a stage so often, and say what came of it."""
    begin = time.monotonic()
    row = Row()
    whole = undisturbed(stage, work)
    number = 0
    while row.killed < kills and number < 4 * kills:
        number += 1
        chain(stage, work, whole, number, kills - row.killed, rng, row)
    row.seconds = time.monotonic() - begin
    return row, whole
