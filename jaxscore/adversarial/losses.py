"""Losses of a generative adversarial network, per example, from the discriminator's logits.

The discriminator's logit D is its log odds that an example is real; its optimum is log p_data - log p_G
(Goodfellow et al. 2014, proposition 1). All losses are in nats.

    discriminator_loss    softplus(-D(x)) + softplus(D(G(z)))     2 ln 2 where it cannot tell them apart
    generator_loss        softplus(-D(G(z)))                      ln 2 there
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
    """softplus(-real) + softplus(fake), [b]: two cross entropies (Goodfellow et al. 2014, equation 1).

    2 ln 2 less twice the Jensen-Shannon divergence at the best discriminator. Row i pairs real example i
    with fake example i for the sum's sake alone. The fakes must be constants to whoever differentiates:
    see `jax.lax.stop_gradient`.
    """
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def generator_loss(fake: Logits) -> Loss:
    """softplus(-fake), [b]: the non-saturating loss (Goodfellow et al. 2014, section 3).

    In place of -softplus(fake), the other side of the game, which has the same fixed point but hardly any
    slope where the discriminator is sure.
    """
    return jax.nn.softplus(-fake)


def gradient_penalty(discriminator: Callable[[Batch], Logits], x: Batch) -> Loss:
    """1/2 |grad_x D(x)|^2, [b], x real: R1 without its gamma (Mescheder et al. 2018, equation 9).

    Per squared unit of x, a sum over the event. Row i is the gradient in x_i of the sum of all logits.
    That is D(x_i)'s own if the discriminator looks at each example by itself; where it couples them, as by
    a minibatch's standard deviation, what x_i does to the other examples' logits is in it: the gradient of
    the batch, which the published implementations penalise too.
    """
    gradient = jax.grad(lambda x: jnp.sum(discriminator(x)))(x)
    return jnp.sum(gradient**2, axis=tuple(range(1, x.ndim))) / 2


def lazy(step: int | Int[Array, ""], interval: int, penalty: Callable[[], Array]) -> Array:
    """penalty() at steps that the interval divides (0 too), zeros of its shape at the others.

    Under `jax.lax.cond`: what is not asked for is not computed (Karras et al. 2020, section 3.1). It is not
    multiplied by the interval, as StyleGAN2 does to keep the penalty's mean over the steps: denoising
    diffusion GANs do not (Xiao et al. 2022), and their gamma is meant so; on average the
    penalty has the weight gamma / interval. Raises ValueError if interval < 1.
    """
    if interval < 1:
        raise ValueError(f"interval = {interval} must be at least 1")
    shape = jax.eval_shape(penalty)
    return jax.lax.cond(step % interval == 0, penalty, lambda: jnp.zeros(shape.shape, shape.dtype))
