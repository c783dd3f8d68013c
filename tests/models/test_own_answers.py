"""Contributions behind one's own answers are those of the formula, whatever they are batched with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rounding import assert_same_contributions
from transformers import AutoModelForCausalLM, AutoTokenizer

from hneurons_eval import answer_contributions, contributions, neuron_layout
from hneurons_eval.models import own_answers

QUESTIONS = ["What is the capital of France?", "Who wrote Hamlet?", "Name a dish of Italy.", "Where is 東京?"]
ANSWERS = ["The capital of France is Paris.", "It was written by William Shakespeare, I think.", "pizza", "日本です"]


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path]) -> tuple[Any, Any]:
    directory = tiny_checkpoint("llama")
    return AutoModelForCausalLM.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)


def by_hand(model: Any, tokenizer: Any, question: str, answer: str, stated: str, reduce: Any) -> np.ndarray:
    """One answer alone, its region found from where the words that state it stand."""
    turn = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    start = answer.index(stated)
    region = torch.zeros(1, 1, len(prompt) + len(encoded["input_ids"]), dtype=torch.bool)
    for place, (a, b) in enumerate(encoded["offset_mapping"]):
        region[0, 0, len(prompt) + place] = max(a, start) < min(b, start + len(stated))
    ids = torch.tensor([prompt + encoded["input_ids"]])
    return contributions(model, ids, torch.ones_like(ids), region, reduce=reduce)[0, 0].numpy()


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_each_answer_is_what_it_is_alone_at_the_tokens_that_state_it(tiny: tuple[Any, Any], reduce: Any):
    model, tokenizer = tiny
    found = answer_contributions(model, tokenizer, QUESTIONS, ANSWERS, reduce=reduce)
    assert found.shape == (4, neuron_layout(model).total)
    assert found.dtype == np.float32
    for row, (question, answer, stated) in enumerate(
        zip(QUESTIONS, ANSWERS, ("Paris", None, "pizza", "日本です"), strict=True)
    ):
        if stated is not None:
            alone = by_hand(model, tokenizer, question, answer, stated, reduce)
            assert_same_contributions(found[row], alone, neuron_layout(model), model.config, tokens=64)


def test_the_whole_of_long_answers(tiny: tuple[Any, Any]):
    model, tokenizer = tiny
    found = answer_contributions(model, tokenizer, QUESTIONS[:1], ANSWERS[:1], whole=True)
    whole = by_hand(model, tokenizer, QUESTIONS[0], ANSWERS[0], ANSWERS[0], "mean")
    assert_same_contributions(found[0], whole, neuron_layout(model), model.config, tokens=64)
    assert not np.allclose(found, answer_contributions(model, tokenizer, QUESTIONS[:1], ANSWERS[:1]))


def test_batches_change_nothing(tiny: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch):
    model, tokenizer = tiny
    together = answer_contributions(model, tokenizer, QUESTIONS, ANSWERS)
    monkeypatch.setattr(own_answers, "TOKENS_AT_ONCE", 1)
    alone = answer_contributions(model, tokenizer, QUESTIONS, ANSWERS)
    assert_same_contributions(together, alone, neuron_layout(model), model.config, tokens=64)
    assert own_answers._batches([3, 9, 4]) == [[0], [2], [1]]
    monkeypatch.setattr(own_answers, "TOKENS_AT_ONCE", 12)
    assert own_answers._batches([3, 9, 4, 3]) == [[0, 3, 2], [1]]


def test_a_base_model_gets_question_and_answer_one_behind_the_other(tiny: tuple[Any, Any]):
    model, tokenizer = tiny
    base = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    base.chat_template = None
    prompt, encoded = base("Name a dish.")["input_ids"], base(" pizza", add_special_tokens=False)["input_ids"]
    region = torch.zeros(1, 1, len(prompt) + len(encoded), dtype=torch.bool)
    region[0, 0, len(prompt) :] = True
    ids = torch.tensor([prompt + encoded])
    expected = contributions(model, ids, torch.ones_like(ids), region)[0, 0].numpy()
    found = answer_contributions(model, base, ["Name a dish."], [" pizza"])
    assert_same_contributions(found[0], expected, neuron_layout(model), model.config, tokens=64)


@pytest.mark.parametrize(
    ("questions", "answers", "options", "words"),
    [
        (["a?"], ["b", "c"], {}, "1 questions and 2 answers"),
        ([], [], {}, "at least one"),
        (["a?", "b?"], ["c", " \n"], {}, "answer 1 says nothing"),
        (["a?", "b?"], ["c", ""], {"whole": True}, "answer 1 says nothing"),
        (["a?"], ["b"], {"reduce": "sum"}, "mean, max"),
    ],
)
def test_what_cannot_be_captured_is_refused(
    tiny: tuple[Any, Any], questions: list[str], answers: list[str], options: Any, words: str
):
    with pytest.raises(ValueError, match=words):
        answer_contributions(*tiny, questions, answers, **options)
