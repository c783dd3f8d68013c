"""How far float32 results may be from exact ones, from the dtype and the size of the sums: for any processor."""

import math
from typing import Any

import numpy as np

from hneurons_eval.probe.classifier import Probe


def relative_error(config: Any, tokens: int) -> float:
    """Largest error of a float32 forward pass, relative to the Euclidean norm of what a layer computes.

    Each output is a chain of sums. In each layer these are four matrix products, of which three add up `hidden_size`
    products and one `intermediate_size`; attention and the mean over a region add up one for each token. Rounding
    errors of n additions that are not all of one sign grow as sqrt(n) u, u = eps / 2, with high probability (Higham and
    Mary 2019, "A new approach to probabilistic rounding error analysis"; the worst case would be n u). The bound is
    twice that, sqrt(n) eps: 3.9e-5 for the bundled model and 44 tokens, 2e-6 for the tiny ones. The order of the
    additions, hence the processor, the threads and the batch, does not enter into it.

    Measured on the bundled model (AVX-512, and torch's kernels for any processor): at most 9e-6.
    """
    layer = 3 * config.hidden_size + config.intermediate_size + tokens
    return math.sqrt(config.num_hidden_layers * layer + tokens) * float(np.finfo(np.float32).eps)


def assert_same_contributions(found: Any, expected: Any, layout: Any, config: Any, tokens: int) -> None:
    """Contributions `[..., neurons]` of two float32 passes: each has the error above, of a sum of the size 1.

    The size is the norm of a layer's contributions, which are parts of the MLP's output relative to its own norm: 1 if
    the parts are orthogonal, or what is found if that is more.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    norms = np.sqrt(np.add.reduceat(expected**2, layout.starts[:-1], axis=-1)).max(initial=1.0)
    assert np.abs(found - expected).max() <= 2 * relative_error(config, tokens) * norms


def risk_error(probe: str, config: Any, tokens: int) -> float:
    """Largest difference of the probability that a probe gives to two float32 passes over the same tokens.

    The log-odds are a product with the weights, hence change by |w| |error| at most, where each layer's error is as
    above; and the probability by a quarter of that.
    """
    weights = float(np.linalg.norm(Probe.load(probe).coef_))
    return weights * math.sqrt(config.num_hidden_layers) * 2 * relative_error(config, tokens) / 4
