"""A report as one page that needs no other file and no network."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA
from hneurons_eval.analysis.overlap import LayerBand
from hneurons_eval.report import drift_section, risk_section
from hneurons_eval.report import figures as draw
from hneurons_eval.report.detection import BASELINES, probe_name
from hneurons_eval.report.detection import GLOSSARY as DETECTION_GLOSSARY
from hneurons_eval.report.dose_response import GLOSSARY as SWEEP_GLOSSARY
from hneurons_eval.report.figures import BLUE, GREY, ORANGE, canvas, caption, png
from hneurons_eval.report.wording import KINDS, STATUSES
from hneurons_eval.util.markdown import visible

TEMPLATES = Path(__file__).parent / "templates"


def page(content: Mapping[str, Any]) -> str:
    """The HTML of what `content.content` says.

    Everything in it is escaped, and control characters are shown as such: texts of models and names of files are
    not to be trusted.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["split_at"] = split_at
    drawn = {name: base64.b64encode(image).decode("ascii") for name, image in pictures(content).items()}
    return environment.get_template("report.html").render(
        content=content,
        pictures=drawn,
        baseline=BASELINE_ALPHA,
        statuses=STATUSES,
        detection_glossary=DETECTION_GLOSSARY,
        sweep_glossary=SWEEP_GLOSSARY,
    )


def split_at(text: str, span: Sequence[int] | None) -> tuple[str, str, str]:
    """A text as what stands before a span of characters, in it and after it."""
    start, end = span or (0, 0)
    return text[:start], text[start:end], text[end:]


def pictures(content: Mapping[str, Any]) -> dict[str, bytes]:
    """The figures of a page as PNG: `path`, `layers`, `stability`, `detection-0`, `sweep-0-0`, `risk-0` and so on."""
    found: dict[str, bytes] = {}
    identification = content["identification"]
    if identification:
        if len(identification["curve"]) > 1:
            found["path"] = draw.path_over_c(identification["curve"], identification["C"])
        neurons = identification["neurons"]
        if neurons and identification["widths"]:
            band = LayerBand(**identification["band"])
            found["layers"] = draw.neurons_by_layer(neurons["layers"], identification["widths"], band)
        if neurons and neurons["weights"] and neurons["stability"]:
            found["stability"] = stability(neurons["weights"], neurons["stability"])
    for number, one in enumerate(content["detection"]):
        if len(set(one["labels"])) == 2:
            found[f"detection-{number}"] = draw.detection(one["labels"], one["probabilities"])
        if one["figures"].get("auroc") is not None:
            found[f"baselines-{number}"] = baselines(one["figures"])
    for number, sweep in enumerate(content["sweeps"]):
        for place, series in enumerate(sweep["series"]):
            if series["outcomes"]:
                shown = [outcome["outcome"] for outcome in series["outcomes"]]
                numbers = {name: np.nan if value is None else value for name, value in series["figures"].items()}
                found[f"sweep-{number}-{place}"] = draw.dose_response(numbers, shown)
    for name, of in (("risk", risk_section.picture), ("drift", drift_section.picture)):
        for number, one in enumerate(content[name]):
            if (drawn := of(one)) is not None:
                found[f"{name}-{number}"] = drawn
    return found


def stability(weights: Sequence[float], shares: Sequence[float]) -> bytes:
    """How often each neuron is selected on half of the questions, against its weight."""
    figure, (axes,) = canvas(6.4, 2.8, 1)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(weights, shares, "o", color=BLUE, markersize=4, alpha=0.7)
    axes.set_ylim(-0.03, 1.03)
    caption(axes, "stability: dotted, half of the half-samples", "weight in the probe", "selected in half-samples")
    return png(figure)


def baselines(figures: Mapping[str, float]) -> bytes:
    """AUROC of the probe (blue) beside control sets (orange, mean and middle 95 %) and baselines (grey)."""
    names = {"auroc": probe_name(figures), "probe_refit_auroc": "the probe's neurons, L2 refit"}
    names |= {f"probe_{kind}_auroc": f"{label} sets of that size" for kind, label in KINDS.items()}
    names |= {f"{name}_auroc": label for name, label in BASELINES.items()}
    shown = [name for name in names if figures.get(name) is not None]
    figure, (axes,) = canvas(6.4, 0.8 + 0.24 * len(shown), 1)
    controls = {f"probe_{kind}_auroc" for kind in KINDS}
    for place, name in enumerate(reversed(shown)):
        value = figures[name]
        ends = [figures.get(f"{name}_{end}") for end in ("low", "high")]
        low, high = (value if end is None else end for end in ends)
        color = BLUE if name in ("auroc", "probe_refit_auroc") else ORANGE if name in controls else GREY
        axes.plot([low, high], [place, place], color=color, linewidth=1.6)
        axes.plot([value], [place], "o", color=color, markersize=5)
    axes.axvline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(figures["auroc"], color=BLUE, linewidth=0.6, alpha=0.5)
    axes.set_yticks(range(len(shown)), [names[name] for name in reversed(shown)])
    caption(axes, "the probe beside control sets and baselines", "AUROC, 95 %", "")
    return png(figure)
