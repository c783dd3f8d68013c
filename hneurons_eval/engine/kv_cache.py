"""KV cache of a batch whose rows come and go while it decodes.

Every row ends at the same column, so that one step writes one column for all; a row begins where its own tokens begin.
Copies of other rows, or rows from the end, replace those that leave.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from hneurons_eval.util.memory import check_room

KeysAndValues = list[tuple[Tensor, Tensor]]
"""Keys and values of a segment of tokens, for each group of layers: `[layers, heads, tokens, dim]` each."""


class _KVLayer(DynamicLayer):
    """One layer's view on the shared buffers of a `KVCache`."""

    def __init__(self, cache: "KVCache", layer: int) -> None:
        super().__init__()
        self._cache, self._layer = cache, layer
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._cache.append(self._layer, key_states, value_states)

    def get_seq_length(self) -> int:
        return self._cache.length - self._cache.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class KVCache(Cache):
    """The transformers cache of a running batch.

    Attributes:
        rows: rows in use.
        length: columns in use; the next token of every row goes to this column.
        groups: layers whose keys and values have one shape, together.
        starts: int64 `[rows]`, the first column of each row.
        first: the first column that any row uses.
        token_bytes: bytes of one token's keys and values, in all layers.
    """

    def __init__(self, sample: DynamicCache) -> None:
        """Shapes are those of `sample`, the cache of any pass of the model."""
        super().__init__(layers=[_KVLayer(self, layer) for layer in range(len(sample.layers))])
        self.groups = layer_groups(sample)
        self.rows = 0
        self.length = 0
        self.first = 0
        self.starts = torch.zeros(0, dtype=torch.long)
        states = take_states(sample, self.groups)
        self.token_bytes = sum(side[:, :1, :, :1].nbytes for pair in states for side in pair)
        self._position = {layer: (g, i) for g, layers in enumerate(self.groups) for i, layer in enumerate(layers)}
        # [layers of the group, rows, heads, columns, dim]
        self._buffers: KeysAndValues = [
            (
                k.new_empty((k.shape[0], 0, k.shape[2], 0, k.shape[4])),
                v.new_empty((v.shape[0], 0, v.shape[2], 0, v.shape[4])),
            )
            for k, v in states
        ]

    def mask(self) -> Tensor:
        """Which columns, from `first` to the current one, belong to each row: bool `[rows, columns]`."""
        return torch.arange(self.first, self.length + 1) >= self.starts[:, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new column of one layer; return all its columns, `[rows, heads, columns, dim]`."""
        group, within = self._position[layer]
        shown = slice(self.first, self.length + 1)
        buffer_keys, buffer_values = self._buffers[group]
        buffer_keys[within, : self.rows, :, self.length] = keys[:, :, 0]
        buffer_values[within, : self.rows, :, self.length] = values[:, :, 0]
        return buffer_keys[within, : self.rows, :, shown], buffer_values[within, : self.rows, :, shown]

    def advance(self) -> None:
        """Count the column that was written."""
        self.length += 1

    def reserve(self, rows: int, longest: int, ahead: int) -> None:
        """Make room for rows that are about to be added.

        Args:
            rows: how many rows there may come to be: those in use, the new ones and their splits.
            longest: tokens of the longest new row.
            ahead: how many columns these rows are likely to fill.

        Raises NotEnoughMemoryError: on a CPU, where they would take more than is free; nothing has changed then.
        """
        self._make_room(max(rows, self.rows), longest, ahead)

    def add_rows(self, prompts: list[list[KeysAndValues]], lengths: list[int]) -> None:
        """Add rows for which room has been reserved: the segments of states of each, and its number of tokens."""
        for row, (segments, length) in enumerate(zip(prompts, lengths, strict=True), start=self.rows):
            column = self.length - length
            # Masked columns must hold numbers all the same: NaN would pass through the mask.
            for keys, values in self._buffers:
                keys[:, row, :, :column] = 0
                values[:, row, :, :column] = 0
            for segment in segments:
                tokens = segment[0][0].shape[-2]
                for (keys, values), (new_keys, new_values) in zip(self._buffers, segment, strict=True):
                    keys[:, row, :, column : column + tokens] = new_keys
                    values[:, row, :, column : column + tokens] = new_values
                column += tokens
        self.starts = torch.cat([self.starts, self.length - torch.tensor(lengths, dtype=torch.long)])
        self.rows += len(prompts)
        self._find_first()

    def rearrange(self, gone: list[int], copies: list[int]) -> list[tuple[int, int]]:
        """Drop the rows `gone` and copy the rows `copies`, of which none is gone.

        Returns (new row, old row) of each move: first one pair for each copy, in order, then the rows that moved from
        the end into holes. All other rows stay where they are.
        """
        holes = sorted(gone)
        left = self.rows + len(copies) - len(gone)
        to_fill = [*holes, *range(self.rows, self.rows + len(copies))][: len(copies)]
        moves = list(zip(to_fill, copies, strict=True))
        open_holes = [hole for hole in holes[len(copies) :] if hole < left]
        dropped = set(gone)
        movers = [row for row in range(left, self.rows) if row not in dropped]
        moves += zip(open_holes, movers, strict=True)
        if moves:
            self._make_room(max(left, self.rows), 0, 0)
            to, source = (torch.tensor(side) for side in zip(*moves, strict=True))
            shown = slice(self.first, self.length)
            for keys, values in self._buffers:
                for buffer in (keys, values):
                    buffer[:, to, :, shown] = buffer[:, source, :, shown]
                    if left > self.rows:
                        buffer[:, self.rows : left, :, : self.first] = 0
            starts = torch.cat([self.starts, self.starts.new_zeros(max(left - self.rows, 0))])
            starts[to] = self.starts[source]
            self.starts = starts
        self.starts = self.starts[:left]
        self.rows = left
        self._find_first()
        return moves

    def ensure_column(self) -> None:
        """Make sure that the next column exists."""
        self._make_room(self.rows, 0, 1)

    @property
    def columns(self) -> int:
        """Columns that any row uses."""
        return self.length - self.first

    @property
    def nbytes(self) -> int:
        """Bytes of the columns in use."""
        return self.token_bytes * self.rows * self.columns

    def _make_room(self, rows: int, longest: int, ahead: int) -> None:
        """Buffers for `rows` rows, with at least `longest` columns before the next one and `ahead` from it on."""
        capacity_rows, capacity = self._buffers[0][0].shape[1], self._buffers[0][0].shape[-2]
        if self.rows == 0 and rows <= capacity_rows and longest + ahead <= capacity:
            self.length = self.first = longest
        elif rows > capacity_rows or longest > self.length or self.length + ahead > capacity:
            self._reshape(max(rows, min(capacity_rows, 2 * rows)), longest, ahead)

    def _reshape(self, capacity_rows: int, longest: int, ahead: int) -> None:
        """New buffers without columns that no row uses; the rows still end at one column."""
        first = self.first
        used = self.length - first
        length = max(used, longest)
        columns = length + max(ahead, 32, length // 4 if self.rows else 0)
        if self._buffers[0][0].device.type == "cpu":
            # A CPU grants memory that it does not have, and kills the process that uses it.
            check_room(
                self.token_bytes * capacity_rows * columns,
                "keys and values",
                "shorten the prompts, ask for fewer tokens, or use dtype=bfloat16",
            )
        shown = slice(length - used, length)
        fresh: KeysAndValues = []
        for pair in self._buffers:
            # Not filled: a fresh page costs nothing until it is written to.
            new = tuple(t.new_empty((t.shape[0], capacity_rows, t.shape[2], columns, t.shape[4])) for t in pair)
            if self.rows:
                for tensor, old in zip(new, pair, strict=True):
                    tensor[:, : self.rows, :, : shown.start] = 0
                    tensor[:, : self.rows, :, shown] = old[:, : self.rows, :, first : self.length]
            fresh.append((new[0], new[1]))
        self._buffers = fresh
        self.starts = self.starts + (length - self.length)
        self.length = length
        self._find_first()

    def _find_first(self) -> None:
        self.first = int(self.starts.min()) if self.rows else self.length


def layer_groups(cache: DynamicCache) -> list[list[int]]:
    """Layers of a filled cache whose keys and values have one shape, together."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    layers: list[Any] = cache.layers
    for number, layer in enumerate(layers):
        keys, values = layer.keys, layer.values
        key = (keys.shape[1], keys.shape[3], values.shape[1], values.shape[3], keys.dtype, keys.device)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def take_states(cache: DynamicCache, groups: list[list[int]]) -> KeysAndValues:
    """All keys and values of a filled cache: for each group `[layers, batch, heads, tokens, dim]`."""
    return [
        (
            torch.stack([cache.layers[layer].keys for layer in layers]),  # pyright: ignore
            torch.stack([cache.layers[layer].values for layer in layers]),  # pyright: ignore
        )
        for layers in groups
    ]
