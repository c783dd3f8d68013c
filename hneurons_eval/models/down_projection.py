"""Down projections: the maps from a layer's neurons to the residual stream, and their matrices.

```python
projection.column_norms()            # ||W[:, j]|| of every neuron of the layer
for part in projection.parts:        # linear maps, routed experts
    part.output(...)                 # sum over j of z_j W[:, j], plus bias
```

A matrix may be plain, quantised, wrapped by an adapter, or kept elsewhere by accelerate. One that is not
plain is read column by column from the map's outputs, and cannot be changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hneurons_eval.models.layout import UnsupportedModelError

PLAIN_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_COLUMNS = 1024
"""Columns of a weight matrix that are worked on at once."""


@contextmanager
def at_hand(module: nn.Module) -> Iterator[None]:
    """A module's own weights, loaded for the duration of the block where accelerate keeps them on CPU or disk."""
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is None or not any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


def input_device(module: nn.Module) -> torch.device:
    """Where a module's inputs should be: with its weights, or where accelerate brings them."""
    device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
    if device is not None:
        return torch.device(device)
    tensors = (*module.parameters(), *module.buffers())
    return next((tensor.device for tensor in tensors if not tensor.is_meta), torch.device("cpu"))


def linear_shape(module: Any) -> tuple[int, int] | None:
    """Inputs and outputs of a linear map, None for other modules."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    shape = getattr(module, "in_features", None), getattr(module, "out_features", None)
    return shape if all(isinstance(side, int) for side in shape) else None  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Dense:
    """Neurons of one linear map h = W z (+ bias)."""

    name: str  # dotted name of the module within the model
    module: nn.Module  # an `nn.Linear`, a `Conv1D`, or a quantised or wrapped linear map; its input is z `[..., width]`
    width: int  # number of neurons
    start: int = 0  # number of its first neuron within the layer
    gate: nn.Module | None = None  # a module beside it the sigmoid of whose output multiplies h, or None

    @property
    def weight(self) -> Tensor | None:
        """W `[hidden, width]` (a view), or None where the module holds no plain floating-point matrix now."""
        weight = getattr(self.module, "weight", None)
        if not isinstance(self.module, nn.Linear | Conv1D) or not isinstance(weight, Tensor):
            return None
        if weight.is_meta or weight.dtype not in PLAIN_DTYPES:
            return None
        return weight.detach().T if isinstance(self.module, Conv1D) else weight.detach()

    @property
    def is_exact(self) -> bool:
        """Whether everything the map holds is in floating point, so that it need not round its inputs."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return bool(tensors) and all(tensor.dtype in PLAIN_DTYPES for tensor in tensors)

    def column_norms(self) -> Tensor:
        """||W[:, j]||_2 of every neuron j: float32 `[width]`."""
        with at_hand(self.module):
            weight = self.weight
            columns = self._read_columns() if weight is None else weight.split(_COLUMNS, dim=1)
            return torch.cat([part.float().norm(dim=0) for part in columns])

    def output(self, z: Tensor) -> Tensor:
        """The sum over j of z_j W[:, j], plus bias, of z `[tokens, width]`: `[tokens, hidden]`.

        Computed from the matrix, also where the module itself would do it in another way.
        """
        with at_hand(self.module):
            weight = self.weight
            if weight is not None:
                return nn.functional.linear(z, weight, self.module.bias)  # pyright: ignore[reportArgumentType]
            parts = z.float().split(_COLUMNS, dim=1)
            columns = self._read_columns()
            return sum(
                (own @ W.float().T for own, W in zip(parts, columns, strict=True)), start=self._at_zero().float()
            )

    def _at_zero(self) -> Tensor:
        """The map's output for z = 0, its bias: `[1, hidden]`."""
        return self._apply(torch.zeros(1, self.width))

    def _read_columns(self) -> Iterator[Tensor]:
        """W, `[hidden, at most _COLUMNS]` a piece, read off the map by applying it to the unit vectors."""
        zero = self._at_zero()
        for first in range(0, self.width, _COLUMNS):
            number = min(_COLUMNS, self.width - first)
            units = torch.zeros(number, self.width)
            units[torch.arange(number), first + torch.arange(number)] = 1
            yield (self._apply(units) - zero).T

    def _apply(self, z: Tensor) -> Tensor:
        device, dtype = _where(self.module)
        # `forward` and not the call: hooks that scale or observe have no part in this.
        with torch.no_grad():
            return self.module.forward(z.to(device, dtype))

    def check_plain(self) -> None:
        """Refuse to change a matrix that is not a plain one.

        Raises UnsupportedModelError: a quantised, wrapped or offloaded matrix.
        """
        if self.weight is None:
            raise UnsupportedModelError(
                f"{self.name} ({type(self.module).__name__}) holds no plain weight matrix to fold into; "
                "load the model in float32, bfloat16 or float16, without adapters or offloading"
            )

    def multiply_columns(self, columns: Tensor, alpha: float) -> None:
        """W[:, columns] *= alpha, in place, in float32 and rounded once; `check_plain` first."""
        weight = self.weight
        assert weight is not None
        columns = columns.to(weight.device)
        weight[:, columns] = (weight[:, columns].float() * alpha).to(weight.dtype)


@dataclass(frozen=True)
class Experts:
    """Neurons of routed experts: expert e puts weight_e * (W_e z_e + bias_e) into h."""

    name: str  # dotted name of the module within the model
    # Keeps transformers' protocol for experts: `gate_up_proj` or `up_proj`, `down_proj`, each `[experts, ...]`, and
    # `_apply_gate` or `act_fn`
    module: nn.Module
    count: int  # number of experts
    each: int  # neurons of one expert
    start: int = 0  # number of the first neuron within the layer

    @property
    def width(self) -> int:
        """Number of neurons of all experts."""
        return self.count * self.each

    @cached_property
    def hidden(self) -> int:
        """Size of h."""
        module: Any = self.module
        return module.down_proj.shape[2 if module.is_transposed else 1]

    def weight(self, expert: int) -> Tensor:
        """W_e `[hidden, each]` (a view)."""
        return self._matrix("down_proj", expert)

    def neurons(self, expert: int, x: Tensor) -> Tensor:
        """z of an expert, `[tokens, each]`, from the layer's input x `[tokens, hidden]`."""
        module: Any = self.module
        name = "gate_up_proj" if module.has_gate else "up_proj"
        inner = nn.functional.linear(x, self._matrix(name, expert), self._bias(name, expert))
        return module._apply_gate(inner) if module.has_gate else module.act_fn(inner)

    def output(self, expert: int, z: Tensor) -> Tensor:
        """W_e z_e + bias_e of z_e `[tokens, each]`: `[tokens, hidden]`."""
        return nn.functional.linear(z, self._matrix("down_proj", expert), self._bias("down_proj", expert))

    def _matrix(self, name: str, expert: int) -> Tensor:
        matrix = getattr(self.module, name)[expert]
        return matrix.T if self.module.is_transposed else matrix

    def _bias(self, name: str, expert: int) -> Tensor | None:
        return getattr(self.module, f"{name}_bias")[expert] if self.module.has_bias else None

    def column_norms(self) -> Tensor:
        """||W_e[:, j]||_2 of every neuron, expert by expert: float32 `[width]`."""
        with at_hand(self.module), torch.no_grad():
            return torch.cat([self.weight(expert).float().norm(dim=0) for expert in range(self.count)])

    def check_plain(self) -> None:
        """Refuse to change matrices that are not there.

        Raises UnsupportedModelError: offloaded experts; quantised ones are not taken in the first place.
        """
        if self.module.down_proj.is_meta:  # pyright: ignore[reportAttributeAccessIssue]
            raise UnsupportedModelError(f"{self.name} is offloaded, so it cannot be folded into; load it without")

    def multiply_columns(self, columns: Tensor, alpha: float) -> None:
        """W[:, columns] *= alpha, in place, in float32 and rounded once; `check_plain` first."""
        for column in columns.tolist():
            chosen = self.weight(column // self.each).detach()[:, column % self.each]
            chosen.copy_((chosen.float() * alpha).to(chosen.dtype))


@dataclass(frozen=True)
class DownProjection:
    """The down projection of one layer: where its neurons feed the residual stream."""

    layer: int  # number of the layer, from 0
    name: str  # dotted name of the module whose output is h
    block: nn.Module  # that module: the linear map itself, or the whole mixture of experts
    # Where the neurons are, in the order of their numbers; more than one only in a mixture
    parts: tuple[Dense | Experts, ...]
    decoder_layer: nn.Module  # the whole layer
    # The layer's own child that holds all of this and returns h, or None where `block` is its child
    mlp: nn.Module | None = None

    @property
    def width(self) -> int:
        """Number of neurons."""
        return sum(part.width for part in self.parts)

    @property
    def dense(self) -> Dense | None:
        """The linear map of a layer that is not a mixture of experts."""
        only = self.parts[0]
        return only if len(self.parts) == 1 and isinstance(only, Dense) else None

    def column_norms(self) -> Tensor:
        """||W[:, j]||_2 of every neuron j: float32 `[width]` on the weights' device."""
        return torch.cat([part.column_norms() for part in self.parts])


def _where(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating-point type that a map's inputs should have, its weights being quantised or elsewhere."""
    kept = getattr(module, "compute_dtype", None)
    plain = (tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.dtype in PLAIN_DTYPES)
    return input_device(module), kept or next(plain, torch.get_default_dtype())
