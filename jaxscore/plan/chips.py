"""Peak rates of accelerators, each with the vendor's document that publishes them.

>>> v5e = find("TPU v5 lite")
>>> v5e.name, v5e.peak("bfloat16") / 1e12, v5e.memory_bytes / 2**30
('TPU v5e', 197.0, 16.0)
>>> find("a quantum abacus") is None
True
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """Peak rates of one chip: FLOP/s by the type that is multiplied, bytes, and bytes/s."""

    name: str
    kinds: tuple[str, ...]
    """Beginnings of `device.device_kind` in JAX, in lower case."""
    bfloat16: float | None
    """FLOP/s of dense products of bfloat16."""
    float32: float | None
    """FLOP/s of float32 products as JAX runs them by default; `float32_as` says how."""
    float32_as: str
    float32_highest: float | None
    """FLOP/s of float32 products with `jax.default_matmul_precision("highest")`."""
    memory_bytes: float | None
    memory_bandwidth: float | None
    """Bytes/s between main memory and core."""
    interconnect: float | None
    """Bytes/s that a chip sends over all its links to other chips, in one direction."""
    source: str

    def peak(self, precision: str) -> float | None:
        """FLOP/s of products of this type; None if it is not known.

        Types without a rate of their own get the rate of bfloat16, and float64 gets the rate of float32.
        """
        if precision.startswith("float32 ("):
            return self.float32_highest
        return self.float32 if precision.startswith(("float32", "float64")) else self.bfloat16


TERA, GIGA, GIB = 1e12, 1e9, 2**30
ONE_PASS = "one pass of bfloat16, JAX's default on TPU"
TF32 = "TensorFloat-32, JAX's default on this GPU"


def _tpu(name, kinds, bfloat16, memory, bandwidth, interconnect, document) -> Chip:
    # The matrix unit multiplies bfloat16; "highest" splits a float32 into three and takes six passes.
    peaks = bfloat16 * TERA, bfloat16 * TERA, ONE_PASS, bfloat16 * TERA / 6
    source = f"Google Cloud, Cloud TPU documentation, {document}"
    rates = bandwidth * GIGA, interconnect * GIGA
    return Chip(name, kinds, *peaks, memory * GIB, *rates, source)


def _nvidia(name, kinds, bfloat16, tf32, float32, memory, bandwidth, nvlink, document) -> Chip:
    peaks = bfloat16 * TERA, tf32 * TERA, TF32, float32 * TERA
    # The published figure of NVLink is the sum of both directions.
    rates = bandwidth * GIGA, nvlink / 2 * GIGA
    return Chip(name, kinds, *peaks, memory * GIGA, *rates, f"NVIDIA, {document}")


CHIPS: tuple[Chip, ...] = (
    _tpu("TPU v4", ("tpu v4",), 275, 32, 1200, 300, "TPU v4; interconnect: 2400 Gbps"),
    _tpu("TPU v5e", ("tpu v5 lite", "tpu v5e"), 197, 16, 819, 200, "TPU v5e; interconnect: 1600 Gbps"),
    _tpu("TPU v5p", ("tpu v5p", "tpu v5"), 459, 95, 2765, 600, "TPU v5p; interconnect: 4800 Gbps"),
    _tpu(
        "TPU v6e",
        ("tpu v6 lite", "tpu v6e"),
        *(918, 32, 1638, 400),
        "TPU v6e; interconnect: 800 GBps in both directions",
    ),
    _nvidia(
        "NVIDIA A100 80GB SXM",
        ("nvidia a100-sxm4-80gb", "a100-sxm4-80gb"),
        *(312, 156, 19.5, 80, 2039, 600),
        "A100 Tensor Core GPU datasheet (dense)",
    ),
    _nvidia(
        "NVIDIA A100 80GB PCIe",
        ("nvidia a100 80gb pcie",),
        *(312, 156, 19.5, 80, 1935, 600),
        "A100 Tensor Core GPU datasheet (dense; NVLink between two cards)",
    ),
    _nvidia(
        "NVIDIA A100 40GB",
        ("nvidia a100", "a100"),
        *(312, 156, 19.5, 40, 1555, 600),
        "A100 Tensor Core GPU datasheet (dense)",
    ),
    _nvidia(
        "NVIDIA H200",
        ("nvidia h200", "h200"),
        *(989.4, 494.7, 66.9, 141, 4800, 900),
        "H200 Tensor Core GPU datasheet (half of its figures, which are with sparsity)",
    ),
    _nvidia(
        "NVIDIA H100 PCIe",
        ("nvidia h100 pcie",),
        *(756, 378, 51, 80, 2000, 600),
        "H100 Tensor Core GPU datasheet (half of its figures, which are with sparsity)",
    ),
    _nvidia(
        "NVIDIA H100 SXM",
        ("nvidia h100 80gb hbm3", "nvidia h100"),
        *(989.4, 494.7, 66.9, 80, 3350, 900),
        "H100 Tensor Core GPU architecture whitepaper (dense)",
    ),
)
"""`find` returns the first chip that fits, so special kinds stand before general ones."""


def find(device_kind: str) -> Chip | None:
    """The chip with this name in JAX, or None if its peak rates are not known."""
    kind = device_kind.lower()
    return next((chip for chip in CHIPS if any(kind.startswith(start) for start in chip.kinds)), None)


def measured(name: str, product_flops: float, bandwidth: float | None = None) -> Chip:
    """Chip for a device that is in no table, from the measured FLOP/s of a matrix product of float32."""
    source = "measured here: a product of square float32 matrices"
    rate = product_flops
    return Chip(name, (), rate, rate, "as measured", rate, None, bandwidth, None, source)


def unknown(name: str) -> Chip:
    """Chip for a device of which no rate is known: it bounds nothing."""
    return Chip(name, (), None, None, "", None, None, None, None, "in no table of jaxscore.plan")
