"""Logits and final hidden states: logsumexp and entropy of each distribution, and the output embedding's input."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 4
"""Rows in one block of work, which a processor's cache holds."""


def logsumexp_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log sum exp of logits `[rows, vocabulary]`, and the entropy of their softmax in nats: float32 `[rows]` each.

    In float32 whatever the dtype: in half precision the logsumexp would be off by a hundredth.
    """
    logsumexp = torch.empty(len(logits), device=logits.device)
    entropy = torch.empty(len(logits), device=logits.device)
    for start in range(0, len(logits), _ROWS):
        part = slice(start, start + _ROWS)
        levels = logits[part].float()
        highest = levels.amax(dim=-1, keepdim=True)
        # A logit of -inf (a forbidden token) has weight 0 and adds nothing: 0 * -inf would be NaN.
        levels = (levels - highest).clamp_min_(-1e4)
        weights = levels.exp()
        total = weights.sum(dim=-1)
        logsumexp[part] = total.log() + highest[:, 0]
        entropy[part] = total.log() - torch.linalg.vecdot(weights, levels) / total
    return logsumexp, entropy


@contextmanager
def final_states(model: Any, wanted: Tensor | None = None) -> Iterator[list[Tensor]]:
    """The inputs of the output embedding while the block runs: a list of `[batch, tokens, hidden size]`, one a pass.

    The list stays empty where a model has no output embedding. With `wanted`, bool `[batch, tokens]`, logits of these
    positions alone are computed: the model returns `[1, wanted positions, vocabulary]`, row by row.
    """
    seen: list[Tensor] = []
    head: nn.Module | None = model.get_output_embeddings()
    if head is None:
        yield seen
        return

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        seen.append(inputs[0])
        return None if wanted is None else (inputs[0][wanted.to(inputs[0].device)][None], *inputs[1:])

    handle = head.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
