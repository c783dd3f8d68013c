"""The files of a probe's directory: probe.json, weights.safetensors and neurons.json."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.files import (
    NEURONS,
    PROBE,
    WEIGHTS,
    is_intact,
    sealed,
    write_atomically,
    write_text_atomically,
)

FORMAT = "hneurons-probe"
VERSION = 1


class ProbeError(ValueError):
    """A probe directory that cannot be read, a probe that is not fitted, or data that do not fit it."""


def write_probe(
    directory: Path,
    record: Mapping[str, Any],
    coef: NDArray[np.float64],
    intercept: float,
    neurons: NeuronSet | None,
) -> None:
    """Write a probe's files.

    A new directory appears whole or not at all. In one that exists, each file is replaced whole, probe.json last;
    should the second be lost, the checksum shows it.

    Args:
        directory: where to.
        record: fields of probe.json beside format, version and checksums.
        coef: float64 `[neurons]`.
        intercept: of the classifier.
        neurons: content of neurons.json; None: no such file.

    Raises:
        ProbeError: the record cannot be written as JSON.
    """
    from safetensors.numpy import save

    weights = save({"coef": coef.astype(np.float64), "intercept": np.array([intercept])})
    head = {"format": FORMAT, "version": VERSION, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    try:
        text = json.dumps(sealed({**head, **record}), indent=1) + "\n"
    except (TypeError, ValueError) as error:
        raise ProbeError(f"the probe's metadata cannot be written as JSON: {error}.") from None
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.exists():
        _write(directory, weights, text, neurons)
        return
    staging = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        _write(staging, weights, text, neurons)
        staging.chmod(0o755)
        try:
            os.replace(staging, directory)
        except OSError:
            if not directory.is_dir():
                raise
            _write(directory, weights, text, neurons)  # another process made it meanwhile
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_probe(directory: Path) -> tuple[dict[str, Any], NDArray[np.float64], float]:
    """The fields of probe.json, the weights `[neurons]` and the intercept; nothing is executed.

    Raises:
        ProbeError: a file is missing, damaged, of another format or version or not finite; says which.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    described, weighed = directory / PROBE, directory / WEIGHTS
    try:
        record = json.loads(described.read_text(encoding="utf-8"))
        content = weighed.read_bytes()
    except OSError as error:
        raise ProbeError(f"{error.filename or directory} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ProbeError(f"{described} is not JSON; it is damaged or not a probe.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ProbeError(f'{described} is not a probe: expected a JSON object with "format": "{FORMAT}".')
    if record.get("version") != VERSION:
        raise ProbeError(f"{described} has version {record.get('version')!r}; this program reads {VERSION}.")
    if not is_intact(record):
        raise ProbeError(f"{described} is damaged: its content is not that of its sha256; get it or train it again.")
    if record.get("weights_sha256") != hashlib.sha256(content).hexdigest():
        raise ProbeError(f"{weighed} is damaged or of another probe: its SHA-256 is not that in probe.json.")
    try:
        tensors = load(content)
        coef, intercept = tensors["coef"], tensors["intercept"]
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise ProbeError(f'{weighed} must hold the tensors "coef" and "intercept".') from None
    if coef.dtype != np.float64 or coef.ndim != 1 or intercept.shape != (1,):
        raise ProbeError(f"{weighed} must hold float64 weights [neurons], not {coef.dtype} {coef.shape}.")
    if not np.isfinite(coef).all() or not np.isfinite(intercept).all():
        raise ProbeError(f"{weighed} holds weights that are not finite.")
    return record, coef, float(intercept[0])


def _write(directory: Path, weights: bytes, described: str, neurons: NeuronSet | None) -> None:
    write_atomically(directory / WEIGHTS, lambda path: path.write_bytes(weights))
    if neurons is None:
        (directory / NEURONS).unlink(missing_ok=True)
    else:
        neurons.save(directory / NEURONS)
    write_text_atomically(directory / PROBE, described)
