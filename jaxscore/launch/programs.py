"""The three jits, init, step and sample, with their shardings and the donation of the state.

Each is made of an experiment and a mesh. The devices of the mesh need not exist: `plan` compiles the same
programs for a pod.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxscore import ema, keys, noise, sharding, trainer, updates
from jaxscore.keys import Stream
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.flags import FlagError, require
from jaxscore.launch.optimizer import evaluated
from jaxscore.types import Batch, Key, Params, wide

PROFILES = (0.05, 0.10)
"""Relative widths of the two averages that snapshots keep (Karras et al. 2024, section 3.2)."""


def mesh_of(config: Config, devices=None) -> Mesh:
    """Returns the mesh that the flags ask for. Raises FlagError if the devices or the batch do not fit."""
    try:
        mesh = sharding.mesh(config.mesh.data, config.mesh.fsdp, devices=devices)
    except ValueError as error:
        flag = f"--mesh.data {config.mesh.data} --mesh.fsdp {config.mesh.fsdp}"
        raise FlagError(f"{flag}: {error}; leave --mesh.data out") from None
    parts = mesh.size * config.microbatches
    reason = f"the {mesh.size} devices" + f" x {config.microbatches} microbatches" * (config.microbatches > 1)
    require(config.batch % parts == 0, "batch", config.batch, f"must be divisible by {reason}")
    return mesh


def init_state(experiment: Experiment) -> Callable[[Key], trainer.TrainState]:
    """Returns key -> the state before the first step."""
    profiles, how = len(decays(experiment.config)), update(experiment)
    return lambda key: trainer.init_state(
        key, experiment.init, how, profiles=profiles, averaged=experiment.averaged
    )


def update(experiment: Experiment, gather: Callable[[Params], Params] = trainer.identity) -> updates.Update:
    """Returns the update of the experiment; its losses see the parameters through `gather`."""
    config = experiment.config
    bind = lambda loss: lambda params, context, batch: loss(gather(params), context, batch)
    if (experiment.loss is None) == (not experiment.players):
        raise ValueError(f"the experiment {experiment.name!r} must have either a loss or players")
    if not experiment.players:
        tx = config.optimizer.build(config.steps)
        tx = tx if experiment.constraint is None else optax.chain(tx, experiment.constraint)
        own = {"microbatches": config.microbatches, "untrained": experiment.untrained}
        return updates.descent(bind(experiment.loss), tx, **own)
    turns = (
        updates.Turn(name, bind(player.loss), player.optimizer.build(config.steps), player.untrained)
        for name, player in experiment.players.items()
    )
    return updates.alternating(tuple(turns), microbatches=config.microbatches)


def average_decay(config: Config) -> ema.Decay:
    """Returns the decay of the average that is sampled from."""
    if config.ema_halflife is None:
        return ema.constant(config.ema_decay)
    return ema.halflife(config.ema_halflife, batch=config.batch, ramp=config.ema_ramp)


def decays(config: Config) -> tuple[ema.Decay, ...]:
    """Returns the decays of the averages that snapshots keep; none if there are no snapshots."""
    return tuple(ema.power(ema.gamma(width)) for width in PROFILES) if config.snapshot_every else ()


def abstract_state(experiment: Experiment, mesh: Mesh) -> trainer.TrainState:
    """Returns shapes, types and shardings of the state, before any array is made."""
    shapes = jax.eval_shape(init_state(experiment), keys.stream(0, Stream.INIT))
    return _abstract(shapes, sharding.fsdp(mesh, shapes))


def abstract_params(experiment: Experiment, mesh: Mesh) -> Params:
    """Returns shapes, types and shardings of the parameters that samplers get."""
    shapes = jax.eval_shape(experiment.sampled, abstract_state(experiment, mesh).ema)
    return _abstract(shapes, sharding.fsdp(mesh, shapes))


def sampled(experiment: Experiment, averages: Params, mesh: Mesh) -> Params:
    """Returns the parameters that samplers get, in their places."""
    return jax.device_put(experiment.sampled(averages), places(abstract_params(experiment, mesh)))


def abstract_batch(experiment: Experiment, mesh: Mesh) -> Batch:
    """Returns shapes, types and shardings of a batch, as the first one has them."""
    config = experiment.config
    first = next(experiment.batches(batch=config.batch, seed=config.seed))
    where = sharding.batched(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), first)


def bytes_needed(abstract: Any, config: Config) -> int:
    """Returns the size of all checkpoints, one being written included, of snapshots, samples and pictures."""
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract))
    averages = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract.profiles))
    for_ever = config.steps // config.keep_every if config.keep_every else 0
    snapshots = config.steps // config.snapshot_every if config.snapshot_every else 0
    return (config.keep + config.keep_best + 1 + for_ever) * state + snapshots * averages + 50_000_000


def make_init(experiment: Experiment, mesh: Mesh) -> Callable[[Key], trainer.TrainState]:
    """Returns key -> the state, jitted. Each array is made in its place; no device holds the whole state."""
    return jax.jit(init_state(experiment), out_shardings=places(abstract_state(experiment, mesh)))


def make_step(experiment: Experiment, mesh: Mesh) -> trainer.Step:
    """Returns the training step of the experiment, jitted, its state donated."""
    config, where = experiment.config, places(abstract_state(experiment, mesh))
    step = trainer.make_step(
        update(experiment, _gather(mesh, where.params)),
        decay=average_decay(config),
        averaged=experiment.averaged,
        profiles=decays(config),
        skip_nonfinite=config.nonfinite == "skip",
    )
    return jax.jit(
        evaluated(step, experiment.averaged),
        donate_argnums=1,
        out_shardings=(where, sharding.replicated(mesh)),
        compiler_options=experiment.compiler_options,
    )


def make_sampler(experiment: Experiment, name: str, mesh: Mesh, rows: int) -> Callable[..., Any]:
    """Returns (params, root key, number of the first row) -> `rows` samples, jitted, split over devices."""
    program, where = _sampling(experiment, name, mesh, rows), sharding.batched(mesh)
    return jax.jit(program, out_shardings=where, compiler_options=experiment.compiler_options)


def _sampling(experiment: Experiment, name: str, mesh: Mesh, rows: int) -> Callable[..., Any]:
    """Returns the program of `make_sampler` before it is jitted."""
    sampler, where = experiment.samplers[name], sharding.batched(mesh)
    gather = _gather(mesh, places(abstract_params(experiment, mesh)))
    split = lambda tree: jax.lax.with_sharding_constraint(tree, where)

    def program(params, root, start):
        each = split(noise.row_keys(root, rows, start=start))
        if experiment.conditions is None:
            drawn = sampler(gather(params), each)
        else:
            condition = experiment.conditions(start + jnp.arange(rows))
            drawn = sampler(gather(params), each, split(condition))
        return jax.tree.map(_stored, drawn)

    return program


def _stored(array: Any) -> Any:
    """Returns an array of 16-bit numbers as float32, because NumPy's files have no bfloat16."""
    narrow = isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jnp.floating)
    return wide(array) if narrow else array


def drawn(experiment: Experiment, name: str, mesh: Mesh) -> Any:
    """Returns the shapes and types of what the sampler returns for `rows_at_a_time` keys; draws nothing."""
    params, key = abstract_params(experiment, mesh), _abstract_key(mesh)
    draw = _sampling(experiment, name, mesh, rows_at_a_time(experiment.config, mesh))
    return jax.eval_shape(draw, params, key, jnp.int32(0))


def rows_at_a_time(config: Config, mesh: Mesh) -> int:
    """Returns --sample-batch, or --samples if they are fewer, rounded up to a multiple of the devices."""
    return -(-min(config.sample_batch, config.samples) // mesh.size) * mesh.size


def lower_step(experiment: Experiment, mesh: Mesh) -> jax.stages.Lowered:
    """Returns the training step, ready to be compiled for devices that need not exist."""
    state, batch = abstract_state(experiment, mesh), abstract_batch(experiment, mesh)
    return make_step(experiment, mesh).lower(_abstract_key(mesh), state, batch)


def lower_sampler(experiment: Experiment, name: str, mesh: Mesh) -> tuple[jax.stages.Lowered, int]:
    """Returns the sampler, ready to be compiled, and the rows that it draws at a time."""
    rows = rows_at_a_time(experiment.config, mesh)
    params = abstract_params(experiment, mesh)
    start = jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))
    return make_sampler(experiment, name, mesh, rows).lower(params, _abstract_key(mesh), start), rows


def places(abstract: Any) -> Any:
    """Returns the shardings of an abstract tree."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def whole(params: Params, mesh: Mesh) -> Params:
    """Returns the parameters with a copy on every device; a process of several gets a copy of its own."""
    params = jax.jit(lambda params: params, out_shardings=sharding.replicated(mesh))(params)
    return params if jax.process_count() == 1 else jax.device_get(params)


def _abstract(shapes: Any, where: Any) -> Any:
    struct = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    return jax.tree.map(struct, shapes, where)


def _abstract_key(mesh: Mesh) -> jax.ShapeDtypeStruct:
    key = jax.eval_shape(lambda: keys.stream(0, Stream.INIT))
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))


def _gather(mesh: Mesh, where: Any) -> Callable[[Any], Any]:
    return sharding.gathered(where) if mesh.shape["fsdp"] > 1 else trainer.identity
