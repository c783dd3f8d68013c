"""Down projections in a checkpoint's files, whose columns can be rewritten there.

```python
weights = find_weights(directory, model, projections)   # the safetensors files, and the bytes of every matrix in them
for matrix in weights.matrices[projection.layer, part_number]:
    W = matrix.read(directory)                     # [hidden, neurons]
```

transformers renames and joins tensors on loading; its own rules say which parameter each becomes (`tensor_mapping.py`).
Tensors that are only renamed and experts that are only stacked are plain copies of what the model holds; whatever is
computed in another way is refused by name.
"""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hneurons_eval.models.down_projection import Dense, DownProjection, Experts
from hneurons_eval.models.weights.reader import INDEX, SINGLE
from hneurons_eval.models.weights.tensor_mapping import Origin, origins

DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of safetensors itself."""


class ExportError(ValueError):
    """A checkpoint that cannot be exported; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Matrix:
    """One plain matrix within a weight file."""

    file: str  # name of the file
    tensor: str  # name of the tensor in it
    start: int  # first byte of the matrix in the file
    dtype: torch.dtype  # of its numbers
    shape: tuple[int, int]  # rows and columns, as stored
    transposed: bool  # whether neurons are its rows and not its columns

    @property
    def size(self) -> int:
        """Bytes."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def read(self, directory: Path) -> Tensor:
        """W `[hidden, neurons]`."""
        with (directory / self.file).open("rb") as file:
            return self._view(self._content(file))

    def multiply(self, directory: Path, columns: Tensor, alpha: float) -> None:
        """W[:, columns] *= alpha in the file, in float32 and rounded once, as `scaling.fold` does it."""
        with (directory / self.file).open("rb+") as file:
            content = self._content(file)
            weight = self._view(content)
            weight[:, columns] = (weight[:, columns].float() * alpha).to(weight.dtype)
            file.seek(self.start)
            file.write(content)

    def _content(self, file: Any) -> bytearray:
        content = bytearray(self.size)
        file.seek(self.start)
        if file.readinto(content) != self.size:
            raise ExportError(f"{self.file} ends within {self.tensor}; get the file again")
        return content

    def _view(self, content: bytearray) -> Tensor:
        stored = torch.frombuffer(content, dtype=self.dtype).view(self.shape)
        return stored.T if self.transposed else stored


@dataclass(frozen=True)
class StoredWeights:
    """The weight files of a checkpoint."""

    files: tuple[str, ...]  # their names, the index apart
    index: str | None  # name of the index, or None for a single file
    size: int  # bytes of all files
    # Of each part (layer, its number in the layer), one matrix, or one for each expert
    matrices: dict[tuple[int, int], list[Matrix]]


@dataclass(frozen=True)
class _Stored:
    """A tensor as the header of its file describes it."""

    file: str
    name: str
    start: int
    size: int
    dtype: str
    shape: tuple[int, ...]


def find_weights(directory: Path, model: nn.Module, projections: Sequence[DownProjection]) -> StoredWeights:
    """The weight files in a directory, and where the matrices of a model's down projections are in them.

    Raises ExportError: no safetensors files, a damaged one, or a matrix that is not stored as the model holds it.
    """
    files, index = _files(directory)
    stored = {one.name: one for file in files for one in _tensors(directory / file)}
    sources = origins(model, stored)
    matrices: dict[tuple[int, int], list[Matrix]] = {}
    for projection in projections:
        for number, part in enumerate(projection.parts):
            name, parameter = _parameter(part)
            origin = sources.get(name, Origin(name, None))
            tensors = [stored[key] for _, key in origin.tensors]
            matrices[projection.layer, number] = _matrices(part, name, parameter, tensors, origin.converter, directory)
    size = sum((directory / file).stat().st_size for file in files)
    return StoredWeights(files, index, size, matrices)


def _files(directory: Path) -> tuple[tuple[str, ...], str | None]:
    """Names of the weight files that transformers would load, and of their index."""
    if (directory / SINGLE).is_file():
        return (SINGLE,), None
    path = directory / INDEX
    if not path.is_file():
        raise ExportError(
            f"{directory} holds neither {SINGLE} nor {INDEX}; load the model with transformers and save it with "
            "save_pretrained, which writes safetensors"
        )
    try:
        named = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ExportError(f"{path} is not an index of weights: {error}; get the file again") from None
    for name in named:
        if not isinstance(name, str) or Path(name).name != name or not (directory / name).is_file():
            raise ExportError(f"{path} names the file {name!r}, which is not beside it; get the checkpoint again")
    return tuple(named), INDEX


def _tensors(path: Path) -> Iterator[_Stored]:
    """The tensors of a safetensors file, from its header: 8 bytes of length, then JSON, then the numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(size - 8, _LONGEST_HEADER):
            raise ExportError(f"{path} is not a safetensors file, or cut off; get it again")
        content = file.read(length)
    try:
        header = json.loads(content)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            if not 8 + length <= first <= end <= size:
                raise ValueError(f"{name} lies outside the file")
            yield _Stored(path.name, name, first, end - first, str(entry["dtype"]), tuple(map(int, entry["shape"])))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ExportError(f"the header of {path} cannot be read: {error}; get the file again") from None


def _parameter(part: Dense | Experts) -> tuple[str, Tensor]:
    """Name and value of the parameter that holds a part's matrix or matrices."""
    module: Any = part.module
    if isinstance(part, Experts):
        return f"{part.name}.down_proj", module.down_proj
    if not isinstance(module, nn.Linear | Conv1D):
        raise ExportError(f"{part.name} ({type(module).__name__}) is no plain linear map, so it cannot be exported")
    return f"{part.name}.weight", module.weight


def _matrices(
    part: Dense | Experts, name: str, parameter: Tensor, tensors: Sequence[_Stored], joined: Any, directory: Path
) -> list[Matrix]:
    shape = tuple(parameter.shape)
    transposed = isinstance(part.module, Conv1D) or bool(getattr(part.module, "is_transposed", False))
    if not tensors:
        raise ExportError(f"{directory} stores no {name}, which the model has; get the checkpoint again")
    if joined is None and len(tensors) == 1 and tensors[0].shape == shape:
        pieces = part.count if isinstance(part, Experts) else 1
    elif _only_stacks(joined) and [one.shape for one in tensors] == [shape[1:]] * shape[0]:
        pieces = 1
    else:
        made = "" if joined is None else f", by {', '.join(type(one).__name__ for one in joined.operations)}"
        raise ExportError(
            f"{directory} does not store {name} as the model holds it: {list(shape)} is made of {len(tensors)} "
            f"tensors of shape {list(tensors[0].shape)}{made}; "
            "load the model, call hneurons_eval.fold and save_pretrained"
        )
    found = []
    rows, columns = shape[-2:]
    for one in tensors:
        if one.dtype not in DTYPES:
            raise ExportError(
                f"{one.name} in {directory / one.file} is quantised ({one.dtype}); export a plain checkpoint"
            )
        dtype = DTYPES[one.dtype]
        each = rows * columns * dtype.itemsize
        if one.size != pieces * each:
            raise ExportError(
                f"{one.name} in {directory / one.file} has {one.size} bytes, its shape says {pieces * each}"
            )
        found += [
            Matrix(one.file, one.name, one.start + number * each, dtype, (rows, columns), transposed)
            for number in range(pieces)
        ]
    return found


def _only_stacks(joined: Any) -> bool:
    """Whether a parameter is just its tensors stacked."""
    from transformers.core_model_loading import MergeModulelist

    operations = getattr(joined, "operations", ())
    return len(operations) == 1 and isinstance(operations[0], MergeModulelist) and operations[0].dim == 0
