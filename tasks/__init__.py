"""The stages, as Inspect tasks."""

from hneurons_eval.tasks.capture import capture
from hneurons_eval.tasks.collect import collect

__all__ = ["capture", "collect"]
