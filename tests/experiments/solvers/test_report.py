import pytest

from experiments.solvers import report
from tests.experiments.pictures import ink

CONVERGED = {"frechet": 1.0, "low": 0.8, "high": 1.2}


def row(sampler, budget, evaluations, frechet, **further):
    found = {"sampler": sampler, "budget": budget, "evaluations": evaluations, "seconds": 0.1 * evaluations}
    return found | {"frechet": frechet, "low": frechet / 2, "high": 2 * frechet} | further


ROWS = [
    row("euler", 4, 4, 9.0, rms=0.5, same_class=0.25),
    row("heun", 4, 3, 8.0, rms=0.25, same_class=0.5),
    row("ancestral", 4, 4, 7.0),
    row("euler", 8, 8, 2.0, rms=0.125, same_class=0.75),
    row("heun", 8, 7, 1.125, rms=0.0625, same_class=1.0),
    row("adaptive 0.001", None, 31.5, 1.0, rms=0.001, same_class=1.0),
]


def test_a_table_has_a_column_for_each_budget():
    lines = report.tables(ROWS, CONVERGED).splitlines()
    assert [line.split() for line in lines[:5] if "---" not in line] == [
        ["Frechet", "distance", "4", "8"],
        ["euler", "9", "2"],
        ["heun", "8", "1.12"],
        ["ancestral", "7"],
    ]
    assert ["heun", "0.25", "0.0625"] in [line.split() for line in lines]
    assert ["0.001", "31.5", "3.15", "1", "0.001", "1"] in [line.split() for line in lines]
    assert sum(line.startswith("ancestral") for line in lines) == 1  # it does not follow the flow


def test_the_cheapest_of_the_good_samplers_is_recommended():
    assert report.recommendation(ROWS, CONVERGED).endswith("heun, 7 evaluations: 1.12")
    assert report.recommendation(ROWS[:3], CONVERGED).startswith("no sampler comes within 1.2 times")


@pytest.mark.parametrize("rows", [ROWS, ROWS[:-1]])
def test_the_picture_has_a_line_for_each_sampler(tmp_path, rows):
    report.picture(rows, CONVERGED, tmp_path / "solvers.png")
    assert ink(tmp_path / "solvers.png") > 0.02
