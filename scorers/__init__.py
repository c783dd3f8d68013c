"""Scorers for answers and for what their neurons say."""

from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.judge import consistency, judge

__all__ = ["captured", "consistency", "judge"]
