"""Training: a state, a step, and a loop that does not run ahead of the device.

The trainer knows optax and a `loss(params, context, batch) -> (value, metrics)`; it never learns what a
score is. On arrays in memory, `fit` is all that is needed:

>>> import jax, jax.numpy as jnp, optax
>>> def loss(params, context, batch):
...     return jnp.mean((batch["x"] - params) ** 2), {}
>>> init, tx = lambda key: jnp.zeros(()), optax.adam(0.1)
>>> state = fit(loss, init, {"x": jnp.ones(64)}, steps=100, batch=8, tx=tx, key=jax.random.key(0))
>>> bool(abs(state.params - 1) < 0.01), int(state.step)
(True, 100)
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from jaxscore import ema, updates
from jaxscore.types import Array, Batch, Key, Params
from jaxscore.updates import Context, Loss, Metrics, Update


class TrainState(NamedTuple):
    """All that training carries from step to step; keys and data are functions of `step`."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt: optax.OptState
    profiles: tuple[Params, ...] = ()
    """Further averages of the parameters, from which `ema` makes the average of any other width."""


Step = Callable[[Key, TrainState, Batch], tuple[TrainState, Metrics]]


def identity(params: Params) -> Params:
    """Returns the parameters: all of them are averaged by default."""
    return params


def init_state(
    key: Key,
    init: Callable[[Key], Params],
    update: Update | optax.GradientTransformation,
    *,
    profiles: int = 0,
    averaged: Callable[[Params], Params] = identity,
) -> TrainState:
    """Returns the state before the first step; the averages are copies of the initial parameters.

    Args:
        key: the key of the initialisation.
        init: init(key) -> params.
        update: `updates.descent` or `updates.alternating`, or an optimiser, whose state is the same as that
            of a descent.
        profiles: the number of further averages.
        averaged: averaged(params) -> the parameters of which averages are kept.
    """
    # An initialiser may leave weak types, which the first update takes away: a second compilation.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), init(key))
    # Copies, because the state is donated: two leaves must not share one buffer. Some optimisers keep the
    # parameters that they were given.
    average, *others = (ema.start(averaged(params)) for _ in range(1 + profiles))
    opt = jax.tree.map(lambda leaf: jnp.array(leaf), update.init(params))
    return TrainState(jnp.zeros((), jnp.int32), params, average, opt, tuple(others))


def make_step(
    update: Update,
    *,
    decay: ema.Decay | None = None,
    profiles: tuple[ema.Decay, ...] = (),
    averaged: Callable[[Params], Params] = identity,
    skip_nonfinite: bool = False,
) -> Step:
    """Returns the pure function step(key, state, batch) -> (state, metrics): one update and the averages.

    The step folds its number into the key, so the same key is passed every time. The metrics are those of
    the update: the metrics of the loss, `loss`, and `grad_norm`, the global L2 norm of the gradient
    before tx.

    Args:
        update: `updates.descent` or `updates.alternating`.
        decay: the decay of the average; `ema.constant(0.999)` by default.
        profiles: the decays of `TrainState.profiles`.
        averaged: averaged(params) -> the parameters of which averages are kept.
        skip_nonfinite: if the loss, the gradient or the change is not finite, keep all but `step` as it
            was. The metric `skipped` is then 1, and 0 in all other steps.
    """
    decay = decay or ema.constant(0.999)

    def step(key: Key, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        n = state.step
        context = Context(jax.random.fold_in(key, n), n, state.ema)
        params, opt, metrics, size = update.apply(context, state.params, state.opt, batch)
        average = ema.update(state.ema, averaged(params), decay(n))
        others = zip(state.profiles, profiles, strict=True)
        others = tuple(ema.update(other, averaged(params), decay(n)) for other, decay in others)
        after = TrainState(n + 1, params, average, opt, others)
        if skip_nonfinite:
            fine = jnp.isfinite(metrics["loss"] + metrics["grad_norm"] + size)
            kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, state)
            after, metrics["skipped"] = kept._replace(step=n + 1), 1.0 - fine
        return after, metrics

    return step


def loop(
    key: Key,
    state: TrainState,
    step: Step,
    batches: Iterable[Batch],
    *,
    steps: int,
    in_flight: int = 8,
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains until state.step is `steps`, yielding the state and the metrics after every step.

    Yields before a step has finished computing; at most `in_flight` steps are unfinished. If `step`
    donates its state, a yielded state is invalid after the next iteration.

    Args:
        key: the key of all steps.
        state: the state to begin with.
        step: step(key, state, batch) -> (state, metrics), as `make_step` makes it, usually jitted.
        batches: the batches from number state.step on.
        steps: the number of steps in all, those before `state` included.
        in_flight: at least 1, else a ValueError.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight = {in_flight} must be at least 1")
    running: deque[Metrics] = deque()
    remaining = range(int(state.step), steps)
    # zip asks the range first: no batch is drawn beyond the last step.
    for _, batch in zip(remaining, batches, strict=False):
        state, metrics = step(key, state, batch)
        running.append(metrics)
        if len(running) > in_flight:
            jax.block_until_ready(running.popleft())
        yield state, metrics


def fit(
    loss: Loss,
    init: Callable[[Key], Params],
    arrays: Batch,
    *,
    steps: int,
    batch: int,
    tx: optax.GradientTransformation,
    key: Key,
    decay: ema.Decay | None = None,
    untrained: tuple[str, ...] = (),
) -> TrainState:
    """Trains on arrays in memory, and returns the state after the last step; for notebooks.

    `state.ema` has the averages of the parameters, with which to sample. Files, resumption and several
    devices are the business of `jaxscore.launch`.

    Args:
        loss: loss(params, context, batch) -> (value, metrics).
        init: init(key) -> params, as `networks.init` makes it.
        arrays: arrays by name, each with the same number of rows: {"x": x} or with a "label".
        steps: the number of steps.
        batch: the number of rows in a step, drawn with replacement.
        tx: the optimiser.
        key: the key of parameters, rows and noise.
        decay: the decay of the average; `ema.constant(0.999)` by default.
        untrained: entries of params that the loss itself changes, see `updates.descent`.

    Raises:
        ValueError: if there are no arrays, if their numbers of rows differ, or if steps or batch is below 1.
    """
    rows = {
        jax.tree_util.keystr(path, simple=True, separator="/"): len(x)
        for path, x in jax.tree_util.tree_leaves_with_path(arrays)
    }
    if len(set(rows.values())) != 1 or 0 in rows.values():
        raise ValueError(f"the arrays have {rows} rows: give at least one array, all with as many rows")
    if steps < 1 or batch < 1:
        raise ValueError(f"steps = {steps} and batch = {batch} must be at least 1")
    key_init, key_rows, key_steps = jax.random.split(key, 3)
    update = updates.descent(loss, tx, untrained=untrained)
    step, n = make_step(update, decay=decay), next(iter(rows.values()))

    def drawn(key: Key, state: TrainState, arrays: Batch) -> tuple[TrainState, Metrics]:
        rows = jax.random.randint(jax.random.fold_in(key_rows, state.step), (batch,), 0, n)
        return step(key, state, jax.tree.map(lambda array: array[rows], arrays))

    state = jax.jit(lambda key: init_state(key, init, update))(key_init)
    arrays = jax.tree.map(jnp.asarray, arrays)
    program = jax.jit(drawn, donate_argnums=1)
    states = (state for state, _ in loop(key_steps, state, program, itertools.repeat(arrays), steps=steps))
    return deque(states, maxlen=1).pop()
