"""Tables and pictures of given distances."""

import numpy as np

from experiments.posterior import report
from tests.experiments.pictures import ink

ROW = {"evaluations": 50.0, "seconds": 0.5}
CELLS = [
    {
        "dimensions": d,
        "measurements": m,
        "rows": [
            ROW | {"method": "exact draws", "distances": [1.0, 2.0, 3.0]},
            ROW | {"method": "PiGDM", "distances": [5.0, None, 7.0]},
            ROW | {"method": "particles, 4", "distances": [4.0, 4.0, 4.0]},
            ROW | {"method": "particles, 16", "distances": [None, None, None]},
        ],
    }
    for d in (8, 80)
    for m in (1, 2)
]


def test_the_table_has_means_intervals_and_what_diverged():
    first, second = report.tables(CELLS).split("\n\n")
    lines = [line.split("  ") for line in first.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["sliced Wasserstein, D = 8", "1 measured", "2 measured", "evaluations", "seconds"]
    assert cells[2] == ["exact draws", "2.00 ± 1.13", "2.00 ± 1.13", "50", "0.50"]
    assert cells[3] == ["PiGDM", "median 7.00 (1 diverge)", "median 7.00 (1 diverge)", "50", "0.50"]
    assert cells[5][:3] == ["particles, 16", "all diverge", "all diverge"]
    assert "D = 80" in second


def test_one_number_has_a_line_for_each_method():
    text = report.one_number([{"method": "truth", "mean": 0.9174, "std": 0.2873}])
    assert "truth" in text
    assert "0.917" in text
    assert "0.287" in text


def test_pictures_are_drawn(tmp_path):
    report.picture(CELLS, tmp_path / "a.png")
    x = np.random.default_rng(0).normal(size=(50, 8))
    report.modes({f"{n}": x for n in range(7)}, 8 * x[:25], tmp_path / "b.png")
    assert ink(tmp_path / "a.png") > 0.005
    assert ink(tmp_path / "b.png") > 0.005
