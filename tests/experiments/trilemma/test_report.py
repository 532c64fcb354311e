import numpy as np
import pytest
from scipy import stats

from experiments.trilemma import report
from jaxscore.launch import plots
from tests.experiments.pictures import ink
from tests.grids import rest


def row(family, sampler, evaluations, seconds, frechet, recall, **changes):
    return {
        "family": family,
        "sampler": sampler,
        "parameters": 1000,
        "evaluations": evaluations,
        "training_flops": 2e12,
        "training_seconds": [40.0, 42.0],
        "seconds_per_1000": [seconds, seconds],
        "compile_seconds": [1.0, 3.0],
        "diverged": 0,
        "metrics": {"frechet": frechet, "recall": recall},
        "reaches": {},
        **changes,
    }


ROWS = [
    row("gan", "one pass", 1, 0.01, [8.0, 8.0], [0.2, 0.2]),
    row("edm", "Heun", 35, 0.1, [2.0, 2.0], [0.9, 0.9]),
    row("ddpm", "ancestral", 1000, 1.0, [0.5, 0.5], [0.55, 0.55]),
]
LOST = row("vae", "one pass", 1, 0.0, [], [], training_seconds=[], diverged=2, metrics={})


def test_the_interval_over_seeds_is_students():
    values = [1.0, 2.0, 4.0]
    mean, reach = report.mean_and_reach(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose([mean - reach, mean + reach], [low, high])


def test_one_seed_has_no_interval():
    mean, reach = report.mean_and_reach([3.0])
    assert mean == 3.0
    assert np.isnan(reach)
    assert report.cell([3.0], 2) == "3.00"


def test_a_single_training_has_the_interval_of_its_samples():
    one = row("gan", "one pass", 1, 0.01, [8.0], [0.2], reaches={"frechet": 0.5})
    assert report.table([one], report.QUALITY)[1] == ("gan", "one pass", "8.00 ± 0.50")
    assert report.table([one], report.COVERAGE)[1] == ("gan", "one pass", "0.20")


def test_each_part_of_the_table_has_the_metrics_that_there_are():
    quality, coverage, costs = report.tables([*ROWS, LOST])
    assert quality[0] == ("family", "sampler", "Fréchet")
    assert quality[1] == ("gan", "one pass", "8.00 ± 0.00")
    assert quality[-1] == ("vae", "one pass", "diverged")
    assert coverage[0] == ("family", "sampler", "recall")
    assert costs == report.costs([*ROWS, LOST])


def test_costs_are_of_what_was_trained():
    head, first, *rest = report.costs([*ROWS, LOST])
    assert first == ("gan", "one pass", "1,000", "41 ± 13", "2.00", "1", "0.010 ± 0.000", "2.0 ± 12.7")
    assert [line[0] for line in rest] == ["edm", "ddpm"]
    assert {len(line) for line in (first, *rest)} == {len(head)}


def test_what_the_figures_are_of_is_said():
    settings = {"n": 10_000, "n_distances": 2000, "reference_n": 1617, "reference_hash": "0123456789abcdef"}
    settings |= {"rounding": "to 1/16", "extractor": "a classifier", "classifier_accuracy": 0.975}
    first, second, third = report.about(settings, 3).splitlines()
    assert first.startswith("10,000 samples (2,000 for distances), held against 1,617 examples")
    assert "01234567" in first
    assert "97.5%" in second
    assert "3 training seeds" in third
    assert "this one training" in report.about(settings, 1)
    assert report.about({}, 3) == "no family stayed finite"


def test_a_family_of_which_some_seeds_diverged_says_so():
    _, line = report.table([ROWS[0] | {"diverged": 1}], report.QUALITY)
    assert line[0] == "gan (1 diverged)"


def test_the_axes_go_from_the_worst_to_the_best():
    values = report.scaled(ROWS)
    np.testing.assert_allclose(values["quality"], [0, 0.5, 1], atol=1e-12)  # 8, 2, 1/2: equal ratios
    np.testing.assert_allclose(values["coverage"], [0, 1, 0.5], atol=1e-12)
    np.testing.assert_allclose(values["speed"], [1, 0.5, 0], atol=1e-12)
    alone = report.scaled(ROWS[:1])
    assert [value.tolist() for value in alone.values()] == [[1.0], [1.0], [1.0]]


def test_who_has_one_thing_alone_is_at_its_corner():
    """A family that has all three is in the middle."""
    corners = list(report.CORNERS.values())
    middle = np.mean(corners, axis=0)
    places = report.position(*np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0.3], [1, 1, 1], [0, 0, 0]]).T)
    np.testing.assert_allclose(places, [*corners, middle, middle])


def test_a_family_has_one_colour():
    shades = report.colours([*ROWS, ROWS[0]])
    assert list(shades) == ["gan", "edm", "ddpm"]
    assert len(set(shades.values())) == 3


def test_quality_by_evaluations_draws_every_row_where_it_belongs(tmp_path):
    with plots.page(tmp_path / "page.png", columns=1) as (axes,):
        report.quality_by_evaluations(axes, ROWS)
        drawn = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
        assert drawn == [[1, 8.0], [35, 2.0], [1000, 0.5]]
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("event", [(2,), rest((8, 8, 1)), (8, 8, 3)])
def test_the_pictures_leave_out_what_has_diverged(tmp_path, event):
    samples = {f"{r['family']}, {r['sampler']}": np.random.default_rng(0).random((70, *event)) for r in ROWS}
    made = report.pictures([*ROWS, LOST], samples, tmp_path)
    assert [path.name for path in made] == ["trilemma.png", "samples.png"]
    assert min(map(ink, made)) > 0.02
    assert report.pictures([LOST], {}, tmp_path) == []
