import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxscore import checkpoint, trainer
from jaxscore.checkpoint import CheckpointError, integrity
from tests.checkpoint.folders import contents, names_in, steps_in, with_sidecars
from tests.checkpoint.states import abstract, assert_identical, make_state
from tests.grids import rest


def test_a_step_is_not_written_twice_and_an_older_one_refused(folder):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(5), wait=True)
        checkpoint.save(checkpoints, make_state(5, scale=9.0), wait=True)
        with pytest.raises(CheckpointError, match=r"step 4 .* step 5"):
            checkpoint.save(checkpoints, make_state(4))
        assert checkpoint.newest_step(checkpoints) == 5
        assert checkpoint.about(checkpoints, 5) is None  # nothing was said
        restored = checkpoint.restore_latest(checkpoints, abstract(make_state()))
    assert_identical(restored, make_state(5))


def test_the_state_may_be_donated_as_soon_as_save_returns(folder):
    # Large enough to be still on its way to the disk when its buffers are taken over.
    spoil = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf - 1, state), donate_argnums=0)
    large = lambda step: make_state(step, scale=step, params={"w": jnp.linspace(0, 1, 500_000)})
    with checkpoint.manager(folder) as checkpoints:
        for step in range(1, 6):
            state = large(step)
            checkpoint.save(checkpoints, state)
            for _ in range(3):  # as the training loop does: the next steps reuse the memory
                state = spoil(state)
            checkpoint.wait_until_saved(checkpoints)
            restored = checkpoint.restore_latest(checkpoints, abstract(state))
            assert_identical(restored, large(step))


# Retention ------------------------------------------------------------------------------------


def test_the_best_and_every_so_many_are_kept_too(folder):
    """A second run knows which they are."""
    losses = {1: 0.5, 2: 0.1, 3: 0.4, 4: 0.4, 5: 0.3, 6: 0.2, 7: None, 8: 0.6, 9: 0.7, 10: 0.8}
    keeping = {"keep": 2, "best": 2, "every": 4}
    with checkpoint.manager(folder, **keeping) as checkpoints:
        for step in (1, 2, 3, 4, 5):
            checkpoint.save(checkpoints, make_state(step), metric=losses[step])
    assert steps_in(folder) == [2, 4, 5]  # 2 and 5 are the best, 4 and 5 the newest
    with checkpoint.manager(folder, **keeping) as checkpoints:
        for step in (6, 7, 8, 9, 10):
            checkpoint.save(checkpoints, make_state(step), metric=losses[step])
    assert names_in(folder) == with_sidecars(2, 4, 6, 8, 9, 10)


@pytest.mark.parametrize(("name", "value"), [("keep", 0), ("best", -1), ("every", 0)])
def test_what_cannot_be_kept_is_refused(folder, name, value):
    refused = pytest.raises(ValueError, match=f"{name} = {value} must be at least")
    with refused, checkpoint.manager(folder, **{name: value}):
        pass
    assert not folder.exists()


@pytest.mark.parametrize("metric", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_refused(folder, metric):
    with checkpoint.manager(folder) as checkpoints:
        with pytest.raises(ValueError, match="must be finite"):
            checkpoint.save(checkpoints, make_state(1), metric=metric)
        assert checkpoint.newest_step(checkpoints) is None


# What is stored -------------------------------------------------------------------------------


def test_every_file_is_in_the_sidecar_and_none_is_code(folder):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1), metric=0.5, about={"experiment": "digits"})
    files = contents(folder / "1")
    sums = {name: integrity._sum(folder / "1" / name) for name in files}
    assert integrity._read(folder, 1) == {"metric": 0.5, "files": sums}
    for name, content in files.items():
        assert not name.endswith((".pkl", ".pickle", ".pt"))
        # A pickle starts with its protocol, \x80 and a number, and ends with a dot.
        assert not (content[:1] == b"\x80" and content[-1:] == b"."), name


# Saves that fail, or are interrupted ------------------------------------------------------------


@pytest.mark.parametrize("method", ["save", "wait_until_finished", "check_for_errors"])
def test_a_save_that_fails_is_a_checkpoint_error(folder, method):
    with checkpoint.manager(folder) as checkpoints:
        denied = mock.patch.object(checkpoints.orbax, method, side_effect=OSError("Permission\ndenied"))
        with denied, pytest.raises(CheckpointError, match=r"checkpoints: Permission denied"):
            checkpoint.save(checkpoints, make_state(1), wait=True)


def full():
    """Within this context there is no space for the checksums, which are written in the background."""
    return mock.patch.object(integrity, "write_sums", side_effect=OSError(28, "No space left on device"))


def test_a_failure_in_the_background_comes_out_at_the_next_call(folder):
    """The failed save is not committed."""
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1), wait=True)
        with full():
            checkpoint.save(checkpoints, make_state(2))
            with pytest.raises(CheckpointError, match="no disk space; make room and run again"):
                checkpoint.save(checkpoints, make_state(3))
        checkpoint.save(checkpoints, make_state(4))
    with checkpoint.manager(folder) as checkpoints:
        assert checkpoint.newest_good(checkpoints) == 4
    assert names_in(folder) == with_sidecars(1, 4)


def test_a_failure_of_the_last_save_comes_out_at_the_end(folder):
    with full(), pytest.raises(CheckpointError, match="no disk space"), checkpoint.manager(folder) as saved:
        checkpoint.save(saved, make_state(2))


def test_what_happened_first_is_what_is_told(folder):
    def save_and_crash(checkpoints):
        checkpoint.save(checkpoints, make_state(2))
        raise KeyError("first")

    with full(), pytest.raises(KeyError, match="first"), checkpoint.manager(folder) as checkpoints:
        save_and_crash(checkpoints)


def test_a_folder_that_becomes_a_file_is_an_error_at_once(folder):
    begin = time.monotonic()
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1), wait=True)
        shutil.rmtree(folder)
        folder.write_text("mine")
        with pytest.raises(CheckpointError, match=r"cannot save in .*: .*Not a directory"):
            checkpoint.save(checkpoints, make_state(2), wait=True)
    assert time.monotonic() - begin < 20  # Orbax's own threads would wait for it for minutes
    with pytest.raises(CheckpointError, match="is a file, not a folder"), checkpoint.manager(folder):
        pass
    assert folder.read_text() == "mine"


def test_unfinished_saves_are_removed_by_the_next_run(folder):
    """A reader leaves them where they are."""
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(3), wait=True)
    shutil.copytree(folder / "3", folder / "9.orbax-checkpoint-tmp")
    shutil.copy(folder / "3.sums.json", folder / "9.sums.json")
    (folder / "9.sums.tmp").write_text("{")
    before = contents(folder)
    with checkpoint.manager(folder, read_only=True) as checkpoints:
        assert int(checkpoint.restore_latest(checkpoints, abstract(make_state())).step) == 3
    assert contents(folder) == before
    with checkpoint.manager(folder) as checkpoints:
        assert int(checkpoint.restore_latest(checkpoints, abstract(make_state())).step) == 3
    assert names_in(folder) == with_sidecars(3)


ENDLESS = """
import itertools, os, sys
import jax, jax.numpy as jnp, optax
from jaxscore import checkpoint, trainer

state = trainer.init_state(jax.random.key(0), lambda key: jnp.zeros(300_000), optax.sgd(0.1))
with checkpoint.manager(sys.argv[1]) as checkpoints:
    for step in itertools.count(1):
        full = jax.tree.map(lambda leaf: jnp.full(leaf.shape, step, leaf.dtype), state)
        checkpoint.save(checkpoints, full)
        print(step, flush=True)
"""


@pytest.mark.parametrize("after", [0.037, rest(0.011), rest(0.073)])  # of a save that takes 0.02 to 0.2 s
def test_killed_at_any_moment_it_leaves_a_good_checkpoint(folder, after):
    script = [sys.executable, "-c", ENDLESS, str(folder)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(script, cwd=Path(__file__).parents[2], **options) as process:
        while int(process.stdout.readline()) < 4:
            pass
        time.sleep(after)
        process.kill()
    shape = abstract(trainer.init_state(jax.random.key(0), lambda key: jnp.zeros(300_000), optax.sgd(0.1)))
    with checkpoint.manager(folder) as checkpoints:
        # A step that is there has its checksums: they come first.
        step = checkpoint.newest_good(checkpoints, tell=pytest.fail)
        restored = checkpoint.restore(checkpoints, step, shape)
    assert step >= 3
    for leaf in (restored.step, restored.params, restored.ema):
        assert (leaf == step).all()
