"""TPU slices that are not there: a slice by its name, for which libtpu's compiler compiles.

    mesh = sharding.mesh(devices=topology("v5e:16x16"))
    program = compiled(step.lower(*abstract_arguments_on(mesh)), effort=-1.0)

Arguments are `jax.ShapeDtypeStruct`s with shardings on the mesh. The program can be read but not run.
"""

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.experimental.topologies import get_topology_desc

QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",  # else libtpu asks the network for the kind of machine, and waits
    "TPU_WORKER_HOSTNAMES": "localhost",  # these two only silence warnings
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is opened here
}
"""Environment variables for libtpu, set unless the environment has them already."""

INSTALL = "pip install 'jaxscore[plan]'"


def topology(name: str) -> list:
    """The devices of a TPU slice, such as "v5e:16x16", "v5p:8x8x8" or "v6e:1x1"; each chip is one device.

    Raises:
        ImportError: if libtpu is not installed.
        ValueError: if there is no such slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError(f"libtpu, the compiler for TPUs, is not installed: {INSTALL}")
    if not re.fullmatch(r"v\w+:\d+(x\d+)+", name):
        raise ValueError(f"no TPU topology {name!r}: write it as v5e:4x4 or v5p:2x2x4")
    import libtpu

    for variable, value in {**QUIET, "TPU_LIBRARY_PATH": libtpu.get_library_path()}.items():
        os.environ.setdefault(variable, value)
    options = {}
    if re.fullmatch(r"v\w+:1x1(x1)?", name):
        options["chips_per_host_bounds"] = (1, 1, 1)
    if name.startswith("v4"):
        options["chip_config_name"] = "megacore"  # as JAX runs it: both cores of a chip are one device
    try:
        return list(get_topology_desc(platform="tpu", topology_name=name, **options).devices)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).split("\n")[0].removeprefix("INVALID_ARGUMENT: ")
        raise ValueError(f"no TPU topology {name!r}: {reason[:200]}") from None


def compiled(lowered: jax.stages.Lowered, *, effort: float = 0.0) -> jax.stages.Compiled:
    """The program compiled for the chips of a topology; `effort`, from -1.0 to 1.0, is the compiler's effort.

    With -1.0 a convolutional step compiles in a tenth of the time of 0.0. It has the same operations and
    nearly the same memory, but computation hides fewer of its exchanges. Newer compilers know four levels of
    effort, O0 to O3; they get the nearest.

    Raises:
        ValueError: if the effort is outside -1..1.
        jax.errors.JaxRuntimeError: if the program does not fit into memory.
    """
    if not -1 <= effort <= 1:
        raise ValueError(f"effort = {effort} must lie in -1..1")
    with _without_cache():
        return lowered.compile(compiler_options=_options(effort))


def _options(effort: float) -> dict[str, float | str]:
    if hasattr(jax.config, "jax_exec_time_optimization_effort"):
        return {"exec_time_optimization_effort": float(effort)}
    # Later versions of JAX and libtpu know four levels only.
    return {"optimization_level": f"O{round(1.5 * (effort + 1))}"}


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
    """Disables JAX's persistent cache, which cannot read back a program for chips that are not there."""
    enabled = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX decides only once whether to use the cache
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()
