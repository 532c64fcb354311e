"""What every test and doctest runs under; loaded before jax is imported.

Eight simulated devices, no silent broadcasting between ranks, an error when a random key is used
twice, and compiled programs kept in `.cache/` from one run to the next.
"""

import os
from pathlib import Path

# Read once, when jax starts its CPU client: more threads than devices, or collectives hang; and the least
# optimisation, since small networks take longer to compile than to run (two thirds of the time in all).
os.environ["NPROC"] = "32"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 "
    + os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
).strip()

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects `exhaustive` tests, unless `-m` names them."""
    if "exhaustive" not in config.option.markexpr:
        exhaustive = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=exhaustive)
        items[:] = [item for item in items if item not in exhaustive]
