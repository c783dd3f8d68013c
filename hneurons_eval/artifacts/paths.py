"""Tensors on disk, addressed by what they were computed from.

Text and labels live in Inspect's logs; what is too large for a log lives below one root
(`HNEURONS_ARTIFACTS`, default `./hneurons_artifacts`), and the log holds its key. A key is the
hash of everything the content depends on, so a task that starts again finds what was finished.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hneurons_eval.artifacts.contribution_store import ContributionStore, find_store
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError

_KEY = re.compile(r"[0-9a-f]{64}")


class ArtifactError(ValueError):
    """An artifact that is missing or damaged; says which and what to do."""


def artifact_root() -> Path:
    """The directory of artifacts: `HNEURONS_ARTIFACTS`, else `hneurons_artifacts` in the working directory."""
    return Path(os.environ.get("HNEURONS_ARTIFACTS") or "hneurons_artifacts")


def check_writable() -> None:
    """Refuse an artifact root in which nothing can be kept, before work is spent that would be lost.

    Raises:
        ArtifactError: says which and why.
    """
    root = artifact_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise ArtifactError(
            f"artifacts cannot be written to {root} ({error.strerror}); set HNEURONS_ARTIFACTS to a directory in which "
            "they can be kept"
        ) from None


def content_key(**parts: Any) -> str:
    """SHA-256 of named JSON values, in hexadecimal."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _path(kind: str, key: str, suffix: str) -> Path:
    if not is_key(key):
        raise ArtifactError(f"{key!r} is not an artifact key (64 hexadecimal digits)")
    return artifact_root() / kind / key[:2] / f"{key}{suffix}"


def stores_root() -> Path:
    """The directory of all stores of contributions (see `contribution_store.py`)."""
    return artifact_root() / "features"


def store_of(keys: Sequence[str]) -> ContributionStore:
    """The store that holds the contributions of some keys.

    Raises:
        StoreError: there is none.
    """
    return find_store(stores_root(), keys)


def save_neurons(neurons: NeuronSet) -> str:
    """Keep a neuron set; its digest, by which requests can name it."""
    path = _path("neurons", neurons.digest, ".json")
    if not path.is_file():
        neurons.save(path)
    return neurons.digest


def is_key(text: str) -> bool:
    """Whether a text is the key of an artifact: 64 hexadecimal digits."""
    return _KEY.fullmatch(text) is not None


def kept_neurons(digest: str) -> NeuronSet:
    """The neuron set that `save_neurons` has kept.

    Raises:
        NeuronSetError: there is none, or it cannot be read.
    """
    path = _path("neurons", digest, ".json")
    if not path.is_file():
        raise NeuronSetError(
            f"no neuron set {digest[:12]}… in {artifact_root()}; set HNEURONS_ARTIFACTS, or give a file"
        )
    return NeuronSet.load(path)


def probe_directory(key: str) -> Path:
    """Where the probe of a key is kept."""
    return _path("probes", key, "")
