"""Figures of draws whose distribution is known."""

import numpy as np
import pytest

from experiments.restore.judge import judged


def draws(width, n=20, k=24, seed=0):
    """Truths and draws from N(0.5, 0.1^2) by pixel, the draws `width` times as wide."""
    rng = np.random.default_rng(seed)
    truths = 0.5 + 0.1 * rng.standard_normal((n, 8, 8, 1))
    return truths.clip(0, 1), (0.5 + width * 0.1 * rng.standard_normal((n, k, 8, 8, 1))).clip(0, 1)


def test_draws_like_the_truth_cover_as_often_as_they_should():
    row = judged(*draws(1.0), None)
    # 1280 pixels: 4 standard errors of a half are 0.06.
    np.testing.assert_allclose(row["coverage"], [0.5, 0.8, 0.95], atol=0.06)
    np.testing.assert_allclose(row["coverage_spread"], row["coverage"])
    np.testing.assert_allclose(
        row["psnr_of_draws"], -10 * np.log10(0.02), atol=0.4
    )  # the mean of a logarithm
    # The mean of 24 draws has nearly no error of its own.
    np.testing.assert_allclose(row["psnr"], -10 * np.log10(0.01 + 0.01 / 24), atol=0.4)


@pytest.mark.parametrize(("width", "sign"), [(0.4, -1), (2.5, 1)])
def test_narrow_and_wide_draws_are_told_apart(width, sign):
    away = np.array(judged(*draws(width), None)["coverage"]) - [0.5, 0.8, 0.95]
    assert (sign * away > [0.1, 0.1, 0.02]).all()


def test_certain_pixels_are_covered_and_have_no_spread():
    truths, found = draws(1.0)
    truths[:, :4], found[:, :, :4] = 0.0, 0.0
    row = judged(truths, found, None)
    np.testing.assert_allclose(row["coverage"], [0.5, 0.8, 0.95], atol=0.06)
    half = judged(truths[:, 4:], found[:, :, 4:], None)
    np.testing.assert_allclose(row["coverage_spread"], half["coverage"], atol=0.05)


def test_one_estimate_has_no_coverage():
    truths, found = draws(1.0, k=1)
    for x in (found, np.repeat(found, 3, axis=1)):
        row = judged(truths, x, None)
        assert row["coverage"] is row["coverage_spread"] is None


def test_features_are_compared_draw_by_draw():
    truths, found = draws(0.0, k=2)
    row = judged(truths, found, lambda x: x.reshape(len(x), -1)[:, :1])
    np.testing.assert_allclose(row["features"], np.abs(truths[:, 0, 0, 0] - 0.5).mean())
    assert "features" not in judged(truths, found, None)
