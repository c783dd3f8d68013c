"""How much each neuron contributes to its layer's output (CETT), reduced by region inside the hook.

```python
values = contributions(model, input_ids, attention_mask, regions)  # float32 [batch, regions, neurons]
```

With z = the input of a layer's down projection and h = its output, neuron j contributes at token t

    CETT[j, t] = |z[j, t]| * ||W_down[:, j]||_2 / ||h[t]||_2        (Gao et al. 2025, section 2.2)

and over a region (a set of tokens) the mean, or the maximum, of that. All of it is computed in
float32 whatever the model's dtype, layer by layer, so that memory does not grow with the layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from hneurons_eval.architectures import DownProjection, NeuronLayout, down_projections

Reduce = Literal["mean", "max"]
REDUCTIONS: tuple[Reduce, ...] = ("mean", "max")


class RegionCapture:
    """Hooks that fill `values` during one forward pass inside `with capture.during(regions):`.

    The model's column norms are computed once and kept: 4 bytes a neuron.
    """

    def __init__(self, model: nn.Module) -> None:
        self.places: list[DownProjection] = down_projections(model)
        self.layout = NeuronLayout(tuple(place.width for place in self.places))
        self._norms = [place.column_norms() for place in self.places]

    @contextmanager
    def during(self, regions: Tensor, reduce: Reduce = "mean") -> Iterator[Tensor]:
        """Capture the forward passes run inside the block.

        Args:
            regions: bool `[batch, regions, tokens]`, the tokens of each region, in the positions of the pass.
            reduce: `mean` or `max` over a region's tokens.

        Yields:
            float32 `[batch, regions, neurons]` on the CPU, filled once the pass is over.

        Raises:
            ValueError: a region without tokens, or regions that are not bool `[batch, regions, tokens]`.
        """
        check_regions(regions)
        batch, count, _ = regions.shape
        values = torch.zeros(batch, count, self.layout.total, dtype=torch.float32)
        handles = [
            place.module.register_forward_hook(self._hook(place.layer, regions, reduce, values))
            for place in self.places
        ]
        try:
            yield values
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, layer: int, regions: Tensor, reduce: Reduce, values: Tensor):  # its type is torch's
        start, stop = (int(s) for s in self.layout.starts[layer : layer + 2])
        norms = self._norms[layer]

        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            with torch.no_grad():
                values[:, :, start:stop] = reduce_cett(args[0], output, norms, regions.to(output.device), reduce)

        return hook


def reduce_cett(z: Tensor, h: Tensor, norms: Tensor, regions: Tensor, reduce: Reduce) -> Tensor:
    """CETT of one layer over regions: float32 `[batch, regions, width]`.

    Args:
        z: input of the down projection, `[batch, tokens, width]`.
        h: its output, `[batch, tokens, hidden]`.
        norms: column norms of W_down, float32 `[width]`.
        regions: bool `[batch, regions, tokens]`.
        reduce: `mean` or `max` over a region's tokens.
    """
    size = h.float().norm(dim=-1)  # [batch, tokens]
    # Where h = 0 nothing reaches the residual stream, so nothing contributes.
    inverse = torch.where(size > 0, 1.0 / size, 0.0)
    magnitude = z.float().abs()  # [batch, tokens, width]
    if reduce == "mean":
        # Padding may hold anything, NaN included, which a weight of 0 would not silence.
        magnitude.masked_fill_(~regions.any(dim=1)[:, :, None], 0.0)
        share = inverse[:, None, :] / regions.sum(dim=-1, keepdim=True)  # [batch, regions, tokens]
        reduced = torch.bmm(torch.where(regions, share, 0.0), magnitude)
    else:
        magnitude = magnitude * inverse[:, :, None]
        reduced = torch.stack(
            [
                magnitude.masked_fill(~regions[:, region, :, None], 0.0).amax(dim=1)
                for region in range(regions.shape[1])
            ],
            dim=1,
        )
    return reduced * norms


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
        UnsupportedModelError: as `down_projections`.
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
