"""One of two processes with two devices each, which save a state that is split over all four.

python -m tests.checkpoint.processes DIRECTORY, in the environment that tests.launch.fleet makes
"""

import os
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxscore import checkpoint, sharding
from tests.checkpoint.states import PARAMS, make_state


def main(directory):
    process = int(os.environ["JAX_PROCESS_ID"])
    jax.distributed.initialize(num_processes=2, process_id=process, shutdown_timeout_seconds=20)
    state = jax.device_get(make_state(4, params=PARAMS))
    places = sharding.fsdp(sharding.mesh(fsdp=4), state, smallest=100)
    whole = lambda leaf, place: jax.make_array_from_callback(leaf.shape, place, lambda index: leaf[index])
    placed = jax.tree.map(whole, jax.tree.map(np.asarray, state), places)
    shape = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    abstract = jax.tree.map(shape, placed, places)
    with checkpoint.manager(directory, keep=1, best=1) as checkpoints:
        for step, metric in ((4, 0.1), (5, 0.3), (6, 0.2)):
            numbered = placed._replace(step=jnp.full_like(placed.step, step))
            checkpoint.save(checkpoints, numbered, metric=metric, about={"step": step})
        checkpoint.wait_until_saved(checkpoints)
        multihost_utils.sync_global_devices("saved")
        if process == 0:  # damaged by hand: the older one is to be used
            (checkpoints.directory / "6" / "commit_success.txt").write_text("")
            found = checkpoint.newest_good(checkpoints, tell=print)
        found = int(multihost_utils.broadcast_one_to_all(np.int32(found if process == 0 else 0)))
        restored = checkpoint.restore(checkpoints, found, abstract)
        here = lambda leaf: [shard.data for shard in leaf.addressable_shards]
        parts, expected = (jax.tree.map(here, state.params) for state in (restored, placed))
        chex.assert_trees_all_equal(parts, expected, strict=True)
        checkpoint.save(checkpoints, numbered._replace(step=jnp.full_like(placed.step, 7)), metric=0.05)
    print(f"process {process} restored step {int(restored.step)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
