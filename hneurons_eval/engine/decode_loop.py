"""The decode loop: samples with equal tokens so far share a sequence, which is computed once.

A sequence splits by the tokens that its samples choose: ten samples of one prompt cost one prefill and one row until
they differ. But for rounding, a sample's text does not depend on the others.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

from hneurons_eval.engine.activation_records import ActivationRecorder, compact
from hneurons_eval.engine.answer_capture import captured_answer
from hneurons_eval.engine.device_errors import free_frames, is_out_of_memory, is_unrecoverable
from hneurons_eval.engine.futures import resolve
from hneurons_eval.engine.kv_cache import KVCache
from hneurons_eval.engine.logits import final_states, logsumexp_and_entropy
from hneurons_eval.engine.offsets import cut_at_stop, decode
from hneurons_eval.engine.prefill import DecodingModel, prefill
from hneurons_eval.engine.prefix_cache import CommonPrefix, PrefixCache, PrefixSegment, PromptKey
from hneurons_eval.engine.requests import Generation, TokenLogprob
from hneurons_eval.engine.sampling import choose, noise_key
from hneurons_eval.engine.scheduler import MemoryPlan, PendingSample, RunningSequence, WaitingSamples, first_tokens
from hneurons_eval.models.hooks import hooked
from hneurons_eval.models.scaling import ScalingTable

MAX_PREFILL_TOKENS = 16_384
"""Padded tokens in one pass."""
LIKELY_TOKENS = 128
"""Columns with room at first, where an answer may be longer."""
COMPACT_EVERY = 16
REGROW_EVERY = 256


class Batch:
    """The sequences that are being decoded.

    Args:
        model: to run.
        max_rows: samples at once.
        max_bytes: memory of keys, values and activation records together.
        prefix_bytes: memory of the prefix cache.
        deterministic: one sample at a time, nothing shared: each text is bit for bit that of the sample alone.
    """

    def __init__(
        self, model: DecodingModel, *, max_rows: int, max_bytes: int, prefix_bytes: int, deterministic: bool
    ) -> None:
        self.sequences: list[RunningSequence] = []
        self.waiting = WaitingSamples()
        self._starting: list[RunningSequence] = []  # scheduled, and not in the cache yet
        self._model = model
        self._deterministic = deterministic
        self._cache = KVCache(model.sample_cache)
        self._table = ScalingTable(model.capture.projections)
        self._prefixes = PrefixCache(0 if deterministic else prefix_bytes)
        self._common = CommonPrefix(window=model.window, off=deterministic)
        self._recorder = ActivationRecorder(model.capture)
        self._max_rows = 1 if deterministic else max_rows
        self._rows_now = self._max_rows
        self._steps = 0
        self._fed = False  # whether the step under way has done its forward pass
        self._max_bytes = max_bytes
        self._likely = LIKELY_TOKENS
        # A pass holds its results two or three times before they are in the cache.
        self._pass_tokens = min(MAX_PREFILL_TOKENS, max(max_bytes // (8 * self._cache.token_bytes), 1))
        self._record_bytes = model.capture.layout.total * next(model.model.parameters()).element_size()

    def add(self, sample: PendingSample) -> None:
        """Queue a sample."""
        capture = sample.request.capture
        sums = capture.reduce if capture is not None and capture.other else None
        entry = self._table.entry(sample.request.intervention)
        self.waiting.add(PromptKey(sample.request.prompt, entry, sums), [sample])

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.sequences or len(self.waiting))

    @property
    def samples(self) -> list[PendingSample]:
        """All samples, running and waiting."""
        return [*_samples(self.sequences), *self.waiting]

    def step(self) -> None:
        """Start what fits, then sample one token for every sample.

        Raises RuntimeError: the device has failed and computes nothing more.
        """
        error = self._try_step()
        if error is not None:
            self._recover(error)

    def _try_step(self) -> BaseException | None:
        try:
            self._schedule()
            if self.sequences:
                self._decode()
        except BaseException as error:
            return error
        return None

    # ---- after an error ----

    def _recover(self, error: BaseException) -> None:
        """Fail the samples that an error concerns; where memory ran out, requeue them and make the batch smaller.

        Concerned are the sequences that were starting, or in a decoding step those that run. Beside running ones, as
        many samples run from now on as run now, otherwise half as many as were tried. One that fails alone fails.
        """
        starting, self._starting = self._starting, []
        concerned = starting or self.sequences
        if is_unrecoverable(error) or not concerned:
            self._wait_again(starting)
            raise error
        self._recorder.start(None)
        full = is_out_of_memory(error)
        number = len(_samples(concerned))
        if full:
            free_frames(error)  # which hold the failed pass's activations
        if full and (number > 1 or (starting and self.sequences)):
            self._requeue(starting, number)
        else:
            for sample in _samples(concerned):
                resolve(sample.future, error=error)
            if not starting:
                self.sequences, self._cache = [], KVCache(self._model.sample_cache)
            if full:
                self._rows_now = self._max_rows  # the others may fit
        self._fed = False

    def _requeue(self, starting: list[RunningSequence], number: int) -> None:
        """Let `starting`, else the newer half of the running sequences wait again, and keep the batch that small."""
        if starting:
            self._wait_again(starting)
            self._rows_now = len(_samples(self.sequences)) or number // 2
        else:
            half = len(self.sequences) // 2
            self._rows_now = len(_samples(self.sequences[:half])) or number // 2
            # A step that broke off after its forward pass cannot be repeated, so all begin again.
            self._evict(list(range(0 if self._fed else half, len(self.sequences))))
        self._steps = 0
        self._prefixes.clear()
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _wait_again(self, sequences: list[RunningSequence]) -> None:
        for sequence in reversed(sequences):
            samples = [sample for sample in sequence.samples if not sample.future.done()]
            for sample in samples:
                sample.restart()
            if samples:
                self.waiting.add(sequence.key, samples, first=True)

    def _evict(self, numbers: list[int]) -> None:
        """Send running sequences back to begin again."""
        self._wait_again([self.sequences[number] for number in numbers])
        self._rearrange(numbers, [])

    # ---- scheduling ----

    def _schedule(self) -> None:
        """Start waiting samples as rows and memory allow."""
        room = self._rows_now - len(_samples(self.sequences))
        # One prefill of many prompts is cheaper than many of one, so small gaps are left open for a while.
        waiting = len(self.waiting)
        if not waiting or (self.sequences and room < min(waiting, max(1, self._rows_now // 8))):
            return
        plan = MemoryPlan(self._cache.token_bytes, self._record_bytes, self._likely, self._cache.columns)
        for sample in _samples(self.sequences):
            plan.add(sample)
        for key, group in self.waiting.alike(2 * self._max_rows):
            fitting = plan.fitting(group[0], self._max_bytes)
            number = min(room, len(group), fitting if self.sequences or self._starting else max(fitting, 1))
            if number < 1:
                break
            samples = [sample for sample in self.waiting.take(key, number) if not sample.future.cancelled()]
            if samples:
                plan.add(samples[0], len(samples))
                room -= len(samples)
                self._starting.append(RunningSequence(samples, key, len(key.tokens) - 1, key.tokens[-1], [], []))
        self._starting.sort(key=lambda sequence: sequence.length)
        missing = [sequence.key.tokens for sequence in self._starting if sequence.key not in self._prefixes]
        prefix = self._common.find([tokens[:-1] for tokens in missing], max(map(len, missing), default=0))
        while self._starting:
            if self._deterministic:
                self._cache = KVCache(self._model.sample_cache)  # even its strides depend on this sample alone
            self._start(first_tokens(self._starting, 2 * self._pass_tokens), prefix)

    def _start(self, sequences: list[RunningSequence], prefix: tuple[int, ...]) -> None:
        """Prefill the first of the starting sequences and put them into the cache; after an error nothing has changed.

        Room is made for all that are starting, since the others are next; `prefix` is common to their prompts.
        """
        samples = _samples(self._starting)
        self._cache.reserve(
            rows=len(_samples(self.sequences)) + len(samples),
            longest=max(sequence.length for sequence in self._starting),
            ahead=max(min(sample.limit, self._likely) for sample in samples) + 1,
        )
        segments = self._prefill([sequence.key for sequence in sequences], prefix)
        self._cache.add_rows(
            [[segment.states for segment in own] for own in segments], [sequence.length for sequence in sequences]
        )
        for sequence, own in zip(sequences, segments, strict=True):
            sequence.prompt_sums = [segment.sums for segment in own if segment.sums is not None]
        self.sequences.extend(sequences)
        self._starting = self._starting[len(sequences) :]

    def _prefill(self, keys: list[PromptKey], prefix: tuple[int, ...]) -> list[list[PrefixSegment]]:
        """The segments of each prompt but its last token; the prompts differ, the shortest first.

        The first step feeds the last token, so that prefilling needs no logits.
        """
        found = {key: held for key in keys if (held := self._prefixes.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        while missing:
            # One pass has sums of one kind.
            end = 1
            while (
                end < len(missing)
                and missing[end].sums == missing[0].sums
                and (end + 1) * len(missing[end].tokens) <= self._pass_tokens
            ):
                end += 1
            keys_now, missing = missing[:end], missing[end:]
            shared = [self._prefix_segment(key, prefix) for key in keys_now] if prefix else None
            scaling = self._table.rows([key.scaling for key in keys_now])
            own = prefill(self._model, [key.tokens[:-1] for key in keys_now], shared, scaling, keys_now[0].sums)
            for number, key in enumerate(keys_now):
                found[key] = [own[number]] if shared is None else [shared[number], own[number]]
                self._prefixes.put(key, found[key])
        return [found[key] for key in keys]

    def _prefix_segment(self, key: PromptKey, prefix: tuple[int, ...]) -> PrefixSegment:
        scaling = self._table.rows([key.scaling])
        return self._common.segment(
            key._replace(tokens=prefix), lambda: prefill(self._model, [prefix], None, scaling, key.sums)[0]
        )

    # ---- one step ----

    def _decode(self) -> None:
        model, cache, sequences = self._model, self._cache, self.sequences
        cache.ensure_column()
        capturing = [number for number, sequence in enumerate(sequences) if sequence.captures]
        self._recorder.start(None if len(capturing) == len(sequences) else torch.tensor(capturing, dtype=torch.long))
        scaling = self._table.rows([sequence.key.scaling for sequence in sequences])
        with (
            hooked(model.capture.projections, scaling, self._recorder.observe if capturing else None),
            final_states(model.model) if capturing else nullcontext([]) as states,
        ):
            output = model.model(
                input_ids=torch.tensor([[sequence.last] for sequence in sequences], device=model.device),
                attention_mask=cache.mask().long().to(model.device),
                position_ids=torch.tensor([[sequence.length] for sequence in sequences], device=model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        cache.advance()
        self._fed = True
        if capturing:
            record = self._recorder.record(states)
            for row, number in enumerate(capturing):
                sequences[number].activations.append((record, row))
        for sequence in sequences:
            sequence.length += 1
            for sample in sequence.samples:
                if sample.ending is not None:
                    self._resolve(sample, sequence)
            sequence.samples = [s for s in sequence.samples if s.ending is None and not s.future.cancelled()]
        self._sample(output.logits[:, -1])
        self._fed = False
        self._steps += 1
        if self._steps % COMPACT_EVERY == 0:
            compact([sequence.activations for sequence in self.sequences if sequence.activations])
        if self._steps % REGROW_EVERY == 0:
            self._rows_now = min(self._max_rows, 2 * self._rows_now)
        records = self._record_bytes * sum(len(sequence.activations) for sequence in self.sequences)
        if len(self.sequences) > 1 and self._cache.nbytes + records > 1.5 * self._max_bytes:
            self._likely *= 2  # answers are longer than expected
            self._evict(list(range(max(1, len(self.sequences) // 2), len(self.sequences))))

    def _sample(self, logits: Tensor) -> None:
        """One token for every sample from its sequence's logits `[sequences, vocabulary]`; sequences split and end."""
        of_sample = [(number, sample) for number, sequence in enumerate(self.sequences) for sample in sequence.samples]
        tokens: list[int] = []
        if of_sample:
            samples = [sample for _, sample in of_sample]
            options = [sample.request.sampling for sample in samples]
            keys = [noise_key(s.key, len(s.tokens)) if s.request.sampling.temperature else 0 for s in samples]
            chosen = choose(logits, options, keys, [number for number, _ in of_sample])
            self._add_logprobs(logits, of_sample, chosen)
            tokens = chosen.tolist()
        following: list[dict[int, list[PendingSample]]] = [{} for _ in self.sequences]
        for (number, sample), token in zip(of_sample, tokens, strict=True):
            sample.tokens.append(token)
            sample.ending = self._ending(sample)
            if sample.ending is not None and (sample.request.capture is None or token in self._model.end_tokens):
                self._resolve(sample, self.sequences[number])
            else:  # an answer that captures ends when its last token has been fed
                following[number].setdefault(token, []).append(sample)
        staying: list[tuple[RunningSequence, int, list[PendingSample]]] = []
        splits: list[tuple[int, RunningSequence]] = []
        for number, (sequence, groups) in enumerate(zip(self.sequences, following, strict=True)):
            staying += [(sequence, *group) for group in list(groups.items())[:1]]
            splits += [(number, sequence.split(own, token)) for token, own in list(groups.items())[1:]]
        self._rearrange([number for number, groups in enumerate(following) if not groups], splits)
        for sequence, token, own in staying:  # not before: if there was no memory, all begin again
            sequence.last, sequence.samples = token, own

    def _rearrange(self, gone: list[int], splits: list[tuple[int, RunningSequence]]) -> None:
        """Remove sequences and add splits of others, in the cache and in the list."""
        if not gone and not splits:
            return
        moves = self._cache.rearrange(gone, [source for source, _ in splits])
        sequences = self.sequences + [sequence for _, sequence in splits]  # long enough; each row is filled below
        for (row, _), (_, sequence) in zip(moves, splits, strict=False):
            sequences[row] = sequence
        for row, source in moves[len(splits) :]:
            sequences[row] = self.sequences[source]
        self.sequences = sequences[: self._cache.rows]

    # ---- how an answer ends ----

    def _ending(self, sample: PendingSample) -> tuple[str, str] | None:
        """Text and stop reason of a sample that is done, or None."""
        ended = sample.tokens[-1] in self._model.end_tokens
        over = ended or len(sample.tokens) >= sample.limit
        if not over and not sample.request.stop:
            return None
        text = decode(self._model.tokenizer, sample.tokens)
        if (cut := cut_at_stop(text, sample.request.stop)) is not None:
            return cut, "stop"
        return (text, "stop" if ended else sample.limit_reason) if over else None

    def _resolve(self, sample: PendingSample, sequence: RunningSequence) -> None:
        assert sample.ending is not None
        text, reason = sample.ending
        capture = sample.request.capture
        logprobs = tuple(sample.logprobs) if sample.request.top_logprobs is not None else None
        try:
            captured = None
            if capture is not None:
                captured = captured_answer(self._model, self._recorder, sequence, sample.tokens, text, capture)
        except BaseException as error:  # a span function that fails fails its own request only
            if is_out_of_memory(error) or is_unrecoverable(error):
                raise
            resolve(sample.future, error=error)
            return
        resolve(sample.future, Generation(tuple(sample.tokens), text, reason, logprobs, captured))

    def _add_logprobs(self, logits: Tensor, of_sample: list[tuple[int, PendingSample]], tokens: Tensor) -> None:
        asking = [number for number, (_, sample) in enumerate(of_sample) if sample.request.top_logprobs is not None]
        if not asking:
            return
        sequences = sorted({of_sample[number][0] for number in asking})
        row_of = {sequence: row for row, sequence in enumerate(sequences)}
        alternatives = max(of_sample[number][1].request.top_logprobs or 0 for number in asking)
        chosen = logits if len(sequences) == len(logits) else logits[torch.tensor(sequences, device=logits.device)]
        logsumexp, entropy = logsumexp_and_entropy(chosen)
        at = torch.tensor([row_of[of_sample[number][0]] for number in asking], device=logits.device)
        own = tokens[torch.tensor(asking, device=logits.device)]
        values = (chosen[at, own].float() - logsumexp[at]).tolist()
        entropies = entropy[at].tolist()
        top = chosen.topk(alternatives, dim=-1) if alternatives else None
        for number, row, token, value, spread in zip(asking, at.tolist(), own.tolist(), values, entropies, strict=True):
            sample = of_sample[number][1]
            best: tuple[tuple[int, float], ...] = ()
            if top is not None:
                count = sample.request.top_logprobs or 0
                levels = (top.values[row, :count].float() - logsumexp[row]).tolist()
                best = tuple(zip(top.indices[row, :count].tolist(), levels, strict=True))
            sample.logprobs.append(TokenLogprob(token, value, spread, best))


def _samples(sequences: list[RunningSequence]) -> list[PendingSample]:
    return [sample for sequence in sequences for sample in sequence.samples]
