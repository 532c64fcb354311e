"""Metrics that two processes compute together: `python -m tests.metrics.processes PORT NUMBER`."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests import compiler
from tests.launch.fleet import free_port

RESULT = "result: "


def results(mesh) -> dict:
    """Neighbours, balls and features of sets that no number of devices divides."""
    from jaxscore import metrics

    rng = np.random.default_rng(0)
    points, queries = rng.standard_normal((153, 3)), rng.standard_normal((101, 3))
    distances, numbers = metrics.nearest(queries, points, rank=2, mesh=mesh)
    features = metrics.mapped(lambda x, scale: scale * x[:, :2], mesh, batch=8)
    return {
        "distances": distances.tolist(),
        "numbers": numbers.tolist(),
        "balls": metrics.balls(queries, points, neighbours=3, mesh=mesh).tolist(),
        "features": features(queries.astype(np.float32), np.float32(0.5)).tolist(),
    }


def run(*, seconds: float = 90) -> list[dict]:
    """The results of two processes with two devices each."""
    command = [sys.executable, "-m", "tests.metrics.processes", str(free_port())]
    options = {
        "cwd": Path(__file__).parents[2],
        "env": os.environ | compiler.environment(devices=2),
        "stdout": subprocess.PIPE,
        "text": True,
        "timeout": seconds,
        "check": True,
    }
    with ThreadPoolExecutor() as together:
        ended = list(together.map(lambda number: subprocess.run([*command, number], **options), "01"))
    lines = [next(line for line in end.stdout.split("\n") if line.startswith(RESULT)) for end in ended]
    return [json.loads(line.removeprefix(RESULT)) for line in lines]


def main() -> None:
    """One of them."""
    import jax

    port, number = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    from jaxscore import sharding

    print(RESULT + json.dumps(results(sharding.mesh())), flush=True)


if __name__ == "__main__":
    main()
