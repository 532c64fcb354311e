"""Networks against what the published PyTorch networks return, for weights that a rule makes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.importers import build, diffusers, edm, weights
from jaxscore.networks import ADM, DDPM, EDM2, DiT, UNet
from tests.importers.files import PUBLISHED
from tests.networks.published import read, snapshot

# The networks ---------------------------------------------------------------------------------

SMALL = {"multipliers": (1, 2), "blocks": 1, "attention": (1,)}
NCSNPP = {"embedding": "fourier", "noise_multiplier": 2, "filter": (1, 3, 3, 1), "encoder": "residual"}
EDM = {
    "edm_ddpmpp_cond_augment": UNet(channels=32, classes=10, augmentations=9, **SMALL),
    "edm_skip": UNet(channels=32, filter=(1, 3, 3, 1), encoder="skip", decoder="skip", **SMALL),
    "edm_adm_cond": ADM(channels=64, classes=10, dropout=0.0, **SMALL),
    "edm2_cond": EDM2(channels=64, classes=10, **SMALL),
}


def imported(case: str):
    """The network and the parameters, as the importers make them of the published settings and names."""
    _, about, state = read(case)
    if case.startswith("diffusers"):
        settings = json.loads((PUBLISHED / case / "config.json").read_text())
        description = diffusers.describe(settings, {})
        network = build(description)[1]
        return network, weights.fill(network, description.event, diffusers.named(state, description))
    description, params = edm.from_content(snapshot(about, state), case)
    return build(description)[1].clone(dropout=0.0), params


def denoiser(network, params, x, sigma, *condition):
    """D = c_skip x + c_out F(c_in x, ln sigma / 4), sigma_data = 0.5 (Karras et al. 2022, table 1)."""
    each, variance = sigma[:, None, None, None], sigma[:, None, None, None] ** 2 + 0.25
    f = jax.jit(network.apply)(params, x / jnp.sqrt(variance), jnp.log(sigma) / 4, *condition)
    return 0.25 / variance * x + 0.5 * each / jnp.sqrt(variance) * f


@pytest.mark.parametrize("case", EDM)
def test_a_denoiser_of_edm_is_the_published_one(case):
    """With classes, with none, and with augmentation labels; float32 differs in the seventh digit."""
    arrays, _, _ = read(case)
    network, params = imported(case)
    assert network == EDM[case]
    x, sigma = arrays["x"], arrays["sigma"]
    run = jax.jit(lambda *condition: denoiser(network, params, x, sigma, *condition))
    if "labels" not in arrays:
        np.testing.assert_allclose(run(), arrays["D"], atol=1e-5)
        return
    label = arrays["labels"].argmax(axis=1)
    np.testing.assert_allclose(run(label), arrays["D"], atol=1e-5)
    np.testing.assert_allclose(run(), arrays["D_no_labels"], atol=1e-5)
    np.testing.assert_allclose(run(jnp.full_like(label, 10)), arrays["D_no_labels"], atol=1e-5)
    if "D_augment" in arrays:
        both = {"label": label, "augment": arrays["augment_labels"]}
        np.testing.assert_allclose(run(both), arrays["D_augment"], atol=1e-5)


def test_ncsnpp_is_the_published_one():
    arrays, _, _ = read("ve_ncsnpp")
    network, params = imported("ve_ncsnpp")
    assert network == UNet(channels=32, **NCSNPP, **SMALL)
    out = jax.jit(network.apply)(params, arrays["x"], arrays["c_noise"])
    np.testing.assert_allclose(out, arrays["F"], atol=2e-5)


def test_the_uncertainty_of_edm2_is_the_published_one():
    arrays, about, state = read("edm2_cond")
    uncertainty, params = edm.uncertainty_of(snapshot(about, state))
    found = uncertainty(params, jnp.log(arrays["sigma"]) / 4)
    np.testing.assert_allclose(found, arrays["logvar"].ravel(), atol=1e-6)


def test_dit_is_the_published_one():
    arrays, _, _ = read("diffusers_dit")
    (network, params), condition = imported("diffusers_dit"), arrays["labels"]
    assert network == DiT(width=32, depth=2, heads=2, patch=2, classes=10, outputs=8, own_embeddings=True)
    out = jax.jit(network.apply)(params, arrays["x"], arrays["timestep"].astype(jnp.float32), condition)
    np.testing.assert_allclose(out, arrays["out"], atol=6e-5)  # phases reach 1,000 radians


def test_ddpm_is_the_published_one():
    arrays, _, _ = read("diffusers_unet2d")
    network, params = imported("diffusers_unet2d")
    assert network == DDPM(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1,), groups=4)
    out = jax.jit(network.apply)(params, arrays["x"], arrays["timestep"].astype(jnp.float32))
    np.testing.assert_allclose(out, arrays["out"], atol=1e-5)


# Their sizes ----------------------------------------------------------------------------------

CIFAR10 = {"channels": 128, "multipliers": (2, 2, 2), "blocks": 4, "attention": (1,), "augmentations": 9}


@pytest.mark.parametrize(
    ("network", "event", "millions"),
    [
        (UNet(**CIFAR10), (32, 32, 3), 55.7),  # Karras et al. 2022, table 7
        (ADM(classes=1000), (64, 64, 3), 295.9),  # the same, table 8
        (DDPM(), (32, 32, 3), 35.7),  # Ho et al. 2020, appendix B
        # Karras et al. 2024, table 2, and Peebles & Xie 2023, table 4.
        *[
            (EDM2.named(size, classes=1000), (64, 64, 4), count)
            for size, count in {"xs": 125, "s": 280, "m": 498, "l": 777, "xl": 1119, "xxl": 1523}.items()
        ],
        *[
            (DiT.named(size, patch=2, classes=1000, outputs=8), (32, 32, 4), count)
            for size, count in {"s": 33, "b": 130, "l": 458, "xl": 675}.items()
        ],
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(network, event, millions):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *event)), jnp.zeros(1))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6
    assert round(count, 1 if isinstance(millions, float) else None) == millions
