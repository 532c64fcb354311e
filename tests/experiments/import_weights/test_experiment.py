"""The experiment on imported weights, on a network of a few numbers."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.import_weights import Config, experiment
from jaxscore import importers
from jaxscore.launch import Refusal
from jaxscore.launch.flags import FlagError
from jaxscore.networks import MLP
from jaxscore.updates import Context

DESCRIPTION = importers.describe(MLP(width=8, depth=1, classes=3), "edm", (4, 4, 1), sigma_data=0.5)


def config_of(tmp_path, side=4, highest=2, **flags):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, side, side, 1), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(12) % (highest + 1))
    return Config(
        **{"workdir": tmp_path / "run", "data": f"npz:{tmp_path / 'images.npz'}", "levels": 2} | flags
    )


def test_the_loss_and_the_samples_are_those_of_the_class(tmp_path):
    made = experiment.assemble(config_of(tmp_path), DESCRIPTION)
    rng = np.random.default_rng(0)  # without noise the classes would hardly differ
    noisy = lambda leaf: leaf + jnp.asarray(0.3 * rng.standard_normal(leaf.shape), leaf.dtype)
    params = jax.tree.map(noisy, made.init(jax.random.key(0)))
    batch = jax.tree.map(jnp.asarray, next(made.batches(batch=4, seed=0, start=0)))
    run = jax.jit(
        lambda label: made.loss(
            params, Context(jax.random.key(1), jnp.int32(0), params), batch | {"label": label}
        )[0]
    )
    asked, other = float(run(batch["label"])), float(run((batch["label"] + 1) % 3))
    assert np.isfinite(asked)
    assert abs(asked - other) > 1e-2 * asked
    np.testing.assert_array_equal(made.conditions(jnp.arange(4)), [0, 1, 2, 0])
    keys = jax.random.split(jax.random.key(2), 3)
    drawn = jax.jit(partial(made.samplers["heun"], params))(keys, jnp.array([0, 1, 2]))
    assert drawn.shape == (3, 4, 4, 1)
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert (
        experiment.assemble(config_of(tmp_path, label=2), DESCRIPTION).conditions(jnp.arange(3)) == 2
    ).all()


def test_latents_are_no_images():
    latents = DESCRIPTION._replace(event=(4, 4, 4))
    made = experiment.assemble(Config(workdir=Path("run"), mode="sample"), latents)
    x = jnp.full((1, 4, 4, 4), -3.0)
    np.testing.assert_array_equal(made.units.decode(x), x)


MISFITS = {
    "side": ({"side": 5}, r"has images of shape \[5, 5, 1\], and the network those of \[4, 4, 1\]"),
    "classes": ({"highest": 3}, "has the class 3, and the network the classes 0 to 2"),
    "label": ({"label": 3}, "--label 3: the network has 3 classes"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_data_that_do_not_fit_the_network_are_refused(tmp_path, name):
    changes, said = MISFITS[name]
    with pytest.raises(FlagError, match=said):
        experiment.assemble(config_of(tmp_path, **changes), DESCRIPTION)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(Refusal, match="holds no imported weights; give --checkpoint too"):
        experiment.build(Config(workdir=tmp_path, mode="sample"))
    (tmp_path / "network.json").write_text('{"network": "MLP"}')
    with pytest.raises(Refusal, match=r"network.json: this is no description of a network"):
        experiment.build(Config(workdir=tmp_path, mode="sample"))
