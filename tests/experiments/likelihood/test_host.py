"""SciPy's solver and ours have the same log densities, with the same probes."""

import numpy as np

from experiments import digits
from experiments.likelihood import Config, host, run
from jaxscore import launch


def test_the_host_has_the_same_densities(tmp_path):
    trained = tmp_path / "run"
    config = digits.Config(workdir=trained, mode="train", steps=2, width=8, depth=1)
    launch.run(digits.build(config), trained, mode="train")
    flags = Config(run=trained, workdir=tmp_path / "out", examples=3, tolerance=1e-5)
    opened = run.opened(trained)
    sets = run.chosen(flags, opened)
    problem = run.posed(flags, opened, sets)
    x, labels = sets["training examples"]
    rows = host.compared(problem, x, problem.numbers(labels))
    assert [row["way"] for row in rows] == list(dict.fromkeys(row["way"] for row in rows))
    for row in rows:
        assert row["rms"] < 0.05  # of log densities of about 30 nats
        assert row["seconds"] > 0
    text = host.table(rows)
    assert text.splitlines()[2].split()[-2] == "1.00"
    assert np.isfinite(float(text.splitlines()[4].split()[-1]))
