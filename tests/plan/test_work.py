import jax
import jax.numpy as jnp
import pytest

from jaxscore.plan import hlo, loops, work

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def traffic(program):
    """The bytes of all the visits that are not fused with others."""
    visits = [visit for visit in loops.visits(program) if not visit.fused]
    bytes_of = lambda visit: work.traffic(program, visit.instruction, program.computations[visit.scope.name])
    return sum(visit.times * bytes_of(visit) for visit in visits)


def totals(function, *arguments, dialect=None):
    """Products, elementwise operations and bytes, and XLA's own operations and bytes."""
    lowered = jax.jit(function).lower(*arguments)
    compiled = lowered.compile()
    program = hlo.parse(compiled.as_text() if dialect is None else lowered.as_text(dialect=dialect))
    products = elementwise = 0
    for visit in loops.visits(program):
        computation = program.computations[visit.scope.name]
        products += visit.times * work.products(visit.instruction, computation)
        elementwise += visit.times * work.elementwise(visit.instruction, computation)
    moved = traffic(program)
    analysis = compiled.cost_analysis()
    return products, elementwise, moved, analysis["flops"], analysis["bytes accessed"]


@pytest.mark.parametrize("dialect", [None, "hlo"])
def test_matrix_products_take_two_operations_a_multiplication(dialect):
    x, y = jnp.ones((5, 30, 40)), jnp.ones((5, 40, 50))
    assert totals(jnp.matmul, x, y, dialect=dialect)[0] == 2 * 5 * 30 * 40 * 50
    transposed = lambda x, y: jnp.einsum("abc,dc->abd", x, y)
    assert totals(transposed, x, jnp.ones((50, 40)), dialect=dialect)[0] == 2 * 5 * 30 * 40 * 50


CONVOLUTIONS = {
    "same": {"padding": "SAME"},
    "valid": {"padding": "VALID"},
    "strided": {"padding": "SAME", "window_strides": (2, 2)},
    "dilated": {"padding": "SAME", "rhs_dilation": (2, 3)},
    "transposed": {"padding": ((2, 1), (1, 2)), "lhs_dilation": (2, 3)},
    "transposed, strided": {"padding": ((2, 2), (3, 1)), "lhs_dilation": (2, 3), "window_strides": (3, 2)},
    "lopsided": {"padding": ((0, 4), (3, 0))},
    "grouped": {"padding": "SAME", "feature_group_count": 2},
    "batch groups": {"padding": "SAME", "batch_group_count": 2},
}


def arrays(name):
    features = 3 if name == "grouped" else 6
    return jnp.ones((4, 9, 11, 6)), jnp.ones((3, 5, features, 8))


def convolution(name):
    options = {"window_strides": (1, 1), "dimension_numbers": DIMENSIONS} | CONVOLUTIONS[name]
    return lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, **options)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_counted_without_padding_as_by_xla(name):
    products, *_, theirs, _ = totals(convolution(name), *arrays(name), dialect="hlo")
    assert products == theirs > 0


def test_a_convolution_within_its_image_has_its_closed_form():
    products = totals(convolution("valid"), *arrays("valid"))[0]
    assert products == 2 * 4 * (9 - 2) * (11 - 4) * 3 * 5 * 6 * 8


def test_the_gradients_of_a_convolution_take_as_much_as_itself():
    apply, (x, kernel) = convolution("valid"), arrays("valid")
    gradient = jax.grad(lambda x, kernel: jnp.sum(apply(x, kernel) ** 2), argnums=(0, 1))
    products, *_, theirs, _ = totals(gradient, x, kernel)
    assert products == 3 * totals(apply, x, kernel)[0]
    # XLA counts one for every element as well: of 4 x 7 x 7 x 8 outputs and of what is around them.
    assert products == pytest.approx(theirs, rel=0.02)


LIBRARY = """ENTRY %main (x: f32[4,9,9,6], k: f32[3,3,6,8], y: f32[4,7,7,8]) -> f32[4,7,7,8] {
  %x = f32[4,9,9,6]{3,2,1,0} parameter(0)
  %k = f32[3,3,6,8]{3,2,1,0} parameter(1)
  %y = f32[4,7,7,8]{3,2,1,0} parameter(2)
  %forward = (f32[4,7,7,8], u8[0]) custom-call(%x, %k), window={size=3x3}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %input = (f32[4,9,9,6], u8[0]) custom-call(%y, %k), window={size=3x3}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convBackwardInput"
  %filter = (f32[3,3,6,8], u8[0]) custom-call(%x, %y), window={size=3x3}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convBackwardFilter"
  %a = f32[16,32]{1,0} constant({...})
  %b = f32[32,8]{1,0} constant({...})
  %gemm = (f32[16,8], s8[0]) custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %other = f32[16,8] custom-call(%a), custom_call_target="TopK"
  ROOT %r = f32[4,7,7,8] get-tuple-element(%forward), index=0
}
"""  # noqa: E501


def test_the_libraries_of_gpus_are_known_by_their_names():
    entry = hlo.parse(LIBRARY).entry
    counted = {name: work.products(instruction, entry) for name, instruction in entry.items()}
    whole = 2 * 4 * 7 * 7 * 3 * 3 * 6 * 8
    products = {"forward": whole, "input": whole, "filter": whole, "gemm": 2 * 16 * 32 * 8}
    assert counted == dict.fromkeys(counted, 0) | products


@pytest.mark.parametrize(
    ("types", "attributes", "expected"),
    [
        (("f32", "f32"), "", "float32"),
        (("f32", "bf16"), "", "bfloat16"),
        (("f32", "f32"), ", operand_precision={highest,highest}", "float32 (highest)"),
        (("bf16", "bf16"), ", operand_precision={highest,highest}", "bfloat16"),
    ],
)
def test_the_precision_is_that_of_the_narrower_operand(types, attributes, expected):
    text = f"""ENTRY %main (x: f32[2,2]) -> f32[2,2] {{
  %x = {types[0]}[2,2]{{1,0}} parameter(0)
  %y = {types[1]}[2,2]{{1,0}} parameter(1)
  ROOT %z = f32[2,2]{{1,0}} dot(%x, %y), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}{attributes}
}}
"""
    entry = hlo.parse(text).entry
    assert work.precision(entry["z"], entry) == expected


def test_elements_and_sums_are_counted_as_xla_counts_them():
    function = lambda x: jnp.sum(x * x + 1, axis=0) + 2
    _, elementwise, _, theirs, _ = totals(function, jnp.ones((64, 100)))
    assert elementwise == 2 * 6400 + 6300 + 100 == theirs


def test_bytes_are_operands_and_results_as_xla_counts_them():
    x, y = jnp.ones((64, 100)), jnp.ones((100, 32))
    function = lambda x, y: jnp.sin(x @ y)
    *_, moved, _, theirs = totals(function, x, y)
    # XLA may keep the product in a buffer of its own between the two: 2 x 8192 bytes more.
    assert moved == theirs


def test_only_the_slice_moves_of_what_is_sliced_or_updated():
    x, row = jnp.ones((1000, 128)), jnp.ones((1, 128))
    take = lambda x, i: jnp.sin(jax.lax.dynamic_slice_in_dim(x, i, 2))
    *_, moved, _, _ = totals(take, x, 3)
    assert moved <= 4 * (2 * 2 * 128) + 64  # read and written, and some indices
    change = jax.jit(lambda x, row, i: jax.lax.dynamic_update_slice_in_dim(x, row, i, 0), donate_argnums=0)
    assert traffic(hlo.parse(change.lower(x, row, 3).compile().as_text())) <= 4 * (2 * 128) + 64


VMEM = """ENTRY %main (x: f32[1024]) -> f32[1024] {
  %x = f32[1024]{0} parameter(0)
  %start = (f32[1024]{0:S(1)}, f32[1024]{0}, u32[]{:S(2)}) copy-start(%x)
  %near = f32[1024]{0:S(1)} copy-done(%start)
  %sine = f32[1024]{0:S(1)} sine(%near)
  ROOT %far = f32[1024]{0} copy(%sine)
}
"""


def test_what_stays_in_the_memory_of_the_core_is_free():
    program = hlo.parse(VMEM)
    moved = {
        name: work.traffic(program, instruction, program.entry) for name, instruction in program.entry.items()
    }
    assert moved == {"x": 0, "start": 4096, "near": 0, "sine": 0, "far": 4096}
