"""Hooks in a vLLM worker: scale z and reduce contributions for the requests of a step that ask for it.

A step of vLLM computes one flattened batch: some tokens of each of many requests, a chunk of a prompt here and the next
token of an answer there. Before the model runs, a hook on it finds out which rows belong to which request and what that
request asks for (`_plan`). Hooks on the down projections do it, and a hook after the model reads the final states.

Each position of a request counts once, even if the request is preempted and computed again. All sums are in float32.
Under tensor parallelism every rank does the same with its own share of the neurons.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.forward_context import get_forward_context  # pyright: ignore[reportMissingImports]
from vllm.model_executor.layers.logits_processor import LogitsProcessor  # pyright: ignore[reportMissingImports]

from hneurons_eval.engine.activation_records import ActivationRecord, compact
from hneurons_eval.engine.logits import logsumexp_and_entropy
from hneurons_eval.models.contributions import cett, inverse_norm, reduce_rows_
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError
from hneurons_eval.vllm.captures import Capture
from hneurons_eval.vllm.factors import FactorTable
from hneurons_eval.vllm.projections import find_projections
from hneurons_eval.vllm.request_extras import EXTRAS_KEY, Regions, RequestExtras
from hneurons_eval.vllm.steps import CapturedRows, Step

MAX_CAPTURES = 4096
"""More captures than these drop the oldest, which nobody has fetched."""
LOGIT_ROWS = 256
COMPACT_EVERY = 64
SPARE_SHARE = 0.05
"""Share of a GPU's memory that has to be free for tokens kept apart to stay on it."""


class NeuronHooks:
    """The hooks of one worker, of rank `rank` of `ranks` under tensor parallelism, and what they have gathered.

    Raises UnsupportedModelError: a model runner or a model that is not covered.
    """

    def __init__(self, runner: Any, layout: NeuronLayout, rank: int, ranks: int) -> None:
        for name in ("input_batch", "requests", "query_start_loc"):
            if not hasattr(runner, name):
                raise UnsupportedModelError(
                    f"{type(runner).__name__} has no {name}; set VLLM_USE_V2_MODEL_RUNNER=0 before vLLM starts"
                )
        self._runner = runner
        self._model: Any = runner.get_model()
        self.layout = layout
        self.rank = rank
        self.projections = find_projections(self._model, layout.widths)
        for projection in self.projections:
            if projection.width * ranks != (width := layout.widths[projection.layer]):
                raise UnsupportedModelError(
                    f"{projection.name} has {projection.width} of {width} neurons on each of {ranks} ranks"
                )
        device = runner.device
        self.device = device if isinstance(device, torch.device) else torch.device(device)
        with torch.inference_mode():
            self.norms = torch.cat([projection.column_norms() for projection in self.projections])
        starts = np.cumsum([0, *(projection.width for projection in self.projections)]).tolist()
        self._slices = [slice(*pair) for pair in pairwise(starts)]
        self._table = FactorTable(layout, self.projections, self.device)
        self._parse = lru_cache(2 * MAX_CAPTURES)(RequestExtras.from_text)
        self._captures: OrderedDict[str, Capture] = OrderedDict()
        self._fetched: OrderedDict[str, None] = OrderedDict()
        self._step: Step | None = None
        self._steps = 0
        self._own_logits = False
        self._hook()

    def _hook(self) -> None:
        processors = [module for module in self._model.modules() if isinstance(module, LogitsProcessor)]
        if len(processors) != 1:
            raise UnsupportedModelError(
                f"{type(self._model).__name__} should have one LogitsProcessor, found {len(processors)}"
            )
        self._model.register_forward_pre_hook(self._begin)
        self._model.register_forward_hook(self._finish)
        processors[0].register_forward_hook(self._read_logits)
        for projection in self.projections:
            projection.module.register_forward_pre_hook(self._scaler(projection.layer))
            projection.module.register_forward_hook(self._observer(projection.layer))

    # ---- before the model runs ----

    def _begin(self, _module: Any, _args: Any) -> None:
        self._step = self._plan()

    def _plan(self) -> Step | None:
        if get_forward_context().attn_metadata is None:
            return None  # a profiling run: its rows belong to no request
        batch, states = self._runner.input_batch, self._runner.requests
        names = batch.req_ids
        params = [states[name].sampling_params for name in names]
        texts = [None if one is None else (one.extra_args or {}).get(EXTRAS_KEY) for one in params]
        if not any(texts):
            return None
        asked = [None if text is None else self._parse(text) for text in texts]
        starts = self._runner.query_start_loc.np
        step = Step(int(starts[len(names)]), len(names))
        rows = self._table.rows([None if extras is None else extras.scaling for extras in asked])
        if rows is not None:
            sizes = np.diff(starts[: len(names) + 1])
            step.factors = self._table.factors(torch.from_numpy(np.repeat(rows, sizes)).to(self.device))
        for number, extras in enumerate(asked):
            if extras is not None and extras.key and (capture := self._capture_of(extras)) is not None:
                first, tokens = int(batch.num_computed_tokens_cpu[number]), states[names[number]].prompt_token_ids
                start, stop = starts[number : number + 2].tolist()
                step.captured.append(CapturedRows(capture, number, first, start, stop, tokens))
        step.assign([projection.width for projection in self.projections], self.device)
        return step if step.captured or step.factors is not None else None

    def _capture_of(self, extras: RequestExtras) -> Capture | None:
        if extras.key in self._fetched:
            return None  # a step that was under way when the request ended
        if extras.key not in self._captures:
            self._captures[extras.key] = Capture.of(extras, len(self.norms), self.device)
            if len(self._captures) > MAX_CAPTURES:
                self._captures.popitem(last=False)
        return self._captures[extras.key]

    # ---- at each down projection ----

    def _scaler(self, layer: int) -> Any:
        def scale(_module: Any, args: tuple[Any, ...]) -> None:
            step = self._step
            if step is None:
                return
            step.layers += 1
            if step.factors is None or (found := self._table.columns(layer)) is None:
                return
            columns, own = found
            z = args[0].view(-1, args[0].shape[-1])[: step.rows]
            # In float32 and rounded once. z is a temporary that only the down projection reads.
            z.index_copy_(1, columns, (z.index_select(1, columns).float() * step.factors[:, own]).to(z.dtype))

        return scale

    def _observer(self, layer: int) -> Any:
        def observe(_module: Any, args: tuple[Any, ...], output: Any) -> None:
            step = self._step
            if step is None or not step.captured:
                return
            z = args[0].view(-1, args[0].shape[-1])
            h = output[0] if isinstance(output, tuple) else output
            h = h.view(-1, h.shape[-1])
            if step.summed is not None and step.cells is not None:
                whole = len(step.summed) == len(z)
                own_z, own_h = (z, h) if whole else (z.index_select(0, step.summed), h.index_select(0, step.summed))
                self._add(step, layer, cett(own_z, inverse_norm(own_h)[:, None], None))
            if step.kept is not None:
                step.z.append(z.index_select(0, step.kept))
                step.inverse.append(inverse_norm(h.index_select(0, step.kept)))

        return observe

    def _add(self, step: Step, layer: int, values: Tensor) -> None:
        """Add rows `[rows, width]` to the step's sums, or take the maximum, as each capture reduces."""
        assert step.cells is not None
        kinds = [capture.extras.reduce for capture, _ in step.owners]
        for kind in sorted(set(kinds)):
            cells, rows = step.cells, values
            if set(kinds) != {kind}:
                chosen = torch.tensor([one == kind for one in kinds], device=self.device)[cells]
                cells, rows = cells[chosen], rows[chosen]
            reduce_rows_(step.sums[layer], cells, rows, kind)

    # ---- after the model ----

    def _finish(self, _module: Any, _args: Any, output: Any) -> None:
        step = self._step
        if step is None:
            return
        if step.layers != len(self.projections):
            raise RuntimeError(
                f"{step.layers} of {len(self.projections)} down projections were reached by hooks; "
                "vLLM has to run the model eagerly (enforce_eager)"
            )
        if not step.captured:
            return
        states: Tensor = output[0] if isinstance(output, tuple) else output
        if step.sums:
            sums = torch.cat(step.sums, dim=1)
            for number, (capture, cell) in enumerate(step.owners):
                if capture.extras.reduce == "mean":
                    capture.sums[cell] += sums[number]
                else:
                    torch.maximum(capture.sums[cell], sums[number], out=capture.sums[cell])
            step.sums = []
        if step.kept is not None:
            record = self._offloaded(
                ActivationRecord(
                    torch.cat(step.z, dim=1),
                    torch.stack(step.inverse, dim=1),
                    (),
                    states.index_select(0, step.kept),
                )
            )
            for row, capture in enumerate(step.keepers):
                capture.activations.append((record, row))
            step.z, step.inverse = [], []
        for rows in step.captured:
            if rows.capture.extras.response_from is not None:
                self._read_response(rows, states)
        self._steps += 1
        if self._steps % COMPACT_EVERY == 0:
            compact([capture.activations for capture in self._captures.values() if capture.activations])

    def _offloaded(self, record: ActivationRecord) -> ActivationRecord:
        """The record, in the machine's memory if the GPU is nearly full."""
        free, total = torch.cuda.mem_get_info(self.device) if self.device.type == "cuda" else (1, 1)
        if free > SPARE_SHARE * total:
            return record
        hidden = None if record.hidden is None else record.hidden.cpu()
        return ActivationRecord(record.z.cpu(), record.inverse.cpu(), (), hidden)

    def _read_response(self, rows: CapturedRows, states: Tensor) -> None:
        """Log-probability and entropy of each token of a given response, and the final states over its answer."""
        capture, first = rows.capture, rows.capture.extras.response_from
        assert first is not None
        # The state at one position gives the next token's distribution.
        positions = [
            position
            for position in range(max(rows.first, first - 1), min(rows.last, len(rows.tokens) - 1))
            if position + 1 not in capture.logprobs
        ]
        for begin in range(0, len(positions), LOGIT_ROWS):
            some = positions[begin : begin + LOGIT_ROWS]
            chosen = torch.tensor([rows.start + position - rows.first for position in some], device=self.device)
            self._own_logits = True
            try:
                logits = self._model.compute_logits(states.index_select(0, chosen))
            finally:
                self._own_logits = False
            if logits is None:  # only rank 0 gets them
                values = entropies = torch.zeros(len(some))
            else:
                logsumexp, entropies = logsumexp_and_entropy(logits)
                targets = torch.tensor([rows.tokens[position + 1] for position in some], device=logits.device)
                values = logits.gather(-1, targets[:, None])[:, 0].float() - logsumexp
            for position, value, entropy in zip(some, values, entropies, strict=True):
                capture.logprobs[position + 1], capture.entropies[position + 1] = value, entropy
        answer = rows.fresh[capture.members[capture.cells[rows.fresh], 0]]
        if len(answer):
            chosen = torch.from_numpy(rows.start + answer - rows.first).to(self.device)
            own = states.index_select(0, chosen).float().sum(dim=0)
            capture.hidden = own if capture.hidden is None else capture.hidden + own

    def _read_logits(self, _module: Any, _args: Any, logits: Tensor | None) -> None:
        """Entropies at the tokens that are kept apart while an answer is generated."""
        step = self._step
        if self._own_logits or step is None or step.logits_read:
            return
        step.logits_read = True  # vLLM computes those for prompt log-probabilities later in the step
        asking = [
            rows
            for rows in step.captured
            if rows.capture.extras.response_from is None and rows.last >= (rows.capture.extras.keep_from or 2**62)
        ]
        if logits is None or not asking:
            return
        if len(logits) != step.requests:
            raise RuntimeError(
                f"{len(logits)} rows of logits for {step.requests} requests; speculative decoding is not covered"
            )
        chosen = torch.tensor([rows.number for rows in asking], device=logits.device)
        own = logits if len(asking) == len(logits) else logits.index_select(0, chosen)
        for rows, entropy in zip(asking, logsumexp_and_entropy(own)[1], strict=True):
            rows.capture.entropies[rows.last] = entropy

    # ---- fetching ----

    def fetch(self, key: str, regions: Regions | None) -> dict[str, Tensor]:
        """Fetch and forget a capture: float32 tensors on the CPU, of `regions` (default the request's own).

        `values` are `[regions, neurons of this rank]`; `watched` `[tokens kept apart, neurons of this rank]`, if
        per-token contributions were asked for. On rank 0 also, if there are any, `logprobs` and `entropies` of the
        response's tokens, and `hidden` `[hidden size]`, the mean final state over the first region.

        Raises ValueError: there is nothing under that key, or some position was never computed.
        """
        capture = self._captures.get(key)
        self.drop(key)
        if capture is None:
            raise ValueError(f"nothing was captured under {key!r}")
        found = capture.result(regions, self._slices, self.norms, self._columns_of(capture.extras.watch))
        if self.rank:  # the rest is the same on every rank
            found = {name: values for name, values in found.items() if name in ("values", "watched")}
        return {name: values.float().cpu().contiguous() for name, values in found.items()}

    def drop(self, key: str) -> None:
        """Forget the capture under a key."""
        self._captures.pop(key, None)
        self._fetched[key] = None
        if len(self._fetched) > 2 * MAX_CAPTURES:
            self._fetched.popitem(last=False)

    @property
    def held(self) -> int:
        """Number of captures that are kept."""
        return len(self._captures)

    def _columns_of(self, flat: Sequence[int]) -> list[int]:
        """Columns, among this rank's neurons, of those flat indices that it has."""
        layers, within = self.layout.unflatten(np.asarray(flat, np.int64))
        found = []
        for layer, index in zip(layers.tolist(), within.tolist(), strict=True):
            projection = self.projections[layer]
            if projection.first <= index < projection.first + projection.width:
                found.append(self._slices[layer].start + index - projection.first)
        return found
