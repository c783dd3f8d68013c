"""The weights of a checkpoint, read one parameter at a time from its safetensors files: no model is loaded.

```python
weights = WeightFiles("org/model")            # a Hub id (org/model@revision), a directory, the bundled name
weights.model                                 # its structure, on the meta device
weights.read("model.layers.0.mlp.down_proj.weight")
```

transformers renames, splits and joins tensors on loading. Its own rules are applied here to the tensors of one
parameter at a time, so what is read is what `from_pretrained` would have put there, in the stored dtype.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from hneurons_eval.models.architecture import build_empty
from hneurons_eval.models.checkpoints import BUNDLED, CheckpointError, load_config, quantisation, resolve_model
from hneurons_eval.models.down_projection import PLAIN_DTYPES
from hneurons_eval.models.weights.tensor_mapping import Origin, origins

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class WeightFiles:
    """The parameters of a checkpoint that is not loaded; `model` is its structure, on the meta device.

    Args:
        name: a Hub id (`org/model@revision` for another than the newest), a directory, or the bundled name.
        trust_remote_code: whether code in the checkpoint may run.

    Raises:
        CheckpointError: it cannot be found or read, is quantised, or has no safetensors files.
        UnsupportedModelError: transformers has no causal language model for it.
    """

    def __init__(self, name: str | Path, trust_remote_code: bool = False) -> None:
        self.name = str(name)
        source, self._revision = _split_revision(self.name)
        self._source = resolve_model(source)
        config = load_config(self._source, self._revision, trust_remote_code)
        if packed := quantisation(config):
            raise CheckpointError(
                f"{self.name} is quantised ({packed}), so its weights cannot be compared as they are stored; "
                "give the plain checkpoint, or load it dequantised and save it with save_pretrained"
            )
        self.model: Any = build_empty(config, trust_remote_code).eval()
        self._file_of = self._stored()
        self._origins = origins(self.model, self._file_of)

    def missing(self, parameters: Iterable[str]) -> list[str]:
        """Parameters, of those given, that the files do not hold."""
        return [parameter for parameter in parameters if self._origin(parameter) is None]

    def read(self, parameter: str) -> Tensor:
        """A parameter of the model, as `from_pretrained` would make it, in the dtype in which it is stored.

        Raises CheckpointError: it is not in the files, damaged, quantised, or of another shape than the model says.
        """
        origin = self._origin(parameter)
        if origin is None:
            raise CheckpointError(f"{self.name} holds no weights for {parameter}; get the checkpoint again")
        found = self._made(parameter, origin)
        expected = self.model.state_dict()[parameter].shape
        if found.shape != expected:
            raise CheckpointError(
                f"{self.name} holds {parameter} as {list(found.shape)}, its configuration says {list(expected)}"
            )
        if found.dtype not in PLAIN_DTYPES:
            raise CheckpointError(f"{self.name} holds {parameter} as {found.dtype}, which is not a plain number format")
        return found

    def _made(self, parameter: str, origin: Origin) -> Tensor:
        if origin.converter is None:
            return self._tensor(origin.tensors[0][1])
        rule = deepcopy(origin.converter)
        for pattern, key in origin.tensors:
            rule.add_tensor(origin.first, key, pattern, self._tensor(key))
        try:
            made = rule.convert(origin.first, model=self.model, config=self.model.config)
            found = made.get(parameter)
        except Exception as error:  # whatever a rule makes of tensors that do not fit it
            raise CheckpointError(
                f"{self.name}: {parameter} cannot be made from {origin.tensors[0][1]}: {error}"
            ) from None
        if found is None:  # known by another name, as tied weights are
            found = next((made[other] for other in self._also_called(parameter) if other in made), None)
        if found is None:
            raise CheckpointError(f"{self.name}: {origin.tensors[0][1]} gives {', '.join(made)}, not {parameter}")
        return found[0] if isinstance(found, list) else found

    def _tensor(self, key: str) -> Tensor:
        path = self._fetch(self._file_of[key])
        if path is None:
            raise CheckpointError(f"{self.name} lacks the file {self._file_of[key]}, which should hold {key}")
        with _opened(path) as file:  # for each tensor, so that only its pages stay in memory
            return file.get_tensor(key)

    # ---- tensors by file ----

    def _stored(self) -> dict[str, str]:
        """File of every stored tensor."""
        if (index := self._fetch(INDEX)) is not None and self._fetch(SINGLE) is None:
            try:
                files = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
                outside = [file for file in files.values() if not isinstance(file, str) or Path(file).name != file]
            except (ValueError, KeyError, TypeError) as error:
                raise CheckpointError(f"{index} is not an index of weights: {error}; get the file again") from None
            if outside:
                raise CheckpointError(f"{index} names {outside[0]!r}, which is no file beside it")
            if lost := sorted(file for file in set(files.values()) if self._is_local and self._fetch(file) is None):
                raise CheckpointError(f"{self.name} lacks {', '.join(lost)}, which its index names")
            return files
        path = self._fetch(SINGLE)
        if path is None:
            raise CheckpointError(
                f"{self.name} holds neither {SINGLE} nor {INDEX} (a Hub id needs a network, or the model in the Hub's "
                "local cache); load it with transformers and save it with save_pretrained, which writes safetensors"
            )
        with _opened(path) as file:
            return dict.fromkeys(file.keys(), SINGLE)

    @property
    def _is_local(self) -> bool:
        return os.path.isdir(self._source)

    def _fetch(self, file: str) -> Path | None:
        """A file of the checkpoint, from the Hub if need be; None where it has none of this name."""
        if self._is_local:
            path = Path(self._source) / file
            return path if path.is_file() else None
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(self._source, file, revision=self._revision))
        except EntryNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} of {self.name} cannot be had: {str(error).splitlines()[0]}") from None

    def _origin(self, parameter: str) -> Origin | None:
        return next((self._origins[name] for name in self._also_called(parameter) if name in self._origins), None)

    def _also_called(self, parameter: str) -> list[str]:
        """A parameter's names: several where modules share it, of which files keep only one."""
        return [parameter, *self._shared.get(parameter, ())]

    @cached_property
    def _shared(self) -> dict[str, list[str]]:
        names: dict[int, list[str]] = {}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        shared = [own for own in names.values() if len(own) > 1]
        return {name: [other for other in own if other != name] for own in shared for name in own}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; get the file again") from None


def _split_revision(name: str) -> tuple[str, str | None]:
    """`org/model@step1000` as id and revision; a directory of that name stays one."""
    if name == BUNDLED or os.path.isdir(os.path.expanduser(name)):
        return name, None
    found = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)@(.+)", name)
    return (found[1], found[2]) if found else (name, None)
