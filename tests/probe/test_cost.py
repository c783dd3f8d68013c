"""The plan, the doctor and the probe task reckon with the same memory."""

import numpy as np
import pytest

from hneurons_eval.probe.cost import MODES, PATH_OVERHEAD, fit_bytes, stored_bytes, training_rows


@pytest.mark.parametrize("mode", MODES)
def test_a_fit_takes_its_matrix_and_the_overhead(mode: str):
    X = np.zeros((training_rows(20, mode), 300), np.float32)
    assert len(X) == (40 if mode == "3-vs-1" else 20)
    assert fit_bytes(20, 300, mode) == round(X.nbytes * (1 + PATH_OVERHEAD))


def test_three_regions_are_stored():
    assert stored_bytes(7, 300) == np.zeros((7, 3, 300), np.float32).nbytes
