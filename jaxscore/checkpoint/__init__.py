"""Checkpoints: asynchronous saves by Orbax, checksums of every file, and restores that say what is wrong.

    with manager(directory, keep=2, best=1, every=10_000) as checkpoints:
        state = restore_latest(checkpoints, jax.eval_shape(lambda: state)) or state
        save(checkpoints, state, metric=loss)

Only arrays are stored, and beside them, if asked for, a JSON value that describes them: no pickled
code, no key, no data iterator. Keys and data are functions of state.step.

A checkpoint whose files are not those that were written (a flipped byte, a file that is cut off,
missing or left over) is named, moved aside, and the newest good one is restored.
"""

from jaxscore.checkpoint.integrity import CheckpointError as CheckpointError
from jaxscore.checkpoint.restoring import about as about
from jaxscore.checkpoint.restoring import newest_good as newest_good
from jaxscore.checkpoint.restoring import restore as restore
from jaxscore.checkpoint.restoring import restore_latest as restore_latest
from jaxscore.checkpoint.snapshots import Snapshot as Snapshot
from jaxscore.checkpoint.snapshots import abstract_snapshot as abstract_snapshot
from jaxscore.checkpoint.snapshots import forget_after as forget_after
from jaxscore.checkpoint.snapshots import good_snapshots as good_snapshots
from jaxscore.checkpoint.snapshots import save_snapshot as save_snapshot
from jaxscore.checkpoint.snapshots import snapshots as snapshots
from jaxscore.checkpoint.store import Checkpoints as Checkpoints
from jaxscore.checkpoint.store import manager as manager
from jaxscore.checkpoint.store import newest_step as newest_step
from jaxscore.checkpoint.store import save as save
from jaxscore.checkpoint.store import wait_until_saved as wait_until_saved
