import collections
import types

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxscore import mixtures, noise, plan, samplers, sharding, trainer, updates
from jaxscore.plan import bounds
from tests.plan.topology import needs_libtpu

WIDTH, LAYERS, ROWS = 256, 2, 16
PARAMETERS = LAYERS * WIDTH * WIDTH
STATE = 4 * PARAMETERS  # with their average and Adam's two moments


def compiled_step(devices, *, fsdp=1, effort=None):
    """A training step of a few matrix products, for devices that need not be there."""
    mesh = sharding.mesh(fsdp=fsdp, devices=devices)
    init = lambda key: {f"layer{i}": jnp.ones((WIDTH, WIDTH)) for i in range(LAYERS)}
    tx = optax.adam(1e-3)
    shapes = jax.eval_shape(lambda key: trainer.init_state(key, init, tx), jax.random.key(0))
    struct = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    places = sharding.fsdp(mesh, shapes)
    gather = sharding.gathered(places.params)

    def loss(params, context, batch):
        x = batch["x"]
        for weights in gather(params).values():
            x = jnp.tanh(x @ weights)
        return jnp.mean(x**2), {}

    step = jax.jit(
        trainer.make_step(updates.descent(loss, tx)),
        donate_argnums=1,
        out_shardings=(places, sharding.replicated(mesh)),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    arguments = (
        struct(key, sharding.replicated(mesh)),
        jax.tree.map(struct, shapes, places),
        {"x": jax.ShapeDtypeStruct((ROWS * mesh.size, WIDTH), jnp.float32, sharding=sharding.batched(mesh))},
    )
    lowered = step.lower(*arguments)
    return lowered.compile() if effort is None else plan.compiled(lowered, effort=effort)


PRODUCTS = 2 * ROWS * WIDTH * WIDTH * (3 * LAYERS - 1)
"""Forward, for the weights, and for the input of all but the first layer."""


def check_data_parallel(found, devices):
    assert found.devices == devices
    assert found.flops == PRODUCTS
    # The gradient is exchanged once, and with it the loss; nothing else is.
    assert {exchange.kind for exchange in found.collectives} == {"all-reduce"}
    exchanged = sum(exchange.times * exchange.bytes for exchange in found.collectives)
    assert 4 * PARAMETERS <= exchanged <= 4 * PARAMETERS + 64
    assert found.wire_bytes == pytest.approx(2 * (devices - 1) / devices * exchanged)
    # All of the state is donated: its step, Adam's count and the four copies of the layers.
    assert found.donations == 2 + 4 * LAYERS
    assert 4 * STATE <= found.memory.donated <= 4 * STATE + 2048
    assert found.memory.arguments >= found.memory.donated + 4 * ROWS * WIDTH
    assert found.unknown_loops == 0


def test_a_step_on_eight_devices_here():
    check_data_parallel(plan.cost(compiled_step(jax.devices())), 8)


@needs_libtpu
@pytest.mark.parametrize(("name", "chips"), [("v5e:2x2", 4), ("v5e:16x16", 256)])
def test_a_step_on_chips_that_are_not_there(name, chips):
    found = plan.cost(compiled_step(plan.topology(name), effort=-1.0))
    check_data_parallel(found, chips)
    chip = plan.find("TPU v5 lite")
    bound = plan.roofline(found, chip)
    assert bound.compute == pytest.approx(PRODUCTS / 197e12)
    assert bound.interconnect == pytest.approx(found.wire_bytes / 200e9)
    assert found.memory.total < chip.memory_bytes
    assert 0 < bound.utilisation <= 1


@needs_libtpu
def test_fully_sharded_a_chip_holds_its_part_of_the_state():
    found = plan.cost(compiled_step(plan.topology("v5e:16x16"), fsdp=16, effort=-1.0))
    part = 4 * STATE / 16
    assert part <= found.memory.donated <= 1.05 * part
    exchanged = collections.Counter()
    for exchange in found.collectives:
        exchanged[exchange.kind, exchange.group] += exchange.bytes
    # Parameters are gathered and gradients scattered among 16; what is left goes to the 16 other copies.
    assert exchanged["all-gather", 16] == exchanged["reduce-scatter", 16] == 4 * PARAMETERS
    assert exchanged["all-reduce", 16] == pytest.approx(4 * PARAMETERS / 16, abs=64)
    assert exchanged["all-reduce", 256] <= 64
    assert len(exchanged) == 4


def test_the_loops_of_a_sampler_are_multiplied_out():
    levels, repeats, width, rows = 7, 3, 32, 8
    weights = jnp.ones((width, width))
    score = lambda x, sigma: x @ weights
    sampler = samplers.repeat(samplers.langevin(samplers.annealed(1e-3, 0.1)), repeats)
    sigmas = noise.levels(noise.geometric(0.1, 10.0), levels)
    run = lambda key, x: samplers.sample(key, x, sigmas, score, sampler)[0]
    compiled = jax.jit(run).lower(jax.random.key(0), jnp.ones((rows, width))).compile()
    found = plan.cost(compiled)
    once = 2 * rows * width * width
    assert found.products == {"float32": levels * repeats * once}
    assert found.unknown_loops == 0
    # XLA itself counts one step of all of them, and the operations on elements of that step with it.
    assert once <= compiled.cost_analysis()["flops"] < 0.5 * found.flops


def test_heuns_last_step_counts_as_the_others():
    ring = mixtures.ring()
    score = lambda x, sigma: mixtures.score(ring, x, sigma) @ jnp.ones((2, 2))
    sigmas = noise.levels(noise.karras(0.1, 10.0), 6)
    run = lambda key, x: samplers.sample(key, x, sigmas, score, samplers.heun())[0]
    found = plan.cost(jax.jit(run).lower(jax.random.key(0), jnp.ones((16, 2))).compile())
    one = plan.cost(jax.jit(score).lower(jnp.ones((16, 2)), jnp.ones(16)).compile())
    assert one.flops >= 2 * 16 * 2 * 2
    assert found.flops == 12 * one.flops  # 11 evaluations, and one that the last step leaves out


COST = bounds.Cost({"float32": 4_000}, 0, 50, (), None, 0, 0, 1)
CHIP = plan.measured("a chip", 1000.0, 100.0)


def test_the_slowest_of_the_three_binds():
    assert plan.roofline(COST, CHIP) == (4.0, 0.5, 0.0)
    exchange = plan.Collective("all-gather", 1000, 10, 2, False)
    found = [
        plan.roofline(COST, CHIP),
        plan.roofline(COST._replace(bytes=800), CHIP),
        plan.roofline(COST._replace(collectives=(exchange,)), CHIP._replace(interconnect=180.0)),
    ]
    assert [(bound.seconds, bound.binds, bound.utilisation) for bound in found] == [
        (4.0, "compute", 1.0),
        (8.0, "memory", 0.5),
        (10.0, "interconnect", 0.4),
    ]


def test_a_rate_that_is_not_known_bounds_nothing():
    bound = plan.roofline(COST, CHIP._replace(float32=None, memory_bandwidth=None))
    assert bound == (None, None, 0.0)
    assert (bound.seconds, bound.utilisation) == (0.0, None)
    exchange = plan.Collective("all-reduce", 1000, 10, 2, False)
    assert plan.roofline(COST._replace(collectives=(exchange,)), CHIP).interconnect is None


def test_memory_counts_what_is_donated_once():
    sizes = {"argument": 100, "output": 90, "temp": 50, "alias": 80}
    statistics = types.SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in sizes.items()})
    text = "HloModule m\n\nENTRY %e (x: f32[]) -> f32[] {\n  ROOT %x = f32[] parameter(0)\n}\n"
    found = plan.read(text, statistics)
    assert found.memory == (100, 90, 50, 80)
    assert found.memory.total == 160
    assert plan.read(text).memory is None
    assert (found.devices, found.donations, found.flops) == (1, 0, 0)


def test_parameters_are_counted_from_shapes():
    assert plan.parameters({"a": jnp.ones((3, 4)), "b": jax.ShapeDtypeStruct((5,), jnp.float32)}) == 17
