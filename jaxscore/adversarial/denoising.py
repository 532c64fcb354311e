"""The denoising diffusion GAN: few large steps, each the draw of a conditional GAN.

Xiao, Kreis & Vahdat 2022, "Tackling the generative learning trilemma with denoising diffusion GANs". When
T is small, q(x_next | x) is far from Gaussian, and a network that predicts a mean cannot draw from it. So
a generator G(x, sigma, z) draws x0, the posterior q(x_next | x, x0) makes x_next of it, and a
discriminator D(x_next, x, sigma) is shown (x_next, x) from the data and from the generator.

In this library's coordinates x = x0 + sigma n, with sigma > sigma_next the ends of one step:

    data          x_next = x0 + sigma_next n,    x = x_next + sqrt(sigma^2 - sigma_next^2) n'
    posterior     x_next | x, x0 ~ N(x0 + (sigma_next / sigma)^2 (x - x0), tau^2 I)
                  tau = sigma_next sqrt(sigma^2 - sigma_next^2) / sigma

The paper's x is `variance_preserving(x, sigma)`; so much for the inputs of networks, and for the gradient
penalty. What the functions here are given:

    generator(x[b, ...], sigma[b], z[b, latent]) -> [b, ...]      a draw of x0
    discriminator(x_next[b, ...], x[b, ...], sigma[b]) -> [b]     the logit of being data

Both are told the step by its sigma: sigma_next is 0 in the last one, and has no logarithm.

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
    """The sampling grid sigma_T > ... > sigma_1 > sigma_0 = 0 of T = `steps` steps.

    The VP process of `noise.vp_linear` at t_i = t_min + (1 - t_min) i / T, begun at t_min:
    sigma_i^2 = 1 / abar_i - 1, abar_i = prod_{j <= i} (1 - beta_j), beta_i = 1 - exp(B(t_{i-1}) - B(t_i))
    (Xiao et al. 2022, appendix). T = 4: beta = .478, .849, .956, .987. Raises ValueError if steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1")
    schedule = noise.vp_linear(beta_min=beta_min, beta_max=beta_max, t_min=t_min)
    squares = schedule(jnp.linspace(1.0, 0.0, steps + 1)) ** 2
    # 1 + sigma^2 is a product over the steps: without the one to t_min, sigma_0 is 0.
    return jnp.sqrt((squares - squares[-1]) / (1 + squares[-1]))


def variance_preserving(x: Batch, sigma: Sigma) -> Batch:
    """x / sqrt(1 + sigma^2): the paper's x, as large as the data at every sigma, for the networks to see."""
    return x / right(jnp.sqrt(1 + sigma**2), x)


def shrunk(x: Batch, sigma: Sigma) -> Batch:
    """x / (1 + sigma^2): the mean of x0 given x, were the data N(0, I); for networks to see.

    As large as what x tells of x0. `variance_preserving` shows a network as much noise as there are data
    where there is next to nothing else in x, and it has to learn to look away.
    """
    return x / right(1 + sigma**2, x)


class Pair(NamedTuple):
    """The ends of a step, of one path each: x at sigma, and x_next at sigma_next, nearer to the data."""

    x: Float[Array, "b *event"]
    x_next: Float[Array, "b *event"]
    sigma: Float[Array, "b"]
    sigma_next: Float[Array, "b"]


def pair(key: Key, x0: Batch, sigma: Sigma, sigma_next: Sigma) -> Pair:
    """Clean x0 taken to sigma_next and on to sigma > sigma_next >= 0, independent noise added each time."""
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
    """sigma and sigma_next, [b] each, of the step of the grid that each u in (0, 1) falls into.

    Steps share (0, 1) in proportion to their `weights`, equally if there are none (Xiao et al. 2022): how
    often each is trained, which changes no step's optimum. With u from `noise.stratified` neighbours in the
    batch have the same step: a discriminator that compares the examples of a group
    (`networks.layers.MinibatchDeviation`) then compares draws of one distribution. Where steps are mixed in a
    group what differs is mostly their noise, and hardly anything keeps the generator from drawing a few
    modes alone.
    """
    ends = jnp.cumsum(jnp.ones(len(sigmas) - 1) if weights is None else weights)
    number = jnp.searchsorted(ends[:-1], u * ends[-1], side="right")
    return sigmas[number], sigmas[number + 1]


def share_of_data(sigmas: Float[Array, "steps_plus_1"]) -> Float[Array, "steps"]:
    """1 / sqrt(1 + sigma_next^2) of each step, `weights` for `step`: how large the data are in what it makes.

    As large as in `variance_preserving(x_next, sigma_next)`: 0.06, 0.28, 0.72 and 1 of T = 4. What is
    made at high noise hardly depends on the data, is soon learnt, and need not be right but as far as noise
    leaves it to see.
    """
    return 1 / jnp.sqrt(1 + sigmas[1:] ** 2)


def posterior(key: Key, x: Batch, x0: Batch, sigma: Sigma, sigma_next: Sigma) -> Batch:
    """A draw of x_next | x, x0 ~ N(x0 + (sigma_next / sigma)^2 (x - x0), tau^2 I); x0 at sigma_next = 0.

    tau = sigma_next sqrt(sigma^2 - sigma_next^2) / sigma (Ho et al. 2020, equation 7): the step of
    `samplers.ancestral`, whose x0 is the posterior mean.
    """
    z = noise.normal(key, x.shape, x.dtype)
    ratio = right(sigma_next / sigma, x)
    removed = right(jnp.sqrt(sigma**2 - sigma_next**2), x)
    return x0 + ratio**2 * (x - x0) + ratio * removed * z


# The game -------------------------------------------------------------------------------------


def discriminator_loss(
    discriminator: Discriminator, generator: Generator, key: Key, pair: Pair, *, latent: int
) -> Loss:
    """softplus(-D(x_next, x, sigma)) + softplus(D(x_next', x, sigma)), [b] (Xiao et al. 2022, section 3.2).

    x_next' is the generator's from the same x, with z ~ N(0, I_latent); it is a constant here, so no
    gradient reaches the generator's parameters. At the best discriminator, log q(x_next | x) -
    log p_G(x_next | x), it is 2 ln 2 less twice the Jensen-Shannon divergence of the two.
    """
    fake = jax.lax.stop_gradient(_draw_next(generator, key, pair.x, pair.sigma, pair.sigma_next, latent))
    return adversarial.discriminator_loss(
        discriminator(pair.x_next, pair.x, pair.sigma), discriminator(fake, pair.x, pair.sigma)
    )


def generator_loss(
    discriminator: Discriminator, generator: Generator, key: Key, pair: Pair, *, latent: int
) -> Loss:
    """softplus(-D(x_next', x, sigma)), [b]: the non-saturating loss (Xiao et al. 2022, section 3.2).

    Of the pair only x and its step are used; the paper draws a fresh one. It depends on the
    discriminator's parameters too: differentiate in the generator's alone.
    """
    fake = _draw_next(generator, key, pair.x, pair.sigma, pair.sigma_next, latent)
    return adversarial.generator_loss(discriminator(fake, pair.x, pair.sigma))


def gradient_penalty(discriminator: Discriminator, pair: Pair) -> Loss:
    """1/2 |grad_u D|^2, [b], u = variance_preserving(x_next, sigma_next), from the data; x is held still.

    R1 without its gamma, in the coordinates of Xiao et al. 2022, (1 + sigma_next^2) times
    that in x_next: otherwise the published gamma would be hundreds of times too weak at high noise. See
    `adversarial.gradient_penalty` on discriminators that couple the examples.
    """
    penalty = adversarial.gradient_penalty(
        lambda x_next: discriminator(x_next, pair.x, pair.sigma), pair.x_next
    )
    return (1 + pair.sigma_next**2) * penalty


def sampler(*, latent: int) -> Sampler:
    """x <- a draw of the posterior at x0 = G(x, sigma, z), z ~ N(0, I_latent) anew in every step.

    Its `score` is the generator: `samplers.sample(key, x, levels(T), generator, sampler(latent=100))`, T
    steps of one evaluation each, from x ~ N(0, sigma_T^2 I). The step to sigma = 0 returns x0 itself.
    """

    def move(key, x, generator, sigma, sigma_next):
        whole = lambda level: jnp.full(x.shape[:1], level, x.dtype)
        return _draw_next(generator, key, x, whole(sigma), whole(sigma_next), latent)

    return memoryless(move)


def _draw_next(
    generator: Generator, key: Key, x: Batch, sigma: Sigma, sigma_next: Sigma, latent: int
) -> Batch:
    """x_next from p_G(x_next | x): the posterior at the generator's x0."""
    keys = noise.row_keys(key, x.shape[0])
    z = noise.normal(noise.fold_in(keys, 0), (x.shape[0], latent), x.dtype)
    return posterior(noise.fold_in(keys, 1), x, generator(x, sigma, z), sigma, sigma_next)
