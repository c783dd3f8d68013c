"""Runs as tidy data frames; the functions are in `hneurons_eval.artifacts.frames`."""

from hneurons_eval.artifacts.frames import FrameError as FrameError
from hneurons_eval.artifacts.frames import answers as answers
from hneurons_eval.artifacts.frames import detections as detections
from hneurons_eval.artifacts.frames import neurons as neurons
from hneurons_eval.artifacts.frames import risks as risks
from hneurons_eval.artifacts.frames import sweep as sweep
