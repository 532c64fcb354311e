import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import ema


def test_update_is_the_closed_form_of_a_weighted_mean():
    decay, rng = 0.9, np.random.default_rng(0)
    history = rng.standard_normal((12, 3)).astype(np.float32)
    average = {"w": jnp.asarray(history[0])}
    for params in history[1:]:
        average = ema.update(average, {"w": jnp.asarray(params)}, decay)
    # m^n start + (1 - m) sum_k m^(n - k) params_k, in float64.
    n = len(history) - 1
    weights = np.append(decay**n, (1 - decay) * decay ** (n - np.arange(1, n + 1)))
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(average["w"], weights @ history.astype(float), rtol=1e-5, atol=1e-6)


def test_warm_up_follows_the_number_of_updates_until_the_decay():
    n = np.array([0, 1, 9, 90, 8980, 9000, 10**6])
    expected = np.minimum((1 + n) / (10 + n), 0.999)
    np.testing.assert_allclose([ema.constant(0.999)(k) for k in jnp.asarray(n)], expected, rtol=1e-6)


def test_without_warm_up_the_decay_is_constant():
    decay = ema.constant(0.9, warm_up=False)
    np.testing.assert_allclose([decay(jnp.asarray(n)) for n in (0, 5, 1000)], 0.9, rtol=1e-6)


def test_a_decay_of_zero_is_the_parameters_themselves():
    assert float(ema.update(jnp.ones(()), jnp.full((), 3.0), ema.constant(0.0)(jnp.asarray(5)))) == 3.0


@pytest.mark.parametrize("ramp", [0.05, None])
@pytest.mark.parametrize(("images", "batch"), [(5e5, 512), (3e3, 64), (10.0, 64)])
def test_half_lives_are_edm_s(images, batch, ramp):
    """A loop as EDM's training has: the average is updated before its images are counted as seen."""
    decay, seen = jax.jit(ema.halflife(images, batch=batch, ramp=ramp)), 0
    for n in range(2000):
        now = images if ramp is None else min(images, seen * ramp)
        if n % 37 < 2:
            # In float32 exp2 of a small number is within a last digit of 1, 6e-8.
            np.testing.assert_allclose(decay(n), 0.5 ** (batch / max(now, 1e-8)), atol=2e-7)
        seen += batch


def test_images_may_be_more_than_an_int32_counts():
    assert float(ema.halflife(5e9, batch=2048)(jnp.asarray(2**31 - 1))) == pytest.approx(1, abs=1e-6)


WRONG = [
    (lambda: ema.constant(-0.1), "decay"),
    (lambda: ema.constant(1.0), "decay"),
    (lambda: ema.halflife(0.0, batch=2), "must be positive"),
    (lambda: ema.halflife(float("nan"), batch=2), "must be positive"),
    (lambda: ema.halflife(100.0, batch=0), "must be positive"),
    (lambda: ema.halflife(100.0, batch=2, ramp=0.0), "must be positive"),
    (lambda: ema.power(-0.1), "gamma"),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_decays_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# Precision ------------------------------------------------------------------------------------


def test_the_average_of_bfloat16_parameters_does_not_freeze():
    params = {"w": jnp.full(3, 2, jnp.bfloat16)}
    average = ema.start({"w": jnp.ones(3, jnp.bfloat16)})
    assert average["w"].dtype == jnp.float32
    step = jax.jit(lambda average: ema.update(average, params, 0.999))
    for _ in range(5000):
        average = step(average)
    # 5,000 roundings in float32.
    np.testing.assert_allclose(average["w"], 2 - 0.999**5000, rtol=1e-4)


def test_averages_start_as_copies_in_float32_or_wider():
    params = {"f": jnp.ones(2), "c": jnp.ones(2, jnp.complex64)}
    average = ema.start(params)
    assert {name: leaf.dtype for name, leaf in average.items()} == {"f": jnp.float32, "c": jnp.complex64}
    for name, leaf in average.items():
        assert leaf.unsafe_buffer_pointer() != params[name].unsafe_buffer_pointer()


# Power functions ------------------------------------------------------------------------------


def test_gammas_are_the_published_ones():
    """Karras et al. 2024, section 3.1; the widest profile is uniform."""
    found = [ema.gamma(sigma_rel) for sigma_rel in (0.05, 0.10, 12**-0.5)]
    np.testing.assert_allclose(found, [16.97, 6.94, 0.0], atol=0.006)


@pytest.mark.parametrize("sigma_rel", [1e-4, 0.01, 0.05, 0.123, 0.2, 0.288])
def test_the_width_of_gamma_is_that_of_its_profile(sigma_rel):
    gamma = ema.gamma(sigma_rel)
    formula = (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5
    assert formula == pytest.approx(sigma_rel, rel=1e-9)
    # The standard deviation of s under a density proportional to s^gamma on [0, 1].
    s = (np.arange(2_000_000) + 0.5) / 2_000_000
    density = s**gamma
    mean = np.average(s, weights=density)
    # The sum is off by the square of its spacing in units of the width, 0.005 at most.
    assert np.sqrt(np.average((s - mean) ** 2, weights=density)) == pytest.approx(sigma_rel, rel=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.2887, 1.0, float("nan"), float("inf")])
def test_widths_that_no_profile_has_are_refused(sigma_rel):
    with pytest.raises(ValueError, match=r"sigma_rel = .* must lie in \(0, 0\.2887\]"):
        ema.gamma(sigma_rel)


def averaged(trajectory, gamma, t):
    """The weight of every one of t parameters in their average is a difference of powers, in float64."""
    return np.diff((np.arange(t + 1) / t) ** (gamma + 1)) @ trajectory[:t]


@pytest.mark.parametrize("gamma", [0.0, 1.84, 16.97])
def test_trainings_average_has_the_weights_of_a_power_function(gamma):
    """The parameters at the start have no weight."""
    decay, trajectory = ema.power(gamma), np.random.default_rng(0).standard_normal(200)

    def body(average, inputs):
        n, params = inputs
        average = ema.update(average, params, decay(n))
        return average, average

    inputs = jnp.arange(200), jnp.asarray(trajectory, jnp.float32)
    _, averages = jax.jit(lambda: jax.lax.scan(body, jnp.float32(1e6), inputs))()
    for t in (1, 2, 10, 200):
        # float32 over 200 updates.
        np.testing.assert_allclose(averages[t - 1], averaged(trajectory, gamma, t), atol=2e-6)


def test_the_decay_is_right_after_many_updates():
    for n in (0, 1, 1000, 10**6):
        expected = (1 - 1 / (n + 1)) ** 17.97 if n else 0.0
        assert float(ema.power(16.97)(jnp.asarray(n))) == pytest.approx(expected, rel=1e-6)


# Any width afterwards -------------------------------------------------------------------------

T = 1000


@pytest.fixture(scope="module")
def trajectory():
    """A parameter that drifts from 3 to about 1, and walks at random by about 0.3."""
    rng = np.random.default_rng(0)
    return 1 + 2 * np.exp(-np.arange(T) / 200) + np.cumsum(rng.standard_normal(T)) * 0.01


def kept(every, trajectory=None, widths=(0.05, 0.10)):
    """Steps and exponents of the averages that a run keeps, and what they are."""
    steps = np.repeat(np.arange(every, T + 1, every), len(widths))
    gammas = np.tile([ema.gamma(width) for width in widths], T // every)
    if trajectory is None:
        return steps, gammas
    return steps, gammas, [averaged(trajectory, gamma, t) for t, gamma in zip(steps, gammas, strict=True)]


@pytest.mark.parametrize(
    # The parameter moves by 2; the errors are what was measured, times three to seven.
    ("sigma_rel", "every", "until", "error"),
    [
        *((sigma_rel, 20, T, error) for sigma_rel, error in ((0.07, 2e-6), (0.15, 1e-5), (0.20, 5e-4))),
        *((sigma_rel, 100, T, 2e-4) for sigma_rel in (0.07, 0.15)),
        (0.12, 20, 500, 1e-4),
    ],
)
def test_another_width_is_what_direct_averaging_gives(trajectory, sigma_rel, every, until, error):
    """An earlier step is made of what was kept until then."""
    steps, gammas, averages = (np.asarray(each)[: until // every * 2] for each in kept(every, trajectory))
    gamma = ema.gamma(sigma_rel)
    weights = ema.posthoc_weights(steps, gammas, until, gamma)
    found = ema.combine([{"w": np.float32(average)} for average in averages], weights)["w"]
    direct = averaged(trajectory, gamma, until)
    assert abs(found - direct) < error
    # The two that were kept at the end are far from it.
    assert all(abs(found - direct) < 0.1 * abs(average - direct) for average in averages[-2:])


def test_what_was_kept_is_found_again():
    steps, gammas = kept(100)
    for number in (-2, -1):
        weights = ema.posthoc_weights(steps, gammas, T, gammas[number])
        expected = np.zeros(len(steps))
        expected[number] = 1
        np.testing.assert_allclose(weights, expected, atol=1e-9)
        assert ema.misfit(weights, steps, gammas, T, gammas[number]) < 1e-6


@pytest.mark.parametrize("sigma_rel", [0.03, 0.07, 0.2, 0.28])
def test_the_weights_have_sum_one_and_fit_as_well_as_misfit_says(sigma_rel):
    steps, gammas = kept(50)
    gamma = ema.gamma(sigma_rel)
    weights = ema.posthoc_weights(steps, gammas, T, gamma)
    assert weights.dtype == np.float64
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    s = (np.arange(200_000) + 0.5) / 200_000 * T
    profile = lambda t, gamma: np.where(s <= t, (gamma + 1) * (s / t) ** gamma / t, 0)
    wanted = profile(T, gamma)
    found = sum(w * profile(t, g) for w, t, g in zip(weights, steps, gammas, strict=True))
    misfit = np.sqrt(np.sum((found - wanted) ** 2) / np.sum(wanted**2))
    # Profiles jump at their ends: the sum over a grid is off there by a part of its spacing.
    assert ema.misfit(weights, steps, gammas, T, gamma) == pytest.approx(misfit, rel=0.01)
    # No weights of sum one fit better: the error is a parabola in every direction.
    rng = np.random.default_rng(0)
    for _ in range(20):
        direction = rng.standard_normal(len(weights)) * 1e-3
        other = weights + direction - direction.mean()
        assert ema.misfit(other, steps, gammas, T, gamma) >= misfit * 0.99


def test_more_snapshots_fit_better():
    gamma = ema.gamma(0.15)
    misfits = [
        ema.misfit(ema.posthoc_weights(*kept(every), T, gamma), *kept(every), T, gamma)
        for every in (200, 100, 50, 20, 10)
    ]
    assert all(later < 0.5 * before for before, later in itertools.pairwise(misfits))


@pytest.mark.parametrize(
    ("steps", "step"), [([], 10), ([0, 5], 10), ([5, 11], 10), ([-1], 10)], ids=["none", "0", "later", "< 0"]
)
def test_averages_that_are_not_of_this_run_are_refused(steps, step):
    with pytest.raises(ValueError, match=r"there must be averages, of steps in 1\.\.10"):
        ema.posthoc_weights(np.array(steps), np.full(len(steps), 2.0), step, 1.0)


def test_averages_come_one_after_another_and_keep_their_types():
    alive = []

    def averages():
        for number in range(4):
            assert alive == []  # the one before is done with
            alive.append(number)
            yield {"a": jnp.full(3, number, jnp.bfloat16), "b": jnp.full((), number, jnp.float32)}
            alive.clear()

    found = ema.combine(averages(), np.array([0.5, -1.0, 2.0, 1.0]))
    expected = {"a": np.full(3, 6, jnp.bfloat16), "b": np.float32(6)}
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    chex.assert_trees_all_equal(found, expected)


def test_the_sum_is_not_rounded_on_the_way():
    large = np.float32(1e8)
    found = ema.combine([large, np.float32(1), large], np.array([1.0, 1.0, -1.0]))
    assert found == 1


@pytest.mark.parametrize("n", [2, 4])
def test_as_many_averages_as_weights(n):
    with pytest.raises(ValueError, match="zip"):
        ema.combine([np.ones(2)] * n, np.ones(3))
