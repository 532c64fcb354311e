"""Folders of diffusers: DDPM and DiT with the settings of their config.json, and the scheduler's levels."""

import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import importers, noise
from jaxscore.importers import diffusers
from jaxscore.networks import DDPM, DiT
from jaxscore.networks.blocks import Attention
from tests.importers.files import PUBLISHED, zipped
from tests.networks import published

safetensors = pytest.importorskip("safetensors.numpy")
SAFETENSORS, BIN = diffusers.FILES


def u_net(folder, *, names_of_2022=False, write=None, **settings):
    """A folder with the published weights of UNet2DModel."""
    folder.mkdir(exist_ok=True)
    _, _, state = published.read("diffusers_unet2d")
    if names_of_2022:
        old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, name in old.items():
            state = {key.replace(f".{new}.", f".{name}."): w for key, w in state.items()}
    write = write or (lambda: safetensors.save_file(state, folder / SAFETENSORS))
    write() if write.__code__.co_argcount == 0 else write(state)
    stored = json.loads((PUBLISHED / "diffusers_unet2d" / "config.json").read_text())
    stored = {key: value for key, value in (stored | settings).items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(stored))
    return folder


def outputs(folder, case="diffusers_unet2d"):
    """What the network returns, and what the published one returned."""
    arrays, _, _ = published.read(case)
    _, network, params = diffusers.load(folder)
    given = (arrays["labels"],) if "labels" in arrays else ()
    return jax.jit(network.apply)(
        params, arrays["x"], arrays["timestep"].astype(jnp.float32), *given
    ), arrays["out"]


def test_a_published_folder_is_read():
    found, expected = outputs(PUBLISHED / "diffusers_dit", "diffusers_dit")
    np.testing.assert_allclose(found, expected, atol=6e-5)
    description, _ = diffusers.read(PUBLISHED / "diffusers_dit" / SAFETENSORS)
    network = importers.build(description)[1]
    assert network == DiT(width=32, depth=2, heads=2, patch=2, classes=10, outputs=8, own_embeddings=True)
    assert description.event == (8, 8, 4)


def test_names_of_2022_are_read_too(tmp_path):
    found, expected = outputs(u_net(tmp_path, names_of_2022=True))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_file_of_torch_is_read_where_there_is_no_other(tmp_path):
    folder = u_net(tmp_path, write=lambda state: (tmp_path / BIN).write_bytes(zipped(state)))
    found, expected = outputs(folder)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_sixteen_bits_give_the_same_outputs_up_to_rounding(tmp_path, dtype):
    narrow = lambda state: {name: w.astype(dtype) for name, w in state.items()}
    folder = u_net(tmp_path, write=lambda state: (tmp_path / BIN).write_bytes(zipped(narrow(state))))
    found, expected = outputs(folder)
    np.testing.assert_allclose(found, expected, atol=0.1 if dtype == jnp.bfloat16 else 0.01)


def test_attention_at_two_resolutions_finds_every_place(tmp_path):
    """Two levels attend on the way down, and the same two on the way up, which the file counts from below."""
    wide = DDPM(channels=8, multipliers=(1, 2, 2), blocks=1, attention=(0, 1), groups=4)
    down, up = (("AttnDownBlock2D",) * 2 + ("DownBlock2D",), ("UpBlock2D",) + ("AttnUpBlock2D",) * 2)
    given = {"down_block_types": down, "up_block_types": up}
    settings = json.loads((PUBLISHED / "diffusers_unet2d" / "config.json").read_text()) | given
    description = diffusers.describe(settings, {})
    assert importers.build(description)[1] == wide
    _, _, state = published.read("diffusers_unet2d")
    attention = {k: w for k, w in state.items() if k.startswith("up_blocks.1.attentions")}
    for i in (0, 1):
        part = {k: w for k, w in attention.items() if f"attentions.{i}" in k}
        half = lambda w: w[(slice(8),) * w.ndim]
        state |= {k.replace("up_blocks.1", "up_blocks.2"): half(w) for k, w in part.items()}
        if i == 0:
            state |= {k.replace("up_blocks.1", "down_blocks.0"): half(w) for k, w in part.items()}
    params = importers.weights.fill(wide, (16, 16, 3), diffusers.named(state, description))
    kernel = params["params"]["decoder0_1"]["attention"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel[:, 8:16], half(attention["up_blocks.1.attentions.1.to_k.weight"]).T)


def test_the_size_of_a_head_is_no_number_of_heads():
    """Attention with 16 channels and the setting 4 has 4 heads of 4 channels, and with 8 it has 2."""
    rng = np.random.default_rng(0)
    for size in (4, 8):
        w = {name: rng.standard_normal((16, 16)) / 4 for name in ("q", "k", "v", "proj")}
        h = rng.standard_normal((1, 3, 3, 16)).astype(np.float32)
        params = {"norm": {"scale": np.ones(16), "bias": np.zeros(16)}}
        kernel = np.concatenate([w[name].T for name in "qkv"], axis=1)
        params |= {"qkv": {"kernel": kernel, "bias": np.zeros(48)}}
        params |= {"proj": {"kernel": w["proj"].T, "bias": np.zeros(16)}}
        found = Attention(16 // size, groups=4).apply({"params": params}, jnp.asarray(h))
        np.testing.assert_allclose(found.reshape(9, 16), attended(h.reshape(9, 16), w, size), atol=1e-5)


def test_the_size_of_a_head_is_that_of_the_file(tmp_path):
    folder = u_net(tmp_path)
    arrays, _, _ = published.read("diffusers_unet2d")
    whole, _ = outputs(folder)
    _, network, params = diffusers.load(u_net(tmp_path, attention_head_dim=16))
    run = lambda network: jax.jit(network.apply)(params, arrays["x"], arrays["timestep"].astype(jnp.float32))
    np.testing.assert_allclose(run(network), whole, atol=1e-6)
    assert np.abs(run(network.clone(head=4)) - whole).max() > 1e-3


def attended(h, w, size):
    """Attention as PyTorch code has it: each head takes `size` neighbouring channels of q, k and v."""
    groups = h.reshape(9, 4, 4)
    h = ((groups - groups.mean((0, 2), keepdims=True)) / groups.std((0, 2), keepdims=True)).reshape(9, 16)
    split = lambda name: (h @ w[name].T).reshape(9, -1, size).transpose(1, 0, 2)
    q, k, v = split("q"), split("k"), split("v")
    weights = np.exp(q @ k.transpose(0, 2, 1) / size**0.5)
    out = weights / weights.sum(axis=-1, keepdims=True) @ v
    return out.transpose(1, 0, 2).reshape(9, 16) @ w["proj"].T


# The score ------------------------------------------------------------------------------------


def test_the_score_is_minus_the_noise_over_sigma(tmp_path):
    arrays, _, _ = published.read("diffusers_unet2d")
    score, _, params = diffusers.load(u_net(tmp_path))
    sigma = noise.ddpm_levels(noise.ddpm_betas())[np.asarray(arrays["timestep"]).astype(int)]
    r = np.sqrt(1 + sigma**2)[:, None, None, None]
    x = jnp.asarray(r * np.asarray(arrays["x"]), jnp.float32)
    found = jax.jit(partial(score, params))(x, jnp.asarray(sigma, jnp.float32)) * sigma[:, None, None, None]
    np.testing.assert_allclose(found, -arrays["out"], atol=2e-5)


def test_the_scheduler_tells_the_levels_and_the_prediction(tmp_path):
    folder = u_net(tmp_path / "unet")
    plain, _ = diffusers.read(folder)
    assert plain.constants == {"steps": 1000, "betas": "linear", "beta_start": 1e-4, "beta_end": 0.02} | {
        "prediction": "noise"
    }
    np.testing.assert_allclose(plain[-2:], (0.0100005, 80.0), rtol=1e-4)
    (tmp_path / "scheduler").mkdir()
    settings = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "num_train_timesteps": 500}
    settings |= {"prediction_type": "v_prediction", "clip_sample": True, "beta_end": 0.012}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    for place in (folder, tmp_path):  # of the model, and of the pipeline
        description, _ = diffusers.read(place)
        assert description.constants == {"steps": 500, "betas": "scaled_linear", "beta_start": 1e-4} | {
            "beta_end": 0.012,
            "prediction": "velocity",
        }


SCHEDULERS = {
    "betas": ({"beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid'; supported: linear"),
    "prediction": ({"prediction_type": "flow"}, "prediction_type = 'flow'; supported: epsilon"),
    "given": ({"trained_betas": [0.1]}, r"trained_betas = \[0.1\], not supported"),
    "zero": ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True, not supported"),
    "flow": ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "not those of betas"),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_schedulers_are_refused(name):
    settings, said = SCHEDULERS[name]
    with pytest.raises(ValueError, match=said):
        diffusers.noise_levels(settings)


# What is refused ------------------------------------------------------------------------------

MIXED = ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D")
SETTINGS = {
    "class": ({"_class_name": "UNet2DConditionModel"}, "it is a UNet2DConditionModel; known are UNet2DModel"),
    "activation": ({"act_fn": "mish"}, "UNet2DModel has act_fn = 'mish', not supported"),
    "default": ({"norm_eps": "absent"}, "norm_eps = 1e-05, not supported; known: 1e-06"),
    "shift": ({"freq_shift": 0}, "freq_shift = 0, not supported"),
    "classes": ({"num_class_embeds": 10}, "num_class_embeds = 10, not supported"),
    "blocks": ({"up_block_types": MIXED}, "in an order that is not supported"),
    "kind": ({"down_block_types": ("SkipDownBlock2D",) * 3}, "SkipDownBlock2D"),
    "new": ({"flux": 1}, "UNet2DModel has flux = 1, which is not supported"),
    "out": ({"out_channels": 6}, "channels that are not supported"),
    "deeper": ({"layers_per_block": 2}, "does not fit DDPM: "),
    "wider": ({"block_out_channels": [16, 32, 32]}, "of another shape"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_are_not_supported_are_refused_by_name(tmp_path, name):
    settings, said = SETTINGS[name]
    with pytest.raises(ValueError, match=f"^{tmp_path}: .*{said}") as caught:
        diffusers.read(u_net(tmp_path, **settings))
    assert "\n" not in str(caught.value)


def test_files_that_are_absent_or_damaged_are_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"there is no config.json of a model"):
        diffusers.read(tmp_path)
    folder = u_net(tmp_path / "model")
    data = (folder / SAFETENSORS).read_bytes()
    (folder / SAFETENSORS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model.safetensors: it is damaged"):
        diffusers.read(folder)
    (folder / SAFETENSORS).unlink()
    with pytest.raises(ValueError, match=f"there is none of {SAFETENSORS}, {BIN}"):
        diffusers.read(folder)
    shutil.copy(PUBLISHED / "diffusers_dit" / "config.json", folder / "scheduler_config.json")
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: it is damaged"):
        diffusers.read(folder)
