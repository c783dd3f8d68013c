"""Scorers for answers and for what their neurons say."""

from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.detected import detected
from hneurons_eval.scorers.judge import consistency, judge
from hneurons_eval.scorers.risk import hallucination_risk
from hneurons_eval.scorers.swept import swept

__all__ = ["captured", "consistency", "detected", "hallucination_risk", "judge", "swept"]
