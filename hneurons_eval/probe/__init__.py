"""The classifier of hallucinated answers, its nested cross-validation and its baselines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hneurons_eval.probe.classifier import Probe as Probe
    from hneurons_eval.probe.l1_path import fit_path as fit_path

_HOME = {"Probe": "classifier", "fit_path": "l1_path"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
