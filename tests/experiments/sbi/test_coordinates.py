"""Coordinates are reversible, have the determinant that they state, and lose no rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from experiments.sbi.coordinates import EDGE, bounded, chain, standardised
from tests.draws import assert_gaussian

LOW, HIGH = np.array([-1.0, 0.0, -3.0]), np.array([1.0, 1e-3, 250.0])


def counts(n=10_000):
    """Counts 0..10, and 1e6 in one row of a hundred."""
    values = np.random.default_rng(0).integers(0, 11, (n, 1)).astype(np.float32)
    values[::100] = 1e6
    return values


def simulations(n=2000):
    """Columns of several kinds: ordinary, far from 0, constant, with heavy tails, and mostly zero."""
    rng = np.random.default_rng(1)
    columns = [rng.normal(3, 2, n), rng.normal(1e4, 1, n), np.full(n, 20.0)]
    columns += [rng.standard_cauchy(n), np.where(rng.random(n) < 0.9, 0.0, rng.random(n))]
    return np.stack(columns, axis=1).astype(np.float32)


def in_box(n=2000):
    return (LOW + (HIGH - LOW) * np.random.default_rng(2).random((n, 3))).astype(np.float32)


def both(x):
    """Bounded, and then standardised."""
    inside = bounded(LOW, HIGH)
    return chain(inside, standardised(inside.encode(x)))


MAPS = {
    "standardised": (standardised(simulations()), simulations()),
    "heavy": (standardised(counts()), counts()),
    "bounded": (bounded(LOW, HIGH), in_box()),
    "both": (both(in_box()), in_box()),
    "standardised first": (chain(standardised(in_box()), bounded(np.full(3, -2), np.full(3, 2))), in_box()),
}


@pytest.mark.parametrize("name", MAPS)
def test_decoding_returns_what_was_encoded(name):
    coordinates, x = MAPS[name]
    z = jax.jit(coordinates.encode)(x)
    assert z.shape == x.shape
    assert np.isfinite(z).all()
    away = np.asarray(jax.jit(coordinates.decode)(z)) - x
    assert (np.abs(away) <= 3e-6 * np.abs(x) + 3e-7 * np.ptp(x, axis=0)).all()


@pytest.mark.parametrize("name", MAPS)
def test_the_determinant_is_that_of_the_jacobian(name):
    coordinates, x = MAPS[name]
    x = jnp.asarray(x[:60])
    each = jax.jit(jax.vmap(jax.jacfwd(lambda row: coordinates.encode(row[None])[0])))(x)
    sign, expected = np.linalg.slogdet(np.asarray(each, float))
    assert (sign > 0).all()
    np.testing.assert_allclose(coordinates.log_det(x), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", MAPS)
def test_rows_of_another_length_are_refused(name):
    coordinates, x = MAPS[name]
    for function in (coordinates.encode, coordinates.decode, coordinates.log_det):
        for wrong in (x[0], np.concatenate([x, x], axis=1)):
            with pytest.raises(
                ValueError, match=rf"rows have shape .*; these coordinates are of \[n, {x.shape[1]}\]"
            ):
                function(wrong)


# Standard scores ----------------------------------------------------------------------------------


def test_columns_get_mean_0_and_standard_deviation_1():
    z = np.asarray(standardised(simulations()).encode(simulations()), float)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=2e-3)  # 1e4 is rounded by 5e-4
    np.testing.assert_allclose(z.std(axis=0), [1, 1, 0, 1, 1], rtol=1e-3)


def test_ordinary_columns_are_mapped_linearly():
    x = np.random.default_rng(3).exponential(2, (5000, 1))
    found = standardised(x).encode(x)
    np.testing.assert_allclose(found, (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, -0.087, 20.0, 0.0, 1e30])
def test_constant_columns_have_scale_1(value, dtype):
    """The computed spread of these columns is 0, 1e-17 or 1e-8."""
    x = np.full((1000, 2), value, dtype)
    x[:, 1] = np.arange(1000)
    coordinates = standardised(x)
    z = coordinates.encode(x)
    np.testing.assert_allclose(z[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(coordinates.decode(z)[:, 0], x[:, 0], rtol=1e-6)
    moved = coordinates.encode(x + np.array([0.5, 0.0], dtype)) - z
    np.testing.assert_allclose(moved[:, 0], 0.5 if abs(value) < 1e6 else 0, atol=1e-5)
    np.testing.assert_allclose(coordinates.log_det(x), -np.log(np.std(np.arange(1000))), rtol=1e-5)


def test_rounding_alone_is_no_spread_but_more_is():
    jitter = np.random.default_rng(0).choice([-1.0, 1.0], (1000, 1))
    rounded = (20 + jitter * np.spacing(np.float32(20))).astype(np.float32)
    assert np.abs(standardised(rounded).encode(rounded)).max() < 1e-5
    apart = (20 + 1e-4 * jitter).astype(np.float32)
    assert_gaussian(np.asarray(standardised(apart).encode(apart)), 0.0, 1.0)


def test_heavy_tails_keep_distinct_rows_apart():
    x = counts()
    z = np.asarray(standardised(x).encode(x))
    assert len(np.unique(z)) == len(np.unique(x)) == 12
    assert z.dtype == np.float32
    ordinary = np.unique(z)[:11]
    assert np.diff(ordinary).min() > 0.05  # a standard score leaves 1e-5 between them
    assert ordinary.std() > 0.4
    assert z.max() < 12


def test_rows_far_out_stay_in_order():
    """In the tails, rows that differ by a fraction of 1e-5 are told apart."""
    coordinates = standardised(counts())
    far = (1e6 * (1 + 1e-5 * np.arange(100))).astype(np.float32)[:, None]
    assert (np.diff(np.asarray(coordinates.encode(far))[:, 0]) > 0).all()
    edge = np.array([[-3e38], [3e38]], np.float32)
    assert np.isfinite(coordinates.encode(edge)).all()
    assert np.isfinite(coordinates.log_det(edge)).all()


def test_a_rare_event_does_not_make_a_tail():
    """Zeros and a few ones: the robust scale is measured where values differ from the median."""
    x = (np.arange(1000) % 100 == 0).astype(np.float32)[:, None]
    np.testing.assert_allclose(standardised(x).encode(x), (x - x.mean()) / x.std(), rtol=1e-5)


def test_simulations_that_cannot_be_measured_are_refused():
    x = simulations()
    x[3, 1], x[5, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 2000 simulations are not finite"):
        standardised(x)
    with pytest.raises(ValueError, match="1 of 2 simulations are not finite"):
        standardised(np.array([[1.0], [1e300]]))
    for wrong in (x[:1], x[0], x[None]):
        with pytest.raises(ValueError, match=r"simulations have shape .*; at least two rows"):
            standardised(wrong)


# Boxes --------------------------------------------------------------------------------------------


def test_a_uniform_prior_becomes_a_standard_normal():
    inside = bounded(LOW, HIGH)
    z = np.asarray(inside.encode(in_box(20_000)), float)
    for column in z.T:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-3
    density = scipy.stats.norm.logpdf(z).sum(axis=1) + np.asarray(inside.log_det(in_box(20_000)))
    np.testing.assert_allclose(density, -np.log(HIGH - LOW).sum(), rtol=1e-4)


def test_the_normal_quantile_is_scipys():
    u = np.linspace(0.001, 0.999, 101)[:, None]
    found = bounded(np.zeros(1), np.ones(1)).encode(u)
    np.testing.assert_allclose(found, scipy.special.ndtri(u), rtol=1e-5, atol=1e-6)


def test_edges_are_finite_and_everything_is_decoded_into_the_box():
    inside = bounded(LOW, HIGH)
    ends = np.stack([LOW, HIGH]).astype(np.float32)
    z = inside.encode(np.concatenate([ends, np.nextafter(ends, ends[::-1])]))
    assert np.abs(z).max() < 5.5
    assert np.isfinite(inside.log_det(ends)).all()
    assert np.isfinite(jax.grad(lambda x: inside.encode(x).sum())(jnp.asarray(ends))).all()
    away = np.abs(np.asarray(inside.decode(z)[:2]) - ends)
    assert (away <= 2 * EDGE * (HIGH - LOW)).all()
    wild = np.array([-np.inf, -1e30, -100, -6, -1e-30, 0, 1e-30, 6, 100, 1e30, np.inf])
    found = np.asarray(inside.decode(np.stack([wild] * 3, axis=1)))
    assert (found >= ends[0]).all()
    assert (found <= ends[1]).all()
    np.testing.assert_array_equal(found[[0, -1]], ends)


def test_both_edges_keep_small_distances():
    """Near an edge at 0, numbers are told apart down to 1e-7 of the width."""
    x = np.array([[1e-6], [3e-7], [1e-7]], np.float32)
    for sign, inside in [(1, bounded(np.zeros(1), np.ones(1))), (-1, bounded(-np.ones(1), np.zeros(1)))]:
        np.testing.assert_allclose(inside.decode(inside.encode(sign * x)), sign * x, rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e6])
def test_any_box_holds_what_is_decoded(offset):
    low, high = np.float32([offset - 0.7]), np.float32([offset + 0.3])
    z = np.random.default_rng(0).normal(0, 3, (20_000, 1))
    found = np.asarray(bounded(low, high).decode(z))
    assert found.min() >= low
    assert found.max() <= high


def test_points_outside_the_box_have_density_0():
    inside = bounded(LOW, HIGH)
    x = np.array([[2.0, 5e-4, 0.0], [0.0, -1.0, 0.0], [0.0, 5e-4, 0.0]])
    np.testing.assert_array_equal(np.isneginf(inside.log_det(x)), [True, True, False])
    assert np.isfinite(inside.encode(x)).all()
    assert np.isnan(inside.encode(np.full((1, 3), np.nan))).all()


def test_bounds_that_are_no_box_are_refused():
    for low, high in [
        (HIGH, LOW),
        (LOW, LOW),
        (LOW[:2], HIGH),
        (LOW[None], HIGH[None]),
        (LOW * np.nan, HIGH),
    ]:
        with pytest.raises(ValueError, match=r"bounds must be \[d\] with low < high"):
            bounded(low, high)
    with pytest.raises(ValueError, match="finite"):
        bounded(LOW, HIGH * np.inf)


# Densities ----------------------------------------------------------------------------------------


def integral(coordinates, x):
    """The integral over a grid x [n] of the density of x, if its encoding is N(0.3, 0.8^2)."""
    log_q = scipy.stats.norm(0.3, 0.8).logpdf(np.asarray(coordinates.encode(x[:, None]), float)[:, 0])
    return np.trapezoid(np.exp(log_q + np.asarray(coordinates.log_det(x[:, None]), float)), x)


def test_densities_integrate_to_1():
    rng = np.random.default_rng(0)
    box, even = bounded(np.array([-2.0]), np.array([5.0])), np.linspace(-2, 5, 4001)
    np.testing.assert_allclose(integral(box, even), 1, rtol=1e-4)
    inside = chain(box, standardised(rng.normal(1.0, 0.5, (500, 1))))
    np.testing.assert_allclose(integral(inside, even), 1, rtol=1e-4)
    plain = standardised(rng.normal(-5.0, 3.0, (500, 1)))
    np.testing.assert_allclose(integral(plain, np.linspace(-40, 40, 4001)), 1, rtol=1e-4)
    heavy = standardised(counts())
    np.testing.assert_allclose(integral(heavy, np.sinh(np.linspace(-20, 20, 8001))), 1, rtol=1e-3)


# Chains -------------------------------------------------------------------------------------------


def test_a_chain_applies_its_parts_in_order():
    first, second = bounded(np.zeros(1), np.ones(1)), standardised(np.array([[0.0], [4.0]]))
    x = np.array([[0.25], [0.75]])
    found = chain(first, second)
    np.testing.assert_array_equal(found.encode(x), second.encode(first.encode(x)))
    np.testing.assert_allclose(found.log_det(x), first.log_det(x) - np.log(2), rtol=1e-6)
    np.testing.assert_allclose(found.decode(found.encode(x)), x, rtol=1e-6)


def test_an_empty_chain_changes_nothing():
    x = in_box(3)
    for function in chain()[:2]:
        np.testing.assert_array_equal(function(x), x)
    np.testing.assert_array_equal(chain().log_det(x), np.zeros(3))
