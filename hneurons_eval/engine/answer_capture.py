"""Contributions behind answers: of given ones by teacher forcing, of sampled ones from their activation records."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hneurons_eval.engine.activation_records import ActivationRecord, ActivationRecorder, stack
from hneurons_eval.engine.device_errors import free_frames, is_out_of_memory
from hneurons_eval.engine.logits import final_states, logsumexp_and_entropy
from hneurons_eval.engine.offsets import sampled_offsets, tokens_within
from hneurons_eval.engine.prefill import DecodingModel, cache_with, left_padded, prefill
from hneurons_eval.engine.prefix_cache import CommonPrefix, PrefixSegment
from hneurons_eval.engine.requests import AnswerCapture, Captured, CapturedAnswer, CaptureRequest
from hneurons_eval.engine.scheduler import RunningSequence
from hneurons_eval.judging.spans import token_positions
from hneurons_eval.models.contributions import TokenCapture
from hneurons_eval.models.scaling import ScalingTable


def captured_answer(
    model: DecodingModel,
    recorder: ActivationRecorder,
    sequence: RunningSequence,
    tokens: Sequence[int],
    text: str,
    capture: AnswerCapture,
) -> CapturedAnswer:
    """Contributions of an answer that was sampled: `tokens` are its ids, `text` is what they say."""
    offsets = sampled_offsets(model.tokenizer, tokens, text)
    count = min(tokens_within(offsets, text), len(sequence.activations) - 1)  # tokens that were fed
    span = capture.span(text)
    answer = () if span is None else tuple(token_positions(offsets[:count], span))
    if not answer:
        return CapturedAnswer(count, span, (), None)
    device = sequence.activations[0][0].z.device

    def fed(numbers: Sequence[int]) -> ActivationRecord:
        """Some of the tokens fed; the first is the prompt's last one."""
        return stack([sequence.activations[number] for number in numbers], device)

    of_answer = fed([1 + number for number in answer])
    regions = [recorder.reduce(of_answer, capture.reduce)]
    if capture.reduce == "mean":
        regions[0] /= len(answer)
    if capture.other:
        inside = set(answer)
        rest = [0, *(1 + number for number in range(count) if number not in inside)]
        other, prompt = (recorder.reduce(fed(numbers), capture.reduce) for numbers in (rest, [0]))
        for values in (sums.numpy() for sums in sequence.prompt_sums):
            join = np.add if capture.reduce == "mean" else np.maximum
            other, prompt = join(other, values), join(prompt, values)
        if capture.reduce == "mean":
            length = len(sequence.key.tokens)
            other, prompt = other / (length - 1 + len(rest)), prompt / length
        regions += [other, prompt]
    hidden = of_answer.mean_hidden()
    per_token = None
    if capture.per_token is not None:
        per_token = recorder.select(fed(range(1, 1 + count)), capture.per_token.flat(model.capture.layout))
    return CapturedAnswer(
        count, span, answer, np.stack(regions), None if hidden is None else hidden.cpu().numpy(), per_token
    )


class TeacherForcing:
    """Contributions over regions of given sequences."""

    def __init__(self, model: DecodingModel, *, deterministic: bool) -> None:
        self._model = model
        self._prefix = CommonPrefix(window=model.window, off=deterministic)

    def __call__(self, requests: Sequence[CaptureRequest]) -> list[Captured]:
        """One pass over sequences with one `reduce`; where memory runs out, two passes over half of them each.

        Raises what the model raises; out of memory only for a single sequence.
        """
        try:
            return self._pass(requests)
        except BaseException as error:
            if not is_out_of_memory(error):
                raise
            free_frames(error)  # which hold the failed pass's activations
            if len(requests) == 1:
                raise
        half = len(requests) // 2
        return [*self(requests[:half]), *self(requests[half:])]

    def _pass(self, requests: Sequence[CaptureRequest]) -> list[Captured]:
        reduce, count = requests[0].reduce, max(len(request.regions) for request in requests)
        table = ScalingTable(self._model.capture.projections)
        entries = [table.entry(request.intervention) for request in requests]
        shared = self._shared(requests, table, entries)
        skip = shared[0].tokens if shared else 0
        width = max(len(request.tokens) for request in requests) - skip
        arguments, _real = left_padded([request.tokens for request in requests], skip, width, self._model.device)
        # A request with fewer regions than others has its first one again; the extra ones are dropped.
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
            {"past_key_values": cache_with(self._model, shared), "use_cache": True} if shared else {"use_cache": False}
        )
        scaling = table.rows(entries)
        tokens = self._token_capture(requests, width)
        observer = None if tokens is None else tokens.observe
        with self._model.capture.during(regions, reduce, counts=sizes, scaling=scaling, observer=observer) as values:
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
                *_logprobs_and_entropies(request, levels[row]),
                _hidden(request, states, row, keep),
                self._per_token(request, tokens, row, width),
            )
            for row, request in enumerate(requests)
        ]

    def _token_capture(self, requests: Sequence[CaptureRequest], width: int) -> TokenCapture | None:
        layout = self._model.capture.layout
        flat = [request.per_token.flat(layout) for request in requests if request.per_token is not None]
        if not flat:
            return None
        return TokenCapture(self._model.capture, np.unique(np.concatenate(flat)), len(requests) * width)

    def _per_token(
        self, request: CaptureRequest, tokens: TokenCapture | None, row: int, width: int
    ) -> np.ndarray | None:
        """A row's own part of it: its response's tokens, its neurons."""
        if request.per_token is None or request.response_from is None or tokens is None:
            return None
        last = (row + 1) * width  # rows are padded on the left
        own = tokens.values[last - (len(request.tokens) - request.response_from) : last].numpy()
        return own[:, np.searchsorted(tokens.neurons, request.per_token.flat(self._model.capture.layout))]

    def _shared(
        self, requests: Sequence[CaptureRequest], table: ScalingTable, entries: Sequence[int]
    ) -> list[PrefixSegment] | None:
        """For each request the segment of their common prefix; None where it cannot be shared."""
        # The pass must still see one token, and the one before the first log-probability.
        ends = [
            len(r.tokens) - 1 if r.response_from is None else max(min(len(r.tokens), r.response_from) - 1, 0)
            for r in requests
        ]
        longest = max(len(request.tokens) for request in requests)
        prefix = self._prefix.find([request.tokens[:end] for request, end in zip(requests, ends, strict=True)], longest)
        if not prefix or not all(_all_or_none(region, len(prefix)) for r in requests for region in r.regions):
            return None
        reduce = requests[0].reduce
        found = []
        for request, entry in zip(requests, entries, strict=True):
            key = (request.intervention.key, reduce)
            run = partial(prefill, self._model, [prefix], None, table.rows([entry]), reduce)
            found.append(self._prefix.segment(key, lambda run=run: run()[0]))
        return found

    def _add_prefix(
        self,
        values: Tensor,
        requests: Sequence[CaptureRequest],
        shared: Sequence[PrefixSegment],
        sizes: Tensor,
        skip: int,
    ) -> None:
        for row, (request, segment) in enumerate(zip(requests, shared, strict=True)):
            assert segment.sums is not None
            for number, region in enumerate(request.regions):
                if min(region) >= skip:
                    continue
                if request.reduce == "mean":
                    values[row, number] += segment.sums / sizes[row, number]
                else:
                    torch.maximum(values[row, number], segment.sums, out=values[row, number])


def _all_or_none(region: Sequence[int], prefix: int) -> bool:
    """Whether a region holds all tokens of the prefix, or none of them."""
    return len({position for position in region if position < prefix}) in (0, prefix)


def _before_responses(requests: Sequence[CaptureRequest], keep: int) -> Tensor:
    """Which of each row's last `keep` positions predict a response token: bool `[rows, keep]`."""
    wanted = torch.zeros(len(requests), keep, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.response_from is not None:
            wanted[row, keep - 1 - (len(request.tokens) - max(request.response_from, 1)) : keep - 1] = True
    return wanted


def _logprobs_and_entropies(
    request: CaptureRequest, logits: Tensor | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
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
    positions = torch.tensor([keep - len(request.tokens) + position for position in answer], device=own.device)
    return own[positions].float().mean(dim=0).cpu().numpy()
