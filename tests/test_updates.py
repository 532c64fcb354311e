"""Updates of one loss or of several players: gradients in parts, and the parameters that each loss sees."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import ema, trainer, updates
from jaxscore.updates import Context, Turn


def context_of(key):
    return Context(key, jnp.int32(0), ())


# Microbatches -------------------------------------------------------------------------------------


def regression(params, context, batch):
    """A loss without random numbers: parts of the batch add up to the whole."""
    x, y = batch["x"], batch["y"]
    return jnp.mean((x @ params["w"] - y) ** 2), {"largest": jnp.abs(y).max()}


def test_microbatches_have_the_gradient_of_the_whole_batch():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 3)), rng.standard_normal(24)
    params, context = {"w": jnp.array([0.1, -0.2, 0.3])}, context_of(jax.random.key(0))
    (value, _), gradient = updates.accumulated(regression, 1)(params, context, {"x": x, "y": y})
    for microbatches in (2, 3, 24):
        parts = jax.jit(updates.accumulated(regression, microbatches))(params, context, {"x": x, "y": y})
        largest = np.abs(y).reshape(-1, microbatches).max(axis=0)  # part m has the rows m, m + k, ...
        expected = (value, {"largest": largest.mean()}), gradient
        chex.assert_trees_all_close(parts, expected, rtol=1e-5)


def test_every_microbatch_has_random_numbers_of_its_own():
    draw = lambda params, context, batch: (params * jax.random.normal(context.key), {})
    key = jax.random.key(3)
    (value, _), _ = updates.accumulated(draw, 4)(jnp.ones(()), context_of(key), {"x": jnp.zeros(8)})
    expected = [jax.random.normal(jax.random.fold_in(key, m)) for m in range(4)]
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)


def test_microbatches_take_the_memory_of_one():
    # A wide hidden layer, whose activations are nearly all that a step needs.
    wide = lambda params, context, batch: (jnp.mean(jnp.tanh(batch["x"] @ params) ** 2), {})
    params, x = jnp.ones((4, 4096)), {"x": jnp.ones((256, 4))}

    def size(microbatches):
        step = jax.jit(updates.accumulated(wide, microbatches))
        compiled = step.lower(params, context_of(jax.random.key(0)), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert size(8) < 0.3 * size(1)


@pytest.mark.parametrize(("microbatches", "named"), [(0, "at least 1"), (5, "5 microbatches .* of 24")])
def test_microbatches_that_cannot_be_are_refused(microbatches, named):
    batch = {"x": jnp.ones((24, 3)), "y": jnp.ones(24)}
    with pytest.raises(ValueError, match=named):
        updates.accumulated(regression, microbatches)(None, context_of(jax.random.key(0)), batch)


# Turns --------------------------------------------------------------------------------------------

RATES = {"up": 0.1, "down": 0.05}
PLAYERS = {name: optax.sgd(rate) for name, rate in RATES.items()}


def bilinear(sign):
    """+-(up * down * mean(batch) + step): a game whose moves can be computed by hand."""

    def loss(params, context, batch):
        return sign * (params["up"] * params["down"] * batch["x"].mean() + context.step), {
            f"seen{sign}": params["up"]
        }

    return loss


GAME = (Turn("up", bilinear(-1), PLAYERS["up"]), Turn("down", bilinear(1), PLAYERS["down"]))


def play(game=GAME, *, averaged=trainer.identity, steps=3, batch=2.0, microbatches=1, **options):
    begin = lambda key: {"up": jnp.asarray(1.0), "down": jnp.asarray(-2.0)}
    update = updates.alternating(game, microbatches=microbatches)
    state = trainer.init_state(jax.random.key(0), begin, update, averaged=averaged)
    step = jax.jit(trainer.make_step(update, averaged=averaged, **options), donate_argnums=1)
    for _ in range(steps):
        state, metrics = step(jax.random.key(1), state, {"x": jnp.full(4, batch)})
    return state, metrics


def test_a_turn_sees_what_the_turn_before_it_has_left():
    state, metrics = play()
    up, down = 1.0, -2.0
    for _ in range(3):
        before_up, before_down = up, down
        up += RATES["up"] * 2.0 * down
        down -= RATES["down"] * 2.0 * up  # the new one
    turns = {
        "up": (-(2 * before_up * before_down + 2), abs(2 * before_down)),
        "down": (2 * up * before_down + 2, abs(2 * up)),
    }
    losses, norms = zip(*turns.values(), strict=True)
    expected = {"loss": sum(losses), "grad_norm": np.hypot(*norms), "seen-1": before_up, "seen1": up}
    for name, (loss, norm) in turns.items():
        expected |= {f"{name}_loss": loss, f"{name}_grad_norm": norm}
    chex.assert_trees_all_close((state.params, metrics), ({"up": up, "down": down}, expected), rtol=1e-6)


def test_each_player_has_its_own_optimiser():
    """The average is of the parameters asked for."""
    averaged = lambda params: params["down"]
    state, _ = play(averaged=averaged, decay=ema.constant(0.0, warm_up=False))
    assert set(state.opt) == {"up", "down"}
    np.testing.assert_array_equal(state.ema, state.params["down"])


def test_a_step_in_turns_is_the_same_in_microbatches():
    chex.assert_trees_all_close(play(microbatches=2), play(), rtol=1e-6)


@pytest.mark.parametrize("player", [0, 1])
def test_a_turn_that_is_not_finite_leaves_all_players_alone(player):
    def spoilt(params, context, batch):
        value, metrics = GAME[player].loss(params, context, batch)
        return jnp.where(context.step == 1, jnp.nan, value), metrics

    game = list(GAME)
    game[player] = game[player]._replace(loss=spoilt)
    before, _ = play(steps=1, skip_nonfinite=True)
    state, metrics = play(tuple(game), steps=2, skip_nonfinite=True)
    assert float(metrics["skipped"]) == 1
    assert int(state.step) == 2
    chex.assert_trees_all_equal(state._replace(step=0), before._replace(step=0))


def test_the_turns_of_a_step_have_different_random_numbers():
    def draws(name):
        return lambda params, context, batch: (0.0 * params["up"], {name: jax.random.normal(context.key)})

    _, metrics = play((Turn("up", draws("one"), PLAYERS["up"]), Turn("down", draws("two"), PLAYERS["down"])))
    assert float(metrics["one"]) != float(metrics["two"])
