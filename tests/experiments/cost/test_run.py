import json

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cost import run as cost
from experiments.cost import steps as cost_steps
from experiments.cost.steps import AT_ONCE, IMPLICIT, SLICED, Step
from tests.experiments.pictures import aspect, ink

MEGABYTE = 1_000_000


def test_ratios_are_taken_round_by_round():
    row = cost.timed([2.0, 20.0, 6.0], [1.0, 10.0, 2.0])
    assert row == {"seconds": 6.0, "runs": 3, "ratio": 2.0, "ratio_quartiles": [2.0, 2.5]}
    row = cost.timed([8.0], [1.0, 10.0, 2.0])  # fewer rounds: against the median
    assert row == {"seconds": 8.0, "runs": 1, "ratio": 4.0, "ratio_quartiles": [4.0, 4.0]}


def test_exponents_are_those_of_large_dimensions():
    rows = [
        {"objective": IMPLICIT, "size": size, "seconds": 3 * size**1.5 if size >= 256 else 1e6}
        for size in (16, 255, 256, 512, 4096)
    ]
    rows.append({"objective": IMPLICIT, "size": 8192, "left_out": "too slow"})
    assert cost.exponent(rows, IMPLICIT, "seconds") == pytest.approx(1.5)
    assert cost.exponent(rows[:3], IMPLICIT, "seconds") is None
    assert cost.exponent(rows, SLICED, "seconds") is None


def test_the_product_has_a_speed():
    assert 0 < cost.product_gflops(32) < np.inf


# The run --------------------------------------------------------------------------------------


def pretend(config, size):
    """Steps that do nothing, with memory that grows with D."""
    step = lambda memory: Step(lambda: jnp.zeros(()), 0.5, memory)
    return {
        name: step(MEGABYTE * (size if name == AT_ONCE else 1)) for name in cost_steps.losses(config, size)
    }


def pretended_seconds(jobs, repeats):
    """Half a second times the number of objectives, thrice."""
    return {name: [0.5 * (number + 1)] * 3 for number, name in enumerate(jobs)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a pretended run returned, its folder, and the lines it printed."""
    folder, said = tmp_path_factory.mktemp("cost") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_steps, "compiled", pretend)
        patch.setattr(cost_steps, "timings", pretended_seconds)
        patch.setattr(cost, "product_gflops", lambda: 99.0)
        patch.setattr(cost.console, "say", said.append)
        config = cost.Config(workdir=folder, sizes=(1024, 512, 8192, 512), width=16, seconds_limit=10)
        found = cost.run(config)
    return found, folder, "\n".join(said).splitlines()


def test_a_run_has_a_row_for_each_size_and_objective(run):
    found, folder, _ = run
    assert {path.name for path in folder.iterdir()} == {"config.json", "cost.json", "cost.png"}
    assert json.loads((folder / "cost.json").read_text()) == found
    assert json.loads((folder / "config.json").read_text())["experiment"] == "cost"
    assert found["matrix product, GFLOP/s"] == 99.0
    labels = [(row["size"], row["objective"]) for row in found["rows"]]
    assert labels == [(size, name) for size in (512, 1024, 8192) for name in cost.COLORS]
    ratios = [row["ratio"] for row in found["rows"] if row["size"] == 512]
    assert ratios == [1, 2, 3, 4, 5]
    assert found["exponents"]["temporary_bytes"][AT_ONCE] == pytest.approx(1)
    assert found["exponents"]["temporary_bytes"][IMPLICIT] == pytest.approx(0)
    assert found["exponents"]["seconds"][SLICED] == pytest.approx(0)


def test_what_is_left_out_is_said_and_keeps_its_memory(run):
    found, _, lines = run
    left = {(row["size"], row["objective"]): row for row in found["rows"] if row["left_out"]}
    assert set(left) == {(8192, IMPLICIT), (8192, AT_ONCE)}
    assert all("seconds" not in row and row["temporary_bytes"] > 0 for row in left.values())
    (slow,) = [line for line in lines if line.startswith("D = 8192, implicit: would take ")]
    assert slow.endswith("s a step, more than --seconds-limit 10; left out")
    assert "D = 8192, implicit, all at once: needs 8.19 GB, more than --memory-limit-gb 4; left out" in lines
    assert "a matrix product here: 99 GFLOP/s" in lines
    (ratios,) = [line for line in lines if line.startswith("D = 512") and "5.00" in line]
    assert ratios.split() == ["D", "=", "512", "1.00", "2.00", "3.00", "4.00", "5.00"]


def test_there_is_a_picture(run):
    assert ink(run[1] / "cost.png") > 0.02
    assert aspect(run[1] / "cost.png") > 1.8  # two panels
