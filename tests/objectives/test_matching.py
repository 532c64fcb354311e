import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, objectives, score, sharding
from tests.draws import assert_mean
from tests.grids import diagonal, rest

D, S0, SIGMA = 4, 0.8, 0.5
V = S0**2 + SIGMA**2
N = 100_000
SLICED = ("sliced", "sliced_variance_reduced", "finite_difference")


def linear(c, x, sigma):
    """c times the exact score of N(0, S0^2 I) at noise sigma."""
    return -c * x / (S0**2 + sigma[:, None] ** 2)


ADDS_NOISE = ("denoising", "noise_conditional")
OBJECTIVES = ("explicit", "implicit", *SLICED, *ADDS_NOISE)


def objective_of(name, truth=lambda x, sigma: -x):
    """The objective of that name; `explicit` needs the true score."""
    return objectives.explicit(truth) if name == "explicit" else getattr(objectives, name)


# E of each at the exact score of a Gaussian, by hand. With s = -x / v and x ~ N(0, v I):
# |s|^2 has mean D / v and ds/dx = -I / v; and E|sigma s + n|^2 = D S0^2 / v.
MINIMA = {"explicit": 0.0} | dict.fromkeys(("implicit", *SLICED), -D / (2 * V))
MINIMA |= {"denoising": D * S0**2 / (2 * V * SIGMA**2), "noise_conditional": D * S0**2 / (2 * V)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_exact_score_reaches_the_closed_form_minimum(name):
    exact = functools.partial(linear, 1.0)
    width = S0 if name in ADDS_NOISE else math.sqrt(V)
    x = width * np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    loss = objective_of(name, exact)(exact, jax.random.key(1), jnp.asarray(x), jnp.full(N, SIGMA))
    # The largest standard error is sliced's: sqrt(2 / N) = 0.4 % of the value; the others have
    # sqrt(2 / (N D)) = 0.2 %. The seed is fixed.
    np.testing.assert_allclose(np.mean(loss, dtype=float), MINIMA[name], rtol=0.01, atol=1e-9)


# The two theorems, on a mixture and a family of nonlinear scores -----------------------------------

MIXTURE = mixtures.correlated(
    [0.4, 0.6], [[1.0, 0.5], [-1.0, 0.0]], [[[0.4, 0.2], [0.2, 0.3]], [[0.5, -0.1], [-0.1, 0.2]]]
)
TRUTH = functools.partial(mixtures.score, MIXTURE)
IDENTITIES = ("implicit", *SLICED, "denoising")
M, BLOCKS = 40_000, 40


def family(theta, x, sigma):
    """Two parameters, a nonlinearity, and a Jacobian that is neither diagonal nor symmetric."""
    turned = jnp.stack([x[:, 1], -x[:, 0] + x[:, 1]], axis=1)
    return theta[0] * jnp.tanh(turned) / (1 + sigma[:, None]) - theta[1] * x


@functools.partial(jax.jit, static_argnums=0)
def values_and_gradients(name, theta, key, x):
    """The M losses, and the gradient in theta of the mean of every block of them."""
    objective = objective_of(name, TRUTH)
    per_example = lambda theta: objective(functools.partial(family, theta), key, x, jnp.full(M, SIGMA))
    block_means = lambda theta: per_example(theta).reshape(BLOCKS, -1).mean(axis=1)
    return per_example(theta), jax.jacrev(block_means)(theta)


@functools.cache
def at_thetas(name):
    """`values_and_gradients` at three thetas."""
    key = 2 if name in ADDS_NOISE else 3
    x = mixtures.draw(jax.random.key(key), MIXTURE, M, sigma=0.0 if name in ADDS_NOISE else SIGMA)
    thetas = np.float32([(0.0, 0.0), (1.0, 0.5), (-0.5, 1.5)])
    both = [values_and_gradients(name, theta, jax.random.key(4), x) for theta in thetas]
    return [np.asarray(part, float) for part in zip(*both, strict=True)]


def assert_equal_means(a, b, n, axis):
    """Two means of n agree to 4 standard errors, which are known to be small."""
    # The draws of the two may differ, so the errors add.
    error = np.sqrt((a.var(axis=axis) + b.var(axis=axis)) / n)
    assert (np.abs(a.mean(axis=axis) - b.mean(axis=axis)) < 4 * error).all()
    assert (error < 0.05 * np.abs(a.mean(axis=axis)) + 0.05).all()  # or the line above says nothing


@pytest.mark.parametrize("name", IDENTITIES)
def test_differs_from_explicit_by_a_constant(name):
    """Hyvarinen's and Vincent's theorems: what a change of theta adds is the same for both."""
    rises = [values[1:] - values[0] for values, _ in map(at_thetas, ("explicit", name))]
    assert_equal_means(*rises, M, axis=1)


@pytest.mark.parametrize("name", IDENTITIES)
def test_has_the_gradient_of_explicit_in_expectation(name):
    # Errors from the scatter of the blocks, which with 40 of them is itself known to 11 %.
    assert_equal_means(*(at_thetas(each)[1] for each in ("explicit", name)), BLOCKS, axis=1)


# The trace and its estimates ----------------------------------------------------------------------


def mixing(weights, x, sigma):
    """A nonlinear score for any event shape, in which every coordinate depends on every other."""
    flat = x.reshape(x.shape[0], -1)
    return (jnp.tanh(flat @ weights) / sigma[:, None]).reshape(x.shape)


def mixing_case(event, rows=3):
    rng = np.random.default_rng(0)
    size = math.prod(event)
    weights = jnp.asarray(rng.standard_normal((size, size)) / math.sqrt(size), jnp.float32)
    x = jnp.asarray(rng.standard_normal((rows, *event)), jnp.float32)
    return functools.partial(mixing, weights), x, jnp.linspace(0.5, 2.0, rows)


@pytest.mark.parametrize(
    ("event", "chunk"), [((2,), 1), ((4, 4, 1), 5), ((70,), 64), rest((2,), 64), rest((3, 2), 6)]
)
def test_implicit_has_the_exact_trace(event, chunk):
    candidate, x, sigma = mixing_case(event)

    def one_example(x, sigma):
        s = lambda flat: candidate(flat.reshape(1, *event), sigma[None]).ravel()
        return jnp.sum(s(x.ravel()) ** 2) / 2 + jnp.trace(jax.jacrev(s)(x.ravel()))

    ours = jax.jit(functools.partial(objectives.implicit, candidate, chunk=chunk))
    expected = jax.jit(jax.vmap(one_example))(x, sigma)
    # Sums of at most 70 float32 numbers of order 1.
    np.testing.assert_allclose(ours(jax.random.key(0), x, sigma), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("implicit", "chunk", 0), *((name, "probes", 0) for name in SLICED), ("finite_difference", "step", 0.0)],
)
def test_chunk_probes_and_step_must_be_positive(name, option, value):
    candidate, x, sigma = mixing_case((2,))
    with pytest.raises(ValueError, match=option):
        getattr(objectives, name)(candidate, jax.random.key(0), x, sigma, **{option: value})


def of_one_example(name, size, rows, **options):
    """The losses of one example many times over, where every row has its own probe, and their exact mean."""
    candidate, x, sigma = mixing_case((size,), rows=1)
    many = jnp.broadcast_to(x, (rows, size)), jnp.broadcast_to(sigma, (rows,))
    losses = jax.jit(functools.partial(getattr(objectives, name), candidate, **options))
    exact = objectives.implicit(candidate, jax.random.key(2), x, sigma)
    return np.asarray(losses(jax.random.key(1), *many), float), float(exact[0])


@pytest.mark.parametrize(("name", "draw"), diagonal(SLICED, [noise.rademacher, noise.normal, noise.sphere]))
def test_slices_average_to_the_trace(name, draw):
    values, exact = of_one_example(name, 3, 20_000, draw=draw)
    assert values.std() > 0.01
    assert_mean(values, exact)


def test_rademacher_slices_are_exact_on_a_diagonal_jacobian():
    # v' diag(a) v = sum a_i v_i^2 and v_i^2 = 1: no estimate is left.
    _, x, sigma = mixing_case((4, 4, 1))
    elementwise = lambda x, sigma: jnp.sin(x) / sigma[:, None, None, None]
    estimate = objectives.sliced_variance_reduced(elementwise, jax.random.key(0), x, sigma)
    exact = objectives.implicit(elementwise, jax.random.key(1), x, sigma)
    np.testing.assert_allclose(estimate, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SLICED)
def test_the_variance_falls_as_one_over_the_probes(name):
    one, eight = (np.var(of_one_example(name, 6, 10_000, probes=probes)[0]) for probes in (1, 8))
    # A variance of 10,000 numbers has a standard error of sqrt((kurtosis - 1) / 10^4), under 3 %.
    np.testing.assert_allclose(one / eight, 8, rtol=0.15)


def test_the_finite_difference_is_of_second_order():
    candidate, x, sigma = mixing_case((6,), rows=200)
    key = jax.random.key(1)
    exact = objectives.sliced_variance_reduced(candidate, key, x, sigma)
    difference = lambda step: objectives.finite_difference(candidate, key, x, sigma, step=step) - exact
    error = lambda step: float(jnp.abs(difference(step)).mean())
    # Halving h divides an O(h^2) error by 4; the next order, h^4 = 2e-4, and rounding are below.
    np.testing.assert_allclose(error(0.12) / error(0.06), 4, rtol=0.1)


def test_the_finite_difference_takes_a_step_for_each_example():
    candidate, x, sigma = mixing_case((6,), rows=3)
    losses = lambda step: objectives.finite_difference(candidate, jax.random.key(1), x, sigma, step=step)
    alone = [losses(step)[row] for row, step in enumerate([0.01, 0.1, 0.3])]
    np.testing.assert_allclose(losses(jnp.array([0.01, 0.1, 0.3])), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [7, rest(32)])
def test_a_chunked_trace_has_the_same_gradient_in_less_memory(chunk):
    _, x, sigma = mixing_case((32,), rows=64)
    weights = jnp.asarray(np.random.default_rng(1).standard_normal((32, 32)) / 6, jnp.float32)

    def loss(weights, chunk):
        candidate = functools.partial(mixing, weights)
        return objectives.implicit(candidate, jax.random.key(0), x, sigma, chunk=chunk).mean()

    compiled = {
        c: jax.jit(jax.grad(functools.partial(loss, chunk=c))).lower(weights).compile()
        for c in (4, chunk, 64)
    }
    # 32 terms of order 1 in float32, added in another order.
    np.testing.assert_allclose(compiled[chunk](weights), compiled[64](weights), rtol=1e-4, atol=1e-5)
    bytes_ = {c: compiled[c].memory_analysis().temp_size_in_bytes for c in (4, 64)}
    # An eighth of the basis at a time; what does not depend on it (x, s, ...) remains.
    assert bytes_[4] < 0.5 * bytes_[64]


# Adding the noise ----------------------------------------------------------------------------------


def test_the_defaults_are_ncsns_weight_and_vincents():
    candidate, x, sigma = mixing_case((2,))
    key = jax.random.key(0)
    base, weighed = objectives.denoising, objectives.noise_conditional
    losses = [objective(candidate, key, x, sigma) for objective in (base, weighed)]
    np.testing.assert_allclose(losses[1], sigma**2 * losses[0], rtol=1e-5)


def test_noise_conditional_stays_finite_at_tiny_sigma():
    x, sigma = jnp.ones((8, 2)), jnp.full(8, 1e-6)
    exact = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    loss = objectives.noise_conditional(exact, jax.random.key(0), x, sigma)
    assert jnp.isfinite(loss).all()


# What holds for every objective -------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_example_sees_another(name):
    candidate, x, sigma = mixing_case((3,), rows=5)
    losses = functools.partial(objective_of(name), candidate, jax.random.key(0))
    together = losses(x, sigma)
    others = losses(x.at[1:].multiply(-3.0), sigma.at[1:].multiply(2.0))
    alone = losses(x[:1], sigma[:1])
    assert together.shape == (5,)
    assert together[0] == others[0]
    assert not jnp.any(together[1:] == others[1:])
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("event", [(4, 4, 1), rest((2,))])
def test_one_loss_per_example_as_a_sum_over_the_event(name, event):
    # s = -x for a standard normal: every coordinate adds the same on average, so that the loss of a
    # larger event is the sum, not the mean, of its coordinates' losses.
    rows = 2000
    x = noise.normal(jax.random.key(0), (rows, *event))
    objective = objective_of(name, truth=lambda x, sigma: -2 * x)
    loss = objective(lambda x, sigma: -x, jax.random.key(1), x, jnp.ones(rows))
    assert loss.shape == (rows,)
    assert loss.dtype == jnp.float32
    # explicit |x|^2 / 2, denoising |x0|^2 / 2: 1/2 a coordinate; the others |x|^2 / 2 - D: -1/2.
    size = math.prod(event)
    expected = size / 2 if name in ("explicit", *ADDS_NOISE) else -size / 2
    np.testing.assert_allclose(loss.mean(), expected, rtol=0.2)  # 4 standard errors of `sliced`


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_bfloat16_network_gives_a_float32_loss(name):
    _, x, sigma = mixing_case((2,), rows=64)
    full = lambda params, x, c_noise: params * jnp.tanh(x + c_noise[:, None])
    half = lambda params, x, c_noise: full(params, x.astype(jnp.bfloat16), c_noise.astype(jnp.bfloat16))
    # A difference of values of 8 bits needs a step to match.
    options = {"finite_difference": {"step": 0.1}}.get(name, {})
    losses = functools.partial(objective_of(name), **options)
    candidates = [functools.partial(score.preconditioned(net, 0.5), 0.7) for net in (full, half)]
    exact, found = (losses(candidate, jax.random.key(0), x, sigma) for candidate in candidates)
    assert found.dtype == jnp.float32
    # bfloat16 keeps 8 bits, and the terms, of order 1 to 10, cancel in part.
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.2)


@pytest.mark.parametrize("name", ["implicit", "sliced", "finite_difference", "noise_conditional"])
def test_runs_under_jit_and_under_vmap_over_parameters(name):
    _, x, sigma = mixing_case((2,), rows=4)
    key = jax.random.key(0)
    loss = lambda c: objective_of(name)(lambda x, sigma: -c * jnp.tanh(x), key, x, sigma)
    cs = jnp.array([0.5, 1.0, 2.0])
    one_by_one = jnp.stack([loss(c) for c in cs])
    # 1e-5: float32 keeps 1e-7 of scores near 1, and the finite difference divides them by 0.02.
    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(cs), one_by_one, rtol=1e-5, atol=1e-5)


# Energies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_trains_an_energy_as_it_trains_a_field(name):
    # log q = -c |x|^2 / 2v is an energy whose score is the field of `linear`.
    log_density = lambda c: lambda x, sigma: -c * jnp.sum(x**2, axis=1) / (2 * (S0**2 + sigma**2))
    x, sigma, key = noise.normal(jax.random.key(0), (16, D)), jnp.full(16, SIGMA), jax.random.key(1)

    loss = lambda candidate: objective_of(name)(candidate, key, x, sigma).mean()
    field = lambda c: loss(functools.partial(linear, c))
    energy = lambda c: loss(score.from_log_density(log_density(c)))
    found, expected = (jax.jit(jax.value_and_grad(each))(1.3) for each in (energy, field))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


# Many devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["implicit", "sliced", "finite_difference", "noise_conditional"])
def test_losses_are_the_same_over_eight_devices(name):
    candidate, x, sigma = mixing_case((6,), rows=16)
    loss = jax.jit(lambda key, x, sigma: objective_of(name)(candidate, key, x, sigma))
    mesh = sharding.mesh()
    assert mesh.size == 8
    split = jax.device_put((x, sigma), sharding.batched(mesh))
    key = jax.random.key(0)
    over_all = loss(jax.device_put(key, sharding.replicated(mesh)), *split)
    assert over_all.sharding.is_equivalent_to(sharding.batched(mesh), 1)
    # The same sums, in float32, of which a compiler may change the order; a difference divides the
    # rounding by 2h = 0.02.
    atol = 1e-4 if name == "finite_difference" else 1e-5
    np.testing.assert_allclose(over_all, loss(jax.random.clone(key), x, sigma), rtol=1e-5, atol=atol)
