"""Passes over tokens that are given: prompts into states, and responses into contributions.

No pass computes logits that nobody asked for, and the prefix that all sequences of a run share is
passed over once.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from hneurons_eval.engine.kv_cache import take_states
from hneurons_eval.engine.logits import final_states, logsumexp_and_entropy
from hneurons_eval.engine.prefix_cache import PrefixSegment, SharedPrefix
from hneurons_eval.engine.requests import Captured, CaptureRequest
from hneurons_eval.models.contributions import Reduce, RegionCapture, TokenCapture
from hneurons_eval.models.hooks import Scaling, hooked
from hneurons_eval.models.scaling import ScalingTable


class PassModel(Protocol):
    """What a pass needs to know of a model: see `decoding.DecodingModel`."""

    @property
    def model(self) -> Any: ...
    @property
    def capture(self) -> RegionCapture: ...
    @property
    def sample_cache(self) -> DynamicCache: ...
    @property
    def groups(self) -> list[list[int]]: ...
    @property
    def window(self) -> int | None: ...
    @property
    def device(self) -> torch.device: ...


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def prefill(
    model: PassModel,
    prompts: Sequence[tuple[int, ...]],
    shared: Sequence[PrefixSegment] | None,
    scaling: Scaling | None,
    sums: Reduce | None,
) -> list[PrefixSegment]:
    """What one pass over prompts leaves, without the prefix that they share.

    Args:
        prompts: token ids, the shared prefix included.
        shared: for each prompt what a pass over the prefix left; None where there is no prefix.
        scaling: factors of the neurons, a row a prompt.
        sums: also sum (`mean`) or maximise (`max`) every neuron's contribution over the tokens.
    """
    skip = shared[0].tokens if shared else 0
    width = max(len(prompt) for prompt in prompts) - skip
    if width == 0:
        empty = take_states(model.sample_cache, model.groups)
        nothing = None if sums is None else torch.zeros(model.capture.layout.total)
        return [PrefixSegment([(k[:, 0, :, :0], v[:, 0, :, :0]) for k, v in empty], nothing) for _ in prompts]
    arguments, real = _left_padded(prompts, skip, width, model.device)
    cache = _cache_with(model, shared)
    if sums is None:
        with hooked(model.capture.places, scaling):
            model.model.get_decoder()(**arguments, past_key_values=cache, use_cache=True)
        values = None
    else:
        region = real[:, None, :]
        ones = torch.ones(len(prompts), 1)
        with model.capture.during(region, sums, counts=ones, scaling=scaling) as values:
            model.model.get_decoder()(**arguments, past_key_values=cache, use_cache=True)
    states = take_states(cache, model.groups)
    last = skip + width
    return [
        PrefixSegment(
            [
                (
                    k[:, row, :, skip + last - len(prompt) : last].clone(),
                    v[:, row, :, skip + last - len(prompt) : last].clone(),
                )
                for k, v in states
            ],
            None if values is None else values[row, 0].clone(),
        )
        for row, prompt in enumerate(prompts)
    ]


def _left_padded(
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


def _cache_with(model: PassModel, shared: Sequence[PrefixSegment] | None) -> DynamicCache:
    """A fresh cache, filled with each row's prefix."""
    cache = DynamicCache()
    if not shared:
        return cache
    prefixes = [stretch.states for stretch in shared]
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


class TeacherForcing:
    """Contributions over regions of given sequences."""

    def __init__(self, model: PassModel, *, strict: bool) -> None:
        self._model = model
        self._prefix = SharedPrefix(window=model.window, off=strict)

    def __call__(self, requests: Sequence[CaptureRequest]) -> list[Captured]:
        """One pass over sequences with one `reduce`; where memory runs out, two passes over half of them each.

        Raises:
            RuntimeError: what the model raises; out of memory only for a single sequence.
        """
        try:
            return self._pass(requests)
        except BaseException as error:
            if len(requests) == 1 or not is_out_of_memory(error):
                raise
        half = len(requests) // 2
        return [*self(requests[:half]), *self(requests[half:])]

    def _pass(self, requests: Sequence[CaptureRequest]) -> list[Captured]:
        reduce, count = requests[0].reduce, max(len(request.regions) for request in requests)
        table = ScalingTable(self._model.capture.places)
        entries = [table.entry(request.neurons, request.alpha) for request in requests]
        shared = self._shared(requests, table, entries)
        skip = shared[0].tokens if shared else 0
        width = max(len(request.tokens) for request in requests) - skip
        arguments, _real = _left_padded([request.tokens for request in requests], skip, width, self._model.device)
        # A request with fewer regions than others has its first one again; what is not asked for is dropped.
        regions = torch.zeros(len(requests), count, width, dtype=torch.bool)
        sizes = torch.zeros(len(requests), count)
        for row, request in enumerate(requests):
            pad = skip + width - len(request.tokens)
            for number in range(count):
                chosen = request.regions[number if number < len(request.regions) else 0]
                sizes[row, number] = len(set(chosen))
                at = torch.tensor([position for position in chosen if position >= skip], dtype=torch.long)
                regions[row, number, at + pad - skip] = True
        ask = [len(request.tokens) - request.response_from for request in requests if request.response_from is not None]
        keep = min(max(ask) + 1, width) if ask else 0
        cache = (
            {"past_key_values": _cache_with(self._model, shared), "use_cache": True} if shared else {"use_cache": False}
        )
        scaling = table.rows(entries)
        watching = self._watching(requests, width)
        also = None if watching is None else watching.see
        with self._model.capture.during(regions, reduce, counts=sizes, scaling=scaling, also=also) as values:
            if keep:
                wanted = _before_responses(requests, keep)
                with final_states(self._model.model, wanted) as states:
                    logits = self._model.model(**arguments, **cache, logits_to_keep=keep).logits
                levels = (logits[0] if states else logits[wanted.to(logits.device)]).split(wanted.sum(dim=1).tolist())
            else:
                levels, states = [None] * len(requests), []
                self._model.model.get_decoder()(**arguments, **cache)
        if shared:
            self._add_prefix(values, requests, shared, sizes, skip)
        return [
            Captured(
                values[row, : len(request.regions)].numpy().copy(),
                *_surprise(request, levels[row]),
                _hidden(request, states, row, keep),
                self._watched(request, watching, row, width),
            )
            for row, request in enumerate(requests)
        ]

    def _watching(self, requests: Sequence[CaptureRequest], width: int) -> TokenCapture | None:
        """What takes every token's values of all neurons that any of the requests watches."""
        flat = [request.watch.flat(self._model.capture.layout) for request in requests if request.watch is not None]
        if not flat:
            return None
        return TokenCapture(self._model.capture, np.unique(np.concatenate(flat)), len(requests) * width)

    def _watched(
        self, request: CaptureRequest, watching: TokenCapture | None, row: int, width: int
    ) -> np.ndarray | None:
        """A row's own part of it: its response's tokens, its neurons."""
        if request.watch is None or request.response_from is None or watching is None:
            return None
        last = (row + 1) * width  # rows are padded on the left
        own = watching.values[last - (len(request.tokens) - request.response_from) : last].numpy()
        return own[:, np.searchsorted(watching.neurons, request.watch.flat(self._model.capture.layout))]

    def _shared(
        self, requests: Sequence[CaptureRequest], table: ScalingTable, entries: Sequence[int]
    ) -> list[PrefixSegment] | None:
        """What a pass over the requests' common prefix left, for each of them; None where it cannot be shared."""
        # The pass must still see one token, and the one before the first log-probability.
        ends = [
            len(r.tokens) - 1 if r.response_from is None else max(min(len(r.tokens), r.response_from) - 1, 0)
            for r in requests
        ]
        longest = max(len(request.tokens) for request in requests)
        prefix = self._prefix.of([request.tokens[:end] for request, end in zip(requests, ends, strict=True)], longest)
        if not prefix or not all(_all_or_none(region, len(prefix)) for r in requests for region in r.regions):
            return None
        reduce = requests[0].reduce
        found = []
        for request, entry in zip(requests, entries, strict=True):
            neurons = request.neurons.digest if request.neurons is not None and entry else None
            key = (neurons, request.alpha if entry else 1.0, reduce)
            run = partial(prefill, self._model, [prefix], None, table.rows([entry]), reduce)
            found.append(self._prefix.stretch(key, lambda run=run: run()[0]))
        return found

    def _add_prefix(
        self,
        values: Tensor,
        requests: Sequence[CaptureRequest],
        shared: Sequence[PrefixSegment],
        sizes: Tensor,
        skip: int,
    ) -> None:
        for row, (request, stretch) in enumerate(zip(requests, shared, strict=True)):
            assert stretch.sums is not None
            for number, region in enumerate(request.regions):
                if min(region) >= skip:
                    continue
                if request.reduce == "mean":
                    values[row, number] += stretch.sums / sizes[row, number]
                else:
                    torch.maximum(values[row, number], stretch.sums, out=values[row, number])


def _all_or_none(region: Sequence[int], prefix: int) -> bool:
    """Whether a region holds all tokens of the prefix, or none of them."""
    return len({position for position in region if position < prefix}) in (0, prefix)


def _before_responses(requests: Sequence[CaptureRequest], keep: int) -> Tensor:
    """Of each row's last `keep` positions those whose logits say how likely a response's token is: bool `[rows, keep]`.

    The first token of a sequence has no distribution before it.
    """
    places = torch.zeros(len(requests), keep, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.response_from is not None:
            places[row, keep - 1 - (len(request.tokens) - max(request.response_from, 1)) : keep - 1] = True
    return places


def _surprise(request: CaptureRequest, logits: Tensor | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Log-probabilities of a response's tokens, and entropies before each, from the logits `[tokens, vocabulary]`."""
    if request.response_from is None or logits is None:
        return None, None
    targets = torch.tensor(request.tokens[max(request.response_from, 1) :], dtype=torch.long, device=logits.device)
    logsumexp, entropy = logsumexp_and_entropy(logits)
    chosen = logits.gather(-1, targets[:, None])[:, 0].float() - logsumexp
    return chosen.cpu().numpy(), entropy.cpu().numpy()


def _hidden(request: CaptureRequest, states: Sequence[Tensor], row: int, keep: int) -> np.ndarray | None:
    """The mean final hidden state over the first region, from its row's last `keep` states."""
    answer = sorted(set(request.regions[0]))
    if request.response_from is None or not states or answer[0] < request.response_from:
        return None
    own = states[0][row, -keep:]
    places = torch.tensor([keep - len(request.tokens) + position for position in answer], device=own.device)
    return own[places].float().mean(dim=0).cpu().numpy()
