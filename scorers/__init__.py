"""Scorers for answers and for what their neurons say."""

from hneurons_eval.scorers.behaviour import closed_book_answers, false_premise, followed_context
from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.detected import detected
from hneurons_eval.scorers.drifted import drifted
from hneurons_eval.scorers.jailbroken import jailbroken
from hneurons_eval.scorers.judge import consistency, judge
from hneurons_eval.scorers.risk import hallucination_risk
from hneurons_eval.scorers.sycophantic import gave_in
from hneurons_eval.scorers.transferred import transferred
from hneurons_eval.scorers.truthful import truthful

__all__ = [
    "captured",
    "closed_book_answers",
    "consistency",
    "detected",
    "drifted",
    "false_premise",
    "followed_context",
    "gave_in",
    "hallucination_risk",
    "jailbroken",
    "judge",
    "transferred",
    "truthful",
]
