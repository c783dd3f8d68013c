"""Three ranks on the CPU: each holds a third of every layer's neurons, and the whole is put together in rank order."""

from collections.abc import Callable, Iterator

import pytest
from conftest import BUNDLED, OPTIONS, results
from exact import Exact
from test_capture import assert_same, assert_same_answers, mixed, sampled

from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.requests import GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import Intervention
from hneurons_eval.vllm.engine import VLLMEngine

Draw = Callable[[int, int], NeuronSet]
Prompts = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def three() -> Iterator[VLLMEngine]:
    engine = VLLMEngine(BUNDLED, dtype="float32", options=OPTIONS | {"tensor_parallel_size": 3})
    yield engine
    engine.close()


def test_three_ranks_give_what_one_gives(
    three: VLLMEngine, reference: Engine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    requests = mixed(prompts, reference.tokenizer, some_neurons)
    found = results([three.capture(request) for request in requests])
    expected = results([reference.capture(request) for request in requests])
    assert_same(found, expected, requests, exact)
    answers = sampled(prompts)
    assert_same_answers(
        results([three.generate(request) for request in answers]),
        results([reference.generate(request) for request in answers]),
        answers,
        exact,
    )
    scaled = [
        GenerateRequest(prompt, 24, SamplingOptions(0.0), intervention=Intervention(some_neurons(7, 4000), alpha))
        for alpha in (0.0, 2.0)
        for prompt in prompts
    ]
    ours, theirs = (results([one.generate(request) for request in scaled]) for one in (three, reference))
    exact.check_tokens(scaled, [answer.tokens for answer in ours], [answer.tokens for answer in theirs])
