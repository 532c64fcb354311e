"""How the tests compile, in their own process and in those that they start: quickly, and once."""

import importlib.metadata
from pathlib import Path

# Small networks take longer to compile than to run, so nothing is optimised.
FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"  # the older emitters compile four times as fast

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": FLAGS,
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".cache" / "jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
"""For a process with one device. Compiled programs are kept for later tests and for the next run."""
