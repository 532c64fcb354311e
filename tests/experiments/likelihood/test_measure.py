"""Parts of the measurement; the whole of it is in test_run.py."""

import numpy as np
import pytest

from experiments.likelihood import measure


@pytest.mark.parametrize("n", [2, 17, 256])
def test_the_number_of_grey_values_is_found(n):
    images = np.random.default_rng(0).integers(0, n, (40, 4, 4, 1)) / (n - 1)
    assert measure.grey_values(images.astype(np.float32)) == n


def test_other_numbers_have_no_grey_values():
    rng = np.random.default_rng(0)
    assert measure.grey_values(rng.uniform(size=(4, 4, 4, 1))) is None
    assert measure.grey_values(rng.integers(0, 2, (4, 4)).astype(float)) is None
    assert measure.grey_values(rng.integers(-1, 2, (4, 4, 4, 1)).astype(float)) is None
