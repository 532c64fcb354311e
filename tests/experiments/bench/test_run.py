"""The table and the file of all figures."""

import json

import jax

from experiments.bench import run as bench
from experiments.bench import sampling, scaling, training, workloads
from experiments.common.timing import Spread
from tests.experiments.bench import tiny


def test_the_table_and_the_file_have_every_figure(tmp_path, monkeypatch, capsys):
    spread = Spread(1.0, 2.0, 3.0, 9)
    monkeypatch.setattr(sampling, "ratios", lambda batch, repeats: {"forward pass, ms": 4.0})
    monkeypatch.setattr(training, "measure", lambda *a, **k: {"training step, ms": spread})
    monkeypatch.setattr(sampling, "measure", lambda *a, **k: {"sampling, images/s": spread})
    rows = [{"devices": 8, "fsdp": fsdp, "sent_bytes": 8e6, "flops": 1} for fsdp in (1, 8)]
    monkeypatch.setattr(scaling, "DEVICES", (8,))
    monkeypatch.setattr(scaling, "measure", lambda name: rows)
    monkeypatch.setitem(workloads.WORKLOADS, "digits", tiny.workload)
    out = tmp_path / "bench.json"
    bench.measure(bench.Config(workloads=("digits",), out=out))
    printed = capsys.readouterr().out
    assert "digits: training step, ms" in printed
    assert "1.000..3.000" in printed
    assert printed.splitlines()[-1].split() == ["8", "devices", "8.000", "8.000"]
    stored = json.loads(out.read_text())
    assert stored["figures"]["digits: training step, ms"] == spread._asdict()
    assert stored["figures"]["forward pass, ms"] == 4.0
    assert stored["scaling"] == {"digits": rows}
    assert stored["jax"] == jax.__version__
    assert "8 x" in stored["device"]
