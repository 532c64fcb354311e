"""Common parts of the families: flags, a network for the kind of data, and the fields of an Experiment."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from msgspec import Meta

from experiments.families import judging
from experiments.families.setting import Setting
from jaxscore import data, samplers
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Experiment, Optimizer, Player, Units
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.flags import Count, check, require
from jaxscore.networks import MLP, UNet
from jaxscore.types import Array, Key, ParametricScore, Params
from jaxscore.updates import Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolutions:
    """Size of convolutional networks: for images of more than 192 numbers, and for all images of the VAE."""

    channels: Count = 32
    """Number of channels at full resolution."""
    multipliers: tuple[Count, ...] = (1, 2, 2)
    """Multiples of these channels, one for each level; each level has half the side of the previous one."""
    blocks: Count = 1
    """Number of residual blocks at each level."""
    attention: tuple[int, ...] = ()
    """Numbers of the levels with attention; 0 is full resolution."""

    def __post_init__(self):
        check(self, "convolutions.")
        require(bool(self.multipliers), "convolutions.multipliers", "", "needs at least one number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Flags of all families."""

    workdir: Path = Path("runs/families")
    data: str = "digits"
    """Data set: 25gaussians, stacked_digits, or a name of jaxscore.data.load; an unknown name lists them."""
    data_dir: Path | None = None
    """Folder of the data set, if it is not in its usual place."""
    size: int | None = None
    """Side of the images in pixels, for data sets of photographs."""
    width: Count = 256
    """Width of dense networks."""
    depth: Count = 4
    """Number of layers or blocks of dense networks."""
    octaves: Annotated[int, Meta(ge=0)] = 0
    """Octaves of Fourier features of what dense score networks and discriminators see; they resolve
    2^-octaves standard deviations."""
    convolutions: Convolutions = dataclasses.field(default_factory=Convolutions)
    batch: int = 128
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=2e-3, decay=0.7))
    ema_decay: float = 0.99
    samples: Annotated[int, Meta(ge=4)] = 1797  # recall looks at 3 neighbours
    sample_batch: int = 2000
    save_every: int = 1_000_000
    log_every: int = 500


def score_network(config: Config, setting: Setting) -> MLP | UNet:
    """Returns the network of DDPM, NCSN and EDM: an MLP for small examples, otherwise a U-Net."""
    if setting.dense:
        return MLP(width=config.width, depth=config.depth, octaves=config.octaves, remat=config.remat)
    return UNet(**dataclasses.asdict(config.convolutions), remat=config.remat)


def experiment(
    name: str,
    config: Config,
    setting: Setting,
    *,
    samplers: dict[str, Callable[[Params, Key], Array]],
    loss: Loss | None = None,
    players: dict[str, Player] | None = None,
    bits: Callable[[Params], float] | None = None,
    **rest: Any,
) -> Experiment:
    """Returns the Experiment of a family.

    The losses get scaled examples, and the samplers return scaled examples (`Setting.scaled`). The Experiment
    converts the samples to the units of the data.

    Args:
        name: name of the experiment.
        config: flags.
        setting: data set.
        samplers: sampler(params, keys) -> samples, by the name in the table.
        loss: loss of the Experiment, unless it has `players`.
        players: players of the Experiment, unless it has a `loss`.
        bits: bits(params) -> held-out bits per dimension, if the family has a likelihood.
        rest: further fields of the Experiment.
    """

    def scaled(loss: Loss) -> Loss:
        return lambda params, context, batch: loss(
            params, context, {**batch, "x": setting.scaled(batch["x"])}
        )

    def restored(draw, label, params, keys):
        return {label: setting.restored(draw(params, keys))}

    if players is not None:
        players = {who: player._replace(loss=scaled(player.loss)) for who, player in players.items()}
    return Experiment(
        name=name,
        config=config,
        loss=loss and scaled(loss),
        players=players,
        batches=partial(data.batches, {"x": setting.train}),
        data=data.Dataset(setting.train, setting.labels),
        units=Units(setting.scaled, setting.restored),
        samplers={label: partial(restored, draw, label) for label, draw in samplers.items()},
        evaluate=partial(judging.evaluate, setting, bits),
        table=judging.table,
        report=partial(judging.report, setting),
        compiler_options=None if setting.dense else compiler_options(),
        **rest,
    )


def averaged(objective: Callable, score: ParametricScore) -> Loss:
    """Returns the loss of an Experiment: the batch mean of an objective made by `objectives.over_levels`."""
    return lambda params, context, batch: (
        objective(partial(score, params), context.key, batch["x"]).mean(),
        {},
    )


def drawn(
    score: ParametricScore, setting: Setting, sigmas: Array, sampler: samplers.Sampler
) -> Callable[[Params, Key], Array]:
    """Returns sampler(params, keys) of an Experiment, which draws a sample for each key."""
    return lambda params, keys: samplers.generate(
        keys, setting.event, sigmas, partial(score, params), sampler, moments=setting.moments
    )


def zeros(setting: Setting, n: int = 1) -> tuple[jax.Array, jax.Array]:
    """Returns n examples of zeros and their c_noise, for the initialisation of a network."""
    return jnp.zeros((n, *setting.event)), jnp.zeros(n)
