import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import sharding


def test_the_mesh_has_every_device_on_one_axis():
    mesh = sharding.data_mesh()
    assert mesh.axis_names == ("data",)
    assert mesh.devices.size == jax.device_count() == 8
    # Auto: programs are partitioned by the compiler, with no annotation in the library.
    assert mesh.axis_types == (jax.sharding.AxisType.Auto,)


def test_a_batch_is_split_and_a_state_copied():
    mesh = sharding.data_mesh()
    batch = jax.device_put(jnp.arange(16.0).reshape(16, 1), sharding.batched(mesh))
    for number, shard in enumerate(batch.addressable_shards):
        np.testing.assert_array_equal(shard.data[:, 0], [2 * number, 2 * number + 1])
    state = jax.device_put(jnp.arange(3.0), sharding.replicated(mesh))
    assert [shard.data.shape for shard in state.addressable_shards] == [(3,)] * 8


def test_what_is_computed_from_both_is_the_same_as_on_one_device():
    mesh = sharding.data_mesh()
    x, w = jnp.arange(48.0).reshape(16, 3), jnp.array([[1.0], [2.0], [3.0]])
    total = jax.jit(lambda x, w: jnp.sum(x @ w))
    split = total(jax.device_put(x, sharding.batched(mesh)), jax.device_put(w, sharding.replicated(mesh)))
    np.testing.assert_allclose(split, total(x, w), rtol=1e-6)
