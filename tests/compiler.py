"""How the tests compile, in their own process and in those that they start: quickly, and once."""

import importlib.metadata
from pathlib import Path

# Small networks take longer to compile than to run, so nothing is optimised.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"  # the older emitters compile four times as fast


def environment(devices: int = 1) -> dict[str, str]:
    """What a process with simulated devices reads; later tests and runs find the compiled programs."""
    return {
        "JAX_PLATFORMS": "cpu",
        "NPROC": str(4 * devices),  # collectives hang unless there are more threads than devices
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
