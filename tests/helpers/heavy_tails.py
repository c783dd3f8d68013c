"""Features like contributions: standard deviations of a heavy tail, neurons that move together, relations."""

import numpy as np
from numpy.typing import NDArray


def features(rows: int, neurons: int, seed: int, relations: int = 6) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Contributions float32 `[rows, neurons]`, and the relation of each row `[rows]`.

    Standard deviations are log-normal over three orders of magnitude, as in the runs that were looked at; a fifth of
    the variance is shared by factors, some of them the relation's.
    """
    rng = np.random.default_rng(seed)
    deviation = np.exp(rng.normal(-7, 1.2, neurons))
    relation = np.arange(rows) % relations
    factors = np.column_stack([rng.normal(size=(rows, 5)), np.eye(relations)[relation] * np.sqrt(relations)])
    loadings = rng.normal(size=(factors.shape[1], neurons)) * np.sqrt(0.2 / factors.shape[1])
    own = rng.normal(size=(rows, neurons)) * np.sqrt(0.8)
    return ((factors @ loadings + own) * deviation).astype(np.float32), relation
