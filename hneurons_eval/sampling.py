"""Draw the next token of each row, with each row's own options, independent of the rest of the batch.

A row's randomness is one uniform number a token, derived from (seed, draw, prompt, position) by a
hash, and the token is read off the cumulative distribution in vocabulary order. So a row's text
depends on nothing but its own logits: not on batch size, position in the batch, or thread.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 256
_ROWS = 16
_FLOOR = -80.0
_NOTHING = float(torch.tensor(_FLOOR).exp()) * 1.001  # a little more, however a processor rounds exp
_NUCLEUS = 1024
"""Most likely tokens among which top_p is looked for before the whole vocabulary is sorted."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose a token.

    Attributes:
        temperature: 0 takes the most likely token.
        top_k: keep this many most likely tokens; None keeps all.
        top_p: keep the smallest set of most likely tokens that holds this probability; None keeps all.

    Raises:
        ValueError: an option out of range.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature should be at least 0, found {self.temperature}")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"top_k should be at least 1 (or 0 for all), found {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p should be above 0 and at most 1, found {self.top_p}")


def row_key(seed: int, draw: int, prompt: Sequence[int]) -> bytes:
    """What a row's random numbers are derived from: 16 bytes."""
    state = hashlib.blake2b(struct.pack("<qq", _signed64(seed), draw), digest_size=16)
    state.update(struct.pack(f"<{len(prompt)}i", *prompt))
    return state.digest()


def uniform(key: bytes, position: int) -> float:
    """A number in [0, 1) that is the same for the same row and position."""
    digest = hashlib.blake2b(struct.pack("<q", position), key=key, digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(
    logits: Tensor,
    options: Sequence[SamplingOptions],
    uniforms: Sequence[float],
    rows: Sequence[int] | None = None,
) -> Tensor:
    """The next token of each draw: int64 `[draws]`.

    Args:
        logits: `[rows, vocabulary]`, of any float dtype; probabilities are computed in float32 or better.
        options: of each draw.
        uniforms: a number in [0, 1) for each draw; not used where the temperature is 0.
        rows: the row of logits that each draw is from; default one draw a row.
    """
    device = logits.device
    place = torch.arange(len(options)) if rows is None else torch.tensor(rows, dtype=torch.long)
    tokens = torch.empty(len(options), dtype=torch.long, device=device)
    for option in dict.fromkeys(options):
        draws = torch.tensor([number for number, own in enumerate(options) if own == option])
        # What depends on the row alone is worked out once for all draws from it.
        own, of_draw = place[draws].unique(return_inverse=True)
        chosen = logits if len(own) == len(logits) else logits[own.to(device)]
        if option.temperature == 0:
            found = chosen.argmax(dim=-1)[of_draw.to(device)]
        else:
            u = torch.tensor([uniforms[number] for number in draws.tolist()], dtype=torch.float64, device=device)
            found = _draw(chosen, option, u, of_draw.to(device))
        tokens[draws.to(device)] = found
    return tokens


def _draw(logits: Tensor, option: SamplingOptions, u: Tensor, rows: Tensor) -> Tensor:
    """Tokens int64 `[draws]` for uniforms `[draws]`, each from its own of the rows `[rows, vocabulary]`."""
    temperature = max(option.temperature, 1e-30)  # a quotient by less might overflow
    vocabulary = logits.shape[-1]
    top_k = min(option.top_k or vocabulary, vocabulary)
    top_p = option.top_p if option.top_p is not None and option.top_p < 1 else None
    if top_k == vocabulary and top_p is None:
        return _draw_from_all(logits, temperature, u, rows)
    keep = top_k if top_k < vocabulary else min(_NUCLEUS, vocabulary)
    values, tokens = logits.topk(keep, dim=-1)  # descending; their order does not depend on the temperature
    highest = values[:, :1].float()
    values = (values.float() - highest) / temperature
    if top_k == vocabulary:
        # Probabilities are of the whole vocabulary; sort all of it only where the nucleus is wider than kept.
        scaled = (logits.float() - highest) / temperature
        probabilities = (values.double() - scaled.double().logsumexp(dim=-1, keepdim=True)).exp()
        if keep < vocabulary and top_p is not None and bool((probabilities.sum(dim=-1) < top_p).any()):
            values, tokens = scaled.sort(dim=-1, descending=True)
            probabilities = values.double().softmax(dim=-1)
    else:
        probabilities = values.double().softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    # In vocabulary order: two tokens that are nearly as likely may swap ranks by rounding, not places.
    tokens, order = tokens.sort(dim=-1)
    probabilities = probabilities.gather(-1, order)[rows]
    return tokens[rows].gather(-1, _inverse_cdf(probabilities, u)[:, None])[:, 0]


def _draw_from_all(logits: Tensor, temperature: float, u: Tensor, rows: Tensor) -> Tensor:
    """Inverse CDF over the whole vocabulary in two steps, block then token.

    A few rows at a time, so that what is read again lies in the processor's cache.
    """
    tokens = torch.empty(len(u), dtype=torch.long, device=logits.device)
    for start in range(0, len(logits), _ROWS):
        draws = ((rows >= start) & (rows < start + _ROWS)).nonzero()[:, 0]
        tokens[draws] = _draw_some(logits[start : start + _ROWS], temperature, u[draws], rows[draws] - start)
    return tokens


def _draw_some(logits: Tensor, temperature: float, u: Tensor, of_draw: Tensor) -> Tensor:
    rows, vocabulary = logits.shape
    weights = logits.to(torch.float32, copy=True)
    # exp(-80) is nothing beside 1 and is made nothing; below exp(-87) processors turn many times slower
    # (denormal numbers).
    weights.sub_(weights.amax(dim=-1, keepdim=True)).div_(temperature).clamp_min_(_FLOOR).exp_()
    weights.sub_(_NOTHING).clamp_min_(0.0)
    if vocabulary % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, _BLOCK - vocabulary % _BLOCK))
    blocks = weights.view(rows, -1, _BLOCK)
    sums = blocks.sum(dim=-1).double()[of_draw]  # [draws, blocks]
    block = _inverse_cdf(sums, u)
    before = sums.cumsum(dim=-1).gather(-1, block[:, None]) - sums.gather(-1, block[:, None])
    within = blocks[of_draw, block].double()  # [draws, _BLOCK]
    # What of u times the total is left in the block, as a share of the block.
    share = ((u[:, None] * sums.sum(dim=-1, keepdim=True) - before) / sums.gather(-1, block[:, None])).clamp(0, 1)
    return block * _BLOCK + _inverse_cdf(within, share[:, 0])


def _inverse_cdf(probabilities: Tensor, u: Tensor) -> Tensor:
    """Index of the entry in which u times the total falls: int64 `[rows]`."""
    cumulative = probabilities.cumsum(dim=-1)
    target = u[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, target, right=True)[:, 0]
    # u < 1, but u * total may round up to the total: the last entry that has any probability.
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(dim=-1)
    return torch.minimum(index, last)


def _signed64(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
