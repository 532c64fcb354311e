"""Bits: the VAE's likelihood against SciPy, the flow's density against its integral."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.families import likelihood
from experiments.families import setting as settings
from tests.experiments.families import small


def test_the_probability_of_an_interval():
    low, high = np.array([(-0.3, 0.4), (5.0, 5.1), (-6.2, -6.0), (-np.inf, -3.0), (2.0, np.inf)]).T
    above, below = stats.norm.sf(low) - stats.norm.sf(high), stats.norm.cdf(high) - stats.norm.cdf(low)
    found = likelihood.log_probability(jnp.asarray(low), jnp.asarray(high))
    np.testing.assert_allclose(found, np.log(np.where(low > 0, above, below)), rtol=2e-4)


def test_its_slope_is_finite():
    low, high = jnp.array([(-jnp.inf, 0.3), (0.3, jnp.inf), (0.2, 0.5), (-9.0, -8.9)]).T
    slopes = jax.grad(lambda mean: likelihood.log_probability(low - mean, high - mean).sum())(jnp.zeros(4))
    assert np.isfinite(slopes).all()


def test_the_grey_values_probabilities_sum_to_one():
    setting = settings.of("digits")
    values = jnp.arange(17) / 16
    x = setting.scaled(jnp.broadcast_to(values[:, None, None, None], (17, 8, 8, 1)))
    one_pixel = lambda x: likelihood.log_normal(
        setting._replace(mean=np.float32(setting.mean[0, 3, 3, 0])),
        x,
        jnp.zeros_like(x),
        jnp.full((1, 1, 1), -0.5),
    )
    x = (values[:, None, None, None] - setting.mean[0, 3, 3, 0]) / setting.std
    np.testing.assert_allclose(np.exp(one_pixel(x)).sum(), 1, rtol=1e-4)


def test_a_points_likelihood_is_the_normal_density():
    setting, x = settings.of("25gaussians"), jnp.asarray([[0.3, -1.2]])
    found = likelihood.log_normal(setting, x, jnp.asarray([[0.1, 0.2]]), jnp.asarray([-0.5, 0.3]))
    expected = stats.norm.logpdf([0.3, -1.2], [0.1, 0.2], np.exp([-0.5, 0.3])).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_flows_bits_are_of_the_density_of_unscaled_points():
    """Half of the density's logarithm to base 2; scaling by 1/std multiplies it by std^2."""
    setting, config = settings.of("25gaussians"), small.config("flow")
    experiment = small.module("flow").build(config)
    params = experiment.init(jax.random.key(0))
    found = experiment.evaluate(params, {"one pass": setting.held_out[:50]})["bits"]
    _, join = small.module("flow").flow(config, 2)
    density = np.exp(join(params).log_prob(setting.scaled(setting.held_out))) / setting.std**2
    np.testing.assert_allclose(found, -np.log2(density).mean() / 2, rtol=1e-4)


def test_a_flows_density_integrates_to_one():
    module, setting = small.module("flow"), settings.of("25gaussians")
    make, join = module.flow(small.config("flow"), 2)
    side = np.linspace(-8, 8, 321)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)
    assert setting.event == (2,)
    density = np.exp(jax.jit(lambda params: join(params).log_prob(grid))(make(jax.random.key(3))))
    # Rectangles of 0.05: the density of width about 1 is summed to far better than this.
    np.testing.assert_allclose(density.sum() * (side[1] - side[0]) ** 2, 1, rtol=5e-3)
