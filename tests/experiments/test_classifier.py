"""The classifier's minimum is the posterior of the class, its runs are runs, and bad input is one line."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import classifier, digits
from experiments.common.features import judges
from experiments.common.runs import opened
from jaxscore import guidance, keys, launch, mixtures, noise, objectives, trainer
from jaxscore.data import Dataset
from jaxscore.keys import Stream
from jaxscore.launch import FlagError, Run
from tests.experiments.pictures import ink
from tests.launch.tiny import assert_identical, snapshot

# Gaussian classes -----------------------------------------------------------------------------------

STD = 0.5
CLASSES = mixtures.isotropic([0.5, 0.3, 0.2], [[1.0, 1.0], [-1.0, 0.0], [1.0, -1.0]], STD)
LEVELS = (0.2, 1.0, 3.0)


def noisy(sigma: float, n: int = 20_000):
    """Points at the level with their classes, and the level of each."""
    key_class, key_x = jax.random.split(jax.random.key(int(10 * sigma)))
    label = jax.random.categorical(key_class, jnp.log(CLASSES.weights), shape=(n,))
    x = CLASSES.means[label] + jnp.sqrt(STD**2 + sigma**2) * noise.normal(key_x, (n, 2))
    return x, label, jnp.full(n, sigma)


@pytest.fixture(scope="module")
def learnt():
    """Logits of a small classifier that has been trained on clean points of the classes."""
    network = classifier.Classifier(3, 1.0, width=32, depth=1)

    def loss(params, context, batch):
        objective = objectives.over_levels(
            classifier.cross_entropy(batch["label"]), noise.geometric(0.15, 4.0)
        )
        return objective(partial(network.apply, params), context.key, batch["x"]).mean(), {}

    key_class, key_x = jax.random.split(jax.random.key(0))
    label = jax.random.categorical(key_class, jnp.log(CLASSES.weights), shape=(50_000,))
    clean = CLASSES.means[label] + STD * noise.normal(key_x, (50_000, 2))
    init = lambda key: network.init(key, jnp.zeros((1, 2)), jnp.ones(1))
    tx, arrays = optax.adam(optax.linear_schedule(5e-3, 0.0, 1200)), {"x": clean, "label": label}
    state = trainer.fit(loss, init, arrays, steps=1200, batch=512, tx=tx, key=jax.random.key(1))
    return jax.jit(partial(network.apply, state.params))


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_trained_classifier_is_the_posterior_of_the_class(learnt, sigma):
    x, label, levels = noisy(sigma)
    exact = mixtures.responsibilities(CLASSES, x, levels)
    found = jax.nn.softmax(learnt(x, levels))
    # The priors of the classes would be 0.2 or more away at the smallest level.
    assert float(jnp.abs(found - exact).mean()) < 0.02
    entropy = -jnp.sum(exact * jnp.log(exact), axis=1).mean()
    loss = -classifier.log_probability(learnt, label, x, levels)
    # The loss exceeds the entropy by the divergence from the posterior; its mean over 20,000 has an error.
    error = float(loss.std()) / len(x) ** 0.5
    assert abs(float(loss.mean() - entropy)) < 0.005 + 4 * error


def test_the_objective_adds_noise_of_its_level():
    """The exact posterior has the same loss at noisy points as through the objective at clean ones."""
    sigma = 1.0
    x, label, levels = noisy(0.0)
    exact = lambda x, sigma: jnp.log(mixtures.responsibilities(CLASSES, x, sigma))
    losses = classifier.cross_entropy(label)(exact, jax.random.key(2), x, jnp.full(len(x), sigma))
    assert losses.shape == (len(x),)
    x, label, levels = noisy(sigma)
    expected = -classifier.log_probability(exact, label, x, levels)
    error = float(jnp.hypot(losses.std(), expected.std())) / len(x) ** 0.5
    assert abs(float(losses.mean() - expected.mean())) < 4 * error


@pytest.mark.parametrize("sigma", LEVELS)
def test_the_guided_score_is_that_of_the_class(learnt, sigma):
    """At scale 1, with the exact unconditional score; the gradient of a classifier is less exact than it."""
    x, label, levels = noisy(sigma)
    own, likelihood = partial(mixtures.score, CLASSES), partial(classifier.log_probability, learnt, label)
    found = guidance.by(own, likelihood, 1.0)(x, levels)
    exact = (CLASSES.means[label] - x) / (STD**2 + sigma**2)
    away = lambda score: float(jnp.sqrt(jnp.mean((score - exact) ** 2) / jnp.mean(exact**2)))
    assert away(found) < 0.15 * away(own(x, levels)) + 0.05


# Runs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def score_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier") / "run"
    config = digits.Config(workdir=folder, mode="train", steps=2, width=8, depth=1)
    launch.run(digits.build(config), config.workdir, mode="train")
    return folder


def config(folder, **changed):
    small = {"steps": 2, "samples": 20, "batch": 8, "width": 8, "depth": 1, "scales": (0.0, 2.0)}
    small |= {"run": folder, "workdir": folder.parent / "classifier", "classifiers": 1}
    return classifier.Config(**small | changed)


@pytest.fixture(scope="module")
def made(score_run):
    """A small run, and its metrics."""
    own = config(score_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "judges", partial(judges, epochs=2))
        return own, launch.run(classifier.build(own), own.workdir)


def test_a_small_run_makes_everything(made):
    own, found = made
    assert {"guided 0", "guided 2"} <= found.keys()
    assert 0 <= found["guided 2"]["agreement"] <= 1
    rows = found["accuracy"]
    assert len(rows) == own.levels
    np.testing.assert_allclose([rows[0]["sigma"], rows[-1]["sigma"]], [20.0, 0.02], rtol=1e-5)
    assert min(map(ink, (own.workdir / "report").glob("*.png"))) > 0.02
    assert json.loads((own.workdir / "config.json").read_text())["experiment"] == "classifier"
    before = snapshot(own.workdir / "checkpoints")
    assert launch.run(classifier.build(own), own.workdir)["stamp"] == found["stamp"]
    assert snapshot(own.workdir / "checkpoints") == before


def test_without_guidance_the_samples_are_those_of_the_run(made, score_run):
    """From the same noise."""
    drawn, run = dict(np.load(made[0].workdir / "samples.npz")), opened(score_run)
    rows = noise.row_keys(keys.stream(0, Stream.SAMPLE), 20)
    expected = run.experiment.samplers["heun"](run.params, rows)["heun"]
    np.testing.assert_allclose(drawn["guided 0"], expected, atol=1e-3)
    assert float(np.abs(drawn["guided 2"] - drawn["guided 0"]).max()) > 0


def test_the_score_of_an_opened_run_is_guided(made, score_run):
    run, plain = opened(made[0].workdir), opened(score_run)
    assert_identical(run.params["score"], plain.params)
    x, sigma, label = jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jnp.full(4, 0.5), jnp.arange(4)
    logits = partial(classifier.posed(made[0]).network.apply, run.params["classifier"])
    gradient = jax.grad(lambda x: classifier.log_probability(logits, label, x, sigma).sum())(x)
    assert float(jnp.abs(gradient).max()) > 0
    expected = plain.score(x, sigma) + gradient
    np.testing.assert_allclose(run.score(x, sigma, label), expected, rtol=1e-5, atol=1e-5)


def test_held_out_digits_are_not_trained_on(score_run):
    experiment, task = classifier.build(config(score_run)), classifier.posed(config(score_run))
    assert len(task.held) == 359
    batches = experiment.batches(batch=1438, seed=0)
    trained_on = np.concatenate([next(batches)["x"] for _ in range(2)])[:1438]
    as_rows = lambda x: {row.tobytes() for row in x}
    assert not as_rows(trained_on) & as_rows(task.images[task.held])


# Bad input ------------------------------------------------------------------------------------------


def stand_in(monkeypatch, experiment):
    monkeypatch.setattr(classifier, "opened", lambda folder, module: Run(experiment, {}, 0))


def test_a_conditional_run_is_refused(score_run, monkeypatch):
    stand_in(monkeypatch, digits.build(digits.Config(conditional=True, width=8, depth=1)))
    with pytest.raises(FlagError, match=r"^--run \S+: has conditions; name a run .* without --conditional$"):
        classifier.build(config(score_run))


def test_a_run_of_images_of_another_shape_is_refused(score_run, monkeypatch):
    experiment = digits.build(digits.Config(width=8, depth=1))
    small = {"x": np.random.default_rng(0).random((300, 4, 4, 1)).astype(np.float32)}
    batches = lambda **rest: iter([small])
    stand_in(monkeypatch, experiment._replace(batches=batches, data=Dataset(small["x"], np.zeros(300, int))))
    said = r"^--run \S+: its examples have shape \(4, 4, 1\), and the digits have shape \(8, 8, 1\)$"
    with pytest.raises(FlagError, match=said):
        classifier.build(config(score_run))


def test_a_run_without_a_score_is_refused(score_run, monkeypatch):
    without = lambda config: digits.build(config)._replace(score=None)
    monkeypatch.setattr("experiments.common.runs.find", lambda *_: (without, digits.Config))
    with pytest.raises(launch.Refusal, match=r"^--run \S+: the experiment digits has no score$"):
        classifier.build(config(score_run))


def test_some_digits_are_held_out(score_run):
    for fraction, kept in ((0.0, 0), (0.9999, 1797)):
        with pytest.raises(FlagError, match=f"^--held-out {fraction}: keeps {kept} of 1797 digits; keep at "):
            classifier.build(config(score_run, held_out=fraction))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--run nowhere", "--run nowhere: holds no run of an experiment"),
        ("--run runs/classifier", "--run runs/classifier: is the --workdir; name another folder for the"),
        ("--scales", "--scales: needs at least one scale"),
        ("--scales 1 2 1", "--scales 1.0 2.0 1.0: has a scale twice"),
    ],
)
def test_bad_input_is_one_line_and_status_2(refused, words, said):
    assert refused("classifier", words).startswith(said)
