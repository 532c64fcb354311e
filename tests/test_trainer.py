import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import data, ema, noise, objectives, trainer, updates
from jaxscore.updates import descent

S0, SIGMA = 0.8, 0.5
CLEAN = (S0 * np.random.default_rng(0).standard_normal((4096, 2))).astype(np.float32)


def init(key):
    return {"gain": jnp.zeros(()), "shift": noise.normal(key, (2,))}


def loss(params, context, batch):
    """Denoising score matching of an affine score; the optimum is gain = 1 / (S0^2 + SIGMA^2)."""
    affine = lambda x, sigma: params["shift"][None] - params["gain"] * x
    per_example = objectives.noise_conditional(
        affine, context.key, batch["x"], jnp.full(len(batch["x"]), SIGMA)
    )
    return per_example.mean(), {"gain": params["gain"]}


def start(tx):
    return trainer.init_state(jax.random.key(0), init, descent(loss, tx))


def batches(first=0, size=64):
    stream = data.batches({"x": CLEAN}, batch=size, seed=0, start=first)
    return ({"x": jnp.asarray(batch["x"])} for batch in stream)


def simple(loss, tx, params, *, decays=(), **options):
    """A step that is not compiled, and the state before it."""
    update, begin = descent(loss, tx), lambda key: jnp.array(params)
    state = trainer.init_state(jax.random.key(0), begin, update, profiles=len(decays))
    return trainer.make_step(update, profiles=decays, **options), state


def total(params, context, batch):
    return params.sum(), {"draw": jax.random.normal(context.key)}


def test_training_reaches_the_closed_form_optimum():
    tx = optax.adam(optax.cosine_decay_schedule(0.05, 400))
    step = jax.jit(trainer.make_step(descent(loss, tx)), donate_argnums=1)
    fit = list(trainer.loop(jax.random.key(1), start(tx), step, batches(size=512), steps=400))
    losses, (state, _) = np.array([metrics["loss"] for _, metrics in fit]), fit[-1]
    v = S0**2 + SIGMA**2
    # E 1/2 |sigma s + n|^2 at the optimum is 1/2 D S0^2 / v = S0^2 / v. A batch of 512 pairs has a
    # standard error of 4 %, the mean of the last 100 of them 0.5 %, and the 4096 examples 2 %.
    np.testing.assert_allclose(losses[-100:].mean(), S0**2 / v, rtol=0.05)
    assert losses[0] > 1.2 * losses[-100:].mean()
    np.testing.assert_allclose(state.params["gain"], 1 / v, rtol=0.05)
    np.testing.assert_allclose(state.params["shift"], 0, atol=0.05)
    # The average follows the parameters, which have settled.
    np.testing.assert_allclose(state.ema["gain"], 1 / v, rtol=0.1)


def test_the_state_before_the_first_step():
    state = start(optax.adam(0.1))
    np.testing.assert_array_equal(state.step, np.int32(0), strict=True)
    chex.assert_trees_all_equal(state.ema, state.params)
    # Two leaves in one buffer could not both be donated.
    buffers = lambda tree: {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(tree)}
    assert not buffers(state.ema) & buffers(state.params)


def test_a_step_is_the_optimisers_update_and_its_average():
    # An optimiser can be checked by hand where the gradient is the batch: loss = params . batch.
    linear = lambda params, context, batch: (jnp.vdot(params, batch["x"]), {"seen": batch["x"]})
    decay = ema.constant(0.9, warm_up=False)
    step, state = simple(linear, optax.sgd(0.1), [1.0, 2.0], decay=decay)
    state, metrics = step(jax.random.key(1), state, {"x": jnp.array([3.0, -4.0])})
    np.testing.assert_allclose(state.params, [1 - 0.3, 2 + 0.4], rtol=1e-6)
    np.testing.assert_allclose(state.ema, [0.9 + 0.1 * 0.7, 0.9 * 2 + 0.1 * 2.4], rtol=1e-6)
    assert int(state.step) == 1
    expected = {"grad_norm": 5.0, "loss": 3.0 - 8.0, "seen": np.array([3.0, -4.0])}
    chex.assert_trees_all_close(metrics, expected, rtol=1e-6)


def test_the_default_average_warms_up():
    step, state = simple(total, optax.sgd(1.0), [1.0])
    state, _ = step(jax.random.key(1), state, {})
    np.testing.assert_allclose(state.ema, [0.1 * 1.0 + 0.9 * 0.0], rtol=1e-6)  # (1 + 0) / (10 + 0)


def test_the_step_folds_its_number_into_the_key():
    key, (step, state) = jax.random.key(7), simple(total, optax.sgd(0.0), [0.0])
    batches = itertools.repeat({})
    seen = [float(m["draw"]) for _, m in trainer.loop(key, state, jax.jit(step), batches, steps=4)]
    expected = [float(jax.random.normal(jax.random.fold_in(key, n))) for n in range(4)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


# What a step may do besides ----------------------------------------------------------------------


def test_further_averages_have_their_own_decays():
    decays = tuple(ema.constant(m, warm_up=False) for m in (0.5, 0.25))
    step, state = simple(total, optax.sgd(1.0), [1.0], decays=decays)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in (state.params, state.ema, *state.profiles)]
    assert len(set(pointers)) == 4
    state, _ = step(jax.random.key(1), state, {})
    np.testing.assert_allclose(np.ravel(state.profiles), [0.5 * 1 + 0.5 * 0, 0.25], rtol=1e-6)
    with pytest.raises(ValueError, match="longer"):  # as many decays as averages
        step(jax.random.key(1), state._replace(profiles=()), {})


# What may be not finite in a step whose `bad` is 1: the loss alone, the gradient alone (the root's slope at
# 0 is infinite: the value stays, its gradient is inf * 0), or what the optimiser makes of them.
SPOIL = {
    "loss": lambda value, bad: value + jnp.where(bad > 0, jnp.nan, 0.0),
    "gradient": lambda value, bad: (
        value + jax.lax.cond(bad > 0, lambda v: jnp.sqrt(0 * v), lambda v: 0 * v, value)
    ),
    "update": lambda value, bad: value * (1 + 1e38 * bad),
}


@pytest.mark.parametrize("kind", SPOIL)
def test_a_step_that_is_not_finite_may_be_skipped(kind):
    spoilt = lambda params, context, batch: (SPOIL[kind](jnp.sum(params**2), batch["bad"]), {})
    tx, key = optax.sgd(10.0), jax.random.key(1)
    decays = (ema.constant(0.5),)
    step, state = simple(spoilt, tx, [0.3], decays=decays, skip_nonfinite=True)
    step = jax.jit(step)
    skipped, metrics = step(key, state, {"bad": jnp.float32(1)})
    assert (float(metrics["skipped"]), int(skipped.step)) == (1, 1)
    chex.assert_trees_all_equal(skipped._replace(step=state.step), state)
    after, metrics = step(key, skipped, {"bad": jnp.float32(0)})
    assert float(metrics["skipped"]) == 0
    assert float(after.params[0]) < 0.3
    halting, _ = simple(spoilt, tx, [0.3], decays=decays)
    ruined, metrics = jax.jit(halting)(key, state, {"bad": jnp.float32(1)})
    assert "skipped" not in metrics
    assert not np.isfinite(float(metrics["loss"]) + float(ruined.params[0]))


# The loop -----------------------------------------------------------------------------------------


def test_the_loop_stops_at_steps_and_draws_no_batch_too_many():
    tx, key = optax.sgd(0.1), jax.random.key(1)
    step, stream = jax.jit(trainer.make_step(descent(loss, tx))), batches()
    states = [state for state, _ in trainer.loop(key, start(tx), step, stream, steps=5)]
    assert [int(state.step) for state in states] == [1, 2, 3, 4, 5]
    assert list(trainer.loop(key, states[-1], step, stream, steps=5)) == []
    np.testing.assert_array_equal(next(stream)["x"], next(batches(5))["x"])


def test_a_run_that_is_stopped_and_resumed_is_the_whole_run():
    """It is the same bit by bit if the state is donated."""
    tx, key = optax.adam(0.05), jax.random.key(1)
    keep = jax.jit(trainer.make_step(descent(loss, tx)))
    donate = jax.jit(trainer.make_step(descent(loss, tx)), donate_argnums=1)
    train = lambda state, step, steps: list(
        trainer.loop(key, state, step, batches(int(state.step)), steps=steps)
    )
    whole, (half, _) = train(start(tx), keep, 30)[-1][0], train(start(tx), donate, 13)[-1]
    assert int(half.step) == 13
    resumed = train(half, donate, 30)[-1][0]
    assert half.params["gain"].is_deleted()
    chex.assert_trees_all_equal(resumed, whole)


class Pending:
    """A metric that is computing until it is waited for, and says how many others are."""

    running = 0

    def __init__(self):
        Pending.running += 1

    def block_until_ready(self):
        Pending.running -= 1
        return self


@pytest.mark.parametrize("in_flight", [1, 3, 8])
def test_the_host_runs_ahead_by_a_bounded_number_of_steps(in_flight):
    Pending.running = 0
    step = lambda key, state, batch: (state._replace(step=state.step + 1), {"loss": Pending()})
    state, options = start(optax.sgd(0.1)), {"steps": 20, "in_flight": in_flight}
    fit = trainer.loop(jax.random.key(0), state, step, itertools.repeat({}), **options)
    unfinished = [Pending.running for _ in fit]
    # It runs ahead as far as it may, and no further.
    assert max(unfinished) == in_flight
    assert unfinished[: in_flight + 1] == [*range(1, in_flight + 1), in_flight]


def test_no_step_in_flight_is_refused():
    step = lambda key, state, batch: (state, {})
    fit = trainer.loop(jax.random.key(0), start(optax.sgd(0.1)), step, [], steps=1, in_flight=0)
    with pytest.raises(ValueError, match="in_flight"):
        next(fit)


def test_fit_on_arrays_reaches_the_closed_form_optimum():
    key, tx = jax.random.key(5), optax.adam(optax.cosine_decay_schedule(0.05, 400))
    state = trainer.fit(loss, init, {"x": CLEAN}, steps=400, batch=512, tx=tx, key=key)
    assert int(state.step) == 400
    np.testing.assert_allclose(state.params["gain"], 1 / (S0**2 + SIGMA**2), rtol=0.05)


def test_fit_draws_the_rows_of_all_arrays_together():
    def loss(params, context, batch):
        apart = jnp.abs(batch["x"] - batch["label"]).max()  # 0 if the rows belong together
        return params * (1 + apart), {}

    arrays = {"x": np.arange(50.0, dtype=np.float32), "label": np.arange(50)}
    begin, key = lambda key: jnp.zeros(()), jax.random.key(0)
    state = trainer.fit(loss, begin, arrays, steps=3, batch=20, tx=optax.sgd(1.0), key=key)
    assert float(state.params) == -3.0


@pytest.mark.parametrize(
    ("arrays", "given", "said"),
    [
        ({}, {}, "give at least one array"),
        ({"x": np.zeros(3), "label": np.zeros(4)}, {}, "'label': 4, 'x': 3"),
        ({"x": {"a": jnp.ones(4), "b": jnp.ones(5)}}, {}, "'x/a': 4, 'x/b': 5"),
        ({"x": np.zeros(0)}, {}, "'x': 0"),
        ({"x": np.zeros(3)}, {"steps": 0}, "steps = 0"),
        ({"x": np.zeros(3)}, {"batch": 0}, "batch = 0"),
    ],
)
def test_fit_refuses_what_it_cannot_train_on(arrays, given, said):
    given = {"steps": 1, "batch": 1} | given
    with pytest.raises(ValueError, match=said):
        trainer.fit(loss, init, arrays, tx=optax.sgd(1.0), key=jax.random.key(0), **given)


# Optimisers ---------------------------------------------------------------------------------------

OPTIMISERS = {
    "prodigy": lambda: optax.contrib.prodigy(),
    "mechanize": lambda: optax.contrib.mechanize(optax.sgd(0.1)),
    "momo": lambda: optax.contrib.momo(0.1),
    "reduce_on_plateau": lambda: optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=5)),
    "lbfgs": lambda: optax.lbfgs(),
    "dog": lambda: optax.contrib.dog(1.0),
    "polyak": lambda: optax.polyak_sgd(),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_of_every_contract_take_donated_steps(name):
    """Some keep the parameters in their state, others ask for the value or the loss itself."""
    loss = lambda params, context, batch: (jnp.mean((batch["x"] - params["w"][None]) ** 2), {})
    update = updates.descent(loss, OPTIMISERS[name]())
    state = trainer.init_state(jax.random.key(0), lambda key: {"w": jnp.zeros(3)}, update)
    step = jax.jit(trainer.make_step(update), donate_argnums=1)
    losses = []
    for _ in range(5):
        state, metrics = step(jax.random.key(1), state, {"x": jnp.ones((4, 3))})
        losses.append(float(metrics["loss"]))
    assert losses[0] == 1
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("microbatches", [1, 4])
def test_lbfgs_searches_the_loss_of_all_microbatches(microbatches):
    """A quadratic of three directions is at its minimum after a few steps."""
    scale = jnp.array([1.0, 3.0, 10.0])
    loss = lambda params, context, batch: (jnp.mean(scale[None] * (batch["x"] - params[None]) ** 2), {})
    update = updates.descent(loss, optax.lbfgs(), microbatches=microbatches)
    state = trainer.init_state(jax.random.key(0), lambda key: jnp.zeros(3), update)
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    step = jax.jit(trainer.make_step(update))
    for _ in range(10):
        state, _ = step(jax.random.key(1), state, {"x": x})
    np.testing.assert_allclose(state.params, x.mean(axis=0), atol=1e-4)


def test_all_that_accumulates_over_16_bits_is_float32():
    """These are Adam's averages, the average of the parameters, and the sums over microbatches."""
    loss = lambda params, context, batch: (jnp.mean(batch["x"] * params).astype(jnp.bfloat16), {})
    update = updates.descent(loss, optax.adam(1e-3), microbatches=512)
    state = trainer.init_state(jax.random.key(0), lambda key: jnp.ones((), jnp.bfloat16), update)
    # The gradient is 1 in each part. In bfloat16 the sum of ones stops at 256.
    state, metrics = trainer.make_step(update)(jax.random.key(1), state, {"x": jnp.ones(512)})
    assert (state.params.dtype, state.ema.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.opt)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    np.testing.assert_allclose([metrics["loss"], metrics["grad_norm"]], 1, rtol=1e-6)
    second = optax.tree.get(state.opt, "nu")
    np.testing.assert_allclose(second, 0.001, rtol=1e-4)
