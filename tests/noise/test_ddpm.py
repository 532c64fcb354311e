"""Tables of DDPM, against the definition and against published tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import noise

LINEAR = [0.9999, 0.07779665836502389, 4.0358297653756754e-05]
SCALED = [0.99915, 0.2763326838229746, 0.004660098513077238]
COSINE = [0.999958715775178, 0.49228517244880304, 2.4287669070348567e-09]


def test_ddpms_levels_run_from_a_hundredth_to_a_hundred():
    levels = noise.ddpm_levels(noise.ddpm_betas())
    np.testing.assert_allclose(levels[[0, -1]], [0.0100005, 157.407], rtol=1e-4)
    assert (np.diff(levels) > 0).all()
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(levels, np.sqrt(1 / np.cumprod(1 - betas) - 1), rtol=1e-9)


def test_the_other_tables_have_their_own_levels():
    """Stable Diffusion's last level is 14.61."""
    scaled = noise.ddpm_levels(noise.ddpm_betas("scaled_linear", beta_start=0.00085, beta_end=0.012))
    np.testing.assert_allclose(scaled[[0, -1]], [0.02917, 14.6146], rtol=1e-3)
    cosine = noise.ddpm_levels(noise.ddpm_betas("cosine"))
    assert 0.005 < cosine[0] < 0.0075
    assert 1e4 < cosine[-1] < 5e4


@pytest.mark.parametrize(
    ("betas", "published"),
    [
        (noise.ddpm_betas(), LINEAR),
        (noise.ddpm_betas("scaled_linear", beta_start=0.00085, beta_end=0.012), SCALED),
        (noise.ddpm_betas("cosine"), COSINE),
    ],
)
def test_the_tables_are_those_of_diffusers(betas, published):
    """abar = 1 / (1 + sigma^2) of the steps 0, 500 and 999, of version 0.42.1 in float64."""
    abar = 1 / (1 + noise.ddpm_levels(betas)[[0, 500, 999]] ** 2)
    np.testing.assert_allclose(abar, published, rtol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 50, 1000])
def test_from_betas_to_levels_and_back(kind, steps):
    betas = noise.ddpm_betas(kind, steps=steps)
    # The last level of the cosine table is 2e4: its square has an error of 1e-16, and so has 1 - beta.
    np.testing.assert_allclose(noise.ddpm_betas_at(noise.ddpm_levels(betas)), betas, rtol=1e-9)


def test_some_of_the_levels_are_a_shorter_process():
    """It keeps the products of 1 - beta (Nichol & Dhariwal 2021, equation 19)."""
    betas = noise.ddpm_betas()
    few = noise.ddpm_betas_at(noise.ddpm_levels(betas)[9::10])
    np.testing.assert_allclose(np.cumprod(1 - few), np.cumprod(1 - betas)[9::10], rtol=1e-12)


def test_the_step_is_the_inverse_of_the_levels():
    levels = noise.ddpm_levels(noise.ddpm_betas())
    steps = jax.jit(lambda sigma: noise.ddpm_step(sigma, levels))(jnp.asarray(levels, jnp.float32))
    # The levels near the end are 1 % apart; float32 knows their logarithm to 6e-8 x 5.
    np.testing.assert_allclose(steps, np.arange(1000), atol=1e-3)
    outside = noise.ddpm_step(jnp.array([0.0, 1e-3, 1e3, jnp.inf]), levels)
    np.testing.assert_array_equal(outside, [0, 0, 999, 999])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: noise.ddpm_betas("quadratic"), "'quadratic' are not known; use linear"),
        (lambda: noise.ddpm_levels(np.array([0.1, 1.0])), "each between 0 and 1"),
        (lambda: noise.ddpm_levels(np.array([])), "each between 0 and 1"),
        (lambda: noise.ddpm_levels(np.array([0.1, np.nan])), "each between 0 and 1"),
        (lambda: noise.ddpm_betas(steps=0), "need steps >= 1"),
        (lambda: noise.ddpm_betas(beta_end=2.0), "0 < beta_start <= beta_end < 1, not 1000, 0.0001 and 2.0"),
        (lambda: noise.ddpm_step(jnp.ones(1), np.array([2.0, 1.0])), "must go up"),
        (lambda: noise.sub_vp_time(jnp.ones(1), beta_min=3.0, beta_max=2.0), "0 < beta_min <= beta_max"),
        (lambda: noise.ddpm_betas_at(np.array([2.0, 1.0])), "must go up"),
        (lambda: noise.ddpm_betas_at(np.array([0.0, 1.0])), "must be positive"),
        (lambda: noise.ddpm_betas_at(np.array([1.0, np.inf])), "and finite"),
    ],
)
def test_tables_that_are_none_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
