"""Sampling where the straight flow is known: that of the pairs of a Gaussian."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import reflow
from tests.experiments.families import small


def straight(params, u, c_noise, *rest, **options):
    """The network of D(x, sigma) = x / (1 + k sigma), k = (sqrt(1 + m^2) - 1) / m, m = 40: data N(0, I)."""
    sigma = jnp.exp(4 * c_noise)[:, None]
    root, k = jnp.sqrt(1 + sigma**2), (np.sqrt(1 + 40.0**2) - 1) / 40
    x = u * root
    score = (x / (1 + k * sigma) - x) / sigma**2
    return (score + x / root**2) * sigma * root


@pytest.mark.parametrize("label", ["one step", "two steps"])
def test_the_straight_flow_samples_a_gaussian_like_the_data(label, monkeypatch):
    network = SimpleNamespace(init=lambda *a: {}, apply=straight)
    monkeypatch.setattr(reflow.family, "score_network", lambda *a: network)
    x = small.scaled_samples(reflow.build(small.config("reflow")), label, {})
    # 8,000 numbers: 4 standard errors.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), 1, atol=4 / np.sqrt(16_000))
