"""What a row says depends on nothing but its own request, and is what the model alone would say."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rounding import assert_same_contributions
from transformers import AutoModelForCausalLM

from hneurons_eval.engine import decode_loop as decoding
from hneurons_eval.engine.engine import CaptureRequest, Engine, GenerateRequest, Generation, get_engine
from hneurons_eval.engine.prefix_cache import PrefixCache
from hneurons_eval.engine.sampling import SamplingOptions, choose, noise_key, row_key
from hneurons_eval.models.checkpoints import CheckpointError
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.layout import UnsupportedModelError
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.scaling import Intervention, scaled

WARM = SamplingOptions(1.0)
TIMEOUT = 60
MakeCheckpoint = Callable[..., Path]


def start(path: Path | str, **options: Any) -> Engine:
    return Engine(str(path), dtype="float32", device="cpu", threads=1, **options)


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Engine:
    return start(tiny_checkpoint())


@pytest.fixture(scope="module")
def narrow(tiny_checkpoint: MakeCheckpoint) -> Engine:
    """An engine with room for three rows, so that most of them wait."""
    return start(tiny_checkpoint(), max_rows=3)


def load(path: Path | str) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval()


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: MakeCheckpoint) -> Any:
    return load(tiny_checkpoint())


def prompts(count: int, longest: int = 20, shared: int = 0, seed: int = 0) -> list[tuple[int, ...]]:
    pick = random.Random(seed)
    prefix = tuple(pick.randrange(3, 49152) for _ in range(shared))
    return [prefix + tuple(pick.randrange(3, 49152) for _ in range(pick.randint(1, longest))) for _ in range(count)]


def results(engine: Engine, requests: list[GenerateRequest]) -> list[Generation]:
    return [future.result(TIMEOUT) for future in [engine.generate(request) for request in requests]]


def alone(engine: Engine, requests: list[GenerateRequest]) -> list[Generation]:
    return [engine.generate(request).result(TIMEOUT) for request in requests]


def greedy(model: Any, prompt: tuple[int, ...], new: int) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    said = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new,
        pad_token_id=0,
        eos_token_id=2,
    )
    return tuple(said[0, len(prompt) :].tolist())


def sets(engine: Engine) -> list[NeuronSet]:
    total = engine.layout.total
    return [
        NeuronSet.from_flat(np.arange(0, total, 3), engine.layout),
        NeuronSet.from_flat(np.arange(1, total, 2), engine.layout),
    ]


# --- greedy text is that of transformers ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("llama", {}),
        ("llama", {"mlp_bias": True, "num_key_value_heads": 4}),
        ("mistral", {"sliding_window": 5}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("gemma2", {"sliding_window": 5, "query_pre_attn_scalar": 8}),
    ],
    ids=["llama", "llama-bias", "mistral", "qwen2", "qwen3", "gemma2"],
)
def test_greedy_text_is_that_of_transformers(tiny_checkpoint: MakeCheckpoint, kind: str, overrides: dict[str, Any]):
    path = tiny_checkpoint(kind, **overrides)
    engine, model = start(path, max_rows=4), load(path)
    mixed = [*prompts(5), *prompts(2, longest=5, shared=12, seed=1)]
    one_prefix, another = (prompts(4, longest=7, shared=12, seed=seed) for seed in (2, 3))
    # The second time with what is remembered.
    for given, new in ((mixed, 15), (one_prefix, 6), (another, 6), (mixed[::-1], 9), (one_prefix, 7)):
        for prompt, said in zip(given, results(engine, [GenerateRequest(p, new) for p in given]), strict=True):
            assert said.tokens == greedy(model, prompt, new)


def test_greedy_text_of_the_bundled_model_is_that_of_transformers(bundled_engine: Engine):
    tokenizer: Any = bundled_engine.tokenizer
    questions = ["What is the capital of France?", "Who wrote Hamlet?", "Name a prime number."]
    asked = []
    for question in questions:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        asked.append(tuple(tokenizer(text, add_special_tokens=False).input_ids))
    said = results(bundled_engine, [GenerateRequest(prompt, 12) for prompt in asked])
    for prompt, one in zip(asked, said, strict=True):
        expected = bundled_engine.call(lambda model, prompt=prompt: greedy(model, prompt, 12)).result(TIMEOUT)
        assert one.tokens == expected
        assert one.text == tokenizer.decode(one.tokens, skip_special_tokens=True)
        assert one.stop_reason == ("stop" if one.tokens[-1] == 2 else "max_tokens")
    assert "Paris" in said[0].text


# --- independence ------------------------------------------------------------------------------------------


def varied(engine: Engine) -> list[GenerateRequest]:
    """Requests that differ in everything that a row has of its own."""
    first, second = sets(engine)
    samplings = [SamplingOptions(), WARM, SamplingOptions(0.7, top_k=20), SamplingOptions(1.3, top_p=0.9)]
    asked = [*prompts(8), *prompts(6, longest=4, shared=9, seed=1)]
    scalings: list[tuple[NeuronSet | None, float]] = [(None, 1.0), (first, 0.0), (second, 2.0), (first, 3.0)]
    return [
        GenerateRequest(
            prompt,
            max_tokens=3 + k % 12,
            sampling=samplings[k % 4],
            seed=k % 3,
            sample=k % 2,
            intervention=Intervention(*scalings[k % 5 % 4]),
        )
        for k, prompt in enumerate(asked)
    ]


def test_a_row_says_the_same_alone_in_a_batch_in_another_order_and_after_waiting(tiny: Engine, narrow: Engine):
    requests = varied(tiny)
    expected = alone(tiny, requests)
    assert len({one.tokens for one in expected}) == len(requests)
    assert results(tiny, requests) == expected
    assert results(narrow, requests) == expected
    order = list(range(len(requests)))
    random.Random(4).shuffle(order)
    for engine in (tiny, narrow):
        shuffled = results(engine, [requests[k] for k in order])
        assert [shuffled[order.index(k)] for k in range(len(order))] == expected


def test_rows_that_arrive_while_others_run(narrow: Engine):
    requests = varied(narrow)
    expected = alone(narrow, requests)
    said: dict[int, Generation] = {}

    def ask(k: int) -> None:
        said[k] = narrow.generate(requests[k]).result(TIMEOUT)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert [said[k] for k in range(len(requests))] == expected


@pytest.mark.parametrize("max_rows", [1, 3, 512])
def test_draws_differ_from_each_other_and_repeat_per_seed(tiny_checkpoint: MakeCheckpoint, max_rows: int):
    engine = start(tiny_checkpoint(), max_rows=max_rows)
    prompt = prompts(1)[0]
    samples = [GenerateRequest(prompt, 8, WARM, seed=1, sample=k) for k in range(12)]
    first = results(engine, samples)
    assert len({one.tokens for one in first}) == 12
    assert results(engine, samples[::-1]) == first[::-1]
    other = results(engine, [replace(sample, seed=2) for sample in samples])
    assert not {one.tokens for one in other} & {one.tokens for one in first}


def test_the_prompt_store_changes_nothing(
    tiny_checkpoint: MakeCheckpoint, tiny: Engine, monkeypatch: pytest.MonkeyPatch
):
    requests = varied(tiny)
    expected = alone(tiny, requests)
    assert results(tiny, requests) == expected == results(tiny, requests)
    for room in (0, 20_000):  # no room at all, and room for a part
        monkeypatch.setattr(decoding, "PrefixCache", lambda most, room=room: PrefixCache(room))
        engine = start(tiny_checkpoint(), max_rows=3)
        assert results(engine, requests) == expected
        assert results(engine, requests) == expected


def test_a_remembered_prompt_is_not_computed_again(tiny_checkpoint: MakeCheckpoint):
    engine = start(tiny_checkpoint())
    widths: list[int] = []
    decoder = engine.model.get_decoder()
    handle = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    requests = [GenerateRequest(prompts(1)[0] * 2, 1, WARM, sample=k) for k in range(10)]
    results(engine, requests)
    # One prefill of all tokens but the last, then one step, of one token: the samples do not differ yet.
    assert widths == [len(requests[0].prompt) - 1, 1]
    results(engine, requests)
    assert widths[2:] == [1]
    handle.remove()


def test_a_shared_prefix_is_computed_once(tiny_checkpoint: MakeCheckpoint):
    engine = start(tiny_checkpoint())
    asked = prompts(6, longest=5, shared=20)
    sizes: list[int] = []
    decoder = engine.model.get_decoder()
    handle = decoder.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    said = results(engine, [GenerateRequest(prompt, 4) for prompt in asked])
    handle.remove()
    assert sum(size >= 20 for size in sizes) <= 2  # once, or once more for the first that came alone
    assert said == alone(engine, [GenerateRequest(prompt, 4) for prompt in asked])


@pytest.mark.parametrize("option", [WARM, SamplingOptions(0.8, top_k=30), SamplingOptions(1.2, top_p=0.9)], ids=str)
def test_sampled_text_is_that_of_a_plain_loop(tiny: Engine, reference: Any, option: SamplingOptions):
    request = GenerateRequest(prompts(1)[0], 8, option, seed=3, sample=2)
    tokens: list[int] = []
    for position in range(8):
        with torch.no_grad():
            logits = reference(torch.tensor([[*request.prompt, *tokens]])).logits[:, -1]
        key = noise_key(row_key(3, 2, request.prompt), position)
        tokens += choose(logits, [option], [key]).tolist()
    assert list(tiny.generate(request).result(TIMEOUT).tokens) == tokens


# --- how an answer ends ------------------------------------------------------------------------------------


def test_a_stop_sequence_across_tokens_ends_the_answer(tiny: Engine):
    prompt = prompts(1)[0]
    whole = tiny.generate(GenerateRequest(prompt, 12)).result(TIMEOUT)
    tokenizer: Any = tiny.tokenizer
    pieces = [tokenizer.decode([token]) for token in whole.tokens]
    at = len("".join(pieces[:4])) - 1  # the last character of one token and the first of the next
    stop = whole.text[at : at + 2]
    assert whole.text.find(stop) == at
    cut, other = results(tiny, [GenerateRequest(prompt, 12, stop=("no such text", stop)), GenerateRequest(prompt, 12)])
    assert cut.text == whole.text[:at]
    assert cut.stop_reason == "stop"
    assert cut.tokens == whole.tokens[:5]
    assert other == whole


def test_the_first_of_several_stop_sequences_counts(tiny: Engine):
    prompt = prompts(1)[0]
    text = tiny.generate(GenerateRequest(prompt, 12)).result(TIMEOUT).text
    early, late = text[5:8], text[6:9]
    said = tiny.generate(GenerateRequest(prompt, 12, stop=(late, early))).result(TIMEOUT)
    assert said.text == text[: min(text.find(early), text.find(late))]


def test_the_end_of_text_token_ends_the_answer(tiny: Engine, reference: Any, monkeypatch: pytest.MonkeyPatch):
    prompt = prompts(1)[0]
    tokens = greedy(reference, prompt, 8)
    monkeypatch.setattr(tiny.decoding, "end_tokens", frozenset({tokens[3]}))
    said = tiny.generate(GenerateRequest(prompt, 8)).result(TIMEOUT)
    assert said.tokens == tokens[: tokens.index(tokens[3]) + 1]
    assert said.stop_reason == "stop"


def test_one_token_may_be_asked_for(tiny: Engine, reference: Any):
    prompt = prompts(1)[0]
    for new in (1, 2):
        said = tiny.generate(GenerateRequest(prompt, new)).result(TIMEOUT)
        assert said.tokens == greedy(reference, prompt, new)
        assert said.stop_reason == "max_tokens"


def test_a_prompt_of_one_token(tiny: Engine, reference: Any):
    asked = [(5,), (7, 8), (9,)]
    for prompt, said in zip(asked, results(tiny, [GenerateRequest(p, 6) for p in asked]), strict=True):
        assert said.tokens == greedy(reference, prompt, 6)


def test_a_full_context_is_named(tiny: Engine, reference: Any):
    assert tiny.context == 64
    prompt = prompts(1)[0][:1] * 60
    said = tiny.generate(GenerateRequest(prompt, 50)).result(TIMEOUT)
    assert (len(said.tokens), said.stop_reason) == (4, "model_length")
    assert said.tokens == greedy(reference, prompt, 4)
    assert tiny.generate(GenerateRequest(prompt, 4)).result(TIMEOUT).stop_reason == "max_tokens"
    for length in (64, 65, 500):
        none = tiny.generate(GenerateRequest(prompt[:1] * length, 5)).result(TIMEOUT)
        assert none == Generation((), "", "model_length", None)
        none = tiny.generate(GenerateRequest(prompt[:1] * length, 5, top_logprobs=2)).result(TIMEOUT)
        assert none.logprobs == ()


# --- log-probabilities -------------------------------------------------------------------------------------


def test_log_probabilities_are_the_models_own(tiny: Engine, reference: Any):
    requests = [
        GenerateRequest(prompt, 6, SamplingOptions(0.7, top_k=50), seed=k, top_logprobs=[None, 0, 3, 5][k % 4])
        for k, prompt in enumerate(prompts(8))
    ]
    for request, said in zip(requests, results(tiny, requests), strict=True):
        if request.top_logprobs is None:
            assert said.logprobs is None
            continue
        assert said.logprobs is not None
        with torch.no_grad():
            logits = reference(torch.tensor([request.prompt + said.tokens])).logits[0]
        expected = logits.log_softmax(-1)[len(request.prompt) - 1 : -1]
        assert [one.token for one in said.logprobs] == list(said.tokens)
        for one, row in zip(said.logprobs, expected, strict=True):
            assert one.logprob == pytest.approx(float(row[one.token]), abs=1e-4)
            best = row.topk(request.top_logprobs)
            assert [token for token, _ in one.top] == best.indices.tolist()
            assert [level for _, level in one.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_log_probabilities_of_a_bfloat16_model_are_taken_in_float32(tiny_checkpoint: MakeCheckpoint):
    engine = get_engine(str(tiny_checkpoint()), dtype="bfloat16", device="cpu", threads=1)
    seen: list[torch.Tensor] = []
    handle = engine.model.register_forward_hook(lambda module, args, output: seen.append(output.logits[0, -1].clone()))
    said = engine.generate(GenerateRequest(prompts(1)[0], 5, WARM, top_logprobs=2)).result(TIMEOUT)
    handle.remove()
    assert said.logprobs is not None
    for one, logits in zip(said.logprobs, seen, strict=True):
        assert logits.dtype == torch.bfloat16
        expected = logits.float().log_softmax(-1)
        assert one.logprob == pytest.approx(float(expected[one.token]), abs=1e-4)
        assert [level for _, level in one.top] == pytest.approx(expected.topk(2).values.tolist(), abs=1e-4)


# --- scaling -----------------------------------------------------------------------------------------------


def test_mixed_scalings_in_one_batch_equal_separate_runs(tiny: Engine, reference: Any):
    first, second = sets(tiny)
    scalings: list[tuple[NeuronSet | None, float]] = [
        *((first, alpha) for alpha in (0.0, 0.5, 1.0, 3.0)),
        *((second, alpha) for alpha in (0.0, 2.0)),
        (None, 1.0),
        (None, 0.0),  # an alpha without neurons changes nothing
    ]
    asked = prompts(2, longest=10) + prompts(1, longest=3, shared=8)
    requests = [GenerateRequest(p, 8, intervention=Intervention(n, a)) for p in asked for n, a in scalings]
    said = results(tiny, requests)
    for request, one in zip(requests, said, strict=True):
        if request.intervention.neurons is None:
            assert one.tokens == greedy(reference, request.prompt, 8)
            continue
        with scaled(reference, request.intervention.neurons, request.intervention.alpha):
            assert one.tokens == greedy(reference, request.prompt, 8)
    assert len({one.tokens for one in said}) >= 12


# --- capture -----------------------------------------------------------------------------------------------


def test_captured_values_are_the_contributions(tiny: Engine, reference: Any):
    pick = random.Random(3)
    first, _ = sets(tiny)
    requests = []
    for k, prompt in enumerate(prompts(12, longest=40, seed=2)):
        regions = tuple(
            tuple(sorted(pick.sample(range(len(prompt)), pick.randint(1, len(prompt))))) for _ in range(1 + k % 3)
        )
        requests.append(
            CaptureRequest(
                prompt,
                regions,
                reduce="max" if k % 4 == 3 else "mean",
                response_from=[None, 0, len(prompt) // 2, len(prompt)][k % 4],
                intervention=Intervention(first if k % 5 == 0 else None, [0.0, 2.0][k % 2]),
            )
        )
    captured = [future.result(TIMEOUT) for future in [tiny.capture(request) for request in requests]]
    for request, one in zip(requests, captured, strict=True):
        ids = torch.tensor([request.tokens])
        mask = torch.zeros(1, len(request.regions), len(request.tokens), dtype=torch.bool)
        for number, region in enumerate(request.regions):
            mask[0, number, list(region)] = True
        neurons = request.intervention.neurons or NeuronSet.from_flat([], tiny.layout)
        with scaled(reference, neurons, request.intervention.alpha), torch.no_grad():
            expected = contributions(reference, ids, torch.ones_like(ids), mask, reduce=request.reduce)[0]
            output = reference(ids, output_hidden_states=True)
            logprobs = output.logits[0].log_softmax(-1)
        assert one.contributions.shape == (len(request.regions), tiny.layout.total)
        assert_same_contributions(one.contributions, expected, tiny.layout, reference.config, len(request.tokens))
        if request.response_from is None:
            assert one.logprobs is None
            assert one.entropies is None
            assert one.hidden is None
            continue
        assert one.logprobs is not None
        assert one.entropies is not None
        begin = max(request.response_from, 1)
        own = [float(logprobs[t - 1, request.tokens[t]]) for t in range(begin, len(request.tokens))]
        np.testing.assert_allclose(one.logprobs, own, rtol=1e-4, atol=1e-4)
        entropies = -(logprobs.exp() * logprobs).sum(-1)[begin - 1 : len(request.tokens) - 1]
        np.testing.assert_allclose(one.entropies, entropies.numpy(), rtol=1e-4, atol=1e-4)
        inside = min(request.regions[0]) >= request.response_from
        assert (one.hidden is not None) == inside
        if one.hidden is not None:
            hidden = output.hidden_states[-1][0, list(request.regions[0])].mean(dim=0)
            np.testing.assert_allclose(one.hidden, hidden.numpy(), rtol=1e-4, atol=1e-5)


def test_capture_of_the_bundled_model(bundled_engine: Engine):
    ids = tuple(bundled_engine.tokenizer("The capital of France is Paris.").input_ids)
    one = bundled_engine.capture(CaptureRequest(ids, ((len(ids) - 2,), (0, 1, 2)), response_from=0)).result(TIMEOUT)
    mask = torch.zeros(1, 2, len(ids), dtype=torch.bool)
    mask[0, 0, -2] = mask[0, 1, :3] = True
    given = torch.tensor([ids])
    expected = bundled_engine.call(lambda m: contributions(m, given, torch.ones_like(given), mask)).result(TIMEOUT)
    assert one.contributions.shape == (2, 46080)
    config = bundled_engine.model.config
    assert_same_contributions(one.contributions, expected[0], bundled_engine.layout, config, len(ids))
    assert one.logprobs is not None
    assert len(one.logprobs) == len(ids) - 1
    assert one.logprobs[-2] > -3  # Paris


def test_capture_and_generation_share_the_engine(narrow: Engine):
    requests = varied(narrow)
    capture = CaptureRequest(requests[0].prompt * 2, ((0,),))
    expected, value = alone(narrow, requests), narrow.capture(capture).result(TIMEOUT).contributions
    futures = []
    for request in requests:
        futures.append((narrow.generate(request), narrow.capture(capture)))
    assert [generated.result(TIMEOUT) for generated, _ in futures] == expected
    for _, captured in futures:
        found = captured.result(TIMEOUT).contributions
        assert_same_contributions(found, value, narrow.layout, narrow.model.config, len(capture.tokens))


# --- what goes wrong ---------------------------------------------------------------------------------------


def test_a_cancelled_answer_does_not_disturb_the_others(narrow: Engine):
    requests = varied(narrow)
    expected = alone(narrow, requests)
    long = [GenerateRequest(prompt, 40, WARM) for prompt in prompts(6, seed=9)]
    futures = []
    for k, request in enumerate(requests):
        futures.append(narrow.generate(request))
        if k < len(long):
            doomed = narrow.generate(long[k])
            if k % 2:
                doomed.cancel()
            else:
                threading.Timer(0.01 * k, doomed.cancel).start()
    assert [future.result(TIMEOUT) for future in futures] == expected
    gone = narrow.generate(long[0])
    assert gone.cancel()
    with pytest.raises(CancelledError):
        gone.result(TIMEOUT)
    assert alone(narrow, requests[:1]) == expected[:1]


BAD_GENERATIONS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ()}, "no tokens"),
    ({"prompt": (1, 49152)}, "token 49152 is not one of the model's 49152"),
    ({"prompt": (-1, 1)}, "token -1"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": 49153}, "top_logprobs"),
    ({"stop": ("x", "")}, "empty"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_GENERATIONS)
def test_bad_requests_are_refused_at_once(tiny: Engine, changes: dict[str, Any], message: str):
    request = GenerateRequest(
        **{"prompt": (5, 6), "max_tokens": 3, "intervention": Intervention(sets(tiny)[0])} | changes
    )
    with pytest.raises(ValueError, match=message):
        tiny.generate(request)


BAD_CAPTURES: list[tuple[dict[str, Any], str]] = [
    ({"regions": ()}, "no regions"),
    ({"regions": ((0,), ())}, "region 1 has no tokens"),
    ({"regions": ((0, 3),)}, "outside the 3 tokens"),
    ({"regions": ((-1,),)}, "outside the 3 tokens"),
    ({"tokens": ()}, "outside the 0 tokens"),
    ({"tokens": (5, 6, 49152)}, "token 49152"),
    ({"tokens": (5,) * 65}, "the context holds 64"),
    ({"reduce": "median"}, "mean, max"),
    ({"response_from": -1}, "response_from"),
    ({"response_from": 4}, "response_from"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CAPTURES)
def test_bad_captures_are_refused_at_once(tiny: Engine, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        tiny.capture(CaptureRequest(**{"tokens": (5, 6, 7), "regions": ((0,),)} | changes))


def test_neurons_of_another_model_are_refused(tiny: Engine, bundled_engine: Engine):
    strangers = sets(bundled_engine)[0]
    for ask in (
        lambda: tiny.generate(GenerateRequest((5,), 3, intervention=Intervention(strangers))),
        lambda: tiny.capture(CaptureRequest((5,), ((0,),), intervention=Intervention(strangers))),
    ):
        with pytest.raises(NeuronSetError, match=r"30 layers x 1536 .* 3 layers x 40"):
            ask()


def test_draws_are_computed_once_while_they_are_alike(tiny_checkpoint: MakeCheckpoint):
    engine = start(tiny_checkpoint())
    rows: list[int] = []
    handle = engine.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    prompt = prompts(1)[0]
    said = results(engine, [GenerateRequest(prompt, 6, SamplingOptions(0.15), sample=k) for k in range(12)])
    handle.remove()
    alike = [len({one.tokens[:length] for one in said}) for length in range(6)]
    assert rows[1:] == alike
    assert alike[0] == 1
    assert 1 < alike[-1] < 12  # or there would be nothing to see


def test_a_failing_step_fails_its_rows_and_the_engine_goes_on(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    engine = start(tiny_checkpoint())
    requests = varied(engine)
    expected = results(engine, requests)
    forward, calls = engine.model.forward, []
    for failing in (1, 3):

        def fails(*args: Any, failing: int = failing, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == failing:
                raise RuntimeError("broken")
            return forward(*args, **kwargs)

        calls.clear()
        monkeypatch.setattr(engine.model, "forward", fails)
        futures = [engine.generate(request) for request in requests]
        outcomes = [future.exception(TIMEOUT) for future in futures]
        assert any(isinstance(outcome, RuntimeError) for outcome in outcomes)
        assert [f.result() for f, o in zip(futures, outcomes, strict=True) if o is None] == [
            said for said, outcome in zip(expected, outcomes, strict=True) if outcome is None
        ]
        monkeypatch.undo()
        assert results(engine, requests) == expected


def test_a_failing_prefill_and_a_failing_capture(tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch):
    engine, request = start(tiny_checkpoint()), GenerateRequest(prompts(1)[0] + (5, 6), 4)
    decoder = engine.model.get_decoder()

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(decoder, "forward", fails)
    assert isinstance(engine.generate(request).exception(TIMEOUT), RuntimeError)
    capture = CaptureRequest(request.prompt, ((0,),))
    assert isinstance(engine.capture(capture).exception(TIMEOUT), RuntimeError)
    monkeypatch.undo()
    assert len(engine.generate(request).result(TIMEOUT).tokens) == 4
    assert engine.capture(capture).result(TIMEOUT).contributions.any()
    hooked = engine.call(lambda model: sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()))
    assert hooked.result(TIMEOUT) == 0


def out_of_memory_on(forward: Callable[..., Any], rows: int, calls: list[int]) -> Callable[..., Any]:
    """A forward that has memory for fewer than `rows` rows."""

    def limited(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(kwargs["input_ids"]))
        if calls[-1] >= rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    return limited


@pytest.mark.parametrize("where", ["decoder", "model"], ids=["prefill", "step"])
@pytest.mark.parametrize("rows", [2, 5])
def test_a_batch_that_runs_out_of_memory_is_split(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, where: str, rows: int
):
    engine = start(tiny_checkpoint())
    requests = varied(engine)
    expected = alone(engine, requests)
    engine = start(tiny_checkpoint())
    module, calls = engine.model if where == "model" else engine.model.get_decoder(), []
    monkeypatch.setattr(module, "forward", out_of_memory_on(module.forward, rows, calls))
    assert results(engine, requests) == expected
    assert max(calls) >= rows  # or nothing would have been tried
    assert sum(call >= rows for call in calls) < 8  # the batch stays small


def test_memory_that_runs_out_after_the_forward_pass_loses_nothing(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    engine = start(tiny_checkpoint())
    requests = varied(engine)
    expected = alone(engine, requests)
    failures = []

    def limited(logits: torch.Tensor, *args: Any) -> torch.Tensor:
        if len(logits) > 4:
            failures.append(len(logits))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return choose(logits, *args)

    monkeypatch.setattr(decoding, "choose", limited)
    assert results(engine, requests) == expected
    assert failures


def test_a_request_too_large_for_the_memory_fails_alone(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    engine = start(tiny_checkpoint())
    requests = varied(engine)
    expected = alone(engine, requests)
    forward = engine.model.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        if (kwargs["position_ids"] == 40).any():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", limited)
    doomed = engine.generate(GenerateRequest(prompts(1)[0], 60))
    assert [future.result(TIMEOUT) for future in [engine.generate(request) for request in requests]] == expected
    assert isinstance(doomed.exception(TIMEOUT), torch.OutOfMemoryError)


def test_a_capture_that_runs_out_of_memory_is_split(tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch):
    engine = start(tiny_checkpoint())
    requests = [CaptureRequest((*prompt, 5, 6), ((len(prompt),), (0,))) for prompt in prompts(9)]
    expected = [engine.capture(request).result(TIMEOUT).contributions for request in requests]
    decoder, calls = engine.model.get_decoder(), []
    monkeypatch.setattr(decoder, "forward", out_of_memory_on(decoder.forward, 3, calls))
    for future, value in zip([engine.capture(request) for request in requests], expected, strict=True):
        assert_same_contributions(future.result(TIMEOUT).contributions, value, engine.layout, engine.model.config, 22)
    assert max(calls) >= 3


def test_a_failing_call_fails_alone(tiny: Engine):
    failing = tiny.call(lambda model: 1 // 0)
    assert isinstance(failing.exception(TIMEOUT), ZeroDivisionError)
    name = tiny.call(lambda model: threading.current_thread().name).result(TIMEOUT)
    assert name.startswith("hneurons-engine")


def test_the_weights_are_as_loaded_after_all_this(tiny: Engine, reference: Any):
    results(tiny, varied(tiny))
    state = tiny.call(lambda model: {k: v.clone() for k, v in model.state_dict().items()}).result(TIMEOUT)
    assert all(torch.equal(value, state[name]) for name, value in reference.state_dict().items())


# --- one engine for all ------------------------------------------------------------------------------------


def test_get_engine_shares_an_engine_among_those_who_ask_for_the_same(tiny_checkpoint: MakeCheckpoint):
    path = tiny_checkpoint()

    def ask(name: str = str(path), **changes: Any) -> Engine:
        return get_engine(name, **{"dtype": "float32", "device": "cpu", "threads": 1} | changes)

    first, half = ask(), ask(dtype="bfloat16")
    assert ask() is ask(f"{path.parent}/./{path.name}") is first
    others = [half, ask(threads=2), ask(trust_remote_code=True), ask(deterministic=True)]
    assert len({id(engine) for engine in [first, *others]}) == 5
    assert (first.dtype, half.dtype) == ("float32", "bfloat16")
    assert (first.layout.widths, first.context, first.threads) == ((40, 40, 40), 64, 1)
    assert others[1].threads == 2


def test_many_threads_get_the_same_engine(tiny_checkpoint: MakeCheckpoint):
    path, found = str(tiny_checkpoint("qwen3")), []
    threads = [
        threading.Thread(target=lambda: found.append(get_engine(path, dtype="float32", device="cpu", threads=1)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(found) == 6
    assert len(set(map(id, found))) == 1


def test_a_bfloat16_engine_repeats_itself(tiny_checkpoint: MakeCheckpoint):
    engine = get_engine(str(tiny_checkpoint()), dtype="bfloat16", device="cpu", threads=1)
    requests = varied(engine)
    assert results(engine, requests) == results(engine, requests)


def test_what_cannot_be_loaded_is_refused(tiny_checkpoint: MakeCheckpoint, tmp_path: Path):
    with pytest.raises(ValueError, match="dtype should be"):
        Engine(str(tiny_checkpoint()), dtype="int8")
    with pytest.raises(CheckpointError, match="no model directory"):
        get_engine(str(tmp_path / "nothing"))
    with pytest.raises(UnsupportedModelError, match="Mamba"):
        get_engine(str(tiny_checkpoint("mamba")))


# --- deterministic -----------------------------------------------------------------------------------------


def test_a_deterministic_bfloat16_engine_says_the_same_whatever_else_runs(tiny_checkpoint: MakeCheckpoint):
    engine = Engine(str(tiny_checkpoint()), dtype="bfloat16", device="cpu", threads=1, deterministic=True)
    rows: list[int] = []
    handle = engine.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    requests = [replace(request, top_logprobs=0) for request in varied(engine)]
    expected = alone(engine, requests)
    order = list(range(len(requests)))
    random.Random(1).shuffle(order)
    shuffled = results(engine, [requests[k] for k in order])
    assert [shuffled[order.index(k)] for k in range(len(order))] == expected  # log-probabilities to the last bit
    captures = [CaptureRequest((*request.prompt, 5, 6), ((0, 1),), response_from=1) for request in requests]
    first = [engine.capture(capture).result(TIMEOUT) for capture in captures]
    for future, one in zip([engine.capture(capture) for capture in captures[::-1]], first[::-1], strict=True):
        again = future.result(TIMEOUT)
        assert np.array_equal(again.contributions, one.contributions)
        assert np.array_equal(again.logprobs, one.logprobs)  # pyright: ignore[reportArgumentType]
    handle.remove()
    assert set(rows) == {1}
    assert get_engine(str(tiny_checkpoint()), dtype="bfloat16", device="cpu", threads=1) is not get_engine(
        str(tiny_checkpoint()), dtype="bfloat16", device="cpu", threads=1, deterministic=True
    )


def test_a_model_spread_by_accelerate_is_run(tiny_checkpoint: MakeCheckpoint, reference: Any):
    engine = Engine(str(tiny_checkpoint()), dtype="float32", device="auto", threads=1)
    prompt = prompts(1)[0]
    assert engine.generate(GenerateRequest(prompt, 6)).result(TIMEOUT).tokens == greedy(reference, prompt, 6)


@pytest.mark.parametrize(
    "what", ["generate(GenerateRequest((5, 6), 60, sample=k))", "capture(CaptureRequest((5,) * 60, ((0,),)))"]
)
@pytest.mark.parametrize("number", [1, 600])
def test_a_program_may_end_whether_the_engine_is_busy_or_idle(tiny_checkpoint: MakeCheckpoint, what: str, number: int):
    code = (
        "from hneurons_eval.engine.engine import CaptureRequest, Engine, GenerateRequest; "
        f"engine = Engine({str(tiny_checkpoint())!r}, device='cpu', threads=1, max_rows=4); "
        f"futures = [engine.{what} for k in range({number})]; futures[0].result()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, "terminate" in done.stderr) == (0, False), done.stderr
