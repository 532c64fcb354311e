"""Cost of an instruction: floating-point operations, and bytes between main memory and core.

Products and elementwise operations are counted apart, because chips have different units for them. Products
are matrix products and convolutions, with 2 operations per multiplication and addition. Elementwise
operations count 1 per element of the result, as in XLA's cost analysis.

>>> from jaxscore.plan import hlo
>>> program = hlo.parse('''
... ENTRY %main (x: f32[2,3], y: f32[3,4]) -> f32[2,4] {
...   %x = f32[2,3]{1,0} parameter(0)
...   %y = f32[3,4]{1,0} parameter(1)
...   ROOT %z = f32[2,4]{1,0} dot(%x, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}
... }
... ''')
>>> products(program.entry["z"], program.entry), traffic(program, program.entry["z"], program.entry)
(48, 104)
"""

import itertools
import math
import re

from jaxscore.plan.hlo import Instruction, Program, Shape

Computation = dict[str, Instruction]

ELEMENTWISE = {
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "compare", "complex", "convert",
    "cosine", "divide", "erf", "exponential", "exponential-minus-one", "floor", "imag", "is-finite",
    "log", "log-plus-one", "logistic", "maximum", "minimum", "multiply", "negate", "not", "or",
    "popcnt", "power", "real", "remainder", "round-nearest-afz", "round-nearest-even", "rsqrt",
    "select", "shift-left", "shift-right-arithmetic", "shift-right-logical", "sign", "sine", "sqrt",
    "subtract", "tan", "tanh", "xor",
}  # fmt: skip

NOTHING_MOVED = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "async-start", "async-update", "async-done", "copy-done", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency", "all-gather-done", "all-reduce-done",
    "collective-permute-done", "slice-done", "domain",
}  # fmt: skip


# Operations -----------------------------------------------------------------------------------


def products(instruction: Instruction, computation: Computation) -> int:
    """Operations of a matrix product or a convolution; 0 for any other instruction.

    A product of [b, m, k] and [b, k, n] takes 2 b m n k operations. A convolution takes twice its output
    elements, times the input features of a group, times the window elements that meet an input element: those
    that meet padding or the holes of a dilated input do not count.
    """
    shapes = _operand_shapes(instruction, computation)
    if instruction.opcode == "dot":
        axes = _numbers(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        return 2 * instruction.shapes[0].size * math.prod(shapes[0].dims[axis] for axis in axes)
    if instruction.opcode == "convolution":
        return _convolution(instruction, shapes[0], shapes[1], instruction.shapes[0])
    if instruction.opcode == "custom-call":
        return _library(instruction, shapes)
    return 0


def precision(instruction: Instruction, computation: Computation) -> str:
    """Type that a product multiplies: that of its narrower operand, or "float32 (highest)" if asked for."""
    shapes = _operand_shapes(instruction, computation)
    names = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "f64": "float64"}
    narrow = min(shapes[:2], key=lambda shape: int(re.search(r"\d+|$", shape.dtype)[0] or 0)).dtype
    asked = re.search(r"operand_precision=\{(\w+)", instruction.attributes)
    exact = narrow == "f32" and asked and asked[1] == "highest"
    return names.get(narrow, narrow) + (f" ({asked[1]})" if exact else "")


def elementwise(instruction: Instruction, computation: Computation) -> int:
    """Operations on elements: one per element of the result; for a sum, one per addition."""
    if instruction.opcode in ELEMENTWISE:
        return instruction.shapes[0].size
    shapes = _operand_shapes(instruction, computation)
    results = sum(shape.size for shape in instruction.shapes)
    if instruction.opcode == "reduce":
        return sum(shape.size for shape in shapes[: len(instruction.shapes)]) - results
    if instruction.opcode == "reduce-window":
        return results * (math.prod(_window(instruction, "size")) - 1)
    return 0


def _library(instruction: Instruction, shapes: list[Shape]) -> int:
    """Operations of products that call cuBLAS or cuDNN, in XLA's notation for GPUs."""
    target = re.search(r'custom_call_target="__(cublas|cudnn)\$([\w$]*)"', instruction.attributes)
    if not target:
        return 0
    if target[1] == "cublas":
        axes = re.search(r'"lhs_contracting_dimensions":\[([\d",]*)\]', instruction.attributes)
        axes = [int(axis) for axis in re.findall(r"\d+", axes[1])] if axes else []
        return 2 * instruction.shapes[0].size * math.prod(shapes[0].dims[axis] for axis in axes)
    # The labels describe the forward convolution. A backward one computes another of its three arrays.
    result = instruction.shapes[0]
    if target[2].startswith("convBackwardInput"):
        return _convolution(instruction, result, shapes[1], shapes[0])
    if target[2].startswith("convBackwardFilter"):
        return _convolution(instruction, shapes[0], result, shapes[1])
    return _convolution(instruction, shapes[0], shapes[1], result) if target[2].startswith("conv") else 0


def _convolution(instruction: Instruction, image: Shape, kernel: Shape, result: Shape) -> int:
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    image_labels, kernel_labels, result_labels = labels[1], labels[2], labels[3]
    at = lambda shape, labels, label: shape.dims[labels.index(label)]
    spatial = sorted(label for label in kernel_labels if label.isdigit())
    window = {}
    for name in ("size", "stride", "lhs_dilate", "rhs_dilate"):
        window[name] = _window(instruction, name) or [1] * len(spatial)
    low = re.search(r"\bpad=([\d_\-x]+)", instruction.attributes)
    low = [int(pair.split("_")[0]) for pair in low[1].split("x")] if low else [0] * len(spatial)
    pairs = 1
    for axis, label in enumerate(spatial):
        sizes = at(image, image_labels, label), at(result, result_labels, label)
        pairs *= _pairs(*sizes, low[axis], *(window[name][axis] for name in window))
    groups = lambda name: _numbers(rf"{name}_group_count=(\d+)", instruction.attributes) or [1]
    batch = at(result, result_labels, "b") * at(kernel, kernel_labels, "o")
    # With batch groups, the sum runs over the batch, and a group of output features sees its part of it.
    batch = batch * at(image, image_labels, "b") // at(result, result_labels, "b") // groups("batch")[0]
    return 2 * batch * at(kernel, kernel_labels, "i") * pairs


def _pairs(image, result, low, size, stride, image_dilation, kernel_dilation) -> int:
    """Pairs of an output element and a window element that meet an input element, along one axis."""
    last = (image - 1) * image_dilation
    count = 0
    for offset in range(size):
        # Positions are stride * p + shift for p = 0, ..., result - 1; those in 0..last on the grid count.
        shift = offset * kernel_dilation - low
        first = max(0, -(shift // stride))
        final = min(result - 1, (last - shift) // stride)
        if final >= first:
            period = image_dilation // math.gcd(stride, image_dilation)
            hits = (p for p in range(first, min(final, first + period - 1) + 1))
            meeting = next((p for p in hits if (stride * p + shift) % image_dilation == 0), None)
            count += 0 if meeting is None else (final - meeting) // period + 1
    return count


def _window(instruction: Instruction, name: str) -> list[int]:
    found = re.search(rf"window=\{{[^}}]*\b{name}=([\dx]+)", instruction.attributes)
    return [int(n) for n in found[1].split("x")] if found else []


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    return [int(n) for n in found[1].split(",") if n] if found else []


def _operand_shapes(instruction: Instruction, computation: Computation) -> list[Shape]:
    known = (computation[name].shapes for name in instruction.operands if name in computation)
    return list(itertools.chain.from_iterable(known))


# Bytes ----------------------------------------------------------------------------------------


def traffic(program: Program, instruction: Instruction, computation: Computation) -> int:
    """Bytes that an instruction outside a fusion reads from and writes to the chip's main memory.

    Operands count once and results count once. If only a slice is read, or updated in place, only the slice
    counts. Arrays in the memory of the chip's core do not count.
    """
    if instruction.opcode in NOTHING_MOVED:
        return 0
    if instruction.opcode in ("copy-start", "slice-start"):  # the result lists target and source
        source = _operand_shapes(instruction, computation)[0]
        target = instruction.shapes[0]
        return target.bytes * ((not target.on_chip) + (not source.on_chip))
    updated = _updates(program, instruction, computation)
    moved = sum(
        0 if shape.on_chip else updated.get(place, shape.bytes)
        for place, shape in enumerate(instruction.shapes)
    )
    for number, name in enumerate(instruction.operands):
        shapes = computation[name].shapes if name in computation else ()
        whole = sum(shape.bytes for shape in shapes if not shape.on_chip)
        moved += min(whole, _read_by(program, instruction, number, computation)) if whole else 0
    return moved


def _read(program: Program, name: str, value: str) -> int:
    """Bytes of the array `value` that the instructions of the computation `name` read."""
    computation = program.computations[name]
    whole = sum(shape.bytes for shape in computation[value].shapes)
    if program.roots[name] == value:
        return whole
    uses = (
        (user, place)
        for user in computation.values()
        for place, of in enumerate(user.operands)
        if of == value
    )
    return min(whole, sum(_read_by(program, user, place, computation, name) for user, place in uses))


def _read_by(program: Program, user: Instruction, number: int, computation, name: str = "") -> int:
    """Bytes of operand `number` that one instruction reads."""
    whole = sum(shape.bytes for shape in computation[user.operands[number]].shapes)
    if user.opcode in ("dynamic-slice", "slice", "gather") and number == 0:
        return user.shapes[0].bytes
    if user.opcode == "dynamic-update-slice" and number == 0:
        return 0  # overwritten, not read
    if user.opcode == "scatter" and number == 0:
        return computation[user.operands[2]].shapes[0].bytes
    if user.opcode == "bitcast" and name:
        return _read(program, name, user.name)
    if user.opcode == "fusion":
        inner = user.called("calls")
        parameters = program.computations[inner].values()
        value = next(i.name for i in parameters if i.opcode == "parameter" and i.number == number)
        return _read(program, inner, value)
    return whole


def _updates(program: Program, instruction: Instruction, computation: Computation) -> dict[int, int]:
    """Bytes of the update, for each result that is an update in place."""
    results = (instruction.name,)
    if instruction.opcode == "fusion":
        inner = instruction.called("calls")
        computation, root = program.computations[inner], program.computations[inner][program.roots[inner]]
        results = root.operands if root.opcode == "tuple" else (root.name,)
    found = {}
    for place, result in enumerate(results):
        last = computation[result]
        while last.opcode in ("bitcast", "copy", "convert") and instruction.opcode == "fusion":
            last = computation[last.operands[0]]
        if last.opcode in ("dynamic-update-slice", "scatter"):
            update = last.operands[1 if last.opcode == "dynamic-update-slice" else 2]
            found[place] = computation[update].shapes[0].bytes
    return found
