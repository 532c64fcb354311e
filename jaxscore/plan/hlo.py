"""Reads the text of a compiled program, as XLA prints it, into instructions.

>>> program = parse('''
... ENTRY %main (x: f32[2,3]) -> f32[2,3] {
...   %x = f32[2,3]{1,0} parameter(0)
...   ROOT %y = f32[2,3]{1,0} add(%x, %x), metadata={op_name="y"}
... }
... ''')
>>> add = program.entry["y"]
>>> add.opcode, add.operands, add.shapes[0].dims, add.shapes[0].bytes
('add', ('x', 'x'), (2, 3), 24)
"""

import functools
import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16, "c64": 64, "c128": 128}
"""Bits of an element as stored; for other types the number in the name says it."""


class Shape(NamedTuple):
    """One array: its type, its dimensions, and its layout in memory."""

    dtype: str
    dims: tuple[int, ...]
    layout: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Bytes in memory, including the padding to whole tiles (TPU)."""
        return -(-math.prod(_padded(self)) * bits(self.dtype) // 8)

    @property
    def unpadded_bytes(self) -> int:
        """Bytes of the elements alone: what is sent over a network."""
        return -(-self.size * bits(self.dtype) // 8)

    @property
    def on_chip(self) -> bool:
        """Whether the array lies in memory of the chip's core (TPU: VMEM, SMEM), not in main memory."""
        return re.search(r"S\([1-9]", self.layout) is not None


class Instruction(NamedTuple):
    """`name = shapes opcode(operands), attributes`."""

    name: str
    shapes: tuple[Shape, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str

    def called(self, attribute: str) -> str | None:
        """Name of the computation after `attribute=`, or None."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found and found[1]

    @property
    def number(self) -> int:
        """The integer in parentheses of a parameter or constant; `index=` of a get-tuple-element."""
        index = re.search(r"\bindex=(\d+)", self.attributes)
        return int(index[1] if self.opcode == "get-tuple-element" else self.operands[0])


class Program(NamedTuple):
    """Computations by name, each a dict of instructions in the order in which they are scheduled."""

    computations: dict[str, dict[str, Instruction]]
    entry_name: str
    header: str
    roots: dict[str, str]
    """For each computation, the name of the instruction that is its result."""

    @property
    def entry(self) -> dict[str, Instruction]:
        """The computation where the program starts."""
        return self.computations[self.entry_name]


@functools.cache
def bits(dtype: str) -> int:
    """Bits of an element: bits("bf16") is 16, bits("f8e4m3fn") is 8."""
    number = re.match(r"[a-z]+(\d+)", dtype)
    return BITS[dtype] if dtype in BITS else int(number[1]) if number else 0


def _padded(shape: Shape) -> tuple[int, ...]:
    """The dimensions from major to minor, the last ones rounded up to whole tiles."""
    found = re.match(r"\{([\d,]*):T\(([\d,]+)\)", shape.layout)
    if not found or not shape.dims:
        return shape.dims
    dims = [shape.dims[int(axis)] for axis in reversed(found[1].split(",")) if axis]
    tile = [int(length) for length in found[2].split(",")][-len(dims) :]
    outer = len(dims) - len(tile)
    return (*dims[:outer], *(-(-n // t) * t for n, t in zip(dims[outer:], tile, strict=True)))


# Reading --------------------------------------------------------------------------------------

ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=\s]*)\](\{[^}]*\})?")
HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^=]*\) -> .*)?\{$")
LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")


def parse(text: str) -> Program:
    """The program in the text of `compiled.as_text()`. Raises ValueError if the text has no program."""
    text = re.sub(r"/\*.*?\*/", "", text)
    computations, roots, entry, current = {}, {}, None, ""
    for line in text.splitlines():
        if head := HEAD.match(line):
            current = head[2]
            computations[current] = {}
            entry = current if head[1] else entry
        elif (found := LINE.match(line)) and current:
            instruction = _instruction(found[2], found[3])
            computations[current][found[2]] = instruction
            if found[1]:
                roots[current] = found[2]
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY")
    return Program(computations, entry, text.split("\n", 1)[0], roots)


def _instruction(name: str, text: str) -> Instruction:
    end = _balanced(text, 0) if text.startswith("(") else text.index(" ", ARRAY.match(text).end() - 1)
    shapes = tuple(
        Shape(dtype, tuple(int(n.strip("<= ")) for n in dims.split(",") if n), layout)
        for dtype, dims, layout in ARRAY.findall(text[:end])
    )
    rest = text[end:].lstrip()
    start = rest.index("(")
    stop = _balanced(rest, start)
    inside = rest[start + 1 : stop - 1]
    operands = () if not inside else tuple(part.split()[-1].lstrip("%") for part in _split(inside))
    return Instruction(name, shapes, rest[:start], operands, rest[stop:])


def _balanced(text: str, start: int) -> int:
    """Position after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.finditer(r'[()]|"[^"]*"', text[start:]):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return start + found.end()
    raise ValueError(f"unbalanced: {text[:80]}")


def _split(text: str) -> list[str]:
    """Parts of the text between the commas that are in no bracket."""
    parts = re.findall(r"(?:[^,\[\](){}]|\[[^\]]*\]|\{[^}]*\}|\((?:[^()]|\([^()]*\))*\))+", text)
    return [part for part in parts if part.strip()]
