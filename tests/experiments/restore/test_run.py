"""A run is opened, its images are measured and restored, and what cannot be is one line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import digits
from experiments.ncsn import experiment as ncsn
from experiments.restore.config import Config
from experiments.restore.run import chosen, langevin, levels_of, run
from jaxscore import data, launch
from jaxscore.data import Dataset
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.experiments.ncsn import tiny as tiny_ncsn
from tests.experiments.pictures import ink
from tests.launch.tiny import snapshot

SMALL = {"images": 3, "samples": 4, "levels": 3}


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncsn, "score_network", tiny_ncsn.score_network)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a trained run of experiments.ncsn."""
    config = tiny_ncsn.config(tmp_path_factory.mktemp("trained"), mode="train", ema_decay=0.5)
    launch.run(ncsn.build(config), config.workdir, mode="train")
    return config.workdir


@pytest.fixture(scope="module")
def restored(trained, tmp_path_factory):
    """Half images restored by three methods, and their figures; the run is left as it was."""
    before, folder = snapshot(trained), tmp_path_factory.mktemp("restored") / "a"
    methods = ("pseudo_inverse", "pigdm", "replacement", "particles")
    config = Config(run=trained, workdir=folder, problem="inpaint", known="top", methods=methods, **SMALL)
    results = run(config)
    assert snapshot(trained) == before
    return config, results


def test_a_run_writes_draws_figures_and_a_picture(restored):
    config, results = restored
    names = {"config.json", "restore.json", "restore.png", "restored.npz"}
    assert {path.name for path in config.workdir.iterdir()} == names
    with np.load(config.workdir / "restored.npz") as file:
        images, found = file["images"], {name: file[name] for name in config.chosen}
    assert images.shape == (3, 8, 8, 1)
    for name, x in found.items():
        assert x.shape == (3, 4, 8, 8, 1)
        assert 0 <= x.min() <= x.max() <= 1
        draws = len(np.unique(x.reshape(12, -1), axis=0))
        least = {"pseudo_inverse": 3, "particles": 3}.get(name, 12)  # particles are resampled
        assert draws >= least, name
    assert json.loads((config.workdir / "restore.json").read_text()) == results
    assert ink(config.workdir / "restore.png") > 0.1


def test_a_second_run_is_accepted_and_writes_the_same(restored, capsys):
    config, results = restored
    before = snapshot(config.workdir)
    assert run(config) == results
    assert snapshot(config.workdir) == before  # the picture, too
    assert f"picture: {config.workdir / 'restore.png'}" in capsys.readouterr().out


def test_rows_of_other_methods_are_kept(restored, tmp_path, capsys):
    """They are if all other flags are the same; the table is in the order of the methods."""
    config, results = restored
    shutil.copytree(config.workdir, tmp_path / "a")
    more = dataclasses.replace(config, workdir=tmp_path / "a", methods=("gaussian",))
    found = run(more)
    assert list(found["methods"]) == ["pseudo_inverse", "gaussian", "pigdm", "replacement", "particles"]
    assert {name: row for name, row in found["methods"].items() if name != "gaussian"} == results["methods"]
    assert "the truths are training examples" in capsys.readouterr().out
    assert list(run(dataclasses.replace(more, noise=0.2))["methods"]) == ["gaussian"]


def test_draws_do_not_depend_on_the_size_of_batches(restored, tmp_path):
    config, _ = restored
    run(dataclasses.replace(config, workdir=tmp_path / "a", batch=4))
    with np.load(config.workdir / "restored.npz") as whole, np.load(tmp_path / "a" / "restored.npz") as parts:
        for name in config.chosen:
            np.testing.assert_allclose(parts[name], whole[name], atol=2e-3)


def test_a_conditional_run_is_restored_without_a_class(tmp_path):
    """Digits work in centred units; a network that never saw "no class" is refused."""
    small = {"steps": 2, "width": 8, "depth": 1, "conditional": True, "mode": "train"}
    for p_uncond in (0.0, 0.1):
        config = digits.Config(workdir=tmp_path / f"{p_uncond}", p_uncond=p_uncond, **small)
        launch.run(digits.build(config), config.workdir, mode="train")
    asked = SMALL | {"workdir": tmp_path / "a", "methods": ("diffpir", "gaussian"), "factor": 2}
    found = run(Config(run=tmp_path / "0.1", **asked))
    assert set(found["methods"]) == {"diffpir", "gaussian"}
    with pytest.raises(Refusal, match="its score needs a condition, which no measurement gives"):
        run(Config(run=tmp_path / "0.0", **asked))


def test_levels_are_those_of_the_flags_or_of_the_run(trained, tmp_path):
    own = tiny_ncsn.config(tmp_path)
    assert levels_of(Config(), own) == (own.sigma_min, own.sigma_max)
    assert levels_of(Config(sigma_max=3.0), own) == (own.sigma_min, 3.0)
    assert levels_of(Config(), digits.Config()) == (
        digits.Config().heun.sigma_min,
        digits.Config().heun.sigma_max,
    )
    assert levels_of(Config(), launch.Config(workdir=tmp_path)) == (0.01, 40.0)
    assert langevin(Config(), own).levels == own.levels
    assert langevin(Config(), digits.Config()) == Config().langevin


# Which images ---------------------------------------------------------------------------------


@pytest.fixture
def on_images(tmp_path):
    """A run on 64 images that has not been trained."""
    return launch.Run(ncsn.build(tiny_ncsn.config(tmp_path)), None, 0)


def test_images_are_of_the_test_split_where_there_is_one(on_images, monkeypatch):
    asked = []

    def load(name, folder, *, split="train", size=None):
        asked.append((name, folder, split, size))
        examples = np.arange(20, dtype=np.uint8)[:, None, None, None] + np.uint8(100 * (split == "test"))
        return Dataset(data.images.held(examples), np.zeros(20, np.int32))  # as Fashion-MNIST is held

    monkeypatch.setattr(data, "load", load)
    config = Config(images=5, seed=3)
    x, source = chosen(config, on_images)
    assert source == "test split"
    assert asked == [(on_images.experiment.config.data, None, "test", None)]
    assert (x.shape, len(np.unique(x))) == ((5, 1, 1, 1), 5)
    assert x.min() >= 100 / 255
    np.testing.assert_array_equal(chosen(config, on_images)[0], x)
    assert not np.array_equal(chosen(dataclasses.replace(config, seed=4), on_images)[0], x)


def test_images_are_those_of_training_where_there_are_no_others(on_images):
    x, source = chosen(Config(images=64), on_images)
    assert source == "training examples"
    everything = data.load(on_images.experiment.config.data).examples
    assert x.shape == (64, 8, 8, 1)
    order = lambda a: np.unique(a.reshape(64, 64), axis=0)
    np.testing.assert_array_equal(order(x), order(everything))


def test_more_images_than_there_are_are_refused(on_images):
    with pytest.raises(FlagError, match=r"^--images 65: must be at most 64, the images that there are$"):
        chosen(Config(images=65), on_images)


def test_units_that_are_not_those_of_pixels_are_refused(trained, monkeypatch, tmp_path):
    """A score in the logarithm of pixels has no noise in units of pixels."""
    import jax.numpy as jnp

    units = launch.Units(lambda x: jnp.log(x + 0.1), lambda x: jnp.exp(x) - 0.1)
    build = lambda config: ncsn.build(config)._replace(units=units)
    monkeypatch.setattr("experiments.ncsn.build", build)
    with pytest.raises(FlagError, match="its score is not in units of pixels"):
        run(Config(run=trained, workdir=tmp_path / "a", **SMALL))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: there is no such folder; train a run first"),
        ("--problem cloud", "--problem cloud: is not known; use inpaint"),
        ("--run RUN --experiment json", "--run RUN: is a run of ncsn, but json has no `build`"),
        ("--run RUN --images 1000", "--images 1000: must be at most 64"),
        ("--run RUN --images 2 --workdir file", "--workdir file: is a file"),
        ("--run RUN --images 2 --workdir RUN", "--workdir RUN: holds a run of ncsn; name another folder"),
        ("--run RUN --images 2 --factor 3", "--factor 3: must divide the sides of the images, 8 and 8"),
        ("--run RUN --images 2 --sigma-min 90", "--sigma-max"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, tmp_path, refused, words, said):
    (tmp_path / "file").write_text("mine")
    before = snapshot(trained)
    words, said = (text.replace("RUN", str(trained)) for text in (words, said))
    assert refused("restore.run", words).startswith(said)
    assert snapshot(trained) == before
