import json
import shutil
from functools import partial
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import ema
from jaxscore import checkpoint, launch, sharding
from jaxscore import ema as averages
from jaxscore.launch import programs, workdir
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.experiments.pictures import ink
from tests.launch import tiny
from tests.launch.tiny import snapshot

STEPS = 12

CONFIG = partial(ema.Config, experiment="tests.launch.tiny")


def small(folder=Path("unused"), snapshot_every=1):
    """The experiment, with a snapshot after every step."""
    steps = {"steps": STEPS, "save_every": STEPS, "snapshot_every": snapshot_every}
    return tiny.build(tiny.Config(workdir=folder, **steps))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run with a snapshot after every step; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    launch.run(small(folder), folder, mode="train")
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def shapes():
    return programs.abstract_state(small(), sharding.mesh()).ema


def kept_profiles(folder):
    """The averages of the last snapshot, in NumPy, the narrower first."""
    with checkpoint.snapshots(folder / "snapshots", read_only=True) as kept:
        last = checkpoint.restore(kept, STEPS, checkpoint.abstract_snapshot(shapes(), 2))
        return jax.device_get(last.profiles)


def reconstructed(folder, width):
    with checkpoint.snapshots(folder / "snapshots", read_only=True) as kept:
        return ema.reconstruct(kept, checkpoint.good_snapshots(kept), shapes(), width)


# Reconstruction -------------------------------------------------------------------------------


def test_the_widths_that_were_kept_come_out_as_they_were(trained):
    for width, profile in zip(programs.PROFILES, kept_profiles(trained), strict=True):
        params, misfit = reconstructed(trained, width)
        assert misfit < 1e-6
        # float32 of sums with weights of both signs, whose sizes add up to little more than 1.
        chex.assert_trees_all_close(params, profile, rtol=1e-6, atol=1e-7)


def test_another_width_is_that_of_a_run_that_carries_it(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "PROFILES", (0.07, 0.15))
    launch.run(small(tmp_path, snapshot_every=STEPS), tmp_path, mode="train")
    carried = kept_profiles(tmp_path)
    monkeypatch.undo()
    before = kept_profiles(trained)
    for width, direct in zip((0.07, 0.15), carried, strict=True):
        params, misfit = reconstructed(trained, width)
        assert misfit < 0.05
        size = lambda *both: np.linalg.norm(np.subtract(*(ravel_pytree(tree)[0] for tree in both)))
        # Parameters that hardly move in 12 steps; closer than the misfit of the profiles says.
        assert size(params, direct) < 0.05 * min(size(average, direct) for average in before)


# A run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A run on a copy of the trained one: the folder, what it returned, what it printed."""
    folder, said = shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ema.console, "say", said.append)
        found = ema.run(CONFIG(workdir=folder, sigma_rel=(0.2, 0.1)))
    return folder, found, "\n".join(said)


def test_a_run_evaluates_every_width_and_changes_nothing_else(evaluated, trained):
    folder, found, out = evaluated
    made = {"ema", "ema/ema.json", "ema/ema.png"}
    assert made <= snapshot(folder).keys()
    assert {name: kept for name, kept in snapshot(folder).items() if name not in made} == snapshot(trained)
    assert json.loads((folder / "ema" / "ema.json").read_text()) == found
    assert (found["experiment"], found["step"], found["snapshots"]) == ("tiny", STEPS, STEPS)
    lines = [line.split() for line in out.splitlines()]
    assert lines.count(["sigma_rel", "samples", "mean"]) == 1
    for width, result in zip((0.2, 0.1), found["widths"], strict=True):
        assert (result["sigma_rel"], result["gamma"]) == (width, averages.gamma(width))
        assert result["metrics"]["n"] == 20
        assert [f"{width:g}", "20", f"{result['metrics']['mean'][0]:.3f}"] in lines
    # Each width has samples of its own.
    assert len({tuple(result["metrics"]["mean"]) for result in found["widths"]}) == 2
    assert 0.02 < ink(folder / "ema" / "ema.png") < 0.5


def test_the_samples_are_those_that_the_launcher_draws(copy):
    """The launcher draws them of the same parameters."""
    # 0.05 was carried: the launcher samples it, put in the place of the state's own average.
    experiment = small(copy)
    with checkpoint.manager(copy / "checkpoints") as checkpoints:
        state = checkpoint.restore_latest(checkpoints, programs.abstract_state(experiment, sharding.mesh()))
    with checkpoint.manager(copy / "other" / "checkpoints") as checkpoints:
        checkpoint.save(checkpoints, state._replace(ema=state.profiles[0]), wait=True)
    launched = launch.run(experiment, copy / "other", mode="all")
    found = ema.run(CONFIG(workdir=copy, sigma_rel=(0.05,)))
    np.testing.assert_allclose(found["widths"][0]["metrics"]["mean"], launched["mean"], atol=1e-5)


def test_an_earlier_step_is_as_if_training_had_ended_there(copy, evaluated, capsys):
    """A damaged snapshot is left out, and told."""
    damaged = copy / "snapshots" / "5" / "state" / "_METADATA"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = ema.run(CONFIG(workdir=copy, sigma_rel=(0.1,), step=6))
    assert (found["step"], found["snapshots"]) == (6, 5)
    assert found["widths"][0]["metrics"]["mean"] != evaluated[1]["widths"][1]["metrics"]["mean"]
    assert f"checkpoint {copy / 'snapshots' / '5'} is damaged: state/_METADATA has" in capsys.readouterr().out
    assert damaged.exists()


def test_few_snapshots_are_said_to_be_too_few(copy, capsys):
    for step in range(1, STEPS - 1):
        shutil.rmtree(copy / "snapshots" / str(step))
        (copy / "snapshots" / f"{step}.sums.json").unlink()
    ema.run(CONFIG(workdir=copy, sigma_rel=(0.2,)))
    assert "; more snapshots would come closer" in capsys.readouterr().out


# The table and the figure ---------------------------------------------------------------------


def test_frechet_distances_of_samplers_are_drawn():
    metrics = lambda value: {
        "settings": {"n": 5},
        "real": {"halves_frechet": 1.0},
        "samples": {"frechet": value, "by_classifier": [{"frechet": 2.0}], "recall": 3 * value},
        "langevin": {"frechet": 2 * value},
    }
    results = [{"sigma_rel": width, "metrics": metrics(width)} for width in (0.1, 0.2)]
    assert ema.curves(results) == {"langevin/frechet": [0.2, 0.4], "samples/frechet": [0.1, 0.2]}


def test_without_any_the_first_number_that_changes_is_drawn():
    metrics = lambda value: {"a": [1.0, 2], "b": True, "c": {"d": value, "e": 2 * value}, "name": "x"}
    results = [{"sigma_rel": width, "metrics": metrics(width)} for width in (0.1, 0.2)]
    assert ema.curves(results) == {"c/d": [0.1, 0.2]}
    assert ema.curves(results[:1]) == {"a/0": [1.0]}


def test_the_tables_of_all_widths_are_one():
    table = lambda metrics: [("sampler", "F"), ("one", str(metrics)), ("two", "0")]
    experiment = tiny.build(tiny.Config())._replace(table=table)
    results = [{"sigma_rel": 0.05, "metrics": 1}, {"sigma_rel": 0.1, "metrics": 2}]
    assert ema.table(experiment, results) == [
        ("sigma_rel", "sampler", "F"),
        ("0.05", "one", "1"),
        ("", "two", "0"),
        ("0.1", "one", "2"),
        ("", "two", "0"),
    ]


# What cannot be done --------------------------------------------------------------------------


def test_a_run_without_snapshots_is_told_the_flag(tmp_path):
    config = tiny.Config(workdir=tmp_path, steps=2)
    workdir.write_json(tmp_path / "config.json", workdir.describe("tiny", config))
    said = f"--workdir {tmp_path}: keeps no snapshots; train again .* with --snapshot-every"
    with pytest.raises(Refusal, match=said) as caught:
        ema.run(CONFIG(workdir=tmp_path))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("step", [0, 13, -1])
def test_a_step_without_a_snapshot_is_refused(trained, step):
    said = rf"--step {step}: has no snapshot; there are 1, 2, 3, \.\.\., 11, 12"
    with pytest.raises(FlagError, match=said):
        ema.run(CONFIG(workdir=trained, step=step))


def test_a_folder_of_no_run_is_refused(refused):
    said = "--workdir nowhere: holds no run of an experiment"
    assert refused("ema", "--workdir nowhere").startswith(said)
