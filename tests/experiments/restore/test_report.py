"""The table and the picture of given figures."""

import numpy as np

from experiments.restore import report
from tests.experiments.pictures import ink

ROW = {
    "psnr": 19.331,
    "psnr_error": 0.5,
    "ssim": 0.8012,
    "psnr_of_draws": 17.0,
    "features": 3.918,
    "seconds": 0.0123,
}
ROWS = {
    "pigdm": ROW | {"coverage": [0.51, 0.79, 0.951], "coverage_spread": [0.45, 0.74, 0.947]},
    "pseudo_inverse": ROW | {"psnr_error": None, "coverage": None, "coverage_spread": None},
    "certain": ROW | {"coverage": [0.5, 0.8, 0.95], "coverage_spread": None},
}


def test_the_table_has_both_coverages():
    text = report.table(ROWS)
    assert "19.33 ± 0.50" in text
    assert "45.0% (51.0%)" in text
    assert "– (50.0%)" in text
    assert "0.801" in text
    assert "0.0123" in text


def test_the_picture_has_a_row_for_each_method(tmp_path):
    rng = np.random.default_rng(0)
    images, x = rng.random((4, 8, 8, 1)), rng.random((4, 2, 8, 8, 1))
    few = {name: ROWS[name] for name in ("pigdm", "certain")}
    report.picture(images, images, dict.fromkeys(few, x), few, tmp_path / "a.png")
    assert ink(tmp_path / "a.png") > 0.1
