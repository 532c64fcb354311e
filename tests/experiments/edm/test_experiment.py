import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.edm import experiment as edm
from experiments.edm.config import Config, Network, Sampling
from jaxscore import launch, noise
from jaxscore.launch import flags
from jaxscore.networks.edm2 import normalised
from jaxscore.types import right
from jaxscore.updates import Context
from tests.experiments.edm import tiny

IMAGES = np.random.default_rng(0).random((64, 8, 8, 1), np.float32)
LABELS = np.arange(64, dtype=np.int32) % 3


def context():
    return Context(jax.random.key(1), jnp.int32(0), ())


def recorded(config: Config):
    """What the network is given in a training step, and the value of the loss."""
    seen = {}

    def net(params, x, c_noise, condition=None, *, train=False, rngs=None):
        seen.update(x=x, c_noise=c_noise, condition=condition, train=train)
        return jnp.zeros_like(x)

    model = edm.Model(net, 3, (8, 8, 1), None)
    value, _ = edm.loss(
        config, model, {}, context(), {"x": jnp.asarray(IMAGES), "label": jnp.asarray(LABELS)}
    )
    return seen, value


# Training -------------------------------------------------------------------------------------


def test_the_loss_of_a_network_of_zeros_is_its_formula():
    """Its denoiser is c_skip x: E |D - x0|^2 w / 2 per image, with x0 in -1..1 and EDM's weight."""
    seen, value = recorded(Config(sigma_std=1e-6))
    sigma, scale = np.exp(-1.2), 0.5
    x0 = 2 * IMAGES - 1
    skip = scale**2 / (scale**2 + sigma**2)
    error = (1 - skip) ** 2 * np.sum(x0**2, axis=(1, 2, 3)) + skip**2 * sigma**2 * 64
    weight = (scale**2 + sigma**2) / (scale * sigma) ** 2
    # 64 images of 64 pixels: the sum of n^2 is known to sqrt(2 / 4096), 2 %, and it is half of the loss.
    np.testing.assert_allclose(value, np.mean(weight * error / 2), rtol=0.05)
    np.testing.assert_allclose(seen["c_noise"], -0.3, atol=1e-5)
    assert seen["train"]


def test_some_labels_are_dropped_and_the_others_given():
    seen, _ = recorded(Config(p_uncond=0.4))
    label = np.asarray(seen["condition"]["label"])
    dropped = label == 3
    assert 10 < dropped.sum() < 41  # 26, give or take 4
    np.testing.assert_array_equal(label[~dropped], LABELS[~dropped])


def test_the_network_is_told_what_was_done_to_an_image():
    plain, augmented = recorded(Config()), recorded(Config(augment=0.5))
    assert "augment" not in plain[0]["condition"]
    labels = np.asarray(augmented[0]["condition"]["augment"])
    still = np.all(labels == 0, axis=1)
    assert labels.shape == (64, 9)
    assert 0 < still.sum() < 20  # 64 * 0.5 * 0.75 * 0.5^4 = 1.5
    same = np.all(np.isclose(plain[0]["x"], augmented[0]["x"], atol=1e-5), axis=(1, 2, 3))
    np.testing.assert_array_equal(same, still)


@pytest.mark.parametrize("name", ["uniform", "min_snr", "soft_min_snr", "sigmoid", "likelihood"])
def test_every_weight_has_its_name(name):
    sigma = jnp.array([0.1, 2.0])
    found = edm.weight(Config(weight=name))(sigma)
    ln = np.log(80 / 0.002)
    expected = {
        "uniform": sigma**2,
        "min_snr": sigma**4 * np.minimum(sigma**-2, 5),
        "soft_min_snr": sigma**4 / (sigma**2 + 0.25),
        "sigmoid": sigma**4 / (1 + sigma**2),
        "likelihood": 2 * sigma**2 * ln,
    }
    np.testing.assert_allclose(found, expected[name], rtol=1e-5)
    levels = edm.schedule(Config(weight=name))(jnp.array([0.0, 1.0]))
    assert (name == "likelihood") == bool(np.allclose(levels, [0.002, 80]))


def test_the_uncertainty_is_learnt_beside_the_network(tmp_path):
    experiment = edm.build(tiny.config(tmp_path, weight="uncertainty"))
    params = jax.jit(experiment.init)(jax.random.key(0))
    assert params.keys() == {"network", "uncertainty"}
    batch = jax.device_put(next(experiment.batches(batch=16, seed=0)))
    slopes = jax.jit(jax.grad(lambda params: experiment.loss(params, context(), batch)[0]))(params)
    learnt = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slopes["uncertainty"])]
    assert max(learnt) > 0
    x, sigma = jnp.zeros((2, 8, 8, 1)), jnp.ones(2)
    np.testing.assert_array_equal(jax.jit(experiment.score)(params, x, sigma).shape, x.shape)


def test_edm2_keeps_its_kernels_normal(tmp_path):
    network = Network(kind="edm2", channels=8, multipliers=(1,), blocks=1, attention=())
    config = tiny.config(tmp_path, network=network, steps=1, save_every=1)
    launch.run(edm.build(config), config.workdir, mode="train")
    trained = launch.open_run(config.workdir, edm.build, Config).params
    kernels = [
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trained) if path[-1].key == "kernel"
    ]
    assert len(kernels) > 5
    for kernel in kernels:
        np.testing.assert_allclose(kernel, normalised(kernel, tuple(range(kernel.ndim - 1))), atol=1e-3)


# Sampling -------------------------------------------------------------------------------------


def shifted(params, x, c_noise, condition=None, *, train=False, rngs=None):
    """A network whose output is the class number, or that of the parameters."""
    return jnp.ones_like(x) * right(condition.astype(jnp.float32) * params["scale"], x)


def test_guidance_is_linear_in_its_scale_within_the_interval():
    sampling = Sampling(scale=3.0, interval=(0.5, 2.0))
    config = Config(p_uncond=0.1, sampling=sampling)
    model = edm.Model(shifted, 3, (2, 2, 1), None)
    params, x, sigma = {"scale": 1.0}, jnp.zeros((3, 2, 2, 1)), jnp.array([0.4, 1.0, 3.0])
    condition = jnp.array([1, 1, 1])
    guided = edm.at_scale(config, model, params, condition, 3.0)(x, sigma)
    plain = edm.score(config, model, params, x, sigma, condition)
    none = edm.score(config, model, params, x, sigma, jnp.full_like(condition, 3))
    inside = right(jnp.array([False, True, False]), x)
    np.testing.assert_allclose(guided, jnp.where(inside, 3 * plain - 2 * none, plain), rtol=1e-5)


def test_churn_adds_noise_between_its_levels():
    plain, churned = (Config(sampling=Sampling(churn=amount, levels=4)) for amount in (0.0, 40.0))
    keys = noise.row_keys(jax.random.key(0), 2)
    model = edm.Model(lambda params, x, c_noise, condition=None: jnp.zeros_like(x), 0, (2, 2, 1), None)
    first, second = (edm.sample(config, model, {}, keys) for config in (plain, churned))
    assert np.all((first >= 0) & (first <= 1))
    assert not np.allclose(first, second, atol=1e-3)


SOLVERS = [("heun", 7), ("euler", 4), ("dpm_solver_pp", 4), ("unipc", 4), ("deis", 4)]


@pytest.mark.parametrize(("solver", "count"), SOLVERS)
def test_evaluations_are_those_of_the_solver(solver, count):
    assert edm.evaluations(Config(sampling=Sampling(solver=solver, levels=4))) == count


# Runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps, with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("edm")
    config = tiny.config(folder, keep_every=2, keep=1)
    found = launch.run(edm.build(config), config.workdir)
    return config, found


def test_a_run_makes_all_that_is_documented(trained):
    config, found = trained
    pictures = {path.name for path in (config.workdir / "report").glob("*.png")}
    assert pictures == {f"{name}.png" for name in ("samples", "nearest", "loss", "classes", "guidance")}
    assert found["samples"]["evaluations"] == 3
    assert found["training"]["agreement"] >= 0.5
    with np.load(config.workdir / "samples.npz") as samples:
        assert samples["samples"].shape == (16, 8, 8, 1)


def test_an_earlier_checkpoint_guides(trained):
    """It takes the place of the model without classes: at scale 0 it is the guide that draws."""
    config, _ = trained
    sampling = dataclasses.replace(config.sampling, guide=config.workdir, guide_step=2, scale=0.0)
    guided = edm.build(dataclasses.replace(config, sampling=sampling, mode="sample"))
    keys, label = noise.row_keys(jax.random.key(0), 2), jnp.array([0, 1])
    draw = lambda experiment, params: jax.jit(experiment.samplers["samples"])(params, keys, label)
    newest, early = (launch.open_run(config.workdir, edm.build, Config, step=step) for step in (None, 2))
    plain = edm.build(dataclasses.replace(config, sampling=dataclasses.replace(config.sampling, scale=1.0)))
    found = draw(guided, guided.sampled(newest.params))
    np.testing.assert_allclose(found, draw(plain, early.params), atol=1e-5)
    assert not np.allclose(found, draw(plain, newest.params), atol=1e-5)


def test_weights_are_not_sampled_as_another_score(trained):
    """The parameters would fit, and the samples would be wrong."""
    config, _ = trained
    before = (config.workdir / "config.json").read_bytes()
    other = dataclasses.replace(config, sigma_data=0.3, mode="sample")
    with pytest.raises(
        launch.Refusal, match=r"--sigma-data: .* was trained with another .sigma_data: 0.5 -> 0.3"
    ):
        launch.run(edm.build(other), config.workdir, mode="sample")
    assert (config.workdir / "config.json").read_bytes() == before


def test_a_guide_of_other_classes_is_refused(trained, tmp_path):
    config, _ = trained
    sampling = dataclasses.replace(config.sampling, guide=config.workdir, scale=2.0)
    other = dataclasses.replace(config, classes=5, sampling=sampling, mode="sample")
    with pytest.raises(
        flags.FlagError, match=r"--sampling.guide .*run: has 2 classes and images of \(8, 8, 1\), not 5"
    ):
        edm.build(other)
    sampling = dataclasses.replace(sampling, guide_step=3)
    with pytest.raises(
        flags.FlagError, match=r"--sampling.guide: .* has no checkpoint of step 3; it has 2, 4"
    ):
        edm.build(dataclasses.replace(config, sampling=sampling, mode="sample"))
