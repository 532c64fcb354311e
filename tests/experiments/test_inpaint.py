import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import digits, inpaint
from experiments.ncsn import experiment as ncsn
from jaxscore import data, launch, noise, samplers
from jaxscore.data import Dataset
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.experiments.ncsn import tiny as tiny_ncsn
from tests.experiments.pictures import ink
from tests.launch.tiny import snapshot

# Masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(4, 6, 1), (5, 7, 3), (2, 2, 1)])
def test_a_half_is_known(event):
    h, w, c = event
    masks = {known: inpaint.half(known, event) for known in ("left", "right", "top", "bottom")}
    for mask in masks.values():
        assert (mask.shape, mask.dtype) == (event, bool)
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


MOMENTS = samplers.Moments(PARAMS["mean"], jnp.float32(0.05**2))
DYNAMICS = inpaint.Langevin(levels=20, steps=20, step_size=0.2, sigma_min=0.02, sigma_max=1.0)


def test_the_known_half_is_kept_and_the_other_is_sampled():
    """By the score of N(mean, 0.05^2): its pixels are independent."""
    mask, keys = jnp.asarray(inpaint.half("left", RAMP.shape)), noise.row_keys(jax.random.key(0), 400)
    known = jnp.broadcast_to(jnp.asarray(RAMP)[None], (400, *RAMP.shape))
    score = functools.partial(tiny_ncsn.gaussian_score, PARAMS)
    x = np.asarray(jax.jit(functools.partial(inpaint.complete, DYNAMICS, MOMENTS, score))(keys, known, mask))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, :, :4], np.broadcast_to(RAMP[None, :, :4], (400, 8, 4, 1)))
    # Known and free pixels are independent here: the rows without black and white, which are clipped.
    free, mean = x[:, 2:6, 4:], np.asarray(PARAMS["mean"])[2:6, 4:]
    v = 0.05**2 + 0.02**2
    std = np.sqrt(v / (1 - 8e-5 / (2 * v))) * 0.05**2 / v  # Langevin's bias at the last level; denoised
    # 400 of each pixel: the mean to std / 20; and of all 6400 the deviation to 0.9 %. Annealing leaves 2 %.
    np.testing.assert_allclose(free.mean(axis=0), mean, atol=4.5 * std / 20)
    assert (free - mean).std() == pytest.approx(std, rel=0.06)


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
    config = inpaint.Config(images=5, seed=3)
    x = inpaint.chosen(config, on_images)
    assert asked == [(on_images.experiment.config.data, None, "test", None)]
    assert (x.shape, len(np.unique(x))) == ((5, 1, 1, 1), 5)
    assert x.min() >= 100 / 255
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
    """The folder of a trained run."""
    config = tiny_ncsn.config(tmp_path_factory.mktemp("trained"), mode="train", ema_decay=0.5)
    launch.run(ncsn.build(config), config.workdir, mode="train")
    return config.workdir


@pytest.fixture(scope="module")
def completed(trained, tmp_path_factory):
    """Completions of what was trained: their configuration and their figures; the run is left as it was."""
    before, folder = snapshot(trained), tmp_path_factory.mktemp("completed") / "a"
    config = inpaint.Config(run=trained, workdir=folder, known="top", images=3, completions=4)
    results = inpaint.run(config)
    assert snapshot(trained) == before
    return config, results


def test_a_run_writes_completions_figures_and_a_picture(completed):
    config, results = completed
    names = {"config.json", "inpaint.json", "inpaint.png", "completions.npz"}
    assert {path.name for path in config.workdir.iterdir()} == names
    with np.load(config.workdir / "completions.npz") as file:
        images, found = file["images"], file["completions"]
    assert (images.shape, found.shape) == ((3, 8, 8, 1), (3, 4, 8, 8, 1))
    np.testing.assert_array_equal(found[:, :, :4], np.broadcast_to(images[:, None, :4], (3, 4, 4, 8, 1)))
    assert len(np.unique(found.reshape(12, -1), axis=0)) == 12
    assert json.loads((config.workdir / "inpaint.json").read_text()) == results
    rms = lambda a: np.sqrt(np.mean(a.astype(float) ** 2))
    assert results == {
        "known half, from the image": 0,
        "free half, from the image": pytest.approx(rms((found - images[:, None])[:, :, 4:]), rel=1e-5),
        "free half, from the mean of its completions": pytest.approx(
            rms((found - found.mean(axis=1, keepdims=True))[:, :, 4:]), rel=1e-5
        ),
        "free half, of the images about their mean": pytest.approx(
            rms((images - images.mean(axis=0))[:, 4:]), rel=1e-5
        ),
    }
    assert ink(config.workdir / "inpaint.png") > 0.5


def test_a_second_run_is_accepted_and_writes_the_same(completed, capsys):
    config, results = completed
    before = snapshot(config.workdir)
    assert inpaint.run(config) == results
    assert snapshot(config.workdir) == before  # the picture, too
    assert f"picture: {config.workdir / 'inpaint.png'}" in capsys.readouterr().out


def test_any_run_with_a_score_is_completed(tmp_path):
    """Digits work in centred units, and a conditional network is given the classes of the samples."""
    small = {"steps": 2, "width": 8, "depth": 1}
    config = digits.Config(workdir=tmp_path / "run", conditional=True, mode="train", **small)
    launch.run(digits.build(config), config.workdir, mode="train")
    asked = {"images": 2, "completions": 3, "langevin": inpaint.Langevin(levels=2, steps=1)}
    results = inpaint.run(inpaint.Config(run=config.workdir, workdir=tmp_path / "a", **asked))
    assert results["known half, from the image"] == 0
    with np.load(tmp_path / "a" / "completions.npz") as file:
        assert file["completions"].shape == (2, 3, 8, 8, 1)
        assert 0 <= file["completions"].min() <= file["completions"].max() <= 1


def test_a_run_without_a_score_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.ncsn.build", lambda config: ncsn.build(config)._replace(score=None))
    with pytest.raises(Refusal, match=f"--run {trained}: the experiment ncsn has no score"):
        inpaint.run(inpaint.Config(run=trained, workdir=tmp_path / "a"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: holds no run of an experiment"),
        ("--run RUN --experiment json", "--run RUN: is a run of ncsn, but json has no `build`"),
        ("--run RUN --images 1000", "--images 1000: must be at most 64"),
        ("--run RUN --workdir file", "--workdir file: is a file"),
        ("--run RUN --workdir RUN", "--workdir RUN: holds a run of ncsn; name another folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(trained, tmp_path, refused, words, said):
    (tmp_path / "file").write_text("mine")
    before = snapshot(trained)
    words, said = (text.replace("RUN", str(trained)) for text in (words, said))
    assert refused("inpaint", words).startswith(said)
    assert snapshot(trained) == before
