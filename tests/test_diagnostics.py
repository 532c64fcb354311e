import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import diagnostics, noise, objectives, score
from jaxscore.networks import MLP
from tests.grids import rest
from tests.networks import contract

# By noise level -----------------------------------------------------------------------------------


def test_by_sigma_is_a_histogram_of_the_loss():
    rng = np.random.default_rng(0)
    sigma, loss = rng.uniform(0, 4, 100).astype(np.float32), rng.standard_normal(100).astype(np.float32)
    edges = jnp.array([0.5, 1.0, 3.0])
    result = diagnostics.by_sigma(jnp.asarray(loss), jnp.asarray(sigma), edges)
    number = np.digitize(sigma, edges, right=True)
    np.testing.assert_array_equal(result["count"], np.bincount(number))
    np.testing.assert_allclose(result["total"], np.bincount(number, loss), rtol=1e-4, atol=1e-5)


# Gradient noise -----------------------------------------------------------------------------------


def regression(params, keys, x, sigma):
    """A loss whose gradients are known: 1/2 |params - x|^2 per example, weighted by sigma."""
    del keys
    return sigma * jnp.sum((params["w"][None] - x) ** 2, axis=1) / 2


def test_gradient_noise_is_the_scatter_of_the_examples_gradients():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((50, 3)), np.array([0.3, -1.0, 2.0])
    sigma = rng.uniform(0.1, 2.0, 50)
    edges = (0.5, 1.0, 5.0)
    single = lambda a: jnp.asarray(a, jnp.float32)
    found = jax.jit(functools.partial(diagnostics.gradient_noise, regression, edges=edges))(
        {"w": single(w)}, jax.random.key(0), single(x), single(sigma)
    )
    for k in range(3):
        member = np.digitize(sigma, edges, right=True) == k
        gradients = sigma[member, None] * (w - x[member])
        n, scatter = member.sum(), gradients.var(axis=0, ddof=1).sum()
        signal = np.sum(gradients.mean(axis=0) ** 2) - scatter / n
        figures = [found[name][k] for name in ("count", "noise", "signal")]
        np.testing.assert_allclose(figures, [n, scatter, signal], rtol=1e-4, atol=1e-5)
    assert found["count"][3] == 0
    assert np.isnan(found["noise"][3])


def test_gradient_noise_sees_the_objective_as_training_does():
    network = MLP(width=8, depth=1, embedding=8)
    x, sigma = contract.inputs((2,), rows=16)[0], jnp.linspace(0.2, 2.0, 16)
    params = contract.parameters(network, x, jnp.log(sigma))
    bound, key = score.preconditioned(network.apply, 0.5), jax.random.key(3)
    losses = lambda params, *others: objectives.noise_conditional(functools.partial(bound, params), *others)
    found = jax.jit(functools.partial(diagnostics.gradient_noise, losses, edges=(100.0,)))(
        params, key, x, sigma
    )
    whole = lambda params: losses(params, jax.random.clone(key), x, sigma).mean()
    value, gradient = jax.jit(jax.value_and_grad(whole))(params)
    # The same numbers as one batch draws: row i's noise belongs to row i.
    np.testing.assert_allclose(found["loss"][0], value, rtol=1e-5)
    square = optax.tree.norm(gradient, squared=True)
    np.testing.assert_allclose(found["signal"][0] + found["noise"][0] / 16, square, rtol=1e-3)


# The score as a field -----------------------------------------------------------------------------


def test_score_norm_is_one_where_noise_is_all_there_is():
    x = noise.normal(jax.random.key(0), (500, 8, 8, 1))
    sigma = jnp.full(500, 30.0)
    exact = lambda x, sigma: -x / (0.1**2 + sigma[:, None, None, None] ** 2)
    norm = diagnostics.score_norm(exact, 30.0 * x, sigma)
    assert norm.shape == (500,)
    # A chi distribution of 64 degrees: mean 1 - 1/256, its mean over 500 known to 0.09 / 22.
    np.testing.assert_allclose(norm.mean(), 1 - 1 / 256, atol=0.015)
    np.testing.assert_allclose(norm[7], jnp.linalg.norm(x[7]) / 8, rtol=1e-4)


@pytest.mark.parametrize("rotation", [0.0, 0.5, 3.0])
def test_asymmetry_is_the_share_of_the_rotation(rotation):
    matrix = np.array([[1.0, rotation + 0.2], [0.2 - rotation, -2.0]])
    expected = np.linalg.norm(matrix - matrix.T) / 2 / np.linalg.norm(matrix)
    field = lambda x, sigma: x @ jnp.asarray(matrix.T, jnp.float32)
    x = jnp.ones((400, 2))
    found = diagnostics.asymmetry(field, jax.random.key(0), x, jnp.ones(400), probes=32)
    # |Jv|^2 has off-diagonal terms of either sign, up to its own size: 1 / sqrt(32) in each row.
    np.testing.assert_allclose(found.mean(), expected, rtol=0.05, atol=1e-6)


def field(network, params):
    """The network as a score."""
    return functools.partial(score.preconditioned(network.apply, 0.5), params)


def energy(network, params):
    """The score of the network's energy."""
    log_density = score.preconditioned_log_density(network.apply, 0.5)
    return score.from_log_density(functools.partial(log_density, params))


def test_a_gradient_field_is_symmetric_and_a_network_is_not():
    """This holds for events of any shape."""
    x, sigma = noise.normal(jax.random.key(0), (4, 3, 3, 1)), jnp.linspace(0.5, 2.0, 4)
    network = MLP(width=16, depth=1, embedding=16)
    params = contract.parameters(network, x, jnp.log(sigma))
    of = jax.jit(lambda s, key: diagnostics.asymmetry(s, key, x, sigma), static_argnums=0)
    assert of(energy(network, params), jax.random.key(1)).max() < 1e-5
    assert of(field(network, params), jax.random.key(2)).min() > 0.02
    with pytest.raises(ValueError, match="probes"):
        diagnostics.asymmetry(field(network, params), jax.random.key(3), x, sigma, probes=0)


KINKED = [(nn.relu, True), (nn.leaky_relu, True), (nn.silu, False), (nn.softplus, False)]
CASES = [(energy, *case) for case in KINKED] + [rest(field, *case) for case in KINKED]
# An energy's score has one derivative less, and ELU's kinks are then in the slope.
CASES.append((field, nn.elu, False))


@pytest.mark.parametrize(("make", "activation", "expected"), CASES)
def test_kinked_finds_the_networks_that_a_trace_cannot_train(make, activation, expected):
    network = MLP(width=32, depth=1, embedding=16, activation=activation)
    x, c_noise = contract.inputs((2,), rows=64)
    candidate = make(network, contract.parameters(network, x, c_noise))
    found = jax.jit(functools.partial(diagnostics.kinked, candidate))(jax.random.key(0), x, jnp.full(64, 0.5))
    assert bool(found) is expected


def test_a_linear_score_has_no_kinks():
    exact = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    x = noise.normal(jax.random.key(0), (16, 2))
    assert not diagnostics.kinked(exact, jax.random.key(1), x, jnp.full(16, 0.5))
