"""Flags of the optimiser, and the optax transformation that they describe."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from msgspec import Meta
from optax import contrib

from jaxscore import trainer
from jaxscore.launch.flags import Fraction, NonNegative, Positive, check, require
from jaxscore.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optax optimiser whose learning rate warms up linearly, is constant, and then decays."""

    kind: Literal["adam", "adamw", "lion", "muon", "schedule-free"] = "adam"
    """adam or adamw. lion needs a rate 3 to 10 times lower (Chen et al. 2023). muon orthogonalises the
    momentum of matrices and kernels, and uses Adam for other parameters (Jordan 2024). schedule-free is AdamW
    with an average of its own, and needs no decay of the rate (Defazio et al. 2024)."""
    learning_rate: Positive = 1e-3
    """Constant learning rate, reached after the warm-up."""
    warm_up: Annotated[int, Meta(ge=0)] = 100
    """Number of steps over which the rate rises linearly to the constant rate."""
    decay: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Fraction of the steps, at the end of training, over which the rate falls."""
    fall: Literal["linear", "cosine", "inverse_sqrt"] = "linear"
    """Form of the fall. inverse_sqrt is rate / sqrt(step / t_ref), where the fall begins at step t_ref
    (EDM2: Karras et al. 2024)."""
    final: NonNegative = 0.0
    """Learning rate after the last step; no effect if the decay is 0."""
    b1: Fraction = 0.9
    """Decay of Adam's first moment and of muon's momentum. lion: weight of the momentum against the gradient.
    schedule-free: weight of the average at the point where the gradient is taken."""
    b2: Fraction = 0.99
    """Decay of Adam's second moment (muon: for parameters that are no matrices); lion: decay of momentum."""
    epsilon: Positive = 1e-8
    """Number that Adam adds to the root of its second moment, and muon to the norm of its momentum."""
    weight_decay: NonNegative = 0.0
    """Each step subtracts rate * weight_decay * parameter from parameters with two axes or more."""
    clip: Positive | None = None
    """Maximum global L2 norm of the gradient; larger gradients are scaled down to this norm."""

    def __post_init__(self):
        check(self, "optimizer.")
        rate = self.learning_rate
        remedy = f"must be at most {rate}, the optimizer.learning-rate"
        require(self.final <= rate, "optimizer.final", self.final, remedy)
        self._refuse_ignored()

    def _refuse_ignored(self) -> None:
        for kind, name, neutral, remedy in (
            ("adam", "weight_decay", 0.0, "use --optimizer.kind adamw"),
            ("lion", "epsilon", 1e-8, "give --optimizer.epsilon 1e-8"),
        ):
            reason, value = f"has no effect with --optimizer.kind {kind}; {remedy}", getattr(self, name)
            require(self.kind != kind or value == neutral, f"optimizer.{name}", value, reason)
        reason = "has no effect with --optimizer.fall inverse_sqrt; give --optimizer.final 0"
        require(self.fall != "inverse_sqrt" or self.final == 0, "optimizer.final", self.final, reason)
        reason = "must be positive with --optimizer.kind schedule-free"
        require(self.kind != "schedule-free" or self.b1 > 0, "optimizer.b1", self.b1, reason)

    def build(self, steps: int) -> optax.GradientTransformation:
        """Returns the optax optimiser for a run of `steps` steps."""
        rate, b1, b2, eps, decay = self.schedule(steps), self.b1, self.b2, self.epsilon, self.weight_decay
        clip = [] if self.clip is None else [optax.clip_by_global_norm(self.clip)]
        if self.kind == "schedule-free":
            # AdamW without its first moment. The clipping is inside, because `evaluated` needs the state of
            # schedule-free on the outside.
            divide = optax.scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
            shrink = optax.add_decayed_weights(decay, matrices)
            base = optax.chain(*clip, divide, shrink, optax.scale_by_learning_rate(rate))
            return wide(contrib.schedule_free(base, rate, b1))
        if self.kind == "adam":
            tx = optax.adam(rate, b1=b1, b2=b2, eps=eps)
        elif self.kind == "adamw":
            tx = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=decay, mask=matrices)
        elif self.kind == "lion":
            tx = optax.lion(rate, b1=b1, b2=b2, weight_decay=decay, mask=matrices)
        else:
            # With this factor a step has the same RMS as AdamW's, so both can use one rate (Liu et al. 2025).
            shapes = {"muon_weight_dimension_numbers": dimensions, "consistent_rms": 0.2}
            tx = contrib.muon(rate, beta=b1, eps=eps, weight_decay=decay, adam_b1=b1, adam_b2=b2, **shapes)
        return wide(optax.chain(*clip, tx) if clip else tx)

    def schedule(self, steps: int) -> optax.Schedule:
        """Returns step -> learning rate, for a run of `steps` steps."""
        rate, fall = self.learning_rate, round(self.decay * steps)
        begin = steps - fall
        rise = min(self.warm_up, begin)
        down = {
            "linear": optax.linear_schedule(rate, self.final, max(fall, 1)),
            "cosine": optax.cosine_decay_schedule(rate, max(fall, 1), self.final / rate),
            "inverse_sqrt": lambda n: rate * jax.lax.rsqrt(1 + n / max(begin, 1)),
        }[self.fall]
        up = optax.linear_schedule(rate / (rise + 1), rate, rise)
        return optax.join_schedules([up, optax.constant_schedule(rate), down], [rise, begin])


def matrices(params: Params) -> Any:
    """Returns for each parameter whether it has two axes or more; biases and scales of norms have one."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def dimensions(params: Params) -> Any:
    """Returns for each parameter which axes muon takes as rows (all but the last) and as columns (the last).

    The result is None for parameters with fewer than two axes, which are updated by Adam.
    """
    spec = lambda n: contrib.MuonDimensionNumbers(tuple(range(n - 1)), n - 1) if n >= 2 else None
    return jax.tree.map(lambda leaf: spec(leaf.ndim), params)


def wide(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `tx` with its state and arithmetic in float32 or wider.

    Moments in bfloat16 stop changing when each change is less than half of their last digit. For float32
    parameters nothing changes.
    """
    up = lambda tree: jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)
    update = lambda grads, state, params=None: tx.update(up(grads), state, up(params))
    return optax.GradientTransformation(lambda params: tx.init(up(params)), update)


# The parameters that schedule-free samples with ------------------------------------------------


def evaluated(step: trainer.Step, averaged: Callable[[Params], Params]) -> trainer.Step:
    """Returns the step with the evaluation parameters of schedule-free optimisers in TrainState.ema.

    Schedule-free takes gradients at y = (1 - b1) z + b1 x and evaluates at the average x. Samples are drawn
    with x, not with a moving average of y. Parameters of other optimisers keep their moving average.
    """

    def with_evaluated(key, before, batch):
        state, metrics = step(key, before, batch)
        fresh, params = _evaluation(state.params, state.opt)
        kept = metrics.get("skipped", 0.0) > 0
        mix = lambda fresh, x, old: jnp.where(kept, old, x).astype(old.dtype) if fresh else old
        return state._replace(ema=jax.tree.map(mix, averaged(fresh), averaged(params), state.ema)), metrics

    return with_evaluated


def _evaluation(params: Params, opt: optax.OptState) -> tuple[Any, Params]:
    """Returns for each parameter whether its optimiser is schedule-free, and the parameter for evaluation."""
    if isinstance(opt, dict):  # an optimiser for each player
        both = {player: _evaluation(params[player], opt.get(player)) for player in params}
        return tuple({player: each[i] for player, each in both.items()} for i in range(2))
    free = isinstance(opt, contrib.ScheduleFreeState)
    x = params
    if free:
        # The optimiser has not seen the untrained entries (`updates.descent`).
        seen = jax.tree.structure(opt.z) == jax.tree.structure(params)
        trained = params if seen else {name: params[name] for name in opt.z}
        x = contrib.schedule_free_eval_params(opt, trained)
        x = x if seen else {**params, **x}
    return jax.tree.map(lambda _: free, params), x
