from types import SimpleNamespace

import numpy as np
import pytest

from experiments.common import report
from jaxscore import data, metrics
from jaxscore.launch import NonFinite

IMAGES, LABELS, _ = data.digits()
CONFIG = SimpleNamespace(samples=60, grey_values=16)
FEATURES = "eight pixels"
EVALUATIONS = {"copies": 3, "negatives": 2}
flat = lambda x: np.asarray(x, float).reshape(len(x), -1)
JUDGES = [(lambda x, at=at: flat(x)[:, at : at + 8], lambda x, at=at: np.full(len(x), at)) for at in (16, 24)]


@pytest.fixture(scope="module")
def found():
    samples = {"copies": IMAGES[:60] + 0.02, "negatives": 1 - IMAGES[:60]}  # 0.02: a third of 1/16
    further = lambda name, x, judge: {"agreement": float(judge[1](x)[0])}
    return report.judged(CONFIG, JUDGES, FEATURES, samples, IMAGES, LABELS, EVALUATIONS, further)


def test_every_array_is_rounded_and_judged_by_every_judge(found):
    single = [metrics.compare(IMAGES[:60], IMAGES, LABELS, *judge) for judge in JUDGES]
    expected = [row | {"agreement": float(at)} for row, at in zip(single, (16, 24), strict=True)]
    assert found["copies"]["by_judge"] == expected
    for column in expected[0]:
        assert found["copies"][column] == pytest.approx(np.mean([row[column] for row in expected]))
    assert found["copies"]["evaluations"] == 3
    about = {"n": 60, "reference_n": 1797, "classifiers": 2, "rounded_to": "1/16", "features": FEATURES}
    assert found["settings"] == about
    halves = [metrics.frechet(f(IMAGES[::2]), f(IMAGES[1::2])) for f, _ in JUDGES]
    assert found["real"] == {"halves_frechet": pytest.approx(np.mean(halves))}


def test_the_table_has_the_metrics_that_there_are(found):
    heading, copies, negatives, real = report.table({"copies": "equal", "negatives": "inverted"}, found)
    assert heading[-1] == "agreement"
    assert (copies[:2], negatives[:2]) == (("equal", "3"), ("inverted", "2"))
    assert copies[heading.index("agreement")] == "20.000"
    assert negatives[2] == f"{found['negatives']['frechet']:.3f}"
    assert real[2] == f"{found['real']['halves_frechet']:.3f}"
    assert len({len(row) for row in (heading, copies, negatives, real)}) == 1


def test_samples_of_one_class_have_no_class_frequencies():
    threes, judge = IMAGES[LABELS == 3], JUDGES[0]
    labels = np.full(len(threes), 3)
    found = report.judged(CONFIG, [judge], FEATURES, {"copies": threes}, threes, labels, EVALUATIONS)
    assert "class_kl" not in found["copies"]
    assert "class KL" not in report.table({"copies": "equal"}, found)[0]


def test_without_classes_a_line_below_the_table_names_the_judge():
    samples = {"copies": IMAGES[:60]}
    found = report.judged(CONFIG, [(JUDGES[0][0], None)], FEATURES, samples, IMAGES, 0 * LABELS, EVALUATIONS)
    assert "class_kl" not in found["copies"]
    assert found["settings"]["classifiers"] == 0
    assert found["notes"] == [f"judged by {FEATURES}; without classes there is no class KL"]


def test_metrics_of_few_or_equal_images_are_left_out_and_named():
    """Three images have no third neighbour; equal ones no distance; a judge may find a class they lack."""
    equal, labels = np.repeat(IMAGES[:1], 3, axis=0), np.array([0, 1, 2])
    found = report.judged(CONFIG, JUDGES, FEATURES, {"copies": IMAGES[:60]}, equal, labels, EVALUATIONS)
    assert set(found["copies"]["by_judge"][0]) == {"frechet", "sliced_wasserstein"}
    assert found["notes"][-1].endswith("without images): precision, recall, class KL, neighbour ratio")
    assert found["real"] == {}
    (heading, row, real) = report.table({"copies": "few"}, found)
    assert heading == ("sampler", "evaluations", "Frechet")
    assert (row[2], real[2]) == (f"{found['copies']['frechet']:.3f}", "")


def test_samples_that_are_not_finite_are_named():
    samples = {"copies": np.full((60, 8, 8, 1), np.nan)}
    with pytest.raises(NonFinite, match="samples 'copies' are not finite; check the noise levels"):
        report.judged(CONFIG, JUDGES, FEATURES, samples, IMAGES, LABELS, EVALUATIONS)


def test_few_images_are_drawn_twice():
    assert len(np.unique(flat(report.some(IMAGES, 100, 0)), axis=0)) == 100
    assert report.some(IMAGES[:3], 5, 0).shape == (5, 8, 8, 1)
