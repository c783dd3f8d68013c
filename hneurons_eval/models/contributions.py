"""How much each neuron contributes to its layer's output (CETT), reduced by region inside the hook.

```python
values = contributions(model, input_ids, attention_mask, regions)  # float32 [batch, regions, neurons]
```

With z the input of a layer's down projection and h its output (of a mixture of experts, see `architecture.py`), neuron
j contributes at token t

    CETT[j, t] = |z[j, t]| * ||W_down[:, j]||_2 / ||h[t]||_2        (Gao et al. 2025, section 2.2)

and over a region (a set of tokens) the mean, or the maximum, of that; all in float32 whatever the model's dtype. `cett`
is the formula at single tokens, `reduce_cett` a layer's values over regions, for passes over given tokens, decoding
(`engine/activation_records.py`) and vLLM (`vllm/captures.py`) alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.down_projection import DownProjection, input_device
from hneurons_eval.models.hooks import DenseActivations, ExpertActivations, LayerActivations, Observer, Scaling, hooked
from hneurons_eval.models.layout import NeuronLayout

Reduce = Literal["mean", "max"]
REDUCTIONS: tuple[Reduce, ...] = ("mean", "max")
_CACHED = 2**18
"""Numbers in one block of work on a CPU: a megabyte, which its cache holds."""


def inverse_norm(h: Tensor) -> Tensor:
    """1 / ||h||_2 over the last dimension, float32; 0 where h is 0: there nothing reaches the residual stream."""
    size = torch.linalg.vector_norm(h, dim=-1, dtype=torch.float32)
    return torch.where(size > 0, 1.0 / size, 0.0)


def cett(z: Tensor, inverse_norm: Tensor, column_norms: Tensor | None) -> Tensor:
    """|z| * ||W_down[:, j]|| / ||h||: float32, the shape of z `[..., neurons]`.

    `inverse_norm` is 1 / ||h||, float32 `[..., 1]`; `column_norms` float32 `[neurons]`, or None for a sum over tokens,
    which is multiplied by them once at the end.
    """
    values = magnitude(z).mul_(inverse_norm)
    return values if column_norms is None else values.mul_(column_norms)


def magnitude(z: Tensor) -> Tensor:
    """|z| in float32, a new tensor."""
    return z.abs() if z.dtype == torch.float32 else z.float().abs_()


def cett_at_tokens(activations: LayerActivations, inverse: Tensor, norms: Tensor, neurons: Tensor) -> Tensor:
    """CETT of some of a layer's neurons at every token: float32 `[tokens, some]`.

    `inverse` is 1 / ||h||, float32 `[tokens]`; `norms` the column norms of W_down, float32 `[width]`; `neurons` int64
    `[some]`, numbers within the layer.
    """
    z = torch.zeros(len(inverse), len(neurons), device=inverse.device)
    start = 0
    for one in activations.parts:
        here = ((neurons >= start) & (neurons < start + one.part.width)).nonzero()[:, 0]
        own = neurons[here] - start
        start += one.part.width
        if not len(here):
            continue
        if isinstance(one, DenseActivations):
            values = one.z.reshape(-1, one.part.width)[:, own].float()
            z[:, here] = values if one.gate is None else values * one.gate.float().reshape(-1, 1)
        else:
            # A token has a neuron's value in the slot where its expert was chosen, if it was: [tokens, k, some].
            chosen = one.experts[:, :, None] == own // one.part.each
            values = one.z[:, :, own % one.part.each].float() * one.weights.float()[..., None]
            z[:, here] = torch.where(chosen, values, 0.0).sum(dim=1)
    return cett(z, inverse[:, None], norms.to(inverse.device)[neurons])


def reduce_cett(
    activations: LayerActivations,
    inverse: Tensor,
    norms: Tensor,
    reduce: Reduce,
    regions: Tensor | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    """CETT of one layer over regions: float32 `[batch, regions, width]`.

    Args:
        activations: of the layer's `batch * tokens` tokens.
        inverse: 1 / ||h||, float32 `[batch, tokens]`.
        norms: column norms of W_down, float32 `[width]`.
        reduce: `mean` or `max` over a region's tokens.
        regions: bool `[batch, regions, tokens]`; default one region of all tokens.
        counts: divisor of each region's sum, `[batch, regions]`; default 1. `max` does not use it.
    """
    if regions is None:
        shares, outside = inverse[:, None, :], None  # [batch, regions, tokens]
    else:
        divided = inverse[:, None, :]
        if reduce == "mean" and counts is not None:
            divided = divided / counts[:, :, None]
        shares = torch.where(regions, divided, 0.0)
        outside = ~regions.any(dim=1)  # [batch, tokens]
    reduced = [
        _reduce_dense(one, shares, outside, reduce)
        if isinstance(one, DenseActivations)
        else _reduce_experts(one, shares, outside, reduce)
        for one in activations.parts
    ]
    return (reduced[0] if len(reduced) == 1 else torch.cat(reduced, dim=-1)) * norms.to(inverse.device)


def _reduce_dense(one: DenseActivations, shares: Tensor, outside: Tensor | None, reduce: Reduce) -> Tensor:
    """Sum (or maximum) over tokens of share * |z|: float32 `[batch, regions, width]`."""
    batch, count, tokens = shares.shape
    z = one.weighted.reshape(batch, tokens, -1)
    reduced = torch.empty(batch, count, z.shape[-1], device=z.device)
    # A few rows at a time, so that their magnitudes lie in the processor's cache; a GPU takes them all at once.
    rows = max(1, _CACHED // (tokens * z.shape[-1])) if z.device.type == "cpu" else batch
    for start in range(0, batch, rows):
        block = slice(start, start + rows)
        values = magnitude(z[block])
        if outside is not None:
            # Padding may hold anything, NaN included, which a share of 0 would not silence.
            row, token = outside[block].nonzero(as_tuple=True)
            if len(row):
                values[row, token] = 0.0
        if reduce == "mean":
            torch.bmm(shares[block], values, out=reduced[block])
        else:
            for r in range(count):
                torch.amax(values * shares[block, r, :, None], dim=1, out=reduced[block, r])
    return reduced


def _reduce_experts(one: ExpertActivations, shares: Tensor, outside: Tensor | None, reduce: Reduce) -> Tensor:
    """The same for routed experts: float32 `[batch, regions, count * each]`."""
    batch, count, tokens = shares.shape
    part, k = one.part, one.experts.shape[1]
    values = magnitude(one.weighted)  # [batch * tokens, k, each]
    if outside is not None:
        values[outside.flatten()] = 0.0
    row = torch.arange(batch, device=shares.device).repeat_interleave(tokens * k)
    owner = row * part.count + one.experts.flatten()
    regions = []
    for r in range(count):
        own = (values * shares[:, r].reshape(-1, 1, 1)).view(-1, part.each)
        into = torch.zeros(batch * part.count, part.each, device=shares.device)
        reduce_rows_(into, owner, own, reduce)
        regions.append(into.view(batch, part.width))
    return torch.stack(regions, dim=1)


def reduce_rows_(into: Tensor, owner: Tensor, values: Tensor, reduce: str) -> None:
    """Add each row of `values` to the row `owner[k]` of `into` (`mean`), or take the maximum with it (`max`), in place.

    `into` is float32 `[owners, width]` and at least 0, as `values` `[rows, width]`; `owner` is int64 `[rows]`.
    """
    if reduce == "mean":
        into.index_add_(0, owner, values)
    else:
        into.scatter_reduce_(0, owner[:, None].expand_as(values), values, "amax")


class RegionCapture:
    """Fills a tensor during one forward pass inside `with capture.during(regions) as values:`.

    The model's column norms are computed once and kept: 4 bytes a neuron.
    """

    def __init__(self, model: nn.Module) -> None:
        self.projections: list[DownProjection] = covered_projections(model)
        self.layout = NeuronLayout(tuple(projection.width for projection in self.projections))
        self.norms = [projection.column_norms() for projection in self.projections]

    @contextmanager
    def during(
        self,
        regions: Tensor,
        reduce: Reduce = "mean",
        *,
        counts: Tensor | None = None,
        scaling: Scaling | None = None,
        observer: Observer | None = None,
    ) -> Iterator[Tensor]:
        """Capture the forward passes run inside the block.

        Yields float32 `[batch, regions, neurons]` on the CPU, filled once the pass is over; 0 for a region without
        tokens in the pass.

        Args:
            regions: bool `[batch, regions, tokens]`, the tokens of each region, in the positions of the pass.
            reduce: `mean` or `max` over a region's tokens.
            counts: divisor of each region's sum, `[batch, regions]`; default the region's tokens in the pass. Where an
                earlier pass saw a part of a region it is more, and 1 gives the sum.
            scaling: neurons to scale meanwhile.
            observer: called with each layer as well, as `TokenCapture.observe`.
        """
        batch, count, tokens = regions.shape
        values = torch.zeros(batch, count, self.layout.total, dtype=torch.float32)
        counts = (regions.sum(dim=-1) if counts is None else counts).clamp_min(1)
        on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

        def observe(projection: DownProjection, activations: LayerActivations, h: Tensor) -> None:
            start, stop = self.layout.starts[projection.layer : projection.layer + 2].tolist()
            if h.device not in on_device:
                on_device[h.device] = regions.to(h.device), counts.to(h.device)
            inverse, norms = inverse_norm(h).view(batch, tokens), self.norms[projection.layer]
            with torch.no_grad():
                values[:, :, start:stop] = reduce_cett(activations, inverse, norms, reduce, *on_device[h.device])
                if observer is not None:
                    observer(projection, activations, h)

        with hooked(self.projections, scaling, observe):
            yield values


class TokenCapture:
    """CETT of a few neurons at every single token of a pass: `RegionCapture.during(observer=capture.observe)`.

    `neurons` are flat indices, int64 `[few]`; `values` float32 `[batch * tokens, few]` on the CPU, filled once the pass
    is over, where padding holds anything.
    """

    def __init__(self, capture: RegionCapture, neurons: np.ndarray, tokens: int) -> None:
        self.neurons = neurons
        self.values = torch.zeros(tokens, len(neurons), dtype=torch.float32)
        self._norms = capture.norms
        self._of_layer = by_layer(capture.layout, neurons)

    def observe(self, projection: DownProjection, activations: LayerActivations, h: Tensor) -> None:
        """Take one layer's values."""
        if projection.layer in self._of_layer:
            columns, within = self._of_layer[projection.layer]
            norms, inverse = self._norms[projection.layer], inverse_norm(h).reshape(-1)
            self.values[:, columns] = cett_at_tokens(activations, inverse, norms, within.to(h.device)).cpu()


def by_layer(layout: NeuronLayout, neurons: np.ndarray) -> dict[int, tuple[Tensor, Tensor]]:
    """Flat indices by layer: which of them are the layer's, and their numbers within it, int64 `[some]` each."""
    layers, within = layout.unflatten(neurons)
    return {
        layer: (torch.from_numpy(np.flatnonzero(layers == layer)), torch.from_numpy(within[layers == layer]))
        for layer in np.unique(layers).tolist()
    }


def check_regions(regions: Tensor) -> None:
    """Refuse regions that are malformed or empty (ValueError)."""
    if regions.dtype != torch.bool or regions.dim() != 3:
        raise ValueError(
            f"regions should be bool [batch, regions, tokens], found {regions.dtype} {list(regions.shape)}"
        )
    empty = (~regions.any(dim=-1)).nonzero()
    if len(empty):
        row, region = empty[0].tolist()
        raise ValueError(
            f"region {region} of row {row} has no tokens; give each region at least one, or leave the row out"
        )


def contributions(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    regions: Tensor,
    *,
    reduce: Reduce = "mean",
) -> Tensor:
    """Contributions of every neuron over regions of given token sequences, from one forward pass.

    The tensors may be on any device.

    Args:
        model: a transformers causal language model.
        input_ids: `[batch, tokens]`, padded on either side.
        attention_mask: `[batch, tokens]`, 1 for tokens and 0 for padding.
        regions: bool `[batch, regions, tokens]`; a region holds no padding.
        reduce: `mean` (the paper's) or `max` over a region's tokens.

    Returns:
        float32 `[batch, regions, neurons]`, neurons layer-major as in `neuron_layout`.

    Raises:
        ValueError: an empty region, shapes that do not agree, or a region on padding.
        UnsupportedModelError: as `covered_projections`.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"reduce should be one of {', '.join(REDUCTIONS)}, found {reduce!r}")
    if input_ids.shape != attention_mask.shape or input_ids.dim() != 2:
        raise ValueError(
            "input_ids and attention_mask should both be [batch, tokens], "
            f"found {list(input_ids.shape)} and {list(attention_mask.shape)}"
        )
    check_regions(regions)
    if (regions.shape[0], regions.shape[2]) != tuple(input_ids.shape):
        raise ValueError(
            f"regions should be [batch, regions, tokens] with batch and tokens {list(input_ids.shape)}, "
            f"found {list(regions.shape)}"
        )
    capture = RegionCapture(model)
    device = input_device(model.get_input_embeddings())  # pyright: ignore[reportCallIssue]
    input_ids, attention_mask, regions = (given.to(device) for given in (input_ids, attention_mask, regions))
    if (regions & (attention_mask[:, None, :] == 0)).any():
        raise ValueError("a region covers padding; mark real tokens only")
    with torch.inference_mode(), capture.during(regions, reduce) as values:
        forward_without_logits(model, input_ids, attention_mask)
    return values.clone()  # a plain tensor, not one of inference mode


def forward_without_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> None:
    """One pass over padded sequences through the decoder layers only; positions count real tokens."""
    positions = (attention_mask.long().cumsum(dim=-1) - 1).clamp_min(0)
    decoder = model.get_decoder()  # pyright: ignore[reportCallIssue]
    decoder(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False)
