"""A normalising flow: affine or spline couplings, by flowjax, trained by maximum likelihood.

    python -m experiments.families.flow --data digits

Pixels are dequantised: uniform noise over the width of a grey value is added to each. Their bits are then an
upper bound (Theis et al. 2016, section 3.1). For points the density is exact.
"""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from experiments.families import family, likelihood
from experiments.families import setting as settings
from jaxscore import keys, launch, noise
from jaxscore.keys import Stream
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import Count, FlagError, Positive


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Coupling layers: each one changes half of the numbers, depending on the other half."""

    layers: Count = 6
    """Number of coupling layers."""
    knots: Annotated[int, Meta(ge=0)] = 6
    """Number of knots of each rational quadratic spline; 0 for affine couplings."""
    reach: Positive = 5.0
    """Range of the splines in standard deviations; values outside are unchanged."""
    width: int = 128
    depth: int = 1
    probes: Count = 16
    """Number of draws of the dequantisation noise for the bits of the held-out set."""


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the network for a sample, by sampler."""
    return {"one pass": 1}


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    size = int(np.prod(setting.event))
    make, join = flow(config, size)
    cell = 0.0 if setting.grey_values is None else 1 / (setting.grey_values * setting.std)

    def log_density(params, keys, x):
        """Log density in nats, [b], of x plus uniform noise over its grey value's cell; a key for each x."""
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (size,), minval=-0.5, maxval=0.5))(keys)
        return join(params).log_prob(x.reshape(len(x), size) + cell * uniform)

    def loss(params, context, batch):
        x = batch["x"]
        return -log_density(params, noise.row_keys(context.key, len(x)), x).mean(), {}

    def sample(params, keys):
        z = noise.normal(keys, (len(keys), size))
        return jax.vmap(join(params).bijection.transform)(z).reshape(-1, *setting.event)

    def log_probability(params, keys, x):
        """Unbiased estimate of a lower bound of log P(grey values): log density + log volume of a cell.

        The bound is the mean over noise in the cell (Jensen's inequality). For points it is the log density.
        """
        return log_density(params, keys, x) + (size * np.log(cell) if cell else 0.0)

    return family.experiment(
        "families.flow",
        config,
        setting,
        init=make,
        loss=loss,
        samplers={"one pass": sample},
        bits=lambda params: likelihood.bits_held_out(
            setting, log_probability, params, draws=config.probes, seed=config.seed
        ),
    )


def flow(config: Config, size: int):
    """Returns make(key) -> parameters by number, and join(parameters) -> distribution of flowjax.

    Raises:
        FlagError: if flowjax is not installed.
    """
    try:
        import equinox
        import paramax
        from flowjax.bijections import Affine, RationalQuadraticSpline
        from flowjax.distributions import Normal
        from flowjax.flows import coupling_flow
    except ImportError as error:
        missing = f"{error.name} is not installed: pip install 'jaxscore[experiments]'"
        raise FlagError(f"--families flow: {missing}") from None
    spline = lambda: RationalQuadraticSpline(knots=config.knots, interval=config.reach)

    def whole(key):
        return coupling_flow(
            key,
            base_dist=Normal(jnp.zeros(size)),
            transformer=spline() if config.knots else Affine(),
            flow_layers=config.layers,
            nn_width=config.width,
            nn_depth=config.depth,
        )

    trainable = lambda leaf: isinstance(leaf, paramax.NonTrainable)
    learned = lambda tree: equinox.partition(tree, equinox.is_inexact_array, is_leaf=trainable)
    # `fixed` has all that is not learned, such as permutations; a resumed run needs the same ones: one seed.
    _, fixed = learned(whole(keys.stream(config.seed, Stream.INIT)))
    structure = jax.tree.structure(learned(whole(keys.stream(config.seed, Stream.INIT)))[0])

    def make(key):
        leaves = jax.tree.leaves(learned(whole(key))[0])
        return {f"{number:03d}": leaf for number, leaf in enumerate(leaves)}

    def join(params):
        leaves = [params[name] for name in sorted(params)]
        return paramax.unwrap(
            equinox.combine(jax.tree.unflatten(structure, leaves), fixed, is_leaf=trainable)
        )

    return make, join


if __name__ == "__main__":
    launch.main(build, Config())
