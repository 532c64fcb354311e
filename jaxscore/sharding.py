"""Where arrays live: a mesh of devices that splits the batch, and copies or splits the state.

    mesh = sharding.mesh(fsdp=8)                        axes `data` x `fsdp`, over all devices
    places = fsdp(mesh, shapes)                         or replicated(mesh): data parallel
    loss = lambda params, ...: ...gathered(places)(params)...
    batch = place(local, batched(mesh), rows, n)        one array of the rows of all processes

Networks, objectives and samplers do not mention devices: a jitted function follows the shardings of its
arguments.

>>> replicated(mesh()).is_fully_replicated
True
>>> shapes = {"kernel": np.zeros((3, 512)), "bias": np.zeros(512)}
>>> places = fsdp(mesh(fsdp=8), shapes)
>>> places["kernel"].spec, places["bias"].spec
(P(None, 'fsdp'), P())
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int


def mesh(data: int = -1, fsdp: int = 1, *, devices: Sequence | None = None) -> Mesh:
    """The devices (by default all) as a grid with the axes `data` and `fsdp`.

    Both axes split the batch. `fsdp` splits the state over `fsdp` and replicates it over `data`. One
    of the two numbers may be -1, which stands for the number that uses all devices.

    Raises:
        ValueError: if the mesh does not use all devices.
    """
    devices = jax.devices() if devices is None else devices
    n = len(devices)
    if data == -1 and fsdp > 0:
        data = n // fsdp
    elif fsdp == -1 and data > 0:
        fsdp = n // data
    if min(data, fsdp) < 1 or data * fsdp != n:
        raise ValueError(f"a mesh of {data} x {fsdp} does not use {n} devices")
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding with a whole copy on every device, for the training state."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first axis over all devices, for batches and for the keys of samples."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


# The state ------------------------------------------------------------------------------------


def fsdp(mesh: Mesh, tree, *, smallest: int = 1024):
    """Returns a sharding for each leaf, an array or its shape (ZeRO, stage 3: Rajbhandari et al. 2020).

    A leaf is split over the mesh axis `fsdp` along its longest axis whose length `fsdp` divides; among
    equally long axes, the last one. Leaves with fewer than `smallest` elements or without such an axis are
    replicated. If `fsdp` is 1, all leaves are replicated.
    """
    n = mesh.shape["fsdp"]

    def place(leaf) -> NamedSharding:
        fitting = [axis for axis, length in enumerate(leaf.shape) if length % n == 0]
        if n == 1 or leaf.size < smallest or not fitting:
            return replicated(mesh)
        longest = max(fitting, key=lambda axis: (leaf.shape[axis], axis))
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(place, tree)


def gathered(places) -> Callable:
    """Returns a function params -> params, whole on every device; the gradient is split again.

    `places` are the shardings of the parameters. Each layer gathers the parameters that it uses. The gradient
    returns to the shards of its parameter, by a reduce-scatter where the machine has one. Without this
    function the compiler may move activations instead of parameters.
    """
    whole = jax.tree.map(lambda place: replicated(place.mesh), places)
    copy = lambda params: jax.lax.with_sharding_constraint(params, whole)
    split = lambda gradient: jax.lax.with_sharding_constraint(gradient, places)
    gather = jax.custom_vjp(copy)
    gather.defvjp(lambda params: (copy(params), None), lambda _, gradient: (split(gradient),))
    return gather


# Rows of the batch ----------------------------------------------------------------------------


def rows_here(where: NamedSharding, n: int) -> Int[np.ndarray, "m"]:
    """Numbers of the rows, out of n, that this process's devices hold; `where` splits the first axis.

    Raises:
        ValueError: if the number of devices does not divide n.
    """
    slices = where.addressable_devices_indices_map((n,)).values()
    return np.unique(np.concatenate([np.arange(n)[rows] for (rows,) in slices]))


def place(local: np.ndarray, where: NamedSharding, rows: Int[np.ndarray, "m"], n: int) -> jax.Array:
    """Global array of n rows, from the rows `local` of this process, whose numbers are `rows`.

    Args:
        local: rows of this process.
        where: sharding of the first axis.
        rows: numbers of the local rows, as `rows_here` returns them.
        n: number of rows of all processes.
    """

    def part(index: tuple[slice, ...]) -> np.ndarray:
        begin, end, _ = index[0].indices(n)
        first = int(np.searchsorted(rows, begin))
        return local[first : first + end - begin]

    return jax.make_array_from_callback((n, *local.shape[1:]), where, part)
