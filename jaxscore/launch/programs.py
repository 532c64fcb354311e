"""The three jits, init, step and sample: with their shardings, and the donation of the state.

Each is a function of an experiment and a mesh, which may be one of devices that are not there: `plan`
compiles the very same programs for a pod.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxscore import data, ema, noise, sharding, trainer
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError, require
from jaxscore.launch.optimizer import evaluated

INIT, TRAIN, SAMPLE = range(3)
"""The streams of randomness: each is the seed's key folded with its number."""

PROFILES = (0.05, 0.10)
"""Relative widths of the two averages that snapshots keep (Karras et al. 2024, section 3.2)."""


def mesh_of(config: Config, devices=None) -> jax.sharding.Mesh:
    """The mesh that the configuration asks for. Raises FlagError if the devices or the batch do not fit."""
    try:
        mesh = sharding.mesh(config.mesh.data, config.mesh.fsdp, devices=devices)
    except ValueError as error:
        flag = f"--mesh.data {config.mesh.data} --mesh.fsdp {config.mesh.fsdp}"
        raise FlagError(f"{flag}: {error}; leave --mesh.data out") from None
    parts = mesh.size * config.microbatches
    reason = f"the {mesh.size} devices" + f" x {config.microbatches} microbatches" * (config.microbatches > 1)
    require(config.batch % parts == 0, "batch", config.batch, f"must be divisible by {reason}")
    return mesh


def init_state(experiment: Experiment) -> Callable[[Any], trainer.TrainState]:
    """key -> the state before the first step."""
    profiles = len(decays(experiment.config))
    return lambda key: trainer.init_state(
        key, experiment.init, optimizer(experiment), profiles=profiles, averaged=experiment.averaged
    )


def optimizer(experiment: Experiment) -> trainer.Optimizer:
    """The optimiser of the configuration, or the experiment's one for each player."""
    build = lambda recipe: recipe.build(experiment.config.steps)
    players = experiment.optimizers
    if players is None:
        return build(experiment.config.optimizer)
    return {player: build(recipe) for player, recipe in players.items()}


def average_decay(config: Config) -> ema.Decay:
    """Returns the decay of the average that is sampled from."""
    if config.ema_halflife is None:
        return ema.constant(config.ema_decay)
    return ema.halflife(config.ema_halflife, batch=config.batch, ramp=config.ema_ramp)


def decays(config: Config) -> tuple[ema.Decay, ...]:
    """Those of the averages that snapshots keep; none if there are no snapshots."""
    return tuple(ema.power(ema.gamma(width)) for width in PROFILES) if config.snapshot_every else ()


def abstract_state(experiment: Experiment, mesh) -> trainer.TrainState:
    """Shapes first, then shardings: what the state will be, before any array is made."""
    shapes = jax.eval_shape(init_state(experiment), jax.random.key(0))
    return _abstract(shapes, sharding.fully_sharded(mesh, shapes))


def abstract_batch(experiment: Experiment, mesh) -> jax.ShapeDtypeStruct:
    """Shape, type and sharding of a batch, without one if the experiment knows its `event`."""
    event, config = experiment.event, experiment.config
    if event is None:
        first = next(experiment.batches(0))
        event = jax.ShapeDtypeStruct(first.shape[1:], first.dtype)
    shape = (config.batch, *event.shape)
    return jax.ShapeDtypeStruct(shape, event.dtype, sharding=sharding.batched(mesh))


def make_init(experiment: Experiment, mesh) -> Callable[[Any], trainer.TrainState]:
    """key -> the state, jitted, each array made where it belongs: no device ever holds the whole."""
    return jax.jit(init_state(experiment), out_shardings=places(abstract_state(experiment, mesh)))


def make_step(experiment: Experiment, mesh) -> trainer.Step:
    """The training step of the experiment, jitted, its state donated."""
    config, where = experiment.config, places(abstract_state(experiment, mesh))
    gather = _gather(mesh, where.params)
    # Pixels travel to the devices as bytes, and are scaled there.
    bind = lambda loss: lambda params, key, batch, *step: loss(gather(params), key, data.unit(batch), *step)
    if isinstance(experiment.loss, tuple):
        loss = tuple(turn._replace(loss=bind(turn.loss)) for turn in experiment.loss)
    else:
        loss = bind(experiment.loss)
    step = trainer.make_step(
        loss,
        optimizer(experiment),
        decay=average_decay(config),
        averaged=experiment.averaged,
        profiles=decays(config),
        microbatches=config.microbatches,
        skip_nonfinite=config.nonfinite == "skip",
    )
    return jax.jit(
        evaluated(step, experiment.averaged),
        donate_argnums=1,
        out_shardings=(where, sharding.replicated(mesh)),
        compiler_options=experiment.compiler_options,
    )


def make_sampler(experiment: Experiment, name: str, mesh, rows: int) -> Callable[..., Any]:
    """(params, root key, number of the first row) -> `rows` samples, jitted, split over the devices."""
    sampler, where = experiment.samplers[name], sharding.batched(mesh)
    gather = _gather(mesh, places(abstract_state(experiment, mesh)).ema)

    def program(params, root, start):
        keys = noise.row_keys(root, rows, start=start)
        return sampler(gather(params), jax.lax.with_sharding_constraint(keys, where))

    return jax.jit(program, out_shardings=where, compiler_options=experiment.compiler_options)


def places(abstract: Any) -> Any:
    """The shardings of an abstract tree."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def whole(params: Any, mesh) -> Any:
    """The parameters with a copy on every device."""
    return jax.jit(lambda params: params, out_shardings=sharding.replicated(mesh))(params)


def _abstract(shapes: Any, where: Any) -> Any:
    struct = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    return jax.tree.map(struct, shapes, where)


def _gather(mesh, where: Any) -> Callable[[Any], Any]:
    return sharding.gathered(where) if mesh.shape["fsdp"] > 1 else lambda params: params
