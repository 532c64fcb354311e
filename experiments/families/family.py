"""What the families share: flags, networks by the kind of data, and how an Experiment is put together."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.families import judging
from experiments.families.setting import Setting
from jaxscore import data, trainer
from jaxscore.launch.compiler import compiler_options
from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.config import Optimizer
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import require
from jaxscore.networks import MLP, UNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolutions:
    """A U-Net's size; for images of more than 192 numbers. Smaller ones, and points, have dense layers."""

    channels: int = 32
    """Of the largest images."""
    multipliers: tuple[int, ...] = (1, 2, 2)
    """Of the channels, for each level; each has half the side of the one before."""
    blocks: int = 1
    """Residual blocks of each level."""
    attention: tuple[int, ...] = ()
    """Levels with attention, by number."""

    def __post_init__(self):
        least = min((self.channels, self.blocks, len(self.multipliers), *self.multipliers))
        require(least >= 1, "convolutions", "", "must be positive numbers, one multiplier or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """The flags that all families have."""

    workdir: Path = Path("runs/families")
    data: str = "digits"
    """25gaussians, stacked_digits, or a data set of jaxscore.data."""
    data_dir: Path | None = None
    """Where it is, if not in its usual place."""
    size: int | None = None
    """Resolution, for sets of photographs."""
    width: int = 256
    """Width of dense networks."""
    depth: int = 4
    """Depth of dense networks."""
    octaves: int = 0
    """Fourier features of dense networks' inputs, down to 2^-octaves standard deviations; for points."""
    convolutions: Convolutions = dataclasses.field(default_factory=Convolutions)
    batch: int = 128
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=2e-3, decay=0.7))
    ema_decay: float = 0.99
    samples: int = 1797
    sample_batch: int = 2000
    save_every: int = 1_000_000
    log_every: int = 500

    def __post_init__(self):
        super().__post_init__()
        for name in ("width", "depth"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(self.octaves >= 0, "octaves", self.octaves, "must be 0 or more")
        require(self.samples >= 4, "samples", self.samples, "must be at least 4, for recall")


def score_network(config: Config, setting: Setting) -> MLP | UNet:
    """The network that DDPM, NCSN and EDM have in common."""
    if setting.dense:
        return MLP(width=config.width, depth=config.depth, octaves=config.octaves, remat=config.remat)
    return UNet(**dataclasses.asdict(config.convolutions), remat=config.remat)


def experiment(
    name: str,
    config: Config,
    setting: Setting,
    *,
    init: Callable[[Any], Any],
    loss: Callable | tuple[trainer.Turn, ...],
    samplers: dict[str, Callable[[Any, Any], jax.Array]],
    bits: Callable[[Any], float] | None = None,
    **rest: Any,
) -> Experiment:
    """The Experiment of a family. `loss` and `samplers` are in scaled coordinates.

    `bits(params)` are bits per dimension of what was held out, where the family has them.
    """
    scale = lambda loss: lambda params, key, x, *step: loss(params, key, setting.scaled(x), *step)
    turns = isinstance(loss, tuple)
    loss = tuple(turn._replace(loss=scale(turn.loss)) for turn in loss) if turns else scale(loss)

    def drawn(draw, label, params, keys):
        return {label: setting.restored(draw(params, keys))}

    dtype = np.float32 if isinstance(setting.train, np.ndarray) else np.uint8
    return Experiment(
        name=name,
        config=config,
        init=init,
        loss=loss,
        batches=lambda first, rows=None: data.batches(
            setting.train, batch=config.batch, seed=config.seed, start=first, rows=rows
        ),
        samplers={label: partial(drawn, draw, label) for label, draw in samplers.items()},
        evaluate=partial(judging.evaluate, setting, bits),
        table=judging.table,
        report=partial(judging.report, setting),
        event=jax.ShapeDtypeStruct(setting.event, dtype),
        compiler_options=None if setting.dense else compiler_options(),
        **rest,
    )


def zeros(setting: Setting, n: int = 1) -> tuple[jax.Array, jax.Array]:
    """n examples and their c_noise, for the initialisation of a network."""
    return jnp.zeros((n, *setting.event)), jnp.zeros(n)
