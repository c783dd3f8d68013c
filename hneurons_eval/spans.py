"""Public alias of `answer_span` and `token_positions` in `hneurons_eval.judging.spans`."""

from hneurons_eval.judging.spans import answer_span as answer_span
from hneurons_eval.judging.spans import token_positions as token_positions
