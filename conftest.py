"""Settings of every test and doctest, made before jax is imported.

There are eight simulated devices. Broadcasting between ranks and using a random key twice are errors.
Compiled programs are cached in `.cache/` for the next run.
"""

import os
from pathlib import Path

# JAX reads these once, when its CPU client starts. Collectives hang unless there are more threads than
# devices. Optimisation is off because small networks take longer to compile than to run: this takes a third
# off the total time.
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
