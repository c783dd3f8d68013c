"""A grader behind HTTP: the `openai` package against a real server, well-behaved and not; no answer is lost."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task, task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score
from openai_server import ChatServer, Reply, Request, call, garbage, hang_up, nothing, refusal, slow, text
from tenacity import wait_exponential

from hneurons_eval.scorers.judge import judge

QUESTION = "Capital of France?"
VERDICTS = {"Lutetia": "correct", "Lyon": "incorrect", "Pass": "not_attempted"}
VALUES = {"correct": "C", "incorrect": "I", "not_attempted": "N"}
SOON = {"retry_after_ms": "20"}
"""A server's own word on when to come again, which the client obeys."""


def answer_in(request: Request) -> str:
    """The answer that a request shows between its marks."""
    found = re.search(r"<<answer (\w+)>>\n(.*?)\n<<end \1>>", request["messages"][-1]["content"], re.DOTALL)
    assert found
    return found[2]


def honest(request: Request) -> Reply:
    return call(VERDICTS[answer_in(request)])


def grader(server: ChatServer, retries: int = 0, **args: Any) -> Model:
    """The model behind the server; `retries` are Inspect's own, beside the two of the client."""
    config = GenerateConfig(max_retries=retries)
    return get_model(
        "openai-api/local/judge", base_url=server.url, api_key="a-key", config=config, memoize=False, **args
    )


def judged(tmp_path: Path, model: Model, answers: Sequence[str]) -> EvalLog:
    """Answers to one question each, judged by the model in the role `grader`."""
    said = iter(answers)
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)

    def reply(*_: Any) -> ModelOutput:
        return ModelOutput.from_content("m", next(said)).model_copy(update={"usage": usage})

    @task
    def asked() -> Task:
        return Task(
            dataset=[
                Sample(id=number, input=QUESTION, target=["Paris"], metadata={"question": f"{QUESTION} ({number})"})
                for number in range(len(answers))
            ],
            scorer=judge("llm"),
        )

    (log,) = inspect_eval(
        asked,  # pyright: ignore[reportArgumentType]
        model=get_model("mockllm/model", custom_outputs=reply, memoize=False),
        model_roles={"grader": model},
        log_dir=str(tmp_path),
        display="none",
        max_samples=8,
    )
    assert log.status == "success", log.error
    return log


def scores(log: EvalLog) -> list[Score]:
    return [sample.scores["judge"] for sample in log.samples or [] if sample.scores]


def figures(log: EvalLog) -> dict[str, float]:
    assert log.results
    return {name: float(one.value) for score in log.results.scores for name, one in score.metrics.items()}


def unscored(log: EvalLog) -> Score:
    """The only score, which has no value and says why."""
    (score,) = scores(log)
    assert (score.metadata or {})["verdict"] == "unparsed"
    assert score.reason == "grader_failed"
    assert "draws" not in figures(log) or figures(log)["draws"] == 0
    return score


# --- a server that does as it is asked ----------------------------------------------------------------


def test_verdicts_come_by_a_forced_tool_call(tmp_path: Path):
    with ChatServer(honest) as server:
        log = judged(tmp_path, grader(server), list(VERDICTS))
    by_answer = {one.answer: one.value for one in scores(log)}
    assert by_answer == {answer: VALUES[verdict] for answer, verdict in VERDICTS.items()}
    assert len(server.requests) == len(VERDICTS)
    for request in server.requests:
        assert request["model"] == "judge"
        assert request["temperature"] == 0
        (tool,) = request["tools"]
        assert request["tool_choice"] == {"type": "function", "function": {"name": tool["function"]["name"]}}
        parameters = tool["function"]["parameters"]
        assert parameters["properties"]["verdict"]["enum"] == list(VALUES)
        assert parameters["required"] == ["verdict"]
    assert set(server.keys) == {"Bearer a-key"}
    assert {(one.metadata or {})["grader"] for one in scores(log)} == {"openai-api/local/judge"}


def test_a_server_without_tools_is_asked_for_json_by_a_schema(tmp_path: Path):
    def answer(request: Request) -> Reply:
        if "tools" in request:
            return refusal(400, "this model has no tools")
        return text(f'{{"verdict": "{VERDICTS[answer_in(request)]}"}}')

    with ChatServer(answer) as server:
        log = judged(tmp_path, grader(server), list(VERDICTS))
    assert sorted(str(one.value) for one in scores(log)) == ["C", "I", "N"]
    asked = [request for request in server.requests if "tools" not in request]
    assert len(asked) == len(VERDICTS)
    for request in asked:
        schema = request["response_format"]["json_schema"]
        assert request["response_format"]["type"] == "json_schema"
        assert schema["strict"] is True
        assert list(schema["schema"]["properties"]) == ["verdict"]
        assert schema["schema"]["additionalProperties"] is False


def test_a_server_without_schemas_either_is_asked_in_words(tmp_path: Path):
    def answer(request: Request) -> Reply:
        for what in ("tools", "response_format"):
            if what in request:
                return refusal(422, f"{what}: extra field not permitted")
        return text(VERDICTS[answer_in(request)])

    with ChatServer(answer) as server:
        log = judged(tmp_path, grader(server), list(VERDICTS))
    assert sorted(str(one.value) for one in scores(log)) == ["C", "I", "N"]
    assert '{"verdict": "correct"}' in server.requests[-1]["messages"][0]["content"]


# --- a server that does not ---------------------------------------------------------------------------

UNREADABLE: dict[str, Callable[[], Reply]] = {
    "a sentence": lambda: text("The verdict is correct."),
    "nothing at all": lambda: text(""),
    "no choices": nothing,
    "another tool": lambda: call("correct", name="give_praise"),
    "another word": lambda: call("t"),
    "a verdict within a list": lambda: call(["correct"]),
    "arguments cut off": lambda: call(None, arguments='{"verdict": "corr'),
    "arguments that are no object": lambda: call(None, arguments="42"),
}


def test_replies_without_a_verdict_are_unparsed_and_not_asked_for_again(tmp_path: Path):
    with ChatServer(lambda request: UNREADABLE[answer_in(request)]()) as server:
        log = judged(tmp_path, grader(server), list(UNREADABLE))
    found = {str(one.answer): ((one.metadata or {})["verdict"], one.reason) for one in scores(log)}
    assert found == dict.fromkeys(UNREADABLE, ("unparsed", "grader_failed"))
    assert Counter(map(answer_in, server.requests)) == dict.fromkeys(UNREADABLE, 1)


FAILING: dict[str, tuple[Callable[[], Reply], str]] = {
    "too many requests": (lambda: refusal(429, "slow down, please", **SOON), "slow down, please"),
    "an error of the server": (lambda: refusal(500, "it burns", **SOON), "it burns"),
    "overloaded": (lambda: refusal(503, "come back", **SOON), "come back"),
}


def test_errors_are_retried_and_then_the_answers_are_unscored_with_what_the_server_said(tmp_path: Path):
    with ChatServer(lambda request: FAILING[answer_in(request)][0]()) as server:
        log = judged(tmp_path, grader(server), list(FAILING))
    for one in scores(log):
        assert (one.reason, (one.metadata or {})["verdict"]) == ("grader_failed", "unparsed")
        assert FAILING[str(one.answer)][1] in str(one.explanation)
    assert Counter(map(answer_in, server.requests)) == dict.fromkeys(FAILING, 3)
    assert all("tools" in request for request in server.requests)  # the form was not given up for it


def test_passing_errors_cost_no_verdict(tmp_path: Path):
    seen: Counter[str] = Counter()

    def answer(request: Request) -> Reply:
        kind = answer_in(request)
        seen[kind] += 1
        return FAILING[kind][0]() if seen[kind] < 3 else call("correct")

    with ChatServer(answer) as server:
        log = judged(tmp_path, grader(server), list(FAILING))
    assert [one.value for one in scores(log)] == ["C"] * len(FAILING)
    assert len(server.requests) == 3 * len(FAILING)


def test_the_wait_that_the_server_asks_for_is_kept(tmp_path: Path):
    failures = iter([refusal(429, "wait", retry_after_ms="400")])
    with ChatServer(lambda request: next(failures, None) or honest(request)) as server:
        log = judged(tmp_path, grader(server), ["Lyon"])
    assert [one.value for one in scores(log)] == ["I"]
    first, second = server.times
    assert second - first >= 0.4


def test_inspect_retries_with_growing_waits_as_often_as_the_role_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Inspect's own waits begin at three seconds; these grow in the same way from less.
    monkeypatch.setattr(ModelAPI, "retry_wait", lambda _: wait_exponential(multiplier=0.2))
    with ChatServer(lambda _: refusal(500, "it burns", **SOON)) as server:
        log = judged(tmp_path, grader(server, retries=2), ["Lutetia"])
    assert "it burns" in str(unscored(log).explanation)
    assert len(server.requests) == 9  # three attempts, of three requests each
    first, second = server.times[3] - server.times[2], server.times[6] - server.times[5]
    assert first >= 0.2
    assert second >= 0.4


def test_a_connection_that_is_closed_is_opened_again(tmp_path: Path):
    failures = iter([hang_up()])
    with ChatServer(lambda request: next(failures, None) or honest(request)) as server:
        log = judged(tmp_path, grader(server), ["Lyon"])
    assert [one.value for one in scores(log)] == ["I"]
    assert len(server.requests) == 2


def test_a_server_that_only_hangs_up_leaves_the_answer_unscored(tmp_path: Path):
    with ChatServer(lambda _: hang_up()) as server:
        log = judged(tmp_path, grader(server, max_retries=0), ["Lyon"])
    assert "APIConnectionError" in str(unscored(log).explanation)


def test_a_server_that_is_not_there_leaves_the_answer_unscored(tmp_path: Path):
    with ChatServer(honest) as server:
        model = grader(server, max_retries=0)
    assert "APIConnectionError" in str(unscored(judged(tmp_path, model, ["Lyon"])).explanation)


def test_a_body_that_is_no_json_leaves_the_answer_unscored(tmp_path: Path):
    with ChatServer(lambda _: garbage()) as server:
        log = judged(tmp_path, grader(server, max_retries=0), ["Lyon"])
    unscored(log)
    assert server.requests


def test_a_slow_server_is_waited_for_as_long_as_the_role_says(tmp_path: Path):
    with ChatServer(lambda request: slow(honest(request), 0.3)) as server:
        log = judged(tmp_path / "patient", grader(server), ["Lyon"])
    assert [one.value for one in scores(log)] == ["I"]
    with ChatServer(lambda request: slow(honest(request), 60)) as server:  # cut short when the block ends
        log = judged(tmp_path / "hasty", grader(server, client_timeout=0.1, max_retries=0), ["Lyon"])
    assert "APITimeoutError" in str(unscored(log).explanation)


# --- all of it at once --------------------------------------------------------------------------------


def test_whatever_the_server_does_the_totals_add_up(tmp_path: Path):
    """Scored + unparsed + failed = asked, in the scores, in the log's counts and in the metrics."""
    kinds = ["Lutetia", "Lyon", "Pass", *UNREADABLE, *FAILING, "hang up", "garbage"]
    rng = random.Random(0)
    answers = [*kinds, *rng.choices(kinds, k=20)]
    rng.shuffle(answers)

    def answer(request: Request) -> Reply:
        kind = answer_in(request)
        if kind in VERDICTS:
            return honest(request)
        if kind in UNREADABLE:
            return UNREADABLE[kind]()
        if kind in FAILING:
            return FAILING[kind][0]()
        return hang_up() if kind == "hang up" else garbage()

    with ChatServer(answer) as server:
        log = judged(tmp_path, grader(server, max_retries=1), answers)
    found = scores(log)
    assert len(found) == len(answers)
    for one in found:
        expected = VERDICTS.get(str(one.answer), "unparsed")
        assert (one.metadata or {})["verdict"] == expected, one.answer
    counts = Counter(str(one.value) for one in found if (one.metadata or {})["verdict"] != "unparsed")
    right = Counter(VALUES[VERDICTS[kind]] for kind in answers if kind in VERDICTS)
    assert counts == right
    replied = sum((one.metadata or {})["verdict"] == "unparsed" and one.answer in UNREADABLE for one in found)
    failed = sum((one.metadata or {})["verdict"] == "unparsed" and one.answer not in UNREADABLE for one in found)
    assert counts.total() + replied + failed == len(answers)
    assert failed == sum(kind in (*FAILING, "hang up", "garbage") for kind in answers)
    assert log.results
    assert {one.unscored_samples for one in log.results.scores} == {replied + failed}
    assert figures(log)["draws"] == counts.total()
    assert figures(log)["correct"] == pytest.approx(right["C"] / right.total())
