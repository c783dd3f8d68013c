"""Contributions from vLLM are those of the engine on transformers, whatever the scheduler does with a request."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conftest import BUNDLED, OPTIONS, QUESTIONS, results
from exact import Exact

from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.requests import AnswerCapture, Captured, CaptureRequest, GenerateRequest, Generation
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import Intervention
from hneurons_eval.vllm.engine import VLLMEngine, get_vllm_engine

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
        replace(request, intervention=Intervention(draw(seed, 3000), alpha))
        for request, seed, alpha in zip(plain, (1, 2, 1, 2, 3, 3), (0.0, 0.0, 0.5, 2.0, 3.0, 1.0), strict=True)
    ]
    return [*plain, *highest, *scaled]


def assert_same(found: list[Captured], expected: list[Captured], requests: list[CaptureRequest], exact: Exact) -> None:
    """Both engines are as near to float64 as float32 allows, and so to each other."""
    for ours, theirs, request in zip(found, expected, requests, strict=True):
        for one in (ours, theirs):
            exact.check_capture(request, one.contributions)
        own = exact.of(request.tokens, request.intervention.neurons, request.intervention.alpha)
        errors = {"logprobs": exact.logprob_error, "entropies": exact.entropy_error, "hidden": exact.hidden_error}
        for name, error in errors.items():
            mine, other = getattr(ours, name), getattr(theirs, name)
            assert mine.shape == other.shape
            assert np.abs(mine - other).max() <= error(own)


def test_given_responses_with_several_alphas_in_one_batch(
    engine: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    requests = mixed(prompts, reference.tokenizer, some_neurons)
    found = results([engine.capture(request) for request in requests])
    expected = results([reference.capture(request) for request in requests])
    assert_same(found, expected, requests, exact)
    with pytest.raises(AssertionError, match="times what rounding allows"):  # alpha 0 is not alpha 1
        exact.check_capture(requests[0], found[8].contributions)


def test_an_error_in_the_fourth_digit_would_be_noticed(
    reference: Engine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    everything = mixed(prompts, reference.tokenizer, some_neurons)
    requests = [everything[number] for number in (0, 6, 8, 12)]  # a mean, a maximum, alpha 0 and 3
    for request, one in zip(requests, results([reference.capture(r) for r in requests]), strict=True):
        exact.check_capture(request, one.contributions)
        for region, neuron in enumerate(one.contributions.argmax(axis=1)):
            wrong = one.contributions.copy()
            wrong[region, neuron] *= 1 + 1e-3
            with pytest.raises(AssertionError, match="times what rounding allows"):
                exact.check_capture(request, wrong)
        for layer in range(len(exact.layout.widths)):
            wrong = one.contributions.copy()
            wrong[:, exact.layout.starts[layer] : exact.layout.starts[layer + 1]] *= 1 - 1e-3
            with pytest.raises(AssertionError, match="times what rounding allows"):
                exact.check_capture(request, wrong)
        if request.intervention.alpha != 1.0:
            with pytest.raises(AssertionError, match="times what rounding allows"):
                exact.check_capture(
                    replace(
                        request, intervention=replace(request.intervention, alpha=request.intervention.alpha + 1e-2)
                    ),
                    one.contributions,
                )


def test_given_responses_with_chunks_of_prompts_preemption_and_cached_prefixes(
    crowded: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    requests = mixed(prompts, reference.tokenizer, some_neurons)
    for _ in range(2):  # the second time, all prefixes are in the cache
        assert_same(
            results([crowded.capture(request) for request in requests]),
            results([reference.capture(request) for request in requests]),
            requests,
            exact,
        )


def test_a_capture_without_a_response_has_no_logprobs(engine: VLLMEngine, prompts: Prompts, exact: Exact):
    request = CaptureRequest(prompts[0], ((3, 5), tuple(range(len(prompts[0])))))
    ours = engine.capture(request).result(60)
    exact.check_capture(request, ours.contributions)
    assert ours.logprobs is ours.entropies is ours.hidden is None


def sampled(prompts: Prompts, **changes: Any) -> list[GenerateRequest]:
    """Greedy answers, of which the second half of the text is captured."""
    capture = AnswerCapture(lambda text: (len(text) // 2, len(text)) if len(text) > 1 else None, "mean", other=True)
    return [
        replace(GenerateRequest(prompt, 24, SamplingOptions(0.0), top_logprobs=2, capture=capture), **changes)
        for prompt in prompts
    ]


def assert_same_answers(
    found: list[Generation], expected: list[Generation], requests: list[GenerateRequest], exact: Exact
) -> None:
    """Contributions are as near to float64 as float32 allows; greedy tokens agree as long as they are certain."""
    certain = 0
    for ours, theirs, request in zip(found, expected, requests, strict=True):
        for one in (ours, theirs):
            exact.check_answer(request, one)
        count = exact.certain(request, theirs.tokens)
        assert ours.tokens[:count] == theirs.tokens[:count]
        own = exact.of(request.prompt + theirs.tokens, request.intervention.neurons, request.intervention.alpha)
        for entry, same in zip((ours.logprobs or ())[:count], (theirs.logprobs or ())[:count], strict=True):
            assert entry.token == same.token
            assert entry.logprob == pytest.approx(same.logprob, abs=exact.logprob_error(own))
            assert entry.entropy == pytest.approx(same.entropy, abs=exact.entropy_error(own))
            levels, others = dict(entry.top), dict(same.top)
            assert len(levels) == len(others)
            assert list(levels.values()) == pytest.approx(list(others.values()), abs=exact.logprob_error(own))
        if count < len(theirs.tokens):
            continue  # two tokens are equally likely but for rounding: either may be said, and another text follows
        certain += 1
        assert (ours.tokens, ours.text, ours.stop_reason) == (theirs.tokens, theirs.text, theirs.stop_reason)
        mine, other = ours.captured, theirs.captured
        assert mine is not None
        assert other is not None
        assert (mine.response_tokens, mine.span, mine.answer) == (other.response_tokens, other.span, other.answer)
        assert mine.contributions is not None
        assert mine.hidden is not None
        assert other.hidden is not None
        assert np.abs(mine.hidden - other.hidden).max() <= exact.hidden_error(own)
    assert certain >= len(requests) / 2  # the comparison means something


def test_answers_while_they_are_generated(
    engine: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    requests = [
        *sampled(prompts),
        *sampled(prompts[:3], intervention=Intervention(some_neurons(4, 3000), 0.0)),
        *sampled(prompts[:2], capture=AnswerCapture(lambda text: (0, len(text)), "max", other=True)),
        *sampled(prompts[:2], max_tokens=1),
    ]
    assert_same_answers(
        results([engine.generate(request) for request in requests]),
        results([reference.generate(request) for request in requests]),
        requests,
        exact,
    )


def test_answers_while_they_are_generated_count_each_token_once_when_preempted(
    crowded: VLLMEngine,
    reference: Engine,
    prompts: Prompts,
    preemptions: Callable[[VLLMEngine], list[str]],
    exact: Exact,
):
    requests = sampled(prompts * 2, max_tokens=120)
    seen = preemptions(crowded)
    found = results([crowded.generate(request) for request in requests])
    assert seen, "the cache is too large for this test"
    assert_same_answers(found, results([reference.generate(request) for request in requests]), requests, exact)


def test_an_answer_that_ends_in_a_stop_sequence(engine: VLLMEngine, reference: Engine, prompts: Prompts, exact: Exact):
    (whole,) = results([reference.generate(sampled(prompts[:1])[0])])
    stop = (whole.text[5:8],)
    requests = sampled(prompts[:1], stop=stop)
    found = results([engine.generate(request) for request in requests])
    assert found[0].text == whole.text[: whole.text.index(stop[0])]
    assert_same_answers(found, results([reference.generate(request) for request in requests]), requests, exact)


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
