"""The lines of models."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.theorems import models


def test_every_family_is_a_line_and_energies_have_gradients():
    x, sigma, families = jax.random.normal(jax.random.key(3), (4, 2)), jnp.full(4, 0.6), models.families(2)

    @jax.jit
    def fields(theta):
        energy = lambda point: families["energy"].at(theta)(point[None], sigma[:1])[0]
        found = {name: family.at(theta)(x, sigma) for name, family in families.items()}
        return found, jax.vmap(jax.jacfwd(energy))(x)

    (here, jacobian), (there, _) = fields(jnp.float32(-1.0)), fields(jnp.float32(1.0))
    for name, field in here.items():
        assert field.shape == (4, 2)
        assert np.all(np.abs(np.asarray(field - there[name])).max(axis=0) > 0.05)
    np.testing.assert_allclose(jacobian, jacobian.transpose(0, 2, 1), atol=1e-5)  # of order 1, in float32
