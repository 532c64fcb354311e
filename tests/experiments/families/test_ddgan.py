"""The inputs of the two players in a denoising step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import ddgan
from experiments.families import setting as settings
from jaxscore.adversarial import denoising
from tests.experiments.families import small


@pytest.mark.parametrize("shrink", [True, False])
def test_the_discriminator_sees_both_ends_of_each_step_scaled(shrink, monkeypatch):
    """x_next in the variance-preserving scale of the level below; x as --shrink says."""
    seen = []

    class Seeing:
        init = staticmethod(lambda *a: {})
        apply = staticmethod(lambda params, pair, c_noise: seen.append((pair, c_noise)))

    monkeypatch.setattr(ddgan.adversaries, "discriminator", lambda *a: Seeing)
    sigmas = denoising.levels(4)
    config = small.config("ddgan", shrink=shrink)
    _, discriminate, _ = ddgan.networks(config, settings.of("25gaussians"), sigmas)
    x_next, x = np.random.default_rng(0).standard_normal((2, 4, 2)).astype(np.float32)
    discriminate({}, jnp.asarray(x_next), jnp.asarray(x), sigmas[:-1])
    ((pair, c_noise),) = seen
    scale = 1 + np.asarray(sigmas)[:, None] ** 2
    np.testing.assert_allclose(pair[:, :2], x_next / np.sqrt(scale[1:]), rtol=1e-5)
    np.testing.assert_allclose(pair[:, 2:], x / (scale[:-1] if shrink else np.sqrt(scale[:-1])), rtol=1e-5)
    np.testing.assert_allclose(c_noise, np.log(sigmas[:-1]) / 4, rtol=1e-5)


def test_the_latent_changes_what_is_generated():
    sigmas, config = denoising.levels(2), small.config("ddgan")
    generate, _, init = ddgan.networks(config, settings.of("25gaussians"), sigmas)
    params, x = jax.jit(init)(jax.random.key(0))["generator"], jnp.ones((2, 2))
    z = jax.random.normal(jax.random.key(1), (2, config.latent))
    first, second = jax.jit(generate)(params, x, jnp.ones(2), z)
    assert not np.allclose(first, second, atol=1e-4)
