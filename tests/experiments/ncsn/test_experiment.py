"""The parts of the NCSN experiment with known scores, and a whole run with RefineNet at the end."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS
from jaxscore import launch, noise, samplers
from jaxscore.data import DataError
from jaxscore.launch import metrics_log, workdir
from jaxscore.networks import NCSN, NCSNv2
from jaxscore.updates import Context
from tests.experiments.ncsn import tiny as tiny_ncsn

DIGITS = dataclasses.replace(PRESETS["digits"], ablate=False, mode="sample", data="npz:/nowhere.npz")
EVENT = (8, 8, 1)


# The loss -------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def traced_loss(config, key, x):
    seen = {}

    def score(params, x, sigma):
        seen.update(x=x, sigma=sigma)
        return params * jnp.sin(x)

    value, metrics = ncsn.loss(config, score, 2.0, Context(key, jnp.int32(0), ()), {"x": x})
    return value, metrics["by_sigma"], seen["x"], seen["sigma"], ncsn.sigma_grid(config)[:-1]


def loss(config, x):
    """The loss of the score 2 sin(x), its bins, the noisy images and the levels that it saw, all levels."""
    value, bins, *seen = jax.device_get(traced_loss(config, jax.random.key(0), jnp.asarray(x)))
    return float(value), bins, *(a.astype(float) for a in seen)


def test_the_loss_is_its_formula():
    x = np.random.default_rng(0).random((40, *EVENT), np.float32)
    value, bins, noisy, sigma, known = loss(DIGITS, x)
    np.testing.assert_array_equal(np.unique(sigma)[::-1], known)  # every level, with all its bits
    s = sigma[:, None, None, None]
    n = (noisy - x) / s
    each = 0.5 * np.sum((s * 2 * np.sin(noisy) + n) ** 2, axis=(1, 2, 3))
    # n is what float32 left of it in x + sigma n: 6e-8 / 0.01 of 1 at the smallest level.
    assert value == pytest.approx(each.mean(), rel=1e-4)
    # 2560 normals: their mean square is known to 2.8 %.
    assert np.mean(n**2) == pytest.approx(1, rel=0.12)

    edges = np.geomspace(0.01, 4.815, 6)
    member = lambda i: (sigma > (0 if i == 0 else edges[i])) & (sigma <= (np.inf if i == 4 else edges[i + 1]))
    assert bins["count"].sum() == 40
    np.testing.assert_array_equal(bins["count"], [member(i).sum() for i in range(5)])
    np.testing.assert_allclose(bins["total"], [each[member(i)].sum() for i in range(5)], rtol=1e-4)


def test_bytes_are_scaled_where_the_loss_is_computed():
    pixels = np.random.default_rng(0).integers(0, 256, (40, *EVENT)).astype(np.uint8)
    of_bytes, of_numbers = loss(DIGITS, pixels), loss(DIGITS, pixels / np.float32(255))
    # Another program: where the compiler joins operations, the last digits may be others.
    same = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(same, of_bytes, of_numbers)


@pytest.mark.parametrize("flip", [True, False])
def test_some_of_the_images_are_mirrored_or_none(flip):
    # So little noise that it can be seen which.
    config = dataclasses.replace(DIGITS, flip=flip, sigma_min=0.001, sigma_max=0.002, epsilon=1e-7)
    x = np.random.default_rng(0).random((40, 4, 6, 3), np.float32)
    noisy = loss(config, x)[2]
    off = lambda a: np.abs(noisy - a).max(axis=(1, 2, 3))
    straight, mirrored = off(x) < 0.02, off(x[:, :, ::-1]) < 0.02
    assert np.all(straight ^ mirrored)
    assert mirrored.any() == flip


# Sampling -------------------------------------------------------------------------------------

MOMENTS = samplers.Moments(jnp.full(EVENT, 0.25), jnp.float32(0.7))
PARAMS = {"mean": jnp.full(EVENT, 0.5), "width": jnp.full(EVENT, 0.1)}
SAMPLING = dataclasses.replace(
    DIGITS, sigma_max=3.0, sigma_min=0.04, levels=30, langevin_steps=20, epsilon=5e-4, start="normal"
)


SAMPLE = jax.jit(ncsn.sample, static_argnums=(0, 1))
ANNEALING = jax.jit(ncsn.annealing, static_argnums=(0, 1))


def drawn(config, n=256, *, function=SAMPLE):
    """Samples of N(0.5, 0.1^2) by its exact score, or the images at the end of every level."""
    keys = noise.row_keys(jax.random.key(0), n)
    return function(config, tiny_ncsn.gaussian_score, MOMENTS, PARAMS, keys)


@pytest.fixture(scope="module")
def sampled():
    return drawn(SAMPLING)


def exact_annealing(config):
    """Mean and variance of x - 0.5 at the end, and |s| sigma / sqrt(D) at every level, of each pixel.

    The update is linear, so that they follow a recursion. The start is N(0.25, 0.7 + sigma_1^2).
    """
    mean, variance, norms = 0.25 - 0.5, 0.7 + config.sigma_max**2, []
    for sigma in np.geomspace(config.sigma_max, config.sigma_min, config.levels):
        e, v, before = config.epsilon * (sigma / config.sigma_min) ** 2, 0.1**2 + sigma**2, []
        for _ in range(config.langevin_steps):
            before.append(np.sqrt(mean**2 + variance) * sigma / v)
            mean, variance = (1 - e / v) * mean, (1 - e / v) ** 2 * variance + 2 * e
        norms.append(np.mean(before))
    return mean, variance, norms


def test_samples_of_a_known_score_have_its_distribution(sampled):
    mean, variance, _ = exact_annealing(SAMPLING)
    ideal = 0.1**2 + 0.04**2
    assert abs(mean) < 1e-3
    assert variance == pytest.approx(ideal, rel=0.05)  # the recipe is a good one
    left = 0.1**2 / ideal  # what denoising leaves of x - 0.5: E[x0 | x]
    for name, factor in (("without_denoising", 1.0), ("samples", left)):
        x = np.asarray(sampled[name], float)
        assert x.shape == (256, *EVENT)
        # 16,384 independent pixels: the mean is known to 0.11 / 128, the deviation to 0.55 %. At
        # 4.6 deviations, clipping to 0..1 changes neither.
        assert x.mean() - 0.5 == pytest.approx(factor * mean, abs=4 * 0.11 / 128)
        assert x.std() == pytest.approx(factor * np.sqrt(variance), rel=0.022)
    # The last level's noise is in the one and not in the other.
    assert sampled["without_denoising"].var() - sampled["samples"].var() > 0.04**2


def test_samples_are_images():
    # After a level of noise as large as this, clipping is all that keeps them in 0..1.
    noisy = dataclasses.replace(SAMPLING, sigma_min=0.5, epsilon=0.01, levels=2)
    x = drawn(noisy, 4)["without_denoising"]
    assert (x.min(), x.max()) == (0, 1)


def test_annealing_is_the_way_of_the_samples(sampled):
    frames, figures = drawn(SAMPLING, 60, function=ANNEALING)
    assert frames.shape == (30, 60, *EVENT)
    np.testing.assert_allclose(jnp.clip(frames[-1], 0, 1), sampled["without_denoising"][:60], atol=1e-6)
    # 3840 pixels, in steps that are hardly independent: known to 1.1 %.
    norms = np.array(exact_annealing(SAMPLING)[2])
    np.testing.assert_allclose(figures.score_norm, norms, rtol=0.05)
    # |e s| over |sqrt(2 e) z|: epsilon is the step of x + e s + sqrt(2 e) z, and no half or double of it.
    ratio = np.sqrt(5e-4 / 2) / 0.04
    np.testing.assert_allclose(figures.signal_to_noise, ratio * norms, rtol=0.07)


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_sampling_starts_where_it_is_told(name):
    config = dataclasses.replace(SAMPLING, start=name)
    start = jax.jit(partial(ncsn.starting_point, config, moments=MOMENTS))
    begin = lambda n, first: start(noise.row_keys(jax.random.key(0), n, start=first))
    x = np.asarray(begin(500, 0))
    assert x.shape == (500, *EVENT)
    np.testing.assert_array_equal(begin(2, 7), x[7:9])  # whatever else is in the batch
    x = x.astype(float)
    mean, std = (0.5, 12**-0.5) if name == "uniform" else (0.25, (0.7 + 3.0**2) ** 0.5)
    # 32,000 numbers: the mean to std / 179, the deviation to 0.4 %.
    assert x.mean() == pytest.approx(mean, abs=4.5 * std / 179)
    assert x.std() == pytest.approx(std, rel=0.02)
    assert (x.min() >= 0 and x.max() < 1) == (name == "uniform")


# What build makes -----------------------------------------------------------------------------


@pytest.mark.parametrize("stages", ncsn.STAGES)
@pytest.mark.parametrize(("name", "module"), [("ncsn", NCSN), ("ncsnv2", NCSNv2)])
def test_the_network_is_as_the_flags_say(name, module, stages):
    config = dataclasses.replace(DIGITS, network=name, channels=6, stages=stages, precision="bfloat16")
    network, _ = ncsn.score_network(config)
    assert isinstance(network, module)
    assert (network.channels, network.stages, network.dtype) == (6, ncsn.STAGES[stages], jnp.bfloat16)
    assert not network.centred_input  # pixels are in 0..1
    assert getattr(network, "levels", 22) == 22


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_the_network_becomes_a_score(name, monkeypatch):
    """NCSN's is told the number of the level and is the score; NCSNv2's is divided by sigma."""
    told = []

    def apply(network, params, x, condition):
        told.append(np.asarray(condition))
        return params * jnp.ones_like(x)

    for module in (NCSN, NCSNv2):
        monkeypatch.setattr(module, "apply", apply)
    config = dataclasses.replace(DIGITS, network=name)
    sigma = ncsn.sigma_grid(config)[jnp.array([0, 21, 3])]
    _, score = ncsn.score_network(config)
    s = score(6.0, jnp.zeros((3, *EVENT)), sigma)[:, 0, 0, 0]
    if name == "ncsn":
        np.testing.assert_array_equal(told[0], [0, 21, 3])
        np.testing.assert_array_equal(s, [6.0, 6.0, 6.0])
    else:
        np.testing.assert_allclose(s, 6.0 / sigma, rtol=1e-6)


def test_absent_data_matter_only_where_they_are_needed(tmp_path):
    absent = {"data_dir": tmp_path, "channels": 4}
    sampling = ncsn.build(dataclasses.replace(PRESETS["cifar10"], mode="sample", **absent))
    params = jax.eval_shape(sampling.init, jax.random.key(0))
    assert params["params"]["refinenet"]["end"]["kernel"].shape == (3, 3, 4, 3)
    for mode in ("all", "train", "evaluate"):
        with pytest.raises(DataError, match=f"no data set 'cifar10' in {tmp_path}"):
            ncsn.build(dataclasses.replace(PRESETS["cifar10"], mode=mode, **absent))


def test_the_shape_in_the_configuration_is_that_of_the_images(tmp_path):
    """By which samples are drawn where the images are not."""
    config = tiny_ncsn.config(tmp_path, shape=(4, 6, 3))
    experiment = ncsn.build(config)
    assert experiment.config == dataclasses.replace(config, shape=(8, 8, 1))
    assert next(experiment.batches(batch=16, seed=0))["x"].shape == (16, 8, 8, 1)
    sampling = dataclasses.replace(config, mode="sample", data="npz:/no.npz")
    assert ncsn.build(sampling).config.shape == (4, 6, 3)


def test_photographs_are_read_at_the_size_asked_for(tmp_path):
    for i in range(6):
        matplotlib.image.imsave(tmp_path / f"{i}.png", np.full((20, 24, 3), 40 * i, np.uint8))
    experiment = ncsn.build(dataclasses.replace(DIGITS, data=f"folder:{tmp_path}", size=8, batch=4))
    assert experiment.config.shape[:2] == (8, 8)
    assert next(experiment.batches(batch=4, seed=0))["x"].shape[:3] == (4, 8, 8)


# The program ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--preset imagenet", "--preset imagenet: is not known; use digits, fashion, mnist"),
        ("--preset mnist --langevin-stpes 3", "perhaps --langevin-steps"),
        ("--preset cifar10 --data-dir nowhere", "no data set 'cifar10' in nowhere"),
    ],
)
def test_bad_input_is_one_line_and_status_2(refused, words, said):
    assert said in refused("ncsn.experiment", f"--preset digits {words}")


@pytest.mark.slow
def test_a_run_makes_all_that_is_documented(tmp_path, monkeypatch):
    """With RefineNet, of one stage so that it compiles sooner."""
    monkeypatch.setitem(ncsn.STAGES, "small", ((1, 1),))
    config = tiny_ncsn.config(tmp_path)
    folder, metrics = config.workdir, launch.run(ncsn.build(config), config.workdir)
    rows = metrics_log.read(folder / "metrics.jsonl")
    assert [(row["step"], len(row["loss_by_sigma"])) for row in rows] == [(2, 5), (4, 5)]
    samples, _ = workdir.read_samples(folder / "samples.npz")
    assert {name: metrics[name]["evaluations"] for name in samples} == {"samples": 5, "without_denoising": 4}
    for name, x in samples.items():
        assert (x.shape, x.dtype) == ((16, 8, 8, 1), np.float32)
        assert 0 <= x.min() < x.max() <= 1
        assert metrics[name]["frechet"] > 0
    assert set(metrics["sampling"]) == {"langevin"}
    pictures = {"samples.png", "nearest.png", "annealing.png", "loss.png"}
    assert {path.name for path in (folder / "report").glob("*.png")} == pictures
