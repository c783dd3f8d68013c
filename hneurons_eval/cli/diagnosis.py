"""What a model is and what finding its neurons will take, told from its configuration: no weight is loaded.

```python
diagnosis = diagnose("Qwen/Qwen3-8B", responses=1000)
diagnosis.neurons, diagnosis.weights["bfloat16"], diagnosis.probe["3-vs-1"]  # a number, bytes, bytes
```

The memory figures are estimates, meant to tell whether a run fits. That of a capture counts the tensors alive
in the largest layer; for 8 x 512 tokens of the bundled model it says 231 MiB in float32 and 129 MiB in
bfloat16, where 262 and 103 MiB were measured on a CPU.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from hneurons_eval.probe.cost import MODES, REGIONS, fit_bytes, stored_bytes

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class LayerKind:
    """Layers that are alike.

    Attributes:
        layers: how many of them.
        experts: routed experts in each, 0 in a dense layer.
        each: neurons of one routed expert, or of the whole dense layer.
        shared: neurons in shared experts.
    """

    layers: int
    experts: int
    each: int
    shared: int

    @property
    def width(self) -> int:
        """Neurons of one such layer."""
        return max(self.experts, 1) * self.each + self.shared


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` finds of a supported model; sizes in bytes.

    Attributes:
        model: its name, as given.
        model_class: class of transformers that holds it.
        kinds: its layers, those that are alike together, in order of first appearance.
        neurons: in all layers.
        parameters: number of weights, of a multimodal model's other parts too.
        saved_dtype: dtype of the checkpoint, or its quantisation.
        weights: memory of the weights, by dtype.
        dtype: that of the capture.
        pass_shape: sequences and tokens of each in one pass of a capture.
        capture: memory that this pass takes beside the weights.
        responses: faithful and hallucinated ones each.
        features: the contributions of all responses, on disk (and in memory where they are read whole).
        probe: memory of a probe on them, by mode.
        limits: what does not work with this model, and why; one sentence each.
    """

    model: str
    model_class: str
    kinds: tuple[LayerKind, ...]
    neurons: int
    parameters: int
    saved_dtype: str
    weights: dict[str, int]
    dtype: str
    pass_shape: tuple[int, int]
    capture: int
    responses: int
    features: int
    probe: dict[str, int]
    limits: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
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
    """What a model is, and what it takes to find its neurons.

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
    places = down_projections(empty)
    neurons = sum(place.width for place in places)
    parameters = sum(parameter.numel() for parameter in empty.parameters())
    saved, packed = _saved_dtype(config), quantisation(config)
    used = dtype if dtype != "auto" else saved if saved in BYTES and not packed else "bfloat16"
    shape = max(1, CAPTURE_TOKENS // tokens), tokens
    return Diagnosis(
        model=model,
        model_class=type(empty).__name__,
        kinds=_kinds(places),
        neurons=neurons,
        parameters=parameters,
        saved_dtype=f"{packed} (quantised)" if packed else saved,
        weights={name: parameters * size for name, size in BYTES.items()},
        dtype=used,
        pass_shape=shape,
        capture=_capture_bytes(config, places, shape, BYTES[used]),
        responses=responses,
        features=stored_bytes(2 * responses, neurons),
        probe={mode: fit_bytes(2 * responses, neurons, mode) for mode in MODES},
        limits=tuple(_limits(source, revision, trust_remote_code, config, packed, dtype)),
    )


def _kinds(places: list[Any]) -> tuple[LayerKind, ...]:
    from hneurons_eval.models.down_projection import Experts

    shapes: list[tuple[int, int, int]] = []
    for place in places:
        first = place.parts[0]
        mixed = isinstance(first, Experts)
        each = first.each if mixed else first.width
        shapes.append((first.count if mixed else 0, each, sum(part.width for part in place.parts[1:])))
    return tuple(LayerKind(count, *shape) for shape, count in Counter(shapes).items())


def _saved_dtype(config: Any) -> str:
    from hneurons_eval.models.architecture import text_config

    kept = getattr(config, "dtype", None) or getattr(text_config(config), "dtype", None) or "float32"
    return str(kept).removeprefix("torch.")


def _capture_bytes(config: Any, places: list[Any], shape: tuple[int, int], itemsize: int) -> int:
    """The largest layer's activations, and what is captured of all layers."""
    from hneurons_eval.models.architecture import text_config
    from hneurons_eval.models.down_projection import Experts

    text = text_config(config)
    rows, total = shape[0], shape[0] * shape[1]
    neurons, largest = 0, 0
    for place in places:
        neurons += place.width
        # Gate, its activation, the other factor and z, and |z| in float32, of the neurons that a token uses.
        active = [
            (part.each * getattr(text, "num_experts_per_tok", 2), getattr(text, "num_experts_per_tok", 2))
            if isinstance(part, Experts)
            else (part.width, 0)
            for part in place.parts
        ]
        neuron_bytes = sum(width for width, _ in active) * (4 * itemsize + 4)
        # Residual stream, norms (in float32), queries, keys, values, attention's outputs; an output per expert.
        hidden_bytes = text.hidden_size * (12 + sum(chosen for _, chosen in active)) * itemsize
        largest = max(largest, total * (neuron_bytes + hidden_bytes))
    return largest + 4 * neurons * (rows * REGIONS + 1)  # the contributions, and the column norms


def _limits(
    source: str, revision: str | None, trust_remote_code: bool, config: Any, packed: str | None, dtype: str
) -> list[str]:
    from transformers import AutoTokenizer
    from transformers.utils.hub import cached_file

    limits: list[str] = []
    if packed == "mxfp4" and dtype == "auto":
        limits.append("Its experts are packed in 4 bits (MXFP4): give --dtype bfloat16, which unpacks them.")
    elif packed and packed != "mxfp4":
        limits.append(f"Its weights are quantised ({packed}): they can be captured and scaled, but not folded.")
    if hasattr(config, "vision_config"):
        limits.append("It takes images, which no question has: the language model alone is captured and scaled.")
    here: dict[str, Any] = {"revision": revision, "local_files_only": True}
    try:
        if cached_file(source, "tokenizer_config.json", **here) is None:
            raise FileNotFoundError(source)
        tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code, **here)
    except Exception:  # not here, or not readable: whatever its files make transformers raise
        limits.append("No tokenizer that can be read is here, so neither it nor a chat template was looked at.")
        return limits
    if not tokenizer.is_fast:
        limits.append("It has no fast tokenizer (tokenizer.json), which answer spans need.")
    if tokenizer.chat_template is None:
        limits.append("Its tokenizer has no chat template, as of a base model.")
    return limits
