"""Draws compared with what their distribution says, to 4 standard errors."""

import numpy as np


def assert_gaussian(draws, mean, variance):
    """Mean and variance of all the numbers are these, as far as so many normal numbers know them."""
    draws = np.asarray(draws, float)
    np.testing.assert_allclose(draws.mean(), mean, atol=4 * np.sqrt(variance / draws.size))
    np.testing.assert_allclose(draws.var(), variance, rtol=4 * np.sqrt(2 / draws.size))


def assert_mean(draws, expected):
    """The mean over the rows is the expected one; the error is the draws' own, and float32's."""
    draws = np.asarray(draws, float)
    error = 4 * draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - expected) <= error + 1e-6).all(), (draws.mean(axis=0), expected)
