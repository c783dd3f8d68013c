"""The stages through Inspect with `hneurons-vllm/` find what they find with `hneurons/`."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BUNDLED, OPTIONS
from exact import Exact
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from rounding import relative_error

from hneurons_eval.artifacts.paths import store_of
from hneurons_eval.data.questions import load_questions
from hneurons_eval.probe.classifier import Probe

ARGS: dict[str, dict[str, Any]] = {
    "hneurons": {"dtype": "float32", "device": "cpu", "threads": 2},
    "hneurons-vllm": {"dtype": "float32", **OPTIONS},
}
RELATIONS = ("capital", "language", "continent")
EACH = 16


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import json

    chosen = [
        q for relation in RELATIONS for q in [q for q in load_questions("facts") if q.relation == relation][:EACH]
    ]
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    rows = [{"id": q.id, "relation": q.relation, "question": q.question, "aliases": list(q.aliases)} for q in chosen]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stage(task: str, provider: str, directory: Path, **options: Any) -> EvalLog:
    own = {key: options.pop(key) for key in ("max_tokens", "temperature") if key in options}
    (log,) = inspect_eval(
        f"hneurons_eval/{task}",
        model=f"{provider}/{BUNDLED}",
        model_args=ARGS[provider],
        task_args=options,
        log_dir=str(directory / provider),
        display="none",
        **own,
    )
    assert log.status == "success", log.error
    return log


def captured(log: EvalLog) -> dict[str, dict[str, Any]]:
    return {str(sample.id): (sample.output.metadata or {})["hneurons"] for sample in log.samples or []}


def test_stages_find_the_same_neurons(
    facts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prompts: list[tuple[int, ...]],
    exact: Exact,
):
    collected = stage(
        "collect",
        "hneurons-vllm",
        tmp_path,
        dataset=str(facts),
        draws=2,
        preset="quick",
        temperature=0.0,
        max_tokens=16,
    )
    assert len(collected.samples or []) == 2 * EACH * len(RELATIONS)
    again = stage(
        "collect", "hneurons", tmp_path, dataset=str(facts), draws=2, preset="quick", temperature=0.0, max_tokens=16
    )
    said = [
        {(sample.id, sample.epoch): sample.output.completion for sample in log.samples or []}
        for log in (collected, again)
    ]
    # Greedy texts differ only behind two tokens that are equally likely but for rounding: 1e-4 of 768 tokens.
    assert said[0].keys() == said[1].keys()
    assert sum(said[0][key] != said[1][key] for key in said[0]) <= 2  # both draws of one question
    rows, neurons = {}, {}
    for provider in ARGS:
        monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "artifacts" / provider))
        capture = stage("capture", provider, tmp_path, responses=collected.location)
        found = captured(capture)
        keys = {name: one["contributions"] for name, one in found.items() if one["contributions"]}
        rows[provider] = {name: store_of([key]).get(key) for name, key in keys.items()}, found
        probe = stage(
            "probe", provider, tmp_path, features=capture.location, mode="1-vs-1", C=10.0, folds=2, controls=1
        )
        neurons[provider] = Probe.load(_probe_of(probe)).neurons()
    (ours, told), (theirs, expected) = rows["hneurons-vllm"], rows["hneurons"]
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 8
    # Questions and answers are as long as these, at most, and the sums of their layers of one size.
    passes = [exact.of(prompt) for prompt in prompts]
    size = max(own.norms.max() for own in passes)
    error = max(exact.logprob_error(own) for own in passes)
    for name, row in ours.items():
        allowed = 2 * relative_error(exact.model.config, 64) * size
        assert np.abs(row.values - theirs[name].values).max() <= allowed
        assert row.values.max() > 1000 * allowed  # the comparison means something
        assert row.extras.keys() == theirs[name].extras.keys()
        assert told[name].keys() == expected[name].keys()
        assert told[name]["contributions"] == expected[name]["contributions"]
        assert told[name]["answer_logprob"] == pytest.approx(expected[name]["answer_logprob"], abs=error)
    # Neurons are those whose weight is not 0: one at the edge may be on either side of it.
    own, other = (set(chosen.flat(exact.layout).tolist()) for chosen in neurons.values())
    assert len(own ^ other) <= max(1, len(other) // 50)
    assert len(other) > 1


def _probe_of(log: EvalLog) -> str:
    from hneurons_eval.artifacts.references import probe_summary

    return probe_summary(log)["directory"]


def test_detect_and_closed_book_run_on_vllm(facts: Path, tmp_path: Path):
    run = functools.partial(stage, provider="hneurons-vllm", directory=tmp_path)
    collected = run("collect", dataset=str(facts), draws=2, preset="quick", temperature=0.0, max_tokens=16)
    capture = run("capture", responses=collected.location)
    probe = run("probe", features=capture.location, mode="1-vs-1", C=10.0, folds=2, controls=1)
    fresh = tmp_path / "fresh.jsonl"
    known = {q.question for q in load_questions(str(facts))}
    others = [q for q in load_questions("facts") if q.relation in RELATIONS and q.question not in known][:8]
    import json

    rows = [{"id": q.id, "relation": q.relation, "question": q.question, "aliases": list(q.aliases)} for q in others]
    fresh.write_text("".join(json.dumps(row) + "\n" for row in rows))
    detect = run("detect", probe=probe.location, dataset=str(fresh), preset="quick", max_tokens=16)
    told = captured(detect)
    assert sum("probability" in one for one in told.values()) >= 4
    swept = run(
        "closed_book", neurons=probe.location, alphas="0,3", controls=2, dataset=str(fresh), questions=4, max_tokens=12
    )
    assert len(swept.samples or []) == 3 * 4 + 1  # the last one tells what all of them show
