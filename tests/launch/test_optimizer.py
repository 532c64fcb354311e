"""Each kind of optimiser against its formula, and in the launcher's step: resumed, sharded, skipped."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import ema, launch, sharding, trainer, updates
from jaxscore.launch import programs
from jaxscore.launch.flags import FlagError
from jaxscore.launch.optimizer import Optimizer, evaluated
from tests.grids import rest
from tests.launch import tiny
from tests.launch.tiny import BAD_LOSS, Config, assert_identical, newest

RECIPES = {
    "adam": Optimizer(warm_up=2, clip=1.0),
    "adamw": Optimizer(kind="adamw", warm_up=2, weight_decay=0.1, fall="inverse_sqrt"),
    "lion": Optimizer(kind="lion", warm_up=2, weight_decay=0.1),
    "muon": Optimizer(kind="muon", warm_up=2, weight_decay=0.1, clip=1.0),
    "schedule-free": Optimizer(kind="schedule-free", warm_up=2, decay=0.0, weight_decay=0.1, clip=1.0),
}
kinds = pytest.mark.parametrize("kind", RECIPES)

# Float32 arithmetic of three steps against float64.
RTOL = 1e-5
RATE, DECAY, CLIP = 0.1, 0.5, 3.0
DECAYS = {"w": DECAY, "b": 0.0}
PARAMS = {"w": np.linspace(-1, 1, 6).reshape(2, 3), "b": np.array([0.5, -2.0, 1.0])}
GENERATOR = np.random.default_rng(0)
GRADIENTS = [{name: GENERATOR.standard_normal(p.shape) for name, p in PARAMS.items()} for _ in range(3)]


def test_there_is_a_recipe_for_every_kind():
    assert set(RECIPES) == set(Optimizer.__annotations__["kind"].__args__)


# Formulas -----------------------------------------------------------------------------------------


def constant(**fields):
    """The optimiser with a constant rate."""
    return Optimizer(**{"learning_rate": RATE, "warm_up": 0, "decay": 0.0, "b2": 0.9} | fields).build(10)


def descend(tx):
    """Three steps: the parameters, and the optimiser's state."""
    params = jax.tree.map(jnp.float32, PARAMS)
    state = tx.init(params)
    for gradient in GRADIENTS:
        updates, state = tx.update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_adam_is_what_it_was_before_there_were_kinds():
    params, state = descend(constant())
    expected, before = descend(optax.adam(RATE, b1=0.9, b2=0.9, eps=1e-8))
    assert_identical((params, state[0]), (expected, before[0]))
    assert len(state) == len(before)


def adamw(gradients, p, decay):
    """Kingma & Ba 2015, algorithm 1, with decoupled weight decay."""
    m, v = 0.0, 0.0
    for n, g in enumerate(gradients, 1):
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        p = p - RATE * (m / (1 - 0.8**n) / (np.sqrt(v / (1 - 0.9**n)) + 1e-8) + decay * p)
    return p


def lion(gradients, p, decay):
    """Chen et al. 2023, algorithm 2."""
    m = 0.0
    for g in gradients:
        p = p - RATE * (np.sign(0.8 * m + 0.2 * g) + decay * p)
        m = 0.9 * m + 0.1 * g
    return p


@pytest.mark.parametrize("formula", [adamw, lion])
def test_a_kind_is_its_formula_and_decays_no_biases(formula):
    found, _ = descend(constant(kind=formula.__name__, weight_decay=DECAY, b1=0.8))
    for name, decay in DECAYS.items():
        expected = formula([gradient[name] for gradient in GRADIENTS], PARAMS[name], decay)
        np.testing.assert_allclose(found[name], expected, rtol=RTOL)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3, 2, 5)])
def test_muon_makes_matrices_and_kernels_orthogonal(shape):
    """One step is 0.2 sqrt(max(m, n)) U S V^T, S near 1: the Newton-Schulz polynomial ends in 0.7..1.2."""
    tx = constant(kind="muon")
    gradient = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    update, _ = tx.update(gradient, tx.init(gradient), jnp.zeros(shape))
    as_matrix = np.reshape(update, (-1, shape[-1]))
    values = np.linalg.svd(as_matrix, compute_uv=False) / (RATE * 0.2 * np.sqrt(max(as_matrix.shape)))
    assert np.all((values > 0.6) & (values < 1.3))
    assert np.sum(as_matrix * np.reshape(gradient, as_matrix.shape)) < 0


def test_muon_leaves_biases_to_adam_without_decay():
    found, _ = descend(constant(kind="muon", weight_decay=DECAY))
    assert np.abs(found["b"] - PARAMS["b"]).max() <= 3 * RATE * 1.5
    no_decay, _ = descend(constant(kind="muon"))
    np.testing.assert_array_equal(found["b"], no_decay["b"])
    assert np.abs(found["w"] - no_decay["w"]).max() > 0.01


def test_schedule_free_has_gradients_at_y_and_is_evaluated_at_x():
    """Defazio et al. 2024, equations 3 to 5, with Adam's denominator and decay at y."""
    params, state = descend(constant(kind="schedule-free", weight_decay=DECAY, b1=0.8))
    evaluated_at = optax.contrib.schedule_free_eval_params(state, params)
    for name, decay in DECAYS.items():
        x = z = y = PARAMS[name]
        v = 0.0
        for n, gradient in enumerate(GRADIENTS, 1):
            v = 0.9 * v + 0.1 * gradient[name] ** 2
            z = z - RATE * (gradient[name] / (np.sqrt(v / (1 - 0.9**n)) + 1e-8) + decay * y)
            x = (1 - 1 / n) * x + z / n
            y = 0.2 * z + 0.8 * x
        for found, expected in ((evaluated_at, x), (params, y), (state.z, z)):
            np.testing.assert_allclose(found[name], expected, rtol=RTOL)


def test_clipping_is_by_the_norm_of_all_gradients():
    tx = constant(kind="adamw", clip=CLIP)
    gradient = {"w": jnp.full((2, 2), 4.0), "b": jnp.full(2, 4.0)}
    for size in (0.1, 1.0):
        grads = jax.tree.map(lambda g, size=size: g * size, gradient)
        _, state = tx.update(grads, tx.init(gradient), gradient)
        norm = float(optax.tree.norm(optax.tree.get(state, "mu"))) / 0.1  # mu is (1 - b1) gradient
        assert norm == pytest.approx(min(CLIP, size * 4 * 6**0.5), rel=RTOL)


# The learning rate --------------------------------------------------------------------------------


def rates(steps, *, until=None, **fields):
    schedule = Optimizer(**{"learning_rate": 0.1, "warm_up": 0, "decay": 0.0} | fields).schedule(steps)
    return np.array(schedule(np.arange(until or steps))) * np.ones(until or steps)


def rise(n):
    return 0.1 * np.arange(1, n + 1) / (n + 1)


COSINE = 1e-3 + 0.099 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2
# Karras et al. 2024, equation 67: rate / sqrt(max(t / t_ref, 1)) after a linear warm-up.
INVERSE_SQRT = [*rise(5), *0.1 / np.sqrt(np.maximum(np.arange(5, 150) / 20, 1))]
SCHEDULES = {
    "constant": (6, {}, 6 * [0.1]),
    # Were there a step after the last, its rate would be zero.
    "rise, stay, fall": (20, {"warm_up": 4, "decay": 0.5}, [*rise(4), *6 * [0.1], *np.linspace(0.1, 0, 11)]),
    "short": (10, {"warm_up": 100, "decay": 0.5}, [*rise(5), *np.linspace(0.1, 0, 6)]),
    "cosine": (10, {"decay": 1.0, "fall": "cosine", "final": 1e-3}, COSINE),
    "inverse": (100, {"warm_up": 5, "decay": 0.8, "fall": "inverse_sqrt"}, INVERSE_SQRT),
    "inverse at once": (4, {"decay": 1.0, "fall": "inverse_sqrt"}, 0.1 / np.sqrt(1 + np.arange(4))),
}


@pytest.mark.parametrize(("steps", "fields", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_the_rate_has_its_closed_form(steps, fields, expected):
    found = rates(steps, until=len(expected), **fields)
    np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-9)


@pytest.mark.parametrize(
    ("warm_up", "decay", "steps"),
    [(100, 0.5, 10), (100, 0.5, 2), (100, 0.0, 7), (5, 1.0, 10), (0, 0.5, 10), (0, 0.0, 3), (100, 0.5, 1)],
)
def test_short_runs_stay_within_the_rate_and_never_stand_still(warm_up, decay, steps):
    found = rates(steps, warm_up=warm_up, decay=decay)
    assert np.all((found > 0) & (found <= 0.1 * (1 + RTOL)))
    peak = found.argmax()
    assert np.all(np.diff(found[: peak + 1]) >= -1e-7)
    assert np.all(np.diff(found[peak:]) <= 1e-7)


def test_every_update_has_the_rate_of_its_step():
    """Adam subtracts the rate when every gradient is 1."""
    tx, ones = Optimizer(learning_rate=0.1, warm_up=4, decay=0.5).build(20), jnp.ones(20)
    _, moves = jax.lax.scan(lambda state, one: tx.update(one, state)[::-1], tx.init(ones[0]), ones)
    np.testing.assert_allclose(-moves, rates(20, warm_up=4, decay=0.5), rtol=RTOL)


# Precision ----------------------------------------------------------------------------------------


@kinds
def test_bfloat16_parameters_have_wide_states(kind):
    """Moments in bfloat16 stop at half of a last digit, 0.4 %, of what they average."""
    tx = RECIPES[kind].build(10)

    def step(params):
        state = tx.init(params)
        updates, after = tx.update(params, state, params)
        return (state, after), optax.apply_updates(params, updates)

    states, moved = jax.eval_shape(step, jax.tree.map(jnp.bfloat16, PARAMS))
    dtypes = lambda tree: {leaf.dtype for leaf in jax.tree.leaves(tree)}
    assert dtypes(states) == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert dtypes(moved) == {jnp.dtype("bfloat16")}


# Flags --------------------------------------------------------------------------------------------

FREE = RECIPES["schedule-free"]
REFUSED = [
    (
        Optimizer,
        {"weight_decay": 0.1},
        "--optimizer.weight-decay 0.1: has no effect with --optimizer.kind",
    ),
    (Optimizer, {"kind": "lion", "epsilon": 1e-3}, "--optimizer.epsilon 0.001: has no effect with"),
    (Optimizer, {"fall": "inverse_sqrt", "final": 1e-5}, "--optimizer.final 1e-05: has no effect with"),
    (Optimizer, {"kind": "schedule-free", "b1": 0.0}, "--optimizer.b1 0.0: must be positive with"),
    (Optimizer, {"kind": "adamw", "weight_decay": -0.1}, "--optimizer.weight-decay -0.1: must be at least 0"),
    (Optimizer, {"clip": 0.0}, "--optimizer.clip 0.0: must be above 0"),
    (Config, {"ema_halflife": 0.0}, "--ema-halflife 0.0: must be above 0"),
    (Config, {"ema_halflife": 5.0, "ema_ramp": 0.0}, "--ema-ramp 0.0: must be above 0"),
    (Config, {"ema_ramp": 0.1}, "--ema-ramp 0.1: has no effect without --ema-halflife"),
    (Config, {"ema_halflife": 5.0, "ema_decay": 0.9}, "--ema-halflife 5.0: excludes --ema-decay 0.9; give "),
    (Config, {"ema_halflife": 5.0, "optimizer": FREE}, "--ema-halflife 5.0: has no effect with --optimizer"),
    (Config, {"ema_decay": 0.9, "optimizer": FREE}, "--ema-decay 0.9: has no effect with --optimizer.kind"),
    (Config, {"snapshot_every": 5, "optimizer": FREE}, "--snapshot-every 5: has no effect with --optimizer"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_flags_without_effect_are_refused(kind, fields, message):
    with pytest.raises(FlagError, match=f"^{re.escape(message)}"):
        kind(**fields)


# In the launcher's step ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["muon", "schedule-free", *map(rest, ("adam", "adamw", "lion"))])
def test_an_interrupted_run_ends_with_the_same_bits(kind, tmp_path):
    config = Config(optimizer=RECIPES[kind], microbatches=2)
    launch.run(tiny.build(config), tmp_path / "whole", mode="train")
    with pytest.raises(RuntimeError, match="power cut"):
        launch.run(tiny.build(config, tiny.hooks(before={8: tiny.crash})), tmp_path / "run", mode="train")
    launch.run(tiny.build(config), tmp_path / "run", mode="train")
    whole, resumed = (newest(tmp_path / name, tiny.build(config)) for name in ("whole", "run"))
    assert int(whole.step) == 12
    assert_identical(resumed, whole)


def train(config, mesh, *, steps=3, plant=None):
    """The states after a few of the launcher's steps, compiled once, each made in the place of the other."""
    experiment = tiny.build(config, tiny.hooks(plant=plant))
    step, key = programs.make_step(experiment, mesh), jax.random.key(1)
    state, states = programs.make_init(experiment, mesh)(jax.random.key(0)), []
    for _, batch in zip(range(steps), experiment.batches(batch=config.batch, seed=0), strict=False):
        before = state
        state, _ = step(key, before, jax.device_put(batch, sharding.batched(mesh)))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.ema, before.opt)))
        states.append(jax.tree.map(jnp.copy, state))
    assert step._cache_size() == 1
    return states


SPLIT = {"adam": 2, "adamw": 4, "lion": 8, "muon": 8, "schedule-free": 4}


@pytest.mark.parametrize(("kind", "fsdp"), [*SPLIT.items(), rest("muon", 2), rest("schedule-free", 8)])
def test_eight_devices_are_one_and_split_the_state(kind, fsdp):
    config = Config(optimizer=RECIPES[kind], width=512)
    *_, alone = train(config, sharding.mesh(devices=jax.devices()[:1]))
    *_, state = train(config, sharding.mesh(fsdp=fsdp))
    kernels = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3, 512)]
    assert len(kernels) >= 3  # parameter, average, and a moment
    assert all(leaf.sharding.spec == jax.P(None, "fsdp") for leaf in kernels)
    # Sums over the devices are in another order.
    chex.assert_trees_all_close(jax.device_get(state), jax.device_get(alone), rtol=1e-5, atol=1e-5)


@kinds
def test_a_skipped_step_changes_nothing(kind):
    config = Config(optimizer=RECIPES[kind], nonfinite="skip")
    before, skipped, after = train(config, sharding.mesh(devices=jax.devices()[:1]), plant={1: BAD_LOSS})
    assert_identical(skipped._replace(step=before.step), before)
    assert not np.array_equal(after.params["in"]["kernel"], before.params["in"]["kernel"])


def test_schedule_free_samples_from_its_evaluation_parameters():
    config = Config(optimizer=FREE, nonfinite="skip")
    *_, state = train(config, sharding.mesh(devices=jax.devices()[:1]), steps=5)
    expected = optax.contrib.schedule_free_eval_params(state.opt, state.params)
    # Another program may round the quotient by b1 otherwise.
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-6, atol=1e-7)
    assert not np.allclose(state.ema["in"]["kernel"], state.params["in"]["kernel"], atol=1e-5)


def test_players_have_optimisers_of_their_own():
    """One turn for each kind. Only schedule-free is evaluated at x; muon keeps its moving average."""
    init = lambda key: {kind: {"w": jnp.ones((4, 3)), "b": jnp.ones(3)} for kind in RECIPES}

    def turn(kind):
        def loss(params, context, batch):
            out = jnp.tanh(batch["x"] @ params[kind]["w"] + params[kind]["b"][None])
            return jnp.mean((out - batch["x"][:, :3]) ** 2), {}

        return updates.Turn(kind, loss, RECIPES[kind].build(10))

    batch = {"x": jnp.asarray(np.random.default_rng(0).standard_normal((8, 4)), jnp.float32)}
    averaged = lambda params: {kind: params[kind] for kind in ("muon", "schedule-free")}
    update = updates.alternating(tuple(map(turn, RECIPES)), microbatches=2)
    inner = trainer.make_step(update, averaged=averaged, skip_nonfinite=True)
    step = jax.jit(evaluated(inner, averaged), donate_argnums=1)
    state = trainer.init_state(jax.random.key(0), init, update, averaged=averaged)
    average = ema.start(state.params["muon"])
    for n in range(3):
        state, metrics = step(jax.random.key(1), state, batch)
        average = ema.update(average, state.params["muon"], ema.constant(0.999)(jnp.asarray(n)))
    assert step._cache_size() == 1
    assert float(metrics["skipped"]) == 0
    opt, params = (tree["schedule-free"] for tree in (state.opt, state.params))
    x = optax.contrib.schedule_free_eval_params(opt, params)
    # Another program may round the quotient by b1 otherwise.
    expected = {"muon": average, "schedule-free": x}
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-6, atol=1e-7)
