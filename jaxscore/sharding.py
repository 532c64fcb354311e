"""Where arrays live: a mesh of devices, over which the batch is split and the state copied or split.

    mesh = sharding.mesh(fsdp=8)                        axes `data` x `fsdp`, over all devices
    places = fsdp(mesh, shapes)                or replicated(mesh): data parallel
    loss = lambda params, ...: ...gathered(places)(params)...
    batch = place(local, batched(mesh), rows)           of all processes' rows, one array

Nothing else in the library mentions devices: a jitted function follows its arguments' shardings.

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
    """The devices (all of them) as a grid with the axes `data` and `fsdp`.

    The batch is split over both; `fsdp` splits the state over `fsdp`, and `data` has copies of
    it. One of the two may be -1: as many as there are devices for. Raises ValueError if the devices
    cannot be laid out so.
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
    """A whole copy on every device: for the training state."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The first axis split over all devices: for batches and for the keys of samples."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


# The state ------------------------------------------------------------------------------------


def fsdp(mesh: Mesh, tree, *, smallest: int = 1024):
    """A sharding for each leaf (an array or its shape): its largest axis split over `fsdp`.

    Of the axes that `fsdp` divides, the largest, the last of equals. Leaves of fewer than `smallest`
    elements, and those without such an axis, are replicated; with an `fsdp` of 1 all are (ZeRO, stage 3:
    Rajbhandari et al. 2020).
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
    """params -> the same, whole on every device while they are used; their gradient is split again.

    `places` are the shardings of the parameters. What is used by a layer is gathered for it, and the
    gradient goes back to where its parameter lives, which the compiler makes a reduce-scatter where the
    machine has one. Without it the compiler may as well move activations instead of parameters.
    """
    whole = jax.tree.map(lambda place: replicated(place.mesh), places)
    copy = lambda params: jax.lax.with_sharding_constraint(params, whole)
    split = lambda gradient: jax.lax.with_sharding_constraint(gradient, places)
    gather = jax.custom_vjp(copy)
    gather.defvjp(lambda params: (copy(params), None), lambda _, gradient: (split(gradient),))
    return gather


# Rows of the batch ----------------------------------------------------------------------------


def rows_here(where: NamedSharding, n: int) -> Int[np.ndarray, "m"]:
    """The numbers of the rows, of n, that this process's devices hold; `where` splits the first axis.

    Raises ValueError if the devices do not divide n.
    """
    slices = where.addressable_devices_indices_map((n,)).values()
    return np.unique(np.concatenate([np.arange(n)[rows] for (rows,) in slices]))


def place(local: np.ndarray, where: NamedSharding, rows: Int[np.ndarray, "m"], n: int) -> jax.Array:
    """The array of n rows of which this process has `local`, the rows numbered `rows`."""

    def part(index: tuple[slice, ...]) -> np.ndarray:
        begin, end, _ = index[0].indices(n)
        first = int(np.searchsorted(rows, begin))
        return local[first : first + end - begin]

    return jax.make_array_from_callback((n, *local.shape[1:]), where, part)
