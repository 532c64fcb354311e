"""Every operator is linear, has the right adjoint, and solves; what is wrong with one's own is found."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise
from jaxscore.inverse import operators
from tests.grids import rest

KERNEL = np.arange(1.0, 10.0).reshape(3, 3) / 45
COILS = np.exp(1j * np.arange(2 * 8 * 9).reshape(2, 8, 9) / 7) * [[[0.8]], [[0.6]]]
KNOWN = np.random.default_rng(0).random((8, 9)) < 0.4

CASES = {
    "mask": (operators.mask(np.random.default_rng(1).random((8, 9, 3)) < 0.3), (8, 9, 3)),
    "downsample": (operators.downsample(2), (8, 6, 3)),
    "downsample of a sequence": (operators.downsample(3), (9, 2)),
    "downsample of a volume": (operators.downsample(2), (4, 2, 6, 1)),
    "blur": (operators.blur(KERNEL), (8, 9, 2)),
    "blur by an even kernel": (operators.blur(np.array([[1.0, 2.0], [3.0, 4.0]])), (8, 9, 1)),
    "blur of a sequence": (operators.blur(np.array([0.2, 0.5, 0.3])), (9, 2)),
    "grey": (operators.grey(), (4, 5, 3)),
    "matrix": (operators.matrix(np.random.default_rng(2).standard_normal((3, 6)), (2, 3)), (2, 3)),
    "tall matrix": (operators.matrix(np.random.default_rng(3).standard_normal((7, 4))), (4,)),
    "random projection": (operators.random_projection(jax.random.key(0), 5, (4, 4, 1)), (4, 4, 1)),
    "fourier": (operators.fourier(KNOWN), (8, 9, 1)),
    "fourier of complex images": (operators.fourier(KNOWN, real=False), (8, 9, 2)),
    "fourier with coils": (operators.fourier(KNOWN, COILS, real=False), (8, 9, 2)),
    "radon, 1 angle": (operators.radon(np.array([10.0]), (8, 8, 1)), (8, 8, 1)),
    "radon, 4 angles": (operators.radon(np.arange(4) * 45.0, (9, 9, 1)), (9, 9, 1)),
    "radon, 20 angles": (operators.radon(np.arange(20) * 9.0, (7, 10, 2)), (7, 10, 2)),
    "linear": (operators.linear(lambda x: jnp.cumsum(x, axis=1) / 4, (7,)), (7,)),
    "resizing": (
        operators.linear(lambda x: jax.image.resize(x, (len(x), 4, 4, 1), "cubic"), (8, 8, 1)),
        (8, 8, 1),
    ),
    "composed": (operators.compose(operators.blur(KERNEL), operators.downsample(4)), (8, 12, 1)),
}


SIMILAR = ("downsample of a sequence", "blur by an even kernel", "blur of a sequence", "tall matrix")
SIMILAR += ("fourier of complex images", "radon, 1 angle", "radon, 4 angles")
"""Cases whose faults another case would nearly always show."""


@pytest.mark.parametrize("name", [rest(name) if name in SIMILAR else name for name in CASES])
def test_the_operator_is_linear_with_its_adjoint_and_solve(name):
    operator, event = CASES[name]
    operator = operator._replace(apply=jax.jit(operator.apply), adjoint=jax.jit(operator.adjoint))
    solve = jax.jit(partial(operators.solve, operator))
    operators.check(operator, event)
    a = operators.dense(operator, event)
    w = noise.normal(jax.random.key(1), (3, *operator.apply(jnp.ones((1, *event))).shape[1:]))
    flat = np.asarray(w, float).reshape(3, -1)
    np.testing.assert_allclose(
        operator.adjoint(w).reshape(3, -1), flat @ a, atol=1e-5 * np.abs(a).sum(axis=0).max()
    )
    c = np.array([0.01, 0.5, 3.0])
    # c is at least a hundredth of the largest eigenvalue, so float32 keeps four digits.
    for row, each in enumerate(c * np.linalg.norm(a, 2) ** 2):
        expected = np.linalg.solve(a @ a.T + each * np.eye(len(a)), flat[row])
        found = solve(each, w[row : row + 1]).reshape(-1)
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mask", "downsample", "blur", "grey", "matrix", "tall matrix"])
def test_the_pseudo_inverse_is_numpys(name):
    operator, event = CASES[name]
    a = operators.dense(operator, event)
    y = noise.normal(jax.random.key(2), (2, *operator.apply(jnp.ones((1, *event))).shape[1:]))
    expected = np.asarray(y, float).reshape(2, -1) @ np.linalg.pinv(a, rcond=1e-3).T
    found = operators.pseudo_inverse(operator, y).reshape(2, -1)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_rows_are_solved_by_themselves_with_their_own_c():
    operator, event = CASES["composed"]
    y, c = operator.apply(noise.normal(jax.random.key(3), (16, *event))), jnp.linspace(0.01, 2.0, 16)
    whole = operators.solve(operator, c, y * jnp.arange(1.0, 17.0).reshape(-1, 1, 1, 1))
    np.testing.assert_allclose(whole[:1], operators.solve(operator, c[:1], y[:1]), rtol=1e-5, atol=1e-6)


def test_zeros_in_the_spectrum_of_a_blur_divide_nothing():
    operator = operators.blur(np.array([0.5, 0.5]))  # the highest frequency of 8 values vanishes
    x = noise.normal(jax.random.key(4), (2, 8, 1))
    found = operators.pseudo_inverse(operator, operator.apply(x))
    lost = x * (-1.0) ** jnp.arange(8).reshape(1, 8, 1)
    expected = x - lost.mean(axis=1, keepdims=True) * (-1.0) ** jnp.arange(8).reshape(1, 8, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_factored_operator_solves_by_eigenvalues():
    operator, event = CASES["composed"]
    found = operators.factored(operator, event)
    y = operator.apply(noise.normal(jax.random.key(3), (4, *event)))
    expected = operators.solve(operator, 0.3, y)
    np.testing.assert_allclose(operators.solve(found, 0.3, y), expected, rtol=1e-3, atol=1e-4)
    pseudo = np.linalg.pinv(operators.dense(operator, event))
    flat = np.asarray(y, float).reshape(4, -1)
    x = operators.pseudo_inverse(found, y).reshape(4, -1)
    np.testing.assert_allclose(x, flat @ pseudo.T, atol=1e-2 * np.abs(x).max())
    cheap = operators.downsample(2)
    assert operators.factored(cheap, (4, 4, 1)) is cheap
    with pytest.raises(ValueError, match="factored needs a linear one"):
        operators.factored(operators.phase_retrieval(), (4, 4, 1))


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lambda x: x**2, lambda x: x + 1.0, jnp.abs])
def test_a_function_that_is_not_linear_is_found(function):
    with pytest.raises(ValueError, match="the operator is not linear"):
        operators.linear(function, (4,))


def test_a_function_that_mixes_rows_is_found():
    with pytest.raises(ValueError, match="mixes rows"):
        operators.linear(lambda x: x - x.mean(axis=0, keepdims=True), (4,))


def test_a_wrong_adjoint_is_found():
    operator = operators.Operator(lambda x: 2.0 * x, lambda y: y)
    with pytest.raises(ValueError, match="the adjoint is wrong"):
        operators.check(operator, (3,))
    short = operators.Operator(lambda x: x[:, :2], lambda y: y)
    with pytest.raises(ValueError, match=r"the adjoint returns \(2,\)"):
        operators.check(short, (3,))


def test_what_needs_a_linear_operator_says_so():
    with pytest.raises(ValueError, match="no adjoint, so it is not linear"):
        operators.solve(operators.phase_retrieval(), 1.0, jnp.ones((1, 8, 8, 1)))
    assert operators.compose(operators.downsample(2), operators.phase_retrieval()).adjoint is None


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match="needs 5"):
        operators.matrix(np.ones((2, 6)), (5,))
    with pytest.raises(ValueError, match="at least one"):
        operators.compose()


# What is hard to solve ----------------------------------------------------------------------------


def test_small_eigenvalues_count_where_there_is_noise():
    a = np.diag([100.0, 0.01])
    found = operators.solve(operators.matrix(a), 1e-4, jnp.ones((1, 2)))
    np.testing.assert_allclose(found, [[1e-4, 5000.0]], rtol=1e-4)
    np.testing.assert_allclose(
        operators.solve(operators.matrix(a), 0.0, jnp.ones((1, 2))), [[1e-4, 0.0]], rtol=1e-4
    )


def test_failed_conjugate_gradients_are_nan():
    event = (16, 16, 1)
    operator = operators.radon(np.arange(0, 180, 3.0), event)
    y = operator.apply(noise.normal(jax.random.key(5), (1, *event)))
    found = operator.adjoint(operators.solve(operator, 1e-9, y))
    exact = operator.adjoint(operators.solve(operators.factored(operator, event), 1e-9, y))
    close = jnp.linalg.norm(found - exact) <= 0.05 * jnp.linalg.norm(exact)
    assert bool(close) or bool(jnp.isnan(found).all())


def test_nan_stays_nan_and_does_not_become_zero():
    operator, event = CASES["composed"]
    y = operator.apply(noise.normal(jax.random.key(6), (2, *event)))
    spoilt = operators.solve(operator, 0.1, y.at[0].set(jnp.nan))
    assert jnp.isnan(spoilt[0]).all()
    assert jnp.isfinite(spoilt[1]).all()


def test_the_pseudo_inverse_without_solve_is_the_nearest():
    twice = operators.linear(lambda x: jnp.stack([x[:, 0], x[:, 0]], axis=1), (2,))
    np.testing.assert_allclose(
        operators.pseudo_inverse(twice, jnp.array([[1.0, 2.0]])), [[1.5, 0.0]], rtol=1e-5
    )
    nothing = operators.linear(lambda x: 0 * x, (3,))
    np.testing.assert_array_equal(operators.pseudo_inverse(nothing, jnp.ones((1, 3))), [[0, 0, 0]])


def test_what_is_complex_or_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="the measurement is complex"):
        operators.linear(lambda x: jnp.fft.fft(x), (4,))
    with pytest.raises(ValueError, match="must be a real matrix"):
        operators.matrix(np.ones((2, 2)) * 1j)
    with pytest.raises(ValueError, match="the matrix was made for"):
        operators.matrix(np.ones((2, 4)), (2, 2)).apply(jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="the mask measures 2 values"):
        operators.mask(np.array([True, False, True])).adjoint(jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="the solve is wrong"):
        operators.check(operators.Operator(lambda x: 2 * x, lambda y: 2 * y, lambda c, y: y), (3,))
