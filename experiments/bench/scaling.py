"""Weak scaling, as far as one machine can show it: bytes that a device sends in a step, by number of devices.

    NPROC=16 XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m experiments.bench.scaling

Compiles a workload's training step for 1, 2, 4 and 8 simulated devices with the same number of images per
device, and prints JSON. `bench` runs this module in a process of its own, because JAX fixes the number of
simulated devices when a process starts.
"""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import jax

from experiments.bench import workloads
from jaxscore import plan
from jaxscore.launch import programs
from jaxscore.launch.config import Mesh

DEVICES = (1, 2, 4, 8)


def exchanged(workload: workloads.Workload, each: int) -> list[dict[str, Any]]:
    """Bytes that one device sends in a step, and its operations: a row for each number of devices and mesh.

    The meshes are data parallel (fsdp = 1) and fully sharded (fsdp = number of devices). `each` is the number
    of images per device.
    """
    rows = []
    for n in DEVICES:
        for fsdp in sorted({1, n}):
            config = dataclasses.replace(workload.experiment.config, batch=n * each, mesh=Mesh(fsdp=fsdp))
            experiment = workload.experiment._replace(config=config)
            mesh = programs.mesh_of(config, jax.devices()[:n])
            cost = plan.cost(programs.lower_step(experiment, mesh).compile())
            rows.append({"devices": n, "fsdp": fsdp, "sent_bytes": cost.wire_bytes, "flops": cost.flops})
    return rows


def measure(name: str) -> list[dict[str, Any]]:
    """Rows of `exchanged` for the named workload, from a process with simulated devices.

    Raises RuntimeError if the process fails.
    """
    most = max(DEVICES)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": str(2 * most)}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={most}"
    command = [sys.executable, "-m", "experiments.bench.scaling", name]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"weak scaling of {name}: {found.stderr.strip().splitlines()[-1]}")
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Prints the rows of the workload named on the command line, as JSON."""
    found = workloads.WORKLOADS[sys.argv[1] if len(sys.argv) > 1 else "digits"]()
    print(json.dumps(exchanged(found, max(1, found.experiment.config.batch // max(DEVICES)))))


if __name__ == "__main__":
    main()
