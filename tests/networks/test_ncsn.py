import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers, noise, objectives, score, sharding
from jaxscore.networks import NCSN, NCSNv2, refinenet
from tests.grids import rest
from tests.networks import contract, numpy_ncsn

MAKE = {
    "NCSN": functools.partial(NCSN, channels=4, levels=3),
    "NCSNv2": functools.partial(NCSNv2, channels=4),
}
LEVELS = {"NCSN": 3, "NCSNv2": None}
ONE = (("1", 1, 1),)
TWO = (("1", 1, 1), ("2", 2, 1))
SHAPE = (4, 4, 6, 2)

# Compiled in half the time; what is tested runs once.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(shape=SHAPE):
    x = np.random.default_rng(1).uniform(-0.3, 1.3, shape).astype(np.float32)
    return jnp.asarray(x), jnp.array([0.0, 2.0, 1.0, 2.0])[: shape[0]]


def small(name, stages=TWO, **kwargs):
    """A network, its parameters as after some training, and the same as a PyTorch state dict."""
    network = MAKE[name](stages=tuple(stage[1:] for stage in stages), **kwargs)
    state = numpy_ncsn.random_state(0, numpy_ncsn.entries(4, 2, stages, LEVELS[name]))
    return network, importers.ncsn.params(network, state), state


def reference(name, state, x, level, stages=TWO):
    level = None if name == "NCSNv2" else np.asarray(level, int)
    out = numpy_ncsn.network(state, np.moveaxis(np.asarray(x, float), 3, 1), level, stages)
    return np.moveaxis(out, 1, 3)


@functools.cache
def compiled(name):
    network, params, state = small(name)
    return jit(network.apply), params, state


def check(name, stages=TWO, shape=SHAPE, **options):
    """The network is NumPy's; with `centred_input` images are in -1..1."""
    network, params, state = small(name, stages, **options)
    x, level = inputs(shape)
    out = jit(network.apply)(params, 2 * x - 1 if options else x, level)
    expected = reference(name, state, x, level, stages)
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "stages"),
    [("NCSN", numpy_ncsn.SHALLOW), ("NCSNv2", numpy_ncsn.SHALLOW), ("NCSNv2", numpy_ncsn.DEEPER)],
    ids=["NCSN", "NCSNv2", "NCSNv2 deeper"],
)
def test_the_whole_network_is_what_the_papers_say(name, stages):
    check(name, stages, (2, 8, 12, 2))


@pytest.mark.parametrize("name", MAKE)
def test_centred_input_is_taken_as_it_is(name):
    check(name, ONE, centred_input=True)


@pytest.mark.parametrize(
    ("network", "stages", "image_channels", "count"),
    [
        (NCSNv2(channels=64), numpy_ncsn.SHALLOW, 3, 7_429_187),  # counted from the authors' own code
        rest(NCSNv2(channels=32), numpy_ncsn.SHALLOW, 1, 1_858_977),  # likewise
        rest(NCSNv2(channels=128), numpy_ncsn.SHALLOW, 3, 29_694_083),
        (NCSNv2(channels=128, stages=refinenet.DEEPER), numpy_ncsn.DEEPER, 3, 83_445_379),
        (NCSNv2(channels=128, stages=refinenet.DEEPEST), numpy_ncsn.DEEPEST, 3, 94_132_611),
        (NCSN(channels=128), numpy_ncsn.SHALLOW, 3, 30_117_635),
        rest(NCSN(channels=64), numpy_ncsn.SHALLOW, 1, 7_638_657),
    ],
)
def test_published_networks_have_the_published_parameters(network, stages, image_channels, count):
    """The numbers of parameters are those of the papers and their checkpoints."""
    x = jnp.zeros((1, 32, 32, image_channels))
    shapes = jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1)))
    listed = numpy_ncsn.entries(network.channels, image_channels, stages, getattr(network, "levels", None))
    assert sum(map(math.prod, listed.values())) == sum(leaf.size for leaf in shapes) == count
    assert {leaf.dtype for leaf in shapes} == {np.dtype(np.float32)}


def test_bfloat16_computes_in_it_and_returns_float32():
    apply, params, _ = compiled("NCSNv2")
    half, _, _ = small("NCSNv2", dtype=jnp.bfloat16)
    x, level = inputs()
    a, b = apply(params, x, level), jit(half.apply)(params, x, level)
    assert b.dtype == jnp.float32
    # About thirty layers, each good to 2^-8, whose roundings add up like a random walk.
    assert 1e-3 < float(jnp.abs(a - b).max() / jnp.abs(a).max()) < 0.1


@pytest.mark.parametrize("name", MAKE)
def test_examples_do_not_see_each_other(name):
    apply, params, _ = compiled(name)
    x, level = inputs()
    out, others = apply(params, x, level), apply(params, x.at[1:].multiply(-2.0), level.at[1:].set(1.0))
    np.testing.assert_allclose(others[0], out[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(others[1], out[1], atol=1e-2)


def test_ncsn_rounds_and_clips_the_number_of_the_level():
    apply, params, _ = compiled("NCSN")
    x, level = inputs()
    out = apply(params, x, level)
    np.testing.assert_array_equal(apply(params, x, jnp.array([-5.0, 2.4, 0.6, 9.0])), out)
    np.testing.assert_allclose(apply(params, x, level.astype(int)), out, rtol=1e-5, atol=1e-5)
    assert not np.allclose(apply(params, x, 2 - level)[0], out[0], atol=1e-2)


def test_ncsnv2_is_divided_by_sigma_and_does_not_look_at_it():
    apply, params, _ = compiled("NCSNv2")
    x, c_noise = inputs()
    out = apply(params, x, c_noise)
    np.testing.assert_array_equal(apply(params, x, c_noise + 1.0), out)
    divided = score.over_sigma(apply)(params, x, jnp.full(4, 0.5))
    np.testing.assert_allclose(divided, 2 * out, rtol=1e-6)


def test_sharding_the_batch_changes_nothing():
    apply, params, _ = compiled("NCSN")
    x, level = inputs()
    place = sharding.batched(sharding.mesh(devices=jax.devices()[:2]))
    out, expected = apply(params, *jax.device_put((x, level), place)), apply(params, x, level)
    assert len(out.sharding.device_set) == 2
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", ["NCSNv2", rest("NCSN")])
def test_sliced_score_matching_differentiates_it(name):
    """The network is differentiated forwards, and the result backwards."""
    network, params, state = small(name, ONE)
    x, level = inputs((2, *SHAPE[1:]))

    def loss(params):
        bound = lambda x, level: network.apply(params, x, level)
        return objectives.sliced(bound, jax.random.key(0), x, level).sum()

    value, grads = jit(jax.value_and_grad(loss))(params)

    # The same in NumPy, in double precision: the slope along the probe as a difference.
    probe = noise.rademacher(noise.fold_in(jax.random.key(0), 0), x.shape)
    x, v, h = np.asarray(x, float), np.asarray(probe, float), 1e-6
    s, up, down = (reference(name, state, a, level, ONE) for a in (x, x + h * v, x - h * v))
    over = lambda a: a.sum(axis=(1, 2, 3))
    expected = over(v * (up - down)) / (2 * h) + over(v * s) ** 2 / 2
    assert float(value) == pytest.approx(expected.sum(), rel=1e-3)

    # Rows of levels that are not in the batch have no gradient.
    contract.assert_all_learn(grads)
    for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
        if path[-1].key == "embedding":
            np.testing.assert_array_equal(gradient[1], jnp.zeros_like(gradient[1]))


def test_every_parameter_learns_and_remat_changes_nothing():
    make = functools.partial(NCSNv2, channels=4, stages=((1, 1),))
    contract.check_remat(make, (8, 8, 1))
