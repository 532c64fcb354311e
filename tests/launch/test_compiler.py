"""XLA's options for convolutions: valid where they are given, and given only where they are valid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.launch import compiler


@pytest.fixture(autouse=True)
def _asked_anew():
    compiler.compiler_options.cache_clear()
    yield
    compiler.compiler_options.cache_clear()


def test_a_convolution_compiles_with_them_to_the_same_values():
    options = compiler.compiler_options()
    assert list(options) == [compiler.CPU_OPTION]
    x, kernel = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    program = lambda x, kernel: jax.lax.conv(x[None, None], kernel[None, None], (1, 1), "SAME")
    found = jax.jit(program, compiler_options=options)(jnp.array(x[0]), jnp.array(kernel[0, :3, :3]))
    expected = jax.jit(program)(jnp.array(x[0]), jnp.array(kernel[0, :3, :3]))
    # Sums of nine float32 products in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_other_platforms_and_other_releases_get_none(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "tpu")
        assert compiler.compiler_options() == {}
    compiler.compiler_options.cache_clear()
    monkeypatch.setattr(compiler, "CPU_OPTION", "xla_cpu_no_such_option")
    assert compiler.compiler_options() == {}
