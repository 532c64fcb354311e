"""Losses of a generative adversarial network, one value per example, from the discriminator's logits.

The discriminator's logit D is the log odds that an example is real. Its optimum is log p_data - log p_G
(Goodfellow et al. 2014, proposition 1). All losses are in nats.

    discriminator_loss    softplus(-D(x)) + softplus(D(G(z)))     2 ln 2 if it cannot tell them apart
    generator_loss        softplus(-D(G(z)))                      ln 2 in that case
    gradient_penalty      1/2 |grad_x D(x)|^2 on real x           R1, to be multiplied by gamma

>>> import jax, jax.numpy as jnp
>>> discriminator = lambda x: jnp.sum(3 * x, axis=1)
>>> real, fake = jax.random.normal(jax.random.key(0), (2, 8, 4))
>>> discriminator_loss(discriminator(real), discriminator(fake)).shape
(8,)
>>> penalty = lambda: 0.02 * gradient_penalty(discriminator, real)     # gamma = 0.02
>>> [round(float(lazy(step, 15, penalty)[0]), 6) for step in (0, 1, 15)]
[0.36, 0.0, 0.36]
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxscore.types import Array

Batch = Float[Array, "b *event"]
Logits = Float[Array, "b"]
Loss = Float[Array, "b"]


def discriminator_loss(real: Logits, fake: Logits) -> Loss:
    """Sum of two cross entropies, one value per row: softplus(-real) + softplus(fake).

    For the best discriminator it is 2 ln 2 minus twice the Jensen-Shannon divergence. Rows pair real and fake
    examples only to form a sum. The caller must keep gradients from the fakes, see `jax.lax.stop_gradient`.

    Source: Goodfellow et al. 2014, equation 1.
    """
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def generator_loss(fake: Logits) -> Loss:
    """Non-saturating loss, one value per example: softplus(-fake).

    It replaces -softplus(fake), the negative of the discriminator's loss. Both have the same fixed point, but
    -softplus(fake) has hardly any slope where the discriminator is sure.

    Source: Goodfellow et al. 2014, section 3.
    """
    return jax.nn.softplus(-fake)


def gradient_penalty(discriminator: Callable[[Batch], Logits], x: Batch) -> Loss:
    """R1 penalty without its gamma on real x, one value per example: `1/2 |grad_x D(x)|^2`.

    The square is a sum over the event, so its unit is 1 / x^2. Row i is the gradient of the sum of all logits
    in x_i. If the discriminator treats examples separately, it is the gradient of D(x_i) alone. If a
    minibatch statistic couples the examples, it includes the effect of x_i on the other logits. The published
    implementations penalise this gradient too.

    Source: Mescheder et al. 2018, equation 9.
    """
    gradient = jax.grad(lambda x: jnp.sum(discriminator(x)))(x)
    return jnp.sum(gradient**2, axis=tuple(range(1, x.ndim))) / 2


def lazy(step: int | Int[Array, ""], interval: int, penalty: Callable[[], Array]) -> Array:
    """penalty() at steps that `interval` divides (including step 0), zeros of the same shape at other steps.

    At other steps `jax.lax.cond` skips the computation (Karras et al. 2020, section 3.1). The penalty is not
    multiplied by the interval, so its mean weight is gamma / interval. StyleGAN2 multiplies; denoising
    diffusion GANs do not (Xiao et al. 2022), and their published gamma expects this.

    Raises:
        ValueError: if interval < 1.
    """
    if interval < 1:
        raise ValueError(f"interval = {interval} must be at least 1")
    shape = jax.eval_shape(penalty)
    return jax.lax.cond(step % interval == 0, penalty, lambda: jnp.zeros(shape.shape, shape.dtype))
