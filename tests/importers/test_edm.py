"""Snapshots of EDM and EDM2: denoiser and score are the published ones."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.importers import edm, pickles
from jaxscore.networks import EDM2, UNet
from jaxscore.score import denoise
from tests.importers.files import PUBLISHED, arrays_of
from tests.networks import published

FILES = {"edm_snapshot": "edm_snapshot.pkl", "edm2_snapshot": "edm2_snapshot-0002048-0.100.pkl"}
SMALL = {"multipliers": (1, 2), "blocks": 1, "attention": (1,)}
NETWORKS = {
    "edm_snapshot": UNet(channels=8, classes=4, augmentations=9, dropout=0.13, **SMALL),
    "edm2_snapshot": EDM2(channels=16, classes=6, head=16, dropout=0.1, **SMALL),
}


@pytest.mark.parametrize("case", FILES)
def test_a_published_file_is_read(case):
    score, network, params = edm.load(PUBLISHED / FILES[case])
    assert network == NETWORKS[case]
    assert network.dtype == jnp.float32
    arrays = arrays_of(case)
    x, sigma, label = (
        jnp.asarray(arrays["x"]),
        arrays["sigma"].ravel(),
        jnp.asarray(arrays["labels"].argmax(axis=1)),
    )
    found = jax.jit(lambda: denoise(partial(score, params, condition=label), x, sigma))()
    np.testing.assert_allclose(found, arrays["D"], atol=1e-5)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_the_expected_loss_of_edm2_is_read():
    u, params = edm.uncertainty(PUBLISHED / FILES["edm2_snapshot"])
    arrays = arrays_of("edm2_snapshot")
    found = u(params, jnp.log(arrays["sigma"].ravel()) / 4)
    np.testing.assert_allclose(found, arrays["logvar"].ravel(), atol=1e-6)
    with pytest.raises(ValueError, match=r"edm_snapshot.pkl: it has no network of the expected loss"):
        edm.uncertainty(PUBLISHED / FILES["edm_snapshot"])


PRECONDITIONED = {
    # the levels that its sampler visits
    "vp_ddpmpp": ("vp", (0.002, 80.0)),
    "ve_ncsnpp": ("ve", (0.02, 80.0)),
    "iddpm_adm": ("iddpm", (0.006425, 80.0)),
    "edm_skip": ("edm", (0.002, 80.0)),
}


@pytest.mark.parametrize("case", PRECONDITIONED)
def test_each_preconditioning_makes_the_published_score(case):
    arrays, about, state = published.read(case)
    description, params = edm.from_content(published.snapshot(about, state), case)
    name, sigmas = PRECONDITIONED[case]
    assert description.preconditioning == name
    np.testing.assert_allclose(description[-2:], sigmas, rtol=1e-4)
    score = partial(importers.build(description)[0], params)
    x, sigma = arrays["x"], arrays["sigma"]
    found, denoised = jax.jit(lambda: (score(x, sigma), denoise(score, x, sigma)))()
    np.testing.assert_allclose(denoised, arrays["D"], atol=1e-4)  # x reaches 80
    each = np.asarray(sigma, np.float64)[:, None, None, None]
    expected = (published.exact(case, "D_f64") - np.asarray(x, np.float64)) / each**2
    # The phases of NCSN++'s embedding reach 1,000 radians.
    np.testing.assert_allclose(found, expected, atol=7e-4 if name == "ve" else 1e-4)


def test_the_pages_snippet_draws_images():
    """docs/start/weights.md with a small file: 16 pixels and 4 classes in place of CIFAR-10's."""
    page = (Path(__file__).parents[2] / "docs/start/weights.md").read_text()
    snippet = re.search(r"```py\n(.*?)```", page, re.S)[1]
    for theirs, ours in (
        ("edm-cifar10-32x32-cond-vp.pkl", str(PUBLISHED / FILES["edm_snapshot"])),
        ("(64) % 10", "(4) % 4"),
        ("(64, 32, 32, 3)", "(4, 16, 16, 3)"),
        ("80.0), 18)", "80.0), 3)"),
    ):
        assert theirs in snippet
        snippet = snippet.replace(theirs, ours)
    names = {}
    exec(snippet, names)
    assert names["images"].shape == (4, 16, 16, 3)
    assert np.isfinite(names["images"]).all()


# What is refused ------------------------------------------------------------------------------

CASE = "edm_skip"


def content(*, settings=None, outer=None, kind=None, preconditioning=None, rename=()):
    _, about, state = published.read(CASE)
    old, new = rename or ("", "")
    found = published.snapshot(about, {k.replace(old, new) if old else k: v for k, v in state.items()})
    whole = found["ema"]
    whole.state["_init_kwargs"] |= outer or {}
    inner = whole.state["_modules"]["model"]
    inner.state["_init_kwargs"] |= settings or {}
    whole.state["_modules"]["model"] = inner._replace(class_name=kind or inner.class_name)
    return {"ema": whole._replace(class_name=preconditioning or whole.class_name)}


REFUSED = {
    "preconditioning": (lambda: content(preconditioning="FlowPrecond"), "preconditioning FlowPrecond is not"),
    "network": (lambda: content(kind="TransUNet"), "EDMPrecond has TransUNet; known are SongUNet"),
    "setting": (lambda: content(settings={"swin": 2}), "SongUNet has swin = 2, which is not supported"),
    "value": (lambda: content(settings={"channel_mult_emb": 8}), "channel_mult_emb = 8, not supported"),
    "width": (lambda: content(settings={"model_channels": 64}), r"146 of another shape \(dec.16x16_block0"),
    "blocks": (lambda: content(settings={"num_blocks": 2}), "does not fit UNet: 56 missing .* 6 left over"),
    "renamed": (
        lambda: content(rename=("16x16_block1.conv0.w", "16x16_block1.konv.w")),
        r"1 missing \(decoder0_1/conv0/kernel\); 1 left over \(dec.16x16_block1.konv.weight\)",
    ),
    "no network": (lambda: {"loss_fn": 1}, "it has no network `ema`"),
    "optimiser": (lambda: {"state": {}, "param_groups": []}, "it has no network `ema`"),
    "damaged": (lambda: {"ema": pickles.Record("EDMPrecond", {})}, "_modules"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_snapshot_that_does_not_fit_is_one_line(name):
    made, said = REFUSED[name]
    with pytest.raises(ValueError, match=f"^x.pkl: .*{said}") as caught:
        edm.from_content(made(), "x.pkl")
    assert "\n" not in str(caught.value)
