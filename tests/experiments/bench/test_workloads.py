"""The named workloads."""

import jax
import pytest

from experiments.bench import workloads
from jaxscore import plan, sharding
from jaxscore.launch import programs

WORKLOADS = {
    "digits": (2_705_088, (256, 8, 8, 1), 17, 17),
    "ncsnv2": (7_429_187, (16, 32, 32, 3), 11, 1161),
    "ddpmpp": (None, (16, 32, 32, 3), 3, 35),
    "adm": (None, (16, 32, 32, 3), 3, 35),
    "edm2": (None, (16, 32, 32, 3), 3, 35),
    "dit": (None, (16, 32, 32, 3), 3, 35),
    "edm_cifar10": (55_733_891, (512, 32, 32, 3), 3, 35),
    "edm_fashion": (None, (64, 28, 28, 1), 4, 28),
    "cifar10": (29_694_083, (128, 32, 32, 3), 11, 1161),
    "ncsn_v1": (None, (128, 32, 32, 3), 201, 1001),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads_are_what_their_names_say(name):
    parameters, shape, timed, whole = WORKLOADS[name]
    workload = workloads.WORKLOADS[name]()
    mesh = sharding.mesh()
    count = plan.parameters(jax.eval_shape(workload.experiment.init, jax.random.key(0)))
    assert count == parameters or (parameters is None and count > 500_000)
    assert programs.abstract_batch(workload.experiment, mesh)["x"].shape == shape
    assert (workload.evaluations, workload.whole) == (timed, whole)
    assert workload.sampler in workload.sampled.samplers
