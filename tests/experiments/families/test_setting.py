import jax
import numpy as np
import pytest

from experiments.families import budget
from experiments.families import setting as settings
from jaxscore import data
from tests.experiments.families import small


@pytest.mark.parametrize("name", ["digits", "25gaussians", "stacked_digits"])
def test_scaled_examples_have_mean_0_and_variance_1(name):
    setting = settings.of(name)
    scaled = np.asarray(setting.scaled(setting.train[:10_000]))
    # Exact where all examples are in the statistics, of the 45,000 a sample's error of about 1/100.
    np.testing.assert_allclose(scaled.mean(), 0, atol=0.02)
    np.testing.assert_allclose(scaled.std(), 1, atol=0.02)
    np.testing.assert_allclose(setting.restored(scaled[:50]), setting.train[:50], atol=2e-6)


def test_what_is_held_out_is_not_trained_on():
    setting = settings.of("digits")
    digits = data.digits().examples
    assert len(setting.train) + len(setting.held_out) == len(digits)
    kept = {image.tobytes() for image in setting.train}
    assert sum(image.tobytes() in kept for image in setting.held_out) == 0


def test_grey_values_are_clipped_and_points_are_not():
    assert float(settings.of("digits").restored(np.full((1, 8, 8, 1), 99.0)).max()) == 1.0
    assert float(settings.of("25gaussians").restored(np.full((1, 2), 99.0)).max()) > 90


def test_images_that_are_bytes_stay_bytes():
    images = data.held(np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1))
    some = settings._some(images, np.array([3, 7, 11]))
    np.testing.assert_array_equal(some[1], images[7])
    assert some.take(np.array([2])).dtype == np.uint8


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(data.DataError, match=r"fashion_mnist.*25gaussians, stacked_digits"):
        settings.of("nonsense")


def test_a_budget_is_so_many_steps():
    module, config = small.module("edm"), small.config("edm")
    small_one, each = budget.within(module.build, config, 1e9)
    assert small_one.steps == round(1e9 / each)
    # A dense network: 2 products for each weight and example, but one for those of the input.
    x, c_noise = module.family.zeros(settings.of("25gaussians"))
    network = module.family.score_network(config, settings.of("25gaussians"))
    tree = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(tree) if leaf.ndim == 2)
    assert 4 * kernels * config.batch < each <= 6 * kernels * config.batch
    assert budget.within(module.build, config, 1.0)[0].steps == 1


def test_layers_that_are_a_loop_cost_each():
    module = small.module("flow")
    two, four = (budget.cost(module.build, small.config("flow", layers=layers)) for layers in (2, 4))
    np.testing.assert_allclose(four / two, 2, rtol=0.05)


def test_a_penalty_costs_by_how_often_it_is_computed(monkeypatch):
    module = small.module("gan")
    known, flops = {}, budget._flops

    def once(experiment):
        """Compiled with the penalty and without it, not for every cost again."""
        penalised = experiment.config.penalty > 0
        if penalised not in known:
            known[penalised] = flops(experiment)
        return known[penalised]

    monkeypatch.setattr(budget, "_flops", once)
    cost = lambda **changes: budget.cost(module.build, small.config("gan", **changes))
    never, always, lazily = cost(penalty=0.0), cost(interval=1), cost(interval=10)
    assert never < lazily < always
    np.testing.assert_allclose(lazily - never, (always - never) / 10)
