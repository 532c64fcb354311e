import pytest

from jaxscore.plan import chips

KINDS = {
    "TPU v4": "TPU v4",
    "TPU v5 lite": "TPU v5e",
    "TPU v5e": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v5p": "TPU v5p",
    "TPU v6 lite": "TPU v6e",
    "NVIDIA A100-SXM4-40GB": "NVIDIA A100 40GB",
    "NVIDIA A100-SXM4-80GB": "NVIDIA A100 80GB SXM",
    "NVIDIA A100 80GB PCIe": "NVIDIA A100 80GB PCIe",
    "NVIDIA H100 80GB HBM3": "NVIDIA H100 SXM",
    "NVIDIA H100 PCIe": "NVIDIA H100 PCIe",
    "NVIDIA H200": "NVIDIA H200",
}


def test_jaxs_names_of_devices_are_known():
    assert {kind: chips.find(kind).name for kind in KINDS} == KINDS


def test_nothing_is_made_up_of_a_device_that_is_not_known():
    assert chips.find("cpu") is chips.find("TPU v9") is None
    chip = chips.unknown("abacus")
    assert chip.peak("float32") is chip.peak("bfloat16") is chip.memory_bandwidth is None


@pytest.mark.parametrize("chip", chips.CHIPS, ids=lambda chip: chip.name)
def test_every_figure_has_a_source_and_its_order_of_magnitude(chip):
    assert 1e14 < chip.bfloat16 < 2e15
    assert chip.float32_highest < chip.float32 <= chip.bfloat16
    assert 15e9 < chip.memory_bytes < 150e9
    assert 7e11 < chip.memory_bandwidth < 6e12
    assert 1e11 < chip.interconnect < 1e12
    assert chip.source.startswith(("Google Cloud, ", "NVIDIA, "))


def test_the_peak_is_that_of_the_precision():
    peaks = lambda kind, *precisions: [chips.find(kind).peak(precision) for precision in precisions]
    rates = peaks("TPU v5e", "bfloat16", "float32", "float32 (highest)")
    assert rates == [197e12, 197e12, pytest.approx(197e12 / 6)]
    rates = peaks("NVIDIA H100 80GB HBM3", "bfloat16", "float16", "float32", "float32 (highest)")
    assert rates == [989.4e12, 989.4e12, 494.7e12, pytest.approx(66.9e12)]


def test_a_measured_device_knows_what_was_measured_alone():
    here = chips.measured("cpu", 2e11)
    assert here.peak("float32") == here.peak("bfloat16") == 2e11
    assert here.memory_bandwidth is here.interconnect is here.memory_bytes is None
    assert "measured" in here.source
