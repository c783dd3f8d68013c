"""Solvers that sample answers and capture contributions."""

from hneurons_eval.solvers.capture import answer_and_capture, capture_given
from hneurons_eval.solvers.generation import draw

__all__ = ["answer_and_capture", "capture_given", "draw"]
