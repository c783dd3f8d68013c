"""One pass over prompts: their attention states, and sums of contributions over their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from hneurons_eval.engine.kv_cache import layer_groups, take_states
from hneurons_eval.engine.prefix_cache import PrefixSegment
from hneurons_eval.models.contributions import Reduce, RegionCapture
from hneurons_eval.models.hooks import Scaling, hooked


@dataclass
class DecodingModel:
    """A model with everything that decoding needs to know of it."""

    model: Any  # a transformers causal language model
    tokenizer: Any  # its fast tokenizer
    capture: RegionCapture  # its down projections and their norms
    sample_cache: DynamicCache  # the cache that any pass leaves, for shapes
    end_tokens: frozenset[int]  # tokens that end an answer
    window: int | None  # tokens that a sliding window covers, or None
    device: torch.device  # of the inputs
    groups: list[list[int]] = field(init=False)  # layers whose keys and values have one shape, together

    def __post_init__(self) -> None:
        self.groups = layer_groups(self.sample_cache)


def prefill(
    model: DecodingModel,
    prompts: Sequence[tuple[int, ...]],
    shared: Sequence[PrefixSegment] | None,
    scaling: Scaling | None,
    sums: Reduce | None,
) -> list[PrefixSegment]:
    """The segment that one pass leaves of each prompt, behind the prefix that they share.

    Args:
        model: to run.
        prompts: token ids, the shared prefix included.
        shared: the prefix's segment for each prompt; None where there is no prefix.
        scaling: factors of the neurons, a row a prompt.
        sums: also sum (`mean`) or maximise (`max`) every neuron's contribution over the tokens.
    """
    skip = shared[0].tokens if shared else 0
    width = max(len(prompt) for prompt in prompts) - skip
    if width == 0:
        empty = take_states(model.sample_cache, model.groups)
        nothing = None if sums is None else torch.zeros(model.capture.layout.total)
        return [PrefixSegment([(k[:, 0, :, :0], v[:, 0, :, :0]) for k, v in empty], nothing) for _ in prompts]
    arguments, real = left_padded(prompts, skip, width, model.device)
    cache = cache_with(model, shared)
    if sums is None:
        with hooked(model.capture.projections, scaling):
            model.model.get_decoder()(**arguments, past_key_values=cache, use_cache=True)
        values = None
    else:
        ones = torch.ones(len(prompts), 1)
        with model.capture.during(real[:, None, :], sums, counts=ones, scaling=scaling) as values:
            model.model.get_decoder()(**arguments, past_key_values=cache, use_cache=True)
    states = take_states(cache, model.groups)
    last = skip + width
    segments = []
    for row, prompt in enumerate(prompts):
        own = slice(skip + last - len(prompt), last)
        pairs = [(k[:, row, :, own].clone(), v[:, row, :, own].clone()) for k, v in states]
        segments.append(PrefixSegment(pairs, None if values is None else values[row, 0].clone()))
    return segments


def left_padded(
    sequences: Sequence[tuple[int, ...]], skip: int, width: int, device: torch.device
) -> tuple[dict[str, Tensor], Tensor]:
    """Arguments of a pass over all but the first `skip` tokens, and which of its positions are real `[rows, width]`."""
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros(len(sequences), skip + width, dtype=torch.long)
    mask[:, :skip] = 1
    for row, sequence in enumerate(sequences):
        own = len(sequence) - skip
        ids[row, width - own :] = torch.tensor(sequence[skip:], dtype=torch.long)
        mask[row, skip + width - own :] = 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, skip:]
    arguments = {
        "input_ids": ids.to(device),
        "attention_mask": mask.to(device),
        "position_ids": positions.to(device),
    }
    return arguments, mask[:, skip:].bool()


def cache_with(model: DecodingModel, shared: Sequence[PrefixSegment] | None) -> DynamicCache:
    """A fresh cache, filled with each row's prefix."""
    cache = DynamicCache()
    if not shared:
        return cache
    prefixes = [segment.states for segment in shared]
    same = all(prefix is prefixes[0] for prefix in prefixes)
    for group, layers in enumerate(model.groups):
        for within, layer in enumerate(layers):
            pair = []
            for side in (0, 1):
                if same:
                    one = prefixes[0][group][side][within]
                    pair.append(one.expand(len(prefixes), *one.shape))
                else:
                    pair.append(torch.stack([prefix[group][side][within] for prefix in prefixes]))
            cache.update(pair[0], pair[1], layer)
    return cache
