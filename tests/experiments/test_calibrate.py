import json

import numpy as np
import pytest
from PIL import Image

from experiments import calibrate as experiment
from jaxscore import calibrate, data
from jaxscore.data import images
from jaxscore.launch.flags import FlagError
from tests.experiments.pictures import ink


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the digits: its recipe and its folder."""
    folder = tmp_path_factory.mktemp("calibrate") / "run"
    return experiment.run(experiment.Config(data="digits", workdir=folder)), folder


def test_the_recipe_is_the_librarys_for_the_largest_distance(run):
    recipe, folder = run
    examples = data.digits().examples.reshape(1797, -1).astype(float)
    squares = (examples**2).sum(axis=1)
    distance = np.sqrt((squares[:, None] + squares - 2 * examples @ examples.T).max())
    assert recipe == calibrate.recipe((8, 8, 1), float(f"{distance:.4g}"))
    written = json.loads((folder / "recipe.json").read_text())
    np.testing.assert_allclose(written["measured"]["largest_distance"], distance, rtol=1e-6)
    np.testing.assert_allclose(written["measured"]["sigma_data"], examples.std(), rtol=1e-6)
    assert written["measured"]["exact"]
    for name in ("sigma_max", "levels", "epsilon"):
        assert written[name] == getattr(recipe, name)
    noise = calibrate.training_noise(written["measured"]["sigma_data"])
    assert (written["sigma_mean"], written["sigma_std"]) == noise


def test_the_printed_flags_are_the_recipe(run):
    recipe = calibrate.PRESETS["cifar10"]
    expected = "--sigma-max 50 --sigma-min 0.01 --levels 232 --langevin-steps 5 --epsilon 6.2e-06"
    assert experiment.arguments(recipe) == expected
    words = experiment.arguments(run[0]).split()
    assert float(words[words.index("--epsilon") + 1]) == pytest.approx(run[0].epsilon, rel=0.005)


def test_it_is_printed_and_drawn_and_can_be_run_again(run, capsys):
    recipe, folder = run
    assert experiment.run(experiment.Config(data="digits", workdir=folder)) == recipe
    printed = capsys.readouterr().out
    assert experiment.arguments(recipe) in printed
    assert f"picture: {folder / 'calibrate.png'}" in printed
    assert ink(folder / "calibrate.png") > 0.02


def test_the_table_says_what_is_exact():
    config = experiment.Config(data="digits")
    recipe = calibrate.PRESETS["cifar10"]
    for exact, word in ((True, "exact"), (False, "a lower bound")):
        measured = experiment.Measured(10, (32, 32, 3), 50.0, exact, 0.5)
        rows = experiment.table(config, measured, recipe, calibrate.training_noise(0.5))
        assert ("largest distance", "50", word) in rows
        assert ("ln sigma", "N(-1.20, 1.20^2)", "EDM's training noise") in rows
        assert ("evaluations", "1161", "for a sample") in rows  # as published: with the denoising step


def test_images_that_are_not_in_memory_are_streamed(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(generator.integers(0, 256, (9, 8, 3)).astype(np.uint8)).save(tmp_path / f"{i:02}.png")
    resident = data.load(f"folder:{tmp_path}").examples
    exact, estimated = experiment.measure(resident), experiment.measure(resident, estimate=True)
    monkeypatch.setattr(images, "RESIDENT_BYTES", 0)
    streamed = experiment.measure(data.load(f"folder:{tmp_path}").examples)
    assert (exact.exact, estimated.exact, streamed.exact) == (True, False, False)
    # A lower bound, in few dimensions; and more than half.
    for found in (estimated, streamed):
        assert exact.largest_distance / 2 <= found.largest_distance <= exact.largest_distance * (1 + 1e-6)
    assert streamed[:2] == exact[:2] == (20, (9, 8, 3))
    np.testing.assert_allclose(streamed.sigma_data, exact.sigma_data, rtol=1e-6)


# What is refused ----------------------------------------------------------------------------------


MEASURED = experiment.Measured(100, (8, 8, 1), 4.815, True, 0.376)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"levels": 3}, r"--levels 3: .* do not overlap \(.*\); an overlap of 0\.567 takes 22 levels"),
        ({"sigma_min": 4.9}, r"--sigma-min 4\.9: .* 4\.815"),
        ({"sigma_min": 4.815}, r"--sigma-min 4\.815: must be below"),
    ],
)
def test_levels_that_do_not_fit_the_data_are_refused(changes, complaint):
    with pytest.raises(FlagError, match=complaint):
        experiment.recommend(experiment.Config(**changes), MEASURED)


def test_levels_that_overlap_less_than_asked_are_taken():
    recipe = experiment.recommend(experiment.Config(levels=18), MEASURED)
    assert recipe.levels == 18
    assert 0.01 < calibrate.overlap(recipe.ratio, 64) < 0.567


def test_data_that_say_nothing_are_refused():
    said = {
        "all images are the same": {"largest_distance": 0.0},
        "at least 5 are needed": {"shape": (2, 2, 1)},
    }
    for complaint, changes in said.items():
        with pytest.raises(data.DataError, match=complaint):
            experiment.recommend(experiment.Config(), MEASURED._replace(**changes))
    with pytest.raises(data.DataError, match="at least 2 are needed"):
        experiment.measure(np.zeros((1, 8, 8, 1), np.float32))
