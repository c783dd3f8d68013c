"""Hooks within a vLLM worker: scale z and reduce contributions, for the requests of a step that ask for it.

A step of vLLM computes one flattened batch: some tokens of each of many requests, a chunk of a prompt here and the
next token of an answer there. Before the model runs, a hook on it looks up whose rows are whose and what they ask for
(`_plan`); hooks on the down projections carry that out; a hook behind it takes the final states. Where nobody in the
step asks for anything, every hook returns at once.

Each position of a request counts once: a request that was preempted is computed again, which changes nothing.
Everything is summed in float32. Under tensor parallelism every rank does the same with its own share of the neurons.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from hneurons_eval.vllm.captures import Capture, Wanted
from hneurons_eval.vllm.factors import FactorTable
from hneurons_eval.vllm.projections import find_projections
from hneurons_eval.vllm.request_extras import FIELD, RequestExtras

MAX_CAPTURES = 4096
"""Captures that are kept before the oldest are dropped, as of callers who never came back for them."""
LOGIT_ROWS = 256
COMPACT_EVERY = 64
SPARE_SHARE = 0.05
"""Of a GPU's memory, what must stay free if tokens that are kept apart are to stay on it."""


@dataclass
class Part:
    """One captured request's rows in a step.

    Attributes:
        capture: where they go.
        number: of the request in the step.
        first: absolute position of its first row.
        start, stop: its rows.
        tokens: ids of its prompt.
        fresh: positions that are in a region and are counted now.
    """

    capture: Capture
    number: int
    first: int
    start: int
    stop: int
    tokens: Sequence[int]
    fresh: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def last(self) -> int:
        """One more than the position of its last row."""
        return self.first + self.stop - self.start


@dataclass
class Step:
    """What the hooks have to do in one step.

    Attributes:
        rows: number of rows that belong to requests; what follows is padding.
        requests: number of requests.
        factors: float32 `[rows, columns]`, or None where nothing is scaled.
        parts: of the captured requests.
        summed, cells: rows that are summed, and to which of the step's sums each goes.
        sums: the step's sums, of each layer `[cells, width]`.
        owners: of each of the step's sums the capture and its cell.
        kept: rows that are kept apart.
        keepers: whose they are.
        z, inverse: of the rows kept apart, layer by layer.
        layers: number of down projections that have been reached.
        read: whether the logits have come.
    """

    rows: int
    requests: int
    factors: Tensor | None = None
    parts: list[Part] = field(default_factory=list)
    summed: Tensor | None = None
    cells: Tensor | None = None
    sums: list[Tensor] = field(default_factory=list)
    owners: list[tuple[Capture, int]] = field(default_factory=list)
    kept: Tensor | None = None
    keepers: list[Capture] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    inverse: list[Tensor] = field(default_factory=list)
    layers: int = 0
    read: bool = False


class NeuronHooks:
    """The hooks of one worker, and what they have gathered.

    Args:
        runner: vLLM's model runner.
        layout: the model's neurons.
        rank, ranks: of tensor parallelism.

    Raises:
        UnsupportedModelError: a model runner or a model that is not covered.
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
        for place in self.projections:
            if place.width * ranks != layout.widths[place.layer]:
                raise UnsupportedModelError(
                    f"{place.name} has {place.width} of {layout.widths[place.layer]} neurons on each of {ranks} ranks"
                )
        device = runner.device
        self.device = device if isinstance(device, torch.device) else torch.device(device)
        with torch.inference_mode():
            self.norms = torch.cat([place.column_norms() for place in self.projections])
        starts = np.cumsum([0, *(place.width for place in self.projections)]).tolist()
        self._slices = [slice(*pair) for pair in pairwise(starts)]
        self._table = FactorTable(layout, self.projections, self.device)
        self._fields: OrderedDict[str, RequestExtras] = OrderedDict()
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
        for place in self.projections:
            place.module.register_forward_pre_hook(self._scaler(place.layer))
            place.module.register_forward_hook(self._seer(place.layer))

    # ---- before the model runs ----

    def _begin(self, _module: Any, _args: Any) -> None:
        self._step = self._plan()

    def _plan(self) -> Step | None:
        if get_forward_context().attn_metadata is None:
            return None  # a run for profiling: its rows are nobody's
        batch, states = self._runner.input_batch, self._runner.requests
        names = batch.req_ids
        asked: list[RequestExtras | None] = [None] * len(names)
        for number, name in enumerate(names):
            params = states[name].sampling_params
            extra = None if params is None else params.extra_args
            if extra and FIELD in extra:
                asked[number] = self._fields_of(name, extra[FIELD])
        if not any(asked):
            return None
        starts = self._runner.query_start_loc.np
        step = Step(int(starts[len(names)]), len(names))
        rows = self._table.rows([None if fields is None else fields.scaling for fields in asked])
        if rows is not None:
            sizes = np.diff(starts[: len(names) + 1])
            step.factors = self._table.factors(torch.from_numpy(np.repeat(rows, sizes)).to(self.device))
        for number, fields in enumerate(asked):
            if fields is not None and fields.key and (capture := self._capture_of(fields)) is not None:
                first = int(batch.num_computed_tokens_cpu[number])
                tokens = states[names[number]].prompt_token_ids
                part = Part(capture, number, first, int(starts[number]), int(starts[number + 1]), tokens)
                step.parts.append(part)
        if step.parts:
            self._assign(step)
        return step if step.parts or step.factors is not None else None

    def _fields_of(self, name: str, text: str) -> RequestExtras:
        if name not in self._fields:
            self._fields[name] = RequestExtras.from_text(text)
            if len(self._fields) > 2 * MAX_CAPTURES:
                self._fields.popitem(last=False)
        return self._fields[name]

    def _capture_of(self, fields: RequestExtras) -> Capture | None:
        if fields.key in self._fetched:
            return None  # a step that was under way when the request ended
        if fields.key not in self._captures:
            self._captures[fields.key] = Capture.of(fields, len(self.norms), self.device)
            if len(self._captures) > MAX_CAPTURES:
                self._captures.popitem(last=False)
        return self._captures[fields.key]

    def _assign(self, step: Step) -> None:
        """Which rows are summed where, and which are kept apart."""
        summed: list[np.ndarray] = []
        cells: list[np.ndarray] = []
        kept: list[int] = []
        for part in step.parts:
            capture = part.capture
            if part.first < len(capture.cells):
                last = min(part.last, len(capture.cells))
                own = capture.cells[part.first : last]
                fresh = np.flatnonzero((own >= 0) & ~capture.seen[part.first : last])
                capture.seen[part.first : last] = True
                if len(fresh):
                    part.fresh = part.first + fresh
                    summed.append(part.start + fresh)
                    cells.append(len(step.owners) + own[fresh])
                    step.owners += [(capture, cell) for cell in range(len(capture.members))]
            if capture.fields.keep_from is not None and part.first <= capture.kept < part.last:
                rows = range(part.start + capture.kept - part.first, part.stop)
                kept += rows
                step.keepers += [capture] * len(rows)
        if summed:
            step.summed = torch.from_numpy(np.concatenate(summed)).to(self.device)
            step.cells = torch.from_numpy(np.concatenate(cells)).to(self.device)
            step.sums = [torch.zeros(len(step.owners), place.width, device=self.device) for place in self.projections]
        if kept:
            step.kept = torch.tensor(kept, device=self.device)

    # ---- at each down projection ----

    def _scaler(self, layer: int) -> Any:
        def scale(_module: Any, args: tuple[Any, ...]) -> None:
            step = self._step
            if step is None:
                return
            step.layers += 1
            if step.factors is None or (found := self._table.columns(layer)) is None:
                return
            columns, part = found
            z = args[0].view(-1, args[0].shape[-1])[: step.rows]
            # In float32 and rounded once. z is a temporary that only the down projection reads.
            z.index_copy_(1, columns, (z.index_select(1, columns).float() * step.factors[:, part]).to(z.dtype))

        return scale

    def _seer(self, layer: int) -> Any:
        def see(_module: Any, args: tuple[Any, ...], output: Any) -> None:
            step = self._step
            if step is None or not step.parts:
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

        return see

    def _add(self, step: Step, layer: int, values: Tensor) -> None:
        """Add rows `[rows, width]` to the step's sums, or take the maximum, as each capture reduces."""
        assert step.cells is not None
        kinds = [capture.fields.reduce for capture, _ in step.owners]
        for kind in sorted(set(kinds)):
            cells, rows = step.cells, values
            if set(kinds) != {kind}:
                chosen = torch.tensor([one == kind for one in kinds], device=self.device)[cells]
                cells, rows = cells[chosen], rows[chosen]
            reduce_rows_(step.sums[layer], cells, rows, kind)

    # ---- behind the model ----

    def _finish(self, _module: Any, _args: Any, output: Any) -> None:
        step = self._step
        if step is None:
            return
        if step.layers != len(self.projections):
            raise RuntimeError(
                f"{step.layers} of {len(self.projections)} down projections were reached by hooks; "
                "vLLM has to run the model eagerly (enforce_eager)"
            )
        if not step.parts:
            return
        states: Tensor = output[0] if isinstance(output, tuple) else output
        if step.sums:
            sums = torch.cat(step.sums, dim=1)
            for number, (capture, cell) in enumerate(step.owners):
                if capture.fields.reduce == "mean":
                    capture.sums[cell] += sums[number]
                else:
                    torch.maximum(capture.sums[cell], sums[number], out=capture.sums[cell])
            step.sums = []
        if step.kept is not None:
            record = self._at_home(
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
        for part in step.parts:
            if part.capture.fields.response_from is not None:
                self._read_response(part, states)
        self._steps += 1
        if self._steps % COMPACT_EVERY == 0:
            compact([capture.activations for capture in self._captures.values() if capture.activations])

    def _at_home(self, record: ActivationRecord) -> ActivationRecord:
        """The record where it can stay: on a GPU that is nearly full, in the machine's memory instead."""
        if self.device.type != "cuda":
            return record
        free, total = torch.cuda.mem_get_info(self.device)
        if free > SPARE_SHARE * total:
            return record
        hidden = None if record.hidden is None else record.hidden.cpu()
        return ActivationRecord(record.z.cpu(), record.inverse.cpu(), (), hidden)

    def _read_response(self, part: Part, states: Tensor) -> None:
        """How likely each token of a given response is, and the final states over its answer."""
        capture, fields = part.capture, part.capture.fields
        assert fields.response_from is not None
        # The state at one position tells the next token's distribution.
        places = [
            place
            for place in range(max(part.first, fields.response_from - 1), min(part.last, len(part.tokens) - 1))
            if place + 1 not in capture.logprobs
        ]
        for begin in range(0, len(places), LOGIT_ROWS):
            some = places[begin : begin + LOGIT_ROWS]
            rows = torch.tensor([part.start + place - part.first for place in some], device=self.device)
            self._own_logits = True
            try:
                logits = self._model.compute_logits(states.index_select(0, rows))
            finally:
                self._own_logits = False
            if logits is None:  # the other ranks only take part
                values = entropy = torch.zeros(len(some))
            else:
                logsumexp, entropy = logsumexp_and_entropy(logits)
                targets = torch.tensor([part.tokens[place + 1] for place in some], device=logits.device)
                values = logits.gather(-1, targets[:, None])[:, 0].float() - logsumexp
            for place, value, spread in zip(some, values, entropy, strict=True):
                capture.logprobs[place + 1], capture.entropies[place + 1] = value, spread
        answer = part.fresh[capture.members[capture.cells[part.fresh], 0]]
        if len(answer):
            rows = torch.from_numpy(part.start + answer - part.first).to(self.device)
            own = states.index_select(0, rows).float().sum(dim=0)
            capture.hidden = own if capture.hidden is None else capture.hidden + own

    def _read_logits(self, _module: Any, _args: Any, logits: Tensor | None) -> None:
        """Entropies of the distributions from which answers that keep tokens apart are continued."""
        step = self._step
        if self._own_logits or step is None or step.read:
            return
        step.read = True  # later in the step come those of prompts whose log-probabilities somebody wants
        asking = [
            part
            for part in step.parts
            if part.capture.fields.response_from is None and part.last >= (part.capture.fields.keep_from or 2**62)
        ]
        if logits is None or not asking:
            return
        if len(logits) != step.requests:
            raise RuntimeError(f"{len(logits)} rows of logits for {step.requests} requests; no drafts can be captured")
        rows = torch.tensor([part.number for part in asking], device=logits.device)
        own = logits if len(asking) == len(logits) else logits.index_select(0, rows)
        for part, entropy in zip(asking, logsumexp_and_entropy(own)[1], strict=True):
            part.capture.entropies[part.last] = entropy

    # ---- what callers fetch ----

    def fetch(self, key: str, regions: "Wanted | None") -> dict[str, Tensor]:
        """What was gathered under a key, which is forgotten then; float32, on the CPU.

        Args:
            key: of the request's `RequestExtras`.
            regions: those that are wanted; default the request's own.

        Returns:
            `values` `[regions, neurons of this rank]`; `watched` `[tokens kept apart, those of this rank]`, if any are
            to be watched; and on rank 0 also, where there are any, `logprobs` and
            `entropies` of the response's tokens, and `hidden` `[hidden size]`, the mean final state over the first
            region.

        Raises:
            ValueError: there is nothing under that key, or some position was never computed.
        """
        capture = self._captures.pop(key, None)
        self._fetched[key] = None
        if len(self._fetched) > 2 * MAX_CAPTURES:
            self._fetched.popitem(last=False)
        if capture is None:
            raise ValueError(f"nothing was captured under {key!r}")
        found = capture.result(regions, self._slices, self.norms, self._own(capture.fields.watch))
        if self.rank:  # the rest is the same on every rank
            found = {name: values for name, values in found.items() if name in ("values", "watched")}
        return {name: values.float().cpu().contiguous() for name, values in found.items()}

    def _own(self, flat: Sequence[int]) -> list[int]:
        """Numbers, among this rank's neurons, of those with these flat indices that it has."""
        layers, within = self.layout.unflatten(np.asarray(flat, np.int64))
        found = []
        for layer, number in zip(layers.tolist(), within.tolist(), strict=True):
            place = self.projections[layer]
            if place.first <= number < place.first + place.width:
                found.append(self._slices[layer].start + number - place.first)
        return found

    @property
    def held(self) -> int:
        """Of how many requests something is kept."""
        return len(self._captures)

    def drop(self, key: str) -> None:
        """Forget what was gathered under a key."""
        self._captures.pop(key, None)
        self._fetched[key] = None
