"""The table and the pictures."""

import numpy as np
import pytest

from experiments.sbi import report
from tests.experiments.pictures import aspect, ink
from tests.experiments.sbi import tiny

HISTORY = [
    {"step": 2, "loss": 2.0, "steps_per_second": 4.0, "validation": 1.5},
    {"step": 3, "loss": 1.8, "steps_per_second": 2.0},
    {"step": 4, "loss": 1.7, "steps_per_second": 2.0, "validation": 1.4},
    {"step": 6, "loss": None, "steps_per_second": 4.0, "validation": 1.4},
]

SETTINGS = {"task": "slcp", "simulations": 30_000, "held_out": 1500, "dropped": 3, "outside": 0}
SETTINGS |= {"steps": 6, "best_step": 4, "training_seconds": 12.4}

COVERAGE = {"fraction": [0.52, 0.79, 0.95], "error": [0.05, 0.04, 0.02]}

FOUND = {
    "settings": SETTINGS,
    "c2st": {"draws": 10_000, "accuracies": [0.5, 0.6], "mean": 0.55, "error": 0.0035},
    "calibration": {"p_values": {"sbc": 0.2, "tarp": 0.031}, "sbc_coverage": COVERAGE},
}


def test_the_table_has_what_was_measured_and_what_is_exact():
    rows = report.table(FOUND)
    assert {len(row) for row in rows} == {3}
    assert ("C2ST with 10,000 draws, mean of 2 observations", "0.5500", "0.5 ± 0.0035") in rows
    assert ("  lowest and highest", "0.500, 0.600", "") in rows
    assert ("p-value, TARP", "0.031", "uniform in 0..1") in rows
    assert ("coverage of central intervals, 50%", "52.0%", "50% ± 5.0%") in rows
    assert ("simulations, held out, dropped", "30,000, 1,500, 3", "") in rows
    assert ("step of the checkpoint, steps, seconds", "4, 6, 12", "") in rows


def test_the_table_of_a_trial_has_no_accuracy():
    """And before the first checkpoint there is no best step."""
    trial = FOUND | {"c2st": {"draws": 0, "accuracies": []}, "settings": SETTINGS | {"best_step": None}}
    rows = report.table(trial)
    assert not any("C2ST" in row[0] for row in rows)
    assert ("step of the checkpoint, steps, seconds", "?, 6, 12", "") in rows


def test_the_best_line_is_the_newest_of_the_lowest():
    assert report.best(HISTORY)["step"] == 6
    assert report.best(HISTORY[:3])["step"] == 4
    assert report.best([]) == {}
    assert report.seconds(HISTORY) == pytest.approx(0.5 + 0.5 + 0.5 + 0.5)


@tiny.needs_package
@pytest.mark.parametrize(("task", "d"), [("two_moons", 2), ("slcp", 5)])
def test_pictures_show_something(tmp_path, task, d):
    rng = np.random.default_rng(0)
    ranks = {"sbc": rng.random((30, d)), "tarp": rng.random(30), "dropped": np.zeros(1, int)}
    theta = rng.uniform(-1, 1, (500, d)).astype(np.float32)
    paths = report.report(tiny.config(tmp_path, task), ranks, theta, HISTORY, tmp_path)
    assert [path.name for path in paths] == ["posterior.png", "calibration.png", "loss.png"]
    for path in paths:
        assert ink(path) > 0.02
    assert aspect(paths[0]) == pytest.approx(1, abs=0.01)


def test_losses_are_drawn_before_there_are_any(tmp_path):
    report.draw_losses("slcp", [], tmp_path / "loss.png")
    assert (tmp_path / "loss.png").is_file()
