"""Contributions behind given answers, with a transformers model and no engine.

```python
X = answer_contributions(model, tokenizer, questions, answers)         # float32 [answers, neurons]
probe = Probe(penalty="l1", C=10.0).fit(X, hallucinated, widths=neuron_layout(model).widths)
```
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hneurons_eval.judging.spans import answer_span, token_positions
from hneurons_eval.models.contributions import REDUCTIONS, Reduce, RegionCapture, forward_without_logits

TOKENS_AT_ONCE = 4_096
"""Padded tokens in one pass."""


def answer_contributions(
    model: nn.Module,
    tokenizer: Any,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    reduce: Reduce = "mean",
    whole: bool = False,
) -> NDArray[np.float32]:
    """Contributions of every neuron over the tokens that state the answer, from one pass over each prompt and answer.

    A question is the user's turn in the chat template; without one, as for a base model, the answer follows the
    question. The part of the answer that echoes the question is left out by the rule of `spans.answer_span`.

    Args:
        model: a transformers causal language model.
        tokenizer: its fast tokenizer.
        questions: the full user messages.
        answers: the model's, one for each question.
        reduce: `mean` (the paper's) or `max` over the tokens.
        whole: take all tokens of each answer, for long ones.

    Returns:
        float32 `[answers, neurons]`, neurons layer-major as in `neuron_layout`.

    Raises:
        ValueError: not as many answers as questions, none at all, or one that is empty, which is named.
        UnsupportedModelError: the model's neurons cannot all be found.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {reduce!r}")
    if len(questions) != len(answers) or not len(answers):
        raise ValueError(
            f"give one answer to each question, and at least one; found {len(questions)} questions and "
            f"{len(answers)} answers"
        )
    rows = [
        _tokenised(tokenizer, question, answer, number, whole)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    capture = RegionCapture(model)
    device = next(model.parameters()).device
    found = np.empty((len(rows), capture.layout.total), np.float32)
    for batch in _batches([len(ids) for ids, _ in rows]):
        width = max(len(rows[number][0]) for number in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        mask = torch.zeros(len(batch), width, dtype=torch.long)
        regions = torch.zeros(len(batch), 1, width, dtype=torch.bool)
        for row, number in enumerate(batch):
            own, answer = rows[number]
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
            regions[row, 0, answer] = True
        with torch.inference_mode(), capture.during(regions, reduce) as values:
            forward_without_logits(model, ids.to(device), mask.to(device))
        found[batch] = values[:, 0].numpy()
    return found


def _tokenised(tokenizer: Any, question: str, answer: str, number: int, whole: bool) -> tuple[list[int], list[int]]:
    """Token ids of prompt and answer, and the positions that state the answer."""
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template has written them
    else:
        prompt = tokenizer(question)["input_ids"]
    encoded = tokenizer(answer, add_special_tokens=False, return_offsets_mapping=True)
    span = (0, len(answer)) if whole and answer.strip() else answer_span(question, answer)
    stated = [] if span is None else token_positions(encoded["offset_mapping"], span)
    if not stated:
        raise ValueError(f"answer {number} says nothing: {answer!r}; leave out such answers and their questions")
    return [*prompt, *encoded["input_ids"]], [len(prompt) + number for number in stated]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows in batches of similar length, none with more padded tokens than fit."""
    found: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: lengths[number]):
        if found and (len(found[-1]) + 1) * lengths[number] <= TOKENS_AT_ONCE:
            found[-1].append(number)
        else:
            found.append([number])
    return found
