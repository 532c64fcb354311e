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


class Turn(NamedTuple):
    """One player's part of a step: params[player] goes down the gradient of its own loss, by tx[player]."""

    player: str
    loss: Callable[[Params, Key, Batch, Array], tuple[Array, Metrics]]
    """loss(params, key, batch, step) -> (value, metrics), of the parameters of all players"""


class TrainState(NamedTuple):
    """All that training carries from step to step; keys and data are functions of `step`."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt: optax.OptState
    profiles: tuple[Params, ...] = ()
    """Further averages of the parameters, of which `ema` makes any other width afterwards."""


Step = Callable[[Key, TrainState, Batch], tuple[TrainState, Metrics]]
Optimizer = optax.GradientTransformation | dict[str, optax.GradientTransformation]


def everything(params: Params) -> Params:
    """Of which the average is kept, if nothing else is said."""
    return params


def init_state(
    key: Key,
    init: Callable[[Key], Params],
    tx: Optimizer,
    *,
    profiles: int = 0,
    averaged: Callable[[Params], Params] = everything,
) -> TrainState:
    """The state before the first step; the averages start at the initial parameters that are `averaged`.

    With a dict of optimisers each has the state of its own player's parameters, params[player].
    """
    # Without weak types, which initialisers may leave and an update takes away: a second compilation.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), init(key))
    # Copies, because the state is donated: two leaves must not share one buffer.
    average, *others = (ema.start(averaged(params)) for _ in range(1 + profiles))
    each = {name: tx[name].init(params[name]) for name in tx} if isinstance(tx, dict) else None
    return TrainState(jnp.zeros((), jnp.int32), params, average, each or tx.init(params), tuple(others))


def make_step(
    loss: Loss | tuple[Turn, ...],
    tx: Optimizer,
    *,
    decay: ema.Decay | None = None,
    profiles: tuple[ema.Decay, ...] = (),
    averaged: Callable[[Params], Params] = everything,
    microbatches: int = 1,
    skip_nonfinite: bool = False,
) -> Step:
    """The pure function step(key, state, batch) -> (state, metrics): one optimiser update.

    The step folds its number into the key, so the same key is passed every time. Metrics are
    those of the loss, and `loss` and `grad_norm` (the global L2 norm, before tx). `decay` defaults
    to `ema.constant(0.999)`; `profiles` are the decays of `TrainState.profiles`; both are of the parameters
    that `averaged` picks. `microbatches` is `accumulated`'s. With `skip_nonfinite` a step whose loss,
    gradient or update is not finite changes nothing but `step`, and has the metric `skipped` = 1, which
    is 0 of the others.

    With turns in place of a loss, and a dict of optimisers, each turn updates its player's parameters in
    order, the others' being what earlier turns have left: adversaries' alternating descent. `loss` is then
    the sum over the turns, and each has its `<player>_loss` and `<player>_grad_norm`.
    """
    decay = decay or ema.constant(0.999)
    update = (
        _in_turns(loss, tx, microbatches) if isinstance(loss, tuple) else _at_once(loss, tx, microbatches)
    )

    def step(key: Key, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        n = state.step
        params, opt, metrics, size = update(jax.random.fold_in(key, n), state, batch)
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


def _at_once(loss: Loss, tx: optax.GradientTransformation, microbatches: int) -> Callable:
    """update(key, state, batch) -> (params, opt, metrics, norm of the update), of all parameters."""
    gradient = accumulated(loss, microbatches)

    def update(key: Key, state: TrainState, batch: Batch):
        (value, metrics), grads = gradient(state.params, key, batch)
        updates, opt = tx.update(grads, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "loss": value, "grad_norm": optax.tree.norm(grads)}
        return params, opt, metrics, optax.tree.norm(updates)

    return update


def _in_turns(
    turns: tuple[Turn, ...], tx: dict[str, optax.GradientTransformation], microbatches: int
) -> Callable:
    """As `_at_once`, one player's parameters after the other's."""

    def update(key: Key, state: TrainState, batch: Batch):
        after, metrics, size = state, {}, 0.0
        for number, (player, loss) in enumerate(turns):
            mine = after._replace(params=after.params[player], opt=after.opt[player])

            def own(params, key, batch, loss=loss, player=player, everyone=after.params):
                return loss({**everyone, player: params}, key, batch, state.step)

            move = _at_once(own, tx[player], microbatches)
            params, opt, found, moved = move(jax.random.fold_in(key, number), mine, batch)
            after = after._replace(params={**after.params, player: params}, opt={**after.opt, player: opt})
            for name in ("loss", "grad_norm"):
                found[f"{player}_{name}"] = found.pop(name)
            metrics, size = {**metrics, **found}, size + moved
        metrics["loss"] = sum(metrics[f"{turn.player}_loss"] for turn in turns)
        norms = jnp.stack([metrics[f"{turn.player}_grad_norm"] for turn in turns])
        return after.params, after.opt, {**metrics, "grad_norm": jnp.linalg.norm(norms)}, size

    return update


def accumulated(loss: Loss, microbatches: int) -> Callable[..., tuple[tuple[Array, Metrics], Params]]:
    """gradient(params, key, batch) -> ((value, metrics), gradient), `microbatches` parts one after another.

    Means over the parts, in the memory of one of them. Part m has the rows m, m + k, m + 2k, ..., so that
    rows stay on their devices, and the key folded with m: its random numbers are not those of the whole
    batch at once. Raises ValueError if microbatches < 1 or if it does not divide the batch.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)
    if microbatches == 1:
        return gradient
    if microbatches < 1:
        raise ValueError(f"microbatches = {microbatches} must be at least 1")

    def split(rows: Array) -> Array:
        if len(rows) % microbatches:
            raise ValueError(f"{microbatches} microbatches do not divide a batch of {len(rows)}")
        parts = rows.reshape(-1, microbatches, *rows.shape[1:])
        return jnp.moveaxis(parts, 1, 0)

    def mean_gradient(params: Params, key: Key, batch: Batch):
        def add(total, inputs):
            number, part = inputs
            out = gradient(params, jax.random.fold_in(key, number), part)
            return jax.tree.map(jnp.add, total, out), None

        parts = jax.tree.map(split, batch)
        shapes = jax.eval_shape(gradient, params, key, jax.tree.map(lambda rows: rows[0], parts))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zero, (jnp.arange(microbatches), parts))
        return jax.tree.map(lambda leaf: leaf / microbatches, total)

    return mean_gradient


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
