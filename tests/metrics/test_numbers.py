"""What float64 holds is taken, and what it does not hold is refused by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.metrics.numbers import real, refuse


@pytest.mark.parametrize(
    "x",
    [np.array([1, 2], np.uint8), np.array([1.0, 2.0], np.float16), jnp.array([1, 2], jnp.bfloat16)],
)
def test_real_numbers_become_float64(x):
    found = real(x, "draws")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [1.0, 2.0])


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([1j]), "draws is an array of complex128; give real numbers"),
        (np.array(["1.5"]), "draws is an array of <U3; give real numbers"),
        (np.array([True, False]), "draws is an array of bool; give real numbers"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "draws is a masked array"),
        (np.array([2**53 + 1]), "draws has integers beyond 2"),
    ],
)
def test_other_numbers_are_refused(x, said):
    with pytest.raises(ValueError, match=said):
        real(x, "draws")


def test_simulations_with_a_bad_value_are_counted():
    refuse(np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="2 of 3 simulations have values that are not finite"):
        refuse(np.array([[True, True], [False, False], [False, True]]))
