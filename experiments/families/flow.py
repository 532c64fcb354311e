"""A normalising flow: affine or spline couplings, by flowjax, trained by maximum likelihood.

    python -m experiments.families.flow --data digits

Pixels are dequantised by noise uniform over a grey value's width, whose log likelihood bounds the bits from
above (Theis et al. 2016, section 3.1); of points it is exact.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families import family, likelihood
from experiments.families import setting as settings
from jaxscore import launch, noise
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(family.Config):
    """Coupling layers, each of which moves half of the numbers by what it reads off the other half."""

    layers: int = 6
    """How many couplings."""
    knots: int = 6
    """Of each rational quadratic spline; 0 for affine couplings."""
    reach: float = 5.0
    """Splines act within so many standard deviations; what is beyond stays."""
    width: int = 128
    depth: int = 1
    probes: int = 16
    """Draws of the dequantisation for the bound on the data held out."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("layers", "probes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(self.knots >= 0, "knots", self.knots, "must be 0 or more")
        require(self.reach > 0, "reach", self.reach, "must be positive")


def evaluations(config: Config) -> dict[str, int]:
    """Of each sampler."""
    return {"one pass": 1}


def build(config: Config) -> Experiment:
    """The experiment that the configuration describes. Raises data.DataError if the data are absent."""
    setting = settings.of(config.data, config.data_dir, config.size)
    size = int(np.prod(setting.event))
    make, join = flow(config, size)
    cell = 0.0 if setting.grey_values is None else 1 / (setting.grey_values * setting.std)

    def log_density(params, keys, x):
        """Of x with noise within its grey value's cell, in nats, [b], a key for each."""
        uniform = jax.vmap(lambda key: jax.random.uniform(key, (size,), minval=-0.5, maxval=0.5))(keys)
        return join(params).log_prob(x.reshape(len(x), size) + cell * uniform)

    def loss(params, key, x):
        return -log_density(params, noise.row_keys(key, len(x)), x).mean(), {}

    def sample(params, keys):
        z = noise.normal(keys, (len(keys), size))
        return jax.vmap(join(params).bijection.transform)(z).reshape(-1, *setting.event)

    def log_probability(params, keys, x):
        """Of grey values, from below: the mean density over their cells, times a cell's volume."""
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
    """make(key) -> parameters by number, and join(parameters) -> flowjax's distribution.

    Raises FlagError if flowjax is not there.
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
    # Without arrays of its own, the structure: permutations, activations, what is not learned.
    _, fixed = learned(whole(jax.random.key(config.seed)))
    structure = jax.tree.structure(learned(whole(jax.random.key(config.seed)))[0])

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
