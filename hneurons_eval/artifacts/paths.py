"""Tensors on disk, addressed by what they were computed from.

Text and labels live in Inspect's logs; what is too large for a log lives below one root
(`HNEURONS_ARTIFACTS`, default `./hneurons_artifacts`), and the log holds its key. A key is the
hash of everything the content depends on, so a task that starts again finds what was finished.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hneurons_eval.artifacts.contribution_shards import StoreError, is_key
from hneurons_eval.artifacts.contribution_store import ContributionStore, find_store
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError


class ArtifactError(ValueError):
    """An artifact that is missing or damaged; says which and what to do."""


def artifact_root() -> Path:
    """The directory of artifacts: `HNEURONS_ARTIFACTS`, else `hneurons_artifacts` in the working directory."""
    return Path(os.environ.get("HNEURONS_ARTIFACTS") or "hneurons_artifacts")


def check_writable() -> None:
    """Refuse an artifact root in which nothing can be kept (ArtifactError), before work is spent on it."""
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


def store_of(keys: Sequence[str], near: Sequence[str | Path] = ()) -> ContributionStore:
    """The store that holds the contributions of some keys, here or above the logs that name them.

    Raises:
        StoreError: there is none.
    """
    first: StoreError | None = None
    for root in dict.fromkeys(places(stores_root(), near)):
        try:
            return find_store(root, keys)
        except StoreError as error:
            first = first or error
    assert first is not None
    raise first


def places(path: Path, near: Sequence[str | Path]) -> Iterator[Path]:
    """Where a path may be that a log names: as named, above the logs, or among the artifacts.

    A run writes its paths relative to where it was started.
    """
    yield path
    for log in near:
        if not path.is_absolute():
            yield from (parent / path for parent in Path(str(log).removeprefix("file://")).absolute().parents)
        yield artifact_root().joinpath(*path.parts[-3:])


def save_neurons(neurons: NeuronSet) -> str:
    """Keep a neuron set; its digest, by which requests can name it."""
    path = _path("neurons", neurons.digest, ".json")
    if not path.is_file():
        neurons.save(path)
    return neurons.digest


def kept_neurons(digest: str) -> NeuronSet:
    """The neuron set that `save_neurons` has kept; NeuronSetError where it is missing or damaged."""
    path = _path("neurons", digest, ".json")
    if not path.is_file():
        raise NeuronSetError(
            f"no neuron set {digest[:12]}… in {artifact_root()}; set HNEURONS_ARTIFACTS, or give a file"
        )
    return NeuronSet.load(path)


def probe_directory(key: str) -> Path:
    """Where the probe of a key is kept."""
    return _path("probes", key, "")
