"""Exchanges between devices: kind, bytes, number of devices, and whether computation hides the exchange.

>>> from jaxscore.plan import hlo
>>> program = hlo.parse('''
... ENTRY %main (x: f32[8]) -> f32[8] {
...   %x = f32[8]{0} parameter(0)
...   ROOT %y = f32[8]{0} all-reduce(%x), replica_groups={{0,1,2,3}}, to_apply=%add
... }
... ''')
>>> (found,) = collectives(program, devices=4)
>>> found.kind, found.bytes, found.group, found.wire_bytes, found.overlapped
('all-reduce', 32, 4, 48.0, False)
"""

import math
import re
from typing import NamedTuple

from jaxscore.plan.hlo import Instruction, Program
from jaxscore.plan.loops import Visit, visits

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

COMPUTING = {"fusion", "dot", "convolution", "custom-call", "while", "call", "conditional", "reduce"}
"""Instructions that take time; an exchange is hidden if one of them runs between its start and its end."""


class Collective(NamedTuple):
    """One exchange of the program; `bytes` is the size of the whole reduced, gathered or scattered array."""

    kind: str
    bytes: int
    group: int
    """Number of devices that exchange with each other."""
    times: int
    """How often the exchange runs: the length of its loop, if it is in one."""
    overlapped: bool
    """Whether other computation is scheduled between its start and its end."""

    @property
    def wire_bytes(self) -> float:
        """Bytes that a device sends in all runs of the exchange, by the ring algorithm.

        Among n devices, an all-reduce sends 2 (n - 1) / n of the array. Gathering, scattering and all-to-all
        send (n - 1) / n of it, a permutation or a broadcast all of it (Patarasuk & Yuan 2009).
        """
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0, "collective-broadcast": 1.0}
        return self.times * self.bytes * factor.get(self.kind, share)


def collectives(program: Program, devices: int) -> list[Collective]:
    """All exchanges of a program that runs on this many devices, in the order of the schedule."""
    found: dict[tuple, Collective] = {}
    scopes: dict[tuple, set[str]] = {}
    for visit in visits(program):
        kind = visit.instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        collective = _collective(program, visit, kind, devices)
        identity: tuple = (visit.scope.name, visit.instruction.name)
        if visit.fused and collective.kind == kind:
            # A TPU may spread an exchange over several fusions, which compute meanwhile. Each of them
            # contains it.
            notes = re.findall(r'channel_id=\d+|chain_id="\w+"', visit.instruction.attributes)
            identity = (collective, *notes) if notes else identity
        scopes.setdefault(identity, set()).add(visit.scope.name)
        hidden = collective.overlapped or len(scopes[identity]) > 1
        found[identity] = collective._replace(overlapped=hidden)
    return [collective for collective in found.values() if collective.group > 1]


def _collective(program: Program, visit: Visit, kind: str, devices: int) -> Collective:
    instruction, computation = visit.instruction, program.computations[visit.scope.name]
    operands = [
        shape for name in instruction.operands if name in computation for shape in computation[name].shapes
    ]
    whole = sum(shape.unpadded_bytes for shape in operands)
    group = _group(instruction, devices)
    if kind == "all-gather":
        whole *= group
    elif kind == "all-reduce" and visit.scope.name.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"  # a TPU fuses an all-reduce with a slice of its result
    return Collective(kind, whole, group, visit.times, _overlapped(program, visit))


def _group(instruction: Instruction, devices: int) -> int:
    """Number of devices in a group; XLA writes groups in several ways."""
    text = instruction.attributes
    if instruction.opcode.startswith("collective-permute"):
        return 2
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    if shaped := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", text):
        return int(shaped[2])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]) if axis in sizes)
    return devices


def _overlapped(program: Program, visit: Visit) -> bool:
    """Whether anything is computed between `-start` and `-done`, in the order of the schedule."""
    start, scope = visit.instruction, visit.scope
    if scope.call is not None and scope.call.opcode == "async-start":
        start, scope = scope.call, scope.outer
    if not start.opcode.endswith("-start") or '"is_sync":true' in start.attributes:
        return False
    order = list(program.computations[scope.name].values())
    for instruction in order[order.index(start) + 1 :]:
        if start.name in instruction.operands and instruction.opcode.endswith("-done"):
            return False
        if instruction.opcode in COMPUTING:
            return True
    return False
