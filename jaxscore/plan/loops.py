"""How often each instruction of a program runs: loops times their length, and the most expensive branch.

XLA's cost analysis counts the body of a loop once. A sampler is a loop, so XLA's count is the cost of one
step. XLA notes the length of a loop on CPU and GPU. On TPU the length is found from the condition, the start
and the increment of the counter.

    for visit in visits(hlo.parse(compiled.as_text())):
        total += visit.times * work(visit.instruction)

>>> import jax
>>> from jaxscore.plan import hlo
>>> loop = jax.jit(lambda x: jax.lax.fori_loop(0, 7, lambda i, x: jax.numpy.sin(x), x))
>>> program = hlo.parse(loop.lower(1.0).compile().as_text())
>>> max(visit.times for visit in visits(program))
7
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from jaxscore.plan.hlo import Instruction, Program

TRANSPARENT = {"copy", "bitcast", "convert", "reshape", "broadcast", "bitcast-convert"}
FLIPPED = {"LT": "GT", "LE": "GE", "GT": "LT", "GE": "LE", "NE": "NE"}


class Scope(NamedTuple):
    """A call of a computation: its name, the instruction that calls it, and the scope of this instruction."""

    name: str
    call: Instruction | None = None
    outer: "Scope | None" = None


class Carried(NamedTuple):
    """A value inside a loop: element `index` of the tuple that the loop carries, plus `offset`."""

    index: int
    offset: int


class Visit(NamedTuple):
    """An instruction, how often it runs, and whether it is part of a fusion."""

    instruction: Instruction
    scope: Scope
    times: int
    fused: bool
    known: bool = True
    """False for a loop whose length could not be found; its body counts once."""


def visits(program: Program, scope: Scope | None = None, times: int = 1, fused=False) -> Iterator[Visit]:
    """Every instruction that runs, including the instructions of called computations."""
    scope = scope or Scope(program.entry_name)
    for instruction in program.computations[scope.name].values():
        if instruction.opcode == "while":
            length = trip_count(program, instruction, scope)
            yield Visit(instruction, scope, times, fused, known=length is not None)
            repeated = times * (1 if length is None else length)
            for part in ("condition", "body"):
                yield from visits(program, _enter(instruction, part, scope), repeated, fused)
            continue
        yield Visit(instruction, scope, times, fused)
        if instruction.opcode == "conditional":
            yield from _dearest(program, instruction, scope, times, fused)
        elif instruction.opcode in ("fusion", "call", "async-start"):
            inner = _enter(instruction, "calls", scope) or _enter(instruction, "to_apply", scope)
            if inner:
                yield from visits(program, inner, times, fused or instruction.opcode == "fusion")


def _enter(instruction: Instruction, attribute: str, scope: Scope) -> Scope | None:
    name = instruction.called(attribute)
    return name and Scope(name, instruction, scope)


def _dearest(program, instruction, scope, times, fused) -> list[Visit]:
    """The branch that computes the most elements, because it is not known which branch runs."""
    listed = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    names = (
        listed[1].split(",")
        if listed
        else [instruction.called(f"{w}_computation") for w in ("true", "false")]
    )
    branches = [
        list(visits(program, Scope(name.strip().lstrip("%"), instruction, scope), times, fused))
        for name in names
    ]
    size = lambda branch: sum(v.times * sum(s.size for s in v.instruction.shapes) for v in branch)
    return max(branches, key=size)


# The length of a loop -------------------------------------------------------------------------


def trip_count(program: Program, loop: Instruction, scope: Scope) -> int | None:
    """How often the body of the loop runs, or None if constants do not determine it."""
    noted = re.search(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)', loop.attributes)
    if noted:
        return int(noted[1])
    condition = _enter(loop, "condition", scope)
    found = _root(program, condition)
    if found is None or found[0].opcode != "compare":
        return None
    compare, where = found
    direction = re.search(r"direction=(\w+)", compare.attributes)[1]
    left, right = (_bound(program, name, where, loop, scope) for name in compare.operands)
    if isinstance(right, Carried):
        left, right, direction = right, left, FLIPPED.get(direction)
    if not isinstance(left, Carried) or not isinstance(right, int) or direction not in FLIPPED:
        return None
    start = _initial(program, loop, scope, left.index)
    step = _after(program, loop, scope, left.index)
    if not isinstance(start, int) or not isinstance(step, Carried) or step.index != left.index:
        return None
    return _length(start + left.offset, right, step.offset, direction)


def _length(start: int, bound: int, step: int, direction: str) -> int | None:
    """How many of start, start + step, ... satisfy `value direction bound` before the first that does not."""
    if direction in ("GT", "GE"):
        start, bound, step = -start, -bound, -step
    if step <= 0 and direction != "NE":
        return None
    if direction == "NE":
        whole = step != 0 and (bound - start) % step == 0 and (bound - start) // step >= 0
        return (bound - start) // step if whole else None
    return max(0, -(-(bound + (direction in ("LE", "GE")) - start) // step))


def _root(program: Program, scope: Scope) -> tuple[Instruction, Scope] | None:
    """The instruction that makes the result of a computation, found through calls and copies."""
    name = program.roots.get(scope.name)
    while name is not None:
        instruction = program.computations[scope.name][name]
        if instruction.opcode in TRANSPARENT:
            name = instruction.operands[0]
        elif instruction.opcode in ("fusion", "call"):
            scope = _enter(instruction, "calls", scope) or _enter(instruction, "to_apply", scope)
            name = program.roots.get(scope.name)
        else:
            return instruction, scope
    return None


def _bound(program, name, where, loop, scope) -> int | Carried | None:
    """An operand of the condition. A carried value that the body does not change equals its initial value."""
    value = _value(program, name, where, loop)
    if isinstance(value, Carried) and _after(program, loop, scope, value.index) == Carried(value.index, 0):
        before = _initial(program, loop, scope, value.index)
        return before + value.offset if isinstance(before, int) else None
    return value


def _initial(program, loop, scope, index) -> int | Carried | None:
    """Element `index` of the carried tuple before the loop starts."""
    return _element(program, loop.operands[0], index, scope, None)


def _after(program, loop, scope, index) -> int | Carried | None:
    """Element `index` of the carried tuple after one pass of the body, in terms of the tuple before it."""
    body = _enter(loop, "body", scope)
    root = program.roots.get(body.name)
    return root and _element(program, root, index, body, loop)


def _element(program, name, index, scope, loop) -> int | Carried | None:
    """Element `index` of the tuple that the instruction `name` returns."""
    source = program.computations[scope.name].get(name)
    if source is None:
        return None
    if source.opcode == "tuple":
        return _value(program, source.operands[index], scope, loop)
    if source.opcode in ("copy", "opt-barrier"):
        return _element(program, source.operands[0], index, scope, loop)
    if source.opcode == "while":
        unchanged = _after(program, source, scope, index) == Carried(index, 0)
        return _initial(program, source, scope, index) if unchanged else None
    if source.opcode != "parameter" or scope.call is None:
        return None
    if scope.call.opcode != "while":
        return _element(program, scope.call.operands[source.number], index, scope.outer, loop)
    if scope.call is loop:
        return Carried(index, 0)
    # A parameter of an outer loop: an element that the outer loop does not change is a constant in this loop.
    unchanged = _after(program, scope.call, scope.outer, index) == Carried(index, 0)
    return _initial(program, scope.call, scope.outer, index) if unchanged else None


def _value(program, name, scope, loop) -> int | Carried | None:
    """A scalar: a constant, or a value that `loop` carries plus a constant."""
    instruction = program.computations[scope.name].get(name)
    if instruction is None:
        return None
    inside = lambda number: _value(program, instruction.operands[number], scope, loop)
    if instruction.opcode == "constant":
        return instruction.number if re.fullmatch(r"-?\d+", "".join(instruction.operands)) else None
    if instruction.opcode in TRANSPARENT:
        return inside(0)
    if instruction.opcode == "get-tuple-element":
        return _element(program, instruction.operands[0], instruction.number, scope, loop)
    if instruction.opcode == "parameter" and scope.call is not None and scope.call.opcode != "while":
        return _value(program, scope.call.operands[instruction.number], scope.outer, loop)
    if instruction.opcode in ("fusion", "call"):
        inner = _enter(instruction, "calls", scope) or _enter(instruction, "to_apply", scope)
        return _value(program, program.roots.get(inner.name), inner, loop)
    if instruction.opcode in ("add", "subtract"):
        return _sum(inside(0), inside(1), 1 if instruction.opcode == "add" else -1)
    return None


def _sum(left, right, sign) -> int | Carried | None:
    if isinstance(left, int) and isinstance(right, int):
        return left + sign * right
    if isinstance(left, Carried) and isinstance(right, int):
        return left._replace(offset=left.offset + sign * right)
    if isinstance(right, Carried) and isinstance(left, int) and sign > 0:
        return right._replace(offset=right.offset + left)
    return None
