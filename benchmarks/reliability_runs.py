"""Running a stage as a real process, and reading what it left behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from inspect_ai.log import EvalLog, EvalSample, read_eval_log

from hneurons_eval.artifacts.contribution_shards import StoreError, open_shard
from hneurons_eval.artifacts.contribution_store import is_store, open_store

BIN = Path(sys.executable).parent
STRICT = ("dtype=float32", "deterministic=true")
"""Each request is computed alone: what shares a batch after a restart is not what shared it before."""
MAX_SECONDS = 600
"""A process that takes longer has hung."""


@dataclass(frozen=True)
class Stage:
    """A task to run.

    Attributes:
        name: of this row in the table.
        task: of the package.
        model: checkpoint.
        arguments: of the task.
        options: of Inspect.
        artifacts: directory of what earlier stages left, copied for each chain; None for nothing.
        tasks: that leave a log; one but for the pipeline.
        model_args: of the provider.
    """

    name: str
    task: str
    model: str
    arguments: Mapping[str, str]
    options: Sequence[str] = ()
    artifacts: Path | None = None
    tasks: int = 1
    model_args: Sequence[str] = STRICT


@dataclass(frozen=True)
class Place:
    """Where one chain writes."""

    directory: Path

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def artifacts(self) -> Path:
        return self.directory / "artifacts"

    def environment(self) -> dict[str, str]:
        hash_seed = str(int(hashlib.sha256(str(self.directory).encode()).hexdigest()[:4], 16))
        return os.environ | {
            "HNEURONS_ARTIFACTS": str(self.artifacts),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": hash_seed,
            "XDG_DATA_HOME": str(self.directory / "data"),  # of Inspect: samples on their way into a log
        }


# --- processes -------------------------------------------------------------------------------------------


def command(stage: Stage, place: Place, resume: bool = False, display: str = "none") -> list[str]:
    arguments = dict(stage.arguments) | ({"resume": str(place.logs)} if resume else {})
    given = [part for name, value in arguments.items() for part in ("-T", f"{name}={value}")]
    about = [part for one in (*stage.model_args, "device=cpu", "threads=1") for part in ("-M", one)]
    model = ("--model", f"hneurons/{stage.model}", *about)
    shown = ("--log-dir", str(place.logs), "--display", display)
    return [str(BIN / "inspect"), "eval", f"hneurons_eval/{stage.task}", *model, *given, *stage.options, *shown]


def retry(log: Path, place: Place) -> list[str]:
    return [str(BIN / "inspect"), "eval-retry", str(log), "--log-dir", str(place.logs), "--display", "none"]


class Process(Protocol):
    """What `subprocess.Popen` and `Forked` have in common."""

    returncode: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


def preload() -> None:
    """Import everything once, so that forked processes need not: that takes longer than most of their work."""
    import importlib

    assert os.environ.get("OMP_NUM_THREADS") == "1", "start it with OMP_NUM_THREADS=1, as make reliability does"
    for name in (
        "inspect_ai._cli.main", "hneurons_eval.engine.provider", "hneurons_eval.tasks", "hneurons_eval.probe.nested_cv",
        "hneurons_eval.report.search_summary", "hneurons_eval.report.dose_response", "hneurons_eval.probe.baselines",
        "transformers.models.llama.modeling_llama",
    ):  # fmt: skip
        importlib.import_module(name)


class Forked:
    """An `inspect` command in a copy of this process, whose imports are done."""

    def __init__(self, words: Sequence[str], place: Place, said: Any) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os.chdir(place.directory)
                os.environ.update(place.environment())
                status = _inspect(list(words))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        begin = time.monotonic()
        while (status := self.poll()) is None:
            if timeout is not None and time.monotonic() - begin > timeout:
                raise subprocess.TimeoutExpired("inspect", timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _inspect(words: list[str]) -> int:
    """Run the command as its console script does; the exit status."""
    from inspect_ai._cli.main import main

    sys.argv = words
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(words: Sequence[str], place: Place, afresh: bool = False) -> Process:
    """Start a command: in a fork of this process, or `afresh` in a new interpreter with a hash seed of its own."""
    place.logs.mkdir(parents=True, exist_ok=True)
    with (place.directory / "said.txt").open("ab") as said:
        said.write(f"\n$ {' '.join(words)}\n".encode())
        said.flush()
        if not afresh:
            return Forked(words, place, said)
        return subprocess.Popen(
            words,
            env=place.environment(),
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=place.directory,
            start_new_session=True,
        )


def run_to_the_end(words: Sequence[str], place: Place, seconds: float = MAX_SECONDS, afresh: bool = False) -> int:
    """The exit status of a command."""
    process = start(words, place, afresh)
    try:
        return process.wait(seconds)
    finally:
        end(process)


def end(process: Process) -> None:
    """Nothing of a process stays behind."""
    if process.poll() is None:
        process.kill()
        process.wait()


def new_log(place: Place, before: set[Path]) -> bool:
    return any(path not in before for path in place.logs.glob("*.eval"))


# --- what a run left ---------------------------------------------------------------------------------------


def logs_of(place: Place) -> tuple[list[EvalLog], int]:
    """The logs of a chain, the oldest first, and how many cannot be read."""
    found: list[EvalLog] = []
    unreadable = 0
    for path in sorted(place.logs.glob("*.eval"), key=lambda path: path.stat().st_mtime_ns):
        try:
            log = read_eval_log(str(path))
        except Exception:  # whatever half a file makes the reader raise
            unreadable += 1
            continue
        log.location = str(path)
        found.append(log)
    return found, unreadable


def task_of(log: EvalLog) -> str:
    return log.eval.task.split("/")[-1]


def samples(logs: Sequence[EvalLog]) -> Iterator[tuple[tuple[str, str, int], EvalSample]]:
    """Samples that ended well, each under its task, id and epoch."""
    for log in logs:
        for sample in log.samples or []:
            if sample.error is None and sample.scores:
                yield (task_of(log), str(sample.id), sample.epoch), sample


def said(sample: EvalSample, place: Place) -> Any:
    """Answer, value and details of each of a sample's scores, without the names of directories."""
    scores = {
        name.split("/")[-1]: [score.value, score.answer, score.metadata]
        for name, score in (sample.scores or {}).items()
    }
    text = json.dumps(scores, sort_keys=True, default=str)
    return text.replace(str(place.artifacts), "ARTIFACTS").replace(str(place.logs), "LOGS")


def lost_outputs(place: Place, reference: Place) -> int:
    """Samples whose output Inspect did not recover; what they said stands in their scores as well."""
    ours, theirs = (
        {key: sample.output.completion for key, sample in samples([*final_logs(logs_of(one)[0]).values()])}
        for one in (place, reference)
    )
    return sum(ours[key] != theirs[key] for key in ours.keys() & theirs.keys())


def metrics(log: EvalLog) -> dict[str, str]:
    scores = log.results.scores if log.results else []
    return {f"{score.name}/{name}": repr(one.value) for score in scores for name, one in score.metrics.items()}


def stores(place: Place) -> list[Path]:
    return [path for path in sorted((place.artifacts / "features").glob("*")) if is_store(path)]


def contributions(place: Place) -> tuple[dict[str, str], int]:
    """A hash of every row of contributions by its key, and how many are stored more than once."""
    found: dict[str, str] = {}
    written: set[tuple[str, str]] = set()
    for directory in stores(place):
        store = open_store(directory)
        for key, about in store.index():
            row = store.get(key)
            extras = {name: vector.tobytes().hex() for name, vector in row.extras.items()}
            content = row.values.tobytes() + json.dumps([about, extras], sort_keys=True).encode()
            found[f"{directory.name}/{key}"] = hashlib.sha256(content).hexdigest()
        for path in directory.glob("*.safetensors"):
            with open_shard(path) as shard:  # NAME_00 holds what a killed process may have merged into NAME
                written |= {(path.stem.partition("_")[0], key) for key in shard.entries}
    return found, len(written) - len(found)


def rounding(place: Place, reference: Place) -> tuple[float, int]:
    """The largest difference of contributions relative to the region's largest, and how many texts differ."""
    largest = 0.0
    for directory in stores(place):
        ours, theirs = (open_store(one.artifacts / "features" / directory.name) for one in (place, reference))
        for key, _ in ours.index():
            found, wanted = ours.get(key).values, theirs.get(key).values
            scale = np.abs(wanted).max(axis=1, keepdims=True)
            largest = max(largest, float((np.abs(found - wanted) / scale).max()))
    said, other = (
        {key: sample.output.completion for key, sample in samples(list(final_logs(logs_of(one)[0]).values()))}
        for one in (place, reference)
    )
    return largest, sum(said.get(key) != text for key, text in other.items())


def kept_files(place: Place) -> dict[str, str]:
    """A hash of every other artifact: neuron sets and probes with what lies beside them."""
    found: dict[str, str] = {}
    for kind in ("neurons", "probes"):
        for path in sorted((place.artifacts / kind).rglob("*")):
            inside = path.relative_to(place.artifacts)
            if path.is_file() and not any(part.startswith(".") for part in inside.parts):
                found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def strays(place: Place) -> int:
    """Temporary files and directories that a killed writer left among the artifacts."""
    return sum(path.name.startswith(".") for path in place.artifacts.rglob("*"))


def final_logs(logs: Sequence[EvalLog]) -> dict[str, EvalLog]:
    """Of each task the newest log that is finished."""
    return {task_of(log): log for log in logs if log.status == "success"}


def differences(place: Place, reference: Place) -> list[str]:
    """What differs between two finished runs."""
    found: list[str] = []
    ours, theirs = (final_logs(logs_of(one)[0]) for one in (place, reference))
    if ours.keys() != theirs.keys():
        return [f"finished tasks {sorted(ours)} instead of {sorted(theirs)}"]
    for task, log in ours.items():
        own = {key: said(sample, place) for key, sample in samples([log])}
        others = {key: said(sample, reference) for key, sample in samples([theirs[task]])}
        if len(log.samples or []) != len(own):
            found.append(f"{task}: {len(log.samples or []) - len(own)} samples that did not end well, or stand twice")
        found += [f"{task}: sample {key} is not in both" for key in sorted(own.keys() ^ others.keys())]
        found += [
            f"{task}: sample {key} differs" for key in sorted(own.keys() & others.keys()) if own[key] != others[key]
        ]
        mine, other = metrics(log), metrics(theirs[task])
        found += [
            f"{task}: {name} differs"
            for name in sorted(mine.keys() | other.keys())
            if mine.get(name) != other.get(name)
        ]
    try:
        rows, wanted = contributions(place)[0], contributions(reference)[0]
    except StoreError as error:
        return [*found, f"contributions cannot be read: {error}"]
    found += [f"contributions {key}" for key in sorted(rows.keys() | wanted.keys()) if rows.get(key) != wanted.get(key)]
    files, kept = kept_files(place), kept_files(reference)
    return found + [f"file {name}" for name in sorted(files.keys() | kept.keys()) if files.get(name) != kept.get(name)]
