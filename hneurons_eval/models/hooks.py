"""Hooks on the places where neurons feed the residual stream: change z on its way in, see z and h.

```python
with hooked(places, scaling=scaling, see=lambda place, terms, h: ...):
    model(input_ids)
```

All scaling and all capture go through here, so that what is seen is what was fed: z after scaling.
The model is left with the hooks it had before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hneurons_eval.models.down_projection import Dense, DownProjection, Experts, at_hand


@dataclass(frozen=True)
class DenseActivations:
    """z of a linear map.

    Attributes:
        part: which.
        z: `[..., width]`, tokens flattened or not; the gate of a shared expert not yet in it.
        gate: `[..., 1]`, what multiplies the map's output, or None.
    """

    part: Dense
    z: Tensor
    gate: Tensor | None = None

    @property
    def weighted(self) -> Tensor:
        """z with the gate in it (then in float32), `[..., width]`."""
        return self.z if self.gate is None else self.z.float() * self.gate.float().reshape(*self.z.shape[:-1], 1)


@dataclass(frozen=True)
class ExpertActivations:
    """z of the experts that each token chose.

    Attributes:
        part: which.
        z: `[tokens, k, each]`, the neurons of the k chosen experts.
        experts: int64 `[tokens, k]`, which experts those are.
        weights: `[tokens, k]`, the routing weights.
    """

    part: Experts
    z: Tensor
    experts: Tensor
    weights: Tensor

    @property
    def weighted(self) -> Tensor:
        """z with the routing weight in it, float32 `[tokens, k, each]`."""
        return self.z.float() * self.weights.float()[..., None]


@dataclass(frozen=True)
class LayerActivations:
    """What one layer's neurons put into h in one pass, part by part."""

    parts: tuple[DenseActivations | ExpertActivations, ...]

    def rebuild(self) -> Tensor:
        """h from its definition, sum over j of z_j W[:, j] plus bias: float32 `[tokens, hidden]`."""
        total: Any = 0.0
        for term in self.parts:
            if isinstance(term, DenseActivations):
                h = term.part.output(term.z.reshape(-1, term.part.width))
                total = total + (h if term.gate is None else h * term.gate.reshape(-1, 1)).float()
            else:
                with at_hand(term.part.module):
                    total = total + _output(term).float()
        return total


Observer = Callable[[DownProjection, LayerActivations, Tensor], None]
"""Called once a layer and pass with the layer's terms and its output h `[..., hidden]`."""


class Scaling:
    """Factors for a batch: for each part that has any, which neurons, and a factor for each row.

    Attributes:
        neurons: by (layer, part's number), int64 `[k]`, numbers within the part.
        factors: by the same, float32 `[rows, k]`, or `[1, k]` for all rows alike.
    """

    def __init__(self, neurons: dict[tuple[int, int], Tensor], factors: dict[tuple[int, int], Tensor]) -> None:
        self.neurons = neurons
        self.factors = factors
        self._ready: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor]] = {}

    def on(self, key: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Neurons and factors of a part, on a device."""
        held = (*key, device)
        if held not in self._ready:
            self._ready[held] = self.neurons[key].to(device), self.factors[key].to(device)
        return self._ready[held]

    def dense(self, key: tuple[int, int], z: Tensor) -> Tensor:
        """z `[rows, tokens, width]` (or `[rows * tokens, width]`) with its neurons multiplied."""
        index, factor = self.on(key, z.device)
        shape = z.shape
        if z.dim() == 2 and factor.shape[0] > 1:
            z = z.reshape(factor.shape[0], -1, shape[-1])
        # The product is taken in float32 and rounded once, as folding would round it.
        chosen = (z[..., index].float() * factor.view(-1, *(1,) * (z.dim() - 2), factor.shape[1])).to(z.dtype)
        # Without gradients z is a temporary that only the down projection reads, so it may be written.
        z = z.index_copy(-1, index, chosen) if torch.is_grad_enabled() else z.index_copy_(-1, index, chosen)
        return z.reshape(shape)

    def experts(self, key: tuple[int, int], z: Tensor, experts: Tensor, each: int) -> Tensor:
        """z `[tokens, k, each]` of the chosen experts with its neurons multiplied."""
        index, factor = self.on(key, z.device)
        rows = factor.shape[0]
        row_of = torch.arange(z.shape[0], device=z.device) // max(z.shape[0] // rows, 1)
        z = z.clone()
        owner = index // each
        for expert in owner.unique().tolist():
            columns = (owner == expert).nonzero()[:, 0]
            token, slot = (experts == expert).nonzero(as_tuple=True)
            if not len(token):
                continue
            own = factor[row_of[token] if rows > 1 else torch.zeros_like(token)][:, columns]  # [chosen, columns]
            within = index[columns] % each
            at = (token[:, None], slot[:, None], within[None, :])
            z[at] = (z[at].float() * own).to(z.dtype)
        return z


def _check_rows(rows: int) -> Callable[..., None]:
    """A layer's hook that refuses batches of another number of rows (within the layer, rows may be flattened)."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = next(given.shape[0] for given in (*args, *kwargs.values()) if isinstance(given, Tensor))
        if found != rows:
            raise ValueError(f"alpha has {rows} rows, the batch has {found}; give one factor per row")

    return hook


@contextmanager
def hooked(
    places: Sequence[DownProjection], scaling: Scaling | None = None, see: Observer | None = None
) -> Iterator[None]:
    """Scale and see while the block runs; afterwards the model has the hooks it had before."""
    handles: list[Any] = []
    try:
        if scaling is not None or see is not None:
            for place in places:
                keys = [(place.layer, number) for number in range(len(place.parts))]
                scaled = next((key for key in keys if scaling is not None and key in scaling.neurons), None)
                if scaling is not None and scaled is not None and (rows := scaling.factors[scaled].shape[0]) > 1:
                    checked = place.decoder_layer.register_forward_pre_hook(_check_rows(rows), with_kwargs=True)
                    handles.append(checked)
                if see is not None or scaled is not None:
                    _tap(place, scaling, see, handles)
        yield
    finally:
        for handle in reversed(handles):
            handle.remove()


def _tap(place: DownProjection, scaling: Scaling | None, see: Observer | None, handles: list[Any]) -> None:
    if place.dense is not None:
        part = place.dense
        if scaling is not None and (place.layer, 0) in scaling.neurons:
            handles.append(part.module.register_forward_pre_hook(_scale_input(scaling, (place.layer, 0))))
        if see is not None:

            def seen(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                see(place, LayerActivations((DenseActivations(part, args[0]),)), output)

            handles.append(part.module.register_forward_hook(seen))
        return
    terms: dict[int, Any] = {}
    gates: dict[int, Tensor] = {}
    for number, part in enumerate(place.parts):
        key = (place.layer, number)
        scales = scaling if scaling is not None and key in scaling.neurons else None
        if isinstance(part, Experts):
            handles.append(_ExpertsHook(part, key, scales, None if see is None else terms))
            continue
        if scales is not None:
            handles.append(part.module.register_forward_pre_hook(_scale_input(scales, key)))
        if see is not None:

            def take(_module: nn.Module, args: tuple[Tensor, ...], _output: Any, number: int = number) -> None:
                terms[number] = args[0]

            handles.append(part.module.register_forward_hook(take))
            if part.gate is not None:

                def take_gate(_module: nn.Module, _args: Any, output: Tensor, number: int = number) -> None:
                    gates[number] = output.sigmoid()

                handles.append(part.gate.register_forward_hook(take_gate))
    if see is not None:

        def finish(_module: nn.Module, _args: Any, output: Any) -> None:
            if len(terms) < len(place.parts):
                return  # some part was not run; where that is so in the probe pass, the model is refused
            ordered = tuple(
                terms[number] if isinstance(part, Experts) else DenseActivations(part, terms[number], gates.get(number))
                for number, part in enumerate(place.parts)
            )
            see(place, LayerActivations(ordered), output[0] if isinstance(output, tuple) else output)
            terms.clear()

        handles.append(place.block.register_forward_hook(finish))


def _scale_input(scaling: Scaling, key: tuple[int, int]) -> Callable[..., tuple[Tensor, ...]]:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (scaling.dense(key, args[0]), *args[1:])

    return hook


# ---- experts: their z never passes through a module, so their forward is run here -------------------


class _ExpertsHook:
    """While it stands, the experts are computed by `_experts_forward`, which lets z be scaled and seen."""

    def __init__(
        self, part: Experts, key: tuple[int, int], scaling: Scaling | None, into: dict[int, Any] | None
    ) -> None:
        self.key, self.scaling, self.into = key, scaling, into
        self._own = part.module.__dict__
        # Accelerate's forward moves inputs and loads weights, and calls what it found under this name.
        self._name = "_old_forward" if "_old_forward" in self._own else "forward"
        taps: list[_ExpertsHook] = self._own.setdefault(_TAPS, [])
        if not taps:
            self._own[_BEFORE] = self._own.get(self._name)
            self._own[self._name] = lambda *args, **kwargs: _experts_forward(part, taps, *args, *kwargs.values())
        taps.append(self)

    def remove(self) -> None:
        taps = self._own[_TAPS]
        taps.remove(self)
        if not taps:
            del self._own[_TAPS], self._own[self._name]
            if (before := self._own.pop(_BEFORE)) is not None:
                self._own[self._name] = before


_TAPS, _BEFORE = "_hneurons_taps", "_hneurons_forward_before"


def _experts_forward(
    part: Experts, taps: list[_ExpertsHook], hidden_states: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    """What the experts module computes, `[tokens, hidden]`, with z in reach of the taps.

    Args:
        part: the experts.
        taps: what wants to scale or see z.
        hidden_states: `[tokens, hidden]`.
        experts: int64 `[tokens, k]`, the experts chosen.
        weights: `[tokens, k]`, the routing weights.
    """
    tokens, k = experts.shape
    z = hidden_states.new_empty(tokens * k, part.each)
    for expert, chosen in _by_expert(experts):
        z = _put(z, chosen, part.neurons(expert, hidden_states[chosen // k]))
    z = z.view(tokens, k, part.each)
    for tap in taps:
        if tap.scaling is not None:
            z = tap.scaling.experts(tap.key, z, experts, part.each)
    term = ExpertActivations(part, z, experts, weights)
    for tap in taps:
        if tap.into is not None:
            tap.into[tap.key[1]] = term
    return _output(term).to(hidden_states.dtype)


def _output(term: ExpertActivations) -> Tensor:
    """Sum over a token's experts of weight_e * (W_e z_e + bias_e): `[tokens, hidden]`."""
    tokens, k, each = term.z.shape
    flat = term.z.reshape(tokens * k, each)
    out = flat.new_empty(tokens * k, term.part.hidden)
    for expert, chosen in _by_expert(term.experts):
        out = _put(out, chosen, term.part.output(expert, flat[chosen]))
    return (out.view(tokens, k, -1) * term.weights[..., None]).sum(dim=1)


def _put(into: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """`into` with some rows replaced; written in place where no gradient is wanted."""
    return into.index_copy(0, rows, values) if torch.is_grad_enabled() else into.index_copy_(0, rows, values)


def _by_expert(experts: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each chosen expert with the places `[chosen]` in `experts.flatten()` that hold it."""
    flat = experts.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat).tolist()
    start = 0
    for expert, number in enumerate(counts):
        if number:
            yield expert, order[start : start + number]
            start += number
