from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxscore.plan import hlo, loops

X = jnp.ones((8, 8))


def visited(lowered, opcode, compiled=True):
    """The visits of `opcode`, of a program as XLA's CPU compiler has it or as it was before any pass."""
    text = lowered.compile().as_text() if compiled else lowered.as_text(dialect="hlo")
    return [visit for visit in loops.visits(hlo.parse(text)) if visit.instruction.opcode == opcode]


def times(function, *arguments):
    """How often a sine is computed after all passes and before any."""
    lowered = jax.jit(function).lower(*arguments)
    found = [visited(lowered, "sine", compiled) for compiled in (True, False)]
    assert all(visit.known for visits in found for visit in visits)
    return [sum(visit.times for visit in visits) for visits in found]


def test_loops_in_loops_multiply():
    inner = lambda x: jax.lax.fori_loop(0, 5, lambda i, x: jnp.sin(x) @ x, x)
    outer = lambda x: jax.lax.fori_loop(2, 9, lambda i, x: inner(inner(x)), x)
    assert times(outer, X) == [70, 70]
    scan = lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=11)[0]
    assert times(scan, X) == [11, 11]


@pytest.mark.parametrize(
    ("start", "stop", "step", "expected"), [(0, 10, 3, 4), (10, 0, -2, 5), (3, 3, 1, 0), (-4, 5, 4, 3)]
)
def test_counters_may_start_anywhere_and_go_either_way(start, stop, step, expected):
    before = (lambda i: i < stop) if step > 0 else (lambda i: i > stop)
    body = lambda carry: (carry[0] + step, jnp.sin(carry[1]) @ carry[1])
    loop = lambda x: jax.lax.while_loop(lambda carry: before(carry[0]), body, (start, x))[1]
    assert times(loop, X)[1] == expected  # before XLA removes what never runs


CARRIED = """HloModule m

%condition (c: (s32[], s32[], s32[])) -> pred[] {
  %c = (s32[], s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %n = s32[] get-tuple-element(%c), index=1
  ROOT %less = pred[] compare(%n, %i), direction=DIRECTION
}

%body (b: (s32[], s32[], s32[])) -> (s32[], s32[], s32[]) {
  %b = (s32[], s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%b), index=0
  %n = s32[] get-tuple-element(%b), index=1
  %x = s32[] get-tuple-element(%b), index=2
  %two = s32[] constant(2)
  %more = s32[] add(%i, %two)
  %y = s32[] negate(%x)
  ROOT %t = (s32[], s32[], s32[]) tuple(%more, BOUND, %y)
}

ENTRY %main (x: s32[]) -> s32[] {
  %x = s32[] parameter(0)
  %start = s32[] START
  %stop = s32[] constant(9)
  %init = (s32[], s32[], s32[]) tuple(%start, %stop, %x)
  %loop = (s32[], s32[], s32[]) while(%init), condition=%condition, body=%body
  ROOT %result = s32[] get-tuple-element(%loop), index=2
}
"""


def carried(start="constant(0)", bound="%n", direction="GT"):
    text = CARRIED.replace("START", start).replace("BOUND", bound).replace("DIRECTION", direction)
    visits = list(loops.visits(hlo.parse(text)))
    (known,) = (v.known for v in visits if v.instruction.opcode == "while")
    (often,) = (v.times for v in visits if v.instruction.opcode == "negate" and v.scope.name == "body")
    return known, often


def test_the_bound_may_be_carried_along():
    assert carried() == (True, 5)
    assert carried(direction="GE") == (True, 5)  # 0, 2, 4, 6, 8
    assert carried(start="constant(1)", direction="NE") == (True, 4)
    assert carried(start="constant(1)", direction="GE") == (True, 5)  # 1, 3, 5, 7, 9


@pytest.mark.parametrize(
    "changes",
    [
        {"start": "abs(%x)"},  # the start is an argument
        {"bound": "%more"},  # the bound moves
        {"direction": "LT"},  # the counter moves away from it
        {"direction": "NE"},  # it steps over it
        {"direction": "EQ"},
    ],
)
def test_a_loop_of_unknown_length_counts_once_and_is_told(changes):
    assert carried(**changes) == (False, 1)


def test_a_loop_that_ends_by_its_data_is_told():
    loop = lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: jnp.sin(x) + x, x)
    assert [visit.known for visit in visited(jax.jit(loop).lower(X), "while")] == [False]


def test_of_two_branches_the_dearer_one_counts():
    dear = lambda x: jnp.sin(jnp.sin(x) @ x)
    choose = lambda flag, x: jax.lax.cond(flag, dear, lambda x: x, x)
    assert times(choose, True, X) == [2, 2]
    switch = lambda number, x: jax.lax.switch(number, [lambda x: x, jnp.sin, dear], x)
    assert times(switch, 0, X) == [2, 2]


def test_what_is_within_a_fusion_is_told():
    lowered = jax.jit(lambda x: jnp.sum(jnp.sin(x) * 2)).lower(X)
    assert [visit.fused for visit in visited(lowered, "sine")] == [True]
    program = hlo.parse(lowered.compile().as_text())
    assert not any(v.fused for v in loops.visits(program) if v.scope.name == program.entry_name)


def test_a_loop_in_a_called_function_knows_the_callers_constants():
    inner = jax.jit(lambda n, x: jax.lax.fori_loop(0, n, lambda i, x: jnp.sin(x), x))
    assert times(partial(inner, 6), X)[0] == 6
