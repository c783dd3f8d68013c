"""vLLM on the CPU beside the engine on transformers, both on the bundled model in float32."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs the network
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))  # for rounding.py

from exact import Exact

from hneurons_eval.engine.engine import Engine, get_engine
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm.engine import VLLMEngine, get_vllm_engine

BUNDLED = "smollm2-135m-instruct"
OPTIONS: dict[str, Any] = {"max_model_len": 512, "max_num_seqs": 64, "kv_cache_memory_bytes": 192 << 20}
QUESTIONS = (
    "What is the capital of France?",
    "Who wrote David Copperfield? Respond with the answer only, without any explanation.",
    "Name three rivers in Germany, and say through which towns each of them flows.",
    "What is the chemical symbol of gold?",
    "Tell me a story about a fox, a raven and a piece of cheese, in which nobody is flattered.",
    "In which year did the Second World War end in Europe, and in which in Asia?",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A limit for hangs alone: a test starts up to four vLLMs, each a minute or more on a busy machine."""
    for item in items:
        item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture(scope="session")
def reference() -> Engine:
    """The engine on transformers."""
    return get_engine(BUNDLED, dtype="float32", device="cpu", threads=2)


@pytest.fixture(scope="session")
def engine() -> VLLMEngine:
    """vLLM, with room for all that a test asks at once."""
    return get_vllm_engine(BUNDLED, dtype="float32", options=OPTIONS)


@pytest.fixture(scope="session")
def exact() -> Exact:
    """The model in float64, to measure both against."""
    return Exact(BUNDLED)


@pytest.fixture(scope="session")
def prompts(reference: Engine) -> list[tuple[int, ...]]:
    """Token ids of the questions, as a chat."""
    return [prompt_of(reference.tokenizer, question) for question in QUESTIONS]


def prompt_of(tokenizer: Any, question: str) -> tuple[int, ...]:
    """A question in the chat template."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="session")
def some_neurons(reference: Engine) -> Callable[[int, int], NeuronSet]:
    """`some_neurons(seed, number)`: neurons drawn from all layers."""
    import numpy as np

    def draw(seed: int, number: int) -> NeuronSet:
        rng = np.random.default_rng(seed)
        return NeuronSet.from_flat(np.sort(rng.permutation(reference.layout.total)[:number]), reference.layout)

    return draw


def results(futures: Sequence[Any]) -> list[Any]:
    """What futures give, in order."""
    return [future.result(300) for future in futures]


@pytest.fixture
def preemptions(monkeypatch: pytest.MonkeyPatch) -> Callable[[VLLMEngine], list[str]]:
    """`preemptions(engine)`: the requests that vLLM puts back from then on."""

    def watch(engine: VLLMEngine) -> list[str]:
        scheduler: Any = engine._llm.engine_core.engine_core.scheduler  # pyright: ignore
        seen: list[str] = []
        original = scheduler._preempt_request

        def preempt(request: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(request.request_id)
            return original(request, *args, **kwargs)

        monkeypatch.setattr(scheduler, "_preempt_request", preempt)
        return seen

    return watch
