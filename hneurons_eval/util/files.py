"""Atomic writes, content hashes, and the cache directory."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SEAL = "sha256"
"""Member of a sealed JSON object with the hash of all other members."""
NEURONS, PROBE, WEIGHTS = "neurons.json", "probe.json", "weights.safetensors"
BASELINES, ACTIVITY, SHUFFLED = "baselines.safetensors", "activity.safetensors", "shuffled.safetensors"
PROBE_FILES = (PROBE, WEIGHTS, NEURONS, BASELINES, ACTIVITY, SHUFFLED)
"""Files of a probe directory, here and on the Hub. L2 probes have no neurons; the last three are optional: baselines
fitted on the same answers, mean and deviation of each neuron's contribution, and selections on shuffled labels."""
CARD = "README.md"


def write_atomically(path: Path, write: Callable[[Path], object], *, sync: bool = True) -> None:
    """Write a file atomically: `write` fills a temporary file, which is flushed to disk and renamed to `path`.

    A reader sees the old file or the new one, never a part. A failure leaves the old one untouched. Without `sync` it
    is not flushed: safe from the death of the process, but not yet from a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for UTF-8 text."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the hash of its content, for `is_intact`.

    Raises:
        TypeError, ValueError: a value that JSON cannot hold.
    """
    plain = json.loads(json.dumps(dict(record), allow_nan=False))
    return plain | {SEAL: _content_hash(plain)}


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a JSON object is unchanged since it was sealed; True without a seal (written by hand)."""
    try:
        return SEAL not in record or record[SEAL] == _content_hash(record)
    except RecursionError:
        return False


def _content_hash(record: Mapping[str, Any]) -> str:
    content = {name: value for name, value in record.items() if name != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> Path:
    """The package's cache directory: `HNEURONS_CACHE`, else `$XDG_CACHE_HOME/hneurons_eval`."""
    own = os.environ.get("HNEURONS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hneurons_eval"
