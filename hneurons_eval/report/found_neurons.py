"""The neurons that a report shows: found from what a log names, and with the answers that drive each most."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.overlap import layer_band
from hneurons_eval.analysis.shuffled_labels import ShuffledError
from hneurons_eval.artifacts.references import Reference, resolve
from hneurons_eval.models.controls import ActivityError
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.report.figures import is_informative
from hneurons_eval.util.packing import unpack

MAX_NEURONS = 20
"""Neurons in the table of the strongest."""
MAX_ANSWERS = 3
"""Answers that are shown of each neuron, and of each kind of call."""


def found_neurons(summary: Mapping[str, Any], near: Sequence[str | Path]) -> Reference | None:
    """The probe, else the neurons, that `logs.probe_summary` names; None where no file of them can be read.

    A relative name is looked for above the logs in `near`.
    """
    for name in (summary.get("directory"), summary.get("neurons_file")):
        if isinstance(name, str) and name:
            with suppress(ValueError, OSError):
                return resolve(name, near=near)
    return None


def identification(found: Reference | None, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the report says of the search: the path, the neurons, the strongest; None where nothing is known.

    `answers` are classified ones, as `content.answers_in` reads them.
    """
    if found is None:
        return None
    probe, neurons = found.probe, found.neurons
    curve = probe.metadata.get("curve") if probe else None
    if not isinstance(curve, list) or not all(isinstance(point, dict) and "C" in point for point in curve):
        curve = []
    said: dict[str, Any] = {
        "files": [str(found.directory or found.file)],
        "C": probe.C_ if probe else math.nan,
        "curve": curve,
        "neurons": None,
        "informative_band": False,
    }
    if neurons is None or not len(neurons):
        return said if curve else None
    widths, band = probe.widths if probe else neurons.widths or (), None
    if widths:
        flat = neurons.flat(NeuronLayout(widths))
        try:
            band = layer_band(flat, widths, found.directory)
        except (ShuffledError, ActivityError):  # the probe's own files cannot be read
            band = layer_band(flat, widths)
    return said | {
        "widths": widths,
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


def strongest(neurons: NeuronSet, answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The neurons of the largest weights of either sign, with the answers that drive each most and its AUROC alone.

    `contrary` is a neuron whose weight has the other sign than its AUROC alone.
    """
    rows, vectors = [], []
    for one in answers:
        with suppress(ValueError):
            vector = unpack(str(one["selected"] or ""))
            if len(vector) == len(neurons) and np.isfinite(vector).all():
                rows.append({key: one[key] for key in ("question", "response", "span", "label", "probability")})
                vectors.append(vector)
    contributions = np.array(vectors).reshape(len(rows), len(neurons))
    labels = [LABELS[row["label"]] for row in rows]
    weights = neurons.weights if neurons.weights is not None else np.zeros(len(neurons))
    found = []
    for place in np.argsort(-np.abs(weights), kind="stable")[:MAX_NEURONS].tolist():
        own = contributions[:, place]
        driven = [{**rows[k], "contribution": float(own[k])} for k in np.argsort(-own, kind="stable").tolist()]
        alone = auroc(labels, own) if len(set(labels)) == 2 else None
        found.append(
            {
                "layer": int(neurons.layers[place]),
                "neuron": int(neurons.indices[place]),
                "weight": None if neurons.weights is None else float(weights[place]),
                "stability": None if neurons.stability is None else float(neurons.stability[place]),
                "auroc": alone,
                "contrary": alone is not None and bool((alone - 0.5) * weights[place] < 0),
                "answers": first_of_each_question(driven),
            }
        )
    return found


def first_of_each_question(answers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first `MAX_ANSWERS` answers to different questions."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in answers:
        found.setdefault(one["question"], one)
    return list(found.values())[:MAX_ANSWERS]
