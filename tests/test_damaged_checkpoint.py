"""Whatever happens to a checkpoint's files: a clear error or the state that was saved, never another."""

import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxscore import checkpoint
from jaxscore.checkpoint import CheckpointError
from tests.checkpoint.folders import contents, files, flip
from tests.checkpoint.states import abstract, assert_identical, make_state, save_three

SETTINGS = settings(derandomize=True, deadline=None, max_examples=20, database=None)
STEPS = (1, 2, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_three(tmp_path_factory.mktemp("saved") / "checkpoints")


@pytest.fixture(scope="module")
def expected():
    """Shapes, and the states that were saved; made once, because every example compares with them."""
    return abstract(make_state()), {step: jax.device_get(make_state(step, scale=step)) for step in STEPS}


def swap(path, number):
    """Another file's content, of any step."""
    root = next(folder for folder in path.parents if folder.name == "checkpoints")
    others = [content for content in contents(root).values() if content != path.read_bytes()]
    path.write_bytes(others[number % len(others)])


DAMAGE = {
    "flip": flip,
    "swap": swap,
    "truncate": lambda path, number: os.truncate(path, number % path.stat().st_size),
    "zero": lambda path, number: path.write_bytes(bytes(path.stat().st_size)),
    "append": lambda path, number: path.write_bytes(path.read_bytes() + bytes([number % 256])),
    "remove": lambda path, number: path.unlink(),
    "rename": lambda path, number: path.rename(path.with_name(f"{path.name}{number}")),
    "add": lambda path, number: path.with_name(f"more{number}").write_bytes(b""),
    "folder": lambda path, number: (path.unlink(), path.mkdir()),
}

WHOLE = {
    "empty": lambda step: (shutil.rmtree(step), step.mkdir()),
    "file": lambda step: (shutil.rmtree(step), step.write_text("mine")),
    "gone": shutil.rmtree,
    "no sidecar": lambda step: step.with_name(f"{step.name}.sums.json").unlink(),
    "garbled sidecar": lambda step: step.with_name(f"{step.name}.sums.json").write_text("{}"),
    "sidecar of another": lambda step: shutil.copy(
        step.with_name("1.sums.json" if step.name != "1" else "2.sums.json"),
        step.with_name(f"{step.name}.sums.json"),
    ),
}

damages = st.one_of(
    st.tuples(st.sampled_from(sorted(DAMAGE)), st.integers(0, 10**6), st.integers(0, 10**6)),
    st.tuples(st.sampled_from(sorted(WHOLE)), st.just(0), st.just(0)),
)


def inflict(folder, step, damage):
    """Damage a step; returns whether it has changed at all."""
    kind, which, number = damage
    before = contents(folder)
    if kind in WHOLE:
        WHOLE[kind](folder / str(step))
    else:
        # A file that is not empty: what is cut off an empty one is nothing.
        choice = [path for path in files(folder / str(step)) if path.stat().st_size]
        DAMAGE[kind](choice[which % len(choice)], number)
    return contents(folder) != before


@given(damage=damages)
@SETTINGS
def test_damage_to_the_newest_is_named_and_moved_aside(saved, expected, damage):
    """The second newest is restored."""
    shapes, states = expected
    with tempfile.TemporaryDirectory() as temporary:
        folder, told = shutil.copytree(saved, Path(temporary) / "checkpoints"), []
        changed = inflict(folder, 3, damage)
        before = contents(folder)
        with checkpoint.manager(folder, keep=3) as checkpoints:
            restored = jax.device_get(checkpoint.restore_latest(checkpoints, shapes, tell=told.append))
        found = 2 if changed else 3
        assert_identical(restored, states[found])
        assert len(told) == (3 - found)
        assert all(line.startswith(f"checkpoint {folder / '3'} is damaged: ") for line in told)
        # Nothing is deleted, and nothing changed: every content is in one folder or the other.
        after = contents(folder)
        if changed:
            after |= contents(folder.with_name("checkpoints-damaged"))
        assert after == before


@given(damage=st.tuples(damages, damages, damages))
@settings(SETTINGS, max_examples=8)
def test_damage_to_all_is_one_line_and_nothing_is_moved(saved, expected, damage):
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(saved, Path(temporary) / "checkpoints")
        assume(all(inflict(folder, step, each) for step, each in zip(STEPS, damage, strict=True)))
        before = contents(folder)
        refused = pytest.raises(CheckpointError, match=r"\Ano checkpoint in .* is good: 3: .*\Z")
        with checkpoint.manager(folder, keep=3) as checkpoints, refused:
            checkpoint.restore_latest(checkpoints, expected[0], tell=pytest.fail)
        assert contents(folder) == before
        assert not folder.with_name("checkpoints-damaged").exists()
