"""Contributions taken while an answer is generated are those of a pass over prompt and answer."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hneurons_eval.engine import decode_loop as decoding
from hneurons_eval.engine.activation_records import ActivationRecord, compact
from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.offsets import decode, sampled_offsets
from hneurons_eval.engine.requests import AnswerCapture, GenerateRequest, Generation
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.judging.spans import token_positions
from hneurons_eval.models.checkpoints import load_model, load_tokenizer
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import BASELINE, Intervention, scaled

MakeCheckpoint = Callable[..., Path]
TIMEOUT = 60
KINDS = ["llama", "gemma2", "gpt2", "mixtral", "qwen2_moe", "gpt_oss", "deepseek_v3"]


def middle(text: str) -> tuple[int, int] | None:
    """The middle half of a text."""
    return (len(text) // 4, max(len(text) // 4 + 1, 3 * len(text) // 4)) if text else None


def requests(engine: Engine, count: int = 14) -> list[GenerateRequest]:
    pick = random.Random(5)
    start = tuple(pick.randrange(3, 49152) for _ in range(9))
    asked = [start + tuple(pick.randrange(3, 49152) for _ in range(pick.randint(1, 7))) for _ in range(5)]
    some = NeuronSet.from_flat(np.arange(0, engine.layout.total, 3), engine.layout)
    return [
        GenerateRequest(
            asked[k % 5],
            3 + k % 6,
            [SamplingOptions(), SamplingOptions(0.2), SamplingOptions(1.0, top_k=50)][k % 3],
            sample=k,
            top_logprobs=[None, 0][k % 2],
            intervention=Intervention(some, 2.0) if k % 4 == 1 else BASELINE,
            capture=None if k % 7 == 6 else AnswerCapture(middle, ("mean", "max")[k % 5 == 2], other=k % 2 == 0),
        )
        for k in range(count)
    ]


def results(engine: Engine, asked: list[GenerateRequest]) -> list[Generation]:
    return [future.result(TIMEOUT) for future in [engine.generate(request) for request in asked]]


def check(model: Any, tokenizer: Any, request: GenerateRequest, said: Generation) -> None:
    """Against a pass over prompt and sampled tokens."""
    if request.capture is None:
        assert said.captured is None
        return
    assert said.captured is not None
    count = said.captured.response_tokens
    offsets = sampled_offsets(tokenizer, said.tokens, said.text)
    assert said.captured.span == middle(said.text)
    assert said.captured.span is not None
    assert list(said.captured.answer) == token_positions(offsets[:count], said.captured.span)
    ids = torch.tensor([request.prompt + said.tokens[:count]])
    answer = [len(request.prompt) + place for place in said.captured.answer]
    regions = torch.zeros(1, 3, ids.shape[1], dtype=torch.bool)
    regions[0, 0, answer] = True
    regions[0, 1] = ~regions[0, 0]
    regions[0, 2, : len(request.prompt)] = True
    neurons = request.intervention.neurons or NeuronSet(np.array([], np.int64), np.array([], np.int64))
    with scaled(model, neurons, request.intervention.alpha):
        expected = contributions(model, ids, torch.ones_like(ids), regions, reduce=request.capture.reduce)[0]
        with torch.no_grad():
            output = model(ids, output_hidden_states=True)
    assert said.captured.contributions is not None
    count = 3 if request.capture.other else 1
    assert len(said.captured.contributions) == count
    np.testing.assert_allclose(said.captured.contributions, expected[:count].numpy(), rtol=1e-3, atol=1e-5)
    assert said.captured.hidden is not None
    hidden = output.hidden_states[-1][0, answer].mean(dim=0)
    np.testing.assert_allclose(said.captured.hidden, hidden.numpy(), rtol=1e-3, atol=1e-4)
    if said.logprobs is not None:
        shares = output.logits[0].double().log_softmax(dim=-1)
        for place in range(said.captured.response_tokens):
            own = shares[len(request.prompt) + place - 1]
            assert said.logprobs[place].entropy == pytest.approx(float(-(own.exp() * own).sum()), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_a_pass_over_prompt_and_answer(tiny_checkpoint: MakeCheckpoint, kind: str):
    path = tiny_checkpoint(kind)
    engine = Engine(str(path), dtype="float32", device="cpu", threads=1, max_rows=6)
    model = load_model(path, dtype="float32")
    asked = requests(engine)
    plain = results(engine, [replace(request, capture=None) for request in asked])
    for said in (results(engine, asked), results(engine, asked)):  # the second time from remembered prompts
        for request, one, alone in zip(asked, said, plain, strict=True):
            assert (one.tokens, one.text, one.stop_reason) == (alone.tokens, alone.text, alone.stop_reason)
            check(model, engine.tokenizer, request, one)


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Engine:
    return Engine(str(tiny_checkpoint()), dtype="float32", device="cpu", threads=1)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: MakeCheckpoint) -> Any:
    return load_model(tiny_checkpoint(), dtype="float32")


def test_an_answer_that_ends_by_itself_or_at_a_stop_sequence(tiny: Engine, reference: Any, monkeypatch: Any):
    capture = AnswerCapture(middle, other=True)
    request = GenerateRequest(tuple(range(5, 17)), 8, capture=capture)
    whole = tiny.generate(request).result(TIMEOUT)
    for stop in (whole.text[4:6], whole.text[-2:]):
        cut = replace(request, stop=(stop,))
        said = tiny.generate(cut).result(TIMEOUT)
        assert said.stop_reason == "stop"
        assert said.text == whole.text[: whole.text.find(stop)]
        check(reference, tiny.tokenizer, cut, said)
    monkeypatch.setattr(tiny.decoding, "end_tokens", frozenset({whole.tokens[4]}))
    said = tiny.generate(request).result(TIMEOUT)
    assert said.tokens == whole.tokens[: whole.tokens.index(whole.tokens[4]) + 1]


def test_a_full_context_and_an_empty_answer(tiny: Engine, reference: Any, monkeypatch: Any):
    capture = AnswerCapture(middle, other=True)
    long = GenerateRequest((7,) * 60, 50, capture=capture)
    said = tiny.generate(long).result(TIMEOUT)
    assert said.stop_reason == "model_length"
    assert len(said.tokens) == 4
    check(reference, tiny.tokenizer, long, said)
    assert tiny.generate(replace(long, prompt=(7,) * 64)).result(TIMEOUT).captured is None
    short = GenerateRequest((9, 8, 7), 8, capture=capture)
    first = tiny.generate(short).result(TIMEOUT).tokens[0]
    monkeypatch.setattr(tiny.decoding, "end_tokens", frozenset({first}))
    tokenizer: Any = tiny.tokenizer
    monkeypatch.setattr(
        decoding, "decode", lambda _, tokens: "" if list(tokens) == [first] else decode(tokenizer, tokens)
    )
    empty = tiny.generate(short).result(TIMEOUT)
    assert empty.text == ""
    assert empty.captured is not None
    assert (empty.captured.span, empty.captured.answer, empty.captured.contributions) == (None, (), None)


def test_a_span_function_that_fails_fails_its_own_request(tiny: Engine):
    def broken(text: str) -> None:
        raise KeyError("no span")

    good = GenerateRequest((5, 6, 7), 5, SamplingOptions(1.0), capture=AnswerCapture(middle))
    alone = tiny.generate(good).result(TIMEOUT)
    futures = [tiny.generate(replace(good, sample=9, capture=AnswerCapture(broken))), tiny.generate(good)]
    assert isinstance(futures[0].exception(TIMEOUT), KeyError)
    assert futures[1].result(TIMEOUT) == alone


def test_memory_that_runs_out_while_capturing(tiny_checkpoint: MakeCheckpoint, reference: Any, monkeypatch: Any):
    engine = Engine(str(tiny_checkpoint()), dtype="float32", device="cpu", threads=1)
    asked, forward = requests(engine, 20), engine.model.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(engine.model, "forward", limited)
    for request, said in zip(asked, results(engine, asked), strict=True):
        check(reference, engine.tokenizer, request, said)


def test_records_that_are_mostly_unused_are_cut():
    records = [ActivationRecord(torch.arange(8.0)[:, None] + 10 * k, torch.ones(8, 1), (), None) for k in range(3)]
    sequences = [[(record, row) for record in records] for row in (1, 6)]
    sequences.append([(records[0], 3), (records[1], 3)])
    sequences.append([(records[0], 1), (records[0], 4), (records[0], 5)])
    before = [[float(record.z[row]) for record, row in activations] for activations in sequences]
    compact(sequences)
    assert [[float(record.z[row]) for record, row in activations] for activations in sequences] == before
    assert sequences[0][0][0] is records[0]  # five of its eight rows are in use
    assert len(sequences[0][1][0].z) == 3
    assert len(sequences[1][2][0].z) == 2


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("smollm2-135m-instruct")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_offsets_of_sampled_tokens_cover_the_text(tokenizer: Any, data: st.DataObject):
    """Whatever was sampled: starts ascend, every character belongs to a token, and a token's own text is there."""
    words = st.sampled_from(["é", "🙂", "東京", "Paris", " is", " the", "\n", "👨‍👩‍👧", " ", "1995", "’", "�"])
    pieces = st.lists(st.one_of(words, st.text(max_size=4)), max_size=6).map("".join)
    text = data.draw(pieces)
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    if data.draw(st.booleans()):  # one token a byte or so, as sampling may put them
        tokens = [token for character in text for token in tokenizer(character, add_special_tokens=False).input_ids]
    tokens = tokens[: data.draw(st.integers(0, len(tokens)))] + data.draw(st.sampled_from([[], [2], [2, 2]]))
    said = decode(tokenizer, tokens)
    offsets = sampled_offsets(tokenizer, tokens, said)
    assert len(offsets) == len(tokens)
    covered: set[int] = set()
    for (start, end), (after, _) in zip(offsets, [*offsets, (len(said), 0)][1:], strict=True):
        assert 0 <= start <= end
        assert start <= after
        covered |= set(range(start, end))
    assert covered >= set(range(len(said)))
    for token, (start, end) in zip(tokens, offsets, strict=True):
        alone = decode(tokenizer, [token])
        if "�" not in alone and "�" not in said:
            assert said[start:end] == alone
