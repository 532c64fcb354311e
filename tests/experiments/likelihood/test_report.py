import numpy as np
import pytest

from experiments.likelihood import report
from tests.experiments.pictures import ink

ROWS = {
    "log_p": np.array([-10.0, -14.0, np.nan, -12.0]),
    "error": np.array([1.0, 2.0, np.nan, 2.0]),
    "bound": np.array([-11.0, -15.0, -1.0, -13.0]),
    "evaluations": np.array([10, 20, 6000, 30]),
}


def test_means_are_of_the_examples_that_arrived():
    found = report.summary("test split", ROWS, 4, True, 0.5)
    assert (found["examples"], found["not_finite"], found["log_p"]) == (4, 1, -12.0)
    assert found["log_p_error"] == pytest.approx(2 / np.sqrt(3))
    assert found["log_p_bits"] == pytest.approx(3 / np.log(2))
    assert found["bound_bits"] == pytest.approx(13 / 4 / np.log(2))
    assert found["probe_error"] == pytest.approx(np.sqrt(3))
    assert (found["evaluations"], found["most_evaluations"]) == (20.0, 6000)


def test_the_table_has_a_line_for_each_set():
    pixels = report.summary("test split", ROWS, 4, True, float("nan"))
    assert "bits per dimension" in report.table([pixels, pixels])
    points = report.summary("held-out examples", ROWS, 4, False, 0.5)
    lines = report.table([points]).splitlines()
    assert "bits" not in lines[0]
    assert "-12.00 ± 1.15" in lines[2]


def test_the_auroc_is_the_fraction_of_pairs():
    rng = np.random.default_rng(0)
    inside, outside = np.round(rng.normal(1, 1, 50), 1), np.round(rng.normal(0, 1, 40), 1)
    pairs = inside[:, None] - outside[None]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert report.more_likely(inside, outside) == pytest.approx(expected)


def test_pictures_are_drawn(tmp_path):
    report.histogram({"a": np.arange(100.0), "b": np.arange(50.0)}, "nats", tmp_path / "histogram.png")
    report.arcs(np.random.default_rng(0).uniform(size=(2, 5, 4, 4, 1)), tmp_path / "arcs.png")
    assert ink(tmp_path / "histogram.png") > 0.02
    assert ink(tmp_path / "arcs.png") > 0.02
