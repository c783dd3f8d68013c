"""Neurons scaled for any other program: in a checkpoint's weights, or as the LoRA adapter that does the same.

```python
export_checkpoint("org/model", neurons, alpha=0.0, out="model-without-them")
export_adapter("org/model", neurons, alpha=0.0, out="adapter")  # stands beside the base model
```

Scaling neuron j by alpha is multiplying column j of W_down (Gao et al. 2025, section 3: z[j] <- alpha z[j]), which a
LoRA of the layer's neurons S does too: W + (alpha - 1) W[:, S] E_S, with E_S the rows j in S of the unit matrix.

The weight files are copied as they are, and the neurons' columns rewritten in the copies: beside the copying that
takes the memory of one matrix, however large the model, and leaves every other byte as it was. What is written
appears whole or not at all.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hneurons_eval.models.architecture import build_empty, down_projections, model_class
from hneurons_eval.models.checkpoints import BUNDLED, fingerprint, load_config, quantisation, resolve_model
from hneurons_eval.models.down_projection import Dense, DownProjection, Experts
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, check_alpha
from hneurons_eval.models.scaling import neurons_by_part
from hneurons_eval.models.weights.cards import Origin, adapter_card, checkpoint_card
from hneurons_eval.models.weights.patcher import ExportError as ExportError
from hneurons_eval.models.weights.patcher import Matrix, StoredWeights, find_weights
from hneurons_eval.models.weights.reader import INDEX, SINGLE
from hneurons_eval.util.files import NEURONS, write_text_atomically

KEPT = ("*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
"""Files beside the weights that a checkpoint needs: configuration, tokenizer, generation settings, licence."""
TEMPLATES = "additional_chat_templates"
_SNAPSHOT = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/(\w+)$")
"""A directory of the Hub's cache; what is published names the Hub id."""


@dataclass(frozen=True)
class Exported:
    """Result of an export."""

    directory: Path  # where
    layers: dict[int, int]  # neurons scaled in each layer that has any
    matrices: int  # matrices changed, or maps that the adapter adds to
    rank: int | None  # of the adapter, None for a checkpoint
    size: int  # bytes of weights


@dataclass(frozen=True)
class _Source:
    """A checkpoint to export from, with its weights in their files."""

    origin: Origin
    directory: Path
    projections: list[DownProjection]
    weights: StoredWeights


@dataclass(frozen=True)
class _Chosen:
    """Neurons of one part of a layer."""

    projection: DownProjection
    number: int
    part: Dense | Experts
    columns: Tensor  # int64, numbers within the part


def export_checkpoint(
    model: str | Path,
    neurons: NeuronSet,
    alpha: float,
    out: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Exported:
    """Write a checkpoint with the neurons scaled: the model's files, and a card that describes the change.

    Loaded, it is bit for bit what `fold` makes of the model in the dtype in which its weights are stored.

    Args:
        model: a Hub id, a local directory, or the bundled name.
        neurons: the neurons to scale.
        alpha: what to multiply them by.
        out: directory to write; must not exist.
        revision: of a Hub id.
        trust_remote_code: whether code in the checkpoint may run (and is copied).

    Raises:
        ExportError: `out` exists, the disk is too full, no neurons, weights that are quantised or stored in a form
            that is not known.
        CheckpointError, UnsupportedModelError, NeuronSetError, ValueError: as `load_config`, `down_projections`,
            `NeuronSet.check`, `check_alpha`.
    """
    alpha, out = _check(neurons, alpha, out)
    source = _open(model, neurons, revision, trust_remote_code)
    chosen = [_Chosen(*one) for one in neurons_by_part(source.projections, neurons)]
    free = shutil.disk_usage(_existing(out)).free
    if free < source.weights.size:
        raise ExportError(f"{out} needs {source.weights.size:,} bytes, {free:,} are free on its disk; make room")

    def write(staging: Path) -> int:
        for file in source.weights.files:
            shutil.copyfile(source.directory / file, staging / file)
        for file in _beside(source, trust_remote_code):
            (staging / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(source.directory / file, staging / file)
        changed = 0
        for one in chosen:
            for matrix, columns in _by_matrix(source, one):
                matrix.multiply(staging, columns, alpha)
                changed += 1
        neurons.without_questions().save(staging / NEURONS)
        write_text_atomically(staging / "README.md", checkpoint_card(source.origin, neurons, alpha, out.name))
        return changed

    changed = _whole(out, write)
    return Exported(out, _layers(neurons), changed, None, source.weights.size)


def export_adapter(
    model: str | Path,
    neurons: NeuronSet,
    alpha: float,
    out: str | Path,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Exported:
    """Write a LoRA adapter in PEFT's format that scales the neurons; arguments as `export_checkpoint`.

    One adapter of rank r, the most neurons that any map has: A `[r, width]` picks the neurons, B `[hidden, r]` holds
    (alpha - 1) W[:, S], both in float32, with zeros where a layer has fewer than r. All layers have the same rank,
    since not every program reads PEFT's `rank_pattern`, and lora_alpha = r, so that the scaling lora_alpha / r is 1.

    Raises as `export_checkpoint`; also ExportError: a mixture of experts, for which no adapter is written.
    """
    from safetensors.torch import save_file

    alpha, out = _check(neurons, alpha, out)
    source = _open(model, neurons, revision, trust_remote_code)
    chosen = [_Chosen(*one) for one in neurons_by_part(source.projections, neurons)]
    if experts := [
        part.name for projection in source.projections for part in projection.parts if isinstance(part, Experts)
    ]:
        # Also where only shared experts or dense layers are scaled: PEFT (0.21) takes every target called down_proj of
        # such a model for the routed experts, and would apply the adapter elsewhere without an error.
        raise ExportError(
            f"{model} has routed experts ({experts[0]}), to which PEFT would apply the adapter of any down_proj; "
            "export the checkpoint itself (without --lora)"
        )
    kinds = {isinstance(one.part.module, Conv1D) for one in chosen}
    rank = max(len(one.columns) for one in chosen)

    def write(staging: Path) -> int:
        tensors: dict[str, Tensor] = {}
        for one in chosen:
            (matrix,) = source.weights.matrices[one.projection.layer, one.number]
            weight, count = matrix.read(source.directory), len(one.columns)
            pick, put = torch.zeros(rank, weight.shape[1]), torch.zeros(weight.shape[0], rank)
            pick[torch.arange(count), one.columns] = 1.0
            put[:, :count] = (alpha - 1.0) * weight[:, one.columns].float()
            name = f"base_model.model.{one.part.name}"
            tensors |= {f"{name}.lora_A.weight": pick, f"{name}.lora_B.weight": put}
        save_file(tensors, staging / "adapter_model.safetensors", metadata={"format": "pt"})
        config = adapter_config(
            model=source.origin.load_from,
            revision=source.origin.revision,
            modules=[one.part.name for one in chosen],
            rank=rank,
            transposed=kinds == {True},
        )
        write_text_atomically(staging / "adapter_config.json", json.dumps(config, indent=2) + "\n")
        neurons.without_questions().save(staging / NEURONS)
        write_text_atomically(staging / "README.md", adapter_card(source.origin, neurons, alpha, out.name, rank))
        return sum(tensor.nbytes for tensor in tensors.values())

    size = _whole(out, write)
    return Exported(out, _layers(neurons), len(chosen), rank, size)


def adapter_config(model: str, revision: str | None, modules: list[str], rank: int, transposed: bool) -> dict[str, Any]:
    """The content of PEFT's adapter_config.json for an adapter of scaling 1 on linear maps of these full names.

    `model` is the base model's Hub id or directory; `transposed`: its matrices are `[inputs, outputs]` (GPT-2's
    Conv1D).
    """
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model,
        "revision": revision,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": modules,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
    }


# ---- from where, and to where --------------------------------------------------------------------


def _check(neurons: NeuronSet, alpha: float, out: str | Path) -> tuple[float, Path]:
    alpha, out = check_alpha(alpha), Path(os.path.expanduser(out))
    if os.path.lexists(out):
        raise ExportError(f"{out} exists; give a directory that does not")
    if not len(neurons):
        raise ExportError("the neuron set is empty, so there is nothing to scale; train with a larger C")
    return alpha, out


def _open(model: str | Path, neurons: NeuronSet, revision: str | None, trust_remote_code: bool) -> _Source:
    source = resolve_model(model)
    config = load_config(source, revision, trust_remote_code)
    if method := quantisation(config):
        raise ExportError(
            f"the weights of {model} are quantised ({method}), so their columns cannot be multiplied; "
            "export the plain checkpoint and quantise the result"
        )
    if getattr(config, "transformers_weights", None):
        raise ExportError(f"the configuration of {model} names other weight files than {SINGLE}; save it anew")
    empty = build_empty(config, trust_remote_code)
    projections = down_projections(empty)
    neurons.check(NeuronLayout(tuple(projection.width for projection in projections)), str(model))
    directory, commit = Path(source), None
    if not directory.is_dir():
        directory = _fetched(source, revision, trust_remote_code)
        commit = directory.name
    if (directory / "adapter_config.json").is_file():
        raise ExportError(f"{directory} holds an adapter beside the weights; merge it into them first")
    weights = find_weights(directory, empty, projections)
    name, load_from = str(model), source
    if name == BUNDLED:
        load_from = BUNDLED
    elif snapshot := _SNAPSHOT.search(source):
        name = load_from = f"{snapshot[1]}/{snapshot[2]}"
        commit = snapshot[3]
    origin = Origin(
        model=name,
        load_from=load_from,
        directory=directory,
        revision=commit,
        fingerprint=fingerprint(source, commit),
        auto_class=model_class(config).__name__,
        total=sum(projection.width for projection in projections),
    )
    return _Source(origin, directory, projections, weights)


def _fetched(model: str, revision: str | None, trust_remote_code: bool) -> Path:
    """The files of a Hub id in the Hub's cache: configuration, tokenizer and the weights that are loaded."""
    import huggingface_hub

    beside = [*KEPT, f"{TEMPLATES}/*", "README.md", *(["*.py"] if trust_remote_code else [])]
    try:
        directory = Path(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=beside))
        index = directory / INDEX
        weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else [SINGLE]
        huggingface_hub.snapshot_download(model, revision=directory.name, allow_patterns=sorted(set(weights)))
    except Exception as error:  # whatever the network, the Hub or its cache comes up with
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"cannot get the files of {model} from the Hub: {reason}") from error
    return directory


def _beside(source: _Source, trust_remote_code: bool) -> list[str]:
    """Names of the files beside the weights that are copied."""
    patterns = (*KEPT, f"{TEMPLATES}/*.jinja", *(["*.py"] if trust_remote_code else []))
    found = {
        str(file.relative_to(source.directory))
        for pattern in patterns
        for file in source.directory.glob(pattern)
        if file.is_file() and not file.name.startswith(".")
    }
    # The indexes of other files than are copied would lead astray.
    found = {name for name in found if not name.endswith(".index.json") or name == source.weights.index}
    return sorted(found - {NEURONS})


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


def _whole(out: Path, write: Callable[[Path], int]) -> int:
    """Let `write` fill a temporary directory beside `out`, flush it to disk, then move it into place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        result = write(staging)
        for path in staging.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        staging.chmod(0o755)
        if os.path.lexists(out):
            raise ExportError(f"{out} has come to exist meanwhile; give another directory")
        os.replace(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return result


# ---- which columns of which matrix ---------------------------------------------------------------


def _by_matrix(source: _Source, chosen: _Chosen) -> Iterator[tuple[Matrix, Tensor]]:
    """Each matrix of a part that has any of the neurons, with the numbers of its own."""
    matrices, part = source.weights.matrices[chosen.projection.layer, chosen.number], chosen.part
    columns = chosen.columns
    if isinstance(part, Dense):
        yield matrices[0], columns
        return
    for expert in torch.unique(columns // part.each).tolist():
        yield matrices[expert], columns[columns // part.each == expert] % part.each


def _layers(neurons: NeuronSet) -> dict[int, int]:
    return {layer: int((neurons.layers == layer).sum()) for layer in sorted(set(neurons.layers.tolist()))}
