"""How much each neuron contributes to its layer's output (CETT), reduced by region inside the hook.

```python
values = contributions(model, input_ids, attention_mask, regions)  # float32 [batch, regions, neurons]
```

With z = the input of a layer's down projection and h = its output, neuron j contributes at token t

    CETT[j, t] = |z[j, t]| * ||W_down[:, j]||_2 / ||h[t]||_2        (Gao et al. 2025, section 2.2)

and over a region (a set of tokens) the mean, or the maximum, of that. In a mixture of experts z
carries the routing weight, is 0 where the expert was not chosen, and h is the output of the whole
layer (see `architectures.py`). All of it is computed in float32 whatever the model's dtype, layer by
layer, so that memory does not grow with the layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from hneurons_eval.models.coverage import covered_projections
from hneurons_eval.models.down_projection import DownProjection
from hneurons_eval.models.hooks import DenseActivations, ExpertActivations, LayerActivations, Observer, Scaling, hooked
from hneurons_eval.models.layout import NeuronLayout

Reduce = Literal["mean", "max"]
REDUCTIONS: tuple[Reduce, ...] = ("mean", "max")
_CACHED = 2**18
"""Numbers that are worked on at once on a CPU: a megabyte."""


class RegionCapture:
    """Fills `values` during one forward pass inside `with capture.during(regions):`.

    The model's column norms are computed once and kept: 4 bytes a neuron.
    """

    def __init__(self, model: nn.Module) -> None:
        self.places: list[DownProjection] = covered_projections(model)
        self.layout = NeuronLayout(tuple(place.width for place in self.places))
        self.norms = [place.column_norms() for place in self.places]

    @contextmanager
    def during(
        self,
        regions: Tensor,
        reduce: Reduce = "mean",
        *,
        counts: Tensor | None = None,
        scaling: Scaling | None = None,
        also: Observer | None = None,
    ) -> Iterator[Tensor]:
        """Capture the forward passes run inside the block.

        Args:
            regions: bool `[batch, regions, tokens]`, the tokens of each region, in the positions of the pass.
            reduce: `mean` or `max` over a region's tokens.
            counts: by how many tokens a region's sum is divided, `[batch, regions]`; default those in the pass.
                Where part of a region was seen in an earlier pass it is more, and 1 gives the sum.
            scaling: neurons to scale meanwhile.
            also: is shown each layer as well, as `TokenCapture.see`.

        Yields:
            float32 `[batch, regions, neurons]` on the CPU, filled once the pass is over; 0 for a region
            without tokens in the pass.
        """
        batch, count, _ = regions.shape
        values = torch.zeros(batch, count, self.layout.total, dtype=torch.float32)
        counts = (regions.sum(dim=-1) if counts is None else counts).clamp_min(1)
        placed: dict[torch.device, tuple[Tensor, Tensor]] = {}

        def see(place: DownProjection, terms: LayerActivations, h: Tensor) -> None:
            start, stop = self.layout.starts[place.layer : place.layer + 2].tolist()
            if h.device not in placed:
                placed[h.device] = regions.to(h.device), counts.to(h.device)
            own, number = placed[h.device]
            with torch.no_grad():
                values[:, :, start:stop] = reduce_cett(terms, h, self.norms[place.layer], own, number, reduce)
                if also is not None:
                    also(place, terms, h)

        with hooked(self.places, scaling, see):
            yield values


class TokenCapture:
    """CETT of a few neurons at every single token of a pass: give `see` to `RegionCapture.during(also=...)`.

    Attributes:
        neurons: flat indices, int64 `[few]`.
        values: float32 `[batch * tokens, few]` on the CPU, filled once the pass is over; padding holds anything.
    """

    def __init__(self, capture: RegionCapture, neurons: np.ndarray, tokens: int) -> None:
        self.neurons = neurons
        self.values = torch.zeros(tokens, len(neurons), dtype=torch.float32)
        self._norms = capture.norms
        layers, within = capture.layout.unflatten(neurons)
        self._of_layer = {
            layer: (torch.from_numpy(np.flatnonzero(layers == layer)), torch.from_numpy(within[layers == layer]))
            for layer in np.unique(layers).tolist()
        }

    def see(self, place: DownProjection, terms: LayerActivations, h: Tensor) -> None:
        """Take one layer's values."""
        if place.layer in self._of_layer:
            columns, within = self._of_layer[place.layer]
            self.values[:, columns] = cett_at_tokens(terms, h, self._norms[place.layer], within.to(h.device)).cpu()


def cett_at_tokens(terms: LayerActivations, h: Tensor, norms: Tensor, neurons: Tensor) -> Tensor:
    """CETT of some of a layer's neurons at every token: float32 `[tokens, some]`.

    Args:
        terms: what the layer's neurons put into h.
        h: the layer's MLP output, `[..., hidden]`.
        norms: column norms of W_down, float32 `[width]`.
        neurons: int64 `[some]`, numbers within the layer.
    """
    inverse = inverse_norm(h).reshape(-1, 1)  # [tokens, 1]
    values = torch.zeros(len(inverse), len(neurons), device=h.device)
    start = 0
    for term in terms.parts:
        here = ((neurons >= start) & (neurons < start + term.part.width)).nonzero()[:, 0]
        own = neurons[here] - start
        start += term.part.width
        if not len(here):
            continue
        if isinstance(term, DenseActivations):
            z = term.z.reshape(-1, term.part.width)[:, own].float()
            values[:, here] = (z if term.gate is None else z * term.gate.float().reshape(-1, 1)).abs()
        else:
            # A token has a neuron's value in the slot where its expert was chosen, if it was: [tokens, k, some].
            chosen = term.experts[:, :, None] == own // term.part.each
            z = term.z[:, :, own % term.part.each].float() * term.weights.float()[..., None]
            values[:, here] = torch.where(chosen, z.abs(), 0.0).sum(dim=1)
    return values * inverse * norms.to(h.device)[neurons]


def reduce_cett(
    terms: LayerActivations, h: Tensor, norms: Tensor, regions: Tensor, counts: Tensor, reduce: Reduce
) -> Tensor:
    """CETT of one layer over regions: float32 `[batch, regions, width]`.

    Args:
        terms: what the layer's neurons put into h, of `batch * tokens` tokens.
        h: the layer's MLP output, `[batch, tokens, hidden]` or `[batch * tokens, hidden]`.
        norms: column norms of W_down, float32 `[width]`.
        regions: bool `[batch, regions, tokens]`.
        counts: by how many tokens a region's sum is divided, `[batch, regions]`.
        reduce: `mean` or `max` over a region's tokens.
    """
    batch, _, tokens = regions.shape
    inverse = inverse_norm(h).view(batch, tokens)
    if reduce == "mean":
        shares = torch.where(regions, inverse[:, None, :] / counts[:, :, None], 0.0)  # [batch, regions, tokens]
    else:
        shares = torch.where(regions, inverse[:, None, :], 0.0)
    outside = ~regions.any(dim=1)  # [batch, tokens]
    reduced = [
        _reduce_dense(term, shares, outside, reduce)
        if isinstance(term, DenseActivations)
        else _reduce_experts(term, shares, outside, reduce)
        for term in terms.parts
    ]
    return (reduced[0] if len(reduced) == 1 else torch.cat(reduced, dim=-1)) * norms


def inverse_norm(h: Tensor) -> Tensor:
    """1 / ||h||_2 over the last dimension, float32; 0 where h is 0: there nothing reaches the residual stream."""
    size = torch.linalg.vector_norm(h, dim=-1, dtype=torch.float32)
    return torch.where(size > 0, 1.0 / size, 0.0)


def _reduce_dense(term: DenseActivations, shares: Tensor, outside: Tensor, reduce: Reduce) -> Tensor:
    """Sum (or maximum) over tokens of share * |z|: float32 `[batch, regions, width]`."""
    batch, count, tokens = shares.shape
    z = term.weighted.reshape(batch, tokens, -1)
    reduced = torch.empty(batch, count, z.shape[-1], device=z.device)
    # A few rows at a time, so that their magnitudes lie in the processor's cache; a GPU takes them all at once.
    rows = max(1, _CACHED // (tokens * z.shape[-1])) if z.device.type == "cpu" else batch
    for start in range(0, batch, rows):
        part = slice(start, start + rows)
        magnitude = z[part].abs() if z.dtype == torch.float32 else z[part].float().abs_()
        # Padding may hold anything, NaN included, which a share of 0 would not silence.
        row, token = outside[part].nonzero(as_tuple=True)
        if len(row):
            magnitude[row, token] = 0.0
        if reduce == "mean":
            torch.bmm(shares[part], magnitude, out=reduced[part])
        else:
            for r in range(count):
                torch.amax(magnitude * shares[part, r, :, None], dim=1, out=reduced[part, r])
    return reduced


def _reduce_experts(term: ExpertActivations, shares: Tensor, outside: Tensor, reduce: Reduce) -> Tensor:
    """The same for routed experts: float32 `[batch, regions, count * each]`."""
    batch, count, tokens = shares.shape
    part, k = term.part, term.experts.shape[1]
    magnitude = term.weighted.float().abs()  # [batch * tokens, k, each]
    magnitude[outside.flatten()] = 0.0
    row = torch.arange(batch, device=shares.device).repeat_interleave(tokens * k)
    owner = row * part.count + term.experts.flatten()
    regions = []
    for r in range(count):
        own = (magnitude * shares[:, r].reshape(-1, 1, 1)).view(-1, part.each)
        into = torch.zeros(batch * part.count, part.each, device=shares.device)
        if reduce == "mean":
            into.index_add_(0, owner, own)
        else:
            into.scatter_reduce_(0, owner[:, None].expand_as(own), own, "amax")
        regions.append(into.view(batch, part.width))
    return torch.stack(regions, dim=1)


def check_regions(regions: Tensor) -> None:
    """Refuse regions that are malformed or empty.

    Raises:
        ValueError: says what was expected and which region of which row is empty.
    """
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
    if (regions & (attention_mask[:, None, :] == 0)).any():
        raise ValueError("a region covers padding; mark real tokens only")
    capture = RegionCapture(model)
    with torch.inference_mode(), capture.during(regions, reduce) as values:
        forward_without_logits(model, input_ids, attention_mask)
    return values.clone()  # a plain tensor, not one of inference mode


def forward_without_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> None:
    """One pass over padded sequences through the decoder layers only; positions count real tokens."""
    positions = (attention_mask.long().cumsum(dim=-1) - 1).clamp_min(0)
    decoder = model.get_decoder()  # pyright: ignore[reportCallIssue]
    decoder(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False)
