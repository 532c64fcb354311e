"""Descriptions: what makes a score of weights, as JSON."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers, noise
from jaxscore import score as scores
from jaxscore.importers import description as descriptions
from jaxscore.importers import weights
from jaxscore.importers.description import iddpm_levels
from jaxscore.networks import MLP, NCSNv2

X, SIGMA = jnp.ones((3, 2)), jnp.array([0.05, 1.0, 20.0])
CONSTANTS = {"edm": {"sigma_data": 0.4}, "vp": {"beta_max": 15.0}, "ddpm": {"prediction": "velocity"}}


@pytest.mark.parametrize("name", descriptions.PRECONDITIONINGS)
def test_a_description_survives_json(name):
    network = MLP(width=8, depth=1, classes=3)
    made = importers.describe(network, name, (2,), (0.01, 40.0), **CONSTANTS.get(name, {}))
    again = importers.from_json(json.loads(json.dumps(importers.as_json(made))))
    assert again == made
    score, found = importers.build(again)
    assert found == network
    params = weights.initial(network, (2,))(jax.random.key(0))
    expected = descriptions.PRECONDITIONINGS[name](network.apply, **CONSTANTS.get(name, {}))
    label = jnp.array([0, 1, 3])
    np.testing.assert_array_equal(score(params, X, SIGMA, label), expected(params, X, SIGMA, label))


def test_fields_that_are_tuples_are_tuples_again():
    network = NCSNv2(channels=4)
    text = json.dumps(importers.as_json(importers.describe(network, "over_sigma", (8, 8, 1))))
    assert importers.build(importers.from_json(json.loads(text)))[1] == network


def test_how_a_network_computes_is_chosen_when_it_is_built():
    made = importers.describe(MLP(width=8, dtype=jnp.bfloat16), "ve", (2,))
    assert "dtype" not in made.fields
    assert importers.build(made)[1].dtype == jnp.float32
    assert importers.build(made, dropout=0.3)[1].dropout == 0.3


GOOD = importers.as_json(importers.describe(MLP(width=8), "edm", (2,), sigma_data=0.5))
BAD = {
    "network": ({"network": "Perceptron"}, "no network 'Perceptron'"),
    "no network": ({"network": "init"}, "no network 'init'"),
    "field": ({"fields": {"with": 3}}, "MLP, edm: .*with"),
    "activation": ({"fields": {"activation": "eval"}}, "activation 'eval' is not known; use silu, "),
    "preconditioning": ({"preconditioning": "fm"}, "'fm' is not known; use edm, ve, vp, iddpm, ddpm"),
    "constant": ({"constants": {"sigma": 1}}, "MLP, edm: .*sigma"),
    "value": ({"constants": {"sigma_data": 0.0}}, "sigma_data = 0.0 must be positive"),
    "betas": ({"preconditioning": "ddpm", "constants": {"betas": "even"}}, "betas 'even' are not known"),
    "prediction": ({"preconditioning": "ddpm", "constants": {"prediction": "x"}}, "prediction 'x' is not"),
    "another entry": ({"nett": 1}, "no description of a network"),
    "number for a name": ({"network": 5}, "its network cannot be 5"),
    "list of fields": ({"fields": []}, r"its fields cannot be \[\]"),
    "negative side": ({"event": [-8, 8, 1]}, r"event \[-8, 8, 1\] is no shape"),
    "endless network": (
        {"fields": {"depth": 10**9}},
        r"its field depth is 1000000000, not a number in 0\.\.1000",
    ),
    "dropout": ({"fields": {"dropout": 3.0}}, r"its field dropout is 3\.0, not a number in 0\.\.1"),
    "infinite constant": ({"constants": {"sigma_data": float("nan")}}, "its constants are not finite"),
    "levels": ({"sigma_min": 100.0}, r"sigma_min 100\.0 and sigma_max 80\.0 are no range"),
    "words for levels": ({"sigma_max": "a"}, "sigma_max 'a' are no range"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_built_is_refused(name):
    changes, said = BAD[name]
    with pytest.raises(ValueError, match=said):
        importers.build(importers.from_json(GOOD | changes))


def test_what_describes_no_network_is_refused():
    for value in ({}, [], {"experiment": "digits"}, None):
        with pytest.raises(ValueError, match="no description of a network; it needs constants, event"):
            importers.from_json(value)


# Noise levels ---------------------------------------------------------------------------------


def test_iddpm_s_levels_end_at_zero_and_begin_at_twenty_thousand():
    levels = iddpm_levels()
    np.testing.assert_allclose(levels[[0, 1, 999, 1000]], [20291.17, 641.6624, 0.006422337, 0], rtol=6e-4)
    assert (np.diff(levels) < 0).all()


def seen(name, sigma, **constants):
    """The noise level that the network is given."""
    net = lambda params, x, c_noise: jnp.broadcast_to(c_noise[:, None], x.shape)
    score = descriptions.PRECONDITIONINGS[name](net, **constants)
    return -score(None, jnp.zeros((len(sigma), 1)), sigma)[:, 0] * sigma


def test_the_step_is_interpolated_and_ends_with_the_table():
    levels = jnp.asarray(noise.ddpm_levels(noise.ddpm_betas()), jnp.float32)
    np.testing.assert_allclose(seen("ddpm", levels[jnp.array([0, 300, 999])]), [0, 300, 999], atol=1e-2)
    between = jnp.sqrt(levels[300:301] * levels[301:302])
    np.testing.assert_allclose(seen("ddpm", between), [300.5], atol=1e-2)
    np.testing.assert_allclose(seen("ddpm", jnp.array([1e-3, 1e3])), [0, 999], atol=1e-3)


def test_the_nearest_step_of_iddpm_is_an_integer():
    found = seen("iddpm", jnp.array([0.05, 0.7, 20.0]))
    np.testing.assert_allclose(found, [24, 383, 967], rtol=1e-5)  # as the published code has them


def test_the_time_of_vp_is_counted_in_steps():
    found = seen("vp", jnp.array([0.05, 0.7, 20.0]))
    np.testing.assert_allclose(found, [11.582556, 195.03761, 770.36957], rtol=2e-5)  # as the published code


@pytest.mark.parametrize("prediction", ["noise", "velocity", "clean"])
def test_what_a_network_predicts_makes_the_same_score(prediction):
    """The Gaussian is N(0, s^2), so all three predictions are linear in x."""
    spread = 0.7

    def net(params, u, c_noise):
        sigma = c_noise[:, None]
        r = jnp.sqrt(1 + sigma**2)
        x, v = u * r, spread**2 + sigma**2
        clean, noise = x * spread**2 / v, x * sigma / v
        return {"noise": noise, "clean": clean, "velocity": (noise - sigma * clean) / r}[prediction]

    found = partial(scores.preconditioned_vp(net, lambda sigma: sigma, prediction), None)(X, SIGMA)
    np.testing.assert_allclose(found, -X / (spread**2 + SIGMA[:, None] ** 2), rtol=2e-5)


def test_more_channels_than_the_input_has_are_not_used():
    net = lambda params, x, c_noise: jnp.concatenate([x, 100 + x], axis=-1)
    score = scores.preconditioned_vp(net, lambda sigma: sigma)
    r = jnp.sqrt(1 + SIGMA[:, None] ** 2)
    np.testing.assert_allclose(score(None, X, SIGMA), -X / r / SIGMA[:, None], rtol=1e-6)
