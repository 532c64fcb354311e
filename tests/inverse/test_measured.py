"""What every method checks, and the pieces of their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import inverse, samplers
from jaxscore.inverse import measured, operators
from tests.inverse import oracle

X = jax.random.normal(jax.random.key(0), (4, 3))
METHODS = {
    "pigdm": lambda operator, y, noise: inverse.pigdm(oracle.SCORE, operator, y, noise=noise, sigma_data=1.0),
    "ddnm": lambda operator, y, noise: inverse.ddnm(oracle.SCORE, operator, y),
    "diffpir": lambda operator, y, noise: inverse.diffpir(oracle.SCORE, operator, y, noise=noise),
    "decoupled": lambda operator, y, noise: _as_score(
        inverse.decoupled(operator, y, noise=noise, sigma_data=1.0)
    ),
    "projection": lambda operator, y, noise: _as_score(inverse.projection(samplers.euler(), operator, y)),
}


def _as_score(sampler):
    """One step, in the signature of a score."""
    one = jnp.ones(())
    return lambda x, sigma: sampler.step(jax.random.key(0), x, sampler.init(x), oracle.SCORE, 2 * one, one)[0]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_what_it_cannot_use(name):
    method = METHODS[name]
    with pytest.raises(ValueError, match=rf"not linear; (the )?{name} needs a linear one"):
        method(operators.phase_retrieval(), oracle.Y, 0.1)
    with pytest.raises(ValueError, match=r"y has shape \(3,\); for this operator and x it must be \(2,\)"):
        method(oracle.OPERATOR, jnp.ones(3), 0.1)(X, jnp.ones(4))
    gradients = operators.compose(oracle.OPERATOR, operators.matrix(np.eye(2)))  # no `solve` of its own
    with pytest.raises(ValueError, match="noise = 0, and the operator is solved by conjugate gradients"):
        method(gradients, oracle.Y, 0.0)
    if name not in ("ddnm", "projection"):
        with pytest.raises(ValueError, match=r"noise = -1\.0 must be one number >= 0"):
            method(oracle.OPERATOR, oracle.Y, -1.0)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_does_not_depend_on_other_rows(name):
    ys = jnp.concatenate([oracle.Y[None], 50.0 * jnp.ones((3, 2))])
    whole = METHODS[name](oracle.OPERATOR, ys, 0.1)(X, jnp.ones(4))
    alone = METHODS[name](oracle.OPERATOR, oracle.Y, 0.1)(X[:1], jnp.ones(1))
    np.testing.assert_allclose(whole[:1], alone, rtol=1e-5, atol=1e-5)


def test_the_denoised_mean_is_pulled_back_by_its_jacobian():
    sigma = jnp.full(4, 0.7)
    at = measured.denoised(oracle.SCORE, X, sigma)
    v = jnp.ones_like(X)
    mean = lambda x: x + 0.49 * oracle.SCORE(x[None], jnp.array([0.7]))[0]
    jacobians = jax.vmap(jax.jacfwd(mean))(X)
    np.testing.assert_allclose(at.mean, jax.vmap(mean)(X), rtol=1e-5)
    np.testing.assert_allclose(at.pull(v), jnp.einsum("bij,bi->bj", jacobians, v), rtol=1e-4)


def test_whitening_is_the_inverse_covariance():
    residual, variance = X[:, :2], jnp.array([0.1, 1.0, 2.0, 9.0])
    found = measured.whitened(oracle.OPERATOR, variance, 0.3, residual)
    for row in range(4):
        s = float(variance[row]) * oracle.MATRIX @ oracle.MATRIX.T + 0.09 * np.eye(2)
        np.testing.assert_allclose(found[row], np.linalg.solve(s, residual[row]), rtol=1e-3)
    np.testing.assert_allclose(
        measured.spread(jnp.array([0.3, 40.0]), 2.0), [0.36 / 4.09, 6400 / 1604], rtol=1e-6
    )


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, np.nan, np.ones(3)])
def test_the_spread_of_the_data_is_one_positive_number(sigma_data):
    score = inverse.pigdm(
        oracle.SCORE, oracle.OPERATOR, oracle.Y, noise=0.1, sigma_data=jnp.asarray(sigma_data)
    )
    with pytest.raises(ValueError, match="must be one number above 0"):
        score(X, jnp.ones(4))


def test_complex_measurements_are_refused():
    with pytest.raises(ValueError, match="the measurement y is complex"):
        METHODS["pigdm"](oracle.OPERATOR, np.array([1j, 0]), 0.1)(X, jnp.ones(4))


def test_measurements_that_are_not_finite_are_seen():
    with pytest.raises(ValueError, match="not finite"):
        inverse.exact.posterior(oracle.PRIOR, oracle.OPERATOR, jnp.array([jnp.nan, 0.0]), noise=0.1)
    twice = operators.matrix(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"noise = 0\.0 is too small"):
        inverse.exact.posterior(oracle.PRIOR, twice, jnp.ones(2), noise=0.0)
    spoilt = METHODS["pigdm"](
        operators.compose(oracle.OPERATOR, operators.matrix(np.eye(2))), oracle.Y * jnp.nan, 0.1
    )
    assert jnp.isnan(spoilt(X, jnp.ones(4))).all()
