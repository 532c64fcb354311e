"""Features of whole sets: a network applied in batches on all devices, or principal components.

>>> from jaxscore import sharding
>>> features = mapped(lambda x, scale: scale * x.sum(axis=1, keepdims=True), sharding.mesh(), batch=8)
>>> features(np.ones((19, 4), np.float32), 0.5).shape
(19, 1)
"""

from collections.abc import Callable

import jax
import numpy as np

from jaxscore import sharding
from jaxscore.types import AnyArray


def mapped(function: Callable, mesh: jax.sharding.Mesh, *, batch: int = 256) -> Callable[..., np.ndarray]:
    """Returns features(x[n, ...], *arguments) -> NumPy array [n, d], which applies `function` in batches.

    `function(x[b, ...], *arguments) -> [b, d]` must treat each row by itself. Each batch is split over the
    devices of the mesh. The last batch is filled up with copies of the last row, so that `function` compiles
    once and no row is left out. Pass parameters as arguments: values that `function` closes over become part
    of the compiled program. With several processes, all call it with the same x and all get the result. Each
    process reads only its own rows of x, which may be a memory-mapped file.

    Raises:
        ValueError: unless the number of devices divides `batch`; from the returned function, if x has no
            rows.
    """
    if batch < 1 or batch % mesh.size:
        raise ValueError(f"batch = {batch} must be a multiple of {mesh.size}, the number of devices")
    where = sharding.batched(mesh)
    program = jax.jit(function, out_shardings=sharding.replicated(mesh))
    here = sharding.rows_here(where, batch)

    def apply(x: AnyArray, *arguments) -> np.ndarray:
        if len(x) == 0:
            raise ValueError("features of no rows")
        found, running = [], None
        for start in range(0, len(x), batch):
            rows = np.minimum(start + here, len(x) - 1)
            placed = sharding.place(np.asarray(x[rows]), where, here, batch)
            # One batch computes while the next is read, and no more: all features may not fit on the devices.
            found += [] if running is None else [np.asarray(running)]
            running = program(placed, *arguments)
        return np.concatenate([*found, np.asarray(running)])[: len(x)]

    return apply


def principal_components(images: AnyArray, *, components: int = 64) -> Callable[[AnyArray], np.ndarray]:
    """Returns features(x[n, ...]) -> [n, k]: coordinates along the directions in which the images vary most.

    These features need no labels and no trained network. The directions come from at most 2,000 of the
    images, spread evenly over the set because it may be sorted by class. k is the smallest of `components`,
    the number of these images, and the size of an image.
    """
    flat = lambda x: np.asarray(x, np.float32).reshape(len(x), -1)
    some = flat(images[:: -(-len(images) // 2000)])
    mean = some.mean(axis=0)
    some = some - mean
    k = min(components, *some.shape)
    # The left singular vectors from the Gram matrix: an image may have a hundred times 2,000 pixels.
    squares, left = np.linalg.eigh(some.astype(float) @ some.T)
    squares, left = squares[::-1][:k], left[:, ::-1][:, :k]
    # Pixels that never vary have eigenvalues of 0 up to rounding, and give no direction.
    scale = np.where(squares > 1e-10 * squares[0], squares, np.inf) ** -0.5
    directions = (some.T.astype(float) @ (left * scale)).astype(np.float32)

    def features(x: AnyArray) -> np.ndarray:
        parts = [(flat(x[start : start + 500]) - mean) @ directions for start in range(0, len(x), 500)]
        return np.concatenate(parts).astype(float)

    return features
