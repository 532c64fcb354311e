"""Training: a state, a step, and a loop that does not run ahead of the device.

The trainer knows optax and a `loss(params, key, batch) -> (value, metrics)`; it never learns what
a score is.

>>> import itertools, jax, jax.numpy as jnp, optax
>>> def loss(params, key, batch):
...     return jnp.mean((batch - params) ** 2), {}
>>> key, tx = jax.random.key(0), optax.adam(0.1)
>>> state = init_state(key, lambda key: jnp.zeros(()), tx)
>>> step = jax.jit(make_step(loss, tx), donate_argnums=1)
>>> for state, metrics in fit(key, state, step, itertools.repeat(jnp.ones(8)), steps=100):
...     pass
>>> bool(abs(state.params - 1) < 0.01), int(state.step)
(True, 100)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from jaxscore import ema
from jaxscore.types import Array, Key, Params

Batch = Any
Metrics = dict[str, Any]
Loss = Callable[[Params, Key, Batch], tuple[Array, Metrics]]


class TrainState(NamedTuple):
    """All that training carries from step to step; keys and data are functions of `step`."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt: optax.OptState


Step = Callable[[Key, TrainState, Batch], tuple[TrainState, Metrics]]


def init_state(key: Key, init: Callable[[Key], Params], tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the average starts at the initial parameters."""
    # Without weak types, which initialisers may leave and an update takes away: a second compilation.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), init(key))
    # A copy, because the state is donated: two leaves must not share one buffer.
    average = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, average, tx.init(params))


def make_step(loss: Loss, tx: optax.GradientTransformation, *, decay: ema.Decay | None = None) -> Step:
    """The pure function step(key, state, batch) -> (state, metrics): one optimiser update.

    The step folds its number into the key, so the same key is passed every time. Metrics are
    those of the loss, and `loss` and `grad_norm` (the global L2 norm, before tx). `decay` defaults
    to `ema.constant(0.999)`.
    """
    decay = decay or ema.constant(0.999)

    def step(key: Key, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, metrics), grads = gradient(state.params, key, batch)
        updates, opt = tx.update(grads, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        average = ema.update(state.ema, params, decay(state.step))
        metrics = {**metrics, "loss": value, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, average, opt), metrics

    return step


def fit(
    key: Key,
    state: TrainState,
    step: Step,
    batches: Iterable[Batch],
    *,
    steps: int,
    in_flight: int = 8,
) -> Iterator[tuple[TrainState, Metrics]]:
    """Train until state.step is `steps`, yielding the state and the metrics after every step.

    What is yielded may still be computing: at most `in_flight` steps are, so that the host neither
    waits for each step nor queues work without bound. If `step` donates its state, what was
    yielded is gone once the next is asked for. `batches` begins with the batch of state.step.
    Raises ValueError if in_flight < 1.
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
