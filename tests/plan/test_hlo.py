import jax
import jax.numpy as jnp
import pytest

from jaxscore.plan import hlo

TEXT = """HloModule jit_f, is_scheduled=true, num_partitions=4

%inner.1 (p: f32[3]) -> f32[3] {
  ROOT %p = f32[3]{0} parameter(0)
}

ENTRY %main.7 (a: f32[3], b: bf16[2,4]) -> (f32[3], bf16[2,4]) {
  %a = f32[3]{0:T(128)S(1)} parameter(0), metadata={op_name="it(\\'a\\')"}
  %b = bf16[2,4]{1,0:T(8,128)(2,1)} parameter(1)
  %c = (f32[3]{0}, /*index=1*/bf16[2,4]{1,0}) custom-call(%a, /*index=1*/%b), custom_call_target="x (y"
  %d = f32[3]{0} get-tuple-element(%c), index=0
  %e = f32[3]{0} fusion(f32[3]{0} %d), kind=kLoop, calls=%inner.1
  %n = s32[] constant(-12)
  ROOT %t = (f32[3]{0}, bf16[2,4]{1,0}) tuple(%e, %b)
}
"""


@pytest.fixture(scope="module")
def program():
    return hlo.parse(TEXT)


def test_computations_and_their_results_are_found(program):
    assert set(program.computations) == {"inner.1", "main.7"}
    assert program.entry_name == "main.7"
    assert program.roots == {"inner.1": "p", "main.7": "t"}
    assert "num_partitions=4" in program.header


def test_instructions_have_shapes_operands_and_attributes(program):
    entry = program.entry
    call = entry["c"]
    assert (call.opcode, call.operands) == ("custom-call", ("a", "b"))
    assert [shape.dims for shape in call.shapes] == [(3,), (2, 4)]
    assert entry["e"].operands == ("d",)
    assert (entry["e"].called("calls"), entry["e"].called("body")) == ("inner.1", None)
    assert [entry[name].number for name in ("d", "b", "n")] == [0, 1, -12]


def test_bytes_are_those_of_whole_tiles_in_either_memory(program):
    """The arrays of a network need no padding of tiles."""
    a, b, d = (program.entry[name].shapes[0] for name in "abd")
    assert (a.bytes, a.unpadded_bytes, a.on_chip) == (128 * 4, 12, True)
    assert (b.bytes, b.unpadded_bytes, b.on_chip) == (8 * 128 * 2, 16, False)
    assert d.bytes == 12


@pytest.mark.parametrize(
    ("dtype", "bits"), [("f32", 32), ("bf16", 16), ("pred", 8), ("s4", 4), ("f8e4m3fn", 8), ("c64", 64)]
)
def test_types_have_their_sizes(dtype, bits):
    assert hlo.bits(dtype) == bits
    assert hlo.Shape(dtype, (3,), "").bytes == -(-3 * bits // 8)


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nothing here")


def test_a_compiled_program_is_read_to_the_last_instruction():
    loop = lambda x: jax.lax.fori_loop(0, 3, lambda i, x: jnp.sin(x) @ x, x)
    text = jax.jit(lambda x: (loop(x), jnp.sort(x[0]))).lower(jnp.ones((4, 4))).compile().as_text()
    program = hlo.parse(text)
    assert sum(len(c) for c in program.computations.values()) == text.count(" = ") - text.count('{" = "')
    for name, computation in program.computations.items():
        assert program.roots[name] in computation
        for instruction in computation.values():
            if instruction.opcode not in ("constant", "parameter"):
                assert set(instruction.operands) <= set(computation)
