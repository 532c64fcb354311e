"""Checkpoints of score_sde_pytorch: the network is found by its modules, the averages by their order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers
from jaxscore.importers import pickles, score_sde
from jaxscore.networks import UNet
from tests.importers.files import PUBLISHED, arrays_of
from tests.networks.published import tensor

VE, VP = (PUBLISHED / f"score_sde_{name}.pth" for name in ("ncsnpp_ve", "ddpmpp_vp"))
SMALL = {"channels": 4, "multipliers": (2, 2), "blocks": 1, "attention": (1,), "dropout": 0.1}
NCSNPP = {"embedding": "fourier", "noise_multiplier": 2, "filter": (1, 3, 3, 1), "encoder": "residual"}


def score_of(path, x, sigma, **arguments):
    score, _, params = score_sde.load(path, **arguments)
    return np.asarray(
        jax.jit(partial(score, params))(jnp.asarray(x, jnp.float32), jnp.asarray(sigma, jnp.float32))
    )


@pytest.mark.parametrize(("average", "name"), [(True, "score"), (False, "score_raw_weights")])
def test_the_score_of_ncsnpp_is_the_published_one(average, name):
    """In the published units: images in 0..1, of which x' = 2x - 1 and sigma' = 2 sigma are ours."""
    arrays = arrays_of("score_sde_ncsnpp_ve")
    sigma = arrays["labels"].astype(np.float64)
    found = 2 * score_of(VE, 2 * arrays["x"] - 1, 2 * sigma, average=average)
    scale = np.abs(arrays[name]).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found / scale, arrays[name] / scale, atol=1e-5)  # it reaches 214


@pytest.mark.parametrize(("average", "name"), [(True, "score"), (False, "score_raw_weights")])
def test_the_score_of_ddpmpp_is_the_published_one(average, name):
    """In the published coordinates: x / r with r = sqrt(1 + sigma^2), whose score is r times ours."""
    arrays = arrays_of("score_sde_ddpmpp_vp")
    t = arrays["t"].astype(np.float64)
    sigma = np.sqrt(np.expm1(0.1 * t + 19.9 * t**2 / 2))
    r = np.sqrt(1 + sigma**2)[:, None, None, None]
    found = r * score_of(VP, r * arrays["x"], sigma, average=average)
    np.testing.assert_allclose(found, arrays[name], atol=1e-4)


def test_the_network_and_the_process_are_found_in_the_modules():
    ve, vp = (score_sde.read(path)[0] for path in (VE, VP))
    assert importers.build(ve)[1] == UNet(**SMALL, **NCSNPP)
    assert importers.build(vp)[1] == UNet(**SMALL)
    assert (ve.preconditioning, vp.preconditioning) == ("ve", "vp")
    np.testing.assert_allclose(ve[-2:], (0.02, 100.0), rtol=1e-6)
    assert ve.event == (32, 32, 3)  # a side of 16 where it attends
    assert score_sde.read(VE, side=16)[0].event == (16, 16, 3)


SHAPES = {
    "deep": {"multipliers": (1, 2, 2), "blocks": 2, "attention": (1, 2)},
    "one level": {"multipliers": (2,), "blocks": 3, "attention": ()},
    "all attend": {"multipliers": (1, 3), "blocks": 2, "attention": (0, 1)},
    "skip": {"multipliers": (1, 2, 3), "attention": (), "encoder": "skip", "decoder": "skip", **NCSNPP}
    | {"encoder": "skip"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_other_networks_are_found_too(name):
    """From the numbered modules that such a network has."""
    network = UNet(channels=8, dropout=0.1, **SHAPES[name])
    fields = {"attention": (), "encoder": "standard", "decoder": "standard", "blocks": 1} | SHAPES[name]
    params = jax.eval_shape(importers.initial(network, (16, 16, 1)), jax.random.key(0))["params"]
    flat = {path: leaf.shape for path, leaf in importers.weights.flattened(params).items()}
    found = {str(i): module(place, flat) for i, place in enumerate(score_sde.order(fields))}
    description, places = score_sde.describe(found)
    assert importers.build(description)[1] == network
    assert [ours for ours, _ in places.values()] == score_sde.order(fields)


def module(place, flat):
    """The module at this place of our network."""
    own = {
        path.removeprefix(f"{place}/"): shape for path, shape in flat.items() if path.startswith(f"{place}/")
    }
    own = {path: shape for path, shape in own.items() if not path.startswith("attention/")}
    if place == "waves":
        return score_sde.Module("fourier", outputs=2 * own["frequencies"][0])
    if place.endswith("attention"):
        return score_sde.Module("attention", *2 * flat[f"{place}/norm/scale"])
    if "conv0/kernel" in own:
        inputs, outputs = own["conv0/kernel"][-2:]
        resamples = "skip/kernel" in own and inputs == outputs
        return score_sde.Module("resampling" if resamples else "block", inputs, outputs)
    if "scale" in own:
        return score_sde.Module("norm", *2 * own["scale"])
    kind = {"layer": "dense", "input": "halved" if len(own["kernel"]) == 4 else "added"}.get(
        place[:5], "conv"
    )
    return score_sde.Module(kind, *own["kernel"][-2:])


# The averages ---------------------------------------------------------------------------------


def altered(change, path=VE):
    content = pickles.read(path)
    change(content)
    return content


def drop_last(content):
    content["ema"]["shadow_params"].pop()


def add_one(content):
    content["ema"]["shadow_params"].append(tensor(np.zeros(3, np.float32)))


def exchange(content, i=1, j=2):
    """Two neighbours of other shapes: a bias and a matrix."""
    listing = content["ema"]["shadow_params"]
    listing[i], listing[j] = listing[j], listing[i]


def rename(content):
    model = content["model"]
    model["module.all_modules.19.wait"] = model.pop("module.all_modules.19.weight")


def misshape(content):
    content["model"]["module.all_modules.19.bias"] = tensor(np.zeros(4, np.float32))
    content["ema"]["shadow_params"][-1] = tensor(np.zeros(4, np.float32))


ALTERED = {
    "one short": (drop_last, r"155 averages for 156 .*1 without an average \(all_modules.19.bias\)"),
    "one too many": (add_one, r"157 averages for 156 .*1 left over \(entry 156 \(3,\)\)"),
    "other order": (
        exchange,
        r"2 of another shape \(all_modules.1.bias \(16, 16\), which is \(16,\), all_mod",
    ),
    "renamed": (rename, "module 19 is none of NCSN|all_modules.19"),
    "misshapen": (misshape, r"1 of another shape \(all_modules.19.bias \(4,\), which should be \(3,\)\)"),
    "no averages": (lambda content: content.pop("ema"), "no averages `ema.shadow_params`"),
    "no tensor": (lambda content: content["ema"]["shadow_params"].append(3), "there is int, where a tensor"),
    "no model": (lambda content: content.pop("model"), "it has no `model`"),
    "half": (
        lambda content: [content["model"].pop(k) for k in list(content["model"]) if ".9." in k],
        "averages for",
    ),
}


@pytest.mark.parametrize("name", ALTERED)
def test_a_checkpoint_that_does_not_fit_is_one_line(name):
    change, said = ALTERED[name]
    with pytest.raises(ValueError, match=rf"^x.pth: .*({said})") as caught:
        score_sde.from_content(altered(change), "x.pth")
    assert "\n" not in str(caught.value)


def test_without_their_averages_the_last_parameters_are_read():
    content = altered(lambda content: content.pop("ema"))
    assert score_sde.from_content(content, "x.pth", average=False)
