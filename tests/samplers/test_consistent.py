import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import samplers
from tests.draws import assert_gaussian
from tests.grids import rest
from tests.samplers import oracle

N = 20_000
POINT = 2.0
X = jnp.array([[4.0, 1.0], [-2.0, 0.5], [0.3, -6.0]])
START = POINT + samplers.prior(jax.random.key(0), (N, 1), 3.0)


def point_mass(x, sigma):
    """The score at sigma of data that are all at one point."""
    return (POINT - x) / sigma[:, None] ** 2


@pytest.mark.parametrize("eta", [0.2, 1.0, rest(0.0), rest(0.6)])
def test_the_variance_of_every_level_is_hit_exactly(eta):
    sigmas = jnp.array([3.0, 2.0, 1.4, 1.3, 0.4, 0.1, 0.0])  # and the levels need not be geometric
    path = oracle.run(samplers.consistent(eta), START, sigmas, point_mass).path
    for x, sigma in zip(path[:-1], sigmas[1:-1], strict=True):
        assert_gaussian(x, POINT, float(sigma) ** 2)
    np.testing.assert_allclose(path[-1], POINT, atol=1e-5)


@pytest.mark.parametrize("eta", [0.5, rest(0.25), rest(1.0)])
def test_data_with_a_width_lose_what_the_docstring_says(eta):
    s0, sigma, sigma_next = 0.8, 1.5, 1.2
    gaussian = lambda x, sigma: -x / (s0**2 + sigma[:, None] ** 2)
    x = samplers.prior(jax.random.key(0), (N, 1), float(np.hypot(s0, sigma)))
    x = oracle.run(samplers.consistent(eta), x, [sigma, sigma_next], gaussian).x
    posterior = s0**2 * sigma**2 / (s0**2 + sigma**2)  # Var[x0 | x]
    assert_gaussian(x, 0, s0**2 + sigma_next**2 - eta**2 * posterior)


EQUAL = {
    "euler's: the smallest step leaves 0.8": (samplers.euler(), 0.19, [2.0, 1.6, 1.0, 0.1]),
    "euler's: nothing is left over": (samplers.euler(), 0.0, [2.0, 1.6, 1.0, 0.1]),
    "the ancestral one": (samplers.ancestral(), 1 - 0.6**2, [2.0, 1.2]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_with_the_right_eta_the_step_is_another_samplers(name):
    other, eta, sigmas = EQUAL[name]
    run = lambda sampler: oracle.run(sampler, X, sigmas).x
    np.testing.assert_allclose(run(samplers.consistent(eta)), run(other), rtol=1e-5)


def test_it_follows_the_levels_of_a_mixture():
    # The loss of the docstring, added up: 4 % of the variance at eta = 0.15 on these levels.
    oracle.assert_follows_the_levels(samplers.consistent(0.15), stays=False, bias=0.05)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_is_a_share(eta):
    with pytest.raises(ValueError, match="between 0 and 1"):
        samplers.consistent(eta)
