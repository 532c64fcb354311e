"""--export: samples as 8-bit images."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest

from jaxscore import sharding
from jaxscore.launch import export
from jaxscore.launch.flags import FlagError
from tests.launch import tiny

X = np.array([-1.0, 0.0, 0.5, 0.9999, 1.0, 7.0], np.float32).reshape(2, 3, 1, 1)
BYTES = np.array([0, 0, 128, 255, 255, 255], np.uint8).reshape(2, 3, 1, 1)


def test_an_npz_holds_the_rounded_images(tmp_path):
    (path,) = export.write({"heun": X, "points": np.ones((2, 2))}, "npz", tmp_path / "export")
    assert path == tmp_path / "export" / "heun.npz"
    with np.load(path) as file:
        assert list(file) == ["arr_0"]
        np.testing.assert_array_equal(file["arr_0"], BYTES, strict=True)


def test_pngs_are_the_rounded_images_and_older_ones_go(tmp_path):
    export.write({"heun": np.ones((5, 3, 1, 1))}, "png", tmp_path)
    (folder,) = export.write({"heun": X}, "png", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png"]
    assert folder == tmp_path / "heun"
    read = matplotlib.image.imread(folder / "00000.png").reshape(3, 1, -1)[..., :1]
    np.testing.assert_array_equal(np.round(255 * read), BYTES[0])


def test_points_are_refused_before_training():
    experiment = tiny.build(tiny.Config(export="png"))
    with pytest.raises(FlagError, match=r"--export png: samples of shape \[2\] are no images"):
        export.require_images(experiment, sharding.mesh())
    quiet = experiment._replace(config=dataclasses.replace(experiment.config, export=None))
    export.require_images(quiet, sharding.mesh())
