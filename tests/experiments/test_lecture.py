import base64
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import lecture, toy2d
from experiments.trilemma import report
from jaxscore import launch, mixtures, samplers
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal
from tests.experiments.test_toy2d import small

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "trilemma.md"
WEIGHT = 0.6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run of five levels; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    launch.run(toy2d.build(small(workdir=folder, weight=WEIGHT)), folder)
    return folder


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """(the script, what `export` returned)"""
    out = tmp_path_factory.mktemp("out") / "data.js"
    return out, lecture.export(lecture.Config(run=trained, trilemma=PAGE, out=out))


def scores(data, name):
    """Scores of the script, [level, y, x, component]."""
    found, n = data[name], data["grid"]["points"]
    integers = np.frombuffer(base64.b64decode(found["values"]), "<i2").reshape(-1, n, n, 2)
    return integers * np.array(found["units"])[:, None, None, None]


# The fields -----------------------------------------------------------------------------------


def test_the_script_is_one_constant_of_json(exported):
    out, data = exported
    text = out.read_text()
    assert text.startswith(lecture.CONSTANT)
    assert text.endswith(";\n")
    assert json.loads(text.removeprefix(lecture.CONSTANT)[:-2]) == data


def test_the_fields_are_the_scores_at_the_points_of_the_grid(exported, trained):
    """Learned and exact, at every level; the integers round by half a unit."""
    data, run = exported[1], launch.open_run(trained, toy2d.build, toy2d.Config)
    mixture = mixtures.two_modes(weight=WEIGHT)
    truths = {"learned": run.score, "exact": lambda x, sigma: mixtures.score(mixture, x, sigma)}
    sigmas = toy2d.sigma_grid(run.experiment.config)[:-1]
    assert len(sigmas) == 5
    np.testing.assert_allclose(data["sigmas"], sigmas, rtol=1e-5)
    for name, truth in truths.items():
        for level, (sigma, found) in enumerate(zip(sigmas, scores(data, name), strict=True)):
            line = lecture.axis(data["grid"]["extent"], data["grid"]["widths"][level])
            # The first row of the grid, where y is smallest, and the column of the middle.
            for x, s in ((line, found[0]), (np.zeros_like(line), found[:, len(line) // 2])):
                y = np.full_like(line, line[0]) if x is line else line
                points = jnp.asarray(np.stack([x, y], axis=1), jnp.float32)
                expected = truth(points, jnp.full(len(points), sigma))
                np.testing.assert_allclose(s, expected, rtol=1e-4, atol=0.6 * data[name]["units"][level])


def test_the_grid_is_dense_in_the_middle_and_ends_at_its_extent():
    line = lecture.axis(35.0, 1.0)
    np.testing.assert_allclose(line[[0, -1]], [-35, 35])
    np.testing.assert_allclose(line, -line[::-1], atol=1e-12)
    assert np.argmin(np.diff(line)) in (len(line) // 2 - 1, len(line) // 2)
    assert np.diff(line).min() < 0.3


def test_the_start_is_that_of_the_samplers(exported, trained):
    """root root' is the covariance of `samplers.prior`, and the grid reaches four deviations."""
    config = launch.open_run(trained, toy2d.build, toy2d.Config).experiment.config
    moments = samplers.moments(toy2d.build(config).data.examples)
    root, mean = np.array(exported[1]["start"]["root"]), exported[1]["start"]["mean"]
    covariance = np.asarray(moments.axes * moments.variances[None] @ moments.axes.T)
    np.testing.assert_allclose(root @ root.T, covariance + config.sigma_max**2 * np.eye(2), rtol=1e-4)
    np.testing.assert_allclose(mean, moments.mean, rtol=1e-5)
    assert exported[1]["grid"]["extent"] > 4 * config.sigma_max


def test_numbers_of_the_run_are_passed_on(exported, trained):
    data, metrics = exported[1], json.loads((trained / "metrics.json").read_text())
    config = small()
    np.testing.assert_allclose(data["mixture"]["weights"], [WEIGHT, 1 - WEIGHT], rtol=1e-5)
    assert data["epsilon"] == config.step_size * config.sigma_min**2
    assert data["steps_per_level"] == config.langevin_steps
    assert data["mode_weights"].keys() == metrics["mode_weights"].keys()
    errors = [row["relative_rms"] for row in metrics["score_error"]]
    np.testing.assert_allclose(data["score_error"], errors, rtol=1e-5)


# The trilemma ---------------------------------------------------------------------------------


def test_the_published_rows_are_those_of_the_page(exported):
    rows = {(row["family"], row["sampler"]): row for row in exported[1]["trilemma"]}
    assert len(rows) == 15
    edm = rows["edm", "Heun, 18 levels"]
    assert (edm["frechet"], edm["recall"], edm["seconds"]) == ([0.41, 0.17], [0.91, 0.02], [0.357, 0.028])
    assert edm["evaluations"] == 35
    assert edm["scaled"]["quality"] == 1.0
    assert rows["ddpm", "ancestral"]["scaled"]["speed"] == 0.0
    assert rows["gan", "one pass"]["scaled"]["speed"] == 1.0
    assert ("consistency", "one step") not in rows  # compared on request only


def row(frechet, recall, seconds, **changes):
    metrics = {"frechet": frechet, "recall": recall}
    fields = {"family": "gan", "sampler": "one pass", "evaluations": 1, "metrics": metrics, "reaches": {}}
    return {**fields, "seconds_per_1000": seconds, **changes}


def test_a_run_of_the_trilemma_has_intervals_over_its_seeds(tmp_path):
    rows = [row([1.0, 2.0, 3.0], [0.5, 0.6, 0.7], [1.0, 1.0, 1.0]), row([2.0], [0.9], [0.1])]
    rows[1]["reaches"] = {"frechet": 0.3}
    (tmp_path / "trilemma.json").write_text(json.dumps({"rows": [*rows, row([], [], [], metrics={})]}))
    first, second = lecture.triangle(lecture.rows(tmp_path))
    assert first["frechet"] == pytest.approx(report.mean_and_reach([1.0, 2.0, 3.0]), rel=1e-5)
    assert (second["frechet"], second["recall"]) == ([2.0, 0.3], [0.9, None])
    assert first["scaled"] == {"quality": 1.0, "coverage": 0.0, "speed": 0.0}
    np.testing.assert_allclose(first["at"], report.CORNERS["quality"], rtol=1e-5)


def test_a_cell_may_lack_its_interval():
    assert lecture.mean_and_reach("1,000.5 ± 0.25") == (1000.5, 0.25)
    mean, reach = lecture.mean_and_reach("2.0")
    assert mean == 2.0
    assert np.isnan(reach)


# What cannot be done --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "has no rows with"),
        ("none.md", "there is no such file"),
        ("empty.md", "has no rows with"),
        ("odd.md", "has no rows with"),
        *((f"odd{number}", "has no rows with") for number in range(5)),
    ],
)
def test_a_trilemma_without_rows_is_refused(name, said, tmp_path):
    (tmp_path / "empty.md").write_text("# A page\n\n```text\nfamily  sampler  recall\n```\n")
    (tmp_path / "odd.md").write_bytes(b"\xff\xfe")
    odd = [5, {"rows": 5}, {"rows": [{}]}, {"rows": [{"metrics": 5}]}, {"rows": [row([1.0], [], [1.0])]}]
    for number, value in enumerate(odd):
        (tmp_path / f"odd{number}").mkdir()
        (tmp_path / f"odd{number}" / "trilemma.json").write_text(json.dumps(value))
    with pytest.raises(FlagError, match=said):
        lecture.rows(tmp_path / name)


@pytest.mark.parametrize("content", [None, '{"score_error": 5}', '{"score_error": [], "stamp": ""}', "stale"])
def test_a_run_without_metrics_is_refused(trained, tmp_path, content):
    folder = shutil.copytree(trained, tmp_path / "run")
    path = folder / "metrics.json"
    before = path.read_text()
    path.unlink()
    if content:
        path.write_text(before.replace('"step\\": 4', '"step\\": 3') if content == "stale" else content)
    with pytest.raises(Refusal, match=f"--run {folder}: has no metrics of its newest checkpoint; run python"):
        lecture.fields(folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--out nowhere/data.js", "--out nowhere/data.js: there is no folder nowhere\n"),
        ("--run nowhere --out data.js", "--run nowhere: holds no run of an experiment\n"),
    ],
)
def test_bad_input_is_one_line(words, said, refused):
    assert refused("lecture", words) == said


def test_a_run_of_another_experiment_is_refused(tmp_path, refused):
    (tmp_path / "config.json").write_text('{"experiment": "digits"}')
    assert refused("lecture", f"--run {tmp_path} --out data.js").startswith(f"--run {tmp_path}: ")


# The page's data ------------------------------------------------------------------------------


def test_the_data_of_the_docs_are_of_a_run_at_full_length():
    text = (ROOT / lecture.Config().out).read_text()
    data, config = json.loads(text.removeprefix(lecture.CONSTANT)[:-2]), toy2d.Config()
    assert len(text) <= 400_000
    assert len(data["sigmas"]) == len(data["score_error"]) == config.levels
    assert max(data["score_error"]) < 0.05
    assert len(data["trilemma"]) == 15
