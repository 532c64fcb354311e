import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxscore import plan, sharding
from jaxscore.plan import topologies
from tests.plan.topology import needs_libtpu


@needs_libtpu
@pytest.mark.parametrize(
    ("name", "chips", "kind"),
    [
        ("v4:2x2x1", 4, "TPU v4"),
        ("v5e:1x1", 1, "TPU v5e"),
        ("v5e:16x16", 256, "TPU v5e"),
        ("v5p:2x2x4", 16, "TPU v5p"),
        ("v6e:2x4", 8, "TPU v6e"),
    ],
)
def test_a_slice_has_a_known_device_for_each_chip(name, chips, kind):
    devices = plan.topology(name)
    assert len(devices) == chips
    assert plan.find(devices[0].device_kind).name == kind


@needs_libtpu
@pytest.mark.parametrize("name", ["v5e:3x7", "v5e", "h100", "v99:2x2", ""])
def test_a_slice_that_does_not_exist_is_one_line(name):
    with pytest.raises(ValueError, match=rf"^no TPU topology '{name}': [^\n]*\Z"):
        plan.topology(name)


def test_without_libtpu_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'jaxscore\[plan\]'$"):
        plan.topology("v5e:2x2")


@needs_libtpu
def test_a_program_is_compiled_for_chips_and_not_cached():
    """The persistent cache is for programs of this machine."""
    mesh = sharding.mesh(devices=plan.topology("v5e:2x2"))
    x = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=sharding.replicated(mesh))
    lowered = jax.jit(lambda x: x @ x).lower(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the second time, the cache would try to read it, and warn
        for _ in range(2):
            assert plan.cost(plan.compiled(lowered, effort=-1.0)).flops == 2 * 64**3
    assert jax.config.jax_enable_compilation_cache
    with pytest.raises(ValueError, match=r"effort = 2.0 must lie in -1..1"):
        plan.compiled(lowered, effort=2.0)


@needs_libtpu
def test_it_is_quiet_and_needs_nothing_in_the_environment():
    environment = {name: value for name, value in os.environ.items() if name not in topologies.QUIET}
    environment |= {"JAX_PLATFORMS": "cpu"}
    environment.pop("TPU_LIBRARY_PATH", None)
    result = subprocess.run(
        [sys.executable, "-c", "from jaxscore import plan; print(len(plan.topology('v5e:2x2')))"],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("4\n", "")
