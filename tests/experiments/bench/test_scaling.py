"""Bytes that a device sends in a step, by the number of devices."""

import pytest

from experiments.bench import scaling
from tests.experiments.bench import tiny


def test_a_device_sends_the_gradient_twice_as_devices_grow(monkeypatch):
    monkeypatch.setattr(scaling, "DEVICES", (1, 8))
    rows = scaling.exchanged(tiny.workload(), each=2)
    assert [(row["devices"], row["fsdp"]) for row in rows] == [(1, 1), (8, 1), (8, 8)]
    size = 4 * (3 * 8 + 8 + 8 * 2)
    for row in rows:
        n = row["devices"]
        whole = row["sent_bytes"] / (2 * (n - 1) / n) if n > 1 else size
        assert size <= whole <= size + 64  # the gradient, and with it the metrics
        assert row["flops"] == rows[0]["flops"]  # weak: as many images for each device


def test_weak_scaling_has_a_process_of_simulated_devices(monkeypatch):
    seen = {}

    def run(command, env, **options):
        seen.update(env)
        return scaling.subprocess.CompletedProcess(command, 0, 'noise\n[{"devices": 1}]\n', "")

    monkeypatch.setattr(scaling.subprocess, "run", run)
    assert scaling.measure("digits") == [{"devices": 1}]
    assert seen["XLA_FLAGS"] == "--xla_force_host_platform_device_count=8"
    assert int(seen["NPROC"]) >= 16
    failed = scaling.subprocess.CompletedProcess([], 1, "", "trace\nValueError: no")
    monkeypatch.setattr(scaling.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(RuntimeError, match="weak scaling of digits: ValueError: no"):
        scaling.measure("digits")
