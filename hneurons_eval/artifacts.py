"""Tensors on disk, addressed by what they were computed from.

Text and labels live in Inspect's logs; what is too large for a log lives below one root
(`HNEURONS_ARTIFACTS`, default `./hneurons_artifacts`), and the log holds its key. A key is the
hash of everything the content depends on, so a task that starts again finds what was finished.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hneurons_eval.files import write_atomically
from hneurons_eval.neurons import NeuronSet, NeuronSetError

_KEY = re.compile(r"[0-9a-f]{64}")


class ArtifactError(ValueError):
    """An artifact that is missing or damaged; says which and what to do."""


def artifact_root() -> Path:
    """The directory of artifacts: `HNEURONS_ARTIFACTS`, else `hneurons_artifacts` in the working directory."""
    return Path(os.environ.get("HNEURONS_ARTIFACTS") or "hneurons_artifacts")


def content_key(**parts: Any) -> str:
    """SHA-256 of named JSON values, in hexadecimal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Contributions:
    """What a teacher-forced pass over one answer left.

    Attributes:
        values: float32 `[regions, neurons]`.
        regions: name of each region.
        logprobs: float32, log-probability of each token of the response.
    """

    values: np.ndarray
    regions: tuple[str, ...]
    logprobs: np.ndarray

    def region(self, name: str) -> np.ndarray:
        """Contributions over a region: float32 `[neurons]`.

        Raises:
            ArtifactError: no such region.
        """
        if name not in self.regions:
            raise ArtifactError(f"no region {name!r} was captured, there are {', '.join(self.regions)}")
        return self.values[self.regions.index(name)]


def _path(kind: str, key: str, suffix: str) -> Path:
    if not _KEY.fullmatch(key):
        raise ArtifactError(f"{key!r} is not an artifact key (64 hexadecimal digits)")
    return artifact_root() / kind / key[:2] / f"{key}{suffix}"


def has_contributions(key: str) -> bool:
    """Whether the contributions of a key are on disk."""
    return _path("contributions", key, ".safetensors").is_file()


def save_contributions(key: str, contributions: Contributions) -> None:
    """Write the contributions of a key; they appear whole or not at all."""
    tensors = {
        "values": np.ascontiguousarray(contributions.values, np.float32),
        "logprobs": np.ascontiguousarray(contributions.logprobs, np.float32),
    }
    metadata = {"regions": json.dumps(contributions.regions)}
    write_atomically(
        _path("contributions", key, ".safetensors"), lambda path: save_file(tensors, str(path), metadata=metadata)
    )


def load_contributions(key: str) -> Contributions:
    """Read the contributions of a key.

    Raises:
        ArtifactError: missing, or not a whole file.
    """
    path = _path("contributions", key, ".safetensors")
    if not path.is_file():
        raise ArtifactError(
            f"no contributions at {path}; set HNEURONS_ARTIFACTS to the directory they were captured into, "
            "or run the capture task again"
        )
    try:
        with safe_open(str(path), "numpy") as file:
            regions = tuple(json.loads(file.metadata()["regions"]))
            values, logprobs = file.get_tensor("values"), file.get_tensor("logprobs")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run the capture task again") from None
    if values.ndim != 2 or len(values) != len(regions) or not np.isfinite(values).all():
        raise ArtifactError(f"{path} is damaged (contents do not fit); delete it and run the capture task again")
    return Contributions(values, regions, logprobs)


def save_neurons(neurons: NeuronSet) -> str:
    """Keep a neuron set; its digest, by which requests can name it."""
    path = _path("neurons", neurons.digest, ".json")
    if not path.is_file():
        neurons.save(path)
    return neurons.digest


def find_neurons(reference: str | Mapping[str, Any] | Path) -> NeuronSet:
    """The neurons that a file, a probe directory, or the digest of a kept set names.

    Raises:
        NeuronSetError: there are none, or they cannot be read.
    """
    text = str(reference)
    if _KEY.fullmatch(text):
        path = _path("neurons", text, ".json")
        if not path.is_file():
            raise NeuronSetError(
                f"no neuron set {text[:12]}… in {artifact_root()}; set HNEURONS_ARTIFACTS, or give a file"
            )
        return NeuronSet.load(path)
    return NeuronSet.load(text)


def probe_directory(key: str) -> Path:
    """Where the probe of a key is kept."""
    return _path("probes", key, "")
