"""Sampling with the exact function of a Gaussian, and the choice of the objective."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.families import consistency
from tests.experiments.families import small


def exact(params, u, c_noise, *rest, **options):
    """The network of f(x, sigma) = x sqrt((1 + m^2) / (1 + sigma^2)), m = 0.02; u = x / sqrt(1 + sigma^2)."""
    sigma = jnp.exp(4 * c_noise)[:, None]
    root = jnp.sqrt(1 + sigma**2)
    ratio = jnp.sqrt(1 + 0.02**2) / root
    return (ratio - 1 / ((sigma - 0.02) ** 2 + 1)) * root / ((sigma - 0.02) / root) * u


@pytest.mark.parametrize("label", ["one step", "two steps"])
def test_the_exact_function_samples_a_gaussian_like_the_data(label, monkeypatch):
    network = SimpleNamespace(init=lambda *a: {}, apply=exact)
    monkeypatch.setattr(consistency.family, "score_network", lambda *a: network)
    experiment = consistency.build(small.config("consistency"))
    x = small.scaled_samples(experiment, label, {})
    # 8,000 numbers: 4 standard errors.
    np.testing.assert_allclose(np.mean(x), 0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(np.std(x), 1, atol=4 / np.sqrt(16_000))


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "training"),
        ({"source": "teacher"}, "distillation"),
        ({"continuous": True}, "continuous"),
        ({"source": "teacher", "continuous": True}, "continuous"),
    ],
)
def test_the_flags_choose_the_objective(flags, name):
    objective = consistency.objective_of(small.config("consistency", **flags), lambda x, sigma: x, 0)
    assert objective.__qualname__.split(".")[0] == name
