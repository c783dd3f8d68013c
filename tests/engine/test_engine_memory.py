"""The engine keeps within the memory that it finds free, whatever the lengths of prompts and answers."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hneurons_eval.engine import decode_loop, kv_cache
from hneurons_eval.engine import engine as engines
from hneurons_eval.engine.device_errors import is_out_of_memory, is_unrecoverable
from hneurons_eval.engine.engine import CaptureRequest, Engine, GenerateRequest, Generation
from hneurons_eval.engine.prefix_cache import PromptKey
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.engine.scheduler import MemoryPlan, PendingSample, RunningSequence, WaitingSamples, first_tokens
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import Intervention
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
from hneurons_eval.models.scaling import Intervention
from hneurons_eval.engine.requests import AnswerCapture, GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions

path, spare, count, shortest, longest, tokens, capture = sys.argv[1], *map(int, sys.argv[2:])
engines.spare_bytes = lambda device: spare
engine = engines.Engine(path, dtype="float32", device="cpu", threads=1)
pick = random.Random(0)
lengths = [int(shortest * (longest / shortest) ** pick.random()) for _ in range(count)]
sets = [NeuronSet.from_flat(range(first, engine.layout.total, 8), engine.layout) for first in range(8)]
requests = [
    GenerateRequest(
        tuple(pick.randrange(3, 49152) for _ in range(length)), tokens, SamplingOptions(0.7),
        intervention=Intervention(neurons, 2.0),
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
    monkeypatch.setattr(decode_loop, "LIKELY_TOKENS", 8)
    monkeypatch.setattr(engines, "spare_bytes", lambda device: 32 * MIB)
    evict, evicted, most = decode_loop.Batch._evict, [], []

    def counted(batch: decode_loop.Batch, numbers: list[int]) -> None:
        evicted.append(numbers)
        most.append(batch._cache.nbytes)
        evict(batch, numbers)

    monkeypatch.setattr(decode_loop.Batch, "_evict", counted)
    engine = start(path)
    requests = [
        replace(request, max_tokens=60, prompt=request.prompt[:5], sampling=SamplingOptions())
        for request in requests_of(engine) * 2
    ]
    assert answers(engine, requests) == [answers(engine, [request])[0] for request in requests]
    assert 1 <= len(evicted) <= 3
    assert max(most) < 1.6 * 8 * MIB  # a quarter of what is free, half as much again, and one step


# --- the plan -----------------------------------------------------------------------------------------------


def sample(length: int, limit: int = 10) -> PendingSample:
    return PendingSample(GenerateRequest((5,) * length, limit), Any, limit, "max_tokens")  # pyright: ignore


def test_a_plan_counts_the_rectangle():
    plan = MemoryPlan(token_bytes=2, record_bytes=100, likely=8, columns=0)
    assert plan.fitting(sample(12), 400) == 10  # 12 + 8 columns of 2 bytes
    plan.add(sample(12), 4)
    assert plan.fitting(sample(2), 400) == 6  # a short row is as wide as the others
    # A long row widens those that are there.
    assert plan.fitting(sample(42), 400) == 0
    assert plan.fitting(sample(42), 500) == 1
    running = MemoryPlan(token_bytes=2, record_bytes=100, likely=8, columns=50)
    assert running.fitting(sample(12), 400) == 4  # columns in use


def test_those_alike_in_length_begin_together_and_the_oldest_first():
    waiting = WaitingSamples()
    for length in (50, 10, 60, 49, 11, 200):
        waiting.add(PromptKey((5,) * length, 0), [sample(length)])
    order = [len(key.tokens) for key, _ in waiting.alike(10)]
    assert order[0] == 50
    assert [abs(length - 50) for length in order] == sorted(abs(length - 50) for length in order)
    assert {len(key.tokens) for key, _ in waiting.alike(3)} == {50, 10, 60}  # those that came first


# --- a machine whose memory runs out -----------------------------------------------------------------------


def requests_of(engine: Engine) -> list[GenerateRequest]:
    neurons = NeuronSet.from_flat(np.arange(0, engine.layout.total, 3), engine.layout)
    return [
        GenerateRequest(
            tuple(range(3 + k, 3 + k + 5 * (1 + k % 4))),
            12,
            SamplingOptions(0.7),
            seed=k,
            intervention=Intervention(neurons, k % 3),
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

    monkeypatch.setattr(kv_cache, "check_room", limited)
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


def test_many_samples_of_one_prompt_that_do_not_fit_together_run_in_parts(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
):
    path = tiny_checkpoint("llama", **WIDE)
    requests = [GenerateRequest((5, 6, 7), 8, SamplingOptions(1.0), sample=k) for k in range(12)]
    expected = answers(start(path), requests)
    reserve, tried = kv_cache.KVCache.reserve, []

    def limited(cache: kv_cache.KVCache, rows: int, longest: int, ahead: int) -> None:
        tried.append(rows)
        if rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        reserve(cache, rows, longest, ahead)

    monkeypatch.setattr(kv_cache.KVCache, "reserve", limited)
    assert answers(start(path), requests) == expected
    assert tried[:3] == [12, 6, 3]


@pytest.mark.parametrize("passes", ["prefill", "step", "capture"])
def test_activations_of_a_failed_pass_are_freed_before_the_next_one(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, passes: str
):
    engine = start(tiny_checkpoint("llama"))
    mlp = engine.model.model.layers[1].mlp
    forward, activations = mlp.forward, []
    alive: list[int] = []

    def failing(x: Any) -> Any:
        if (x.shape[1] > 1) != (passes == "step"):
            alive.append(sum(activation() is not None for activation in activations))
            if len(x) > 2:
                activation = torch.zeros(1000)  # a local of this frame, which the error's traceback keeps
                activations.append(weakref.ref(activation))
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    monkeypatch.setattr(mlp, "forward", failing)
    gc.disable()  # the traceback is no cycle: nothing else may be what frees it
    try:
        if passes == "capture":
            found = [engine.capture(CaptureRequest((5 + k, 6, 7), ((1,),))) for k in range(8)]
        else:
            found = [engine.generate(GenerateRequest((5 + k, 6, 7), 4)) for k in range(8)]
        assert all(future.result(TIMEOUT) for future in found)
    finally:
        gc.enable()
    assert activations
    assert set(alive) == {0}


@pytest.mark.parametrize(
    ("error", "full", "lost"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True, False),
        (MemoryError(), True, False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, False),
        (RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"), False, True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False, True),
        (RuntimeError("CUDA error: unspecified launch failure"), False, True),
        (RuntimeError("CUDA error: invalid argument"), False, False),
        (ValueError("a prompt about CUDA and an illegal memory access, out of memory"), False, False),
    ],
)
def test_errors_of_a_device(error: BaseException, full: bool, lost: bool):
    assert (is_out_of_memory(error), is_unrecoverable(error)) == (full, lost)


@pytest.mark.parametrize("passes", ["prefill", "step", "capture", "call"])
def test_an_engine_whose_device_is_lost_says_so_at_once(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, passes: str
):
    engine = start(tiny_checkpoint("llama"))
    mlp = engine.model.model.layers[1].mlp
    forward = mlp.forward

    def failing(x: Any) -> Any:
        if (x.shape[1] > 1) != (passes == "step"):
            raise RuntimeError("CUDA error: device-side assert triggered\nand more about it")
        return forward(x)

    monkeypatch.setattr(mlp, "forward", failing)
    message = r"^the engine of .* has stopped: CUDA error: device-side assert triggered; start a new process$"
    if passes == "call":
        with pytest.raises(RuntimeError, match=r"^CUDA error"):
            engine.call(lambda model: failing(torch.zeros(1, 2, 32))).result(TIMEOUT)
        running: list[Any] = []
    elif passes == "capture":
        running = [engine.capture(CaptureRequest((5 + k, 6, 7), ((1,),))) for k in range(3)]
    else:
        running = [engine.generate(GenerateRequest((5 + k, 6, 7), 4)) for k in range(3)]

    def refused(futures: list[Any]) -> None:
        for future in futures:
            with pytest.raises(RuntimeError, match=message) as caught:
                future.result(TIMEOUT)
            assert "device-side assert" in str(caught.value.__cause__)

    refused(running)
    monkeypatch.setattr(mlp, "forward", forward)
    refused([engine.generate(GenerateRequest((5, 6, 7), 4)), engine.capture(CaptureRequest((5, 6), ((1,),)))])
    refused([engine.call(lambda model: None)])


def test_what_is_refused_counts_as_memory_that_ran_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hneurons_eval.util.memory.available", lambda: 2**30)
    check_room(2**30, "keys and values", "wait")
    with pytest.raises(MemoryError, match=r"keys and values would take 2 GiB of memory, and 1 GiB are free") as caught:
        check_room(2**31, "keys and values", "wait")
    assert is_out_of_memory(caught.value)


def test_sequences_start_in_parts():
    sequences = [RunningSequence([sample(n)], PromptKey((5,) * n, 0), n, 5, [], []) for n in (10, 10, 20, 90)]
    assert first_tokens(sequences, 40) == sequences[:3]
    assert first_tokens(sequences, 39) == sequences[:2]
    assert first_tokens(sequences[3:], 40) == sequences[3:]  # at least one
