"""`hneurons doctor`: whether a model is supported, and the memory, disk and time that finding its neurons takes.

```python
diagnosis = diagnose("Qwen/Qwen3-8B", responses=1000)  # reads the configuration, no weights
diagnosis.neurons, diagnosis.weights["bfloat16"], diagnosis.probe["3-vs-1"]  # a number, bytes, bytes
```

The memory figures are estimates. That of a capture counts the tensors alive in the largest layer; for 8 x 512 tokens of
the bundled model it says 231 MiB in float32 and 129 MiB in bfloat16, where 262 and 103 MiB were measured on a CPU.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from hneurons_eval.cli.console import DTYPE, REVISION, TRUST, TextConsole, duration, size, wide_console
from hneurons_eval.probe.cost import MODES, REGIONS, fit_bytes, stored_bytes, training_rows
from hneurons_eval.util.errors import usage_errors

if TYPE_CHECKING:
    from hneurons_eval.models.down_projection import DownProjection
    from hneurons_eval.probe.settings import Settings

FIT_SECONDS = 4e-9
"""Time of a fit for each row, neuron and C: 44 s for 542 rows of 46,080 neurons and 492 fits on two cores."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class LayerKind:
    """Layers of one shape."""

    layers: int  # how many of them
    experts: int  # routed experts in each, 0 in a dense layer
    each: int  # neurons of one routed expert, or of the whole dense layer
    shared: int  # neurons in shared experts

    @property
    def width(self) -> int:
        return max(self.experts, 1) * self.each + self.shared


@dataclass(frozen=True)
class Diagnosis:
    """Size of a supported model, and the cost of finding its neurons; sizes in bytes."""

    model: str  # as given
    model_class: str  # of transformers
    kinds: tuple[LayerKind, ...]  # its layers by shape, in order of first appearance
    neurons: int  # in all layers
    parameters: int  # number of weights, also of a multimodal model's other parts
    saved_dtype: str  # of the checkpoint, or its quantisation
    weights: dict[str, int]  # memory of the weights, by dtype
    dtype: str  # of the capture
    pass_shape: tuple[int, int]  # sequences and tokens of each in one pass of a capture
    capture: int  # memory that this pass takes beside the weights
    responses: int  # faithful and hallucinated ones each
    features: int  # contributions of all responses, on disk
    probe: dict[str, int]  # memory of a probe on them, by mode
    limits: tuple[str, ...]  # what does not work with this model, and why; one sentence each

    @property
    def layers(self) -> int:
        return sum(kind.layers for kind in self.kinds)


def diagnose(
    model: str,
    *,
    dtype: str = "auto",
    responses: int = 1000,
    tokens: int = 512,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Diagnosis:
    """Size of a model, and the memory and disk that finding its neurons takes.

    Args:
        model: a Hub id (of which only the configuration is fetched), a local directory, or the bundled name.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for that of the checkpoint.
        responses: faithful and hallucinated ones, each.
        tokens: of a prompt with its response.
        revision: of a Hub id.
        trust_remote_code: whether code in the checkpoint may run.

    Raises:
        CheckpointError: the configuration cannot be found or read.
        UnsupportedModelError: the model's neurons cannot all be found.
        ValueError: another dtype, or a number below 1.
    """
    from hneurons_eval.engine.engine import CAPTURE_TOKENS
    from hneurons_eval.models.architecture import build_empty, down_projections
    from hneurons_eval.models.checkpoints import check_dtype, load_config, quantisation, resolve_model

    check_dtype(dtype)
    if responses < 1 or tokens < 1:
        raise ValueError(f"responses and tokens should be 1 or more, found {responses} and {tokens}")
    source = resolve_model(model)
    config = load_config(source, revision, trust_remote_code)
    empty = build_empty(config, trust_remote_code)
    projections = down_projections(empty)
    neurons = sum(projection.width for projection in projections)
    parameters = sum(parameter.numel() for parameter in empty.parameters())
    saved, quantised = _saved_dtype(config), quantisation(config)
    used = dtype if dtype != "auto" else saved if saved in BYTES and not quantised else "bfloat16"
    shape = max(1, CAPTURE_TOKENS // tokens), tokens
    return Diagnosis(
        model=model,
        model_class=type(empty).__name__,
        kinds=_kinds(projections),
        neurons=neurons,
        parameters=parameters,
        saved_dtype=f"{quantised} (quantised)" if quantised else saved,
        weights={name: parameters * size for name, size in BYTES.items()},
        dtype=used,
        pass_shape=shape,
        capture=_capture_bytes(config, projections, shape, BYTES[used]),
        responses=responses,
        features=stored_bytes(2 * responses, neurons),
        probe={mode: fit_bytes(2 * responses, neurons, mode) for mode in MODES},
        limits=tuple(_limits(source, revision, trust_remote_code, config, quantised, dtype)),
    )


def _kinds(projections: "list[DownProjection]") -> tuple[LayerKind, ...]:
    from hneurons_eval.models.down_projection import Experts

    shapes: list[tuple[int, int, int]] = []
    for projection in projections:
        first = projection.parts[0]
        mixed = isinstance(first, Experts)
        each = first.each if mixed else first.width
        shapes.append((first.count if mixed else 0, each, sum(part.width for part in projection.parts[1:])))
    return tuple(LayerKind(count, *shape) for shape, count in Counter(shapes).items())


def _saved_dtype(config: Any) -> str:
    from hneurons_eval.models.architecture import text_config

    kept = getattr(config, "dtype", None) or getattr(text_config(config), "dtype", None) or "float32"
    return str(kept).removeprefix("torch.")


def _capture_bytes(config: Any, projections: "list[DownProjection]", shape: tuple[int, int], itemsize: int) -> int:
    """Bytes of the largest layer's activations, and of the contributions of all layers."""
    from hneurons_eval.models.architecture import text_config
    from hneurons_eval.models.down_projection import Experts

    text = text_config(config)
    chosen = getattr(text, "num_experts_per_tok", 2)
    rows, total = shape[0], shape[0] * shape[1]
    neurons, largest = 0, 0
    for projection in projections:
        neurons += projection.width
        # Gate, its activation, the other factor and z, and |z| in float32, of the neurons that a token uses.
        active = [
            (part.each * chosen, chosen) if isinstance(part, Experts) else (part.width, 0) for part in projection.parts
        ]
        neuron_bytes = sum(width for width, _ in active) * (4 * itemsize + 4)
        # Residual stream, norms (in float32), queries, keys, values, attention's outputs; an output per expert.
        hidden_bytes = text.hidden_size * (12 + sum(experts for _, experts in active)) * itemsize
        largest = max(largest, total * (neuron_bytes + hidden_bytes))
    return largest + 4 * neurons * (rows * REGIONS + 1)  # the contributions, and the column norms


def _limits(
    source: str, revision: str | None, trust_remote_code: bool, config: Any, quantised: str | None, dtype: str
) -> list[str]:
    from transformers import AutoTokenizer
    from transformers.utils.hub import cached_file

    limits: list[str] = []
    if quantised == "mxfp4" and dtype == "auto":
        limits.append("Its experts are quantised in 4 bits (MXFP4): give --dtype bfloat16, which unpacks them.")
    elif quantised and quantised != "mxfp4":
        limits.append(f"Its weights are quantised ({quantised}): they can be captured and scaled, but not folded.")
    if hasattr(config, "vision_config"):
        limits.append("It takes images, which no question has: the language model alone is captured and scaled.")
    here: dict[str, Any] = {"revision": revision, "local_files_only": True}
    try:
        if cached_file(source, "tokenizer_config.json", **here) is None:
            raise FileNotFoundError(source)
        tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **here)
    except Exception:  # not here, or not readable: whatever its files make transformers raise
        limits.append("Tokenizer and chat template were not checked: no readable tokenizer is here.")
        return limits
    if not tokenizer.is_fast:
        limits.append("It has no fast tokenizer (tokenizer.json), which answer spans need.")
    if tokenizer.chat_template is None:
        limits.append("Its tokenizer has no chat template, as of a base model.")
    return limits


# --- the command ------------------------------------------------------------------------------------------


@click.command()
@click.argument("model")
@click.option("--dtype", **DTYPE)
@click.option("--responses", default=1000, help="Number of faithful answers, and of hallucinated ones.")
@click.option("--tokens", default=512, help="Tokens of a prompt with its answer.")
@click.option("--revision", **REVISION)
@click.option("--trust-remote-code", **TRUST)
def doctor(model: str, **options: Any) -> None:
    """Check that MODEL is supported, and estimate memory, disk and time.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct. Only its configuration is read, so that a directory
    with config.json alone is enough.

    \b
    Example:
      hneurons doctor Qwen/Qwen3-8B --dtype bfloat16
    """
    with usage_errors():
        diagnosis = diagnose(model.removeprefix("hneurons/"), **options)
    _print_diagnosis(diagnosis, wide_console())


def fits_of_search(settings: "Settings") -> int:
    """Number of fits with which C is chosen and the probe tested: each outer and inner fold at each C."""
    from hneurons_eval.probe.choice_of_c import GRID_POINTS

    values = GRID_POINTS if settings.penalty == "l1" and settings.C in ("auto", "paper") else 1
    return (1 + settings.folds * (1 + settings.inner_folds)) * values


def free_disk(path: Path) -> int:
    """Bytes that are free where a path is or would be."""
    return shutil.disk_usage(next(place for place in (path, *path.absolute().parents) if place.exists())).free


def _print_diagnosis(found: Diagnosis, console: TextConsole) -> None:
    import torch

    from hneurons_eval.artifacts.paths import artifact_root
    from hneurons_eval.probe.settings import Settings
    from hneurons_eval.util.memory import available

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("model", f"{found.model}, {found.model_class}: supported")
    for kind in found.kinds:
        layers = f"{kind.layers} layer{'' if kind.layers == 1 else 's'}"
        if kind.experts:
            shared = f" + {kind.shared:,} in shared experts" if kind.shared else ""
            table.add_row("", f"{layers} of {kind.experts} experts x {kind.each:,} neurons{shared} = {kind.width:,}")
        else:
            table.add_row("", f"{layers} of {kind.width:,} neurons, dense")
    table.add_row("neurons", f"{found.neurons:,} in {found.layers} layers")
    table.add_row("parameters", f"{found.parameters:,}, checkpoint stored as {found.saved_dtype}")
    answers = f"{found.responses:,} faithful + {found.responses:,} hallucinated answers"
    weights = ", ".join(f"{size(number)} in {dtype}" for dtype, number in found.weights.items())
    table.add_row("weights", f"memory: {weights}")
    rows, tokens = found.pass_shape
    passed = f"memory: about {size(found.capture)} beside the weights"
    table.add_row("capture", f"{passed}, for {rows} sequences of {tokens} tokens at once in {found.dtype}")
    table.add_row("contributions", f"disk: {size(found.features)} for {answers}")
    tokens_of = {"1-vs-1": "answer tokens", "3-vs-1": "all tokens; the default"}
    probe = ", ".join(f"about {size(number)} for {mode} ({tokens_of[mode]})" for mode, number in found.probe.items())
    table.add_row("probe", f"memory: {probe}")
    per_row = found.neurons * fits_of_search(Settings()) * FIT_SECONDS
    times = ", ".join(
        f"about {duration(per_row * training_rows(2 * found.responses, mode))} for {mode}" for mode in MODES
    )
    table.add_row("", f"time: {times} on two CPU cores")
    loaded, fitted = found.weights[found.dtype] + found.capture, found.probe["3-vs-1"]
    if torch.cuda.is_available():
        table.add_row("in all", _against("GPU memory", loaded, torch.cuda.mem_get_info()[0]))
        table.add_row("", _against("memory", fitted, available()))
    else:
        most = max(loaded, found.weights[found.dtype] + fitted)
        table.add_row("in all", _against("memory, weights included", most, available()))
    table.add_row("", _against("disk", found.features, free_disk(artifact_root())))
    console.print(table, highlight=False)
    for limit in found.limits:
        console.say(f"- {limit}")
    console.say(f"hneurons run {found.model} --plan measures the time of sampling and capture, and needs the weights.")


def _against(what: str, needed: int, free: int) -> str:
    return f"{what}: {size(needed)} of {size(free)} free here: {'fits' if needed <= free else 'DOES NOT FIT'}"
