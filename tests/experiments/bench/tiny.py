"""A workload of the smallest experiment."""

from experiments.bench.workloads import Workload
from tests.launch import tiny


def workload() -> Workload:
    """Two layers on points of the plane; Heun's three steps are five evaluations of the network."""
    experiment = tiny.build(tiny.Config())
    return Workload(experiment, "float32", experiment, "one", 5, 50)
