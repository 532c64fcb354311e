"""Updates: how the parameters change in one step of training.

`descent` is the gradient descent of one loss, `alternating` the game of several players. A loss is a pure
function of parameters, context and batch:

>>> import jax, jax.numpy as jnp, optax
>>> def loss(params, context, batch):
...     return jnp.mean((batch["x"] - params) ** 2), {"step": context.step}
>>> update, params = descent(loss, optax.sgd(0.5)), jnp.zeros(())
>>> context = Context(jax.random.key(0), jnp.int32(0), params)
>>> params, opt, metrics, size = update.apply(context, params, update.init(params), {"x": jnp.ones(8)})
>>> float(params), float(metrics["loss"])
(1.0, 1.0)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from jaxscore.types import Array, Batch, Key, Params, wide

Metrics = dict[str, Any]


class Context(NamedTuple):
    """What a loss may look at besides parameters and batch."""

    key: Key
    """The key of this step, and of this part of the batch."""
    step: Int[Array, ""]
    """The number of steps before this one."""
    ema: Params
    """The averages of the parameters before this step."""


Loss = Callable[[Params, Context, Batch], tuple[Array, Metrics]]


class Update(NamedTuple):
    """A pair of pure functions: how parameters change in one step.

    init(params) -> opt
    apply(context, params, opt, batch) -> (params, opt, metrics, norm of the change)
    """

    init: Callable[[Params], optax.OptState]
    apply: Callable[[Context, Params, optax.OptState, Batch], tuple[Params, optax.OptState, Metrics, Array]]


class Turn(NamedTuple):
    """One player of `alternating`: params[player] goes down the gradient of its own loss."""

    player: str
    loss: Loss
    """A loss of the parameters of all players."""
    tx: optax.GradientTransformation
    untrained: tuple[str, ...] = ()
    """As in `descent`, entries of params[player]."""


def descent(
    loss: Loss, tx: optax.GradientTransformation, *, microbatches: int = 1, untrained: tuple[str, ...] = ()
) -> Update:
    """Returns the update that takes all parameters down the gradient of the loss, by tx.

    The optimiser sees parameters and gradients in float32 or wider, so that its averages do not freeze if the
    parameters have 16 bits. It is also given the loss, as a value and as a function of the parameters:
    `optax.lbfgs` and `reduce_on_plateau` need them.

    Args:
        loss: loss(params, context, batch) -> (value, metrics).
        tx: the optimiser.
        microbatches: the number of parts of the batch, see `in_parts`.
        untrained: entries of params that the loss itself changes, such as Flax's "batch_stats". They may have
            any type. The optimiser leaves them alone. The loss returns their new values as the entry
            "untrained" of its metrics, {name: value}; the update raises ValueError if it does not.
    """
    tx, widened = optax.with_extra_args_support(tx), functools.partial(jax.tree.map, wide)

    def split(params: Params) -> tuple[Params, Params]:
        _require_entries(params, untrained)
        kept = {name: params[name] for name in untrained}
        return {name: params[name] for name in params if name not in kept} if kept else params, kept

    def valued(trained: Params, context: Context, batch: Batch, kept: Params):
        # Flax's NNX changes variables in place, and only those that were made within the differentiation.
        own = jax.tree.map(lambda leaf: leaf, kept)
        value, metrics = loss({**trained, **own} if own else trained, context, batch)
        return value, _changed(metrics, kept)

    def gradient(*given):
        (value, (metrics, kept)), grads = jax.value_and_grad(valued, has_aux=True)(*given)
        return (value, metrics, grads), kept

    def value_alone(*given):
        value, (_, kept) = valued(*given)
        return value, kept

    def apply(context: Context, params: Params, opt: optax.OptState, batch: Batch):
        params, before = split(params)
        (value, metrics, grads), kept = in_parts(gradient, microbatches)(params, context, batch, before)
        whole = in_parts(value_alone, microbatches)
        grads = widened(grads)
        given = {"value": value, "grad": grads, "value_fn": lambda p: whole(p, context, batch, before)[0]}
        updates, opt = tx.update(grads, opt, widened(params), **given)
        params = optax.apply_updates(params, updates)
        metrics = {**metrics, "loss": value, "grad_norm": optax.tree.norm(grads)}
        return {**params, **kept} if kept else params, opt, metrics, optax.tree.norm(updates)

    return Update(lambda params: tx.init(widened(_trainable(split(params)[0]))), apply)


def _require_entries(params: Params, untrained: tuple[str, ...]) -> None:
    if untrained and not (isinstance(params, dict) and params.keys() >= set(untrained)):
        entries = sorted(params) if isinstance(params, dict) else type(params).__name__
        raise ValueError(f"untrained = {untrained}: the entries of params are {entries}")


def _trainable(params: Params) -> Params:
    """Returns the parameters. Raises ValueError, which has the name, if one has no fractions."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(f"params {name} is {leaf.dtype}, and cannot be trained: name it in `untrained`")
    return params


def _changed(metrics: Metrics, kept: Params) -> tuple[Metrics, Params]:
    """Returns the metrics without "untrained", and the new values in the types of those before."""
    wrong = metrics.keys() & {"loss", "grad_norm", "skipped"}
    if wrong:
        raise ValueError(f"the loss has a metric {min(wrong)!r}, which is a name of the trainer's; rename it")
    after = metrics.get("untrained", {})
    if jax.tree.structure(after) != jax.tree.structure(kept):
        what = f"the loss returns metrics['untrained'] = {jax.tree.structure(after)}"
        raise ValueError(f"{what}; it must return the new values of {jax.tree.structure(kept)}")
    rest = {name: value for name, value in metrics.items() if name != "untrained"}
    return rest, jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, kept)


def alternating(turns: tuple[Turn, ...], *, microbatches: int = 1) -> Update:
    """Returns the update in which each player in turn descends its own loss: the training of adversaries.

    params is a dict by player. A player sees the parameters that earlier turns of the step have left.
    Each player has metrics `<player>_loss` and `<player>_grad_norm`; `loss` is the sum of the losses,
    `grad_norm` the norm of all gradients.
    """

    def of(turn: Turn, loss: Loss) -> Update:
        return descent(loss, turn.tx, microbatches=microbatches, untrained=turn.untrained)

    def init(params: dict[str, Params]) -> dict[str, optax.OptState]:
        return {turn.player: of(turn, turn.loss).init(params[turn.player]) for turn in turns}

    def apply(context: Context, everyone: dict[str, Params], opts: dict[str, optax.OptState], batch: Batch):
        metrics, size = {}, 0.0
        for number, turn in enumerate(turns):
            player = turn.player

            def own(params, context, batch, turn=turn, everyone=everyone):
                return turn.loss({**everyone, turn.player: params}, context, batch)

            part = context._replace(key=jax.random.fold_in(context.key, number))
            params, opt, found, moved = of(turn, own).apply(part, everyone[player], opts[player], batch)
            everyone, opts = {**everyone, player: params}, {**opts, player: opt}
            metrics |= {f"{player}_{name}": found.pop(name) for name in ("loss", "grad_norm")} | found
            size = size + moved
        metrics["loss"] = sum(metrics[f"{turn.player}_loss"] for turn in turns)
        norms = jnp.stack([metrics[f"{turn.player}_grad_norm"] for turn in turns])
        return everyone, opts, {**metrics, "grad_norm": jnp.linalg.norm(norms)}, size

    return Update(init, apply)


def in_parts(function: Callable[..., tuple[Any, Any]], microbatches: int) -> Callable[..., tuple[Any, Any]]:
    """Returns function(params, context, batch, kept) -> (result, kept), computed part by part.

    The result is the mean over `microbatches` parts of the batch, and takes the memory of one part; `kept`
    goes from part to part. Part m has the rows m, m + k, m + 2k, ..., k = `microbatches`, so that rows stay
    on their devices. Its key is folded with m: the random numbers are not those of the whole batch at once.
    Sums are float32 or wider. Raises ValueError if microbatches < 1, or if it does not divide the batch.
    """
    if microbatches == 1:
        return function
    if microbatches < 1:
        raise ValueError(f"microbatches = {microbatches} must be at least 1")

    def split(rows: Array) -> Array:
        if len(rows) % microbatches:
            raise ValueError(f"{microbatches} microbatches do not divide a batch of {len(rows)}")
        parts = rows.reshape(-1, microbatches, *rows.shape[1:])
        return jnp.moveaxis(parts, 1, 0)

    def mean(params: Params, context: Context, batch: Batch, kept: Any):
        def add(carry, inputs):
            (total, kept), (number, part) = carry, inputs
            own = context._replace(key=jax.random.fold_in(context.key, number))
            result, kept = function(params, own, part, kept)
            return (jax.tree.map(lambda a, b: a + wide(b), total, result), kept), None

        parts = jax.tree.map(split, batch)
        shapes, _ = jax.eval_shape(function, params, context, jax.tree.map(lambda rows: rows[0], parts), kept)
        zero = jax.tree.map(lambda leaf: wide(jnp.zeros(leaf.shape, leaf.dtype)), shapes)
        (total, kept), _ = jax.lax.scan(add, (zero, kept), (jnp.arange(microbatches), parts))
        return jax.tree.map(lambda leaf: leaf / microbatches, total), kept

    return mean
