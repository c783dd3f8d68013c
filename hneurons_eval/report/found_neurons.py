"""The neurons that a report shows: found from what a log names, and with the answers that drive each most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.overlap import LayerBand, layer_band
from hneurons_eval.analysis.shuffled_labels import ShuffledError
from hneurons_eval.artifacts.paths import artifact_root
from hneurons_eval.models.controls import ActivityError
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.probe.classifier import Probe, ProbeError
from hneurons_eval.report.figures import is_informative
from hneurons_eval.util.packing import unpack

MAX_NEURONS = 20
"""Neurons in the table of the strongest."""
MAX_ANSWERS = 3
"""Answers that are shown of each."""


@dataclass(frozen=True)
class FoundNeurons:
    """The neurons and the path of a probe, as far as its files are there.

    Attributes:
        neurons: with weights, and with stability where their file is there.
        widths: neurons in each layer.
        curve: a point for each C of the path.
        C: the one that was taken.
        files: where they were read.
        directory: of the probe, if it is there.
    """

    neurons: NeuronSet | None = None
    widths: tuple[int, ...] = ()
    curve: Sequence[Mapping[str, float]] = ()
    C: float = math.nan
    files: tuple[str, ...] = field(default=())
    directory: Path | None = None


def found_neurons(summary: Mapping[str, Any], near: Sequence[Path]) -> FoundNeurons:
    """The neurons and the path that the summary of a probe names, as far as they can be read.

    Args:
        summary: `directory` and `neurons_file`, as `probe_summary_in` gives them.
        near: files or directories, in or above which a relative name is looked for.
    """
    probe, neurons, files = None, None, []
    if directory := located(summary.get("directory"), near):
        try:
            probe = Probe.load(directory)
            neurons = probe.neurons("both") if probe.penalty_ == "l1" else None
            files.append(str(directory))
        except (ProbeError, NeuronSetError, ValueError, OSError):
            probe = None
    if file := located(summary.get("neurons_file"), near):
        try:
            neurons = NeuronSet.load(file)
            files.append(str(file))
        except (NeuronSetError, OSError):
            pass  # those of the probe stand, without their stability
    if neurons is not None and not len(neurons):
        neurons = None
    widths = probe.widths if probe else tuple((neurons.widths or ()) if neurons else ())
    curve = probe.metadata.get("curve") if probe else None
    usable = isinstance(curve, list) and all(isinstance(point, dict) and "C" in point for point in curve)
    C = probe.C_ if probe else math.nan
    return FoundNeurons(
        neurons, widths, curve or () if usable else (), C, tuple(files), directory if probe is not None else None
    )


def located(name: Any, near: Sequence[Path]) -> Path | None:
    """A file or directory where it was written, or below an ancestor of what is near, or among the artifacts."""
    if not name or not isinstance(name, str):
        return None
    path = Path(name)
    places = [path]
    if not path.is_absolute():
        places += [parent / path for one in near for parent in one.absolute().parents]
    places.append(artifact_root().joinpath(*path.parts[-3:]))
    return next((place for place in places if place.exists()), None)


def identification(found: FoundNeurons, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the report says of the search: the path, the neurons, the strongest; None where nothing is known.

    Args:
        found: what `found_neurons` reads.
        answers: classified ones, as `content.answers_in` reads them.
    """
    neurons = found.neurons
    if neurons is None and not found.curve:
        return None
    said: dict[str, Any] = {
        "files": found.files,
        "C": found.C,
        "curve": [dict(p) for p in found.curve],
        "neurons": None,
        "informative_band": False,
    }
    if neurons is None:
        return said
    band = _band(found, neurons) if found.widths else None
    return said | {
        "widths": found.widths,
        "band": asdict(band) if band else None,
        "informative_band": band is not None and is_informative(band),
        "neurons": {
            "layers": neurons.layers.tolist(),
            "indices": neurons.indices.tolist(),
            "weights": None if neurons.weights is None else neurons.weights.tolist(),
            "stability": None if neurons.stability is None else neurons.stability.tolist(),
        },
        "strongest": strongest(neurons, answers),
    }


def _band(found: FoundNeurons, neurons: NeuronSet) -> LayerBand:
    """The band of the histogram by layer; that of uniform draws where the probe's own files cannot be read."""
    flat = neurons.flat(NeuronLayout(found.widths))
    try:
        return layer_band(flat, found.widths, found.directory)
    except (ShuffledError, ActivityError):
        return layer_band(flat, found.widths)


def strongest(neurons: NeuronSet, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The neurons of the largest weights of either sign, with the answers that drive each most and its AUROC alone.

    `contrary` is a neuron whose weight has the other sign than its AUROC alone.
    """
    matrix, rows = _contributions(answers, len(neurons))
    labels = [LABELS[row["label"]] for row in rows]
    weights = neurons.weights if neurons.weights is not None else np.zeros(len(neurons))
    found = []
    for place in np.argsort(-np.abs(weights), kind="stable")[:MAX_NEURONS].tolist():
        driven = []
        for row in np.argsort(-matrix[:, place], kind="stable").tolist() if len(rows) else []:
            one = rows[row]
            if one["question"] in [other["question"] for other in driven]:
                continue
            kept = {key: one[key] for key in ("question", "response", "span", "label", "probability")}
            driven.append({**kept, "contribution": float(matrix[row, place])})
            if len(driven) == MAX_ANSWERS:
                break
        alone = auroc(labels, matrix[:, place]) if len(set(labels)) == 2 else None
        found.append(
            {
                "layer": int(neurons.layers[place]),
                "neuron": int(neurons.indices[place]),
                "weight": None if neurons.weights is None else float(neurons.weights[place]),
                "stability": None if neurons.stability is None else float(neurons.stability[place]),
                "auroc": alone,
                "contrary": alone is not None and bool((alone - 0.5) * weights[place] < 0),
                "answers": driven,
            }
        )
    return found


def _contributions(
    answers: Sequence[Mapping[str, Any]], neurons: int
) -> tuple[NDArray[np.float64], list[Mapping[str, Any]]]:
    """What the neurons contributed to each answer `[answers, neurons]`, and the answers of which that is known."""
    vectors, rows = [], []
    for one in answers:
        try:
            vector = unpack(str(one["selected"] or ""))
        except ValueError:
            continue
        if len(vector) == neurons and np.isfinite(vector).all():
            vectors.append(vector)
            rows.append(one)
    return np.array(vectors).reshape(len(rows), neurons), rows
