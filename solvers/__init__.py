"""Solvers that sample answers and capture contributions."""

from hneurons_eval.solvers.abstain import abstain_when_risky
from hneurons_eval.solvers.capture import answer_and_capture, capture_given
from hneurons_eval.solvers.generation import draw

__all__ = ["abstain_when_risky", "answer_and_capture", "capture_given", "draw"]
