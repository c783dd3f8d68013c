"""Requests of Inspect reach the engine as they were meant, and what comes back is what happened."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    CachePolicy,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo
from rounding import assert_same_contributions
from transformers import AutoModelForCausalLM, AutoTokenizer

from hneurons_eval.artifacts.contribution_shards import Contributions
from hneurons_eval.artifacts.paths import artifact_root, save_neurons, store_of
from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.hf_provider import HNeuronsAPI
from hneurons_eval.engine.offsets import sampled_offsets
from hneurons_eval.engine.prompts import PromptFormat
from hneurons_eval.judging.spans import answer_span, token_positions
from hneurons_eval.models.checkpoints import load_layout
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import BASELINE

MakeCheckpoint = Callable[..., Path]
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(max_position_embeddings=512)


@pytest.fixture(scope="session")
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


def model_of(path: Path | str, **arguments: Any) -> Model:
    given = {"dtype": "float32", "device": "cpu", "threads": 1} | arguments
    return get_model(f"hneurons/{path}", memoize=False, **given)


@pytest.fixture
def model(tiny: Path) -> Model:
    return model_of(tiny)


def api(model: Model) -> HNeuronsAPI:
    assert isinstance(model.api, HNeuronsAPI)
    return model.api


def ask(model: Model, messages: str | list[ChatMessage] = QUESTION, body: Any = None, **config: Any) -> ModelOutput:
    options: dict[str, Any] = {"max_tokens": 8} | config
    if body is not None:
        options["extra_body"] = {"hneurons": body}
    return anyio.run(lambda: model.generate(messages, config=GenerateConfig(**options)))


def texts(output: ModelOutput) -> list[str]:
    return [choice.message.text for choice in output.choices]


@pytest.fixture
def half(tiny: Path) -> NeuronSet:
    layout = load_layout(str(tiny))
    return NeuronSet.from_flat(np.arange(0, layout.total, 2), layout)


@pytest.fixture
def half_file(half: NeuronSet, tmp_path: Path) -> str:
    half.save(tmp_path / "half.json")
    return str(tmp_path / "half.json")


# --- sampling ----------------------------------------------------------------------------------------


def test_several_choices_are_several_draws(model: Model):
    output = ask(model, num_choices=4, seed=3)
    assert len(set(texts(output))) == 4
    assert texts(ask(model, num_choices=4, seed=3)) == texts(output)
    assert texts(ask(model, seed=3)) == texts(output)[:1]


def test_a_seed_decides_the_text(model: Model):
    assert texts(ask(model, seed=1)) == texts(ask(model, seed=1)) != texts(ask(model, seed=2))


def test_without_a_seed_asking_again_is_another_draw_and_a_fresh_start_the_same(tiny: Path):
    first, second = model_of(tiny), model_of(tiny)
    said = [texts(ask(first))[0] for _ in range(3)]
    assert len(set(said)) == 3
    assert texts(ask(second, num_choices=3)) == said


def test_a_fresh_process_says_the_same(tiny: Path, model: Model):
    code = (
        "import anyio\n"
        "from inspect_ai.model import GenerateConfig, get_model\n"
        f"model = get_model('hneurons/{tiny}', dtype='float32', device='cpu', threads=1)\n"
        f"output = anyio.run(lambda: model.generate({QUESTION!r}, config=GenerateConfig(max_tokens=8)))\n"
        "print('SAID', ascii(output.completion))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert f"SAID {ask(model).completion!a}" in done.stdout, done.stderr


def test_temperature_zero_takes_the_likeliest_tokens(model: Model, tiny: Path):
    output = ask(model, temperature=0.0, seed=1, logprobs=True, top_logprobs=1)
    assert texts(output) == texts(ask(model, temperature=0.0, seed=2))
    logprobs = output.choices[0].logprobs
    assert logprobs is not None
    for entry in logprobs.content:
        assert entry.top_logprobs is not None
        assert entry.token == entry.top_logprobs[0].token
        assert entry.logprob == entry.top_logprobs[0].logprob


def test_text_ends_before_a_stop_sequence(model: Model):
    whole = ask(model, seed=5).completion
    stop = whole[3:6]
    output = ask(model, seed=5, stop_seqs=["never said by it", stop])
    assert output.completion == whole[: whole.index(stop)]
    assert output.stop_reason == "stop"


def test_text_ends_at_max_tokens(model: Model):
    output = ask(model, seed=5, max_tokens=3)
    assert output.stop_reason == "max_tokens"
    assert output.usage is not None
    assert output.usage.output_tokens == 3


def test_text_ends_where_the_context_is_full(model: Model):
    output = ask(model, seed=5, max_tokens=4096)
    assert output.stop_reason in ("model_length", "stop")
    assert output.usage is not None
    assert output.usage.total_tokens <= 512


def test_usage_counts_the_tokens(model: Model, tokenizer: Any):
    output = ask(model, num_choices=3, seed=1, max_tokens=5)
    assert output.usage is not None
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False
    )
    assert output.usage.input_tokens == len(prompt)
    assert output.usage.output_tokens == 3 * 5
    assert output.usage.total_tokens == len(prompt) + 15


def test_logprobs_are_of_the_sampled_tokens(model: Model, tiny: Path):
    output = ask(model, seed=4, logprobs=True, top_logprobs=3)
    logprobs = output.choices[0].logprobs
    assert logprobs is not None
    said = "".join(entry.token for entry in logprobs.content)
    assert "�" in said or said == output.completion
    reference: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    engine = api(model).engine
    prompt = api(model).prompts.encode([ChatMessageUser(content=QUESTION)])
    (future,) = [
        engine.generate(request)
        for request in api(model)._requests(prompt, GenerateConfig(max_tokens=8, seed=4, logprobs=True), BASELINE)
    ]
    tokens = future.result(60).tokens
    with torch.no_grad():
        levels = reference(torch.tensor([prompt + tokens])).logits[0].float().log_softmax(-1)
    for place, entry in enumerate(logprobs.content):
        row = levels[len(prompt) + place - 1]
        assert entry.logprob == pytest.approx(float(row[tokens[place]]), abs=1e-4)
        assert entry.top_logprobs is not None
        own = [top.logprob for top in entry.top_logprobs]
        assert own == sorted(own, reverse=True)
        assert own == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
    assert ask(model, seed=4).choices[0].logprobs is None


# --- prompts -----------------------------------------------------------------------------------------

TURNS: list[ChatMessage] = [
    ChatMessageSystem(content="Answer in French."),
    ChatMessageUser(content="One?"),
    ChatMessageAssistant(content="Un."),
    ChatMessageUser(content=[ContentText(text="Two"), ContentText(text="then?")]),
]
PLAIN = [
    {"role": "system", "content": "Answer in French."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Un."},
    {"role": "user", "content": "Two\nthen?"},
]


def by_hand(tokenizer: Any, turns: list[dict[str, str]]) -> list[int]:
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("count", [2, 4])
def test_prompts_are_those_of_the_template(tokenizer: Any, count: int):
    assert list(PromptFormat(tokenizer).encode(TURNS[:count])) == by_hand(tokenizer, PLAIN[:count])
    alone: list[ChatMessage] = [ChatMessageUser(content="One?")]
    assert list(PromptFormat(tokenizer).encode(alone)) == by_hand(tokenizer, PLAIN[1:2])


def test_the_engine_is_given_these_tokens(model: Model, tokenizer: Any, monkeypatch: pytest.MonkeyPatch):
    given, own = [], Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda self, request: (given.append(request.prompt), own(self, request))[1])
    ask(model, list(TURNS))
    assert [list(prompt) for prompt in given] == [by_hand(tokenizer, PLAIN)]


def test_a_trailing_assistant_message_is_the_beginning_of_the_answer(tokenizer: Any):
    opening: list[ChatMessage] = [*TURNS, ChatMessageAssistant(content="Deux, ")]
    ids = PromptFormat(tokenizer).encode(opening)
    assert tokenizer.decode(ids) == tokenizer.decode(by_hand(tokenizer, PLAIN)) + "Deux, "


@pytest.fixture
def with_bos(tiny: Path, tmp_path: Path) -> Any:
    """A tokenizer that adds BOS on its own, with a template that writes BOS too."""
    from tokenizers.processors import TemplateProcessing

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, tmp_path / name)
    made: Any = AutoTokenizer.from_pretrained(tmp_path)
    bos = made.bos_token
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, made.bos_token_id)]
    )
    made.chat_template = (
        "{{ bos_token }}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    return made


def test_bos_stands_once(with_bos: Any):
    bos = with_bos.bos_token_id
    assert with_bos("a").input_ids[0] == bos
    ids = PromptFormat(with_bos).encode([ChatMessageUser(content="One?")])
    assert list(ids).count(bos) == 1
    assert ids[0] == bos
    assert list(ids) == by_hand(with_bos, PLAIN[1:2])


def test_a_template_without_a_system_role_has_its_text_before_the_first_turn(with_bos: Any):
    ids = PromptFormat(with_bos).encode(TURNS)
    merged = [{"role": "user", "content": "Answer in French.\n\nOne?"}, *PLAIN[2:]]
    assert list(ids) == by_hand(with_bos, merged)


def test_a_base_model_continues_the_text(with_bos: Any):
    with_bos.chat_template = None
    ids = PromptFormat(with_bos).encode(TURNS[:2])
    assert list(ids) == with_bos("Answer in French.\n\nOne?").input_ids
    assert list(ids).count(with_bos.bos_token_id) == 1
    assert PromptFormat(with_bos).encode([ChatMessageUser(content="")]) == (with_bos.bos_token_id,)


def test_a_base_checkpoint_answers(tiny: Path, tmp_path: Path):
    path = tmp_path / "base"
    shutil.copytree(tiny, path)
    (path / "chat_template.jinja").unlink()
    config = json.loads((path / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    base = model_of(path)
    output = ask(base)
    assert output.completion
    assert output.usage is not None
    assert output.usage.input_tokens == len(api(base).engine.tokenizer(QUESTION)["input_ids"])


@pytest.mark.parametrize(
    "messages",
    [
        [ChatMessageUser(content=[ContentImage(image="data:image/png;base64,iVBORw0KGgo=")])],
        [ChatMessageUser(content="a"), ChatMessageTool(content="b", tool_call_id="1")],
        [],
    ],
    ids=["image", "tool message", "nothing"],
)
def test_what_is_not_text_is_refused(tokenizer: Any, messages: list[ChatMessage]):
    with pytest.raises(ValueError, match=r"read text only|do not call tools|at least one"):
        PromptFormat(tokenizer).encode(messages)


def test_tools_are_refused(model: Model):
    tool = ToolInfo(name="add", description="adds")
    with pytest.raises(ValueError, match="do not call tools"):
        anyio.run(lambda: model.generate(QUESTION, tools=[tool]))


# --- neurons and alpha -------------------------------------------------------------------------------


def test_alpha_one_is_the_plain_text_and_alpha_zero_another(tiny: Path, model: Model, half_file: str):
    plain = texts(ask(model, seed=1, num_choices=3))
    one, off = model_of(tiny, neurons=half_file, alpha=1), model_of(tiny, neurons=half_file, alpha=0)
    assert texts(ask(one, seed=1, num_choices=3)) == plain
    scaled = texts(ask(off, seed=1, num_choices=3))
    assert scaled != plain
    assert texts(ask(model, seed=1, num_choices=3)) == plain  # nothing is left behind


def test_a_request_names_neurons_by_file_or_by_digest(tiny: Path, model: Model, half: NeuronSet, half_file: str):
    off = texts(ask(model_of(tiny, neurons=half_file, alpha=0), seed=1))
    assert texts(ask(model, body={"neurons": half_file, "alpha": 0}, seed=1)) == off
    assert texts(ask(model, body={"neurons": save_neurons(half), "alpha": 0.0}, seed=1)) == off


def signed_files(half: NeuronSet, tmp_path: Path) -> dict[str, str]:
    """One neuron file with weights of both signs, and what either sign of it is as a file of its own."""
    flat = half.flat(NeuronLayout(half.widths or ()))
    weights = np.where(np.arange(len(flat)) % 2, 1.0, -1.0)
    whole = NeuronSet.from_flat(flat, NeuronLayout(half.widths or ()), weights)
    files = {"whole": whole, "positive": whole.positive, "negative": whole.negative, "both": half}
    for name, neurons in files.items():
        plain = neurons if name == "whole" else NeuronSet(neurons.layers, neurons.indices, widths=half.widths)
        plain.save(tmp_path / f"{name}.json")
    return {name: str(tmp_path / f"{name}.json") for name in files}


def test_the_positive_neurons_are_scaled_unless_another_sign_is_asked_for(
    tiny: Path, model: Model, half: NeuronSet, tmp_path: Path
):
    files = signed_files(half, tmp_path)

    def said(name: str, **more: str) -> str:
        return ask(model, body={"neurons": files[name], "alpha": 0.0, **more}, temperature=0.0).completion

    own = {name: said(name) for name in ("positive", "negative", "both")}
    assert said("whole") == own["positive"]
    assert {sign: said("whole", sign=sign) for sign in own} == own
    assert len(set(own.values())) > 1
    for sign, expected in own.items():
        given = model_of(tiny, neurons=files["whole"], alpha=0.0, sign=sign)
        assert ask(given, temperature=0.0).completion == expected
    with pytest.raises(Exception, match="none of them with a negative weight"):
        ask(model, body={"neurons": files["positive"], "alpha": 0.0, "sign": "negative"})
    with pytest.raises(Exception, match="sign should be positive, negative or both"):
        ask(model, body={"neurons": files["whole"], "alpha": 0.0, "sign": "up"})
    with pytest.raises(Exception, match="gives sign but no neurons"):
        ask(model, body={"sign": "both"})


def test_a_request_overrides_the_model_args(tiny: Path, model: Model, half_file: str):
    plain, off = ask(model, seed=1).completion, model_of(tiny, neurons=half_file, alpha=0)
    silent = ask(off, seed=1).completion
    assert ask(off, body={"alpha": 1}, seed=1).completion == plain != silent
    assert ask(off, body={"neurons": None, "alpha": 1}, seed=1).completion == plain
    assert ask(off, body={}, seed=1).completion == silent
    one = model_of(tiny, neurons=half_file)
    assert ask(one, seed=1).completion == plain
    assert ask(one, body={"alpha": 0}, seed=1).completion == silent


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"alfa": 0}, "unknown alfa"),
        ([], "should be an object"),
        ({"alpha": 0}, "no neurons"),
        ({"neurons": "{half}", "alpha": -1}, "alpha should be"),
        ({"neurons": "{half}", "alpha": "off"}, "alpha should be"),
        ({"neurons": "nowhere.json", "alpha": 0}, "does not exist"),
        ({"neurons": "0" * 64, "alpha": 0}, "no neuron set"),
        ({"capture": True}, "should be an object"),
        ({"capture": {"region": "answer"}}, "unknown region"),
        ({"capture": {"span": "best"}}, "span should be"),
        ({"capture": {"span": [0, 400], "response": "short"}}, "not within"),
        ({"capture": {"span": [2, 2], "response": "short"}}, "not within"),
        ({"capture": {"reduce": "sum"}}, "reduce should be"),
    ],
)
def test_requests_that_make_no_sense_are_refused(model: Model, half_file: str, body: Any, words: str):
    if isinstance(body, dict) and body.get("neurons") == "{half}":
        body = body | {"neurons": half_file}
    with pytest.raises(ValueError, match=words):
        ask(model, body=body)


def test_model_args_that_make_no_sense_are_refused(tiny: Path, half_file: str, tmp_path: Path):
    NeuronSet(np.array([0]), np.array([1]), widths=(5, 5), model="another").save(tmp_path / "other.json")
    for arguments, words in (
        ({"alpha": 0}, "without neurons"),
        ({"neurons": half_file, "alpha": -0.5}, "alpha should be"),
        ({"neurons": half_file, "alpha": float("nan")}, "alpha should be"),
        ({"neurons": half_file, "alpha": "x"}, "alpha should be"),
        ({"neurons": str(tmp_path / "other.json"), "alpha": 0}, "use neurons found in this model"),
        ({"neurons": str(tmp_path / "none.json")}, "does not exist"),
        ({"layers": [1]}, "unknown model args layers"),
        ({"dtype": "float99"}, "dtype should be"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            model_of(tiny, **arguments)
        assert "\n" not in str(caught.value)


def test_the_response_cache_tells_alphas_apart(
    tiny: Path, model: Model, half_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    asked, own = [], Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda self, request: (asked.append(request), own(self, request))[1])
    zero, three = (model_of(tiny, neurons=half_file, alpha=alpha) for alpha in (0, 3))

    def cached(one: Model) -> str:
        config = GenerateConfig(max_tokens=8, seed=1)
        policy = CachePolicy(expiry="1W")
        return anyio.run(lambda: one.generate(QUESTION, config=config, cache=policy)).completion

    said = [cached(one) for one in (model, zero, three)]
    assert len(set(said)) == len(asked) == 3
    assert len({one.api.base_url for one in (model, zero, three)}) == 3
    assert [cached(one) for one in (model, zero, three)] == said
    assert len(asked) == 3  # the second time from the cache
    # At alpha 1 the neurons change nothing, so it is the plain model.
    assert model_of(tiny, neurons=half_file, alpha=1).api.base_url == model.api.base_url


# --- contributions -----------------------------------------------------------------------------------


def captured(output: ModelOutput) -> dict[str, Any]:
    return (output.metadata or {})["hneurons"]


def kept_of(found: dict[str, Any]) -> Contributions:
    """The row that a log's pointer names."""
    return store_of([found["contributions"]]).get(found["contributions"])


def assert_same(model: Model, found: np.ndarray, values: np.ndarray) -> None:
    engine = api(model).engine
    assert_same_contributions(found, values, engine.layout, engine.model.config, tokens=64)


def expected(model: Model, tiny: Path, response: str, span: tuple[int, int]) -> np.ndarray:
    """Contributions over the answer's tokens, and over all others, by the function of the library."""
    tokenizer: Any = api(model).engine.tokenizer
    encoded = tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
    return expected_of(model, tiny, encoded["input_ids"], encoded["offset_mapping"], span)


def expected_of(
    model: Model, tiny: Path, tokens: list[int], offsets: list[tuple[int, int]], span: tuple[int, int]
) -> np.ndarray:
    prompt = list(api(model).prompts.encode([ChatMessageUser(content=QUESTION)]))
    ids = torch.tensor([prompt + tokens])
    regions = torch.zeros(1, 3, ids.shape[1], dtype=torch.bool)
    for position in token_positions(offsets, span):
        regions[0, 0, len(prompt) + position] = True
    regions[0, 1] = ~regions[0, 0]
    regions[0, 2, : len(prompt)] = True
    reference: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    return contributions(reference.eval(), ids, torch.ones_like(ids), regions)[0].numpy()


def test_contributions_of_a_given_response(model: Model, tiny: Path, monkeypatch: pytest.MonkeyPatch):
    response = "The answer is Paris, I think."
    body = {"capture": {"span": "rule", "question": QUESTION, "response": response}}
    output = ask(model, body=body)
    found = captured(output)
    assert output.completion == response
    span = answer_span(QUESTION, response)
    assert span is not None
    assert found["span"] == list(span)
    assert response[span[0] : span[1]].startswith("Paris")
    kept = kept_of(found)
    assert store_of([found["contributions"]]).spec.regions == ("answer", "other", "prompt")
    assert_same(model, kept.values, expected(model, tiny, response, span))
    assert found["response_tokens"] == len(kept.extras["logprobs"]) == len(kept.extras["entropies"])
    assert kept.extras["hidden"].shape == (api(model).engine.model.config.hidden_size,)
    assert kept.about["response"] == response
    assert kept.about["span"] == list(span)
    offsets = api(model).engine.tokenizer(response, return_offsets_mapping=True)["offset_mapping"]  # pyright: ignore
    places = token_positions(offsets, span)
    assert len(places) == found["answer_tokens"]
    for name, own in (("answer_logprob", "logprobs"), ("answer_entropy", "entropies")):
        assert found[name] == pytest.approx(float(kept.extras[own][places].mean()))
    assert output.usage is not None
    assert output.usage.output_tokens == 0
    assert output.usage.input_tokens == found["prompt_tokens"] + found["response_tokens"]

    def refuse(*_: Any) -> None:
        raise AssertionError("the engine was asked again")

    monkeypatch.setattr(Engine, "capture", refuse)
    assert captured(ask(model, body=body)) == found


@pytest.mark.parametrize("span", ["response", "rule"])
def test_contributions_of_a_sampled_answer(model: Model, tiny: Path, span: str, monkeypatch: pytest.MonkeyPatch):
    sampled: list[Any] = []
    generate = Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda *args: sampled.append(generate(*args)) or sampled[-1])
    monkeypatch.setattr(Engine, "capture", None)  # no second pass
    output = ask(model, body={"capture": {"span": span, "question": QUESTION}}, seed=2)
    found = captured(output)
    said = sampled[0].result()
    assert output.choices[0].logprobs is None  # not asked for
    tokens = said.tokens[: found["response_tokens"]]
    assert output.completion == ask(model, seed=2).completion
    own = (0, len(output.completion)) if span == "response" else answer_span(QUESTION, output.completion)
    assert own is not None
    assert found["span"] == list(own)
    kept = kept_of(found)
    # A random model cuts its text into other tokens than the tokenizer would: those that were sampled count.
    offsets = sampled_offsets(api(model).engine.tokenizer, tokens, output.completion)
    assert_same(model, kept.values, expected_of(model, tiny, list(tokens), offsets, own))
    for name, own in (("logprobs", "logprob"), ("entropies", "entropy")):
        expected_values = [getattr(one, own) for one in said.logprobs[: len(tokens)]]
        assert kept.extras[name].tolist() == pytest.approx(expected_values)
    assert "hidden" in kept.extras


def test_draws_asked_for_ahead_are_those_asked_for_one_by_one(model: Model, monkeypatch: pytest.MonkeyPatch):
    seeds = [11, 12, 13, 14]
    expected = [ask(model, seed=seed, temperature=0.3).completion for seed in seeds]
    assert len(set(expected)) > 1
    asked: list[int] = []
    generate = Engine.generate
    monkeypatch.setattr(Engine, "generate", lambda self, request: asked.append(request.seed) or generate(self, request))
    said = [
        ask(model, body={"ahead": seeds[k + 1 :]} if k < 3 else None, seed=seed, temperature=0.3).completion
        for k, seed in enumerate(seeds)
    ]
    assert said == expected
    assert asked == seeds  # each of them once
    with pytest.raises(ValueError, match="list of seeds"):
        ask(model, body={"ahead": "5"}, seed=1)


def test_the_span_can_be_given_in_characters(model: Model, tiny: Path):
    response = "It is Paris."
    output = ask(model, body={"capture": {"span": [6, 11], "response": response}})
    found = captured(output)
    assert found["span"] == [6, 11]
    assert found["answer_tokens"] < found["response_tokens"]
    assert not found["whole_response"]
    values = kept_of(found).values
    assert_same(model, values, expected(model, tiny, response, (6, 11)))


def test_reduce_max_and_other_responses_have_artifacts_of_their_own(model: Model, half_file: str):
    def row(neurons: str | None = None, alpha: float = 1.0, **capture: Any) -> dict[str, Any]:
        spec = {"span": "response", "response": "Paris, France"} | capture
        return captured(ask(model, body={"neurons": neurons, "alpha": alpha, "capture": spec}))

    def key(*args: Any, **options: Any) -> str:
        return row(*args, **options)["contributions"]

    plain = key()
    assert key(half_file, 1.0) == plain
    assert len({plain, key(reduce="max"), key(response="Lyon, France"), key(half_file, 0.0), key(span=[0, 5])}) == 5
    least, most = (kept_of(row(reduce=reduce)).values for reduce in ("mean", "max"))
    assert (most >= least - 1e-7).all()
    assert (most > least + 1e-5).any()
    found = row(response="Berlin", precision="float16")
    exact = row(response="Lyon", precision="float32")
    assert store_of([found["contributions"]]).spec.precision == "float16"
    assert store_of([exact["contributions"]]).spec.precision == "float32"
    with pytest.raises(ValueError, match="precision should be"):
        row(precision="int8")


def test_the_rule_never_uses_accepted_answers(model: Model):
    """Not even where they could be known: a span that fits the alias would tell the label."""
    spec = {"span": "rule", "question": QUESTION, "response": "Paris on the river Seine"}
    with pytest.raises(ValueError, match="unknown aliases"):
        ask(model, body={"capture": spec | {"aliases": ["Paris"]}})
    assert captured(ask(model, body={"capture": spec}))["span"] == [0, len(spec["response"])]


@pytest.mark.parametrize("response", ["", "  \n"])
def test_an_answer_without_a_span_has_no_contributions(model: Model, response: str):
    output = ask(model, body={"capture": {"span": "rule", "question": QUESTION, "response": response}})
    found = captured(output)
    assert found["contributions"] is None
    assert found["span"] is None
    assert found["answer_tokens"] == 0
    assert output.completion == response
    assert not (artifact_root() / "contributions").exists()


def test_an_empty_response_is_not_the_whole_response(model: Model):
    found = captured(ask(model, body={"capture": {"span": "response", "response": ""}}))
    assert found["contributions"] is None
    assert found["span"] is None
    assert not found["whole_response"]


# --- engines and tasks -------------------------------------------------------------------------------


def test_models_of_one_checkpoint_share_an_engine(tiny: Path, model: Model, half_file: str):
    other = model_of(tiny, neurons=half_file, alpha=0)
    assert api(other).engine is api(model).engine
    assert api(other).connection_key() == api(model).connection_key()


def test_tokens_are_counted_by_the_models_own_tokenizer(model: Model, tokenizer: Any):
    ids = anyio.run(api(model).tokenize, QUESTION)
    assert ids == tokenizer(QUESTION, add_special_tokens=False).input_ids
    assert anyio.run(api(model).count_text_tokens, QUESTION) == len(ids)


def test_many_requests_at_once_say_what_they_say_alone(model: Model):
    questions = [f"Question {k}?" for k in range(60)]
    said: dict[str, str] = {}

    async def one(question: str) -> None:
        config = GenerateConfig(max_tokens=6, seed=1, max_connections=100)
        said[question] = (await model.generate(question, config=config)).completion

    async def together() -> None:
        async with anyio.create_task_group() as group:
            for question in questions:
                group.start_soon(one, question)

    anyio.run(together)
    assert len(said) == 60
    for question in questions[:3]:
        assert said[question] == ask(model, question, seed=1, max_tokens=6).completion


@pytest.mark.parametrize(("limit", "together"), [(None, 150), (7, 7)])
def test_requests_run_at_once_unless_the_user_sets_a_limit(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None, together: int
):
    running = peak = 0
    full = anyio.Event()

    async def meet(self: HNeuronsAPI, **_: Any) -> ModelOutput:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        if running == together:
            full.set()
        with anyio.move_on_after(10):
            await full.wait()
        running -= 1
        return ModelOutput.from_content("tiny", "Paris")

    monkeypatch.setattr(HNeuronsAPI, "generate", meet)
    task = Task(dataset=[Sample(input=QUESTION, id=number) for number in range(150)], solver=generate())
    options: dict[str, Any] = {} if limit is None else {"max_connections": limit}
    (log,) = inspect_eval(task, model=model_of(tiny), display="none", log_dir=str(tmp_path), **options)
    assert log.status == "success", log.error
    assert peak == together


def test_cancelling_does_not_hang_and_cancels_every_draw(model: Model, monkeypatch: pytest.MonkeyPatch):
    futures, own = [], Engine.generate

    def generate(self: Engine, request: Any) -> Any:
        futures.append(own(self, request))
        return futures[-1]

    monkeypatch.setattr(Engine, "generate", generate)

    async def impatient() -> bool:
        with anyio.move_on_after(0.2) as scope:
            config = GenerateConfig(max_tokens=480, num_choices=16, seed=1)
            await api(model).generate([ChatMessageUser(content=QUESTION)], [], "none", config)
        return scope.cancelled_caught

    assert anyio.run(impatient)
    assert len(futures) == 16
    assert all(future.done() for future in futures)
    monkeypatch.undo()
    assert ask(model, seed=1).completion  # the engine goes on
