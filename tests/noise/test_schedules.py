import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxscore import noise

BOUNDED = {
    "geometric": noise.geometric(0.01, 50.0),
    "karras": noise.karras(0.002, 80.0),
    "karras, rho = 1": noise.karras(0.002, 80.0, rho=1.0),
    "vp_linear": noise.vp_linear(),
    "sub_vp_linear": noise.sub_vp_linear(),
    "cosine": noise.cosine(),
    "flow": noise.flow(shift=3.0),
}
SCHEDULES = BOUNDED | {"lognormal": noise.lognormal(-1.2, 1.2)}

# Schedules are float32 powers, exponentials and sines of a few roundings each (6e-8): 1e-5 is loose
# enough for rho = 7, which multiplies a relative error by 7, and far below any change of formula.
RTOL = 1e-5


# Schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_increasing_and_positive(name):
    sigma = np.asarray(SCHEDULES[name](jnp.linspace(1e-3, 1 - 1e-3, 1000)))
    assert np.all(np.diff(sigma) > 0)
    assert np.all(sigma > 0)


def test_geometric_gives_the_ten_levels_of_ncsn():
    sigmas = np.asarray(noise.levels(noise.geometric(0.01, 1.0), 10))[:-1]
    np.testing.assert_allclose(sigmas, np.geomspace(1.0, 0.01, 10), rtol=RTOL)


def test_karras_gives_the_grid_of_edm():
    # Equation 5 of the paper, as it is printed there, with N = 18.
    i, n, rho = np.arange(18), 18, 7
    paper = (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    sigmas = noise.levels(noise.karras(0.002, 80.0), 18)
    np.testing.assert_allclose(sigmas, np.append(paper, 0.0), rtol=RTOL)


def test_lognormal_has_the_quantiles_of_scipy():
    u = np.linspace(0.001, 0.999, 101)
    quantiles = scipy.stats.lognorm(s=1.2, scale=np.exp(-1.2)).ppf(u)
    # ndtri in float32 is good to a few 1e-6 in the tails, and std multiplies it.
    np.testing.assert_allclose(noise.lognormal(-1.2, 1.2)(jnp.asarray(u, jnp.float32)), quantiles, rtol=5e-5)


def test_vp_linear_is_the_integral_of_beta():
    beta = lambda t: 0.1 + t * (20.0 - 0.1)
    u = np.array([0.0, 0.1, 0.5, 1.0], np.float32)
    integrals = [scipy.integrate.quad(beta, 0, t)[0] for t in 1e-3 + u * (1 - 1e-3)]
    # alpha^2 = exp(-integral), and sigma^2 = (1 - alpha^2) / alpha^2.
    np.testing.assert_allclose(noise.vp_linear()(jnp.asarray(u)), np.sqrt(np.expm1(integrals)), rtol=RTOL)


def test_sub_vp_linear_has_the_square_of_the_noise_of_vp():
    """Its noise 1 - alpha^2 is the square of the VP process's (Song et al. 2021, equation 29)."""
    u = jnp.linspace(0, 1, 11)
    vp = np.asarray(noise.vp_linear()(u), float)
    alpha2 = 1 / (1 + vp**2)
    np.testing.assert_allclose(noise.sub_vp_linear()(u), (1 - alpha2) / np.sqrt(alpha2), rtol=2e-5)


def test_lognormal_levels_are_logit_normal_times():
    u = jnp.linspace(0.01, 0.99, 9)
    sigma = noise.lognormal(0.3, 0.8)(u)
    times = scipy.special.expit(0.3 + 0.8 * scipy.stats.norm.ppf(np.asarray(u, float)))
    np.testing.assert_allclose(sigma / (1 + sigma), times, rtol=1e-5)


def test_flow_has_the_shifted_times_of_diffusers():
    """FlowMatchEulerDiscreteScheduler with shift 3 and ten steps; time 1 is infinite noise here."""
    shifted = np.array([0.96012931, 0.91334895, 0.85769231, 0.79036827, 0.70727848, 0.60215054])
    times = np.linspace(1.0, 0.003 / 1.002, 10)[1:7]  # its last one is the shifted 0.001
    found = noise.flow(shift=3.0, t_min=1e-6, t_max=1 - 1e-6)(jnp.asarray((times - 1e-6) / (1 - 2e-6)))
    np.testing.assert_allclose(found / (1 + found), shifted, rtol=1e-5)


def test_cosine_is_the_formula_of_the_paper():
    u = np.linspace(0, 1, 101)
    t = 1e-3 + u * (0.999 - 1e-3)
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    expected = np.sqrt(f(0.0) / f(t) - 1)
    # u itself is rounded to float32, and near t = 1 sigma is 1 / (1 - t): the rounding of t, 6e-8,
    # over the distance to the pole, 1e-3, is 6e-5.
    np.testing.assert_allclose(noise.cosine()(jnp.asarray(u, jnp.float32)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: noise.geometric(0.0, 1.0),
        lambda: noise.geometric(2.0, 1.0),
        lambda: noise.geometric(1.0, 1.0),
        lambda: noise.karras(-1.0, 1.0),
        lambda: noise.karras(0.1, 1.0, rho=0.0),
        lambda: noise.lognormal(0.0, 0.0),
        lambda: noise.vp_linear(beta_min=0.0),
        lambda: noise.vp_linear(beta_min=2.0, beta_max=1.0),
        lambda: noise.vp_linear(t_min=0.0),
        lambda: noise.vp_linear(t_min=1.0),
        lambda: noise.cosine(offset=-0.1),
        lambda: noise.cosine(t_min=0.0),
        lambda: noise.cosine(t_min=0.9, t_max=0.1),
        lambda: noise.cosine(t_max=1.0),
        lambda: noise.flow(shift=0.0),
        lambda: noise.flow(t_max=1.0),
        lambda: noise.geometric(0.1, np.inf),
        lambda: noise.geometric(np.nan, 1.0),
        lambda: noise.karras(0.1, 1.0, rho=np.nan),
        lambda: noise.lognormal(np.nan, 1.0),
        lambda: noise.lognormal(0.0, np.inf),
        lambda: noise.vp_linear(beta_max=np.inf),
        lambda: noise.cosine(offset=np.nan),
        lambda: noise.levels(noise.geometric(0.1, 1.0), 1),
        lambda: noise.levels(noise.lognormal(-1.2, 1.2), 5),
        lambda: noise.levels(lambda u: 1.0 - u, 5),
    ],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(ValueError, match=r"\d|nan"):
        make()


# Levels and strata ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOUNDED)
def test_levels_fall_from_the_largest_to_the_smallest_to_zero(name):
    schedule = BOUNDED[name]
    sigmas = noise.levels(schedule, 7)
    assert (sigmas.shape, sigmas[-1]) == ((8,), 0)
    assert np.all(np.diff(sigmas) < 0)
    np.testing.assert_allclose(sigmas[jnp.array([0, -2])], schedule(jnp.array([1.0, 0.0])), rtol=RTOL)


@pytest.mark.parametrize("n", [1, 7, 64])
def test_stratified_puts_one_in_each_stratum(n):
    for seed in range(3):
        u = np.asarray(noise.stratified(jax.random.key(seed), n), float)
        assert sorted(np.floor(u * n).astype(int)) == list(range(n))
        # The same offset in each, and so a spacing of exactly 1/n (to the rounding of u * n).
        np.testing.assert_allclose(np.diff(np.sort(u)), 1 / n, atol=1e-6)


def test_each_stratified_number_is_uniform_by_itself():
    draws = jax.vmap(lambda key: noise.stratified(key, 8))(jax.random.split(jax.random.key(0), 4000))
    for place in (0, 5):
        # p < 1e-4 would be chance once in ten thousand seeds; the seed is fixed.
        assert scipy.stats.kstest(np.asarray(draws[:, place], float), "uniform").pvalue > 1e-4


def test_stratified_stays_where_lognormal_is_finite():
    # An offset of exactly 0 is what a uniform in [0, 1) may give: the clip is for that.
    u = jax.vmap(lambda key: noise.stratified(key, 16))(jax.random.split(jax.random.key(0), 2000))
    assert u.min() > 0
    assert u.max() < 1
    edges = jnp.array([1e-6, 1 - 1e-6])
    assert jnp.isfinite(noise.lognormal(-1.2, 1.2)(edges)).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_density_is_what_the_quantile_function_says(name):
    u = jnp.linspace(0.05, 0.95, 2001)
    sigma, q = np.asarray(SCHEDULES[name](u), float), np.asarray(noise.density(SCHEDULES[name], u), float)
    # The probability of an interval of sigma is its length in u; the trapezoid rule in sigma.
    inside = np.trapezoid(q, sigma)
    np.testing.assert_allclose(inside, 0.9, rtol=2e-4)


@pytest.mark.parametrize(
    ("schedule", "time"),
    [(noise.vp_linear, noise.vp_time), (noise.sub_vp_linear, noise.sub_vp_time)],
)
def test_the_time_of_a_process_is_the_inverse_of_its_levels(schedule, time):
    t = jnp.linspace(1e-3, 1.0, 9)
    sigma = schedule(beta_min=0.2, beta_max=15.0)((t - 1e-3) / (1 - 1e-3))
    np.testing.assert_allclose(time(sigma, beta_min=0.2, beta_max=15.0), t, rtol=2e-5)
