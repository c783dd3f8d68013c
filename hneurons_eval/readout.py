"""What the output end of a model tells beside its text: how sure it is of each token, and its last hidden state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_ROWS = 16


def normaliser_and_entropy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log sum exp of each row of logits, and the entropy of its softmax in nats: float32 `[rows]` each.

    In float32 whatever the dtype: in half precision the normaliser would be off by a hundredth. A few rows at a
    time, so that what is read again lies in the processor's cache.

    Args:
        logits: `[rows, vocabulary]`.
    """
    normaliser = torch.empty(len(logits), device=logits.device)
    entropy = torch.empty(len(logits), device=logits.device)
    for start in range(0, len(logits), _ROWS):
        part = slice(start, start + _ROWS)
        shifted = logits[part].float()
        highest = shifted.amax(dim=-1, keepdim=True)
        shifted = shifted - highest
        weights = shifted.exp()
        total = weights.sum(dim=-1)
        # A logit of -inf (a forbidden token) has weight 0 and adds nothing: 0 * -inf would be NaN.
        mean = (weights * shifted.clamp_min(-1e4)).sum(dim=-1) / total
        normaliser[part] = total.log() + highest[:, 0]
        entropy[part] = total.log() - mean
    return normaliser, entropy


@contextmanager
def final_states(model: Any) -> Iterator[list[Tensor]]:
    """The hidden states that the output embedding is given while the block runs, `[batch, tokens, hidden size]`.

    Yields:
        a list, to which each pass adds one tensor; it stays empty where a model has no output embedding.
    """
    seen: list[Tensor] = []
    head: nn.Module | None = model.get_output_embeddings()
    if head is None:
        yield seen
        return
    handle = head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
