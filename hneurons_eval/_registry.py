"""What Inspect discovers. Every `inspect` command imports this, so nothing heavy is imported here."""

from inspect_ai.model import ModelAPI, modelapi

from hneurons_eval.scorers import captured, consistency, judge
from hneurons_eval.solvers import answer_and_capture, capture_given, draw
from hneurons_eval.tasks import capture, collect

__all__ = ["answer_and_capture", "capture", "capture_given", "captured", "collect", "consistency", "draw", "judge"]


@modelapi(name="hneurons")
def hneurons() -> type[ModelAPI]:
    """`hneurons/<model>`: local transformers models whose neurons can be captured and scaled."""
    from hneurons_eval.provider import HNeuronsAPI

    return HNeuronsAPI
