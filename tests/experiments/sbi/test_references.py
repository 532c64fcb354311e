"""Published draws agree with the posteriors of our tasks, which other methods compute."""

import bz2
import sys

import jax
import numpy as np
import pytest

from experiments.sbi import references
from experiments.sbi.references import Reference, reference
from experiments.sbi.tasks import DESIGN, TASKS
from jaxscore.launch import Refusal
from tests.draws import assert_mean
from tests.experiments.sbi import posteriors
from tests.grids import rest

FILES = ("observation.csv", "true_parameters.csv", "reference_posterior_samples.csv.bz2")

ALL = [(name, number) for name in TASKS for number in references.NUMBERS]
CASES = [case if case[1] == 1 else rest(*case) for case in ALL]

LARGEST = 2.3
"""sqrt(n) times the distance of two CDFs of n draws exceeds this number once in 20,000 times."""


@pytest.fixture
def package():
    if references.folder() is None:
        pytest.skip("sbibm is not installed: pip install --no-deps sbibm")
    return references.folder()


# What is published --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_draws_are_those_of_our_posterior(package, name, number):
    published = reference(name, number)
    assert published.draws.shape == (10_000, TASKS[name].n_parameters)
    points = posteriors.posterior(name, published.observation)
    assert points.size > 250
    found = posteriors.distances(name, published, points)
    assert max(found) < LARGEST, found


def test_the_exact_posterior_has_equal_weights(package):
    points = posteriors.posterior("gaussian_linear", reference("gaussian_linear", 1).observation)
    np.testing.assert_allclose(points.weights * len(points.weights), 1, rtol=1e-3)


def test_a_prior_that_counts_twice_is_noticed(package):
    published = reference("bernoulli_glm", 1)
    points = posteriors.posterior("bernoulli_glm", published.observation)
    wrong = points.weights * np.exp(np.asarray(TASKS["bernoulli_glm"].log_prior(points.theta), float))
    found = posteriors.distances("bernoulli_glm", published, points._replace(weights=wrong / wrong.sum()))
    assert max(found) > 2 * LARGEST


def test_the_radius_of_the_moons_has_its_jacobian(package):
    """Without the factor 1 / r of polar coordinates, the mean would be 0.101, ten standard errors away."""
    y, draws, _ = reference("two_moons", 1)
    points = posteriors.posterior("two_moons", y)
    assert_mean(radius(draws, y), 0.1)
    np.testing.assert_allclose(points.weights @ radius(points.theta, y), 0.1, rtol=1e-3)


def radius(theta, y):
    along, across = theta[:, 0] + theta[:, 1], theta[:, 1] - theta[:, 0]
    u = y.astype(float) - np.stack([-np.abs(along), across], axis=1) / np.sqrt(2) - [0.25, 0.0]
    return np.linalg.norm(u, axis=1)


@pytest.mark.parametrize("name", TASKS)
def test_the_observations_are_no_outliers(package, name):
    """At the true parameters, which the prior allows, one of 1000 simulations or more is less likely."""
    task = TASKS[name]
    simulate, log_likelihood = jax.jit(task.simulate), jax.jit(task.log_likelihood)
    for number in references.NUMBERS:
        y, _, truth = reference(name, number)
        assert np.isfinite(task.log_prior(truth[None])), number
        theta = np.repeat(truth[None], 1000, axis=0)
        simulated = simulate(jax.random.key(number), theta)
        observed = log_likelihood(theta, np.repeat(y[None], 1000, axis=0))
        assert np.any(log_likelihood(theta, simulated) <= observed), number
        away = (y - np.mean(simulated, axis=0)) / np.std(simulated, axis=0)
        assert np.abs(away).max() < 4, number


def test_the_design_is_the_published_one(package):
    """The tensor's numbers are the last bytes of its file, in order and little-endian."""
    raw = (package / "tasks" / "bernoulli_glm" / "files" / "design_matrix.pt").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(raw[-4 * DESIGN.size :], "<f4").reshape(DESIGN.shape), DESIGN)


# Files --------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A package of this name that cannot be imported, with one small reference of the two moons."""
    home = tmp_path / "sbibm"
    folder = home / "tasks" / "two_moons" / "files" / "num_observation_3"
    folder.mkdir(parents=True)
    (home / "__init__.py").write_text("raise ImportError('there is no torch')\n")
    (folder / FILES[0]).write_text("data_1,data_2\n0.5,-0.25\n")
    (folder / FILES[1]).write_text("parameter_1,parameter_2\n0.125,1.0\n")
    (folder / FILES[2]).write_bytes(bz2.compress(b"parameter_1,parameter_2\n1,2\n3,4\n5,6\n"))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_files_are_read_without_importing_the_package(written):
    found = reference("two_moons", 3)
    assert isinstance(found, Reference)
    np.testing.assert_array_equal(found.observation, [0.5, -0.25])
    np.testing.assert_array_equal(found.truth, [0.125, 1.0])
    np.testing.assert_array_equal(found.draws, [[1, 2], [3, 4], [5, 6]])
    assert {each.dtype for each in found} == {np.dtype(np.float32)}
    assert "sbibm" not in sys.modules


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (FILES[0], None, "observation.csv is missing; install sbibm again"),
        (FILES[0], b"data_1,data_2\n", "numbers, not"),
        (FILES[0], b"data_1\n0.5\n", r"\[1, 1\] numbers, not \[n, 2\]"),
        (FILES[1], b"a,b\n0.5,nan\n", "not all of them finite"),
        (FILES[1], b"a,b\n0.5,what\n", "what"),
        (FILES[2], b"version https://git-lfs", "install sbibm again"),
        (FILES[2], bz2.compress(b"a,b\n1,2\n")[:-9], "install sbibm again"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_files_that_are_not_the_tasks_are_refused(written, name, content, said):
    (written / name).unlink()
    if content is not None:
        (written / name).write_bytes(content)
    with pytest.raises(Refusal, match=said):
        reference("two_moons", 3)


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(references.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match="pip install --no-deps sbibm") as caught:
        reference("slcp", 1)
    assert "\n" not in str(caught.value)


def test_tasks_and_observations_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="task 'moons' is none of two_moons, gaussian_linear"):
        reference("moons", 1)
    for number in (0, 11):
        with pytest.raises(ValueError, match=rf"observation {number} is none of 1\.\.10"):
            reference("slcp", number)
