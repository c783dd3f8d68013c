"""Is anything lost when runs are killed, disks fill up, clocks jump, judges rave, or far more is asked than usual?

    python benchmarks/reliability.py                       # everything, within half an hour on two cores
    python benchmarks/reliability.py --only collect,probe --kills 4

Every stage is run as a real process (`inspect eval ...`), disturbed, gone on with, and compared to the bit with a run
that nobody disturbed: see `reliability_kills.py`, `reliability_troubles.py` and `reliability_load.py`. Most of it runs
on a tiny random model, since starting takes longer than working does; a part on the bundled model. Prints two tables
in markdown, and keeps all figures in docs/reliability.json. Exit status 1 if anything was lost.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reliability_kills import Row, Undisturbed, killed, undisturbed
from reliability_load import at_the_limit, bad_judge, many_alphas, queued
from reliability_runs import Place, Stage, command, final_logs, logs_of, preload, run_to_the_end
from reliability_troubles import (
    Found,
    full_disk,
    in_half_precision,
    in_other_batches,
    rounded,
    side_by_side,
    unwritable,
    wrong_clock,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "helpers"))  # its models and question sets
BUNDLED = "smollm2-135m-instruct"
SHARES = {
    "collect": 9, "capture": 8, "probe": 8, "detect": 6, "falseqa": 7, "pipeline": 6, "collect (135M)": 3,
    "capture (135M)": 3,
}  # fmt: skip
"""Kills of each stage, of `KILLS`."""
KILLS = sum(SHARES.values())
QUESTIONS = 64
RELATIONS = 8
GREEDY = ("--temperature", "0", "--max-tokens", "8")


def tiny_checkpoint(directory: Path) -> Path:
    """A random model of three layers with the bundled tokenizer."""
    made = "import sys; sys.path.append(sys.argv[1]); import reliability; reliability.write_checkpoint(sys.argv[2])"
    subprocess.run([sys.executable, "-c", made, str(Path(__file__).parent), str(directory)], check=True)
    return directory


def write_checkpoint(directory: str) -> None:
    """In a process of its own: this one must not have computed anything when it is forked."""
    from families import make_model

    from hneurons_eval.models.checkpoints import resolve_model

    make_model(vocab_size=49152, hidden_size=32, max_position_embeddings=512).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(resolve_model(BUNDLED)) / name, Path(directory) / name)


def write_questions(path: Path, asked: str, said: dict[str, str] | None = None) -> Path:
    """Questions of several relations; half of them accept the answer that the model was seen to give."""
    lines = []
    for k in range(QUESTIONS):
        name = f"{path.stem}-{k}"
        words = [word for word in (said or {}).get(name, "").split() if word.isascii() and word.isalpha()]
        accepted = words[-1] if words and (k // RELATIONS) % 2 else "xyzzy"
        question = f"Which {asked} has number {k}?"
        lines.append({"id": name, "relation": f"r{k % RELATIONS}", "question": question, "aliases": [accepted]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def finished_log(stage: Stage, place: Place) -> str:
    """The log of a stage that is run once, undisturbed."""
    if run_to_the_end(command(stage, place), place) != 0:
        raise RuntimeError(f"{stage.task} fails undisturbed; see {place.directory}/said.txt")
    return str(final_logs(logs_of(place)[0])[stage.task].location)


def answers_of(checkpoint: Path, questions: Path, place: Place) -> dict[str, str]:
    """What the model says to each question at temperature 0."""
    finished_log(Stage("", "collect", str(checkpoint), {"dataset": str(questions), "draws": "1"}, GREEDY), place)
    log = final_logs(logs_of(place)[0])["collect"]
    return {str(sample.id): sample.output.completion for sample in log.samples or []}


class World:
    """Models, question sets, and what each stage reads of the stages before it."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.tiny = tiny_checkpoint(work / "tiny")
        self.questions = work / "known.jsonl"
        self.fresh = work / "fresh.jsonl"
        for path, asked in ((self.questions, "stone"), (self.fresh, "river")):
            write_questions(path, asked)
            write_questions(path, asked, answers_of(self.tiny, path, Place(work / f"asked-{path.stem}")))
        made, tiny = Place(work / "made"), str(self.tiny)
        collected = finished_log(
            Stage("", "collect", tiny, {"dataset": str(self.questions), "draws": "2"}, GREEDY), made
        )
        self.capture = Stage("capture", "capture", tiny, {"responses": collected})
        captured = finished_log(self.capture, made)
        self.features = work / "features-alone"
        shutil.copytree(made.artifacts, self.features)
        self.probe = Stage(
            "probe", "probe", tiny, {"features": captured, "C": "auto", "folds": "3", "controls": "5"}, (),
            self.features,
        )  # fmt: skip
        probed = finished_log(Stage("", "probe", tiny, {**self.probe.arguments, "C": "10"}), made)
        self.detect = Stage(
            "detect", "detect", tiny, {"probe": probed, "dataset": str(self.fresh), "preset": "quick"}, GREEDY
        )
        self.falseqa = Stage(
            "falseqa",
            "falseqa",
            tiny,
            {"neurons": probed, "alphas": "0,1,3", "controls": "2", "questions": "8"},
            ("--max-tokens", "8"),
        )
        self.collect = Stage(
            "collect", "collect", tiny, {"dataset": str(self.questions), "draws": "3"}, ("--max-tokens", "12")
        )
        self.pipeline = Stage(
            "pipeline",
            "pipeline",
            tiny,
            {
                "dataset": str(self.questions), "draws": "2", "C": "10", "folds": "3", "controls": "5",
                "alphas": "0,1,3", "questions": "8", "sweep_controls": "2", "behaviours": "falseqa",
            },
            GREEDY,
            tasks=6,
        )  # fmt: skip

    def bundled(self) -> tuple[Stage, Callable[[Place], Stage]]:
        """collect on the bundled model, and capture on the log of an undisturbed run of it."""
        from small_run import SUBJECTS
        from small_run import write_questions as write

        from hneurons_eval.data.questions import load_questions

        facts = {question.id: question for question in load_questions("facts")}
        chosen = [facts[f"{relation}-{name}"] for relation, names in SUBJECTS.items() for name in names.split()]
        path = write(self.work / "facts.jsonl", chosen)
        first = Stage(
            "collect (135M)",
            "collect",
            BUNDLED,
            {"dataset": str(path), "draws": "3", "preset": "quick"},
            ("--max-tokens", "12"),
            model_args=("dtype=float32",),  # alone, each answer would take as long as a batch of them
        )

        def second(place: Place) -> Stage:
            log = final_logs(logs_of(place)[0])["collect"].location
            return Stage("capture (135M)", "capture", BUNDLED, {"responses": str(log)})

        return first, second


# --- everything ------------------------------------------------------------------------------------------


def tables(rows: dict[str, Row], found: list[Found]) -> str:
    """Two tables in markdown."""
    lines = [
        "| stage | SIGKILL | SIGTERM | before its log began | restarts | finished samples | done twice "
        "| contributions stored twice | temporary files left | outputs only in scores | differences |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        counts = (
            row.kills["SIGKILL"], row.kills["SIGTERM"], row.early, row.restarts, row.finished, row.repeated, row.twice,
            row.strays, row.outputs, len(row.differences),
        )  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    if found:
        lines += ["", "| tried | times | lost or wrong | what was seen |", "| :--- | ---: | :--- | :--- |"]
    for one in found:
        what, lost = one.what, "; ".join(one.lost[:3]) or "nothing"
        lines.append(f"| {what} | {one.times} | {lost} | {one.remark} |".replace("\n", " "))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS, help="in all")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which nothing new is begun")
    parser.add_argument("--only", default="", help=f"of {', '.join([*SHARES, 'troubles', 'load'])}")
    parser.add_argument("--work", type=Path, help="where to; default a temporary directory that is removed")
    options = parser.parse_args()
    begin = time.monotonic()
    chosen = [name.strip() for name in options.only.split(",") if name.strip()] or [*SHARES, "troubles", "load"]
    work = Path(tempfile.mkdtemp(prefix="hneurons-reliability-")) if options.work is None else options.work.resolve()
    rows: dict[str, Row] = {}
    found: list[Found] = []
    wholes: dict[str, Undisturbed] = {}

    def in_time() -> bool:
        return time.monotonic() - begin < 60 * options.minutes

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - begin:6.0f} s] {text}", flush=True)

    preload()
    world = World(work)
    tell("the models and questions are made")

    def kill(stage: Stage) -> Undisturbed | None:
        if stage.name not in chosen or not in_time():
            return None
        kills = max(1, round(SHARES[stage.name] * options.kills / KILLS))
        try:
            row, wholes[stage.name] = killed(stage, work, kills, random.Random(f"{options.seed} {stage.name}"))
        except (
            RuntimeError
        ) as error:  # what fails undisturbed tells nothing of kills, and must not hide the other stages
            row = Row(differences=[str(error)])
        rows[stage.name] = row
        tell(f"{stage.name}: {row.killed} kills in {row.seconds:.0f} s, {len(row.differences)} differences")
        for line in row.differences[:10]:
            tell(f"    {line}")
        return wholes.get(stage.name)

    def add(one: Found) -> None:
        found.append(one)
        tell(f"{one.what}: {'; '.join(one.lost[:3]) or 'nothing lost'} ({one.remark}; {one.seconds:.0f} s)")

    for stage in (world.collect, world.capture, world.probe, world.detect, world.falseqa, world.pipeline):
        kill(stage)
    first, second = world.bundled()
    whole = kill(first)
    if whole is not None:
        kill(second(whole.place))
    if "troubles" in chosen:
        for stage in (world.collect, world.capture, world.probe):
            if stage.name not in wholes:
                wholes[stage.name] = undisturbed(stage, work)
        rng = random.Random(options.seed)
        trials: list[Callable[[], Found]] = [
            lambda: full_disk(world.capture, work, wholes["capture"], "artifacts"),
            lambda: full_disk(world.probe, work, wholes["probe"], "artifacts"),
            lambda: full_disk(world.collect, work, wholes["collect"], "logs"),
            *(lambda stage=stage: unwritable(stage, work) for stage in (world.capture, world.probe, world.falseqa)),
            lambda: side_by_side(world.capture, work, wholes["capture"], 2),
            lambda: side_by_side(world.probe, work, wholes["probe"], 3),
            lambda: wrong_clock(world.capture, work, wholes["capture"], 2, rng),
            lambda: in_other_batches(world.collect, work, wholes["collect"], 3),
            lambda: in_other_batches(world.capture, work, wholes["capture"], 3),
            lambda: in_other_batches(world.probe, work, wholes["probe"], 3),
            lambda: rounded(world.collect, work),
            lambda: rounded(world.capture, work),
        ]
        for trial in trials:
            if in_time():
                add(trial())
        if in_time():
            for one in in_half_precision(first, work):
                add(one)
    if "load" in chosen:
        loads: list[Callable[[], Found]] = [
            lambda: many_alphas(world.tiny, work),
            lambda: bad_judge(work),
            lambda: at_the_limit(world.tiny),  # from here on this process runs a model itself, and is forked no more
            lambda: queued(world.tiny),
        ]
        for load in loads:
            if in_time():
                add(load())
    text = tables(rows, found)
    total = sum(row.killed for row in rows.values())
    print(f"\n{text}\n\n{total} kills, seed {options.seed}; {time.monotonic() - begin:.0f} s")
    record: dict[str, Any] = {
        "seed": options.seed,
        "seconds": round(time.monotonic() - begin),
        "kills": {name: asdict(row) for name, row in rows.items()},
        "troubles": [asdict(one) for one in found],
    }
    if not options.only:
        (ROOT / "docs" / "reliability.json").write_text(json.dumps(record, indent=1) + "\n")
    lost = any(row.differences or row.repeated for row in rows.values()) or any(one.lost for one in found)
    if options.work is None and not lost:
        shutil.rmtree(work, ignore_errors=True)
    else:
        print(f"everything is in {work}")
    return int(lost)


if __name__ == "__main__":
    raise SystemExit(main())
