"""Pictures of samples as training goes on."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxscore import keys, launch
from jaxscore.keys import Stream
from jaxscore.launch import pictures, programs
from tests.launch import tiny
from tests.launch.test_tensorboard import read


def test_pictures_are_drawn_as_training_goes_on(tmp_path):
    pytest.importorskip("tensorboardX")
    config = tiny.Config(picture_every=5, tensorboard=True, samples=10)
    launch.run(tiny.build(config), tmp_path)
    found = sorted(path.name for path in (tmp_path / "report" / "training").iterdir())
    assert found == ["00000005.png", "00000010.png"]
    with Image.open(tmp_path / "report" / "training" / found[0]) as image:
        assert np.asarray(image).std() > 1
    events = {(step, value.tag) for step, value in read(tmp_path / "tensorboard")}
    assert {(5, "training"), (10, "training"), (12, "report/points")} <= events
    assert {(6, "histograms/in/kernel"), (12, "histograms/out/kernel")} <= events


def test_samples_that_are_not_finite_are_drawn_as_zero(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(pictures.plots, "examples", lambda axes, x, title: seen.append((x, title)))
    experiment = tiny.build(tiny.Config(picture_every=1))
    ill = jnp.array([[jnp.nan, jnp.inf], [-jnp.inf, 1e37]], jnp.bfloat16)
    bad = lambda params, keys: {"a": jnp.tile(ill, (len(keys) // 2, 1)), "b": jnp.zeros(len(keys))}
    drawing = pictures.TrainingPictures(experiment._replace(samplers={"bad": bad}), tmp_path, 0)
    state = programs.make_init(experiment, drawing.mesh)(keys.stream(0, Stream.INIT))
    assert drawing.draw(state, 3) == tmp_path / "report" / "training" / "00000003.png"
    ((x, title),) = seen
    assert np.array_equal(x, np.zeros((64, 2)))
    assert title == "bad, step 3"


def test_pictures_of_a_training_that_is_replaced_go(tmp_path):
    folder = tmp_path / "report" / "training"
    folder.mkdir(parents=True)
    for name in ("00000005", "00000010", "own"):
        (folder / f"{name}.png").touch()
    pictures.TrainingPictures(tiny.build(tiny.Config()), tmp_path, 5)
    assert sorted(path.stem for path in folder.iterdir()) == ["00000005", "own"]


def test_without_the_flag_there_are_none(finished):
    assert not (finished.folder / "report" / "training").exists()
