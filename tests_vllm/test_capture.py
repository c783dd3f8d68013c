"""Contributions from vLLM are those of the engine on transformers, whatever the scheduler does with a request."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import BUNDLED, OPTIONS, QUESTIONS, results

from hneurons_eval.engine import Engine
from hneurons_eval.neurons import NeuronSet
from hneurons_eval.requests import AnswerCapture, Captured, CaptureRequest, GenerateRequest, Generation
from hneurons_eval.sampling import SamplingOptions
from hneurons_eval.vllm.engine import VLLMEngine, get_vllm_engine

TOLERANCE = 1e-5
Draw = Callable[[int, int], NeuronSet]
Prompts = list[tuple[int, ...]]


@pytest.fixture(scope="session")
def crowded() -> VLLMEngine:
    """vLLM with a cache that holds a few requests at most, prompts in small chunks, prefixes cached."""
    options = OPTIONS | {
        "kv_cache_memory_bytes": 40 << 20,
        "max_num_batched_tokens": 48,
        "max_num_seqs": 16,
        "enable_prefix_caching": True,
    }
    return get_vllm_engine(BUNDLED, dtype="float32", options=options)


def given(prompts: Prompts, tokenizer: Any, **changes: Any) -> list[CaptureRequest]:
    """Each prompt with a response of its own length, whose middle is the answer."""
    requests = []
    for number, prompt in enumerate(prompts):
        response = tuple(tokenizer(" ".join(QUESTIONS[: number + 1]), add_special_tokens=False)["input_ids"])
        tokens = prompt + response
        answer = tuple(range(len(prompt) + len(response) // 3, len(prompt) + 1 + 2 * len(response) // 3))
        other = tuple(place for place in range(len(tokens)) if place not in answer)
        regions = (answer, other, tuple(range(len(prompt))))
        requests.append(replace(CaptureRequest(tokens, regions, response_from=len(prompt)), **changes))
    return requests


def mixed(prompts: Prompts, tokenizer: Any, draw: Draw) -> list[CaptureRequest]:
    """Requests with maxima and means, and several neuron sets and alphas."""
    plain = given(prompts, tokenizer)
    highest = given(prompts[:2], tokenizer, reduce="max")
    scaled = [
        replace(request, neurons=draw(seed, 3000), alpha=alpha)
        for request, seed, alpha in zip(plain, (1, 2, 1, 2, 3, 3), (0.0, 0.0, 0.5, 2.0, 3.0, 1.0), strict=True)
    ]
    return [*plain, *highest, *scaled]


def assert_near(ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Absolute up to 1, relative above."""
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) / np.maximum(1.0, theirs)).max() <= tolerance


def assert_same(found: list[Captured], expected: list[Captured], tolerance: float = TOLERANCE) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert_near(ours.contributions, theirs.contributions, tolerance)
        assert theirs.contributions.max() > 100 * TOLERANCE  # the comparison means something
        for name in ("logprobs", "entropies", "hidden"):
            own, other = getattr(ours, name), getattr(theirs, name)
            assert own.shape == other.shape
            assert np.abs(own - other).max() <= 1e-3


def test_given_responses_with_several_alphas_in_one_batch(
    engine: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw
):
    requests = mixed(prompts, reference.tokenizer, some_neurons)
    found = results([engine.capture(request) for request in requests])
    expected = results([reference.capture(request) for request in requests])
    assert_same(found, expected)
    apart = np.abs(found[0].contributions - found[8].contributions).max()
    assert apart > 10 * TOLERANCE  # alpha 0 is not alpha 1


def test_given_responses_with_chunks_of_prompts_preemption_and_cached_prefixes(
    crowded: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw
):
    requests = mixed(prompts, reference.tokenizer, some_neurons)
    for _ in range(2):  # the second time, all prefixes are in the cache
        assert_same(
            results([crowded.capture(request) for request in requests]),
            results([reference.capture(request) for request in requests]),
        )


def test_a_capture_without_a_response_has_no_logprobs(engine: VLLMEngine, reference: Engine, prompts: Prompts):
    request = CaptureRequest(prompts[0], ((3, 5), tuple(range(len(prompts[0])))))
    ours, theirs = engine.capture(request).result(60), reference.capture(request).result(60)
    assert_near(ours.contributions, theirs.contributions)
    assert ours.logprobs is ours.entropies is ours.hidden is None


def sampled(prompts: Prompts, **changes: Any) -> list[GenerateRequest]:
    """Greedy answers, of which the second half of the text is captured."""
    capture = AnswerCapture(lambda text: (len(text) // 2, len(text)) if len(text) > 1 else None, "mean", other=True)
    return [
        replace(GenerateRequest(prompt, 24, SamplingOptions(0.0), top_logprobs=2, capture=capture), **changes)
        for prompt in prompts
    ]


def assert_same_answers(found: list[Generation], expected: list[Generation]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.tokens, ours.text, ours.stop_reason) == (theirs.tokens, theirs.text, theirs.stop_reason)
        assert ours.captured is not None
        assert theirs.captured is not None
        assert ours.captured.response_tokens == theirs.captured.response_tokens
        assert (ours.captured.span, ours.captured.answer) == (theirs.captured.span, theirs.captured.answer)
        own, other = ours.captured.contributions, theirs.captured.contributions
        assert own is not None
        assert other is not None
        assert_near(own, other)
        assert ours.captured.hidden is not None
        assert theirs.captured.hidden is not None
        assert np.abs(ours.captured.hidden - theirs.captured.hidden).max() <= 1e-3
        for entry, same in zip(ours.logprobs or (), theirs.logprobs or (), strict=True):
            assert entry.token == same.token
            assert entry.logprob == pytest.approx(same.logprob, abs=1e-3)
            assert entry.entropy == pytest.approx(same.entropy, abs=1e-3)
            assert [token for token, _ in entry.top] == [token for token, _ in same.top]


def test_answers_while_they_are_generated(engine: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw):
    requests = [
        *sampled(prompts),
        *sampled(prompts[:3], neurons=some_neurons(4, 3000), alpha=0.0),
        *sampled(prompts[:2], capture=AnswerCapture(lambda text: (0, len(text)), "max", other=True)),
        *sampled(prompts[:2], max_tokens=1),
    ]
    assert_same_answers(
        results([engine.generate(request) for request in requests]),
        results([reference.generate(request) for request in requests]),
    )


def test_answers_while_they_are_generated_count_each_token_once_when_preempted(
    crowded: VLLMEngine,
    reference: Engine,
    prompts: Prompts,
    preemptions: Callable[[VLLMEngine], list[str]],
):
    requests = sampled(prompts * 2, max_tokens=120)
    seen = preemptions(crowded)
    found = results([crowded.generate(request) for request in requests])
    assert seen, "the cache is too large for this test"
    assert_same_answers(found, results([reference.generate(request) for request in requests]))


def test_an_answer_that_ends_in_a_stop_sequence(engine: VLLMEngine, reference: Engine, prompts: Prompts):
    (whole,) = results([reference.generate(sampled(prompts[:1])[0])])
    stop = (whole.text[5:8],)
    requests = sampled(prompts[:1], stop=stop)
    found = results([engine.generate(request) for request in requests])
    assert found[0].text == whole.text[: whole.text.index(stop[0])]
    assert_same_answers(found, results([reference.generate(request) for request in requests]))


def test_an_answer_without_a_span_and_one_whose_span_fails(engine: VLLMEngine, prompts: Prompts):
    def fails(text: str) -> None:
        raise LookupError(text)

    without = engine.generate(sampled(prompts[:1], capture=AnswerCapture(lambda text: None))[0])
    failing = engine.generate(sampled(prompts[:1], capture=AnswerCapture(fails))[0])
    captured = without.result(60).captured
    assert captured is not None
    assert captured.contributions is None
    with pytest.raises(LookupError):
        failing.result(60)
    assert not engine._llm.engine_core.engine_core.model_executor.collective_rpc("hneurons_held")[0]  # pyright: ignore


def test_a_request_that_nobody_waits_for_is_left(engine: VLLMEngine, prompts: Prompts):
    future = engine.generate(sampled(prompts[:1], max_tokens=400)[0])
    assert future.cancel()
    assert engine.generate(sampled(prompts[:1], max_tokens=2)[0]).result(60).tokens
    assert not engine._llm.engine_core.engine_core.model_executor.collective_rpc("hneurons_held")[0]  # pyright: ignore
