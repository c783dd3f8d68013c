"""A risky answer is withheld or given again, whoever asked for it, and the log tells what was done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from external_suite import figures, make_probe, mock, run, scores, theirs, theirs_by_choice
from inspect_ai import Task, score, task_with
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import Generate, Solver, TaskState, generate, multiple_choice, prompt_template, solver
from rounding import risk_error
from transformers import AutoConfig

from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.engine.risk_requests import DECISIONS
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.scorers.risk import hallucination_risk
from hneurons_eval.solvers.abstain import abstain_when_risky
from hneurons_eval.util.errors import UsageError

MakeCheckpoint = Callable[..., Path]
SAID = "I don't know."


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(max_position_embeddings=512)


@pytest.fixture(scope="module")
def probe(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_probe(tiny, tmp_path_factory.mktemp("probe") / "probe")


@pytest.fixture(scope="module")
def plain(tiny: Path, probe: str, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    """Their task as it is, scored."""
    log = run(theirs(), tiny, tmp_path_factory.mktemp("plain"))
    return score(log, hallucination_risk(probe=probe, span="response"), action="append", display="none")


def scored(task: Task, probe: str) -> Task:
    return task_with(task, scorer=[*(task.scorer or []), hallucination_risk(probe=probe, span="response")])


def answers(log: EvalLog) -> dict[str, str]:
    assert log.status == "success", log.error
    return {str(sample.id): sample.output.completion for sample in log.samples or []}


def decisions(log: EvalLog) -> dict[str, list[dict[str, Any]]]:
    return {str(sample.id): sample.store[DECISIONS] for sample in log.samples or []}


def calls(log: EvalLog) -> list[int]:
    return [sum(event.event == "model" for event in sample.events) for sample in log.samples or []]


def test_above_the_threshold_the_answer_is_withheld_and_kept_in_the_log(
    tiny: Path, probe: str, plain: EvalLog, tmp_path: Path
):
    known = {name: one.as_float() for name, one in scores(plain).items()}
    low, middle, high = sorted(known.values())
    threshold = (low + middle) / 2
    assert low < threshold < middle <= high
    ours = abstain_when_risky(probe=probe, threshold=threshold, span="response")
    log = run(scored(theirs(), probe), tiny, tmp_path, solver=ours)
    for name, risk in known.items():
        (record,) = decisions(log)[name]
        assert record["answer"] == answers(plain)[name]
        assert record["risk"]["probability"] == pytest.approx(risk, abs=1e-3)
        one = scores(log)[name]
        assert one.as_float() == pytest.approx(risk, abs=1e-3)
        assert one.metadata is not None
        if risk > threshold:
            assert answers(log)[name] == SAID
            assert record["done"] == one.metadata["done"] == "abstained"
            assert one.answer == answers(plain)[name]
            assert "withheld this answer" in (one.explanation or "")
        else:
            assert answers(log)[name] == answers(plain)[name]
            assert record["done"] == one.metadata["done"] == "kept"
    assert calls(log) == [1, 1, 1]
    for sample in log.samples or []:
        assert [message.role for message in sample.messages] == ["user", "assistant"]
        assert sample.messages[-1].text == sample.output.completion
        (event,) = [event for event in sample.events if event.event == "model"]
        assert event.output.completion == answers(plain)[str(sample.id)]  # what the model said is still there
    found = figures(log)
    assert (found["answers"], found["abstained"], found["answered_again"]) == (3, 2, 0)
    assert found["scored_by_task"] == 1  # "I don't know." is not held against the risk of what was withheld


def test_a_threshold_of_one_changes_nothing_and_the_default_is_the_probes(
    tiny: Path, probe: str, plain: EvalLog, tmp_path: Path
):
    log = run(theirs(), tiny, tmp_path, solver=abstain_when_risky(probe=probe, threshold=1, span="response"))
    assert answers(log) == answers(plain)
    assert {record["done"] for (record,) in decisions(log).values()} == {"kept"}
    default = run(theirs(), tiny, tmp_path, solver=abstain_when_risky(probe=probe, span="response"))
    for name, (record,) in decisions(default).items():
        assert record["threshold"] == 0.5
        assert (record["done"] == "abstained") == (scores(plain)[name].as_float() > 0.5)


def test_answering_again_suppresses_the_neurons_and_judges_by_the_untouched_model(
    tiny: Path, probe: str, plain: EvalLog, tmp_path: Path
):
    ours = abstain_when_risky(probe=probe, threshold=0, then="suppress", alpha=0.25, span="response")
    log = run(scored(theirs(), probe), tiny, tmp_path, solver=ours)
    scaled = run(theirs(), tiny, tmp_path, {"neurons": probe, "alpha": 0.25})
    judged = score(scaled, hallucination_risk(probe=probe, span="response"), action="append", display="none")
    assert answers(log) == answers(scaled)
    assert answers(log) != answers(plain)
    for name, (record,) in decisions(log).items():
        assert (record["done"], record["answer"]) == ("answered again", answers(plain)[name])
        assert record["again"] == answers(scaled)[name]
        one, other = scores(log)[name], scores(judged)[name]
        error = risk_error(probe, AutoConfig.from_pretrained(tiny), tokens=64)
        assert one.as_float() == pytest.approx(other.as_float(), abs=error)
        assert one.metadata is not None
        assert one.metadata["first_risk"] == pytest.approx(scores(plain)[name].as_float(), abs=1e-3)
        assert "Second answer" in (one.explanation or "")
    assert figures(log)["answered_again"] == 3
    assert [len(sample.messages) for sample in log.samples or []] == [2, 2, 2]


def test_it_stands_in_a_list_of_solvers_where_generate_would(tiny: Path, probe: str, tmp_path: Path):
    ours = abstain_when_risky(probe=probe, threshold=1, span="response")
    polite = prompt_template("Please: {prompt}")
    expected = run(task_with(theirs(), solver=[polite, generate()]), tiny, tmp_path)
    instead = run(task_with(theirs(), solver=[polite, ours]), tiny, tmp_path)
    behind = run(task_with(theirs(), solver=[polite, generate(), ours]), tiny, tmp_path)
    assert answers(instead) == answers(behind) == answers(expected)
    assert calls(instead) == [1, 1, 1]
    assert calls(behind) == [2, 2, 2]  # the answer that stands is passed over once, not given again
    for name, (record,) in decisions(behind).items():
        assert record["risk"]["probability"] == pytest.approx(
            decisions(instead)[name][0]["risk"]["probability"], abs=1e-3
        )


def test_the_solver_of_a_task_sees_what_is_put_in_place_of_an_answer(tiny: Path, probe: str, tmp_path: Path):
    ours = abstain_when_risky(probe=probe, threshold=0, text="ANSWER: B", span="response", inner=multiple_choice())
    log = run(task_with(theirs_by_choice(), solver=ours, scorer=choice()), tiny, tmp_path)
    assert [one.value for one in scores(log, "choice").values()] == ["C", "C"]
    unsure = abstain_when_risky(probe=probe, threshold=0, span="response", inner=multiple_choice())
    log = run(task_with(theirs_by_choice(), solver=unsure, scorer=choice()), tiny, tmp_path)
    assert [one.value for one in scores(log, "choice").values()] == ["I", "I"]
    # Whatever solver a task has can be taken as it is.
    task = theirs_by_choice()
    whole = abstain_when_risky(probe=probe, threshold=0, text="ANSWER: B", span="response", inner=task.solver)
    log = run(task_with(task, solver=whole, scorer=choice()), tiny, tmp_path)
    assert [one.value for one in scores(log, "choice").values()] == ["C", "C"]


@solver
def twice() -> Solver:
    """Ask, and ask again."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state, max_tokens=3)
        state.messages = [*state.messages, state.messages[0]]
        return await generate(state, max_tokens=5)

    return solve


def test_every_answer_within_a_solver_is_judged_with_its_own_options(tiny: Path, probe: str, tmp_path: Path):
    ours = abstain_when_risky(probe=probe, threshold=1, span="response", inner=[prompt_template("{prompt}!"), twice()])
    log = run(theirs(), tiny, tmp_path, solver=ours)
    for records in decisions(log).values():
        assert [record["risk"]["response_tokens"] <= most for record, most in zip(records, (3, 5), strict=True)]
        assert len(records) == 2
    for sample in log.samples or []:
        asked = [event.config.max_tokens for event in sample.events if event.event == "model"]
        assert asked == [3, 5]


def test_a_choice_that_is_made_already_is_refused(tiny: Path, probe: str, tmp_path: Path):
    @solver
    def choose_first() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state = await generate(state)
            state.choices.mark_choice(0, True)
            return state

        return solve

    ours = abstain_when_risky(probe=probe, span="response")
    log = run(task_with(theirs_by_choice(), solver=[choose_first(), ours]), tiny, tmp_path)
    assert log.status == "error"
    assert "inner=multiple_choice()" in str(log.error)


def test_an_answer_that_cannot_be_judged_is_kept(tiny: Path, probe: str, tmp_path: Path):
    other = [prompt_template("{prompt}"), abstain_when_risky(probe=probe, threshold=0)]
    log = run(task_with(theirs(), solver=other, scorer=includes()), tiny, tmp_path, max_tokens=1)
    for name, (record,) in decisions(log).items():
        assert (record["done"] == "not judged") == ("skipped" in record["risk"])
        assert answers(log)[name] == (record["answer"] if record["done"] == "not judged" else SAID)


def test_bad_parameters_and_other_providers_are_refused(tiny: Path, probe: str, tmp_path: Path):
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "probe is missing"),
        ({"probe": probe, "then": "stop"}, "then should be abstain or suppress"),
        ({"probe": probe, "threshold": 1.5}, "threshold should be"),
        ({"probe": probe, "span": "llm"}, "span should be"),
        ({"probe": probe, "alpha": -1}, "alpha should be"),
    ]
    for options, words in cases:
        with pytest.raises(UsageError, match=words):
            abstain_when_risky(**options)
    ours = abstain_when_risky(probe=probe)
    (log,) = inspect_eval(theirs(), model=mock(), solver=ours, log_dir=str(tmp_path), display="none")
    assert log.status == "error"
    assert "use --model hneurons/MODEL" in str(log.error)


def test_suppressing_needs_neurons(tiny: Path, probe: str, tmp_path: Path):
    dense = Probe("l2")
    loaded = Probe.load(probe)
    dense.coef_, dense.intercept_, dense.widths = loaded.coef_ + 0.01, 0.0, loaded.widths
    dense.save(tmp_path / "dense")
    with pytest.raises(UsageError, match="selects no neurons"):
        abstain_when_risky(probe=str(tmp_path / "dense"), then="suppress")
    # What is suppressed are the neurons with positive weights, as everywhere.
    assert neurons_to_scale(probe) == loaded.neurons()
    assert len(neurons_to_scale(probe)) == int((loaded.coef_ > 0).sum()) < len(NeuronSet.load(probe))
