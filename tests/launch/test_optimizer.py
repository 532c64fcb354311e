"""Each kind of optimiser against its formula, and in the launcher's step: resumed, sharded, skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import ema, launch, sharding, trainer, updates
from jaxscore.launch import programs
from jaxscore.launch.flags import FlagError
from jaxscore.launch.optimizer import Optimizer, evaluated
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
PARAMS = {"w": np.linspace(-1, 1, 6).reshape(2, 3), "b": np.array([0.5, -2.0, 1.0])}
GRADIENTS = [
    {
        "w": np.random.default_rng(n).standard_normal((2, 3)),
        "b": np.random.default_rng(9 - n).standard_normal(3),
    }
    for n in range(3)
]


def test_there_is_a_recipe_for_every_kind():
    assert set(RECIPES) == set(Optimizer.__annotations__["kind"].__args__)


# Formulas -----------------------------------------------------------------------------------------


def descend(**fields):
    """Three steps at a constant rate: the parameters, and the optimiser's state."""
    tx = Optimizer(learning_rate=RATE, warm_up=0, decay=0.0, b2=0.9, **fields).build(10)
    params = jax.tree.map(jnp.float32, PARAMS)
    state = tx.init(params)
    for gradient in GRADIENTS:
        updates, state = tx.update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def adam(gradients, start, *, b1, b2, decay=0.0):
    """Kingma & Ba 2015, algorithm 1, with decoupled weight decay, in float64."""
    m, v, p = 0.0, 0.0, start
    for n, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - RATE * (m / (1 - b1**n) / (np.sqrt(v / (1 - b2**n)) + 1e-8) + decay * p)
    return p


def test_adam_is_what_it_was_before_there_were_kinds():
    tx = optax.adam(RATE, b1=0.9, b2=0.9, eps=1e-8)
    params = jax.tree.map(jnp.float32, PARAMS)
    state = tx.init(params)
    for gradient in GRADIENTS:
        updates, state = tx.update(jax.tree.map(jnp.float32, gradient), state, params)
        params = optax.apply_updates(params, updates)
    found, opt = descend()
    assert_identical(found, params)
    assert_identical(opt[0], state[0])
    assert len(opt) == len(state)


def test_adamw_decays_matrices_and_no_biases():
    found, _ = descend(kind="adamw", weight_decay=DECAY)
    for name, decay in (("w", DECAY), ("b", 0.0)):
        expected = adam([g[name] for g in GRADIENTS], PARAMS[name], b1=0.9, b2=0.9, decay=decay)
        np.testing.assert_allclose(found[name], expected, rtol=RTOL)


def test_lion_is_the_sign_of_a_mixture():
    """Chen et al. 2023, algorithm 2."""
    found, _ = descend(kind="lion", weight_decay=DECAY, b1=0.8)
    for name, decay in (("w", DECAY), ("b", 0.0)):
        p, m = PARAMS[name], 0.0
        for gradient in GRADIENTS:
            g = gradient[name]
            p = p - RATE * (np.sign(0.8 * m + 0.2 * g) + decay * p)
            m = 0.9 * m + 0.1 * g
        np.testing.assert_allclose(found[name], p, rtol=RTOL)


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (3, 3, 2, 5)])
def test_muon_makes_matrices_and_kernels_orthogonal(shape):
    """One step is 0.2 sqrt(max(m, n)) U S V^T, S near 1: the Newton-Schulz polynomial ends in 0.7..1.2."""
    tx = Optimizer(kind="muon", learning_rate=RATE, warm_up=0, decay=0.0).build(10)
    gradient = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    update, _ = tx.update(gradient, tx.init(gradient), jnp.zeros(shape))
    as_matrix = np.reshape(update, (-1, shape[-1]))
    values = np.linalg.svd(as_matrix, compute_uv=False) / (RATE * 0.2 * np.sqrt(max(as_matrix.shape)))
    assert np.all((values > 0.6) & (values < 1.3))
    assert np.sum(as_matrix * np.reshape(gradient, as_matrix.shape)) < 0


def test_muon_leaves_biases_to_adam_without_decay():
    found, _ = descend(kind="muon", weight_decay=DECAY)
    assert np.abs(found["b"] - PARAMS["b"]).max() <= 3 * RATE * 1.5
    no_decay, _ = descend(kind="muon")
    np.testing.assert_array_equal(found["b"], no_decay["b"])
    assert np.abs(found["w"] - no_decay["w"]).max() > 0.01


def test_schedule_free_has_gradients_at_y_and_is_evaluated_at_x():
    """Defazio et al. 2024, equations 3 to 5, with Adam's denominator and decay at y."""
    b1, found = 0.8, descend(kind="schedule-free", weight_decay=DECAY, b1=0.8)
    for name, decay in (("w", DECAY), ("b", 0.0)):
        x = z = y = PARAMS[name]
        v = 0.0
        for n, gradient in enumerate(GRADIENTS, 1):
            v = 0.9 * v + 0.1 * gradient[name] ** 2
            z = z - RATE * (gradient[name] / (np.sqrt(v / (1 - 0.9**n)) + 1e-8) + decay * y)
            x = (1 - 1 / n) * x + z / n
            y = (1 - b1) * z + b1 * x
        np.testing.assert_allclose(found[0][name], y, rtol=RTOL)
        np.testing.assert_allclose(found[1].z[name], z, rtol=RTOL)
        x_found = optax.contrib.schedule_free_eval_params(found[1], found[0])[name]
        np.testing.assert_allclose(x_found, x, rtol=RTOL)


def test_clipping_is_by_the_norm_of_all_gradients():
    tx = Optimizer(kind="adamw", learning_rate=RATE, warm_up=0, decay=0.0, clip=CLIP).build(10)
    gradient = {"w": jnp.full((2, 2), 4.0), "b": jnp.full(2, 4.0)}
    for size in (0.1, 1.0):
        grads = jax.tree.map(lambda g, size=size: g * size, gradient)
        _, state = tx.update(grads, tx.init(gradient), gradient)
        norm = float(optax.tree.norm(optax.tree.get(state, "mu"))) / 0.1  # mu is (1 - b1) gradient
        assert norm == pytest.approx(min(CLIP, size * 4 * 6**0.5), rel=RTOL)


def test_inverse_sqrt_is_edm2_s_schedule():
    """Karras et al. 2024, equation 67: rate / sqrt(max(t / t_ref, 1)) after a linear warm-up."""
    schedule = Optimizer(learning_rate=0.3, warm_up=5, decay=0.8, fall="inverse_sqrt").schedule(100)
    t = np.arange(5, 150)
    expected = 0.3 / np.sqrt(np.maximum(t / 20, 1))
    np.testing.assert_allclose([schedule(n) for n in t], expected, rtol=RTOL)
    whole = Optimizer(learning_rate=0.3, warm_up=5, decay=1.0, fall="inverse_sqrt").schedule(4)
    np.testing.assert_allclose([whole(n) for n in range(4)], 0.3 / np.sqrt(1 + np.arange(4)), rtol=RTOL)


@kinds
def test_bfloat16_parameters_have_wide_states(kind):
    """Moments in bfloat16 stop at half of a last digit, 0.4 %, of what they average."""
    params = jax.tree.map(jnp.bfloat16, PARAMS)
    tx = RECIPES[kind].build(10)
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    floats = [x for x in jax.tree.leaves((state, after)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {np.dtype(np.float32)}
    assert {x.dtype for x in jax.tree.leaves(optax.apply_updates(params, updates))} == {
        np.dtype(jnp.bfloat16)
    }


# Flags --------------------------------------------------------------------------------------------

REFUSED = {
    "--optimizer.weight-decay 0.1: has no effect with --optimizer.kind adam; use": {"weight_decay": 0.1},
    "--optimizer.epsilon 0.001: has no effect with --optimizer.kind lion": {"kind": "lion", "epsilon": 1e-3},
    "--optimizer.final 1e-05: has no effect with --optimizer.fall": {"fall": "inverse_sqrt", "final": 1e-5},
    "--optimizer.b1 0.0: must be positive with": {"kind": "schedule-free", "decay": 0.0, "b1": 0.0},
    "--optimizer.weight-decay -0.1: must be at least 0": {"kind": "adamw", "weight_decay": -0.1},
    "--optimizer.clip 0.0: must be above 0": {"clip": 0.0},
}


@pytest.mark.parametrize("message", REFUSED)
def test_flags_without_effect_are_refused(message):
    with pytest.raises(FlagError) as caught:
        Optimizer(**REFUSED[message])
    assert str(caught.value).startswith(message)


FREE = RECIPES["schedule-free"]
REFUSED_AVERAGES = {
    "--ema-halflife 0.0: must be above 0": {"ema_halflife": 0.0},
    "--ema-ramp 0.0: must be above 0": {"ema_halflife": 5.0, "ema_ramp": 0.0},
    "--ema-ramp 0.1: has no effect without --ema-halflife": {"ema_ramp": 0.1},
    "--ema-halflife 5.0: excludes --ema-decay 0.9; give --ema-decay 0.999": {
        "ema_halflife": 5.0,
        "ema_decay": 0.9,
    },
    "--ema-halflife 5.0: has no effect with --optimizer.kind": {"ema_halflife": 5.0, "optimizer": FREE},
    "--ema-decay 0.9: has no effect with --optimizer.kind": {"ema_decay": 0.9, "optimizer": FREE},
    "--snapshot-every 5: has no effect with --optimizer.kind": {"snapshot_every": 5, "optimizer": FREE},
}


@pytest.mark.parametrize("message", REFUSED_AVERAGES)
def test_averages_without_effect_are_refused(message):
    with pytest.raises(FlagError) as caught:
        Config(**REFUSED_AVERAGES[message])
    assert str(caught.value).startswith(message)


# In the launcher's step ---------------------------------------------------------------------------


@kinds
def test_an_interrupted_run_ends_with_the_same_bits(kind, tmp_path):
    config = Config(optimizer=RECIPES[kind], microbatches=2)
    launch.run(tiny.build(config), tmp_path / "whole", mode="train")

    def crash():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        launch.run(tiny.build(config, tiny.hooks(before={8: crash})), tmp_path / "run", mode="train")
    launch.run(tiny.build(config), tmp_path / "run", mode="train")
    whole, resumed = (newest(tmp_path / name, tiny.build(config)) for name in ("whole", "run"))
    assert int(whole.step) == 12
    assert_identical(resumed, whole)


def train(config, mesh, *, steps=3, plant=None):
    """The state after a few of the launcher's steps, and how often the step was compiled."""
    experiment = tiny.build(config, tiny.hooks(plant=plant))
    step, key = programs.make_step(experiment, mesh), jax.random.key(1)
    state = programs.make_init(experiment, mesh)(jax.random.key(0))
    for _, batch in zip(range(steps), experiment.batches(batch=config.batch, seed=0), strict=False):
        before = state
        state, _ = step(key, before, jax.device_put(batch, sharding.batched(mesh)))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves((before.params, before.ema, before.opt)))
    return state, step._cache_size()


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("adam", [2]), ("adamw", [4]), ("lion", [8]), ("muon", [2, 8]), ("schedule-free", [4, 8])],
)
def test_eight_devices_are_one_and_the_step_is_compiled_once(kind, sizes):
    config = Config(optimizer=RECIPES[kind], width=512)
    alone, compiled = train(config, sharding.mesh(devices=jax.devices()[:1]))
    assert compiled == 1
    for fsdp in sizes:
        state, compiled = train(config, sharding.mesh(fsdp=fsdp))
        assert compiled == 1
        kernels = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3, 512)]
        assert len(kernels) >= 3  # parameter, average, and a moment
        assert all(leaf.sharding.spec == jax.P(None, "fsdp") for leaf in kernels)
        # Sums over the devices are in another order.
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        jax.tree.map(close, state, alone)


@kinds
def test_a_skipped_step_changes_nothing(kind):
    config = Config(optimizer=RECIPES[kind], nonfinite="skip")
    mesh = sharding.mesh(devices=jax.devices()[:1])
    before, _ = train(config, mesh, steps=2)
    after, _ = train(config, mesh, steps=3, plant={2: BAD_LOSS})
    assert_identical(after._replace(step=before.step), before)
    moved, _ = train(config, mesh, steps=3)
    assert not np.array_equal(moved.params["in"]["kernel"], before.params["in"]["kernel"])


def test_schedule_free_samples_from_its_evaluation_parameters():
    config = Config(optimizer=FREE, nonfinite="skip")
    state, _ = train(config, sharding.mesh(devices=jax.devices()[:1]), steps=5)
    expected = optax.contrib.schedule_free_eval_params(state.opt, state.params)
    # Another program may round the quotient by b1 otherwise.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), state.ema, expected)
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
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    jax.tree.map(close, state.ema, {"muon": average, "schedule-free": x})
