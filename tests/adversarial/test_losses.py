import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import adversarial

LOGITS = jnp.array([-300.0, -2.0, 0.0, 0.5, 300.0])


# Losses -------------------------------------------------------------------------------------------


def test_the_losses_are_cross_entropies_of_the_logits():
    real, fake = LOGITS[1:4], jnp.array([1.0, -0.5, 3.0])
    probability = lambda logits: 1 / (1 + np.exp(-np.asarray(logits, float)))
    cross_entropy = -np.log(probability(real)) - np.log(1 - probability(fake))
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake), cross_entropy, rtol=1e-5)
    np.testing.assert_allclose(adversarial.generator_loss(fake), -np.log(probability(fake)), rtol=1e-5)


def test_values_and_slopes_of_a_sure_discriminator_are_finite():
    np.testing.assert_allclose(adversarial.generator_loss(LOGITS)[jnp.array([0, 4])], [300.0, 0.0])
    loss = lambda logits: jnp.sum(adversarial.generator_loss(logits))
    # Non-saturating: where D is sure of a fake the slope is -1, not 0.
    np.testing.assert_allclose(jax.grad(loss)(LOGITS)[jnp.array([0, 2, 4])], [-1.0, -0.5, 0.0], atol=1e-6)
    both = jax.grad(lambda real, fake: jnp.sum(adversarial.discriminator_loss(real, fake)), argnums=(0, 1))
    for slope, expected in zip(both(LOGITS, LOGITS), ([-1.0, 0.0], [0.0, 1.0]), strict=True):
        np.testing.assert_allclose(slope[jnp.array([0, 4])], expected, atol=1e-6)


# The gradient penalty -----------------------------------------------------------------------------

POINTS = jax.random.normal(jax.random.key(0), (5, 3, 2))


def test_the_penalty_of_a_quadratic_field_is_its_closed_form():
    matrix, slope = jax.random.normal(jax.random.key(2), (6, 6)), jnp.arange(6.0)
    flat = lambda x: x.reshape(-1, 6)
    quadratic = lambda x: jnp.einsum("bi,ij,bj->b", flat(x), matrix, flat(x)) + flat(x) @ slope + 7
    gradient = np.asarray(flat(POINTS)) @ np.asarray(matrix + matrix.T) + np.asarray(slope)
    expected = np.sum(gradient**2, axis=1) / 2
    np.testing.assert_allclose(adversarial.gradient_penalty(quadratic, POINTS), expected, rtol=1e-4)


def finite_differences(discriminator, x, step=1e-2):
    """grad_x of the sum of the logits, by central differences, one coordinate at a time."""
    total = lambda moved: float(np.sum(discriminator(jnp.asarray(moved, jnp.float32)), dtype=float))
    each = step * np.eye(x.size).reshape(-1, *x.shape)
    differences = [total(x + one) - total(x - one) for one in each]
    return np.reshape(differences, x.shape) / (2 * step)


WEIGHTS = jax.random.normal(jax.random.key(3), (6, 4))
alone = jax.jit(lambda x: jnp.sum(jnp.tanh(x.reshape(len(x), -1) @ WEIGHTS), axis=1))
coupled = jax.jit(lambda x: alone(x) + alone(x) * jnp.std(x, axis=0).mean())  # as minibatch deviation does


@pytest.mark.parametrize("discriminator", [alone, coupled], ids=["alone", "coupled"])
def test_the_penalty_agrees_with_finite_differences(discriminator):
    gradient = finite_differences(discriminator, POINTS)
    expected = np.sum(gradient**2, axis=(1, 2)) / 2
    # The third derivative times step^2 / 6, and rounding, 1e-7 of a few units over 2e-2: about 1e-3.
    found = adversarial.gradient_penalty(discriminator, POINTS)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-4)


def test_only_coupled_examples_enter_each_others_penalty():
    part = lambda discriminator: adversarial.gradient_penalty(discriminator, POINTS[:2])
    whole = lambda discriminator: adversarial.gradient_penalty(discriminator, POINTS)[:2]
    np.testing.assert_allclose(part(alone), whole(alone), rtol=1e-5)
    assert np.abs(part(coupled) - whole(coupled)).max() > 1e-2


# Now and then -------------------------------------------------------------------------------------


def test_a_lazy_penalty_is_computed_at_multiples_of_its_interval():
    """It is not scaled up for the steps without it."""
    steps = []

    def penalty(step):
        jax.debug.callback(lambda step: steps.append(int(step)), step)
        return jnp.array([2.0, 3.0])

    run = jax.jit(lambda step: adversarial.lazy(step, 4, lambda: penalty(step)))
    found = np.stack([run(step) for step in range(9)])
    jax.effects_barrier()
    assert sorted(steps) == [0, 4, 8]
    expected = np.zeros((9, 2))
    expected[[0, 4, 8]] = [2.0, 3.0]
    np.testing.assert_array_equal(found, expected)


def test_the_gradient_goes_through_a_lazy_penalty():
    loss = lambda w, step: jnp.sum(adversarial.lazy(step, 3, lambda: jnp.stack([w, 2 * w])))
    slope = jax.jit(jax.grad(loss))
    assert [float(slope(1.0, step)) for step in range(4)] == [3.0, 0.0, 0.0, 3.0]


def test_every_step_may_be_penalised_and_no_fewer_than_none():
    np.testing.assert_array_equal(adversarial.lazy(7, 1, lambda: jnp.ones(2)), jnp.ones(2))
    with pytest.raises(ValueError, match="interval = 0 must be at least 1"):
        adversarial.lazy(0, 0, lambda: jnp.ones(2))
