"""Scaling on vLLM says what a folded checkpoint says, per request, in one batch, cached prefixes included."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BUNDLED, OPTIONS, results
from exact import Exact
from transformers import AutoTokenizer

from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.requests import GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.checkpoints import load_model, resolve_model
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import Intervention, fold
from hneurons_eval.vllm.engine import VLLMEngine, get_vllm_engine

Draw = Callable[[int, int], NeuronSet]
Prompts = list[tuple[int, ...]]
ALPHAS = (0.0, 0.5, 1.0, 2.0)
TOKENS = 24


@pytest.fixture(scope="module")
def neurons(some_neurons: Draw) -> NeuronSet:
    return some_neurons(7, 4000)


PLAIN = """
import json, sys
from vllm import LLM, SamplingParams

checkpoints, prompts, options, tokens = json.loads(sys.stdin.read())
for checkpoint in checkpoints:
    llm = LLM(model=checkpoint, dtype="float32", enforce_eager=True, **options)
    params = SamplingParams(temperature=0.0, max_tokens=tokens)
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    print("SAID", json.dumps([output.outputs[0].token_ids for output in outputs]), flush=True)
    del llm
"""


def plain_vllm(checkpoints: Sequence[str], prompts: Prompts) -> list[list[tuple[int, ...]]]:
    """What vLLM by itself answers greedily with each checkpoint, in a process that has nothing of ours in it."""
    asked = json.dumps([list(checkpoints), prompts, OPTIONS, TOKENS])
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], input=asked, capture_output=True, text=True, env=environment, check=False
    )
    said = [json.loads(line.removeprefix("SAID ")) for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert len(said) == len(checkpoints), done.stderr[-2000:]
    return [[tuple(ids) for ids in answers] for answers in said]


@pytest.fixture(scope="module")
def folded(neurons: NeuronSet, tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], str]:
    def make(alpha: float) -> str:
        directory = tmp_path_factory.mktemp(f"folded-{alpha:g}")
        model: Any = load_model(BUNDLED, dtype="float32")
        fold(model, neurons, alpha)
        model.save_pretrained(directory)
        AutoTokenizer.from_pretrained(resolve_model(BUNDLED)).save_pretrained(directory)
        return str(directory)

    return make


def ask(prompts: Prompts, neurons: NeuronSet | None, alpha: float) -> list[GenerateRequest]:
    return [
        GenerateRequest(prompt, TOKENS, SamplingOptions(0.0), intervention=Intervention(neurons, alpha))
        for prompt in prompts
    ]


def tokens_of(engine: VLLMEngine | Engine, requests: list[GenerateRequest]) -> list[tuple[int, ...]]:
    return [generation.tokens for generation in results([engine.generate(request) for request in requests])]


def test_alphas_in_one_batch_say_what_folded_checkpoints_say(
    engine: VLLMEngine,
    prompts: Prompts,
    neurons: NeuronSet,
    folded: Callable[[float], str],
    some_neurons: Draw,
    exact: Exact,
):
    requests = [request for alpha in ALPHAS for request in ask(prompts, neurons, alpha)]
    noise = [request for seed in range(5) for request in ask(prompts[:2], some_neurons(seed, 500), 0.25 * seed)]
    found = tokens_of(engine, [*requests, *noise])
    by_alpha = {alpha: found[k * len(prompts) : (k + 1) * len(prompts)] for k, alpha in enumerate(ALPHAS)}
    plain, off, doubled = plain_vllm([resolve_model(BUNDLED), folded(0.0), folded(2.0)], prompts)
    for alpha, expected in ((1.0, plain), (0.0, off), (2.0, doubled)):
        exact.check_tokens(ask(prompts, neurons, alpha), by_alpha[alpha], expected)
    assert len({str(said) for said in by_alpha.values()}) == len(ALPHAS)


def test_a_prefix_that_was_computed_under_another_alpha_is_not_used(
    engine: VLLMEngine, reference: Engine, prompts: Prompts, neurons: NeuronSet, some_neurons: Draw, exact: Exact
):
    other = some_neurons(8, 4000)
    variants = [(neurons, 0.0), (None, 1.0), (neurons, 2.0), (other, 0.0), (neurons, 0.0)]
    found = [tokens_of(engine, ask(prompts, *variant)) for variant in variants]  # one after the other
    expected = [tokens_of(reference, ask(prompts, *variant)) for variant in variants]
    for variant, ours, theirs in zip(variants, found, expected, strict=True):
        exact.check_tokens(ask(prompts, *variant), ours, theirs)
    assert len({str(said) for said in expected[:4]}) == 4


def test_a_seed_decides_the_text_in_any_batch(engine: VLLMEngine, prompts: Prompts):
    def draw(seed: int, prompt: tuple[int, ...]) -> GenerateRequest:
        return GenerateRequest(prompt, 12, SamplingOptions(1.0, 50, 0.9), seed=seed)

    alone = tokens_of(engine, [draw(3, prompts[0])])[0]
    batch = tokens_of(engine, [draw(seed, prompt) for prompt in prompts for seed in range(6)])
    assert batch[3] == alone  # 12 tokens: errors of 1e-4 change one of them with a probability of about 0.001
    assert len(set(batch[:6])) > 1


def test_nothing_is_hooked_in_where_nothing_is_asked(engine: VLLMEngine, prompts: Prompts):
    step = engine._llm.engine_core.engine_core.model_executor.driver_worker.worker._hneurons  # pyright: ignore
    tokens_of(engine, ask(prompts[:1], None, 1.0))
    assert step._step is None
    assert torch.is_tensor(step.norms)


def test_what_vllm_would_run_past_the_hooks_is_refused_by_name(tmp_path: Path):
    for name, value in (("pipeline_parallel_size", 2), ("enable_lora", True), ("speculative_config", {"method": "x"})):
        with pytest.raises(ValueError, match=name):
            get_vllm_engine(BUNDLED, options={name: value})
    with pytest.raises(ValueError, match="unknown model args threads"):
        get_vllm_engine(BUNDLED, options={"threads": 2})
    with pytest.raises(ValueError, match="sets vLLM's enforce_eager itself"):
        get_vllm_engine(BUNDLED, options={"enforce_eager": False})
