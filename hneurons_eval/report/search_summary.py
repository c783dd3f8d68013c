"""What a search for neurons found, as markdown for a log: pictures and tables."""

from collections.abc import Sequence

import numpy as np

from hneurons_eval.analysis.overlap import layer_band
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.probe.nested_cv import Identified
from hneurons_eval.probe.variation import Variation
from hneurons_eval.report import figures
from hneurons_eval.util.markdown import picture, table

MAX_NEURONS = 20
"""Neurons in the table of the most stable."""


def search_summary(
    identified: Identified, labels: Sequence[int], variation: Variation | None = None, directory: str | None = None
) -> str:
    """The path over C, how well the probe tells, where its neurons sit and how stable they are.

    Labels are 1 for hallucinated answers. The null of the histogram is read from the probe's directory.
    """
    probe = identified.probe
    parts = [picture(figures.detection(labels, identified.probabilities), "ROC, reliability, probabilities")]
    if len(identified.curve) > 1:
        parts.insert(0, picture(figures.path_over_c(identified.curve, probe.C_), "path over C"))
        names = list(identified.curve[0])
        points = [[f"{point[name]:.4g}" for name in names] for point in identified.curve]
        parts.append(table([name.replace("_", " ") for name in names], points))
    if variation is not None and len(neurons := probe.neurons("both")):
        flat = neurons.flat(NeuronLayout(probe.widths))
        band = layer_band(flat, probe.widths, directory)
        parts.append(picture(figures.neurons_by_layer(neurons.layers, probe.widths, band), "neurons by layer"))
        weights, stability = probe.coef_[flat], variation.stability[flat]
        rows = [
            [str(neurons.layers[k]), str(neurons.indices[k]), f"{weights[k]:+.4g}", f"{stability[k]:.0%}"]
            for k in np.lexsort((-np.abs(weights), -stability))[:MAX_NEURONS].tolist()
        ]
        parts.append(table(["layer", "neuron", "weight", "selected in half-samples"], rows))
    return "\n\n".join(parts)
