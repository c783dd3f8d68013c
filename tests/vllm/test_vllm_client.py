"""The client of a vLLM server with the plugin: what it refuses, what it sends, and what it leaves behind."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuron_server import API_KEY, NeuronServer, serving

from hneurons_eval.engine.requests import AnswerCapture, CaptureRequest, GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.checkpoints import fingerprint, load_layout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import Intervention
from hneurons_eval.util.errors import UsageError
from hneurons_eval.vllm import client
from hneurons_eval.vllm.admission import NeuronSets
from hneurons_eval.vllm.client import ClientEngine, ServerError
from hneurons_eval.vllm.protocol import PROTOCOL, About

TIMEOUT = 120
Checkpoint = Callable[..., Path]


def about_of(directory: Path) -> About:
    layout = load_layout(directory)
    return About(PROTOCOL, "0", "served", fingerprint(directory), "float32", layout.widths, 63, 20)


@pytest.fixture(scope="module")
def about(tiny_checkpoint: Checkpoint) -> About:
    return about_of(tiny_checkpoint())


@pytest.fixture
def server(about: About, tiny_checkpoint: Checkpoint) -> Iterator[tuple[str, NeuronServer]]:
    with serving(about, NeuronSets(load_layout(tiny_checkpoint()))) as found:
        yield found


@contextmanager
def connected(directory: Path, url: str, **options: Any) -> Iterator[ClientEngine]:
    engine = ClientEngine(str(directory), url, options.pop("api_key", API_KEY), **options)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def engine(server: tuple[str, NeuronServer], tiny_checkpoint: Checkpoint) -> Iterator[ClientEngine]:
    with connected(tiny_checkpoint(), server[0] + "/v1/") as found:  # as other clients are given it
        yield found


@pytest.fixture
def neurons(engine: ClientEngine) -> NeuronSet:
    return NeuronSet.from_flat([1, 4, 9], engine.layout)


def extras_of(body: dict[str, Any]) -> dict[str, Any]:
    return json.loads(body["vllm_xargs"]["hneurons"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "gives no access to neurons; start vLLM with VLLM_PLUGINS=hneurons"),
        ({"protocol": PROTOCOL + 1}, f"uses version {PROTOCOL + 1} of the protocol, this program {PROTOCOL}"),
        ({"fingerprint": "0" * 16}, "has another checkpoint \\(served, 0000000000000000\\) than"),
        ({"widths": [4, 4]}, "has another checkpoint"),
        ({"dtype": "bfloat16"}, "computes in bfloat16, not float32; leave dtype out"),
        ({"context": "many"}, "cannot be read: about.context: Input should be a valid integer"),
        ({"widths": [0]}, "cannot be read: about.widths.0: Input should be greater than 0"),
    ],
)
def test_a_server_that_does_not_fit_is_refused_before_anything_is_asked(
    change: dict[str, Any] | None, message: str, about: About, tiny_checkpoint: Checkpoint
):
    found = None if change is None else about.record() | change
    with serving(found, NeuronSets(load_layout(tiny_checkpoint()))) as (url, state):
        with pytest.raises(ServerError, match=message):
            ClientEngine(str(tiny_checkpoint()), url, API_KEY, dtype="float32")
        assert not state.asked
        assert not state.uploads


def test_a_list_where_a_description_should_be_is_refused(about: About, tiny_checkpoint: Checkpoint):
    with (
        serving([1], NeuronSets(load_layout(tiny_checkpoint()))) as (url, _),
        pytest.raises(ServerError, match="uses version None"),
    ):
        ClientEngine(str(tiny_checkpoint()), url, API_KEY)


def test_another_api_key_another_port_and_no_url_are_refused(
    server: tuple[str, NeuronServer], tiny_checkpoint: Checkpoint
):
    with pytest.raises(ServerError, match="refuses the API key"):
        ClientEngine(str(tiny_checkpoint()), server[0], "wrong")
    with pytest.raises(ServerError, match=r"no server answers at http://127\.0\.0\.1:9"):
        ClientEngine(str(tiny_checkpoint()), "http://127.0.0.1:9")
    with pytest.raises(ServerError, match=r"like http://127\.0\.0\.1:8000, found 'localhost'"):
        ClientEngine(str(tiny_checkpoint()), "localhost")


def test_an_answer_is_asked_for_with_all_that_decides_it(server: tuple[str, NeuronServer], engine: ClientEngine):
    state = server[1]
    state.answer = [7, 8, 9]
    request = GenerateRequest((5, 6), 2, SamplingOptions(0.7, 40, 0.9), seed=3, stop=("\n",), top_logprobs=2)
    found = engine.generate(request).result(TIMEOUT)
    assert found.tokens == (7, 8)
    assert found.stop_reason == "max_tokens"
    assert found.logprobs is not None
    assert [entry.logprob for entry in found.logprobs] == [-0.5, -0.5]
    assert found.logprobs[0].top == ((1, -0.1), (2, -0.2))  # the likeliest first
    (body,) = state.asked
    expected = {"model": "served", "prompt": [5, 6], "max_tokens": 2, "temperature": 0.7, "top_k": 40, "top_p": 0.9}
    assert body.items() >= (expected | {"stop": ["\n"], "logprobs": 2, "n": 1}).items()
    # A server takes these from the checkpoint's generation settings, unless they are given.
    assert body["repetition_penalty"] == 1.0
    assert "vllm_xargs" not in body
    again = engine.generate(replace(request, seed=4)).result(TIMEOUT)
    assert again.tokens == found.tokens
    assert state.asked[0]["seed"] != state.asked[1]["seed"]


def test_a_neuron_set_is_uploaded_once_and_again_when_the_server_has_lost_it(
    server: tuple[str, NeuronServer], engine: ClientEngine, neurons: NeuronSet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "RETRY_SECONDS", (0.01,) * 3)
    state = server[1]
    requests = [GenerateRequest((5, 6), 1, intervention=Intervention(neurons, alpha)) for alpha in (0.0, 2.0, 1.0)]
    for future in [engine.generate(request) for request in requests]:
        future.result(TIMEOUT)
    assert state.uploads == 1
    assert state.sets.flat(neurons.digest) == (1, 4, 9)
    told = sorted((extras_of(body) for body in state.asked if "vllm_xargs" in body), key=lambda found: found["alpha"])
    assert told == [{"neurons": neurons.digest, "alpha": alpha} for alpha in (0.0, 2.0)]
    state.sets = NeuronSets(engine.layout)  # started anew
    engine.generate(requests[0]).result(TIMEOUT)
    assert state.uploads == 2


def test_a_given_answer_is_captured_under_a_key_and_fetched_whole(
    server: tuple[str, NeuronServer], engine: ClientEngine, neurons: NeuronSet
):
    state = server[1]
    state.contributions = np.arange(2 * engine.layout.total, dtype=np.float32).reshape(2, -1)
    request = CaptureRequest((5, 6, 7, 8), ((2, 3), (0, 1)), "max", 2, per_token=neurons)
    captured = engine.capture(request).result(TIMEOUT)
    assert (captured.contributions == state.contributions).all()
    extras = extras_of(state.asked[0])
    assert extras["regions"] == [[[2, 4]], [[0, 2]]]
    assert (extras["reduce"], extras["response_from"], extras["keep_from"]) == ("max", 2, 2)
    assert extras["watch"] == neurons.digest
    assert state.fetched == [(extras["key"], None)]
    engine.close()
    assert not state.dropped


def sampled(span: Callable[[str], Any], **changes: Any) -> GenerateRequest:
    capture = AnswerCapture(span, other=True)
    return replace(GenerateRequest((5, 6), 3, SamplingOptions(0.0), capture=capture), **changes)


def test_contributions_of_a_sampled_answer_are_fetched_over_its_span(
    server: tuple[str, NeuronServer], engine: ClientEngine
):
    state = server[1]
    state.answer = engine.tokenizer(" Paris is big", add_special_tokens=False)["input_ids"] + [9]
    assert len(state.answer) == 4
    state.contributions = np.ones((3, engine.layout.total), np.float32)
    found = engine.generate(sampled(lambda text: (0, len(" Paris")))).result(TIMEOUT)
    assert found.text == " Paris is big"
    assert found.captured is not None
    assert found.captured.answer == (0,)
    assert found.captured.contributions is not None
    assert found.captured.contributions.shape == state.contributions.shape
    assert state.asked[0]["max_tokens"] == 4  # the last of the three is fed
    # The answer, the rest of the response with the prompt, and the prompt.
    assert state.fetched[0][1] == [[None, [[2, 3]]], [0, [[3, 5]]], [0, []]]


def test_what_nobody_fetches_is_dropped_at_once(server: tuple[str, NeuronServer], engine: ClientEngine):
    def fails(text: str) -> None:
        raise LookupError(text)

    state = server[1]
    without = engine.generate(sampled(lambda text: None)).result(TIMEOUT)
    assert without.captured is not None
    assert without.captured.contributions is None
    with pytest.raises(LookupError):
        engine.generate(sampled(fails)).result(TIMEOUT)
    state.wait(lambda: len(state.dropped) == 2)
    assert set(state.dropped) == {extras_of(body)["key"] for body in state.asked}
    assert not state.fetched


def test_a_request_that_is_cancelled_leaves_nothing(server: tuple[str, NeuronServer], engine: ClientEngine):
    state = server[1]
    state.held.clear()
    future = engine.generate(sampled(lambda text: (0, 1)))
    state.wait(lambda: state.asked)
    assert future.cancel()
    state.wait(lambda: state.dropped)
    state.held.set()
    assert state.dropped == [extras_of(state.asked[0])["key"]]
    assert engine.generate(GenerateRequest((5,), 1)).result(TIMEOUT).tokens
    assert not state.fetched


def test_a_connection_that_fails_is_tried_again_under_another_key(
    server: tuple[str, NeuronServer], engine: ClientEngine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "RETRY_SECONDS", (0.01,) * 3)
    state = server[1]
    state.failures, state.turned_away = 1, 1
    request = CaptureRequest((5, 6), ((0, 1),))
    assert engine.capture(request).result(TIMEOUT).contributions.shape == (1, 1)
    keys = [extras_of(body)["key"] for body in state.asked]
    assert len(set(keys)) == 2  # the first one was broken off before it was read
    assert [key for key, _ in state.fetched] == keys[-1:]
    state.turned_away = 4
    with pytest.raises(RuntimeError, match="does not answer: too busy"):
        engine.capture(request).result(TIMEOUT)


def test_what_the_server_refuses_is_said_and_not_tried_again(
    server: tuple[str, NeuronServer], engine: ClientEngine, monkeypatch: pytest.MonkeyPatch
):
    state = server[1]
    monkeypatch.setattr(state, "completion", lambda body: (400, {"error": {"message": "no such thing"}}))
    with pytest.raises(RuntimeError, match=r"refuses this request \(400\): no such thing"):
        engine.generate(GenerateRequest((5,), 1)).result(TIMEOUT)
    monkeypatch.setattr(state, "completion", lambda body: (200, {"choices": [{"token_ids": None}]}))
    with pytest.raises(RuntimeError, match="completion has no tokens"):
        engine.generate(GenerateRequest((5,), 1)).result(TIMEOUT)
    with pytest.raises(ValueError, match="gives 20 alternatives to a token, 21 were asked for"):
        engine.generate(GenerateRequest((5,), 1, top_logprobs=21))


def test_a_prompt_without_room_is_answered_here(server: tuple[str, NeuronServer], engine: ClientEngine):
    found = engine.generate(GenerateRequest((5,) * 63, 4)).result(TIMEOUT)
    assert (found.tokens, found.stop_reason) == ((), "model_length")
    assert engine.generate(GenerateRequest((5,) * 62, 4)).result(TIMEOUT).stop_reason == "model_length"
    assert [body["max_tokens"] for body in server[1].asked] == [1]


def test_the_provider_takes_url_and_key_as_inspect_does_or_from_the_environment(
    server: tuple[str, NeuronServer], tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    from hneurons_eval.vllm.provider import HNeuronsVLLMAPI

    name, url = str(tiny_checkpoint()), server[0]
    given = HNeuronsVLLMAPI(name, base_url=url, api_key=API_KEY)
    assert isinstance(given.engine, ClientEngine)
    monkeypatch.setenv("HNEURONS_VLLM_BASE_URL", url)
    monkeypatch.setenv("HNEURONS_VLLM_API_KEY", API_KEY)
    assert HNeuronsVLLMAPI(name).engine is given.engine
    with pytest.raises(UsageError, match="max_model_len, tensor_parallel_size cannot be set here for the server at"):
        HNeuronsVLLMAPI(name, tensor_parallel_size=2, max_model_len=64)
    monkeypatch.setenv("HNEURONS_VLLM_API_KEY", "wrong")
    with pytest.raises(UsageError, match="refuses the API key"):
        HNeuronsVLLMAPI(name)
    given.engine.close()
