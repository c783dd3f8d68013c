"""External tasks, in all the ways in which they can be had with risks and with scaled neurons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from external_suite import figures, make_probe, mock, run, scores, theirs, theirs_by_choice
from inspect_ai import Task, score, task_with
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score, Scorer, Target, accuracy, includes, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall
from rounding import risk_error
from transformers import AutoConfig

from hneurons_eval.analysis.dose_response import SweepError, arrange, dose_response
from hneurons_eval.artifacts import frames
from hneurons_eval.artifacts.external_sweep import external_sweep, scaling_of
from hneurons_eval.artifacts.frames import FrameError
from hneurons_eval.engine.risk_requests import answer_of
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.scorers.risk import hallucination_risk, task_score
from hneurons_eval.util.errors import UsageError

MakeCheckpoint = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(max_position_embeddings=512)


@pytest.fixture(scope="module")
def probe(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_probe(tiny, tmp_path_factory.mktemp("probe") / "probe")


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    """Their task as it is, without a word of risk."""
    return run(theirs(), tiny, tmp_path_factory.mktemp("plain"))


def risks(log: EvalLog) -> dict[str, float]:
    return {name: float(one.as_float()) for name, one in scores(log).items()}


def test_every_way_of_adding_the_risk_gives_the_same(tiny: Path, probe: str, plain: EvalLog, tmp_path: Path):
    ours = hallucination_risk(probe=probe, span="response")
    own = Task(dataset=theirs().dataset, scorer=[includes(), ours], config=theirs().config)
    in_their_file = run(own, tiny, tmp_path)
    adapted = theirs()
    with_it = run(task_with(adapted, scorer=[*(adapted.scorer or []), ours]), tiny, tmp_path)
    afterwards = score(plain, ours, action="append", display="none")
    expected = risks(in_their_file)
    assert len(expected) == 3
    assert len(set(expected.values())) == 3
    error = risk_error(probe, AutoConfig.from_pretrained(tiny), tokens=64)
    assert risks(with_it) == pytest.approx(expected, abs=error)
    assert risks(afterwards) == pytest.approx(expected, abs=error)
    for log in (in_their_file, with_it, afterwards):
        for name, one in scores(log).items():
            assert one.metadata is not None
            assert one.metadata["task_scorer"] == "includes"
            assert one.metadata["task_score"] == float(scores(log, "includes")[name].value == "C")
            assert "data:image/png;base64," in (one.explanation or "")
        assert figures(log)["answers"] == 3
        assert figures(log)["mean_risk"] == pytest.approx(np.mean(list(expected.values())))
        assert figures(log)["error"] == pytest.approx(1 - figures(log, "includes")["accuracy"])


def test_the_model_can_judge_every_answer_that_it_gives(tiny: Path, probe: str, tmp_path: Path):
    log = run(theirs(), tiny, tmp_path, {"risk": probe})
    assert not any("hallucination_risk" in (sample.scores or {}) for sample in log.samples or [])
    for sample in log.samples or []:
        assert sample.output.metadata is not None
        assert sample.output.metadata["hneurons"]["risk"]["by"] == "rule"
    scored = score(log, hallucination_risk(probe=probe), action="append", display="none")
    again = score(run(theirs(), tiny, tmp_path), hallucination_risk(probe=probe), action="append", display="none")
    judged = 0
    for sample in scored.samples or []:
        before = (sample.output.metadata or {})["hneurons"]["risk"]
        one, other = scores(scored)[str(sample.id)], scores(again)[str(sample.id)]
        # Whatever was said while it was generated is what the score says, and what a second pass finds.
        if "skipped" in before:
            assert one.reason == other.reason == before["skipped"]
        else:
            assert one.value == before["probability"]
            assert one.value == pytest.approx(other.as_float(), abs=1e-3)
            judged += 1
        calls = [event for event in sample.events if event.event == "model"]
        assert len(calls) == 1  # nothing was passed over again
    assert judged


def test_the_risk_of_a_scaled_model_is_what_the_untouched_one_finds(tiny: Path, probe: str, tmp_path: Path):
    log = run(theirs(), tiny, tmp_path, {"risk": probe, "neurons": probe, "alpha": 0.0})
    texts = {str(sample.id): sample.output.completion for sample in log.samples or []}
    unscaled = run(theirs(), tiny, tmp_path)
    assert texts != {str(sample.id): sample.output.completion for sample in unscaled.samples or []}
    given = run(task_with(theirs(), solver=say(texts)), tiny, tmp_path)
    ours = hallucination_risk(probe=probe)
    found, expected = (scores(score(one, ours, action="append", display="none")) for one in (log, given))
    assert {n: s.reason for n, s in found.items()} == {n: s.reason for n, s in expected.items()}
    for name, one in found.items():
        if one.reason is None:
            error = risk_error(probe, AutoConfig.from_pretrained(tiny), tokens=64)
            assert one.as_float() == pytest.approx(expected[name].as_float(), abs=error)


@solver
def say(texts: dict[str, str]) -> Solver:
    """Put words into the model's mouth."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state.output = ModelOutput.from_content("given", texts[str(state.sample_id)])
        state.messages.append(state.output.message)
        return state

    return solve


@solver
def leave(kind: str) -> Solver:
    """Conversations that end in something other than an answer to a question."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        answer = ChatMessageAssistant(content=" \n" if kind == "empty" else "Paris, of course.")
        if kind == "tool":
            answer.tool_calls = [ToolCall(id="1", function="search", arguments={})]
        before: list[Any] = [] if kind == "no prompt" else [ChatMessageUser(content="The capital of France?")]
        state.messages = [*before, answer]
        if kind == "turns":
            state.messages = [*state.messages, ChatMessageUser(content="And of Italy?"), answer]
        if kind == "output only":
            state.messages = [ChatMessageUser(content="The capital of France?")]
            state.output = ModelOutput.from_content("given", "Paris, of course.")
        return state

    return solve


@pytest.mark.parametrize(
    ("kind", "reason"), [("empty", "empty answer"), ("tool", "tool call"), ("no prompt", "no prompt")]
)
def test_what_is_no_answer_is_unscored_and_says_why(tiny: Path, probe: str, tmp_path: Path, kind: str, reason: str):
    task = Task(dataset=[Sample("?", id="one")], solver=leave(kind), scorer=hallucination_risk(probe=probe))
    log = run(task, tiny, tmp_path)
    one = scores(log)["one"]
    assert np.isnan(one.as_float())
    assert one.reason == reason
    assert log.results is not None
    assert (log.results.scores[0].scored_samples, log.results.scores[0].unscored_samples) == (0, 1)


def test_of_a_conversation_the_last_answer_is_judged(tiny: Path, probe: str, tmp_path: Path):
    found = {}
    for kind in ("turns", "once", "output only"):
        task = Task(
            dataset=[Sample("?", id="one")], solver=leave(kind), scorer=hallucination_risk(probe=probe, strip=False)
        )
        found[kind] = scores(run(task, tiny, tmp_path))["one"].as_float()
    assert found["turns"] != found["once"]
    assert found["output only"] == found["once"]
    message = ChatMessageAssistant(content="b")
    assert answer_of([ChatMessageUser(content="a"), message], ModelOutput()) == (1, "b", False)


def test_another_provider_and_bad_parameters_are_refused(tiny: Path, probe: str, tmp_path: Path):
    (log,) = inspect_eval(
        Task(dataset=[Sample("?", target="a")], scorer=hallucination_risk(probe=probe)),
        model=mock(),
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "error"
    assert "use --model hneurons/MODEL" in str(log.error)
    with pytest.raises(UsageError, match="probe is missing"):
        hallucination_risk()
    with pytest.raises(UsageError, match="does not exist"):
        hallucination_risk(probe=str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="span should be"):
        hallucination_risk(probe=probe, span="llm")
    with pytest.raises(UsageError, match="nowhere does not exist; give a neuron file, a probe directory"):
        run(theirs(), tiny, tmp_path, {"risk": "nowhere"})


def test_a_probe_of_another_model_is_refused_before_anything_is_generated(
    tiny: Path, tiny_checkpoint: MakeCheckpoint, tmp_path: Path
):
    other = make_probe(tiny_checkpoint(num_hidden_layers=2), tmp_path / "other")
    with pytest.raises(UsageError, match="2 layers"):
        run(theirs(), tiny, tmp_path, {"risk": other})
    log = run(task_with(theirs(), scorer=hallucination_risk(probe=other)), tiny, tmp_path)
    assert log.status == "error"
    assert "2 layers" in str(log.error)


@scorer(metrics={"right": [mean()], "style": [accuracy()]})
def two_things() -> Scorer:
    async def mark(state: TaskState, target: Target) -> Score:
        return Score(value={"right": 1.0, "style": "N"})

    return mark


def test_the_score_to_compare_with_can_be_named():
    given = {
        "words": Score(value=12),
        "two": Score(value={"right": 1.0, "style": "N"}),
        "hallucination_risk": Score(value=0.5),
        "match": Score(value="I"),
    }
    assert task_score(given, "") == {"task_scorer": "match", "task_score": 0.0, "refused": False}
    assert task_score(given, "two/right")["task_score"] == 1.0
    assert task_score(given, "two/style") == {"task_scorer": "two/style", "task_score": None, "refused": True}
    assert task_score({}, "")["task_scorer"] is None
    for against, words in (("choice", "choice has not scored"), ("two/left", "has no left"), ("match/x", "has no x")):
        with pytest.raises(UsageError, match=words):
            task_score(given, against)


def test_scores_that_are_several_values_can_be_compared_with(tiny: Path, probe: str, tmp_path: Path):
    ours = hallucination_risk(probe=probe, span="response", against="two_things/right")
    log = run(task_with(theirs(), scorer=[two_things(), ours]), tiny, tmp_path)
    assert figures(log)["error"] == 0.0


def test_epochs_count_each_answer(tiny: Path, probe: str, tmp_path: Path):
    ours = hallucination_risk(probe=probe, span="response")
    log = run(task_with(theirs(), scorer=[includes(), ours], epochs=2), tiny, tmp_path)
    assert figures(log)["answers"] == figures(log)["scored_by_task"] == 6


# ---- several alphas ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep(tiny: Path, probe: str, tmp_path_factory: pytest.TempPathFactory) -> list[EvalLog]:
    """Their task at the baseline and at two alphas, with the probe's neurons and with two random sets."""
    directory = tmp_path_factory.mktemp("sweep")
    layout = NeuronLayout(NeuronSet.load(probe).widths or ())
    files = [probe]
    for number in (1, 2):
        file = directory / f"random{number}.json"
        NeuronSet.from_flat(np.arange(number, 90, 7), layout, provenance={"control": True}).save(file)
        files.append(str(file))
    logs = [run(theirs(), tiny, directory / "logs")]
    for file in files:
        logs += [run(theirs(), tiny, directory / "logs", {"neurons": file, "alpha": alpha}) for alpha in (0.0, 3)]
    return logs


def test_logs_at_several_alphas_are_paired_by_sample(sweep: list[EvalLog], probe: str):
    found = external_sweep(sweep)
    assert (found.scorer, found.neurons) == ("includes", probe)
    assert list(found.outcomes) == [0.0, 1.0, 3.0]
    assert [set(values) for values in found.outcomes.values()] == [{"Peru", "Chad", "Oman"}] * 3
    by_alpha = {scaling_of(log.eval.model_args)[1]: log for log in sweep[:3]}
    for alpha, values in found.outcomes.items():
        assert values == {n: float(s.value == "C") for n, s in scores(by_alpha[alpha], "includes").items()}
    assert [sorted(table) for table in found.controls.values()] == [[0.0, 3.0]] * 2
    curve = dose_response(arrange(found.rows())[""], ["score"])
    assert curve["items"] == 3
    assert curve["control_sets"] == 2
    for alpha, values in found.outcomes.items():
        assert curve[f"score@{alpha:g}"] == pytest.approx(np.mean(list(values.values())))


def test_a_frame_of_their_sweep_has_a_row_for_each_sample_alpha_and_set(sweep: list[EvalLog]):
    frame: Any = frames.sweep(sweep)
    found = external_sweep(sweep)
    assert list(frame.columns) == [*frames.SWEEP, "score"]
    assert not frame.duplicated(["item", "alpha", "set"]).any()
    counts = frame.groupby("alpha")["set"].agg(lambda own: tuple(sorted(set(own)))).to_dict()
    scaled = ("control 1", "control 2", "neurons")
    assert counts == {0.0: scaled, 1.0: ("baseline",), 3.0: scaled}
    by_log = {log.location: scaling_of(log.eval.model_args)[1] for log in sweep}
    assert (frame.log.map(by_log) == frame.alpha).all()
    own = frame[frame["set"].isin(["neurons", "baseline"])]
    assert {(row.item, row.alpha): row.score for row in own.itertuples()} == {
        (item, alpha): value for alpha, values in found.outcomes.items() for item, value in values.items()
    }
    with pytest.raises(FrameError, match="no answers with neurons scaled"):
        frames.sweep(sweep[0])
    with pytest.raises(FrameError, match="none of the logs is of the baseline"):
        frames.sweep(sweep[1:3])


def test_a_frame_of_risks_has_a_row_for_each_answer(tiny: Path, probe: str, tmp_path: Path):
    ours = hallucination_risk(probe=probe, span="response")
    log = run(task_with(theirs(), scorer=[includes(), ours]), tiny, tmp_path, {"neurons": probe, "alpha": 0.0})
    frame: Any = frames.risks(tmp_path)
    assert list(frame.columns) == list(frames.RISKS)
    assert len(frame) == len(log.samples or []) == 3
    assert dict(zip(frame.id, frame.probability, strict=True)) == risks(log)
    assert set(frame.alpha) == {0.0}
    assert frame.task_score.tolist() == [float(s.value == "C") for s in scores(log, "includes").values()]
    with pytest.raises(FrameError, match="no scores of hneurons_eval/hallucination_risk"):
        frames.risks(run(theirs(), tiny, tmp_path / "plain"))


def test_the_baseline_touches_no_neurons():
    assert scaling_of({}) == ("", 1.0)
    assert scaling_of({"neurons": "n.json"}) == ("", 1.0)
    assert scaling_of({"neurons": "n.json", "alpha": 1}) == ("", 1.0)
    assert scaling_of({"neurons": "n.json", "alpha": "0.5"}) == ("n.json", 0.5)


def test_logs_that_do_not_belong_together_are_refused(sweep: list[EvalLog], tiny: Path, tmp_path: Path):
    baseline, off = sweep[0], sweep[1]
    for logs, words in (
        ([], "there are no logs"),
        ([baseline], "one neuron set besides random ones"),
        ([off], "none of the logs is of the baseline"),
        ([baseline, off, off], "second log at alpha 0"),
        ([baseline, off, run(theirs_by_choice(), tiny, tmp_path)], "one task"),
        ([baseline, off.model_copy(update={"status": "error"})], "ended with status error"),
    ):
        with pytest.raises(SweepError, match=words):
            external_sweep(logs)
    with pytest.raises(SweepError, match="no scores from 0 to 1 of match"):
        external_sweep([baseline, off], "match")
