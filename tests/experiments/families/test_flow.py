"""Couplings are invertible, and follow the flags."""

import jax
import numpy as np
import pytest

from experiments.families import flow
from tests.experiments.families import small


@pytest.mark.parametrize("knots", [0, 3], ids=["affine", "spline"])
def test_what_a_coupling_does_its_inverse_undoes(knots):
    make, join = flow.flow(small.config("flow", knots=knots), 4)
    z = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)

    @jax.jit
    def there_and_back(params):
        bijection = join(params).bijection
        x = jax.vmap(bijection.transform)(z)
        return x, jax.vmap(bijection.inverse)(x)

    x, back = there_and_back(make(jax.random.key(0)))
    assert np.abs(x - z).max() > 0.01
    np.testing.assert_allclose(back, z, atol=1e-4)  # float32, two couplings
