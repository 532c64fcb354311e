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


def accumulated(loss, microbatches):
    """gradient(params, context, batch) -> ((value, metrics), gradient)."""
    both = lambda params, context, batch, kept: (
        jax.value_and_grad(loss, has_aux=True)(params, context, batch),
        kept,
    )
    return lambda *given: updates.in_parts(both, microbatches)(*given, ())[0]


def test_microbatches_have_the_gradient_of_the_whole_batch():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 3)), rng.standard_normal(24)
    params, context = {"w": jnp.array([0.1, -0.2, 0.3])}, context_of(jax.random.key(0))
    (value, _), gradient = accumulated(regression, 1)(params, context, {"x": x, "y": y})
    for microbatches in (2, 3, 24):
        parts = jax.jit(accumulated(regression, microbatches))(params, context, {"x": x, "y": y})
        largest = np.abs(y).reshape(-1, microbatches).max(axis=0)  # part m has the rows m, m + k, ...
        expected = (value, {"largest": largest.mean()}), gradient
        chex.assert_trees_all_close(parts, expected, rtol=1e-5)


def test_every_microbatch_has_random_numbers_of_its_own():
    draw = lambda params, context, batch: (params * jax.random.normal(context.key), {})
    key = jax.random.key(3)
    (value, _), _ = accumulated(draw, 4)(jnp.ones(()), context_of(key), {"x": jnp.zeros(8)})
    expected = [jax.random.normal(jax.random.fold_in(key, m)) for m in range(4)]
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)


def test_microbatches_take_the_memory_of_one():
    # A wide hidden layer, whose activations are nearly all that a step needs.
    wide = lambda params, context, batch: (jnp.mean(jnp.tanh(batch["x"] @ params) ** 2), {})
    params, x = jnp.ones((4, 4096)), {"x": jnp.ones((256, 4))}

    def size(microbatches):
        step = jax.jit(accumulated(wide, microbatches))
        compiled = step.lower(params, context_of(jax.random.key(0)), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert size(8) < 0.3 * size(1)


@pytest.mark.parametrize(("microbatches", "named"), [(0, "at least 1"), (5, "5 microbatches .* of 24")])
def test_microbatches_that_cannot_be_are_refused(microbatches, named):
    batch = {"x": jnp.ones((24, 3)), "y": jnp.ones(24)}
    with pytest.raises(ValueError, match=named):
        accumulated(regression, microbatches)(None, context_of(jax.random.key(0)), batch)


# Entries that are not trained ---------------------------------------------------------------------


def counting(params, context, batch):
    """Descends w to the mean of x; counts the parts of batches, and keeps a running mean and a key."""
    state = params["state"]
    after = {
        "count": state["count"] + 1,
        "mean": 0.5 * state["mean"] + 0.5 * batch["x"].mean(),
        "key": jax.random.fold_in(state["key"], 7),
    }
    return jnp.mean((batch["x"] - params["w"]) ** 2), {"untrained": {"state": after}, "seen": state["count"]}


def untrained(key):
    state = {"count": jnp.uint32(0), "mean": jnp.float32(0), "key": jax.random.key(3)}
    return {"w": jnp.float32(0), "state": state}


def steps_of(update, *, begin=untrained, steps=2, **options):
    state = trainer.init_state(jax.random.key(0), begin, update)
    step = jax.jit(trainer.make_step(update, **options), donate_argnums=1)
    for _ in range(steps):
        with jax.debug_key_reuse(False):  # it takes the choice between two keys for a second use of both
            state, metrics = step(jax.random.key(1), state, {"x": jnp.arange(4.0)})
    return state, metrics


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("skip", [False, True])
def test_untrained_entries_are_what_the_loss_returns(microbatches, skip):
    """They go from part to part: the parts of 0, 1, 2, 3 are 0, 2 and 1, 3."""
    update = updates.descent(counting, optax.adam(0.1), microbatches=microbatches, untrained=("state",))
    state, metrics = steps_of(update, skip_nonfinite=skip, decay=ema.constant(0.5, warm_up=False))
    means, mean, average, key = {1: [1.5], 2: [1.0, 2.0]}[microbatches], 0.0, 0.0, jax.random.key(3)
    for _ in range(2):
        for part in means:
            mean, key = 0.5 * mean + 0.5 * part, jax.random.fold_in(key, 7)
        average = 0.5 * average + 0.5 * mean
    found = state.params["state"]
    assert (found["count"].dtype, int(found["count"])) == (jnp.uint32, 2 * microbatches)
    assert float(found["mean"]) == mean
    assert jnp.all(jax.random.key_data(found["key"]) == jax.random.key_data(key))
    # The optimiser has two moments of w, and of nothing else; numbers without fractions are not averaged.
    assert {"w"} == set(optax.tree.get(state.opt, "mu"))
    assert (float(state.ema["state"]["mean"]), int(state.ema["state"]["count"])) == (
        average,
        2 * microbatches,
    )
    assert "untrained" not in metrics


def test_players_have_untrained_entries_of_their_own():
    loss = lambda params, context, batch: counting(params["one"], context, batch)
    other = lambda params, context, batch: ((params["two"] - params["one"]["w"]) ** 2, {})
    turns = (Turn("one", loss, optax.sgd(0.1), ("state",)), Turn("two", other, optax.sgd(0.1)))
    begin = lambda key: {"one": untrained(key), "two": jnp.float32(1)}
    state, _ = steps_of(updates.alternating(turns), begin=begin)
    assert int(state.params["one"]["state"]["count"]) == 2
    np.testing.assert_allclose(state.params["one"]["w"], 1.5 * (1 - 0.8**2), rtol=1e-6)


def test_a_step_that_is_skipped_keeps_untrained_entries():
    def spoilt(params, context, batch):
        value, metrics = counting(params, context, batch)
        return jnp.where(context.step == 1, jnp.nan, value), metrics

    update = updates.descent(spoilt, optax.sgd(0.1), untrained=("state",))
    state, metrics = steps_of(update, skip_nonfinite=True)
    assert (float(metrics["skipped"]), int(state.params["state"]["count"])) == (1, 1)


@pytest.mark.parametrize("returned", [{}, {"other": 1}, {"state": {"count": 0}}])
def test_untrained_entries_must_be_returned(returned):
    loss = lambda params, context, batch: (counting(params, context, batch)[0], {"untrained": returned})
    with pytest.raises(ValueError, match=r"it must return the new values of .*'state'"):
        steps_of(updates.descent(loss, optax.sgd(0.1), untrained=("state",)))


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("other",), r"untrained = \('other',\): the entries of params are \['state', 'w'\]"),
        ((), "params state/count is uint32, and cannot be trained: name it in `untrained`"),
    ],
)
def test_names_of_untrained_entries_must_be_right(names, named):
    with pytest.raises(ValueError, match=named):
        steps_of(updates.descent(counting, optax.sgd(0.1), untrained=names))


@pytest.mark.parametrize("name", ["loss", "grad_norm", "skipped"])
def test_metrics_with_names_of_the_trainer_are_refused(name):
    loss = lambda params, context, batch: (jnp.sum(params["w"] ** 2), {name: 0.0})
    with pytest.raises(ValueError, match=f"the loss has a metric '{name}', which is a name of the trainer's"):
        steps_of(updates.descent(loss, optax.sgd(0.1)), begin=lambda key: {"w": jnp.float32(0)})


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
