import math
import re
import shutil

import jax
import jax.numpy as jnp
import pytest

from jaxscore import checkpoint, sharding
from jaxscore.checkpoint import CheckpointError
from tests.checkpoint.folders import array_file, contents, flip, names_in, with_sidecars
from tests.checkpoint.states import PARAMS, abstract, assert_identical, make_state, save_three


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder with the steps 1, 2 and 3, not to be changed."""
    return save_three(tmp_path_factory.mktemp("three") / "checkpoints")


@pytest.fixture
def copy(three, folder):
    shutil.copytree(three, folder)
    return folder


@pytest.mark.parametrize("read_only", [True, False])
def test_an_absent_folder_restores_nothing(folder, read_only):
    """A reader does not make it."""
    with checkpoint.manager(folder, read_only=read_only) as checkpoints:
        assert checkpoint.restore_latest(checkpoints, abstract(make_state())) is None
        assert checkpoint.newest_good(checkpoints) is None
    assert folder.is_dir() is not read_only


def test_any_step_is_restored_bit_by_bit_with_what_is_said(three):
    with checkpoint.manager(three, read_only=True) as checkpoints:
        for step in (1, 3):
            restored = checkpoint.restore(checkpoints, step, abstract(make_state()))
            assert_identical(restored, make_state(step, scale=step))
            assert checkpoint.about(checkpoints, step) == {"step": step}


# Shardings ------------------------------------------------------------------------------------


def shardings(state, shape):
    """On a mesh of that shape: the largest leaf is split, the others are copied."""
    mesh = sharding.mesh(*shape, devices=jax.devices()[: math.prod(shape)])
    return sharding.fsdp(mesh, state, smallest=100)


def placed(state, shape):
    of = lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    return jax.tree.map(of, state, shardings(state, shape))


@pytest.mark.parametrize("saved_on", [(8, 1), (1, 8), (2, 4)])
def test_it_is_restored_onto_any_mesh_bit_by_bit(folder, saved_on):
    state = make_state(2, scale=1.3, params=PARAMS)
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, jax.device_put(state, shardings(state, saved_on)), wait=True)
        for wanted in [(1, 1), (1, 2), (4, 2), (1, 8), (8, 1)]:
            restored = checkpoint.restore_latest(checkpoints, placed(state, wanted))
            assert_identical(restored, state)
            assert jax.tree.map(lambda leaf: leaf.sharding, restored) == shardings(state, wanted)
            shard = restored.params["kernel"].addressable_shards[0].data
            assert shard.size * wanted[1] == 16 * 24


# Another network ------------------------------------------------------------------------------

SMALL = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "half": jnp.ones(5, jnp.bfloat16)}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SMALL | {"more": jnp.ones(2)}, r"(params|ema)/more is missing"),
        ({"dense": SMALL["dense"]}, r"(params|ema)/half is left over"),
        (SMALL | {"half": jnp.ones(6, jnp.bfloat16)}, r"half is float32\[5\], here it is float32\[6\]"),
        (SMALL | {"half": jnp.ones(5)}, r"half is bfloat16\[5\], here it is float32\[5\]"),
        (SMALL | {"half": {"deeper": jnp.ones(5)}}, r"half"),
    ],
    ids=["missing", "left over", "shape", "dtype", "structure"],
)
def test_a_state_of_another_network_is_refused_by_name(copy, params, message):
    """The checkpoint is left where it is."""
    before, wanted = contents(copy), abstract(make_state(params=params))
    refused = pytest.raises(CheckpointError, match=rf"\A.*{message}.*\Z")
    with checkpoint.manager(copy, keep=3) as checkpoints, refused:
        checkpoint.restore_latest(checkpoints, wanted)
    assert contents(copy) == before


@pytest.mark.parametrize(("saved", "wanted", "said"), [(0, 2, "is missing"), (2, 1, "is left over")])
def test_averages_that_are_missing_or_left_over_are_named(folder, saved, wanted, said):
    with checkpoint.manager(folder) as checkpoints:
        checkpoint.save(checkpoints, make_state(1, profiles=saved), wait=True)
        with pytest.raises(CheckpointError, match=f"profiles/[01]/.* {said}"):
            checkpoint.restore_latest(checkpoints, abstract(make_state(profiles=wanted)))


# Damage ---------------------------------------------------------------------------------------


def test_the_newest_good_one_is_restored(copy):
    """The damaged ones are named and moved aside."""
    flip(array_file(copy / "3"))
    shutil.rmtree(copy / "2")
    damaged, told = contents(copy / "3"), []
    with checkpoint.manager(copy, keep=3) as checkpoints:
        restored = checkpoint.restore_latest(checkpoints, abstract(make_state()), tell=told.append)
        assert_identical(restored, make_state(1, scale=1))
        assert checkpoint.newest_step(checkpoints) == 1
        # Training goes on from there, and saves the very steps that were damaged.
        for step in (2, 3):
            checkpoint.save(checkpoints, make_state(step, scale=5.0))
    aside = copy.with_name("checkpoints-damaged")
    assert [line.split(": ")[0] for line in told] == [f"checkpoint {copy / n} is damaged" for n in ("3", "2")]
    assert f"its checksum differs); moved to {aside / '3'}" in told[0]
    assert f"its folder is missing; moved to {aside / '2'}" in told[1]
    assert contents(aside / "3") == damaged
    assert names_in(aside) == with_sidecars(2, 3) - {"2"}
    with checkpoint.manager(copy, keep=3) as checkpoints:
        restored = checkpoint.restore_latest(checkpoints, abstract(make_state()))
    assert_identical(restored, make_state(3, scale=5.0))


def test_damage_is_a_warning_when_nobody_listens(copy):
    flip(array_file(copy / "3"))
    told = pytest.warns(UserWarning, match="checkpoints/3 is damaged: .*; moved to .*checkpoints-damaged/3")
    with checkpoint.manager(copy, keep=3) as checkpoints, told:
        assert checkpoint.newest_good(checkpoints) == 2


def test_a_reader_passes_over_damage_and_changes_nothing(copy):
    flip(array_file(copy / "3"))
    before, told = contents(copy), []
    with checkpoint.manager(copy, read_only=True) as checkpoints:
        restored = checkpoint.restore_latest(checkpoints, abstract(make_state()), tell=told.append)
    assert_identical(restored, make_state(2, scale=2))
    assert [line.split(": ")[0] for line in told] == [f"checkpoint {copy / '3'} is damaged"]
    assert "moved" not in told[0]
    assert contents(copy) == before
    assert not copy.with_name("checkpoints-damaged").exists()


def test_if_none_is_good_training_does_not_start_anew(copy):
    """Nothing is moved."""
    for step in (1, 2, 3):
        flip(array_file(copy / str(step)))
    before = contents(copy)
    for _ in range(2):  # nor the second time
        with checkpoint.manager(copy, keep=3) as checkpoints, pytest.raises(CheckpointError) as caught:
            checkpoint.newest_good(checkpoints, tell=pytest.fail)
        assert re.fullmatch(r"no checkpoint in .* is good: 3: .*2 more.*", str(caught.value))
        assert contents(copy) == before


def test_files_that_are_no_checkpoint_do_not_matter(copy):
    """A file that is named like a checkpoint counts as a damaged one."""
    told = []
    for name in ("state", "x/y", "7", "2.5", ".hidden", "9.json"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"junk")
    with checkpoint.manager(copy, keep=3) as checkpoints:
        assert checkpoint.newest_good(checkpoints, tell=told.append) == 3
        checkpoint.save(checkpoints, make_state(8), wait=True)
        assert int(checkpoint.restore_latest(checkpoints, abstract(make_state())).step) == 8
    assert [line.split(":")[0] for line in told] == [f"checkpoint {copy / '7'} is damaged"]


def test_an_unreadable_state_of_right_checksums_is_named(copy, capfd):
    shutil.rmtree(copy / "3" / "state")
    with checkpoint.manager(copy, keep=3) as checkpoints:
        with pytest.raises(CheckpointError, match=r"checkpoints/3 cannot be read.*\Z"):
            checkpoint.restore(checkpoints, 3, abstract(make_state()))
        (copy / "3" / "about" / "metadata").write_text("{")
        with pytest.raises(CheckpointError, match=r"checkpoints/3 cannot be read"):
            checkpoint.about(checkpoints, 3)
    assert capfd.readouterr().err == ""


# The best -------------------------------------------------------------------------------------------


def test_the_best_intact_step_has_the_lowest_metric(folder):
    """A damaged step does not count, and neither does one without a metric; of equals the newest counts."""
    with checkpoint.manager(folder, keep=5) as checkpoints:
        assert checkpoint.best_good(checkpoints) is None
        for step, metric in ((1, 2.0), (2, 1.0), (3, 1.0), (4, None), (5, 3.0)):
            checkpoint.save(checkpoints, make_state(step, scale=step), metric=metric, wait=True)
        assert checkpoint.best_good(checkpoints) == 3
        for step, following in ((3, 2), (2, 1), (1, 5), (5, None)):
            flip(array_file(folder / str(step)))
            assert checkpoint.best_good(checkpoints) == following
