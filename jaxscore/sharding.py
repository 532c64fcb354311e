"""Where arrays live: a mesh over the devices, its batch split and its state replicated.

Nothing else in the library mentions devices: a jitted function follows its arguments' shardings.

>>> mesh = data_mesh()
>>> replicated(mesh).is_fully_replicated
True
"""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """All devices on one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device: for the training state."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices: for batches and for the keys of samples."""
    return NamedSharding(mesh, PartitionSpec("data"))
