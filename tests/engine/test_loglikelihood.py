"""The log-probability of a given answer is that of plain transformers, with neurons scaled as well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from inspect_ai.model import ChatMessage, ChatMessageUser, GenerateConfig, Model, get_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hneurons_eval.artifacts.paths import stores_root
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import scaled
from hneurons_eval.solvers.scaled import Scaled

QUESTION = "What happens if you crack your knuckles?"
ANSWERS = ("Nothing.", "It gives you arthritis, they say", "x", " ünïcode — 答え")


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path]) -> Path:
    return tiny_checkpoint(max_position_embeddings=512)


@pytest.fixture(scope="module")
def neurons(tiny: Path) -> NeuronSet:
    config = AutoModelForCausalLM.from_pretrained(tiny).config
    layout = NeuronLayout((config.intermediate_size,) * config.num_hidden_layers)
    return NeuronSet.from_flat(np.arange(0, layout.total, 2), layout)


def model_of(tiny: Path, **arguments: Any) -> Model:
    return get_model(f"hneurons/{tiny}", device="cpu", threads=1, memoize=False, **arguments)


def asked(model: Model, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """What all requests at once say, each about its own answer."""
    found: dict[int, Any] = {}

    async def one(number: int, body: dict[str, Any]) -> None:
        messages: list[ChatMessage] = [ChatMessageUser(content=QUESTION)]
        output = await model.generate(messages, config=GenerateConfig(extra_body={"hneurons": body}))
        assert output.completion == body["loglikelihood"]
        assert output.usage is not None
        assert output.usage.output_tokens == 0
        found[number] = (output.metadata or {})["hneurons"]

    async def together() -> None:
        async with anyio.create_task_group() as group:
            for number, body in enumerate(bodies):
                group.start_soon(one, number, body)

    anyio.run(together)
    return [found[number] for number in range(len(bodies))]


def by_hand(tiny: Path, answer: str, neurons: NeuronSet | None = None, alpha: float = 1.0) -> tuple[float, int]:
    """The sum of log-softmax at the answer's tokens, one plain pass over prompt and answer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny).eval()
    turns = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    own = tokenizer(answer, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([before + own])
    with torch.no_grad():
        if neurons is None:
            logits = model(ids).logits[0]
        else:
            with scaled(model, neurons, alpha):
                logits = model(ids).logits[0]
    levels = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(levels[len(before) + k - 1, token]) for k, token in enumerate(own)), len(own)


def test_a_likelihood_is_the_sum_of_log_softmax_at_the_answers_tokens(tiny: Path):
    found = asked(model_of(tiny), *({"loglikelihood": answer} for answer in ANSWERS))
    for answer, one in zip(ANSWERS, found, strict=True):
        total, count = by_hand(tiny, answer)
        assert one["tokens"] == count
        assert one["loglikelihood"] == pytest.approx(total, abs=1e-3)


def test_neurons_and_alpha_of_a_request_change_it_as_scaling_does(tiny: Path, neurons: NeuronSet, tmp_path: Path):
    neurons.save(tmp_path / "neurons.json")
    named = str(tmp_path / "neurons.json")
    alphas = (0.0, 1.0, 3.0)
    bodies = [{"loglikelihood": answer, "neurons": named, "alpha": alpha} for answer in ANSWERS[:2] for alpha in alphas]
    found = [one["loglikelihood"] for one in asked(model_of(tiny), *bodies)]
    expected = [by_hand(tiny, answer, neurons, alpha)[0] for answer in ANSWERS[:2] for alpha in alphas]
    assert found == pytest.approx(expected, abs=1e-3)
    assert abs(found[0] - found[1]) > 1e-2  # the test would see a factor that is not applied
    assert abs(found[2] - found[1]) > 1e-2
    plain = asked(model_of(tiny), *({"loglikelihood": answer} for answer in ANSWERS[:2]))
    assert [found[1], found[4]] == pytest.approx([one["loglikelihood"] for one in plain], abs=1e-3)
    by_args = asked(model_of(tiny, neurons=named, alpha=3.0), {"loglikelihood": ANSWERS[0]})
    assert by_args[0]["loglikelihood"] == pytest.approx(found[2], abs=1e-3)


def test_nothing_is_kept_of_it(tiny: Path):
    asked(model_of(tiny), {"loglikelihood": "Nothing."})
    assert not stores_root().exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"loglikelihood": ""}, "not empty"),
        ({"loglikelihood": 3}, "should be a text"),
        ({"loglikelihood": "x", "capture": {"response": "x"}}, "two requests"),
        ({"loglikelihood": "word " * 600}, "context holds"),
    ],
)
def test_requests_without_sense_are_refused(tiny: Path, body: dict[str, Any], words: str):
    messages: list[ChatMessage] = [ChatMessageUser(content=QUESTION)]
    config = GenerateConfig(extra_body={"hneurons": body})
    with pytest.raises(ValueError, match=words):
        anyio.run(lambda: model_of(tiny).generate(messages, config=config))


def test_a_condition_of_a_sweep_asks_for_it(tiny: Path, neurons: NeuronSet, tmp_path: Path):
    from inspect_ai import Task, task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import Sample
    from inspect_ai.solver import Generate, TaskState, solver

    neurons.save(tmp_path / "neurons.json")
    told: list[float] = []

    @solver
    def ask_both() -> Any:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            for condition in (Scaled(None, 1.0), Scaled(str(tmp_path / "neurons.json"), 3.0)):
                told.append(await condition.loglikelihood(state.messages, ANSWERS[0]))
            return state

        return solve

    @task
    def asks() -> Task:
        return Task(dataset=[Sample(id="q", input=QUESTION)], solver=ask_both())

    (log,) = inspect_eval(
        asks,  # pyright: ignore[reportArgumentType]
        model=model_of(tiny), log_dir=str(tmp_path / "logs"), display="none",
    )  # fmt: skip
    assert log.status == "success", log.error
    expected = [by_hand(tiny, ANSWERS[0])[0], by_hand(tiny, ANSWERS[0], neurons, 3.0)[0]]
    assert told == pytest.approx(expected, abs=1e-3)
