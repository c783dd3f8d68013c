"""The neurons that a report shows: found from what a log names, and with the answers that drive each most."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.overlap import LayerBand, layer_band
from hneurons_eval.analysis.shuffled_labels import ShuffledError
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.models.controls import ActivityError
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
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


def found_neurons(summary: Mapping[str, Any], near: Sequence[str | Path]) -> FoundNeurons:
    """The neurons and the path that the summary of a probe names, as far as they can be read.

    Args:
        summary: `directory` or `neurons_file`, as `logs.probe_summary` gives them.
        near: logs, above which a relative name is looked for.
    """
    found = None
    for name in (summary.get("directory"), summary.get("neurons_file")):
        if found is None and isinstance(name, str) and name:
            with suppress(ValueError, OSError):
                found = resolve(name, near=near)
    if found is None:
        return FoundNeurons()
    probe, neurons = found.probe, found.neurons
    widths = probe.widths if probe else (neurons.widths or ()) if neurons is not None else ()
    curve = probe.metadata.get("curve") if probe else None
    usable = isinstance(curve, list) and all(isinstance(point, dict) and "C" in point for point in curve)
    return FoundNeurons(
        neurons if neurons is not None and len(neurons) else None,
        widths,
        curve or () if usable else (),
        probe.C_ if probe else math.nan,
        (str(found.directory or found.file),),
        found.directory,
    )


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
