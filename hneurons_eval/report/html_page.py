"""A report as one page that needs no other file and no network."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA
from hneurons_eval.analysis.overlap import LayerBand
from hneurons_eval.report import detection, dose_response
from hneurons_eval.report import figures as draw
from hneurons_eval.report.wording import STATUSES
from hneurons_eval.util.markdown import visible


def page(content: Mapping[str, Any]) -> str:
    """The HTML of what `content.content` says.

    Everything in it is escaped, and control characters are shown as such: texts of models and names of files are
    not to be trusted.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    return environment.get_template("report.html").render(
        content=content,
        pictures={name: base64.b64encode(image).decode("ascii") for name, image in pictures(content).items()},
        baseline=BASELINE_ALPHA,
        statuses=STATUSES,
        detection_glossary=detection.GLOSSARY,
        sweep_glossary=dose_response.GLOSSARY,
    )


def pictures(content: Mapping[str, Any]) -> dict[str, bytes]:
    """The figures of a page as PNG: `path`, `layers`, `stability`, `detection-0`, `sweep-0-0`, `risk-0` and so on."""
    found: dict[str, bytes] = {}
    if identification := content["identification"]:
        if len(identification["curve"]) > 1:
            found["path"] = draw.path_over_c(identification["curve"], identification["C"])
        neurons = identification["neurons"]
        if neurons and identification["widths"]:
            band = LayerBand(**identification["band"])
            found["layers"] = draw.neurons_by_layer(neurons["layers"], identification["widths"], band)
        if neurons and neurons["weights"] and neurons["stability"]:
            found["stability"] = draw.stability(neurons["weights"], neurons["stability"])
    for number, one in enumerate(content["detection"]):
        if len(set(one["labels"])) == 2:
            found[f"detection-{number}"] = draw.detection(one["labels"], one["probabilities"])
        if one["figures"].get("auroc") is not None:
            found[f"baselines-{number}"] = draw.baselines(one["figures"])
    for number, sweep in enumerate(content["sweeps"]):
        for place, series in enumerate(sweep["series"]):
            if series["outcomes"]:
                shown = [outcome["outcome"] for outcome in series["outcomes"]]
                numbers = {name: np.nan if value is None else value for name, value in series["figures"].items()}
                found[f"sweep-{number}-{place}"] = draw.dose_response(numbers, shown)
    for number, one in enumerate(content["risk"]):
        if one["losses"]:
            found[f"risk-{number}"] = draw.risk_coverage(one["losses"], one["risks"], one["threshold"])
    for number, one in enumerate(content["drift"]):
        if one["layers"]:
            found[f"drift-{number}"] = draw.drift_by_layer(one["layers"], one["figures"])
    return found
