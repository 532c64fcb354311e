"""From a compiled program to what it costs, and to the least time that it can take on a chip.

A step takes at least as long as its products at the chip's peak, as its bytes at the bandwidth of the
memory, and as what it sends at the bandwidth of the interconnect: the roofline model (Williams, Waterman &
Patterson 2009), with a third roof. The largest of the three binds; all are upper bounds of speed, as if
the other two, latencies and everything elementwise took no time.

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
    """Of the outputs, those that lie where arguments were."""

    @property
    def total(self) -> int:
        """All that is there at a time."""
        return self.arguments + self.outputs - self.donated + self.temporaries


class Cost(NamedTuple):
    """What one run of the program costs one device."""

    products: dict[str, int]
    """Operations of matrix products and convolutions, by what is multiplied."""
    elementwise: int
    """Operations on single elements."""
    bytes: int
    """To and from main memory."""
    collectives: tuple[Collective, ...]
    memory: Memory | None
    donations: int
    """How many arguments are given up for an output."""
    unknown_loops: int
    """Loops whose length is not known before they run; they count once."""
    devices: int

    @property
    def flops(self) -> int:
        """Operations of all products, each multiplication and each addition one."""
        return sum(self.products.values())

    @property
    def wire_bytes(self) -> float:
        """What a device sends to the others."""
        return float(sum(collective.wire_bytes for collective in self.collectives))


class Roofline(NamedTuple):
    """Seconds that one run takes at least, for each of three reasons; None where a rate is not known."""

    compute: float | None
    memory: float | None
    interconnect: float | None

    @property
    def seconds(self) -> float:
        """The largest of the three."""
        return max(getattr(self, name) or 0.0 for name in self._fields)

    @property
    def binds(self) -> str:
        """Which of the three it is."""
        return max(self._fields, key=lambda name: getattr(self, name) or 0.0)

    @property
    def utilisation(self) -> float | None:
        """The share of the chip's peak that products can have, at most (model FLOP utilisation, MFU)."""
        return None if self.compute is None or not self.seconds else self.compute / self.seconds


def cost(compiled: jax.stages.Compiled) -> Cost:
    """What one run of a compiled program costs each of its devices, its loops multiplied out."""
    try:
        statistics: Any = compiled.memory_analysis()
    except Exception:  # of which type is the platform's choice
        statistics = None
    return read(compiled.as_text(), statistics)


def read(text: str, statistics: Any = None) -> Cost:
    """The same, from the program's text and, where there is one, its memory analysis."""
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
    """The least seconds of a run on devices that are such chips."""
    peaks = {kind: chip.peak(kind) for kind in found.products}
    known = all(peaks.values())
    share = lambda amount, rate: amount / rate if rate else None
    return Roofline(
        sum(found.products[kind] / peaks[kind] for kind in peaks) if known else None,
        share(found.bytes, chip.memory_bandwidth),
        share(found.wire_bytes, chip.interconnect) if found.wire_bytes else 0.0,
    )


def parameters(tree: Any) -> int:
    """How many numbers there are in a tree of arrays, or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
