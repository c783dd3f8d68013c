"""An interrupted pipeline goes on where it was: finished stages are not run again, and it comes to the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from inspect_ai import eval as inspect_eval
from inspect_ai import eval_retry
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.scorer import Score
from report_logs import scored, write_log
from small_run import ARGS, stage

from hneurons_eval.artifacts.contribution_store import ContributionStore
from hneurons_eval.cli import main
from hneurons_eval.tasks import pipeline
from hneurons_eval.tasks.pipeline import Stages
from hneurons_eval.util.errors import UsageError

MODEL = "hneurons/m"
EXACT = {**ARGS, "strict": True}  # what shares a batch after an interruption is not what shared it before
OPTIONS: dict[str, Any] = {
    "dataset": "set.jsonl", "draws": 2, "C": 10.0, "folds": 3, "controls": 3, "alphas": "0,1", "questions": 4,
    "sweep_controls": 1, "behaviours": "falseqa",
}  # fmt: skip


def stages(**changes: Any) -> Stages:
    return cast(Stages, pipeline(**OPTIONS | changes))


def names(logs: Any) -> list[str]:
    return [log.eval.task.split("/")[-1] for log in logs]


class Directory:
    """Logs as a run with these options leaves them, one after another."""

    def __init__(self, path: Path) -> None:
        self.path, self.minute = path, 0

    def add(self, made: Stages, name: str, read: Path | None = None, status: Any = "success", **args: Any) -> Path:
        self.minute += 1
        steps = (
            [made.steps.first]
            if read is None
            else made.steps.after({"capture": "collect", "probe": "capture"}.get(name, "probe"), str(read))
        )
        (step,) = [one for one in steps if one.name == name]
        return write_log(
            self.path, f"hneurons_eval/{name}", {} if status == "success" else None, minute=self.minute, model=MODEL,
            args={**step.arguments, **args}, status=status, name=f"{self.minute:02d}_{name}.eval",
        )  # fmt: skip

    def left(self, made: Stages, model: str = MODEL) -> tuple[list[str], list[str], list[str]]:
        found = made.steps.progress(str(self.path), model, {})
        return names(found.finished), names(found.interrupted), [step.name for step in found.left]


def test_the_log_that_holds_most_is_gone_on_with(tmp_path: Path):
    done = [scored(k, {"made": Score(value=1)}) for k in range(3)]
    made = stages()
    path = tmp_path / "logs"
    kept = [
        write_log(
            path, "hneurons_eval/collect", minute=minute, args=made.steps.first.arguments, model=MODEL,
            samples=done[:held], status="started",
        )
        for minute, held in enumerate((1, 3, 2, 3, 0))
    ]  # fmt: skip
    (interrupted,) = made.steps.progress(str(path), MODEL, {}).interrupted
    assert Path(interrupted.location) == kept[3]
    # A file that is cut off holds nothing, and is in nobody's way.
    (path / "99_collect.eval").write_bytes(kept[1].read_bytes()[:-40])
    (interrupted,) = made.steps.progress(str(path), MODEL, {}).interrupted
    assert Path(interrupted.location) == kept[3]


def test_what_is_finished_is_told_by_task_parameters_and_model(tmp_path: Path):
    logs, made = Directory(tmp_path), stages()
    assert logs.left(made) == ([], [], ["collect"])
    collected = logs.add(made, "collect")
    assert logs.left(made) == (["collect"], [], ["capture"])
    assert logs.left(made, "hneurons/other") == ([], [], ["collect"])
    assert logs.left(stages(draws=3)) == ([], [], ["collect"])
    captured = logs.add(made, "capture", collected)
    assert logs.left(stages(span="response")) == (["collect"], [], ["capture"])
    logs.add(made, "probe", captured, status="started")
    assert logs.left(made) == (["collect", "capture"], ["probe"], [])
    probed = logs.add(made, "probe", captured)
    assert logs.left(made) == (["collect", "capture", "probe"], [], ["detect", "closed_book", "falseqa"])
    logs.add(made, "closed_book", probed)
    logs.add(made, "falseqa", probed, status="error")
    finished, interrupted, left = logs.left(made)
    assert (finished[3:], interrupted, left) == (["closed_book"], ["falseqa"], ["detect"])


def test_a_log_that_reads_another_log_is_another_run(tmp_path: Path):
    logs, made = Directory(tmp_path), stages()
    collected = logs.add(made, "collect")
    logs.add(made, "capture", collected, responses=str(tmp_path / "older.eval"))
    assert logs.left(made) == (["collect"], [], ["capture"])
    logs.add(made, "capture", collected, responses=f"file://{collected}")
    assert logs.left(made) == (["collect", "capture"], [], ["probe"])


def test_what_is_no_log_is_left_out(tmp_path: Path):
    (tmp_path / "begun.eval").write_bytes(b"PK\x03\x04")
    (tmp_path / "notes.json").write_text("{}")
    assert Directory(tmp_path).left(stages()) == ([], [], ["collect"])
    assert Directory(tmp_path / "none").left(stages()) == ([], [], ["collect"])


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path]) -> str:
    return f"hneurons/{tiny_checkpoint(max_position_embeddings=512)}"


def known_questions(tiny: str, directory: Path, **sampling: Any) -> Path:
    """Half of them accept what the model says when it is asked so."""
    path = directory / "set.jsonl"
    rows = [
        {"id": f"q{k}", "relation": f"r{k % 6}", "question": f"Which stone has number {k}?", "aliases": ["xyzzy"]}
        for k in range(48)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = stage("collect", directory, tiny, dataset=str(path), draws=1, **sampling)
    said = {str(sample.id): sample.output.completion for sample in log.samples or []}
    for k, row in enumerate(rows):
        words = [word for word in said[str(row["id"])].split() if word.isascii() and word.isalpha()]
        if words and (k // 6) % 2:
            row["aliases"] = [words[-1]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(tiny: str, made: Stages, logs: Path) -> list[EvalLog]:
    return inspect_eval(
        made, model=tiny, model_args=EXACT, temperature=0.0, max_tokens=6, log_dir=str(logs), display="none"
    )


def figures(logs: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(logs.glob("*.eval")):
        log = read_eval_log(str(path))
        if log.status == "success" and log.results:
            metrics = {f"{s.name}/{n}": repr(m.value) for s in log.results.scores for n, m in s.metrics.items()}
            texts = sorted((str(s.id), s.epoch, s.output.completion) for s in log.samples or [])
            found[log.eval.task] = metrics, texts
    return found


def test_an_interrupted_pipeline_goes_on_and_comes_to_the_same(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes = {"dataset": str(known_questions(tiny, tmp_path, temperature=0.0, max_tokens=6))}
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "whole-artifacts"))
    assert len(run(tiny, stages(**changes), tmp_path / "whole")) == 6
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "artifacts"))
    own, calls = ContributionStore.add, [0]

    def fails_late(self: ContributionStore, *args: Any) -> None:
        calls[0] += 1
        if calls[0] == 6:
            raise OSError(28, "No space left on device")
        own(self, *args)

    logs = tmp_path / "logs"
    with monkeypatch.context() as patch:
        patch.setattr(ContributionStore, "add", fails_late)
        assert "error" in [log.status for log in run(tiny, stages(**changes), logs)]
    resumed = stages(**changes, resume=str(logs))
    with pytest.raises(UsageError, match=r"finish it first.*inspect eval-retry .*capture"):
        run(tiny, resumed, logs)
    (broken,) = list(logs.glob("*capture*.eval"))
    (done,) = eval_retry(str(broken), log_dir=str(logs), display="none")
    assert done.status == "success"
    later = run(tiny, resumed, logs)
    assert sorted(names(later)) == ["closed_book", "detect", "falseqa", "probe"]
    assert figures(logs) == figures(tmp_path / "whole")
    with pytest.raises(UsageError, match="every stage is finished"):
        run(tiny, resumed, logs)


def test_the_command_goes_on_with_what_was_interrupted(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    questions = known_questions(tiny, tmp_path, preset="quick")
    from hneurons_eval.solvers import classify

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    words = [
        "run", tiny, "--dataset", str(questions), "--preset", "quick", "--draws", "1", "-C", "10", "--controls", "2",
        "--alphas", "0,1", "--questions", "4", "--sweep-controls", "1", "--behaviours", "", "--dtype", "float32",
        "--log-dir", str(tmp_path / "logs"), "--display", "none",
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(classify, "_keep", fails)
        first = CliRunner().invoke(main, words)
    assert first.exit_code != 0
    assert "resume" in first.output
    assert len(list((tmp_path / "logs").glob("*.eval"))) == 3
    second = CliRunner().invoke(main, [*words, "--resume"])
    assert second.exit_code == 0, second.output
    statuses = [
        (log.eval.task.split("/")[-1], log.status)
        for log in (read_eval_log(str(path), header_only=True) for path in (tmp_path / "logs").glob("*.eval"))
    ]
    assert sorted(statuses) == [
        ("capture", "success"), ("closed_book", "success"), ("collect", "success"), ("detect", "success"),
        ("probe", "error"), ("probe", "success"),
    ]  # fmt: skip
    third = CliRunner().invoke(main, [*words, "--resume"])
    assert third.exit_code == 0, third.output
    assert len(list((tmp_path / "logs").glob("*.eval"))) == 6
