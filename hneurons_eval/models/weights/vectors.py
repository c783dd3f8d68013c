"""The weight vectors of every neuron: its inputs (up, and gate where there is one) and its output (down).

```python
for layer in neuron_vectors(model):           # parts of a layer, in the order of their neurons
    for part in layer:
        part.vectors["up"].of(parameter)      # [neurons, hidden], or [experts, neurons, hidden]
```

In a gated MLP z = act(W_gate x) * (W_up x), the gate is what goes through the activation. Which matrix, or which half
of a fused one, that is, is not guessed from names: the MLP's own code is run on a few numbers, and *up* is the
input in which z is a straight line. An MLP without a gate has z = act(W_up x), its only map from the residual
stream. Nothing here needs weights: the model may lie on the meta device.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hneurons_eval.models.architecture import down_projections
from hneurons_eval.models.down_projection import Dense, Experts, linear_shape
from hneurons_eval.models.layout import UnsupportedModelError

KINDS = ("up", "down", "gate")
ROWS, COLUMNS = -2, -1
_TRIED = 4
"""Neurons in the small MLP that is run to tell the gate from up."""


@dataclass(frozen=True)
class Vectors:
    """The position of one kind of vectors of one part of a layer."""

    parameter: str  # dotted name within the model
    axis: int  # `ROWS` or `COLUMNS` of the matrix are the vectors
    # Which of them, where the matrix holds those of another kind as well
    chosen: slice = field(default_factory=lambda: slice(None))

    def of(self, matrix: Tensor) -> Tensor:
        """The vectors within the parameter (a view): `[neurons, hidden]`, of experts `[experts, neurons, hidden]`."""
        rows = matrix if self.axis == ROWS else matrix.transpose(-1, -2)
        return rows[..., self.chosen, :]


@dataclass(frozen=True)
class PartVectors:
    """The vectors of the neurons of one linear map, or of all experts of a layer."""

    start: int  # number of the first neuron within the layer
    width: int  # number of neurons
    vectors: dict[str, Vectors]  # by kind: `up`, `down`, and `gate` where there is one


def neuron_vectors(model: nn.Module) -> list[list[PartVectors]]:
    """The vectors of all neurons: of each layer its parts, in the order of the neurons.

    Raises UnsupportedModelError: neurons that cannot all be found, or an MLP whose up-projection cannot be told.
    """
    found = []
    for projection in down_projections(model):
        parts = [
            _of_experts(part) if isinstance(part, Experts) else _of_dense(model, part) for part in projection.parts
        ]
        found.append(parts)
    return found


def _of_experts(part: Experts) -> PartVectors:
    module: Any = part.module
    inward, outward = (COLUMNS, ROWS) if module.is_transposed else (ROWS, COLUMNS)
    vectors = {"down": Vectors(f"{part.name}.down_proj", outward)}
    if module.has_gate:
        gate, up = _halves(part.name, module._apply_gate, part.each)
        vectors |= {
            "up": Vectors(f"{part.name}.gate_up_proj", inward, up),
            "gate": Vectors(f"{part.name}.gate_up_proj", inward, gate),
        }
    else:
        vectors["up"] = Vectors(f"{part.name}.up_proj", inward)
    return PartVectors(part.start, part.width, vectors)


def _of_dense(model: nn.Module, part: Dense) -> PartVectors:
    path, _, own = part.name.rpartition(".")
    block = model.get_submodule(path)
    hidden = (linear_shape(part.module) or (0, 0))[1]
    maps = {
        name: shape[1]
        for name, child in block.named_children()
        if name != own and (shape := linear_shape(child)) is not None and shape[0] == hidden
    }
    maps = {name: size for name, size in maps.items() if size in (part.width, 2 * part.width)}
    sizes = list(maps.values())
    vectors = {"down": _matrix(part.name, part.module, outward=True)}
    names = [f"{path}.{name}" for name in maps]
    if sizes == [part.width]:
        vectors["up"] = _matrix(names[0], block.get_submodule(*maps), outward=False)
    elif sizes == [2 * part.width] or sizes == [part.width, part.width]:
        gate, up = _halves(part.name, lambda x: _run(block, own, list(maps), x), part.width)
        for kind, half in (("up", up), ("gate", gate)):
            if len(maps) == 1:
                vectors[kind] = _matrix(names[0], block.get_submodule(*maps), outward=False, chosen=half)
            else:
                number = int((half.start or 0) > 0)
                if half.step is not None:
                    raise UnsupportedModelError(f"the neurons of {path} mix the rows of {' and '.join(names)}")
                vectors[kind] = _matrix(names[number], block.get_submodule(list(maps)[number]), outward=False)
    else:
        raise UnsupportedModelError(
            f"{path} should have one linear map from the residual stream to its {part.width} neurons, or two with a "
            f"gate, found {', '.join(names) or 'none'}"
        )
    return PartVectors(part.start, part.width, vectors)


def _matrix(name: str, module: nn.Module, outward: bool, chosen: slice = slice(None)) -> Vectors:
    """The vectors in a linear map's weight: `nn.Linear` keeps `[outputs, inputs]`, `Conv1D` the other way round."""
    if not isinstance(module, nn.Linear | Conv1D):
        raise UnsupportedModelError(f"{name} ({type(module).__name__}) holds no plain matrix")
    return Vectors(f"{name}.weight", COLUMNS if outward != isinstance(module, Conv1D) else ROWS, chosen)


# ---- telling the gate from up --------------------------------------------------------------------


class _Caught(Exception):
    """Carries z out of an MLP that is run only that far."""

    def __init__(self, z: Tensor) -> None:
        self.z = z


def _run(block: nn.Module, down: str, maps: list[str], x: Tensor) -> Tensor:
    """z `[rows, neurons]` of a block whose maps read x `[rows, 2 * neurons]` straight: a half each, or all of it."""
    size = x.shape[1]
    rows = torch.eye(size, dtype=x.dtype).split(size // len(maps))
    weights: dict[str, Tensor] = {}
    for name, own in zip(maps, rows, strict=True):
        module: Any = block.get_submodule(name)
        weights[f"{name}.weight"] = own.T if isinstance(module, Conv1D) else own
        if getattr(module, "bias", None) is not None:
            weights[f"{name}.bias"] = torch.zeros(len(own), dtype=x.dtype)

    def catch(module: nn.Module, given: tuple[Any, ...]) -> None:
        raise _Caught(given[0])

    handle = block.get_submodule(down).register_forward_pre_hook(catch)
    try:
        torch.func.functional_call(block, weights, (x[None],))
    except _Caught as caught:
        return caught.z.reshape(len(x), -1)
    finally:
        handle.remove()
    raise RuntimeError("the last map was not called")


def _halves(name: str, function: Callable[[Tensor], Tensor], width: int) -> tuple[slice, slice]:
    """Which inputs of `function`, `[rows, 2 n]` to z `[rows, n]`, are the gate's and which up's, for n = `width`."""
    generator = torch.Generator().manual_seed(0)
    base = 0.6 + 0.2 * torch.rand(2 * _TRIED, dtype=torch.float64, generator=generator)
    # Three points of each input, the middle one half-way: a straight line there has its mean of the others.
    points = base.repeat(3, 2 * _TRIED, 1)  # [point, input that varies, inputs]
    for number, level in enumerate((-1.0, 0.5, 2.0)):
        points[number].fill_diagonal_(level)
    try:
        with torch.no_grad():
            low, middle, high = function(points.reshape(-1, 2 * _TRIED)).reshape(3, 2 * _TRIED, _TRIED)
    except Exception as error:  # whatever an MLP of another kind trips over
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UnsupportedModelError(f"the gate of {name} cannot be told from its up-projection: {reason}") from None
    moved = (high - low).abs() + (middle - low).abs() > 1e-6  # [input, neuron]
    straight = moved & ((low + high - 2 * middle).abs() < 1e-6)
    if not bool((moved.sum(0) == 2).all() and (straight.sum(0) == 1).all()):
        raise UnsupportedModelError(f"the neurons of {name} are not act(gate) * up, so up cannot be told from the gate")
    up = straight.int().argmax(0)
    gate = (moved & ~straight).int().argmax(0)
    return _as_slice(name, gate, width), _as_slice(name, up, width)


def _as_slice(name: str, numbers: Tensor, width: int) -> slice:
    """The rows 0..3, 4..7, 0 2 4 6 or 1 3 5 7 of eight, said for `width` neurons."""
    first, steps = int(numbers[0]), numbers.diff().unique().tolist()
    if steps == [1] and first in (0, _TRIED):
        return slice(0, width) if first == 0 else slice(width, 2 * width)
    if steps == [2] and first in (0, 1):
        return slice(first, None, 2)
    raise UnsupportedModelError(f"{name} keeps gate and up in an order that is not known")
