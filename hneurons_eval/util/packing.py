"""Numbers of an answer as a short text, for a log."""

import base64

import numpy as np


def pack(values: np.ndarray) -> str:
    """Numbers as float16 in base64."""
    return base64.b64encode(np.asarray(values, "<f2").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    """The numbers of `pack`, float64.

    Raises:
        ValueError: not such a text.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float64)
