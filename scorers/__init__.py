"""Scorers for answers and for what their neurons say."""

from hneurons_eval.scorers.behaviour import closed_book_answers, false_premise, followed_context
from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.detected import detected
from hneurons_eval.scorers.drifted import drifted
from hneurons_eval.scorers.judge import consistency, judge
from hneurons_eval.scorers.risk import hallucination_risk
from hneurons_eval.scorers.transferred import transferred

__all__ = [
    "captured",
    "closed_book_answers",
    "consistency",
    "detected",
    "drifted",
    "false_premise",
    "followed_context",
    "hallucination_risk",
    "judge",
    "transferred",
]
