import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxscore import sharding
from jaxscore.plan import exchange, hlo
from jaxscore.plan.exchange import Collective

AXES = ("data", "fsdp")


def exchanged(function, *, out=None):
    """The exchanges of a function of one row for each of the eight devices."""
    mesh = sharding.mesh()
    out = PartitionSpec(AXES) if out is None else out
    mapped = jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec(AXES), out_specs=out, check_vma=False)
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=sharding.batched(mesh))
    return exchange.collectives(hlo.parse(jax.jit(mapped).lower(x).compile().as_text()), devices=8)


ROW = 64 * 4
TO_THE_NEXT = [(i, (i + 1) % 8) for i in range(8)]
KINDS = {
    "all-reduce": (lambda x: jax.lax.psum(x, AXES), ROW, 2 * 7 / 8 * ROW, 8),
    "all-gather": (lambda x: jax.lax.all_gather(x, AXES), 8 * ROW, 7 / 8 * 8 * ROW, 8),
    "reduce-scatter": (lambda x: jax.lax.psum_scatter(x[0], AXES, tiled=True), ROW, 7 / 8 * ROW, 8),
    "all-to-all": (lambda x: jax.lax.all_to_all(x, "data", 1, 0, tiled=True), ROW, 7 / 8 * ROW, 8),
    "collective-permute": (lambda x: jax.lax.ppermute(x, "data", TO_THE_NEXT), ROW, ROW, 2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_with_its_bytes(kind):
    function, whole, wire, group = KINDS[kind]
    (found,) = exchanged(function)
    assert found == Collective(kind, whole, group, 1, False)
    assert found.wire_bytes == pytest.approx(wire)


def test_in_a_loop_it_counts_as_often_as_the_loop_is_long():
    step = lambda x, _: (jnp.sin(jax.lax.psum(x, "data")), None)
    (found,) = exchanged(lambda x: jax.lax.scan(step, x, length=5)[0])
    assert found == Collective("all-reduce", ROW, 8, 5, False)
    assert found.wire_bytes == pytest.approx(5 * 2 * 7 / 8 * ROW)


def test_a_tuple_of_arrays_is_one_exchange_of_their_sum():
    program = parsed("(f32[8]{0}, f32[4,4]{1,0}) all-reduce(%x, %y), replica_groups={{0,1},{2,3}}")
    assert exchange.collectives(program, devices=4) == [Collective("all-reduce", 32 + 64, 2, 1, False)]


PROGRAM = """%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %scattered = f32[2]{0} reduce-scatter(%p), channel_id=7, replica_groups=[2,4]<=[8]
}
ENTRY %main (x: f32[8], y: f32[4,4]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %y = f32[4,4]{1,0} parameter(1)
  %c = LINES
  ROOT %r = f32[8]{0} bitcast(%x)
}
"""


def parsed(*lines, **computations):
    """A program with an instruction %c and more; computations are empty unless they are given."""
    program = hlo.parse(PROGRAM.replace("LINES", "\n  ".join(lines)))
    program.computations.update({"other": {}} | computations)
    return program


GROUPS = {
    "replica_groups={{0,1,2},{3,4,5}}": 3,
    "replica_groups=[2,4]<=[8]": 4,
    "replica_groups=[4,2]<=[2,4]T(1,0)": 2,
    "replica_groups=mesh['a'=4,'b'=16] {'b'}": 16,
    "replica_groups=mesh['a'=1,'b'=4,'c'=4], device_ids=([4,4]T(1,0)) {'b','c'}": 16,
    "replica_groups={}": 64,
    "": 64,
}


@pytest.mark.parametrize("text", GROUPS)
def test_groups_are_read_however_they_are_written(text):
    (found,) = exchange.collectives(parsed(f"f32[8]{{0}} all-reduce(%x), {text}"), devices=64)
    assert found.group == GROUPS[text]


DONE = "%d = f32[8]{0} all-reduce-done(%c)"
WORK = "%w = f32[8]{0} fusion(%x), kind=kLoop, calls=%other"


@pytest.mark.parametrize(("lines", "hidden"), [((DONE, WORK), False), ((WORK, DONE), True)])
def test_computation_between_start_and_end_hides_an_exchange(lines, hidden):
    program = parsed("f32[8]{0} all-reduce-start(%x), channel_id=1", *lines)
    assert exchange.collectives(program, devices=8) == [Collective("all-reduce", 32, 8, 1, hidden)]


@pytest.mark.parametrize(("sync", "hidden"), [("", True), (', backend_config={"is_sync":true}', False)])
def test_an_exchange_that_is_wrapped_is_found_inside(sync, hidden):
    start = "((f32[8]{0}), f32[2]{0}) async-start(%x), calls=%inner" + sync
    program = parsed(start, WORK, "%d = f32[2]{0} async-done(%c)")
    assert exchange.collectives(program, devices=8) == [Collective("reduce-scatter", 32, 4, 1, hidden)]


@pytest.mark.parametrize("more", [[], ["%e = f32[2]{0} fusion(%x), calls=%again"]])
def test_one_channel_in_several_fusions_is_one_hidden_exchange(more):
    lines = "f32[2]{0} fusion(%x), calls=%inner", *more
    program = parsed(*lines, again=dict(parsed(*lines).computations["inner"]))
    hidden = bool(more)
    assert exchange.collectives(program, devices=8) == [Collective("reduce-scatter", 32, 4, 1, hidden)]


def test_on_tpu_a_fused_all_reduce_and_slice_is_a_reduce_scatter():
    """Channels do not tell the two apart."""
    names = ("all-reduce-scatter.1", "all-reduce-scatter.2")
    lines = f"f32[2]{{0}} fusion(%x), calls=%{names[0]}", f"%e = f32[2]{{0}} fusion(%x), calls=%{names[1]}"
    inner = parsed(*lines).computations["inner"]
    fused = {**inner, "scattered": inner["scattered"]._replace(opcode="all-reduce")}
    program = parsed(*lines, **dict.fromkeys(names, fused))
    expected = 2 * [Collective("reduce-scatter", 32, 4, 1, False)]
    assert exchange.collectives(program, devices=8) == expected


def test_one_device_exchanges_nothing():
    program = parsed("f32[8]{0} all-reduce(%x), replica_groups={{0}}")
    assert exchange.collectives(program, devices=1) == []
