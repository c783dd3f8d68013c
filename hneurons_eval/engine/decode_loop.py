"""The decode loop: draws that have said the same so far share a lane, and each lane is computed once.

After each step a lane splits by the tokens its draws chose. So ten draws of one prompt cost one
prefill and one row until they differ, and but for rounding a draw's text does not depend on which others there are.
"""

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from hneurons_eval.engine.activation_records import ActivationRecorder, compact, mean_hidden
from hneurons_eval.engine.answer_capture import is_out_of_memory, prefill
from hneurons_eval.engine.kv_cache import KVCache, layer_groups
from hneurons_eval.engine.logits import final_states, logsumexp_and_entropy
from hneurons_eval.engine.prefix_cache import PrefixCache, PrefixSegment, PromptKey, SharedPrefix
from hneurons_eval.engine.requests import CapturedAnswer, Generation, TokenLogprob
from hneurons_eval.engine.sampling import choose, noise_key
from hneurons_eval.engine.scheduler import Draw, Lane, MemoryPlan, Waiting, first_tokens
from hneurons_eval.judging.spans import token_positions
from hneurons_eval.models.contributions import RegionCapture
from hneurons_eval.models.hooks import hooked
from hneurons_eval.models.scaling import ScalingTable

PREFILL_TOKENS = 16_384
"""Most padded tokens in one pass."""
LIKELY_TOKENS = 128
"""Columns for which room is made at first, where an answer may be longer."""
COMPACT_EVERY = 16
REGROW_EVERY = 256


@dataclass
class DecodingModel:
    """What the decode loop needs to know of a model.

    Attributes:
        model: a transformers causal language model.
        tokenizer: its fast tokenizer.
        capture: where its neurons are.
        sample_cache: the cache that any pass leaves, for shapes.
        end_tokens: tokens that end an answer.
        window: tokens that a sliding window covers, or None.
        device: of the inputs.
        groups: layers whose keys and values have one shape, together.
    """

    model: Any
    tokenizer: Any
    capture: RegionCapture
    sample_cache: DynamicCache
    end_tokens: frozenset[int]
    window: int | None
    device: torch.device
    groups: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.groups = layer_groups(self.sample_cache)


class Batch:
    """The lanes that are being decoded.

    Args:
        model: what to run.
        max_rows: most draws at once.
        max_bytes: memory that keys, values and records may take together.
        store_bytes: memory for the states of prompts that may come again.
        strict: one draw at a time, nothing shared: the text is bit for bit what the draw alone gives.
    """

    def __init__(self, model: DecodingModel, *, max_rows: int, max_bytes: int, store_bytes: int, strict: bool) -> None:
        self.lanes: list[Lane] = []
        self.waiting = Waiting()
        self._model = model
        self._strict = strict
        self._cache = KVCache(model.sample_cache)
        self._table = ScalingTable(model.capture.places)
        self._store = PrefixCache(0 if strict else store_bytes)
        self._prefix = SharedPrefix(window=model.window, off=strict)
        self._recorder = ActivationRecorder(model.capture)
        self._most_rows = 1 if strict else max_rows
        self._rows_now = self._most_rows
        self._steps = 0
        self._fed = False  # whether the step under way has done its forward pass
        self._most_bytes = max_bytes
        self._likely = LIKELY_TOKENS
        # What a pass makes is there two or three times before it has its place in the cache.
        self._pass_tokens = min(PREFILL_TOKENS, max(max_bytes // (8 * self._cache.token_bytes), 1))
        self._record_bytes = model.capture.layout.total * next(model.model.parameters()).element_size()

    def add(self, draw: Draw) -> None:
        """Queue a draw."""
        request = draw.request
        capture = request.capture
        sums = capture.reduce if capture is not None and capture.other else None
        scaling = self._table.entry(request.neurons, request.alpha)
        self.waiting.add(PromptKey(request.prompt, scaling, sums), [draw])

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.lanes or len(self.waiting))

    def turn(self) -> None:
        """Admit what fits, then sample one token for every draw."""
        try:
            self._admit()
            if self.lanes:
                self._step()
        except BaseException as error:
            if is_out_of_memory(error) and len(self.lanes) > 1:
                self._make_smaller()
                return
            for lane in self.lanes:
                for draw in lane.draws:
                    settle(draw.future, error=error)
            self._clear()

    def _clear(self) -> None:
        self.lanes, self._fed = [], False
        self._cache = KVCache(self._model.sample_cache)

    def _make_smaller(self) -> None:
        """After running out of memory: the newer half of the lanes waits again, and the batch stays that small."""
        half = len(self.lanes) // 2
        self._rows_now = max(1, sum(len(lane.draws) for lane in self.lanes[:half]))
        self._steps = 0
        self._store.clear()
        # A step that broke off after its forward pass cannot be repeated, so all begin again.
        self._evict(list(range(0 if self._fed else half, len(self.lanes))))
        self._fed = False
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _evict(self, lanes: list[int]) -> None:
        """Send lanes back to begin again later."""
        for number in reversed(lanes):
            lane = self.lanes[number]
            draws = [draw for draw in lane.draws if not draw.future.cancelled()]
            for draw in draws:
                draw.restart()
            if draws:
                self.waiting.add(lane.key, draws, first=True)
        self._drop(lanes, [])

    # ---- admission ----

    def _admit(self) -> None:
        running = sum(len(lane.draws) for lane in self.lanes)
        room = self._rows_now - running
        # One prefill of many prompts is cheaper than many of one, so small gaps are left open for a while.
        if not len(self.waiting) or (self.lanes and room < min(len(self.waiting), max(1, self._rows_now // 8))):
            return
        new: list[Lane] = []
        plan = MemoryPlan(self._cache.token_bytes, self._record_bytes, self._likely, self._cache.columns)
        for draw in (draw for lane in self.lanes for draw in lane.draws):
            plan.add(draw)
        for key, group in self.waiting.alike(2 * self._most_rows):
            fitting = plan.fitting(group[0], self._most_bytes)
            number = min(room, len(group), fitting if self.lanes or new else max(fitting, 1))
            if number < 1:
                break
            draws = [draw for draw in self.waiting.take(key, number) if not draw.future.cancelled()]
            if draws:
                plan.add(draws[0], len(draws))
                room -= len(draws)
                new.append(Lane(draws, key, len(key.tokens) - 1, key.tokens[-1], [], []))
        self._begin(new)

    def _begin(self, new: list[Lane]) -> None:
        """Prefill lanes and put them into the cache; those for which memory does not suffice wait again."""
        new = sorted(new, key=lambda lane: lane.length)
        prefix = self._shared_prefix([lane.key for lane in new])
        while new:
            if self._strict:
                self._cache = KVCache(self._model.sample_cache)  # even its strides depend on this draw alone
            part = first_tokens(new, 2 * self._pass_tokens)
            coming = new
            error = self._join(part, coming, prefix)
            full = error is not None and is_out_of_memory(error)
            while error is not None and is_out_of_memory(error) and len(coming) > 1:
                part = coming = part if len(part) < len(coming) else part[: len(part) // 2]
                error = self._join(part, coming, prefix)
            if error is None:
                new = new[len(part) :]
            if full and self.lanes:
                # What is running will make room.
                for lane in reversed(new):
                    self.waiting.add(lane.key, lane.draws, first=True)
                self._rows_now = max(1, sum(len(lane.draws) for lane in self.lanes))
                return
            if error is not None:
                failed = new[:1] if full else new
                for draw in (draw for lane in failed for draw in lane.draws):
                    settle(draw.future, error=error)
                new = new[len(failed) :]

    def _join(self, part: list[Lane], coming: list[Lane], prefix: tuple[int, ...]) -> BaseException | None:
        """Prefill lanes and put them into the cache, or say what went wrong; then nothing has changed.

        Args:
            part: the lanes.
            coming: those for which room is made, since the others are next.
            prefix: what all their prompts begin with.
        """
        try:
            draws = [draw for lane in coming for draw in lane.draws]
            self._cache.reserve(
                rows=sum(len(lane.draws) for lane in self.lanes) + len(draws),
                longest=max(lane.length for lane in coming),
                ahead=max(min(draw.limit, self._likely) for draw in draws) + 1,
            )
            stretches = self._prefill([lane.key for lane in part], prefix)
            self._cache.admit(
                [[stretch.states for stretch in own] for own in stretches], [lane.length for lane in part]
            )
        except BaseException as error:
            return error
        for lane, own in zip(part, stretches, strict=True):
            lane.sums = [stretch.sums for stretch in own if stretch.sums is not None]
        self.lanes.extend(part)
        return None

    def _shared_prefix(self, keys: list[PromptKey]) -> tuple[int, ...]:
        """What all prompts that must be passed over begin with, where that can be shared."""
        missing = [key.tokens for key in keys if key not in self._store]
        return self._prefix.of([tokens[:-1] for tokens in missing], max(map(len, missing), default=0))

    def _prefill(self, keys: list[PromptKey], prefix: tuple[int, ...]) -> list[list[PrefixSegment]]:
        """What a pass over each prompt but its last token leaves, as stretches; the prompts differ, the shortest first.

        The last token is fed by the first step, so that prefilling needs no logits.
        """
        found = {key: held for key in keys if (held := self._store.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        start = 0
        while start < len(missing):
            # One pass takes sums of one kind.
            end = start + 1
            while (
                end < len(missing)
                and missing[end].sums == missing[start].sums
                and (end + 1 - start) * len(missing[end].tokens) <= self._pass_tokens
            ):
                end += 1
            part = missing[start:end]
            shared = [self._prefix_stretch(key, prefix) for key in part] if prefix else None
            scaling = self._table.rows([key.scaling for key in part])
            for number, (key, own) in enumerate(
                zip(
                    part,
                    prefill(self._model, [key.tokens[:-1] for key in part], shared, scaling, part[0].sums),
                    strict=True,
                )
            ):
                found[key] = [own] if shared is None else [shared[number], own]
                self._store.put(key, found[key])
            start = end
        return [found[key] for key in keys]

    def _prefix_stretch(self, key: PromptKey, prefix: tuple[int, ...]) -> PrefixSegment:
        scaling = self._table.rows([key.scaling])
        return self._prefix.stretch(
            key._replace(tokens=prefix), lambda: prefill(self._model, [prefix], None, scaling, key.sums)[0]
        )

    # ---- one step ----

    def _step(self) -> None:
        model, cache, lanes = self._model, self._cache, self.lanes
        cache.ensure_column()
        recording = [number for number, lane in enumerate(lanes) if lane.captures]
        self._recorder.start(None if len(recording) == len(lanes) else torch.tensor(recording, dtype=torch.long))
        scaling = self._table.rows([lane.key.scaling for lane in lanes])
        with (
            hooked(model.capture.places, scaling, self._recorder.see if recording else None),
            final_states(model.model) if recording else nullcontext([]) as states,
        ):
            output = model.model(
                input_ids=torch.tensor([[lane.last] for lane in lanes], device=model.device),
                attention_mask=cache.mask().long().to(model.device),
                position_ids=torch.tensor([[lane.length] for lane in lanes], device=model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache.advance()
        self._fed = True
        if recording:
            record = self._recorder.record(states)
            for row, number in enumerate(recording):
                lanes[number].history.append((record, row))
        for lane in lanes:
            lane.length += 1
            for draw in lane.draws:
                if draw.ending is not None:
                    self._settle(draw, lane)
            lane.draws = [draw for draw in lane.draws if draw.ending is None and not draw.future.cancelled()]
        self._sample(output.logits[:, -1])
        self._fed = False
        self._tidy()

    def _sample(self, logits: Tensor) -> None:
        """One token for every draw from its lane's logits `[lanes, vocabulary]`; lanes split, shrink and end."""
        of_draw = [(number, draw) for number, lane in enumerate(self.lanes) for draw in lane.draws]
        draws = [draw for _, draw in of_draw]
        rows = [number for number, _ in of_draw]
        tokens: list[int] = []
        if draws:
            options = [draw.request.sampling for draw in draws]
            keys = [noise_key(d.key, len(d.tokens)) if d.request.sampling.temperature else 0 for d in draws]
            chosen = choose(logits, options, keys, rows)
            self._note_logprobs(logits, of_draw, chosen)
            tokens = chosen.tolist()
        next_lanes: list[dict[int, list[Draw]]] = [{} for _ in self.lanes]
        for (number, draw), token in zip(of_draw, tokens, strict=True):
            draw.tokens.append(token)
            ending = self._ending(draw)
            if ending is not None:
                draw.ending = ending
                if draw.request.capture is None or token in self._model.end_tokens:
                    self._settle(draw, self.lanes[number])
                    continue  # all others are settled when their last token has been fed
            next_lanes[number].setdefault(token, []).append(draw)
        gone: list[int] = []
        forks: list[tuple[int, Lane]] = []
        for number, groups in enumerate(next_lanes):
            if not groups:
                gone.append(number)
                continue
            lane = self.lanes[number]
            (token, own), *others = groups.items()
            forks += [(number, lane.fork(split, other)) for other, split in others]
            lane.draws, lane.last = own, token
        self._drop(gone, forks)

    def _drop(self, gone: list[int], forks: list[tuple[int, Lane]]) -> None:
        """Take lanes out and add forks of others, in the cache and in the list."""
        if not gone and not forks:
            return
        moves = self._cache.rearrange(gone, [source for source, _ in forks])
        lanes = self.lanes + [lane for _, lane in forks]  # long enough; each place is filled below
        for (place, _), (_, lane) in zip(moves, forks, strict=False):
            lanes[place] = lane
        for place, source in moves[len(forks) :]:
            lanes[place] = self.lanes[source]
        self.lanes = lanes[: self._cache.rows]

    def _tidy(self) -> None:
        """Free records nobody needs, keep within the memory, and try larger batches again some time after a failure."""
        self._steps += 1
        if self._steps % COMPACT_EVERY == 0:
            compact([lane.history for lane in self.lanes if lane.history])
        if self._steps % REGROW_EVERY == 0:
            self._rows_now = min(self._most_rows, 2 * self._rows_now)
        records = self._record_bytes * sum(len(lane.history) for lane in self.lanes)
        if len(self.lanes) > 1 and self._cache.nbytes + records > 1.5 * self._most_bytes:
            self._likely *= 2  # answers are longer than was thought
            self._evict(list(range(max(1, len(self.lanes) // 2), len(self.lanes))))

    # ---- how an answer ends ----

    def _ending(self, draw: Draw) -> tuple[str, str] | None:
        """Text and stop reason of a draw that is done, or None."""
        ended = draw.tokens[-1] in self._model.end_tokens
        if draw.request.stop:
            text = decode(self._model.tokenizer, draw.tokens)
            cuts = [at for stop in draw.request.stop if (at := text.find(stop)) >= 0]
            if cuts:
                return text[: min(cuts)], "stop"
        if ended:
            return decode(self._model.tokenizer, draw.tokens), "stop"
        if len(draw.tokens) >= draw.limit:
            return decode(self._model.tokenizer, draw.tokens), draw.limit_reason
        return None

    def _settle(self, draw: Draw, lane: Lane) -> None:
        assert draw.ending is not None
        text, reason = draw.ending
        logprobs = tuple(draw.logprobs) if draw.request.top_logprobs is not None else None
        try:
            captured = None if draw.request.capture is None else self._captured(draw, lane, text)
        except BaseException as error:  # a span function that fails fails its own request only
            settle(draw.future, error=error)
            return
        settle(draw.future, Generation(tuple(draw.tokens), text, reason, logprobs, captured))

    def _captured(self, draw: Draw, lane: Lane, text: str) -> CapturedAnswer:
        capture = draw.request.capture
        assert capture is not None
        offsets = sampled_offsets(self._model.tokenizer, draw.tokens, text)
        count = 1 + max((place for place, (start, _) in enumerate(offsets) if start < len(text)), default=-1)
        count = min(count, len(lane.history) - 1)  # what was not fed has no contribution
        span = capture.span(text)
        answer = () if span is None else tuple(token_positions(offsets[:count], span))
        if not answer:
            return CapturedAnswer(count, span, (), None)
        # The first token fed is the prompt's last one.
        regions = [self._recorder.reduce(lane.history, [1 + place for place in answer], capture.reduce)]
        if capture.reduce == "mean":
            regions[0] /= len(answer)
        if capture.other:
            inside = set(answer)
            rest = [0, *(1 + place for place in range(count) if place not in inside)]
            other = self._recorder.reduce(lane.history, rest, capture.reduce)
            prompt = self._recorder.reduce(lane.history, [0], capture.reduce)
            for values in (sums.numpy() for sums in lane.sums):
                if capture.reduce == "mean":
                    other, prompt = other + values, prompt + values
                else:
                    other, prompt = np.maximum(other, values), np.maximum(prompt, values)
            if capture.reduce == "mean":
                other, prompt = other / (len(lane.key.tokens) - 1 + len(rest)), prompt / len(lane.key.tokens)
            regions += [other, prompt]
        hidden = mean_hidden(lane.history, [1 + place for place in answer])
        watched = None
        if capture.watch is not None:
            flat = capture.watch.flat(self._model.capture.layout)
            watched = self._recorder.select(lane.history, range(1, 1 + count), flat)
        return CapturedAnswer(count, span, answer, np.stack(regions), hidden, watched)

    def _note_logprobs(self, logits: Tensor, of_draw: list[tuple[int, Draw]], tokens: Tensor) -> None:
        asking = [place for place, (_, draw) in enumerate(of_draw) if draw.request.top_logprobs is not None]
        if not asking:
            return
        lanes = sorted({of_draw[place][0] for place in asking})
        row_of = {lane: row for row, lane in enumerate(lanes)}
        most = max(of_draw[place][1].request.top_logprobs or 0 for place in asking)
        chosen = logits if len(lanes) == len(logits) else logits[torch.tensor(lanes, device=logits.device)]
        logsumexp, entropy = logsumexp_and_entropy(chosen)
        at = torch.tensor([row_of[of_draw[place][0]] for place in asking], device=logits.device)
        own = tokens[torch.tensor(asking, device=logits.device)]
        values = (chosen[at, own].float() - logsumexp[at]).tolist()
        entropies = entropy[at].tolist()
        top = chosen.topk(most, dim=-1) if most else None
        for place, row, token, value, spread in zip(asking, at.tolist(), own.tolist(), values, entropies, strict=True):
            draw = of_draw[place][1]
            best: tuple[tuple[int, float], ...] = ()
            if top is not None:
                count = draw.request.top_logprobs or 0
                levels = (top.values[row, :count].float() - logsumexp[row]).tolist()
                best = tuple(zip(top.indices[row, :count].tolist(), levels, strict=True))
            draw.logprobs.append(TokenLogprob(token, value, spread, best))


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of sampled tokens, without special ones."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def sampled_offsets(tokenizer: Any, tokens: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Characters [start, end) in the answer's text that each sampled token stands for.

    Tokens that share a character (bytes of an emoji) all cover it; special tokens cover nothing.

    Args:
        tokens: sampled ids.
        text: what they decode to, perhaps cut short by a stop sequence.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    if list(tokens[: len(ids)]) == ids and not decode(tokenizer, tokens[len(ids) :]):
        # The tokenizer would have cut the text in the same way, as is the rule.
        return [*map(tuple, encoded["offset_mapping"]), *[(len(text), len(text))] * (len(tokens) - len(ids))]
    offsets: list[tuple[int, int]] = []
    start = 0
    for place in range(len(tokens)):
        piece = decode(tokenizer, tokens[: place + 1])
        # A character whose last byte has not come yet decodes to U+FFFD, perhaps to several.
        complete = len(piece.rstrip("\ufffd"))
        offsets.append((start, max(start, complete + (complete < len(piece)))))
        start = complete
    last = max((place for place, (start, end) in enumerate(offsets) if start < end), default=None)
    if last is not None:  # a text may end in several incomplete characters
        offsets[last] = (offsets[last][0], max(offsets[last][1], len(text)))
    return offsets


def settle(future: "Future[Any]", result: Any = None, error: BaseException | None = None) -> None:
    """Give a future its result, unless the caller has cancelled it meanwhile."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass
