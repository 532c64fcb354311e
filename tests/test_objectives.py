import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise, objectives, score, sharding

D, S0, SIGMA = 4, 0.8, 0.5
V = S0**2 + SIGMA**2
N = 100_000


def linear(c, x, sigma):
    """c times the exact score of N(0, S0^2 I) at noise sigma."""
    return -c * x / (S0**2 + sigma[:, None] ** 2)


OBJECTIVES = {
    "explicit": objectives.explicit(functools.partial(linear, 1.0)),
    "implicit": objectives.implicit,
    "sliced": objectives.sliced,
    "sliced_variance_reduced": objectives.sliced_variance_reduced,
    "finite_difference": objectives.finite_difference,
    "denoising": objectives.denoising,
    "noise_conditional": objectives.noise_conditional,
}
ADDS_NOISE = ("denoising", "noise_conditional")

# E of each at the exact score of a Gaussian, by hand. With s = -x / v and x ~ N(0, v I):
# |s|^2 has mean D / v and ds/dx = -I / v; and E|sigma s + n|^2 = D S0^2 / v.
MINIMA = {
    "explicit": 0.0,
    "implicit": -D / (2 * V),
    "sliced": -D / (2 * V),
    "sliced_variance_reduced": -D / (2 * V),
    "finite_difference": -D / (2 * V),
    "denoising": D * S0**2 / (2 * V * SIGMA**2),
    "noise_conditional": D * S0**2 / (2 * V),
}


@jax.jit
def losses_at(c, key, clean, noisy):
    sigma = jnp.full(N, SIGMA)
    candidate = functools.partial(linear, c)
    return {
        name: objective(candidate, key, clean if name in ADDS_NOISE else noisy, sigma)
        for name, objective in OBJECTIVES.items()
    }


@pytest.fixture(scope="module")
def losses():
    """c -> the N losses of every objective at c times the exact score, on the same draws."""
    normals = np.random.default_rng(0).standard_normal((2, N, D)).astype(np.float32)
    clean, noisy = jnp.asarray(S0 * normals[0]), jnp.asarray(math.sqrt(V) * normals[1])
    key = jax.random.key(1)
    return {
        c: {k: np.asarray(v, float) for k, v in losses_at(c, key, clean, noisy).items()}
        for c in (0.9, 1.0, 1.1)
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_exact_score_reaches_the_closed_form_minimum(losses, name):
    # The largest standard error is sliced's: sqrt(2 / N) = 0.4 % of the value; the others have
    # sqrt(2 / (N D)) = 0.2 %. The seed is fixed.
    assert losses[1.0][name].shape == (N,)
    np.testing.assert_allclose(losses[1.0][name].mean(), MINIMA[name], rtol=0.01, atol=1e-9)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("c", [0.9, 1.1])
def test_a_scaled_score_costs_what_the_explicit_objective_says(losses, name, c):
    # explicit(c) = (c - 1)^2 D / (2 v), and all differ from it by constants: all rise by as much.
    rise = losses[c][name] - losses[1.0][name]
    weight = SIGMA**2 if name == "noise_conditional" else 1.0
    error = rise.std() / math.sqrt(N)
    assert abs(rise.mean() - weight * (c - 1) ** 2 * D / (2 * V)) < 4 * error + 1e-7
    assert rise.mean() > 3 * error


# The two theorems, on a mixture and a family of nonlinear scores -----------------------------------

MIXTURE = mixtures.correlated(
    [0.4, 0.6], [[1.0, 0.5], [-1.0, 0.0]], [[[0.4, 0.2], [0.2, 0.3]], [[0.5, -0.1], [-0.1, 0.2]]]
)
TRUTH = functools.partial(mixtures.score, MIXTURE)
IDENTITIES = {name: OBJECTIVES[name] for name in OBJECTIVES if name not in ("explicit", "noise_conditional")}
M, BLOCKS = 40_000, 40


def family(theta, x, sigma):
    """Two parameters, a nonlinearity, and a Jacobian that is neither diagonal nor symmetric."""
    turned = jnp.stack([x[:, 1], -x[:, 0] + x[:, 1]], axis=1)
    return theta[0] * jnp.tanh(turned) / (1 + sigma[:, None]) - theta[1] * x


@functools.partial(jax.jit, static_argnums=0)
def values_and_gradients(name, theta, key, x):
    """The M losses, and the gradient in theta of the mean of every block of them."""
    objective = objectives.explicit(TRUTH) if name == "explicit" else OBJECTIVES[name]
    per_example = lambda theta: objective(functools.partial(family, theta), key, x, jnp.full(M, SIGMA))
    block_means = lambda theta: per_example(theta).reshape(BLOCKS, -1).mean(axis=1)
    return per_example(theta), jax.jacrev(block_means)(theta)


@pytest.fixture(scope="module")
def theorems():
    clean = mixtures.draw(jax.random.key(2), MIXTURE, M)
    noisy = mixtures.draw(jax.random.key(3), MIXTURE, M, sigma=SIGMA)
    key = jax.random.key(4)
    thetas = [(0.0, 0.0), (1.0, 0.5), (-0.5, 1.5)]
    result = {}
    for name in ("explicit", *IDENTITIES):
        x = clean if name in ADDS_NOISE else noisy
        both = [values_and_gradients(name, jnp.asarray(theta), key, x) for theta in thetas]
        result[name] = [(np.asarray(value, float), np.asarray(slope, float)) for value, slope in both]
    return result


@pytest.mark.parametrize("name", IDENTITIES)
def test_differs_from_explicit_by_a_constant(theorems, name):
    """Hyvarinen's and Vincent's theorems: what a change of theta adds is the same for both."""
    (start_a, _), *rest_a = theorems["explicit"]
    (start_b, _), *rest_b = theorems[name]
    for (a, _), (b, _) in zip(rest_a, rest_b, strict=True):
        rise_a, rise_b = a - start_a, b - start_b
        # The draws of the two may differ, so the errors add; 4 standard errors.
        error = math.sqrt((rise_a.var() + rise_b.var()) / M)
        assert abs(rise_a.mean() - rise_b.mean()) < 4 * error
        assert error < 0.05 * abs(rise_a.mean()) + 0.05  # or the line above says nothing


@pytest.mark.parametrize("name", IDENTITIES)
def test_has_the_gradient_of_explicit_in_expectation(theorems, name):
    for (_, a), (_, b) in zip(theorems["explicit"], theorems[name], strict=True):
        # Errors from the scatter of the blocks, which with 40 of them is itself known to 11 %.
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / BLOCKS)
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 4 * error)
        assert np.all(error < 0.05 * np.abs(a.mean(axis=0)) + 0.05)


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
    ("event", "chunk"), [((2,), 64), ((2,), 1), ((4, 4, 1), 5), ((3, 2), 6), ((70,), 64)]
)
def test_implicit_has_the_exact_trace(event, chunk):
    candidate, x, sigma = mixing_case(event)

    def one_example(x, sigma):
        size = math.prod(event)
        jacobian = jax.jacrev(lambda x: candidate(x[None], sigma[None])[0])(x).reshape(size, size)
        s = candidate(x[None], sigma[None])
        return jnp.sum(s**2) / 2 + jnp.trace(jacobian)

    ours = objectives.implicit(candidate, jax.random.key(0), x, sigma, chunk=chunk)
    # Sums of at most 70 float32 numbers of order 1.
    np.testing.assert_allclose(ours, jax.vmap(one_example)(x, sigma), rtol=1e-5, atol=1e-5)


def test_chunk_and_probes_must_be_positive():
    candidate, x, sigma = mixing_case((2,))
    with pytest.raises(ValueError, match="chunk"):
        objectives.implicit(candidate, jax.random.key(0), x, sigma, chunk=0)
    for objective in SLICES:
        with pytest.raises(ValueError, match="probes"):
            objective(candidate, jax.random.key(0), x, sigma, probes=0)


SLICES = [objectives.sliced, objectives.sliced_variance_reduced, objectives.finite_difference]


@pytest.mark.parametrize("draw", [noise.rademacher, noise.normal, noise.sphere])
@pytest.mark.parametrize("objective", SLICES)
def test_slices_average_to_the_trace(objective, draw):
    # One example many times over: every row has its own probe.
    candidate, x, sigma = mixing_case((3,), rows=1)
    rows = 20_000
    many = jnp.broadcast_to(x, (rows, 3)), jnp.broadcast_to(sigma, (rows,))
    values = jax.jit(functools.partial(objective, candidate, draw=draw))(jax.random.key(1), *many)
    values = np.asarray(values, float)
    exact = objectives.implicit(candidate, jax.random.key(2), x, sigma)
    assert values.std() > 0.01
    assert abs(values.mean() - float(exact[0])) < 4 * values.std() / math.sqrt(rows)


def test_rademacher_slices_are_exact_on_a_diagonal_jacobian():
    # v' diag(a) v = sum a_i v_i^2 and v_i^2 = 1: no estimate is left.
    _, x, sigma = mixing_case((4, 4, 1))
    elementwise = lambda x, sigma: jnp.sin(x) / sigma[:, None, None, None]
    estimate = objectives.sliced_variance_reduced(elementwise, jax.random.key(0), x, sigma)
    exact = objectives.implicit(elementwise, jax.random.key(1), x, sigma)
    np.testing.assert_allclose(estimate, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", SLICES)
def test_the_variance_falls_as_one_over_the_probes(objective):
    candidate, x, sigma = mixing_case((6,), rows=1)
    rows = 10_000
    many = jnp.broadcast_to(x, (rows, 6)), jnp.broadcast_to(sigma, (rows,))
    variance = {}
    for probes in (1, 8):
        jitted = jax.jit(functools.partial(objective, candidate, probes=probes))
        variance[probes] = np.var(np.asarray(jitted(jax.random.key(1), *many), float))
    # A variance of 10,000 numbers has a standard error of sqrt((kurtosis - 1) / 10^4), under 3 %.
    np.testing.assert_allclose(variance[1] / variance[8], 8, rtol=0.15)


def test_the_finite_difference_is_of_second_order():
    candidate, x, sigma = mixing_case((6,), rows=200)
    key = jax.random.key(1)
    exact = objectives.sliced_variance_reduced(candidate, key, x, sigma)
    error = lambda step: float(
        jnp.abs(objectives.finite_difference(candidate, key, x, sigma, step=step) - exact).mean()
    )
    # Halving h divides an O(h^2) error by 4; the next order, h^4 = 2e-4, and rounding are below.
    np.testing.assert_allclose(error(0.12) / error(0.06), 4, rtol=0.1)


def test_the_finite_difference_takes_a_step_for_each_example():
    candidate, x, sigma = mixing_case((6,), rows=3)
    key, steps = jax.random.key(1), jnp.array([0.01, 0.1, 0.3])
    together = objectives.finite_difference(candidate, key, x, sigma, step=steps)
    for row, step in enumerate([0.01, 0.1, 0.3]):
        alone = objectives.finite_difference(candidate, key, x, sigma, step=step)
        np.testing.assert_allclose(together[row], alone[row], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="step"):
        objectives.finite_difference(candidate, key, x, sigma, step=0.0)


@pytest.mark.parametrize("chunk", [7, 32])
def test_a_chunked_trace_has_the_same_gradient_in_less_memory(chunk):
    event, rows = (32,), 64
    _, x, sigma = mixing_case(event, rows=rows)
    rng = np.random.default_rng(1)
    weights = jnp.asarray(rng.standard_normal((32, 32)) / 6, jnp.float32)

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


# Weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "of_denoiser_error"),
    [
        (objectives.one, lambda sigma: 1 / sigma**4),
        (objectives.sigma_squared, lambda sigma: 1 / sigma**2),
        (objectives.edm(0.5), lambda sigma: (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2),
    ],
)
def test_weights_are_those_of_the_papers_on_the_denoisers_error(weight, of_denoiser_error):
    # For a denoiser D that is constant, sigma s + n = (D - x0) / sigma: the noise drops out.
    clean, sigma = jnp.array([[1.0, -2.0], [0.5, 0.5], [3.0, 0.0]]), jnp.array([0.05, 0.7, 30.0])
    guess = jnp.array([[0.2, 0.1]])
    constant = score.from_denoiser(lambda x, sigma: jnp.broadcast_to(guess, x.shape))
    loss = objectives.noise_conditional(constant, jax.random.key(0), clean, sigma, weight=weight)
    expected = (
        of_denoiser_error(np.asarray(sigma, float)) * np.sum((np.asarray(clean) - guess) ** 2, axis=1) / 2
    )
    # Here, too, (D - x) cancels against n: 6e-8 sigma / |D - x0| at the largest sigma is 1e-6.
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_the_defaults_are_ncsns_weight_and_vincents():
    candidate, x, sigma = mixing_case((2,))
    key = jax.random.key(0)
    base = objectives.denoising(candidate, key, x, sigma)
    np.testing.assert_allclose(
        objectives.noise_conditional(candidate, key, x, sigma), sigma**2 * base, rtol=1e-5
    )


def test_edm_gives_the_networks_output_unit_weight():
    # With `preconditioned`, the weighted loss is |F - target|^2 / 2: sigma enters no other way.
    # So shifting F by 1 in each of D coordinates, around F = target, costs D / 2 at every sigma.
    clean, sigma = jnp.zeros((4, 2)), jnp.array([0.01, 0.3, 3.0, 80.0])
    key, sigma_data = jax.random.key(0), 0.5
    loss = lambda shift: objectives.noise_conditional(
        functools.partial(score.preconditioned(lambda p, x, c: jnp.full_like(x, p), sigma_data), shift),
        key,
        clean,
        sigma,
        weight=objectives.edm(sigma_data),
    )
    curvature = loss(1.0) + loss(-1.0) - 2 * loss(0.0)
    np.testing.assert_allclose(curvature, 2.0, rtol=1e-3)


def test_edm_refuses_a_scale_that_is_not_positive():
    with pytest.raises(ValueError, match="sigma_data"):
        objectives.edm(0.0)


def test_noise_conditional_stays_finite_at_tiny_sigma():
    x, sigma = jnp.ones((8, 2)), jnp.full(8, 1e-6)
    exact = lambda x, sigma: -x / (1 + sigma[:, None] ** 2)
    loss = objectives.noise_conditional(exact, jax.random.key(0), x, sigma)
    assert jnp.isfinite(loss).all()


# What holds for every objective -------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_example_sees_another(name):
    candidate, x, sigma = mixing_case((3,), rows=5)
    objective = objectives.explicit(lambda x, sigma: -x) if name == "explicit" else OBJECTIVES[name]
    key = jax.random.key(0)
    together = objective(candidate, key, x, sigma)
    others = objective(candidate, key, x.at[1:].multiply(-3.0), sigma.at[1:].multiply(2.0))
    alone = objective(candidate, key, x[:1], sigma[:1])
    assert together.shape == (5,)
    assert together[0] == others[0]
    assert not jnp.any(together[1:] == others[1:])
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("event", [(2,), (4, 4, 1)])
def test_one_loss_per_example_as_a_sum_over_the_event(name, event):
    # s = -x for a standard normal: every coordinate adds the same on average, so that the loss of a
    # larger event is the sum, not the mean, of its coordinates' losses.
    rows = 2000
    x = noise.normal(jax.random.key(0), (rows, *event))
    truth = lambda x, sigma: -2 * x
    objective = objectives.explicit(truth) if name == "explicit" else OBJECTIVES[name]
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
    objective = objectives.explicit(lambda x, sigma: -x) if name == "explicit" else OBJECTIVES[name]
    full = lambda params, x, c_noise: params * jnp.tanh(x + c_noise[:, None])
    half = lambda params, x, c_noise: full(params, x.astype(jnp.bfloat16), c_noise.astype(jnp.bfloat16))
    key, losses = jax.random.key(0), {}
    if name == "finite_difference":  # a difference of values of 8 bits needs a step to match
        objective = functools.partial(objective, step=0.1)
    for label, net in {"full": full, "half": half}.items():
        candidate = functools.partial(score.preconditioned(net, 0.5), 0.7)
        losses[label] = objective(candidate, key, x, sigma)
    assert losses["half"].dtype == jnp.float32
    # bfloat16 keeps 8 bits, and the terms, of order 1 to 10, cancel in part.
    np.testing.assert_allclose(losses["half"], losses["full"], rtol=0.1, atol=0.2)


@pytest.mark.parametrize("name", ["implicit", "sliced", "finite_difference", "noise_conditional"])
def test_runs_under_jit_and_under_vmap_over_parameters(name):
    _, x, sigma = mixing_case((2,), rows=4)
    key = jax.random.key(0)
    loss = lambda c: OBJECTIVES[name](lambda x, sigma: -c * jnp.tanh(x), key, x, sigma)
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

    def value(make, c):
        return OBJECTIVES[name](make(c), key, x, sigma).mean()

    field = jax.value_and_grad(functools.partial(value, lambda c: functools.partial(linear, c)))(1.3)
    energy = jax.value_and_grad(functools.partial(value, lambda c: score.from_log_density(log_density(c))))(
        1.3
    )
    np.testing.assert_allclose(energy, field, rtol=1e-4)


# The likelihood -----------------------------------------------------------------------------------

LOW, HIGH = 0.1, 10.0


def divergence(a, b, sigma):
    """KL(N(0, a^2 + sigma^2) | N(0, b^2 + sigma^2)) of one dimension, in nats."""
    ratio = (a**2 + sigma**2) / (b**2 + sigma**2)
    return (ratio - 1 - math.log(ratio)) / 2


@pytest.fixture(scope="module")
def likelihood_losses():
    """Per schedule, the weighted losses at a wrong Gaussian score minus those at the right one."""
    a, b, n = 1.0, 2.0, 200_000
    schedules = {
        "geometric": noise.geometric(LOW, HIGH),
        "karras": noise.karras(LOW, HIGH),
        "uniform": lambda u: LOW + (HIGH - LOW) * u,
    }

    @functools.partial(jax.jit, static_argnums=0)
    def losses(name):
        x = a * noise.normal(jax.random.key(0), (n, 1))
        u = noise.stratified(jax.random.key(1), n)
        sigma = schedules[name](u)
        weight = objectives.likelihood(noise.density(schedules[name], u))
        model = lambda c: lambda x, sigma: -x / (c**2 + sigma[:, None] ** 2)
        one = lambda c: objectives.noise_conditional(model(c), jax.random.key(2), x, sigma, weight=weight)
        return one(b), one(a)

    return {name: [np.asarray(part, float) for part in losses(name)] for name in schedules}


@pytest.mark.parametrize("name", ["geometric", "karras", "uniform"])
def test_likelihood_weighting_is_the_divergence(likelihood_losses, name):
    """This holds whatever sigma is drawn from."""
    # Song, Durkan et al. 2021, theorem 1, is an equality for scores of a diffused density.
    wrong, right = likelihood_losses[name]
    gap = wrong - right
    expected = divergence(1.0, 2.0, LOW) - divergence(1.0, 2.0, HIGH)
    error = gap.std() / math.sqrt(len(gap))
    assert error < 0.03 * expected
    assert abs(gap.mean() - expected) < 4 * error


def test_sigma_uniform_in_its_logarithm_has_the_least_variance(likelihood_losses):
    spread = {name: wrong.std() for name, (wrong, _) in likelihood_losses.items()}
    assert spread["geometric"] < 0.95 * min(spread["uniform"], spread["karras"])


def test_likelihood_weighting_of_uniform_ln_sigma_is_its_square():
    u = jnp.linspace(0.1, 0.9, 5)
    schedule = noise.geometric(LOW, HIGH)
    weight = objectives.likelihood(noise.density(schedule, u))(schedule(u))
    np.testing.assert_allclose(weight, 2 * schedule(u) ** 2 * math.log(HIGH / LOW), rtol=1e-5)


# Many devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["implicit", "sliced", "finite_difference", "noise_conditional"])
def test_losses_are_the_same_over_eight_devices(name):
    candidate, x, sigma = mixing_case((6,), rows=16)
    loss = jax.jit(lambda key, x, sigma: OBJECTIVES[name](candidate, key, x, sigma))
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


# Over noise levels --------------------------------------------------------------------------------


def gaussian_score(x, sigma):
    return -x / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize("weight", [None, objectives.edm(0.5)])
def test_over_levels_draws_sigma_and_weighs(weight):
    schedule, x = noise.lognormal(-1.2, 1.2), jax.random.normal(jax.random.key(3), (64, 2))
    losses = objectives.over_levels(objectives.noise_conditional, schedule, weight=weight)
    found, sigma = losses(gaussian_score, jax.random.key(0), x, with_sigma=True)
    key_sigma, key_noise = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(sigma, schedule(noise.stratified(key_sigma, 64)))
    options = {} if weight is None else {"weight": weight}
    expected = objectives.noise_conditional(gaussian_score, key_noise, x, sigma, **options)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(losses(gaussian_score, jax.random.key(0), x), found)


def test_over_levels_multiplies_the_loss_of_other_objectives():
    schedule, x = noise.geometric(0.1, 1.0), jax.random.normal(jax.random.key(3), (16, 2))
    plain = objectives.over_levels(objectives.implicit, schedule)
    weighed = objectives.over_levels(objectives.implicit, schedule, weight=objectives.sigma_squared)
    found, sigma = weighed(gaussian_score, jax.random.key(0), x, with_sigma=True)
    np.testing.assert_allclose(found, sigma**2 * plain(gaussian_score, jax.random.key(0), x), rtol=1e-6)


def test_levels_that_are_given_are_met_equally_often():
    sigmas = jnp.array([5.0, 1.0, 0.1])
    drawn = noise.uniform_over(sigmas)(noise.stratified(jax.random.key(0), 300))
    # An offset on the edge of a third may fall to either side.
    assert all(99 <= int((drawn == sigma).sum()) <= 101 for sigma in sigmas)
    np.testing.assert_array_equal(
        noise.uniform_over(sigmas)(jnp.array([0.0, 1.0])), sigmas[jnp.array([0, 2])]
    )
