"""What another engine sampled can be captured, and only by the model that answered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, write_eval_log
from inspect_ai.model import Model, get_model
from openai_server import ChatServer, Reply
from small_run import ARGS, BUNDLED, write_questions

from hneurons_eval.artifacts.paths import store_of
from hneurons_eval.data.questions import load_questions
from hneurons_eval.engine.engine import Engine, get_engine
from hneurons_eval.engine.requests import CaptureRequest
from hneurons_eval.models.checkpoints import load_tokenizer
from hneurons_eval.util.errors import UsageError

SERVED = "openai-api/local/any-name"
RELATIONS = ("capital", "language", "continent", "currency")
CHOSEN = [q for kind in RELATIONS for q in [q for q in load_questions("facts") if q.relation == kind][:4]]
# Of each relation the first two are answered right, the others wrong.
SAID = {q.question: f"It is {q.aliases[0] if k % 4 < 2 else 'Timbuktu'}." for k, q in enumerate(CHOSEN)}


def server_of(more: int) -> ChatServer:
    """A server that counts `more` tokens in each prompt than the bundled model does."""
    tokenizer: Any = load_tokenizer("smollm2-135m-instruct")

    def answer(request: Any) -> Reply:
        (question,) = (message["content"] for message in request["messages"])
        text = tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
        count = len(tokenizer(text, add_special_tokens=False)["input_ids"]) + more
        usage = {"prompt_tokens": count, "completion_tokens": 3, "total_tokens": count + 3}
        said = next(response for known, response in SAID.items() if known in question)
        choices = [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "any-name", "choices": choices}
        return Reply(json.dumps(body | {"usage": usage}).encode())

    return ChatServer(answer)


def collected(directory: Path, model: str = SERVED, url: str | None = None, limit: int | None = None) -> EvalLog:
    questions = write_questions(directory / "questions.jsonl", CHOSEN)
    (log,) = inspect_eval(
        "hneurons_eval/collect",
        model=model,
        model_base_url=url,
        model_args=ARGS if model == BUNDLED else {},
        task_args={"dataset": str(questions), "draws": 2, "preset": "quick"},
        log_dir=str(directory / "logs"),
        display="none",
        limit=limit,
        max_tokens=4,
    )
    assert log.status == "success", log.error
    return log


@pytest.fixture
def collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvalLog]:
    def run(more: int = 0) -> EvalLog:
        with server_of(more) as server:
            monkeypatch.setenv("LOCAL_BASE_URL", server.url)
            monkeypatch.setenv("LOCAL_API_KEY", "none")
            # By argument: Inspect keeps a model, with the address of a server that is gone, for the same arguments.
            return collected(tmp_path, url=server.url)

    return run


def capture(log: EvalLog, directory: Path, model: str = SERVED, **roles: str | Model) -> EvalLog:
    (found,) = inspect_eval(
        "hneurons_eval/capture",
        model=model,
        model_args=ARGS if model == BUNDLED else {},
        model_roles=dict(roles),
        task_args={"responses": log.location},
        log_dir=str(directory / "logs"),
        display="none",
    )
    return found


def capturing() -> Model:
    return get_model(BUNDLED, **ARGS)


def test_a_server_leaves_the_same_kind_of_log_as_the_provider(collect: Callable[..., EvalLog], tmp_path: Path):
    theirs, ours = collect(), collected(tmp_path, BUNDLED, limit=2)
    for one, other in zip((theirs.samples or [])[:1], (ours.samples or [])[:1], strict=True):
        assert one.metadata.keys() == other.metadata.keys()
        assert (one.scores or {}).keys() == (other.scores or {}).keys()
    first, second = ((log.reductions or [])[0].samples[0].metadata or {} for log in (theirs, ours))
    assert first.keys() == second.keys()


def test_the_role_captures_what_a_server_sampled(collect: Callable[..., EvalLog], tmp_path: Path):
    found = capture(collect(), tmp_path, capture=capturing())
    assert found.status == "success", found.error
    about = found.eval.metadata or {}
    assert (about["sampled_by"], about["captured_by"], about["prompts_compared"]) == (SERVED, BUNDLED, len(CHOSEN))
    assert sorted(str(sample.target) for sample in found.samples or []) == ["faithful"] * 8 + ["hallucinated"] * 8
    api: Any = capturing().api
    engine: Engine = get_engine("smollm2-135m-instruct", dtype="float32", device="cpu", threads=1)
    for sample in found.samples or []:
        details = (sample.output.metadata or {})["hneurons"]
        row = store_of([details["contributions"]]).get(details["contributions"])
        prompt = api.prompts.encode(sample.input)
        tokens = prompt + tuple(engine.tokenizer(sample.metadata["response"], add_special_tokens=False)["input_ids"])
        whole = engine.capture(CaptureRequest(tokens, (tuple(range(len(prompt))),))).result(60)
        assert np.abs(row.values[2] - whole.contributions[0]).max() <= 1e-5


def test_the_probe_reads_such_a_capture_as_one_of_the_model_that_captured(
    collect: Callable[..., EvalLog], tmp_path: Path
):
    found = capture(collect(), tmp_path, capture=capturing())
    (probe,) = inspect_eval(
        "hneurons_eval/probe",
        model=BUNDLED,
        model_args=ARGS,
        task_args={"features": found.location, "mode": "1-vs-1", "C": 1.0, "folds": 2, "controls": 1},
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert probe.status == "success", probe.error


def test_prompts_of_other_lengths_are_refused(collect: Callable[..., EvalLog], tmp_path: Path):
    log = collect(more=1)
    with pytest.raises(UsageError, match="tokenizer or chat template is another"):
        capture(log, tmp_path, capture=capturing())


def test_without_the_role_a_name_that_differs_is_refused(collect: Callable[..., EvalLog], tmp_path: Path):
    log = collect()
    with pytest.raises(UsageError, match="--model-role capture=hneurons/smollm2-135m-instruct"):
        capture(log, tmp_path, model=BUNDLED)
    with pytest.raises(UsageError, match="gives no access to its neurons"):
        capture(log, tmp_path)


def test_a_sampler_with_another_checkpoint_is_refused(
    collect: Callable[..., EvalLog], tmp_path: Path, tiny_checkpoint: Callable[..., Path]
):
    log = collect()
    log.eval.model = f"vllm/{tiny_checkpoint()}"
    log.location = str(tmp_path / "2026_collect_x.eval")
    write_eval_log(log, log.location)
    with pytest.raises(UsageError, match="whose checkpoint is not that of hneurons/smollm2-135m-instruct"):
        capture(log, tmp_path, capture=capturing())
