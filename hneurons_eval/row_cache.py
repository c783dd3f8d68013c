"""Keys and values of a batch whose rows come and go while it decodes.

Every row ends at the same column, so that one step writes one column for all; a row begins where
its own tokens begin. Rows that leave are filled from the end; columns before the first token of
any row are not shown to the model.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

PromptStates = list[tuple[Tensor, Tensor]]
"""Keys and values of a stretch of tokens, for each group of layers: `[layers, heads, tokens, dim]` each."""


class _RowLayer(DynamicLayer):
    """One layer's view on the shared buffers of a `RowCache`."""

    def __init__(self, cache: "RowCache", layer: int) -> None:
        super().__init__()
        self._cache, self._layer = cache, layer
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._cache.append(self._layer, key_states, value_states)

    def get_seq_length(self) -> int:
        return self._cache.length - self._cache.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class RowCache(Cache):
    """The transformers cache of a running batch.

    Attributes:
        rows: rows in use.
        length: columns in use; the next token of every row goes to this column.
        groups: layers whose keys and values have one shape, together.
        starts: int64 `[rows]`, the first column of each row.
        first: the first column that any row uses.
    """

    def __init__(self, sample: DynamicCache) -> None:
        """Shapes are those of `sample`, the cache of any pass of the model."""
        super().__init__(layers=[_RowLayer(self, layer) for layer in range(len(sample.layers))])
        self.groups = layer_groups(sample)
        self.rows = 0
        self.length = 0
        self.first = 0
        self.starts = torch.zeros(0, dtype=torch.long)
        self._home = {layer: (g, i) for g, layers in enumerate(self.groups) for i, layer in enumerate(layers)}
        # [layers of the group, rows, heads, columns, dim]
        self._buffers: PromptStates = [
            (
                k.new_empty((k.shape[0], 0, k.shape[2], 0, k.shape[4])),
                v.new_empty((v.shape[0], 0, v.shape[2], 0, v.shape[4])),
            )
            for k, v in take_states(sample, self.groups)
        ]

    def mask(self) -> Tensor:
        """Which columns, from `first` to the current one, belong to each row: bool `[rows, columns]`."""
        return torch.arange(self.first, self.length + 1) >= self.starts[:, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new column of one layer; return all its columns, `[rows, heads, columns, dim]`."""
        group, within = self._home[layer]
        shown = slice(self.first, self.length + 1)
        buffer_keys, buffer_values = self._buffers[group]
        buffer_keys[within, : self.rows, :, self.length] = keys[:, :, 0]
        buffer_values[within, : self.rows, :, self.length] = values[:, :, 0]
        return buffer_keys[within, : self.rows, :, shown], buffer_values[within, : self.rows, :, shown]

    def advance(self) -> None:
        """Count the column that was written."""
        self.length += 1

    def admit(self, prompts: list[list[PromptStates]], lengths: list[int]) -> None:
        """Add rows.

        Args:
            prompts: for each new row its stretches of states, in order.
            lengths: tokens of each new row (the sum of its stretches).
        """
        self._make_room(self.rows + len(prompts), max(lengths))
        for row, (stretches, length) in enumerate(zip(prompts, lengths, strict=True), start=self.rows):
            column = self.length - length
            for stretch in stretches:
                tokens = stretch[0][0].shape[-2]
                for (keys, values), (new_keys, new_values) in zip(self._buffers, stretch, strict=True):
                    keys[:, row, :, column : column + tokens] = new_keys
                    values[:, row, :, column : column + tokens] = new_values
                column += tokens
        self.starts = torch.cat([self.starts, self.length - torch.tensor(lengths, dtype=torch.long)])
        self.rows += len(prompts)
        self._find_first()

    def remove(self, gone: list[int]) -> list[int]:
        """Drop rows; rows from the end take their places.

        Returns:
            for each row that is left, in its new order, its old number.
        """
        left = self.rows - len(gone)
        order = list(range(left))
        holes = sorted(row for row in gone if row < left)
        dropped = set(gone)
        movers = [row for row in range(left, self.rows) if row not in dropped]
        if holes:
            to, source = torch.tensor(holes), torch.tensor(movers)
            shown = slice(self.first, self.length)
            for keys, values in self._buffers:
                keys[:, to, :, shown] = keys[:, source, :, shown]
                values[:, to, :, shown] = values[:, source, :, shown]
            for hole, mover in zip(holes, movers, strict=True):
                order[hole] = mover
        self.starts = self.starts[torch.tensor(order, dtype=torch.long)]
        self.rows = left
        self._find_first()
        return order

    def ensure_column(self) -> None:
        """Make sure that the next column exists."""
        self._make_room(self.rows, 0)

    def _make_room(self, rows: int, longest: int) -> None:
        """Buffers for `rows` rows, with at least `longest` columns before the next one."""
        capacity_rows, capacity = self._buffers[0][0].shape[1], self._buffers[0][0].shape[-2]
        if self.rows == 0 and rows <= capacity_rows and longest < capacity:
            self.length = self.first = longest
        elif rows > capacity_rows or longest > self.length or self.length >= capacity:
            if rows > capacity_rows:
                capacity_rows = max(rows, min(2 * capacity_rows, rows + 64))
            self._reshape(capacity_rows, longest)

    def _reshape(self, capacity_rows: int, longest: int) -> None:
        """New buffers, without the columns that no row uses any more; the rows still end at one column."""
        first = self.first
        used = self.length - first
        length = max(used, longest)
        columns = length + 32 + length // 4
        shown = slice(length - used, length)
        fresh: PromptStates = []
        for pair in self._buffers:
            new = tuple(t.new_zeros((t.shape[0], capacity_rows, t.shape[2], columns, t.shape[4])) for t in pair)
            if self.rows:
                for tensor, old in zip(new, pair, strict=True):
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


def take_states(cache: DynamicCache, groups: list[list[int]]) -> PromptStates:
    """All keys and values of a filled cache: for each group `[layers, batch, heads, tokens, dim]`."""
    return [
        (
            torch.stack([cache.layers[layer].keys for layer in layers]),  # pyright: ignore
            torch.stack([cache.layers[layer].values for layer in layers]),  # pyright: ignore
        )
        for layers in groups
    ]
