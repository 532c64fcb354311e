from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxscore.plan import hlo, loops

X = jnp.ones((8, 8))


def times(function, *arguments, opcode="sine"):
    """How often `opcode` runs, as XLA's CPU compiler has it, and as it was before any pass."""
    lowered = jax.jit(function).lower(*arguments)
    found = []
    for text in (lowered.compile().as_text(), lowered.as_text(dialect="hlo")):
        visits = list(loops.visits(hlo.parse(text)))
        assert all(visit.known for visit in visits)
        found.append(sum(v.times for v in visits if v.instruction.opcode == opcode))
    return found


def test_a_scan_runs_as_often_as_it_is_long():
    scan = lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=11)[0]
    assert times(scan, X) == [11, 11]


def test_loops_in_loops_multiply():
    inner = lambda x: jax.lax.fori_loop(0, 5, lambda i, x: jnp.sin(x) @ x, x)
    outer = lambda x: jax.lax.fori_loop(2, 9, lambda i, x: inner(inner(x)), x)
    assert times(outer, X) == [70, 70]


@pytest.mark.parametrize(
    ("start", "stop", "step", "expected"), [(0, 10, 3, 4), (10, 0, -2, 5), (3, 3, 1, 0), (-4, 5, 4, 3)]
)
def test_counters_may_start_anywhere_and_go_either_way(start, stop, step, expected):
    before = (lambda i: i < stop) if step > 0 else (lambda i: i > stop)
    body = lambda carry: (carry[0] + step, jnp.sin(carry[1]) @ carry[1])
    loop = lambda x: jax.lax.while_loop(lambda carry: before(carry[0]), body, (start, x))[1]
    text = jax.jit(loop).lower(X).as_text(dialect="hlo")  # before XLA removes what never runs
    visits = list(loops.visits(hlo.parse(text)))
    assert sum(v.times for v in visits if v.instruction.opcode == "sine") == expected


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
    visits = list(loops.visits(hlo.parse(jax.jit(loop).lower(X).compile().as_text())))
    assert [v.known for v in visits if v.instruction.opcode == "while"] == [False]


def test_of_two_branches_the_dearer_one_counts():
    dear = lambda x: jnp.sin(jnp.sin(x) @ x)
    choose = lambda flag, x: jax.lax.cond(flag, dear, lambda x: x, x)
    assert times(choose, True, X) == [2, 2]
    switch = lambda number, x: jax.lax.switch(number, [lambda x: x, jnp.sin, dear], x)
    assert times(switch, 0, X) == [2, 2]


def test_what_is_within_a_fusion_is_told():
    text = jax.jit(lambda x: jnp.sum(jnp.sin(x) * 2)).lower(X).compile().as_text()
    visits = list(loops.visits(hlo.parse(text)))
    assert [v.fused for v in visits if v.instruction.opcode == "sine"] == [True]
    assert not any(v.fused for v in visits if v.scope.name == hlo.parse(text).entry_name)


def test_a_loop_in_a_called_function_knows_the_callers_constants():
    inner = jax.jit(lambda n, x: jax.lax.fori_loop(0, n, lambda i, x: jnp.sin(x), x))
    assert times(partial(inner, 6), X)[0] == 6
