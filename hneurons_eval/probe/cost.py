"""Memory and disk of a probe: how large its training matrix, its fit and the stored contributions are."""

REGIONS = 3
"""Regions of a response whose contributions are stored: its answer, all other tokens, and the prompt."""
MODES = {"1-vs-1": 1, "3-vs-1": 2}
"""Training rows of each answer: its answer tokens, and with `3-vs-1` its other tokens."""
FLOAT32 = 4
PATH_OVERHEAD = 0.3
"""Memory of fitting a path beside X, as a share of X: .29 at 46,080 neurons, .08 at 458,752."""


def training_rows(answers: int, mode: str) -> int:
    """Rows of the training matrix for so many answers of both classes together."""
    return answers * MODES[mode]


def fit_bytes(answers: int, neurons: int, mode: str) -> int:
    """Memory of a fit: the training matrix `[rows, neurons]` in float32 and the working memory beside it."""
    return round(training_rows(answers, mode) * neurons * FLOAT32 * (1 + PATH_OVERHEAD))


def stored_bytes(answers: int, neurons: int) -> int:
    """Disk of the contributions of all regions in float32."""
    return answers * REGIONS * neurons * FLOAT32
