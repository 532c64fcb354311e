"""DDPM's samplers where the noise can be predicted, and its flags."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import ddpm
from tests.experiments.families import small


def predicted(params, u, c_noise, *rest, **options):
    """E[n | x] for data N(0, I): sigma x / (1 + sigma^2), from u = x / sqrt(1 + sigma^2)."""
    sigma = jnp.exp(4 * c_noise)[:, None]
    return u * sigma / jnp.sqrt(1 + sigma**2)


@pytest.mark.parametrize("label", ["ancestral", "DDIM"])
def test_the_right_prediction_samples_a_gaussian_like_the_data(label, monkeypatch):
    network = SimpleNamespace(init=lambda *a: {}, apply=predicted)
    monkeypatch.setattr(ddpm.family, "score_network", lambda *a: network)
    experiment = ddpm.build(small.config("ddpm", ancestral_steps=200, ddim_steps=50))
    x = small.scaled_samples(experiment, label, {})
    # 8,000 numbers: 4 standard errors; the few steps make an error of up to 4 %.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), 1, atol=0.04 + 4 / np.sqrt(16_000))
