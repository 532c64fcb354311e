"""The cost of a compiled program, and the least time that it can take on a chip.

A run takes at least as long as its products at the chip's peak rate. It also takes at least as long as its
bytes at the memory's bandwidth, and as its messages at the interconnect's bandwidth. This is the roofline
model (Williams, Waterman & Patterson 2009) with a third roof. The largest of the three times is a lower bound
of the run time. The bound assumes that the three overlap perfectly and that latencies and elementwise
operations take no time.

>>> import jax, jax.numpy as jnp
>>> from jaxscore.plan import chips
>>> found = cost(jax.jit(jnp.matmul).lower(*2 * [jnp.ones((256, 256))]).compile())
>>> found.flops, found.collectives
(33554432, ())
>>> bound = roofline(found, chips.find("TPU v5e"))
>>> bound.binds, round(1e6 * bound.seconds, 2), round(bound.utilisation, 3)
('memory', 0.96, 0.177)
"""

import math
import re
from typing import Any, NamedTuple

import jax

from jaxscore.plan import hlo, work
from jaxscore.plan.chips import Chip
from jaxscore.plan.exchange import Collective, collectives
from jaxscore.plan.loops import visits


class Memory(NamedTuple):
    """Bytes on one device, as the compiler has laid them out."""

    arguments: int
    outputs: int
    temporaries: int
    donated: int
    """Bytes of the outputs that reuse the memory of arguments."""

    @property
    def total(self) -> int:
        """Bytes that are in use at the same time."""
        return self.arguments + self.outputs - self.donated + self.temporaries


class Cost(NamedTuple):
    """Cost of one run of the program on one device."""

    products: dict[str, int]
    """Operations of matrix products and convolutions, by the type that is multiplied."""
    elementwise: int
    """Operations on single elements."""
    bytes: int
    """Bytes read from and written to main memory."""
    collectives: tuple[Collective, ...]
    memory: Memory | None
    donations: int
    """Number of arguments whose memory an output reuses."""
    unknown_loops: int
    """Number of loops whose length is not known before they run; their bodies are counted once."""
    devices: int

    @property
    def flops(self) -> int:
        """Operations of all products; a multiplication and an addition count as two."""
        return sum(self.products.values())

    @property
    def wire_bytes(self) -> float:
        """Bytes that a device sends to other devices."""
        return float(sum(collective.wire_bytes for collective in self.collectives))


class Roofline(NamedTuple):
    """Least time of one run in seconds, for each of three limits; None where the chip's rate is not known."""

    compute: float | None
    memory: float | None
    interconnect: float | None

    @property
    def seconds(self) -> float:
        """The largest of the three times."""
        return max(getattr(self, name) or 0.0 for name in self._fields)

    @property
    def binds(self) -> str:
        """Name of the limit with the largest time."""
        return max(self._fields, key=lambda name: getattr(self, name) or 0.0)

    @property
    def utilisation(self) -> float | None:
        """Largest fraction of the chip's peak that products can reach (model FLOP utilisation, MFU)."""
        return None if self.compute is None or not self.seconds else self.compute / self.seconds


def cost(compiled: jax.stages.Compiled) -> Cost:
    """Cost of one run of a compiled program on each of its devices; a loop's body counts at every pass."""
    try:
        statistics: Any = compiled.memory_analysis()
    except Exception:  # the type depends on the platform
        statistics = None
    return read(compiled.as_text(), statistics)


def read(text: str, statistics: Any = None) -> Cost:
    """Cost of one run, from the program's text and, if there is one, its memory analysis."""
    program = hlo.parse(text)
    devices = math.prod(int(n) for n in re.findall(r"(?:num_partitions|replica_count)=(\d+)", program.header))
    products: dict[str, int] = {}
    elementwise = moved = unknown = 0
    for instruction, scope, times, fused, known in visits(program):
        computation = program.computations[scope.name]
        unknown += not known
        elementwise += times * work.elementwise(instruction, computation)
        if not fused:
            moved += times * work.traffic(program, instruction, computation)
        if operations := work.products(instruction, computation):
            kind = work.precision(instruction, computation)
            products[kind] = products.get(kind, 0) + times * operations
    aliases = re.search(r"input_output_alias=\{(.*?)\}, \w+=", program.header)
    donations = len(re.findall(r"-alias\)", aliases[1])) if aliases else 0
    exchanged = tuple(collectives(program, devices))
    return Cost(products, elementwise, moved, exchanged, _memory(statistics), donations, unknown, devices)


def _memory(statistics: Any) -> Memory | None:
    names = ("argument", "output", "temp", "alias")
    sizes = [getattr(statistics, f"{name}_size_in_bytes", None) for name in names]
    return None if None in sizes else Memory(*sizes)


def roofline(found: Cost, chip: Chip) -> Roofline:
    """Least time of one run, in seconds, if every device is such a chip."""
    peaks = {kind: chip.peak(kind) for kind in found.products}
    known = all(peaks.values())
    share = lambda amount, rate: amount / rate if rate else None
    return Roofline(
        sum(found.products[kind] / peaks[kind] for kind in peaks) if known else None,
        share(found.bytes, chip.memory_bandwidth),
        share(found.wire_bytes, chip.interconnect) if found.wire_bytes else 0.0,
    )


def parameters(tree: Any) -> int:
    """Number of elements in a tree of arrays, or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
