"""Coverage check on a probe input: the neurons found in a model make up its MLPs' whole output.

```python
projections = covered_projections(model)  # down_projections(model), proven once for each model
```
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from hneurons_eval.models.architecture import down_projections
from hneurons_eval.models.down_projection import DownProjection, Experts, at_hand, input_device
from hneurons_eval.models.hooks import LayerActivations, hooked
from hneurons_eval.models.layout import UnsupportedModelError

_COVERED: WeakKeyDictionary[nn.Module, list[ReferenceType[nn.Module]]] = WeakKeyDictionary()
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}
_QUANTISED = 0.2
"""Tolerance where the map rounds its inputs: its columns, read one at a time, differ a little from those it applies."""


def covered_projections(model: nn.Module) -> list[DownProjection]:
    """`down_projections`, after `check_coverage` on the first call for a model."""
    projections = down_projections(model)
    modules = [part.module for projection in projections for part in projection.parts]
    proven = [one() for one in _COVERED.get(model, [])]
    if len(proven) != len(modules) or any(one is not other for one, other in zip(proven, modules, strict=True)):
        check_coverage(model, projections)
        _COVERED[model] = [ref(module) for module in modules]
    return projections


def check_coverage(model: nn.Module, projections: list[DownProjection]) -> None:
    """Run a few tokens and compare each layer's MLP output h with the sum of z_j W[:, j] over its neurons (plus bias).

    Hooks that the model has of its own see this pass too. Raises UnsupportedModelError: weights that are not loaded, a
    layer that was not run, or one whose output is not its neurons' doing.
    """
    kind = type(model).__name__
    for projection in projections:
        for part in projection.parts:
            offloaded = hasattr(part.module, "_hf_hook")
            if not offloaded and any(parameter.is_meta for parameter in part.module.parameters()):
                raise UnsupportedModelError(f"{part.name} of {kind} is on the meta device; load its weights first")
    errors: dict[int, float] = {}
    run: set[int] = set()

    def compare(projection: DownProjection, activations: LayerActivations, h: Tensor) -> None:
        run.add(projection.layer)
        note(projection, activations.rebuild(), h)

    def note(projection: DownProjection, found: Tensor, expected: Tensor) -> None:
        errors[projection.layer] = max(errors.get(projection.layer, 0.0), _gap(found, expected.reshape(found.shape)))

    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), _compared_outputs(projections, note), hooked(projections, observer=compare):
            _run_a_few_tokens(model)
    finally:
        for module in training:
            module.training = True
    for projection in projections:
        if projection.layer not in run:
            raise UnsupportedModelError(f"{kind} is not supported: {projection.name} was not run by a forward pass")
        if not errors[projection.layer] <= _tolerance(model, projection):
            raise UnsupportedModelError(
                f"{kind} is not supported: the output of {projection.name} is not what its {projection.width} neurons "
                f"add up to (relative error {errors[projection.layer]:.2g})"
            )


def _run_a_few_tokens(model: Any) -> None:
    embeddings = model.get_input_embeddings()
    ids = torch.arange(2, 8)[None] % embeddings.num_embeddings
    try:
        model.get_decoder()(input_ids=ids.to(input_device(embeddings)), use_cache=False)
    except Exception as error:  # whatever a model trips over that is no decoder of tokens
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModelError(
            f"{type(model).__name__} is not supported: a forward pass of a few tokens failed: {reason}"
        ) from error


def _gap(found: Tensor, expected: Tensor) -> float:
    """Largest ||found - expected|| / ||expected|| over tokens; infinite where that is no number."""
    found, expected = found.float(), expected.float()
    gap = float(((found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp_min(1e-6)).max())
    return gap if gap == gap else float("inf")


def _tolerance(model: nn.Module, projection: DownProjection) -> float:
    tolerance = _TOLERANCE.get(next(model.parameters()).dtype, 0.05)
    exact = all(isinstance(part, Experts) or part.is_exact for part in projection.parts)
    return tolerance if exact else max(tolerance, _QUANTISED)


@contextmanager
def _compared_outputs(projections: list[DownProjection], note: Any) -> Iterator[None]:
    """Two more comparisons of the passes inside the block.

    The output of each layer's MLP with the h of the map within it (an MLP may add the residual by itself, as BLOOM's,
    but nothing else), and the hooks' own computation of routed experts with the experts' code.
    """
    handles: list[Any] = []
    latest: dict[int, Tensor] = {}

    def hook(projection: DownProjection) -> None:
        def keep(_module: Any, _args: Any, output: Any) -> None:
            latest[projection.layer] = _first(output)

        def compare(_module: Any, args: Any, kwargs: Any, output: Any) -> None:
            if projection.layer not in latest:
                return
            output = _first(output)
            h = latest.pop(projection.layer).reshape(output.shape)
            inputs = [given for given in (*args, *kwargs.values()) if getattr(given, "shape", None) == output.shape]
            note(projection, min([h, *(h + given for given in inputs)], key=lambda one: _gap(one, output)), output)

        def own(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            with at_hand(module):
                note(projection, output, type(module).forward(module, *args, **kwargs))

        if projection.mlp is not None:
            handles.append(projection.block.register_forward_hook(keep))
            handles.append(projection.mlp.register_forward_hook(compare, with_kwargs=True))
        if isinstance(projection.parts[0], Experts):
            handles.append(projection.parts[0].module.register_forward_hook(own, with_kwargs=True))

    for projection in projections:
        hook(projection)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
