import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import noise, samplers
from tests.samplers import oracle

STEP = samplers.langevin(samplers.annealed(0.2 * 0.1**2, 0.1))


def by_hand(key, x, sigma, e):
    """x after the step, score_norm and signal_to_noise, in NumPy."""
    z = np.asarray(noise.normal(key, x.shape), float)
    s = (1 - np.asarray(x, float)) / (0.64 + sigma**2)
    norm = lambda a: np.sqrt((a.reshape(len(a), -1) ** 2).sum(axis=1))
    after = x + e * s + np.sqrt(2 * e) * z
    return after, norm(s) * sigma / np.sqrt(s[0].size), norm(e * s) / norm(np.sqrt(2 * e) * z)


def test_they_are_the_means_over_the_steps_since_init():
    x, sigma, e = 3 * noise.normal(jax.random.key(0), (4, 2, 3)), 2.0, 0.7
    sampler = samplers.langevin(e)
    after, memory = x, sampler.init(x)
    assert all(not figure.any() for figure in memory)
    expected, found = x, []
    for number in range(3):
        key = jax.random.key(10 + number)
        expected, *now = by_hand(jax.random.clone(key), expected, sigma, e)
        found.append(now)
        after, memory = sampler.step(key, after, memory, oracle.separable, jnp.asarray(sigma), None)
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)
    assert int(memory.steps) == 3
    figures = memory.score_norm, memory.signal_to_noise
    np.testing.assert_allclose(figures, np.mean(found, axis=0), rtol=1e-4)
    np.testing.assert_array_equal(memory.acceptance, 1)


def test_per_level_begins_afresh_and_leaves_the_samples_alone():
    x = 6 * noise.normal(jax.random.key(0), (6, 3))
    dynamics = samplers.repeat(STEP, 3)
    end, _, total = oracle.run(dynamics, x, oracle.FEW, oracle.separable)
    same, _, by_level = oracle.run(samplers.per_level(dynamics), x, oracle.FEW, oracle.separable)
    np.testing.assert_array_equal(same, end)
    np.testing.assert_array_equal(total.steps, 3 * np.arange(1, 6))
    np.testing.assert_array_equal(by_level.steps, 3)
    # The means since init are the running means of those of the levels.
    for since_init, level in zip(total[1:], by_level[1:], strict=True):
        running = np.cumsum(level, axis=0) / np.arange(1, 6)[:, None]
        np.testing.assert_allclose(since_init, running, rtol=1e-5)


def test_in_a_chain_every_member_has_its_own():
    x = 6 * noise.normal(jax.random.key(0), (6, 3))
    chained = samplers.chain(samplers.repeat(STEP, 2), samplers.heun(), STEP)
    first, none, last = oracle.run(samplers.per_level(chained), x, oracle.FEW, oracle.separable).memory
    assert (none, first.acceptance.shape) == ((), (5, 6))
    np.testing.assert_array_equal([first.steps, last.steps], [[2] * 5, [1] * 5])


def costs(sampler, collect):
    run = jax.jit(
        lambda key, x: samplers.sample(key, x, oracle.FEW, oracle.separable, sampler, collect=collect)
    )
    compiled = run.lower(jax.random.key(0), jnp.zeros((64, 16))).compile()
    return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes


def test_what_nobody_collects_is_not_computed():
    size = lambda sigma: 0.2 * sigma**2

    @samplers.memoryless
    def without_figures(key, x, score, sigma, sigma_next):
        e = jnp.full((len(x), 1), size(sigma))
        return x + e * score(x, jnp.full(len(x), sigma)) + jnp.sqrt(2 * e) * noise.normal(key, x.shape)

    bare = costs(samplers.repeat(without_figures, 2), None)
    silent = costs(samplers.repeat(samplers.langevin(size), 2), None)
    asked = costs(samplers.repeat(samplers.langevin(size), 2), lambda x, memory: memory)
    # A scan's body is counted once: 16 x 64 numbers are squared and added twice, for |s| and for |z|.
    np.testing.assert_allclose(silent[0], bare[0], rtol=0.01)
    assert asked[0] - silent[0] > 2 * 16 * 64
    assert silent[1] <= bare[1] + 1024
