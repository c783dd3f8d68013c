"""Hooks on down projections: scale z on its way in, observe z (after scaling) and h.

```python
with hooked(projections, scaling=scaling, observer=lambda projection, activations, h: ...):
    model(input_ids)
```
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
    """z of a linear map."""

    part: Dense  # which
    z: Tensor  # `[..., width]`, tokens flattened or not; the gate of a shared expert not yet in it
    gate: Tensor | None = None  # `[..., 1]`, what multiplies the map's output, or None

    @property
    def weighted(self) -> Tensor:
        """z with the gate in it (then in float32), `[..., width]`."""
        return self.z if self.gate is None else self.z.float() * self.gate.float().reshape(*self.z.shape[:-1], 1)


@dataclass(frozen=True)
class ExpertActivations:
    """z of the experts that each token chose."""

    part: Experts  # which
    z: Tensor  # `[tokens, k, each]`, the neurons of the k chosen experts
    experts: Tensor  # int64 `[tokens, k]`, which experts those are
    weights: Tensor  # `[tokens, k]`, the routing weights

    @property
    def weighted(self) -> Tensor:
        """z with the routing weight in it, float32 `[tokens, k, each]`."""
        return self.z.float() * self.weights.float()[..., None]


@dataclass(frozen=True)
class LayerActivations:
    """z of one layer in one pass, part by part; `h` is the layer's MLP output."""

    parts: tuple[DenseActivations | ExpertActivations, ...]

    def rebuild(self) -> Tensor:
        """h from its definition, sum over j of z_j W[:, j] plus bias: float32 `[tokens, hidden]`."""
        total: Any = 0.0
        for one in self.parts:
            if isinstance(one, DenseActivations):
                h = one.part.output(one.z.reshape(-1, one.part.width))
                total = total + (h if one.gate is None else h * one.gate.reshape(-1, 1)).float()
            else:
                with at_hand(one.part.module):
                    total = total + _output(one).float()
        return total


Observer = Callable[[DownProjection, LayerActivations, Tensor], None]
"""Called once a layer and pass with the layer's activations and its output h `[..., hidden]`."""


class Scaling:
    """Factors for a batch: for each part that has any, which neurons, and a factor for each row.

    By (layer, part's number), `neurons` are int64 `[k]`, numbers within the part, and `factors` float32 `[rows, k]`, or
    `[1, k]` for all rows alike.
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
    projections: Sequence[DownProjection], scaling: Scaling | None = None, observer: Observer | None = None
) -> Iterator[None]:
    """Scale and observe while the block runs; afterwards the model has the hooks it had before."""
    handles: list[Any] = []
    try:
        if scaling is not None or observer is not None:
            for projection in projections:
                keys = [(projection.layer, number) for number in range(len(projection.parts))]
                scaled = next((key for key in keys if scaling is not None and key in scaling.neurons), None)
                if scaling is not None and scaled is not None and (rows := scaling.factors[scaled].shape[0]) > 1:
                    checked = projection.decoder_layer.register_forward_pre_hook(_check_rows(rows), with_kwargs=True)
                    handles.append(checked)
                if observer is not None or scaled is not None:
                    _hook_projection(projection, scaling, observer, handles)
        yield
    finally:
        for handle in reversed(handles):
            handle.remove()


def _hook_projection(
    projection: DownProjection, scaling: Scaling | None, observer: Observer | None, handles: list[Any]
) -> None:
    if projection.dense is not None:
        part = projection.dense
        if scaling is not None and (projection.layer, 0) in scaling.neurons:
            handles.append(part.module.register_forward_pre_hook(_scale_input(scaling, (projection.layer, 0))))
        if observer is not None:

            def observe(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                observer(projection, LayerActivations((DenseActivations(part, args[0]),)), output)

            handles.append(part.module.register_forward_hook(observe))
        return
    activations: dict[int, Any] = {}
    gates: dict[int, Tensor] = {}
    for number, part in enumerate(projection.parts):
        key = (projection.layer, number)
        scales = scaling if scaling is not None and key in scaling.neurons else None
        if isinstance(part, Experts):
            handles.append(_ExpertsHook(part, key, scales, None if observer is None else activations))
            continue
        if scales is not None:
            handles.append(part.module.register_forward_pre_hook(_scale_input(scales, key)))
        if observer is not None:

            def take(_module: nn.Module, args: tuple[Tensor, ...], _output: Any, number: int = number) -> None:
                activations[number] = args[0]

            handles.append(part.module.register_forward_hook(take))
            if part.gate is not None:

                def take_gate(_module: nn.Module, _args: Any, output: Tensor, number: int = number) -> None:
                    gates[number] = output.sigmoid()

                handles.append(part.gate.register_forward_hook(take_gate))
    if observer is not None:

        def finish(_module: nn.Module, _args: Any, output: Any) -> None:
            if len(activations) < len(projection.parts):
                return  # some part was not run; where that is so in the probe pass, the model is refused
            ordered = tuple(
                activations[number]
                if isinstance(part, Experts)
                else DenseActivations(part, activations[number], gates.get(number))
                for number, part in enumerate(projection.parts)
            )
            observer(projection, LayerActivations(ordered), output[0] if isinstance(output, tuple) else output)
            activations.clear()

        handles.append(projection.block.register_forward_hook(finish))


def _scale_input(scaling: Scaling, key: tuple[int, int]) -> Callable[..., tuple[Tensor, ...]]:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (scaling.dense(key, args[0]), *args[1:])

    return hook


# ---- experts: their z never passes through a module, so their forward is run here -------------------


class _ExpertsHook:
    """While it stands, the experts are computed by `_experts_forward`, which lets hooks scale and observe z."""

    def __init__(
        self, part: Experts, key: tuple[int, int], scaling: Scaling | None, into: dict[int, Any] | None
    ) -> None:
        self.key, self.scaling, self.into = key, scaling, into
        self._own = part.module.__dict__
        # Accelerate's forward moves inputs and loads weights, and calls the method of this name.
        self._name = "_old_forward" if "_old_forward" in self._own else "forward"
        hooks: list[_ExpertsHook] = self._own.setdefault(_HOOKS, [])
        if not hooks:
            self._own[_BEFORE] = self._own.get(self._name)
            self._own[self._name] = lambda *args, **kwargs: _experts_forward(part, hooks, *args, *kwargs.values())
        hooks.append(self)

    def remove(self) -> None:
        hooks = self._own[_HOOKS]
        hooks.remove(self)
        if not hooks:
            del self._own[_HOOKS], self._own[self._name]
            if (before := self._own.pop(_BEFORE)) is not None:
                self._own[self._name] = before


_HOOKS, _BEFORE = "_hneurons_hooks", "_hneurons_forward_before"


def _experts_forward(
    part: Experts, hooks: list[_ExpertsHook], hidden_states: Tensor, experts: Tensor, weights: Tensor
) -> Tensor:
    """The experts' output `[tokens, hidden]` for inputs of the same shape, computed with z in reach of the hooks."""
    tokens, k = experts.shape
    z = hidden_states.new_empty(tokens * k, part.each)
    for expert, chosen in _by_expert(experts):
        z = _put(z, chosen, part.neurons(expert, hidden_states[chosen // k]))
    z = z.view(tokens, k, part.each)
    for hook in hooks:
        if hook.scaling is not None:
            z = hook.scaling.experts(hook.key, z, experts, part.each)
    one = ExpertActivations(part, z, experts, weights)
    for hook in hooks:
        if hook.into is not None:
            hook.into[hook.key[1]] = one
    return _output(one).to(hidden_states.dtype)


def _output(one: ExpertActivations) -> Tensor:
    """Sum over a token's experts of weight_e * (W_e z_e + bias_e): `[tokens, hidden]`."""
    tokens, k, each = one.z.shape
    flat = one.z.reshape(tokens * k, each)
    out = flat.new_empty(tokens * k, one.part.hidden)
    for expert, chosen in _by_expert(one.experts):
        out = _put(out, chosen, one.part.output(expert, flat[chosen]))
    return (out.view(tokens, k, -1) * one.weights[..., None]).sum(dim=1)


def _put(into: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """`into` with some rows replaced; written in place where no gradient is wanted."""
    return into.index_copy(0, rows, values) if torch.is_grad_enabled() else into.index_copy_(0, rows, values)


def _by_expert(experts: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each chosen expert with the positions `[chosen]` in `experts.flatten()` that hold it."""
    flat = experts.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat).tolist()
    start = 0
    for expert, number in enumerate(counts):
        if number:
            yield expert, order[start : start + number]
            start += number
