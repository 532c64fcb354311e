import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments import digits, inpaint
from experiments.ncsn import experiment as ncsn
from jaxscore import data, launch, noise
from jaxscore.data import Dataset
from jaxscore.launch import workdir
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.experiments.ncsn import tiny as tiny_ncsn
from tests.launch import tiny
from tests.launch.tiny import assert_identical, newest, snapshot

# Masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(4, 6, 1), (5, 7, 3), (2, 2, 1)])
def test_a_half_is_known(event):
    h, w, c = event
    masks = {known: inpaint.half(known, event) for known in ("left", "right", "top", "bottom")}
    for mask in masks.values():
        assert mask.shape == event
        assert mask.dtype == bool
        assert np.all(mask == mask[..., :1])  # of all channels
    # Of an odd side the middle belongs to the right, and to the bottom.
    np.testing.assert_array_equal(masks["left"][:, : w // 2], True)
    np.testing.assert_array_equal(masks["left"][:, w // 2 :], False)
    np.testing.assert_array_equal(masks["top"][: h // 2], True)
    np.testing.assert_array_equal(masks["top"][h // 2 :], False)
    np.testing.assert_array_equal(masks["right"], ~masks["left"])
    np.testing.assert_array_equal(masks["bottom"], ~masks["top"])
    assert masks["left"].sum() == h * (w // 2) * c


# Completions of a known score -----------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def small_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncsn, "score_network", tiny_ncsn.score_network)
        yield


RAMP = np.broadcast_to(np.linspace(0.0, 1.0, 8, dtype=np.float32)[None, :, None], (8, 8, 1))
PARAMS = {"mean": jnp.asarray(RAMP.swapaxes(0, 1)), "width": jnp.full((8, 8, 1), 0.05)}


DYNAMICS = inpaint.Langevin(levels=20, steps=20, step_size=0.2, sigma_min=0.02, sigma_max=1.0)


@functools.partial(jax.jit, static_argnums=0)
def complete(dynamics, keys, known, mask):
    score = functools.partial(tiny_ncsn.gaussian_score, PARAMS)
    return inpaint.complete(dynamics, score, keys, known, mask)


def completions(n=400, *, seed=0):
    """n completions of RAMP's left half, by the score of N(mean, 0.05^2): its pixels are independent."""
    mask = jnp.asarray(inpaint.half("left", RAMP.shape))
    keys = noise.row_keys(jax.random.key(seed), n)
    known = jnp.broadcast_to(jnp.asarray(RAMP)[None], (n, *RAMP.shape))
    return np.asarray(complete(DYNAMICS, keys, known, mask))


def test_the_known_half_is_kept_and_the_other_is_sampled():
    x = completions()
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, :, :4], np.broadcast_to(RAMP[None, :, :4], (400, 8, 4, 1)))
    # Known and free pixels are independent here: the rows without black and white, which are clipped.
    free, mean = x[:, 2:6, 4:], np.asarray(PARAMS["mean"])[2:6, 4:]
    v = 0.05**2 + 0.02**2
    std = np.sqrt(v / (1 - 8e-5 / (2 * v))) * 0.05**2 / v  # Langevin's bias at the last level; denoised
    # 400 of each pixel: the mean to std / 20; and of all 6400 the deviation to 0.9 %. Annealing leaves 2 %.
    np.testing.assert_allclose(free.mean(axis=0), mean, atol=4.5 * std / 20)
    assert (free - mean).std() == pytest.approx(std, rel=0.06)


def test_a_completion_depends_on_its_key_and_its_image_alone():
    few, many = completions(2), completions()
    np.testing.assert_allclose(few, many[:2], atol=1e-6)  # float32, in other fusions
    assert not np.allclose(many[0], many[1], atol=0.01)
    assert not np.allclose(completions(2, seed=1), few, atol=0.01)


# Which images ---------------------------------------------------------------------------------


@pytest.fixture
def on_images(tmp_path):
    """A run on 64 images that has not been trained."""
    return launch.Run(ncsn.build(tiny_ncsn.config(tmp_path)), None, 0)


def test_images_are_of_the_test_split_where_there_is_one(on_images, monkeypatch):
    asked = []

    def load(name, folder, *, split="train", size=None):
        asked.append((name, folder, split, size))
        examples = np.arange(20, dtype=np.float32)[:, None, None, None] + (100 if split == "test" else 0)
        return Dataset(examples, np.zeros(20, np.int32))

    monkeypatch.setattr(data, "load", load)
    config = inpaint.Config(images=5, seed=3)
    x = inpaint.chosen(config, on_images)
    assert asked == [(on_images.experiment.config.data, None, "test", None)]
    assert x.shape == (5, 1, 1, 1)
    assert x.min() >= 100
    assert len(np.unique(x)) == 5
    # Always the same ones, and the first of more.
    np.testing.assert_array_equal(inpaint.chosen(config, on_images), x)
    np.testing.assert_array_equal(inpaint.chosen(dataclasses.replace(config, images=3), on_images), x[:3])
    assert not np.array_equal(inpaint.chosen(dataclasses.replace(config, seed=4), on_images), x)


def test_images_are_those_of_training_where_there_are_no_others(on_images):
    x = inpaint.chosen(inpaint.Config(images=64), on_images)
    everything = data.load(on_images.experiment.config.data).examples
    assert x.shape == (64, 8, 8, 1)
    order = lambda a: np.unique(a.reshape(64, 64), axis=0)
    np.testing.assert_array_equal(order(x), order(everything))


def test_more_images_than_there_are_are_refused(on_images):
    with pytest.raises(FlagError, match=r"^--images 65: must be at most 64, the images that there are$"):
        inpaint.chosen(inpaint.Config(images=65), on_images)


# A run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The configuration of a trained run."""
    config = tiny_ncsn.config(tmp_path_factory.mktemp("trained"), mode="train", ema_decay=0.5)
    launch.run(ncsn.build(config), config.workdir, mode="train")
    return config


def test_what_was_trained_is_found(trained):
    run = inpaint.opened(inpaint.Config(run=trained.workdir))
    assert dataclasses.replace(run.experiment.config, mode="train") == trained
    state = newest(trained.workdir, ncsn.build(trained))
    assert run.step == int(state.step)
    assert_identical(jax.device_get(run.params), state.ema)
    assert not np.array_equal(run.params["mean"], state.params["mean"])
    x, sigma = jnp.ones((2, 8, 8, 1)), jnp.ones(2)
    np.testing.assert_array_equal(run.score(x, sigma), run.experiment.score(run.params, x, sigma))


def test_any_run_with_a_score_is_completed(tmp_path):
    """Digits work in centred units, and a conditional network is given the classes of the samples."""
    config = digits.Config(
        workdir=tmp_path / "run", conditional=True, steps=2, width=8, depth=1, mode="train"
    )
    launch.run(digits.build(config), config.workdir, mode="train")
    langevin = inpaint.Langevin(levels=2, steps=1)
    asked = inpaint.Config(
        run=config.workdir, workdir=tmp_path / "a", images=2, completions=3, langevin=langevin
    )
    assert inpaint.run(asked)["known half, from the image"] == 0
    with np.load(tmp_path / "a" / "completions.npz") as file:
        assert file["completions"].shape == (2, 3, 8, 8, 1)
        assert 0 <= file["completions"].min() <= file["completions"].max() <= 1


def test_a_run_without_a_score_is_refused(tmp_path, monkeypatch):
    config = tiny.Config(workdir=tmp_path / "run", steps=2)
    launch.run(tiny.build(config), config.workdir, mode="train")
    with pytest.raises(Refusal, match=f"--run {config.workdir}: the experiment tiny has no score"):
        inpaint.run(
            inpaint.Config(run=config.workdir, experiment="tests.launch.tiny", workdir=tmp_path / "a")
        )


def test_a_run_writes_completions_figures_and_a_picture(trained, tmp_path, capsys):
    before = snapshot(trained.workdir)
    config = inpaint.Config(run=trained.workdir, workdir=tmp_path / "a", known="top", images=3, completions=4)
    results = inpaint.run(config)
    assert snapshot(trained.workdir) == before
    names = {"config.json", "inpaint.json", "inpaint.png", "completions.npz"}
    assert {path.name for path in config.workdir.iterdir()} == names
    with np.load(config.workdir / "completions.npz") as file:
        images, found = file["images"], file["completions"]
    assert images.shape == (3, 8, 8, 1)
    assert found.shape == (3, 4, 8, 8, 1)
    np.testing.assert_array_equal(found[:, :, :4], np.broadcast_to(images[:, None, :4], (3, 4, 4, 8, 1)))
    assert len(np.unique(found.reshape(12, -1), axis=0)) == 12
    assert json.loads((config.workdir / "inpaint.json").read_text()) == results
    assert results["known half, from the image"] == 0
    away = (found - images[:, None])[:, :, 4:].astype(float)
    assert results["free half, from the image"] == pytest.approx(np.sqrt(np.mean(away**2)), rel=1e-5)
    spread = (found - found.mean(axis=1, keepdims=True))[:, :, 4:].astype(float)
    name = "free half, from the mean of its completions"
    assert results[name] == pytest.approx(np.sqrt(np.mean(spread**2)), rel=1e-5)
    between = (images - images.mean(axis=0))[:, 4:].astype(float)
    name = "free half, of the images about their mean"
    assert results[name] == pytest.approx(np.sqrt(np.mean(between**2)), rel=1e-5)
    picture = matplotlib.image.imread(config.workdir / "inpaint.png")[..., :3]
    assert np.mean(np.any(picture != 1, axis=-1)) > 0.5
    assert f"picture: {config.workdir / 'inpaint.png'}" in capsys.readouterr().out


def folder_with(path, described, *, checkpoints):
    path.mkdir()
    if described is not None:
        (path / "config.json").write_text(json.dumps(described))
    if checkpoints:
        (path / "checkpoints").mkdir()
    return path


@pytest.mark.parametrize(
    ("change", "checkpoints", "said"),
    [
        (None, True, "is no run of an experiment"),
        ([1, 2], True, "is no run of an experiment"),
        ({"experiment": "digits"}, True, "its config.json is not of this version"),
        ({}, False, "has no checkpoint yet; train the run first"),
        ({}, True, "has no checkpoint yet; train the run first"),
        ({"colour": "red"}, True, "its config.json is not of this version: .*'colour'"),
        ({"optimizer": None}, True, "its config.json is not of this version"),
    ],
)
def test_a_folder_without_a_trained_network_is_refused(trained, tmp_path, change, checkpoints, said):
    described = workdir.describe("ncsn", trained) | change if isinstance(change, dict) else change
    folder = folder_with(tmp_path / "run", described, checkpoints=checkpoints)
    config = inpaint.Config(run=folder, workdir=tmp_path / "inpaint")
    with pytest.raises(Refusal, match=f"--run {folder}: {said}"):
        inpaint.run(config)
    assert not config.workdir.exists()


def test_the_folder_of_another_run_is_not_written_into(trained):
    before = snapshot(trained.workdir)
    with pytest.raises(Refusal, match="holds a run of ncsn; name another folder"):
        inpaint.run(inpaint.Config(run=trained.workdir, workdir=trained.workdir))
    assert snapshot(trained.workdir) == before


@pytest.mark.parametrize(
    ("name", "value"), [("images", 0), ("completions", 0), ("seed", -1), ("seed", 2**32)]
)
def test_every_number_is_checked(name, value):
    with pytest.raises(FlagError, match=f"^--{name} {value}: must "):
        inpaint.Config(**{name: value})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: is no run of an experiment"),
        ("--known middle", "--known"),
        ("--imagse 3", "--images"),
        ("--run RUN --images 1000", "--images 1000: must be at most 64"),
        ("--run RUN --workdir file", "--workdir file: is a file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("sys.argv", ["inpaint", *words.replace("RUN", str(trained.workdir)).split()])
    with pytest.raises(SystemExit) as stop:
        inpaint.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
