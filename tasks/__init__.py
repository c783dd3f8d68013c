"""Inspect tasks: the stages of the pipeline, sweeps over alpha, and comparisons with base models."""

from hneurons_eval.tasks.base_transfer import base_transfer
from hneurons_eval.tasks.capture import capture
from hneurons_eval.tasks.closed_book import closed_book
from hneurons_eval.tasks.collect import collect
from hneurons_eval.tasks.detect import detect
from hneurons_eval.tasks.drift import drift
from hneurons_eval.tasks.faitheval import faitheval
from hneurons_eval.tasks.falseqa import falseqa
from hneurons_eval.tasks.jailbreak import jailbreak
from hneurons_eval.tasks.pipeline import pipeline
from hneurons_eval.tasks.probe import probe
from hneurons_eval.tasks.sycophancy import sycophancy
from hneurons_eval.tasks.truthfulqa import truthfulqa

__all__ = [
    "base_transfer",
    "capture",
    "closed_book",
    "collect",
    "detect",
    "drift",
    "faitheval",
    "falseqa",
    "jailbreak",
    "pipeline",
    "probe",
    "sycophancy",
    "truthfulqa",
]
