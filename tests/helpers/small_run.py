"""One run of all stages on the bundled model, small enough for a test, made once for all test processes."""

import functools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, read_eval_log

from hneurons_eval.data.questions import Question, load_questions

BUNDLED = "hneurons/smollm2-135m-instruct"
SHARED = "HNEURONS_TEST_SHARED"
"""Names the directory that all processes of a test run share; see conftest.py."""
ARGS = {"dtype": "float32", "device": "cpu", "threads": 1}
# Facts that the bundled model knows, and facts of the same relations that it does not.
SUBJECTS = {
    "capital": "bangladesh germany mexico the-philippines azerbaijan "
    "the-democratic-republic-of-the-congo the-united-states angola cameroon ecuador",
    "language": "the-democratic-republic-of-the-congo germany mexico russia thailand "
    "bangladesh mozambique papua-new-guinea uzbekistan singapore vietnam argentina belarus "
    "italy pakistan algeria poland brazil egypt",
    "continent": "the-democratic-republic-of-the-congo italy mexico the-philippines thailand "
    "bangladesh belgium honduras jordan papua-new-guinea russia spain india hungary morocco chile",
    "dish": "sushi miso-soup pizza baguette gelato panna-cotta creme-brulee tamale",
    "currency": "germany italy the-netherlands bangladesh the-philippines the-democratic-republic-of-the-congo",
}
FRESH = (
    "capital-colombia",
    "capital-france",
    "language-japan",
    "book-author-david-copperfield",
    "book-author-for-whom-the-bell-tolls",
    "book-author-east-of-eden",
)


@dataclass(frozen=True)
class Run:
    """The logs of a run, by stage, and what they were made from."""

    directory: Path
    questions: Path
    fresh: Path
    logs: dict[str, EvalLog]

    @property
    def artifacts(self) -> Path:
        return self.directory / "artifacts"


def write_questions(path: Path, questions: list[Question]) -> Path:
    lines = [
        {"id": q.id, "relation": q.relation, "question": q.question, "aliases": list(q.aliases)} for q in questions
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@contextmanager
def artifacts_in(directory: Path) -> Iterator[None]:
    before = os.environ.get("HNEURONS_ARTIFACTS")
    os.environ["HNEURONS_ARTIFACTS"] = str(directory)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HNEURONS_ARTIFACTS"]
        else:
            os.environ["HNEURONS_ARTIFACTS"] = before


def stage(name: str, directory: Path, model: str = BUNDLED, **options: Any) -> EvalLog:
    """One task of the package on a model, by its name, as on the command line; options that Inspect has are its."""
    own = {
        key: options.pop(key)
        for key in ("max_tokens", "temperature", "score", "max_samples", "model_roles", "limit", "fail_on_error")
        if key in options
    }
    (log,) = inspect_eval(
        f"hneurons_eval/{name}",
        model=model,
        model_args=ARGS if model.startswith("hneurons/") else {},
        task_args=options,
        log_dir=str(directory),
        display="none",
        **own,
    )
    return log


def solvers(log: EvalLog) -> list[str]:
    """The solvers of a log, without the name of the package."""
    return [step.solver.removeprefix("hneurons_eval/") for step in log.plan.steps]


@functools.cache
def small_run() -> Run:
    """The run: made by the first process that asks, while others wait, and read from its logs by them."""
    directory = Path(os.environ[SHARED]) / "small_run"
    locations = directory / "locations.json"
    with FileLock(f"{directory}.lock"):
        if not locations.is_file():
            shutil.rmtree(directory, ignore_errors=True)  # another process failed half-way
            directory.mkdir()
            logs = _all_stages(directory)
            locations.write_text(json.dumps({name: log.location for name, log in logs.items()}), encoding="utf-8")
        else:
            logs = {name: read_eval_log(file) for name, file in json.loads(locations.read_text("utf-8")).items()}
    return Run(directory, directory / "questions.jsonl", directory / "fresh.jsonl", logs)


def _all_stages(directory: Path) -> dict[str, EvalLog]:
    facts = {question.id: question for question in load_questions("facts")}
    chosen = [facts[f"{relation}-{name}"] for relation, names in SUBJECTS.items() for name in names.split()]
    new = [facts[name] for name in FRESH]
    questions = write_questions(directory / "questions.jsonl", chosen)
    fresh = write_questions(directory / "fresh.jsonl", [*chosen[:4], *new])
    out, logs = directory / "logs", {}
    with artifacts_in(directory / "artifacts"):
        logs["collect"] = stage("collect", out, dataset=str(questions), draws=3, preset="quick", max_tokens=12)
        logs["capture"] = stage("capture", out, responses=logs["collect"].location)
        logs["probe"] = stage("probe", out, features=logs["capture"].location, C="auto", folds=3, controls=3)
        logs["detect"] = stage(
            "detect", out, probe=logs["probe"].location, dataset=str(fresh), preset="quick", max_tokens=12, part="all"
        )
        logs["closed_book"] = stage(
            "closed_book",
            out,
            neurons=logs["probe"].location,
            alphas="0,3",
            controls=2,
            dataset=str(questions),
            questions=8,
            max_tokens=12,
        )
    return logs
