"""The FID: its features, statistics, and the files of reference statistics."""

import numpy as np
import pytest

from jaxscore import importers, metrics
from jaxscore.metrics import inception

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 7)) @ RNG.standard_normal((7, 7)) + 100.0
IMAGES = RNG.integers(0, 256, (3, 4, 4, 1), np.uint8)


@pytest.mark.parametrize("cuts", [[], [1], [20, 21, 50]])
def test_statistics_are_those_of_numpy_however_they_are_cut(cuts):
    found = inception.statistics(np.split(X, cuts))
    np.testing.assert_allclose(found.mean, X.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(X, rowvar=False), rtol=1e-12, atol=1e-13)
    assert found.n == 60
    with pytest.raises(ValueError, match="1 images: a covariance needs at least 2"):
        inception.statistics([X[:1]])


def test_the_fid_is_the_frechet_distance_of_the_features():
    a, b = X[:35], X[35:] + 1
    found = inception.fid(inception.statistics([a]), inception.statistics([b]))
    np.testing.assert_allclose(found, metrics.frechet(a, b), rtol=1e-9)


def test_the_fid_of_fewer_images_than_features():
    wide = RNG.standard_normal((20, 64)) * (np.arange(64) > 0)  # one feature is constant
    a, b = inception.statistics([wide[:10]]), inception.statistics([wide[10:]])
    assert 0 <= inception.fid(a, a) < 1e-9
    assert np.isfinite(inception.fid(a, b))
    np.testing.assert_allclose(inception.fid(a, b), inception.fid(b, a), rtol=1e-9)


# Images -------------------------------------------------------------------------------------------


@pytest.fixture
def features(monkeypatch):
    """The features of a network that returns the first two pixels of all channels."""

    class Network:
        def apply(self, params, x):
            return (params * x[:, 0, :2]).reshape(len(x), -1)

    monkeypatch.setattr(inception, "Inception", Network)
    monkeypatch.setattr(importers.inception, "load", lambda path: np.float32(2))
    return inception.features("weights")


def test_grey_images_are_repeated_to_three_channels(features):
    expected = 2.0 * np.repeat(IMAGES, 3, axis=-1)[:, 0, :2].reshape(3, -1)
    np.testing.assert_array_equal(features(IMAGES), expected)
    np.testing.assert_array_equal(features(np.repeat(IMAGES, 3, axis=-1)), expected)


@pytest.mark.parametrize("scaled", [lambda x: x / 255, lambda x: x / 127.5 - 1, lambda x: 1.0 * x])
def test_pixels_that_are_not_bytes_are_refused(features, scaled):
    with pytest.raises(ValueError, match=r"the images are float64; they must be bytes 0\.\.255"):
        features(scaled(IMAGES))


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 2), (3, 4, 4, 4)])
def test_arrays_that_are_no_images_are_refused(features, shape):
    with pytest.raises(ValueError, match=r"are not \[n, h, w, 1\] or"):
        features(np.zeros(shape, np.uint8))


# Files --------------------------------------------------------------------------------------------

MU, SIGMA = np.arange(2048.0), np.eye(2048)


def test_statistics_are_read_as_they_were_written(tmp_path):
    inception.save(tmp_path / "a.npz", inception.Statistics(MU, SIGMA, 50), further=np.array("text"))
    found = inception.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.mean, MU)
    np.testing.assert_array_equal(found.covariance, SIGMA)
    assert found.n == 50
    np.savez_compressed(tmp_path / "b.npz", mu=MU.astype(np.float32), sigma=SIGMA)
    assert inception.read(tmp_path / "b.npz").n is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


BAD = {
    "no sigma": ({"mu": MU}, "the file has no array 'sigma'"),
    "small": ({"mu": MU[:64], "sigma": SIGMA}, r"its 'mu' is float64\[64\]; it must be floats \[2048\]"),
    "rows": ({"mu": MU, "sigma": SIGMA[:5]}, r"its 'sigma' is float64\[5, 2048\]; it must be"),
    "integers": ({"mu": MU.astype(int), "sigma": SIGMA}, r"its 'mu' is int64\[2048\]"),
    "nan": ({"mu": MU, "sigma": SIGMA * np.nan}, "its 'sigma' is not finite"),
    "skew": ({"mu": MU, "sigma": SIGMA + np.eye(2048, k=1)}, "its 'sigma' is not symmetric"),
    "pickled": ({"mu": np.array([{}]), "sigma": SIGMA}, r"not an \.npz file of NumPy arrays"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_without_statistics_is_refused(name, tmp_path):
    arrays, message = BAD[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        inception.read(tmp_path / "bad.npz")


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("mu sigma")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        inception.read(path)
    np.save(tmp_path / "array.npy", MU)
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        inception.read(tmp_path / "array.npy")
    with pytest.raises(FileNotFoundError):
        inception.read(tmp_path / "absent.npz")
