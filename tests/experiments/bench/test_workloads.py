"""The named workloads."""

import jax
import jax.numpy as jnp
import pytest

from experiments.bench import workloads
from jaxscore import plan, sharding, updates
from jaxscore.launch import programs

WORKLOADS = {
    "digits": (2_705_088, (256, 8, 8, 1), 17, 17),
    "ncsnv2": (7_429_187, (16, 32, 32, 3), 11, 1161),
    "unet": (None, (16, 32, 32, 3), 3, 35),
    "cifar10": (29_694_083, (128, 32, 32, 3), 11, 1161),
    "ncsn_v1": (None, (128, 32, 32, 3), 201, 1001),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_are_what_their_names_say(name):
    parameters, shape, timed, whole = WORKLOADS[name]
    workload = workloads.WORKLOADS[name]()
    mesh = sharding.mesh()
    count = plan.parameters(jax.eval_shape(workload.experiment.init, jax.random.key(0)))
    assert count == parameters or (parameters is None and count > 1_000_000)
    assert programs.abstract_batch(workload.experiment, mesh)["x"].shape == shape
    assert (workload.evaluations, workload.whole) == (timed, whole)
    assert workload.sampler in workload.sampled.samplers


def test_a_u_net_learns_and_is_sampled():
    config = workloads.UNetConfig(batch=8, channels=8)
    workload = workloads.unet(config)
    loss = jax.eval_shape(
        workload.experiment.loss,
        jax.eval_shape(workload.experiment.init, jax.random.key(0)),
        updates.Context(jax.random.key(1), jnp.int32(0), {}),
        {"x": jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32)},
    )
    assert loss[0].shape == ()
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    params = jax.eval_shape(workload.experiment.init, jax.random.key(0))
    assert jax.eval_shape(workload.experiment.samplers["heun"], params, keys).shape == (8, 32, 32, 3)
