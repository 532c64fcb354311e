"""Checkpoints: asynchronous saves by Orbax, checksums of every file, and restores that name what is wrong.

    with manager(directory, keep=2, best=1, every=10_000) as checkpoints:
        state = restore_latest(checkpoints, jax.eval_shape(lambda: state)) or state
        save(checkpoints, state, metric=loss)

A checkpoint holds arrays, and optionally a JSON value that describes them. It holds no pickled code, no
random key and no data iterator, because keys and data are functions of state.step.

A checkpoint is damaged if a file is not as it was written: changed, cut off, missing or added. A restore
names the file, moves the damaged checkpoint aside, and uses the newest intact one.
"""

from jaxscore.checkpoint.integrity import CheckpointError as CheckpointError
from jaxscore.checkpoint.integrity import steps as steps
from jaxscore.checkpoint.restoring import about as about
from jaxscore.checkpoint.restoring import best_good as best_good
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
