"""The denoising diffusion GAN: few large steps, each a draw from a conditional GAN.

With few steps T, q(x_next | x) is far from Gaussian, and a network that predicts its mean cannot draw from
it. A generator G(x, sigma, z) draws x0 instead, and the posterior q(x_next | x, x0) turns x0 into x_next. A
discriminator D(x_next, x, sigma) sees pairs (x_next, x) from the data and from the generator.

In this library's coordinates x = x0 + sigma n. A step goes from sigma to sigma_next < sigma:

    data          x_next = x0 + sigma_next n,    x = x_next + sqrt(sigma^2 - sigma_next^2) n'
    posterior     x_next | x, x0 ~ N(x0 + (sigma_next / sigma)^2 (x - x0), tau^2 I)
                  tau = sigma_next sqrt(sigma^2 - sigma_next^2) / sigma

The paper's x is `variance_preserving(x, sigma)`, which serves as input of networks and for the gradient
penalty. The functions here take

    generator(x[b, ...], sigma[b], z[b, latent]) -> [b, ...]      a draw of x0
    discriminator(x_next[b, ...], x[b, ...], sigma[b]) -> [b]     the logit of being data

Both know the step by its sigma, because sigma_next is 0 in the last step and has no logarithm.

>>> import jax, jax.numpy as jnp
>>> from jaxscore import adversarial, samplers
>>> generator = lambda x, sigma, z: x / (1 + sigma[:, None] ** 2) + 0.5 * z
>>> discriminator = lambda x_next, x, sigma: jnp.sum(x_next - x, axis=1) / sigma
>>> sigmas, data = levels(4), jax.random.normal(jax.random.key(0), (8, 2))
>>> drawn = pair(jax.random.key(1), data, *step(noise.stratified(jax.random.key(9), 8), sigmas))
>>> loss = discriminator_loss(discriminator, generator, jax.random.key(2), drawn, latent=2)
>>> loss += adversarial.lazy(0, 15, lambda: 0.02 * gradient_penalty(discriminator, drawn))
>>> fresh = pair(jax.random.key(3), data, drawn.sigma, drawn.sigma_next)
>>> generator_loss(discriminator, generator, jax.random.key(4), fresh, latent=2).shape
(8,)
>>> x = samplers.prior(jax.random.key(5), (100, 2), sigmas[0])
>>> x, _ = samplers.sample(jax.random.key(6), x, sigmas, generator, sampler(latent=2))
>>> x.shape
(100, 2)

Source: Xiao, Kreis & Vahdat 2022, "Tackling the generative learning trilemma with denoising diffusion GANs".
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxscore import adversarial, noise
from jaxscore.samplers import Sampler, memoryless
from jaxscore.types import Array, Key, right

Batch = Float[Array, "b *event"]
Sigma = Float[Array, "b"]
Loss = Float[Array, "b"]
Generator = Callable[[Array, Array, Array], Array]
Discriminator = Callable[[Array, Array, Array], Array]


# The process ----------------------------------------------------------------------------------


def levels(
    steps: int, *, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3
) -> Float[Array, "steps_plus_1"]:
    """Sampling grid sigma_T > ... > sigma_1 > sigma_0 = 0 of T = `steps` steps.

        sigma_i^2 = 1 / abar_i - 1,    abar_i = prod_{j <= i} (1 - beta_j)
        beta_i = 1 - exp(B(t_{i-1}) - B(t_i)),    t_i = t_min + (1 - t_min) i / T

    This is the VP process of `noise.vp_linear` with integral B, started at t_min. For T = 4, beta is .478,
    .849, .956, .987.

    Args:
        steps: number of steps, T.
        beta_min: beta(t) at t = 0.
        beta_max: beta(t) at t = 1.
        t_min: start of the process.

    Raises:
        ValueError: if steps < 1.

    Source: Xiao et al. 2022, appendix.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1")
    schedule = noise.vp_linear(beta_min=beta_min, beta_max=beta_max, t_min=t_min)
    squares = schedule(jnp.linspace(1.0, 0.0, steps + 1)) ** 2
    # 1 + sigma^2 is a product over steps; without its factor up to t_min, sigma_0 is 0.
    return jnp.sqrt((squares - squares[-1]) / (1 + squares[-1]))


def variance_preserving(x: Batch, sigma: Sigma) -> Batch:
    """x / sqrt(1 + sigma^2): the paper's x, with the data's scale at every sigma, as input of networks."""
    return x / right(jnp.sqrt(1 + sigma**2), x)


def shrunk(x: Batch, sigma: Sigma) -> Batch:
    """x / (1 + sigma^2): the mean of x0 given x for data distributed as N(0, I), as input of networks.

    Its scale is the scale of what x tells about x0. `variance_preserving` shows a network mostly noise at
    high sigma, which the network must learn to ignore.
    """
    return x / right(1 + sigma**2, x)


class Pair(NamedTuple):
    """The ends of a step of one path in each row: x at sigma, and the less noisy x_next at sigma_next."""

    x: Float[Array, "b *event"]
    x_next: Float[Array, "b *event"]
    sigma: Float[Array, "b"]
    sigma_next: Float[Array, "b"]


def pair(key: Key, x0: Batch, sigma: Sigma, sigma_next: Sigma) -> Pair:
    """Adds noise to clean x0 up to sigma_next, and independent noise up to sigma > sigma_next >= 0."""
    keys = noise.row_keys(key, x0.shape[0])
    n_next, n = (noise.normal(noise.fold_in(keys, i), x0.shape, x0.dtype) for i in (0, 1))
    x_next = x0 + right(sigma_next, x0) * n_next
    added = jnp.sqrt(sigma**2 - sigma_next**2)
    return Pair(x_next + right(added, x0) * n, x_next, sigma, sigma_next)


def step(
    u: Float[Array, "b"],
    sigmas: Float[Array, "steps_plus_1"],
    weights: Float[Array, "steps"] | None = None,
) -> tuple[Sigma, Sigma]:
    """sigma and sigma_next, [b] each, of the step that each u in (0, 1) selects.

    The steps divide (0, 1) in proportion to their `weights`, or equally without weights as in Xiao et al.
    2022. The weights say how often each step is trained, and change no step's optimum.

    With u from `noise.stratified`, neighbours in the batch have the same step. A discriminator that compares
    the examples of a group (`networks.layers.MinibatchDeviation`) then compares draws of one distribution. In
    mixed groups the examples differ mostly by their noise, and hardly anything keeps the generator from
    drawing only a few modes.
    """
    ends = jnp.cumsum(jnp.ones(len(sigmas) - 1) if weights is None else weights)
    number = jnp.searchsorted(ends[:-1], u * ends[-1], side="right")
    return sigmas[number], sigmas[number + 1]


def share_of_data(sigmas: Float[Array, "steps_plus_1"]) -> Float[Array, "steps"]:
    """1 / sqrt(1 + sigma_next^2): the scale of the data in x_next, for each step; `weights` of `step`.

    It is the scale in `variance_preserving(x_next, sigma_next)`: 0.06, 0.28, 0.72 and 1 for T = 4. At high
    noise x_next hardly depends on the data. This step is soon learnt, and need only be as accurate as the
    noise shows.
    """
    return 1 / jnp.sqrt(1 + sigmas[1:] ** 2)


def posterior(key: Key, x: Batch, x0: Batch, sigma: Sigma, sigma_next: Sigma) -> Batch:
    """Draws x_next given x and x0; x0 itself if sigma_next = 0.

        x_next | x, x0 ~ N(x0 + (sigma_next / sigma)^2 (x - x0), tau^2 I)
        tau = sigma_next sqrt(sigma^2 - sigma_next^2) / sigma

    This is the step of `samplers.ancestral`, which uses the posterior mean as x0 (Ho et al. 2020, equation
    7).
    """
    z = noise.normal(key, x.shape, x.dtype)
    ratio = right(sigma_next / sigma, x)
    removed = right(jnp.sqrt(sigma**2 - sigma_next**2), x)
    return x0 + ratio**2 * (x - x0) + ratio * removed * z


# The game -------------------------------------------------------------------------------------


def discriminator_loss(
    discriminator: Discriminator, generator: Generator, key: Key, pair: Pair, *, latent: int
) -> Loss:
    """Loss of the discriminator, one value per example (Xiao et al. 2022, section 3.2).

        softplus(-D(x_next, x, sigma)) + softplus(D(x_next', x, sigma))

    x_next' is the generator's draw from the same x, with z ~ N(0, I_latent). It is a constant here, so no
    gradient reaches the generator's parameters. The best discriminator is log q(x_next | x) - log p_G(x_next
    | x). Its loss is 2 ln 2 minus twice the Jensen-Shannon divergence of the two.

    Args:
        discriminator: discriminator(x_next, x, sigma) -> [b].
        generator: generator(x, sigma, z) -> [b, ...].
        key: one key, or one key per row.
        pair: the ends of a step.
        latent: length of z.
    """
    fake = jax.lax.stop_gradient(_draw_next(generator, key, pair.x, pair.sigma, pair.sigma_next, latent))
    return adversarial.discriminator_loss(
        discriminator(pair.x_next, pair.x, pair.sigma), discriminator(fake, pair.x, pair.sigma)
    )


def generator_loss(
    discriminator: Discriminator, generator: Generator, key: Key, pair: Pair, *, latent: int
) -> Loss:
    """Non-saturating loss of the generator, one value per example (Xiao et al. 2022, section 3.2).

        softplus(-D(x_next', x, sigma))

    The arguments are those of `discriminator_loss`. Only x and the noise levels of the pair are used; the
    paper draws a new pair. The loss depends on the discriminator's parameters too: differentiate with respect
    to the generator's parameters alone.
    """
    fake = _draw_next(generator, key, pair.x, pair.sigma, pair.sigma_next, latent)
    return adversarial.generator_loss(discriminator(fake, pair.x, pair.sigma))


def gradient_penalty(discriminator: Discriminator, pair: Pair) -> Loss:
    """R1 penalty without its gamma on data x_next, one value per example; x is held fixed.

        1/2 |grad_u D|^2,    u = variance_preserving(x_next, sigma_next)

    In the coordinates u of Xiao et al. 2022 it is (1 + sigma_next^2) times the penalty in x_next. In x_next
    the published gamma would be hundreds of times too weak at high noise. For discriminators that couple the
    examples see `adversarial.gradient_penalty`.
    """
    penalty = adversarial.gradient_penalty(
        lambda x_next: discriminator(x_next, pair.x, pair.sigma), pair.x_next
    )
    return (1 + pair.sigma_next**2) * penalty


def sampler(*, latent: int) -> Sampler:
    """Sampler that draws x0 = G(x, sigma, z) and then x_next from the posterior, with a new z in every step.

    Pass the generator as its `score`: `samplers.sample(key, x, levels(T), generator, sampler(latent=100))`.
    It takes T steps of one evaluation each, starting at x ~ N(0, sigma_T^2 I). The step to sigma = 0 returns
    x0.
    """

    def move(key, x, generator, sigma, sigma_next):
        whole = lambda level: jnp.full(x.shape[:1], level, x.dtype)
        return _draw_next(generator, key, x, whole(sigma), whole(sigma_next), latent)

    return memoryless(move)


def _draw_next(
    generator: Generator, key: Key, x: Batch, sigma: Sigma, sigma_next: Sigma, latent: int
) -> Batch:
    """Draws x_next from p_G(x_next | x): the posterior at the generator's x0."""
    keys = noise.row_keys(key, x.shape[0])
    z = noise.normal(noise.fold_in(keys, 0), (x.shape[0], latent), x.dtype)
    return posterior(noise.fold_in(keys, 1), x, generator(x, sigma, z), sigma, sigma_next)
