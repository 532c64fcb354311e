import jax
import pytest

from jaxscore import checkpoint
from tests.checkpoint.folders import names_in, steps_in, with_sidecars
from tests.checkpoint.states import abstract, assert_identical, make_state


def numbered(step):
    """A state with two averages that differ."""
    state = make_state(step, scale=step, profiles=2)
    first, second = state.profiles
    return state._replace(profiles=(first, jax.tree.map(lambda leaf: leaf + 1, second)))


def shapes(profiles=2):
    return checkpoint.abstract_snapshot(abstract(make_state()).ema, profiles)


def keep(folder, *steps):
    with checkpoint.snapshots(folder) as kept:
        for step in steps:
            checkpoint.save_snapshot(kept, numbered(step), about={"gammas": [1.5, 2.5]})


def test_all_are_kept_and_read_one_after_another(folder):
    keep(folder, 2, 4, 6)
    keep(folder, 8)
    with checkpoint.snapshots(folder, read_only=True) as kept:
        assert checkpoint.good_snapshots(kept) == [2, 4, 6, 8]
        for step in (2, 8):
            restored = checkpoint.restore(kept, step, shapes())
            assert int(restored.step) == step
            assert_identical(restored.profiles, numbered(step).profiles)
        assert checkpoint.about(kept, 8) == {"gammas": [1.5, 2.5]}
        with pytest.raises(checkpoint.CheckpointError, match=r"profiles/2/.* is missing"):
            checkpoint.restore(kept, 2, shapes(3))  # another number of averages


def test_a_state_without_averages_is_refused(folder):
    """Nothing is saved: there are no snapshots, which is no error."""
    with checkpoint.snapshots(folder) as kept:
        with pytest.raises(ValueError, match="has no profiles"):
            checkpoint.save_snapshot(kept, make_state(1))
        assert checkpoint.good_snapshots(kept) == []
    assert folder.is_dir()


def test_later_ones_are_forgotten_when_training_goes_back(folder):
    keep(folder, 2, 4, 6)
    (folder / "5").write_text("a file")
    with checkpoint.snapshots(folder) as kept:
        checkpoint.forget_after(kept, 3)
        assert checkpoint.good_snapshots(kept) == [2]
        changed = numbered(4)._replace(profiles=(numbered(7).profiles[0],) * 2)
        checkpoint.save_snapshot(kept, changed)
        checkpoint.wait_until_saved(kept)
        assert_identical(checkpoint.restore(kept, 4, shapes()).profiles, changed.profiles)
    assert names_in(folder) == with_sidecars(2, 4)


def test_damaged_ones_are_told_and_moved_aside(folder):
    """If none is good it is an error."""
    keep(folder, 2, 4, 6)
    (folder / "4" / "state" / "_METADATA").write_text("{}")
    told = []
    with checkpoint.snapshots(folder) as kept:
        assert checkpoint.good_snapshots(kept, tell=told.append) == [2, 6]
    (line,) = told
    assert "checkpoints/4 is damaged: state/_METADATA has 2 bytes" in line
    assert steps_in(folder) == [2, 6]
    assert (folder.with_name("checkpoints-damaged") / "4").is_dir()
    for step in (2, 6):
        (folder / f"{step}.sums.json").unlink()
    none_is_good = r"no snapshot in .* is good: 2: it has no 2\.sums\.json"
    with (
        checkpoint.snapshots(folder) as kept,
        pytest.raises(checkpoint.CheckpointError, match=none_is_good),
    ):
        checkpoint.good_snapshots(kept)
    assert steps_in(folder) == [2, 6]
