"""The engine keeps within the memory that it finds free, whatever the lengths of prompts and answers."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hneurons_eval.engine import decode_loop as decoding
from hneurons_eval.engine import engine as engines
from hneurons_eval.engine import kv_cache as row_cache
from hneurons_eval.engine.engine import Engine, GenerateRequest, Generation
from hneurons_eval.engine.prefix_cache import PromptKey
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.engine.scheduler import Draw, MemoryPlan, Waiting, first_tokens
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.memory import check_room

MakeCheckpoint = Callable[..., Path]
TIMEOUT = 120
MIB = 2**20
WIDE = {
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 64,
    "num_hidden_layers": 4,
    "max_position_embeddings": 1024,
}
"""A model with 32 KiB of keys and values a token, and little else."""

ANY_RUN = 64 * MIB
"""What a run takes beside keys, values and records, however small its load: logits, sorting, the allocator."""

RUN = """
import random, sys, threading
import psutil
from hneurons_eval.engine import engine as engines
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.engine.requests import AnswerCapture, GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions

path, spare, count, shortest, longest, tokens, capture = sys.argv[1], *map(int, sys.argv[2:])
engines._spare_bytes = lambda device: spare
engine = engines.Engine(path, dtype="float32", device="cpu", threads=1)
pick = random.Random(0)
lengths = [int(shortest * (longest / shortest) ** pick.random()) for _ in range(count)]
sets = [NeuronSet.from_flat(range(first, engine.layout.total, 8), engine.layout) for first in range(8)]
requests = [
    GenerateRequest(
        tuple(pick.randrange(3, 49152) for _ in range(length)), tokens, SamplingOptions(0.7),
        neurons=neurons, alpha=2.0,
        capture=AnswerCapture(lambda text: (0, len(text)), "mean", other=True) if capture else None,
    )
    for length in lengths for neurons in sets
]
memory, done, seen = psutil.Process().memory_info, threading.Event(), []
before = memory().rss
def watch():
    while not done.wait(0.003):
        seen.append(memory().rss)
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
answers = [future.result() for future in [engine.generate(request) for request in requests]]
assert all(len(answer.tokens) == tokens or answer.stop_reason == "stop" for answer in answers)
done.set()
watcher.join()
print(max(seen) - before)
"""


@pytest.mark.parametrize(
    ("prompts", "shortest", "longest", "tokens", "capture"),
    [(16, 20, 300, 8, 0), (8, 20, 100, 24, 1)],
    ids=["mixed-prompts", "captures"],
)
def test_a_load_of_many_times_the_memory_stays_within_it(
    tiny_checkpoint: MakeCheckpoint, prompts: int, shortest: int, longest: int, tokens: int, capture: int
):
    spare = 192 * MIB
    arguments = [prompts, shortest, longest, tokens, capture]
    path = tiny_checkpoint("llama", **WIDE)
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(spare), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < spare + ANY_RUN


def test_answers_longer_than_was_thought_make_the_batch_smaller_once(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    path = tiny_checkpoint("llama", **WIDE)
    monkeypatch.setattr(decoding, "LIKELY_TOKENS", 8)
    monkeypatch.setattr(engines, "_spare_bytes", lambda device: 32 * MIB)
    evict, evicted, most = decoding.Batch._evict, [], []

    def counted(batch: decoding.Batch, lanes: list[int]) -> None:
        evicted.append(lanes)
        most.append(batch._cache.nbytes)
        evict(batch, lanes)

    monkeypatch.setattr(decoding.Batch, "_evict", counted)
    engine = start(path)
    requests = [
        replace(request, max_tokens=60, prompt=request.prompt[:5], sampling=SamplingOptions())
        for request in requests_of(engine) * 2
    ]
    assert answers(engine, requests) == [answers(engine, [request])[0] for request in requests]
    assert 1 <= len(evicted) <= 3
    assert max(most) < 1.6 * 8 * MIB  # a quarter of what is free, half as much again, and one step


# --- the plan -----------------------------------------------------------------------------------------------


def draw(length: int, limit: int = 10) -> Draw:
    return Draw(GenerateRequest((5,) * length, limit), Any, limit, "max_tokens")  # pyright: ignore


def test_a_plan_counts_the_rectangle():
    plan = MemoryPlan(token_bytes=2, record_bytes=100, likely=8, columns=0)
    assert plan.fitting(draw(12), 400) == 10  # 12 + 8 columns of 2 bytes
    plan.add(draw(12), 4)
    assert plan.fitting(draw(2), 400) == 6  # a short row is as wide as the others
    # A long row widens those that are there.
    assert plan.fitting(draw(42), 400) == 0
    assert plan.fitting(draw(42), 500) == 1
    running = MemoryPlan(token_bytes=2, record_bytes=100, likely=8, columns=50)
    assert running.fitting(draw(12), 400) == 4  # columns in use


def test_those_alike_in_length_begin_together_and_the_oldest_first():
    waiting = Waiting()
    for length in (50, 10, 60, 49, 11, 200):
        waiting.add(PromptKey((5,) * length, 0), [draw(length)])
    order = [len(key.tokens) for key, _ in waiting.alike(10)]
    assert order[0] == 50
    assert [abs(length - 50) for length in order] == sorted(abs(length - 50) for length in order)
    assert {len(key.tokens) for key, _ in waiting.alike(3)} == {50, 10, 60}  # those that came first


# --- a machine whose memory runs out -----------------------------------------------------------------------


def requests_of(engine: Engine) -> list[GenerateRequest]:
    neurons = NeuronSet.from_flat(np.arange(0, engine.layout.total, 3), engine.layout)
    return [
        GenerateRequest(
            tuple(range(3 + k, 3 + k + 5 * (1 + k % 4))), 12, SamplingOptions(0.7), seed=k, neurons=neurons, alpha=k % 3
        )
        for k in range(16)
    ]


def answers(engine: Engine, requests: list[GenerateRequest]) -> list[Generation]:
    return [future.result(TIMEOUT) for future in [engine.generate(request) for request in requests]]


def start(path: Path) -> Engine:
    return Engine(str(path), dtype="float32", device="cpu", threads=1)


def test_a_batch_for_which_memory_lacks_is_made_smaller(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    path = tiny_checkpoint("llama", **WIDE)
    expected = answers(start(path), requests_of(start(path)))
    asked: list[int] = []

    def limited(needed: int, what: str, instead: str) -> None:
        asked.append(needed)
        if needed > 5 * MIB:
            raise MemoryError(what)

    monkeypatch.setattr(row_cache, "check_room", limited)
    engine = start(path)
    assert answers(engine, requests_of(engine)) == expected
    assert max(asked) > 5 * MIB  # or nothing would have been refused


def test_a_row_for_which_memory_lacks_fails_alone_and_says_so(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    path = tiny_checkpoint("llama", **WIDE)
    engine = start(path)
    expected = answers(engine, requests_of(engine))
    engine = start(path)
    monkeypatch.setattr("hneurons_eval.util.memory.available", lambda: 8 * MIB)
    doomed = engine.generate(GenerateRequest(tuple(range(3, 603)), 12))
    assert answers(engine, requests_of(engine)) == expected
    with pytest.raises(MemoryError, match=r"keys and values would take .* GiB of memory, and 0\.00781 GiB are free; "):
        doomed.result(TIMEOUT)


def test_what_is_refused_counts_as_memory_that_ran_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hneurons_eval.util.memory.available", lambda: 2**30)
    check_room(2**30, "keys and values", "wait")
    with pytest.raises(MemoryError, match=r"keys and values would take 2 GiB of memory, and 1 GiB are free") as caught:
        check_room(2**31, "keys and values", "wait")
    assert decoding.is_out_of_memory(caught.value)
    assert decoding.is_out_of_memory(MemoryError())


def test_lanes_join_in_parts():
    lanes = [decoding.Lane([draw(n)], PromptKey((5,) * n, 0), n, 5, [], []) for n in (10, 10, 20, 90)]
    assert first_tokens(lanes, 40) == lanes[:3]
    assert first_tokens(lanes, 39) == lanes[:2]
    assert first_tokens(lanes[3:], 40) == lanes[3:]  # at least one
