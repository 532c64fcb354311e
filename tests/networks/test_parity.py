"""Networks against what the published PyTorch networks return, for weights that a rule makes.

Each file in parity/ has inputs and outputs, and the names, shapes and kinds of the published state dict.
"""

import json
import math
import re
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxscore.networks import ADM, DDPM, EDM2, DiT, UNet, edm2

PARITY = Path(__file__).parent / "parity"


def rule(name: str, shape: list[int], kind: str) -> np.ndarray:
    """The weights with this name, as in the published network that was evaluated."""
    w = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    scaled = {
        "matrix": lambda w: w / math.sqrt(math.prod(shape[1:])),
        "norm": lambda w: 1 + 0.1 * w,
        "bias": lambda w: 0.1 * w,
        "gain": lambda w: 0.5 + 0.1 * w,
        "matrix_relu": lambda w: w * math.sqrt(2 / math.prod(shape[1:])),
        "running_var": lambda w: 0.5 + np.abs(w),
        "fourier16": lambda w: 16 * w,
        "fourier2pi": lambda w: 2 * math.pi * w,
    }
    return np.asarray(scaled[kind](w), np.float32)


def read(case: str) -> tuple[dict[str, np.ndarray], dict, dict[str, np.ndarray]]:
    """Arrays with channels last, the description, and the state dict."""
    with np.load(PARITY / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays.pop("meta.json").item())
    state = {name: rule(name, shape, kind) for name, shape, _, kind in about["state"] if kind != "kept"}
    last = lambda a: jnp.asarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a)
    return {name: last(array) for name, array in arrays.items()}, about, state


def kernel(w: np.ndarray) -> np.ndarray:
    """PyTorch's [out, in, height, width] or [out, in] as Flax's kernel; 1x1 convolutions are dense layers."""
    w = w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T
    return w[0, 0] if w.shape[:2] == (1, 1) else w


def leaf(name: str, w: np.ndarray) -> tuple[str, np.ndarray]:
    if name == "weight":
        return ("kernel", kernel(w)) if w.ndim > 1 else ("scale", w)
    return {"freqs": "frequencies", "emb_gain": "embedding_gain"}.get(name, name), w


EDM_NAMES = {"map_noise": "waves", "map_label": "label", "map_augment": "augment", "out_norm": "out_norm0"}
EDM_NAMES |= {"map_layer0": "layer0", "map_layer1": "layer1", "out_conv": "out0"}
EDM_NAMES |= {"emb_fourier": "waves", "emb_noise": "noise", "emb_label": "label"}
EDM_LAYERS = {"norm2": "attention/norm", "qkv": "attention/qkv", "proj": "attention/proj"}
EDM_LAYERS |= {"conv_res0": "conv0", "conv_res1": "conv1", "conv_skip": "skip", "emb_linear": "embedding"}
EDM_LAYERS |= {"attn_qkv": "qkv", "attn_proj": "proj"}
IN_A_LEVEL = (
    (r"enc\d_conv", "in"),
    (r"enc(\d)_down", r"down\1"),
    (r"enc(\d)_block(\d)", r"encoder\1_\2"),
    (r"enc(\d)_aux_(residual|skip)", r"input\1"),
    (r"dec\d_in(\d)", r"middle\1"),
    (r"dec(\d)_up", r"up\1"),
    (r"dec(\d)_block(\d)", r"decoder\1_\2"),
    (r"dec(\d)_aux_norm", r"out_norm\1"),
    (r"dec(\d)_aux_conv", r"out\1"),
)


def side_by_side(w: np.ndarray) -> np.ndarray:
    """EDM has q, k and v in turn for each channel of each head; here all q come first, then all k."""
    c = w.shape[-1] // 3
    return np.moveaxis(w.reshape(*w.shape[:-1], c, 3), -1, -2).reshape(w.shape)


def of_edm(state: dict[str, np.ndarray], side: int = 16) -> dict:
    """Parameters from the state dict of EDM or EDM2, for images of 16 pixels."""
    flat = {}
    for name, w in state.items():
        path = re.sub(r"^(model|unet)\.", "", name)
        level = lambda found: f"{found[1]}{int(math.log2(side // int(found[2])))}_"
        path = re.sub(r"^(enc|dec)\.(\d+)x\d+_", level, path)
        first, *layers, last = path.split(".") if "." in path else ("", path)
        for pattern, ours in IN_A_LEVEL:
            first = re.sub(f"^{pattern}$", ours, first)
        middle = "/".join(EDM_LAYERS.get(layer, layer) for layer in layers)
        last, w = leaf(last, w)
        if layers and layers[-1] in ("qkv", "attn_qkv"):
            w = side_by_side(w)
        flat["/".join(part for part in (EDM_NAMES.get(first, first), middle, last) if part)] = w
    return {"params": traverse_util.unflatten_dict(flat, sep="/")}


def of_dit(state: dict[str, np.ndarray]) -> dict:
    """Parameters from the state dict of diffusers' DiT."""
    patterns = (
        (r"pos_embed\.proj", "in"),
        (r"transformer_blocks\.(\d)\.norm1\.emb\.timestep_embedder\.linear_1", r"embedding\1/layer0"),
        (r"transformer_blocks\.(\d)\.norm1\.emb\.timestep_embedder\.linear_2", r"embedding\1/layer1"),
        (r"transformer_blocks\.(\d)\.norm1\.emb\.class_embedder\.\w+", r"embedding\1/label/Dense_0"),
        (r"transformer_blocks\.(\d)\.norm1\.linear", r"block\1/modulation"),
        (r"transformer_blocks\.(\d)\.attn1\.to_out\.0", r"block\1/proj"),
        (r"transformer_blocks\.(\d)\.attn1\.to_([qkv])", r"block\1/\2"),
        (r"transformer_blocks\.(\d)\.ff\.net\.0\.proj", r"block\1/mlp0"),
        (r"transformer_blocks\.(\d)\.ff\.net\.2", r"block\1/mlp1"),
        ("proj_out_1", "out_modulation"),
        ("proj_out_2", "out"),
    )
    flat = renamed(state, patterns)
    flat["in/kernel"] = flat["in/kernel"].reshape(-1, flat["in/kernel"].shape[-1])
    return joined(flat)


def of_ddpm(state: dict[str, np.ndarray], levels: int = 3) -> dict:
    """Parameters from the state dict of diffusers' UNet2DModel; its way up counts levels from the lowest."""
    upward = lambda name: re.sub(
        r"^up_blocks\.(\d)", lambda found: f"up_blocks.{levels - 1 - int(found[1])}", name
    )
    state = {upward(name): w for name, w in state.items()}
    places = ((r"down_blocks\.(\d)", r"encoder\1_\2"), (r"up_blocks\.(\d)", r"decoder\1_\2"))
    places += ((r"mid_block()", r"middle\2"),)
    layers = {"norm1": "norm0", "norm2": "norm1", "conv1": "conv0", "conv2": "conv1"}
    layers |= {"time_emb_proj": "affine", "conv_shortcut": "skip"}
    attention = {"group_norm": "norm", r"to_out\.0": "proj", "to_q": "q", "to_k": "k", "to_v": "v"}
    patterns = [("conv_in", "in"), ("conv_norm_out", "out_norm0"), ("conv_out", "out0")]
    patterns += [(rf"time_embedding\.linear_{i + 1}", f"layer{i}") for i in range(2)]
    for place, ours in places:
        patterns += [(rf"{place}\.resnets\.(\d)\.{old}", f"{ours}/{new}") for old, new in layers.items()]
        patterns += [
            (rf"{place}\.attentions\.(\d)\.{old}", f"{ours}/attention/{new}")
            for old, new in attention.items()
        ]
    patterns += [(rf"down_blocks\.{i}\.downsamplers\.0\.conv", f"down{i + 1}") for i in range(levels)]
    patterns += [(rf"up_blocks\.{i}\.upsamplers\.0\.conv", f"up{i - 1}") for i in range(levels)]
    return joined(renamed(state, patterns))


def renamed(state: dict[str, np.ndarray], patterns) -> dict[str, np.ndarray]:
    flat = {}
    for name, w in state.items():
        path, last = name.rsplit(".", 1)
        ours = [re.sub(f"^{pattern}$", new, path) for pattern, new in patterns if re.fullmatch(pattern, path)]
        assert len(ours) == 1, name
        last, w = leaf(last, w)
        flat[f"{ours[0]}/{last}"] = (
            w.T if "embedding_table" in name else w
        )  # a table has a row for each class
    return flat


def joined(flat: dict[str, np.ndarray]) -> dict:
    """Query, key and value of an attention are one layer here."""
    for name in [name for name in flat if name.split("/")[-2] == "q"]:
        parts = [flat.pop("/".join([*name.split("/")[:-2], each, name.split("/")[-1]])) for each in "qkv"]
        flat["/".join([*name.split("/")[:-2], "qkv", name.split("/")[-1]])] = np.concatenate(parts, axis=-1)
    return {"params": traverse_util.unflatten_dict(flat, sep="/")}


# The networks ---------------------------------------------------------------------------------

SMALL = {"multipliers": (1, 2), "blocks": 1, "attention": (1,)}
NCSNPP = {"embedding": "fourier", "noise_multiplier": 2, "filter": (1, 3, 3, 1), "encoder": "residual"}
EDM = {
    "edm_ddpmpp_cond_augment": UNet(channels=32, classes=10, augmentations=9, **SMALL),
    "edm_skip": UNet(channels=32, filter=(1, 3, 3, 1), encoder="skip", decoder="skip", **SMALL),
    "edm_adm_cond": ADM(channels=64, classes=10, **SMALL),
    "edm2_cond": EDM2(channels=64, classes=10, **SMALL),
}


def assert_fits(network, params, x, *rest):
    """Names and shapes are those of the network, none missing and none left over."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(len(x)), *rest)
    shape_of = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    assert shape_of(params) == shape_of(shapes)


def denoiser(network, params, x, sigma, *condition):
    """D = c_skip x + c_out F(c_in x, ln sigma / 4), sigma_data = 0.5 (Karras et al. 2022, table 1)."""
    each, variance = sigma[:, None, None, None], sigma[:, None, None, None] ** 2 + 0.25
    f = network.apply(params, x / jnp.sqrt(variance), jnp.log(sigma) / 4, *condition)
    return 0.25 / variance * x + 0.5 * each / jnp.sqrt(variance) * f


@pytest.mark.parametrize("case", EDM)
def test_a_denoiser_of_edm_is_the_published_one(case):
    """With classes, with none, and with augmentation labels; float32 differs in the seventh digit."""
    arrays, _, state = read(case)
    state = {name: w for name, w in state.items() if not name.startswith("logvar")}
    network, params = EDM[case], of_edm(state)
    x, sigma = arrays["x"], arrays["sigma"]
    assert_fits(network, params, x)
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
    arrays, _, state = read("ve_ncsnpp")
    network, params = UNet(channels=32, **NCSNPP, **SMALL), of_edm(state)
    assert_fits(network, params, arrays["x"])
    out = jax.jit(network.apply)(params, arrays["x"], arrays["c_noise"])
    np.testing.assert_allclose(out, arrays["F"], atol=2e-5)


def test_the_uncertainty_of_edm2_is_the_published_one():
    arrays, _, state = read("edm2_cond")
    names = {"logvar_fourier.freqs": "waves/frequencies", "logvar_fourier.phases": "waves/phases"}
    names |= {"logvar_linear.weight": "out/kernel"}
    flat = {ours: kernel(state[name]) if "kernel" in ours else state[name] for name, ours in names.items()}
    params = {"params": traverse_util.unflatten_dict(flat, sep="/")}
    found = edm2.Uncertainty().apply(params, jnp.log(arrays["sigma"]) / 4)
    np.testing.assert_allclose(found, arrays["logvar"].ravel(), atol=1e-6)


def test_dit_is_the_published_one():
    arrays, _, state = read("diffusers_dit")
    network = DiT(width=32, depth=2, heads=2, patch=2, classes=10, outputs=8, own_embeddings=True)
    params, condition = of_dit(state), arrays["labels"]
    assert_fits(network, params, arrays["x"], condition)
    out = jax.jit(network.apply)(params, arrays["x"], arrays["timestep"].astype(jnp.float32), condition)
    np.testing.assert_allclose(out, arrays["out"], atol=6e-5)  # phases reach 1,000 radians


def test_ddpm_is_the_published_one():
    arrays, _, state = read("diffusers_unet2d")
    network = DDPM(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(1,), groups=4)
    params = of_ddpm(state)
    assert_fits(network, params, arrays["x"])
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
