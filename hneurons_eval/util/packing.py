"""Arrays as base64-encoded float16, for logs."""

import base64

import numpy as np


def pack(values: np.ndarray) -> str:
    """An array as base64-encoded float16."""
    return base64.b64encode(np.asarray(values, "<f2").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    """The array from `pack`, float64; ValueError where it is not base64, or no whole number of values."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float64)
