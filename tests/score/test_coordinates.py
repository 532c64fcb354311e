import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from jaxscore import mixtures, noise, samplers, score

SIGMA = jnp.array([1e-3, 0.1, 1.0, 80.0])
X = jnp.array([[0.3, -1.2], [2.0, 0.1], [-0.7, 0.4], [50.0, -30.0]])


def test_vp_of_a_gaussians_vp_score_is_its_score():
    # x0 ~ N(m, s0^2 I); the process x' = alpha x0 + sqrt(1 - alpha^2) n has a score in closed form.
    m, s0 = jnp.array([1.0, -2.0]), 0.7

    def vp_score(x, sigma):
        alpha = (1 / jnp.sqrt(1 + sigma**2))[:, None]
        return -(x - alpha * m[None]) / (alpha**2 * s0**2 + 1 - alpha**2)

    exact = -(X - m[None]) / (s0**2 + SIGMA[:, None] ** 2)
    np.testing.assert_allclose(score.vp(vp_score)(X, SIGMA), exact, rtol=2e-5)


def test_sub_vp_of_a_gaussians_sub_vp_score_is_its_score():
    m, s0 = jnp.array([1.0, -2.0]), 0.7

    def sub_vp_score(x, sigma):
        """The score of x' = alpha x0 + (1 - alpha^2) n, where alpha gives the noise-to-signal ratio sigma."""
        alpha = jnp.asarray(alphas, jnp.float32)[:, None]
        return -(x - alpha * m[None]) / (alpha**2 * s0**2 + (1 - alpha**2) ** 2)

    # The root of 1 - alpha^2 = sigma alpha between 0 and 1, found by halving.
    alphas = [scipy.optimize.brentq(lambda a, s=s: 1 - a**2 - s * a, 0, 1) for s in np.asarray(SIGMA, float)]
    exact = -(X - m[None]) / (s0**2 + SIGMA[:, None] ** 2)
    # 1 - alpha^2 loses digits at the first sigma, 1e-3: 6e-8 / 1e-3.
    np.testing.assert_allclose(score.sub_vp(sub_vp_score)(X, SIGMA), exact, rtol=2e-4)


# On a mixture, whose posterior mean, noise and density are known -----------------------------------

MIXTURE = mixtures.correlated(
    [0.3, 0.7], [[1.0, 1.0], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.4]]]
)
EXACT = functools.partial(mixtures.score, MIXTURE)
POINTS = mixtures.draw(jax.random.key(0), MIXTURE, 64, sigma=0.5)
HALF = jnp.full(64, 0.5)


def posterior_mean(x, sigma):
    """E[x0 | x] by Bayes' rule for each component: sum_k r_k (m_k + C_k (C_k + sigma^2 I)^-1 (x - m_k))."""
    means = np.asarray(MIXTURE.means, float)
    axes = np.asarray(MIXTURE.axes)
    covariances = np.einsum("kij,kj,klj->kil", axes, np.asarray(MIXTURE.variances), axes)
    r = np.asarray(mixtures.responsibilities(MIXTURE, x, sigma))
    s2 = float(sigma[0]) ** 2
    parts = [
        m + (np.asarray(x, float) - m) @ (c @ np.linalg.inv(c + s2 * np.eye(2))).T
        for m, c in zip(means, covariances, strict=True)
    ]
    return sum(r[:, k, None] * part for k, part in enumerate(parts))


def posterior_means(x, sigma):
    """As posterior_mean, with another noise level for each row."""
    return np.concatenate([posterior_mean(x[i : i + 1], sigma[i : i + 1]) for i in range(len(x))])


def test_denoise_is_the_posterior_mean():
    np.testing.assert_allclose(score.denoise(EXACT, POINTS, HALF), posterior_mean(POINTS, HALF), atol=1e-5)


def test_from_denoiser_undoes_denoise():
    rebuilt = score.from_denoiser(functools.partial(score.denoise, EXACT))
    # (D - x) / sigma^2 cancels: 6e-8 |x| / sigma^2 is 1e-6 here.
    np.testing.assert_allclose(rebuilt(POINTS, HALF), EXACT(POINTS, HALF), atol=1e-5)
    from_truth = score.from_denoiser(lambda x, sigma: jnp.asarray(posterior_mean(x, sigma), jnp.float32))
    np.testing.assert_allclose(from_truth(POINTS, HALF), EXACT(POINTS, HALF), atol=2e-5)


def test_from_noise_prediction_takes_the_mean_of_the_noise():
    """The mean is that of the posterior."""
    noise_mean = lambda x, sigma: jnp.asarray((x - posterior_mean(x, sigma)) / sigma[:, None], jnp.float32)
    ours = score.from_noise_prediction(noise_mean)(POINTS, HALF)
    np.testing.assert_allclose(ours, EXACT(POINTS, HALF), atol=2e-5)


def test_from_velocity_takes_the_mean_of_noise_minus_data():
    """At x_t = (1 - t) x0 + t n; with the exact velocity x_t - t v is the clean mean for every t."""
    times = jnp.array([0.1, 0.3, 0.9, 0.999])
    sigma = times / (1 - times)
    x = POINTS[:4]
    mean = posterior_means(x, sigma)

    def velocity(x_t, t):
        np.testing.assert_allclose(t, times, rtol=1e-6)
        np.testing.assert_allclose(x_t, x * (1 - times[:, None]), rtol=1e-5)
        return jnp.asarray((x - mean) / sigma[:, None] - mean, jnp.float32)

    ours = score.from_velocity(velocity)
    np.testing.assert_allclose(ours(x, sigma), EXACT(x, sigma), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score.denoise(ours, x, sigma), mean, atol=1e-4)


def test_from_v_prediction_takes_its_mean_in_vp_coordinates():
    sigma = jnp.array([0.1, 0.5, 3.0, 50.0])
    x = POINTS[:4]
    mean, alpha = posterior_means(x, sigma), 1 / np.sqrt(1 + np.asarray(sigma, float)[:, None] ** 2)

    def prediction(u, given):
        np.testing.assert_allclose(u, x * alpha, rtol=1e-5)
        np.testing.assert_array_equal(given, sigma)
        n = (np.asarray(x, float) - mean) / np.asarray(sigma, float)[:, None]
        return jnp.asarray(alpha * n - np.sqrt(1 - alpha**2) * mean, jnp.float32)

    ours = score.from_v_prediction(prediction)(x, sigma)
    np.testing.assert_allclose(ours, EXACT(x, sigma), rtol=1e-4, atol=1e-5)


def test_the_velocity_carries_noise_to_the_point_of_a_point_mass():
    """Direction of time: the flow from N(0, 1) at t = 1 to the point 3 at t = 0, and x_t - t v = 3."""
    velocity = lambda x, t: (x - 3.0) / t[:, None]  # n - x0 with x_t = (1 - t) 3 + t n
    ours = score.from_velocity(velocity)
    drawn = samplers.generate(
        jax.random.key(0), (5, 1), noise.levels(noise.flow(), 20), ours, samplers.euler()
    )
    np.testing.assert_allclose(drawn, 3.0, rtol=1e-4)
    t = jnp.array([0.3, 0.6])
    x = jnp.array([[1.0], [-2.0]]) / (1 - t[:, None])
    np.testing.assert_allclose(score.denoise(ours, x, t / (1 - t)), 3.0, rtol=1e-5)


def test_from_log_density_differentiates_each_examples_own():
    energy = lambda x, sigma: mixtures.log_density(MIXTURE, x, sigma) + 7.0  # need not be normalised
    np.testing.assert_allclose(score.from_log_density(energy)(POINTS, HALF), EXACT(POINTS, HALF), atol=1e-5)
