import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore import checkpoint, sharding, trainer


def make_state(step=0, scale=1.0, params=None):
    tx = optax.adam(1e-3)
    params = params or {
        "dense": {"kernel": jnp.arange(6.0).reshape(2, 3) / 7, "bias": jnp.ones(3)},
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
    }
    state = trainer.init_state(jax.random.key(0), lambda key: params, tx)
    scaled = lambda leaf: leaf * jnp.asarray(scale, leaf.dtype)
    return jax.tree.map(scaled, state)._replace(step=jnp.asarray(step, jnp.int32))


def abstract(state):
    return jax.eval_shape(lambda: state)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == two.dtype
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_what_is_restored_is_what_was_saved_bit_by_bit(folder):
    state = make_state(step=3, scale=1.1)
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, state)
    with checkpoint.manager(folder) as checkpoints:
        restored = checkpoint.restore_latest(checkpoints, abstract(state))
    assert_identical(restored, state)
    assert restored.params["half"].dtype == jnp.bfloat16


def test_an_empty_folder_restores_nothing(folder):
    with checkpoint.manager(folder) as checkpoints:
        assert checkpoint.restore_latest(checkpoints, abstract(make_state())) is None
    assert folder.is_dir()


def test_the_newest_are_kept_and_the_latest_is_restored(folder):
    with checkpoint.manager(folder, keep=2) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoint.save(checkpoints, make_state(step, scale=step))
        checkpoint.wait_until_saved(checkpoints)
        restored = checkpoint.restore_latest(checkpoints, abstract(make_state()))
    assert_identical(restored, make_state(4, scale=4))
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["3", "4"]


def test_a_step_that_is_there_is_not_written_again_and_an_older_one_is_refused(folder):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(5), wait=True)
        checkpoint.save(checkpoints, make_state(5, scale=9.0), wait=True)
        with pytest.raises(checkpoint.CheckpointError, match=r"step 4 .* step 5"):
            checkpoint.save(checkpoints, make_state(4))
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


def test_it_is_restored_into_the_shardings_asked_for(folder):
    state, mesh = make_state(2, scale=3.0), sharding.mesh()
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, state, wait=True)
        place = sharding.replicated(mesh)
        placed = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract(state)
        )
        restored = checkpoint.restore_latest(checkpoints, placed)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(restored))
    assert_identical(restored, state)


PARAMS = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "half": jnp.ones(5, jnp.bfloat16)}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PARAMS | {"more": jnp.ones(2)}, r"(params|ema)/more is missing"),
        ({"dense": PARAMS["dense"]}, r"(params|ema)/half is left over"),
        (PARAMS | {"half": jnp.ones(6, jnp.bfloat16)}, r"half is bfloat16\[5\], here it is bfloat16\[6\]"),
        (PARAMS | {"half": jnp.ones(5)}, r"half is bfloat16\[5\], here it is float32\[5\]"),
        (PARAMS | {"half": {"deeper": jnp.ones(5)}}, r"half"),
    ],
    ids=["missing", "left over", "shape", "dtype", "structure"],
)
def test_a_state_of_another_network_is_refused_by_name(folder, params, message):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1), wait=True)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            checkpoint.restore_latest(checkpoints, abstract(make_state(params=params)))


def damage_data(step):
    files = [path for path in step.rglob("*") if path.is_file() and "d" in path.parent.name]
    assert files
    for path in files:
        path.write_bytes(b"")


DAMAGE = {
    "emptied data files": damage_data,
    "no data": lambda step: shutil.rmtree(step / "state"),
    "an empty folder": lambda step: (shutil.rmtree(step), step.mkdir()),
    "no metadata": lambda step: (step / "state" / "_METADATA").unlink(),
    "garbled metadata": lambda step: (step / "state" / "_METADATA").write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.filterwarnings("ignore")
def test_files_that_cannot_be_read_are_a_checkpoint_error_that_names_them(folder, kind):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(7), wait=True)
    DAMAGE[kind](folder / "7")
    with (
        checkpoint.manager(folder) as checkpoints,
        pytest.raises(checkpoint.CheckpointError, match=r"checkpoints/7 ") as caught,
    ):
        checkpoint.restore_latest(checkpoints, abstract(make_state()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["save", "wait_until_finished", "check_for_errors"])
def test_a_save_that_fails_is_a_checkpoint_error(folder, monkeypatch, method):
    def full(*args, **options):
        raise OSError("Permission\ndenied")

    with checkpoint.manager(folder) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(checkpoints, method, full)
        with pytest.raises(checkpoint.CheckpointError, match=r"checkpoints: Permission denied"):
            checkpoint.save(checkpoints, make_state(1), wait=True)
        patch.undo()


def test_an_unfinished_save_is_ignored(folder):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(3), wait=True)
    shutil.copytree(folder / "3", folder / "9.orbax-checkpoint-tmp")
    with checkpoint.manager(folder) as checkpoints:
        assert int(checkpoint.restore_latest(checkpoints, abstract(make_state())).step) == 3


def test_no_code_is_stored(folder):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1), wait=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".pt")
        # A pickle starts with its protocol, \x80 and a number, and ends with a dot.
        content = path.read_bytes()
        assert not (content[:1] == b"\x80" and content[-1:] == b"."), path
