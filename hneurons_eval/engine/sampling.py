"""Sampling of the next token, by each sample's own options and noise, independent of the rest of the batch.

A token is sampled by an exponential race (the Gumbel-max trick without its logarithms): a candidate of weight `w =
exp((logit - highest) / temperature)` gets noise `E` from the exponential distribution, and the largest `w / E` wins,
with probability `w / sum(w)`. The noise is a hash of seed, sample, prompt, position and token id, so rounding of the
logits changes a token only where the two best candidates are within rounding of each other.

Without top_k and top_p two races replace the one over the whole vocabulary: between blocks of 256 token ids by their
summed weights, then within the block that won. The distribution is the same, with some 450 noise values in all.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 256
_ROWS = 16
"""Rows in one block of work on a CPU, whose cache holds them."""
_FLOOR = -80.0
_NEGLIGIBLE = float(torch.tensor(_FLOOR).exp()) * 1.001  # a little more, however a processor rounds exp
_NUCLEUS = 1024
"""Most likely tokens among which top_p is looked for before the whole vocabulary is sorted."""

# The constants of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
_GOLDEN, _MIX_1, _MIX_2 = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class SamplingOptions:
    """Temperature, top_k and top_p. Raises ValueError: an option out of range."""

    temperature: float = 0.0  # 0 takes the most likely token
    top_k: int | None = None  # keep this many most likely tokens; None keeps all
    # Keep the smallest set of most likely tokens that holds this probability; None keeps all
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature should be at least 0, found {self.temperature}")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"top_k should be at least 1 (or 0 for all), found {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p should be above 0 and at most 1, found {self.top_p}")


def row_key(seed: int, sample: int, prompt: Sequence[int]) -> bytes:
    """Identity of a sample, from which its noise is derived: 16 bytes."""
    state = hashlib.blake2b(struct.pack("<qq", _signed64(seed), sample), digest_size=16)
    state.update(struct.pack(f"<{len(prompt)}i", *prompt))
    return state.digest()


def noise_key(key: bytes, position: int) -> int:
    """A signed 64-bit integer that selects the noise of one position of a sample."""
    digest = hashlib.blake2b(struct.pack("<q", position), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def exponential_noise(keys: Tensor, tokens: Tensor) -> Tensor:
    """Exponential noise of each token id under each key: float32 `[samples, candidates]`, above 0 and finite.

    SplitMix64, then the inverse CDF. `keys` are int64 `[samples]`, from `noise_key`; `tokens` int64 `[candidates]`, or
    `[samples, candidates]` where each sample has its own.
    """
    bits = keys[:, None] + tokens * _GOLDEN  # int64 products wrap around
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _MIX_1  # the masks make these shifts those of unsigned numbers
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _MIX_2
    bits = bits ^ ((bits >> 31) & 0x1FFFFFFFF)
    # 40 bits, so that the small values, which win the races, are as finely spread as float32 allows.
    uniform = ((bits >> 24) & 0xFFFFFFFFFF).float().mul_(-(2.0**-40)).sub_(2.0**-41)  # and its sign, for log1p
    return uniform.clamp_min_(2.0**-24 - 1).log1p_().neg_()


def choose(
    logits: Tensor,
    options: Sequence[SamplingOptions],
    keys: Sequence[int],
    rows: Sequence[int] | None = None,
) -> Tensor:
    """The next token of each sample: int64 `[samples]`.

    Args:
        logits: `[rows, vocabulary]`, of any float dtype; weights are computed in float32.
        options: of each sample.
        keys: the `noise_key` of each sample; not used where the temperature is 0.
        rows: the row of logits of each sample; default one sample a row.
    """
    device = logits.device
    row_of = torch.arange(len(options)) if rows is None else torch.tensor(rows, dtype=torch.long)
    tokens = torch.empty(len(options), dtype=torch.long, device=device)
    for option in dict.fromkeys(options):
        samples = torch.tensor([number for number, own in enumerate(options) if own == option])
        # What depends on the row alone is computed once for all samples of it.
        own, of_sample = row_of[samples].unique(return_inverse=True)
        chosen = logits if len(own) == len(logits) else logits[own.to(device)]
        if option.temperature == 0:
            found = chosen.argmax(dim=-1)[of_sample.to(device)]
        else:
            noise = torch.tensor([keys[number] for number in samples.tolist()], dtype=torch.long)
            found = _sample(chosen, option, noise.to(device), of_sample)
        if len(samples) == len(options):
            return found
        tokens[samples.to(device)] = found
    return tokens


def _sample(logits: Tensor, option: SamplingOptions, keys: Tensor, rows: Tensor) -> Tensor:
    """Tokens int64 `[samples]` for keys `[samples]`, each from its own of the rows (int64 `[samples]`, on the CPU)."""
    vocabulary = logits.shape[-1]
    top_k = min(option.top_k or vocabulary, vocabulary)
    top_p = option.top_p if option.top_p is not None and option.top_p < 1 else None
    if top_k == vocabulary and top_p is None:
        return _from_all(logits, option, keys, rows)
    keep = top_k if top_k < vocabulary else min(_NUCLEUS, vocabulary)
    values, tokens = logits.topk(keep, dim=-1)  # descending; their order does not depend on the temperature
    highest = values[:, :1].float()
    weights = _weights(values, highest, option)
    wide = torch.tensor([], dtype=torch.long)
    if top_p is not None:
        if keep == top_k:
            total = weights.sum(dim=-1, keepdim=True)
        else:  # probabilities are of the whole vocabulary
            total = _weights(logits, highest, option).sum(dim=-1, keepdim=True)
            wide = (weights.sum(dim=-1) < top_p * total[:, 0]).nonzero()[:, 0].cpu()
        weights = _nucleus(weights, top_p * total)
    of_sample = rows.to(logits.device)
    candidates = tokens[of_sample]
    winner = _race(weights[of_sample], exponential_noise(keys, candidates))
    found = candidates.gather(-1, winner[:, None])[:, 0]
    if top_p is not None and len(wide):
        # The nucleus holds more tokens than were kept: sort all of these rows.
        samples = torch.isin(rows, wide).nonzero()[:, 0]
        own = torch.searchsorted(wide, rows[samples])
        at, again = wide.to(logits.device), samples.to(logits.device)
        weights, tokens = _weights(logits[at], highest[at], option).sort(dim=-1, descending=True)
        weights = _nucleus(weights, top_p * weights.sum(dim=-1, keepdim=True))
        weights = torch.zeros_like(weights).scatter_(-1, tokens, weights)
        found[again] = _race_of_blocks(weights, keys[again], own.to(logits.device))
    return found


def _weights(logits: Tensor, highest: Tensor, option: SamplingOptions, out: Tensor | None = None) -> Tensor:
    """exp of each logit below the row's highest, over the temperature: float32, at most 1."""
    # `highest` is float32, hence half precision becomes that.
    weights = (logits - highest).float() if out is None else torch.sub(logits, highest, out=out)
    if option.temperature != 1:
        weights.div_(max(option.temperature, 1e-30))
    # exp(-80) is negligible beside 1 and is set to 0; below exp(-87) processors turn many times slower
    # (denormal numbers).
    return weights.clamp_min_(_FLOOR).exp_().sub_(_NEGLIGIBLE).clamp_min_(0.0)


def _nucleus(weights: Tensor, mass: Tensor) -> Tensor:
    """Descending weights, of which those behind the given mass are made 0; the first always stays."""
    behind = weights.double().cumsum(dim=-1) - weights >= mass
    behind[:, 0] = False
    return weights.masked_fill(behind, 0.0)


def _from_all(logits: Tensor, option: SamplingOptions, keys: Tensor, rows: Tensor) -> Tensor:
    """A token of the whole vocabulary for each sample."""
    device = logits.device
    size = _ROWS if device.type == "cpu" else len(logits)
    tokens = torch.empty(len(keys), dtype=torch.long, device=device)
    # One buffer for all parts: new memory for each can cost as much again.
    buffer = torch.empty(min(size, len(logits)), logits.shape[-1], device=device)
    for start in range(0, len(logits), size):
        part = logits[start : start + size]
        weights = _weights(part, part.amax(dim=-1, keepdim=True).float(), option, buffer[: len(part)])
        if size >= len(logits):
            return _race_of_blocks(weights, keys, rows.to(device))
        samples = ((rows >= start) & (rows < start + size)).nonzero()[:, 0]
        tokens[samples] = _race_of_blocks(weights, keys[samples], rows[samples] - start)
    return tokens


def _race_of_blocks(weights: Tensor, keys: Tensor, of_sample: Tensor) -> Tensor:
    """Tokens int64 `[samples]`: a race between blocks of token ids by weight, then one within the winner."""
    rows, vocabulary = weights.shape
    if vocabulary % _BLOCK:
        weights = torch.nn.functional.pad(weights, (0, _BLOCK - vocabulary % _BLOCK))
    blocks = weights.view(rows, -1, _BLOCK)
    sums = blocks.sum(dim=-1)
    # Negative numbers name the blocks, so that their noise is not that of any token.
    names = torch.arange(-1, -1 - sums.shape[-1], -1, device=weights.device)
    block = _race(sums[of_sample], exponential_noise(keys, names))
    tokens = block[:, None] * _BLOCK + torch.arange(_BLOCK, device=weights.device)
    within = _race(blocks[of_sample, block], exponential_noise(keys, tokens))
    return block * _BLOCK + within


def _race(weights: Tensor, noise: Tensor) -> Tensor:
    """Index of the winner of each row, each with a probability in proportion to its weight: int64 `[samples]`."""
    return (weights / noise).argmax(dim=-1)


def _signed64(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
