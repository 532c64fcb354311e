"""Models of the library diffusers, from the folders that `save_pretrained` writes.

    score, network, params = load("google-ddpm-cifar10-32")   # or the folder of a pipeline, or of its model
    score(params, x, sigma, condition=labels)                 # x = x0 + sigma n, images in -1..1

UNet2DModel becomes `DDPM`, and DiTTransformer2DModel becomes `DiT`, whose class number n_classes means "no
class". A setting in config.json that our networks do not have is an error that names it. The variances that
DiT has learnt are not used.

The settings of the scheduler, in scheduler_config.json, tell the noise levels and what the network predicts.
Without this file the schedule is DDPM's, 1,000 betas from 1e-4 to 0.02, and the network predicts the noise.
Between two steps the number of the step is interpolated linearly in ln sigma.

Neither diffusers nor PyTorch is needed. Arrays are read from diffusion_pytorch_model.safetensors, or from
diffusion_pytorch_model.bin (`pickles`).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxscore import noise
from jaxscore.importers import pickles, safetensors
from jaxscore.importers.description import Description, build
from jaxscore.importers.weights import Weight, fill, honoured, joined, renamed
from jaxscore.types import ParametricScore, Params

MODELS = ("UNet2DModel", "DiTTransformer2DModel", "Transformer2DModel")
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PARTS = ("", "unet", "transformer")
"""Folders of the model in the folder of a pipeline."""

ATTENTION = {"group_norm": "norm", r"(?:to_out\.0|proj_attn)": "proj"}
ATTENTION |= {"(?:to_q|query)": "q", "(?:to_k|key)": "k", "(?:to_v|value)": "v"}
"""The second names are those of files of 2022."""
RESNET = {"norm1": "norm0", "norm2": "norm1", "conv1": "conv0", "conv2": "conv1"}
RESNET |= {"time_emb_proj": "affine", "conv_shortcut": "skip"}

DIT_RULES = (
    (r"pos_embed\.proj", "in"),
    (r"transformer_blocks\.(\d+)\.norm1\.emb\.timestep_embedder\.linear_1", r"embedding\1/layer0"),
    (r"transformer_blocks\.(\d+)\.norm1\.emb\.timestep_embedder\.linear_2", r"embedding\1/layer1"),
    (r"transformer_blocks\.(\d+)\.norm1\.emb\.class_embedder\.embedding_table", r"embedding\1/label/Dense_0"),
    (r"transformer_blocks\.(\d+)\.norm1\.linear", r"block\1/modulation"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_out\.0", r"block\1/proj"),
    (r"transformer_blocks\.(\d+)\.attn1\.to_([qkv])", r"block\1/\2"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj", r"block\1/mlp0"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.2", r"block\1/mlp1"),
    ("proj_out_1", "out_modulation"),
    ("proj_out_2", "out"),
)

U_NET = {"sample_size": None, "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "dropout": 0.0}
U_NET |= {"block_out_channels": (224, 448, 672, 896), "norm_num_groups": 32, "attention_head_dim": 8}
U_NET |= {"down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")}
U_NET |= {"up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")}
U_NET |= {"norm_eps": 1e-5, "freq_shift": 0, "flip_sin_to_cos": True, "downsample_padding": 1}
"""Settings of UNet2DModel with the defaults of diffusers; the last four must be those of DDPM (`_u_net`)."""

U_NET_FIXED = {"center_input_sample": (False,), "time_embedding_type": ("positional",)}
U_NET_FIXED |= {
    "time_embedding_dim": (None,),
    "mid_block_scale_factor": (1, 1.0),
    "act_fn": ("silu", "swish"),
}
U_NET_FIXED |= {"mid_block_type": ("UNetMidBlock2D",), "add_attention": (True,), "class_embed_type": (None,)}
U_NET_FIXED |= {"num_class_embeds": (None,), "resnet_time_scale_shift": ("default",)}
U_NET_FIXED |= {"downsample_type": ("conv",), "upsample_type": ("conv",), "attn_norm_num_groups": (None,)}

DIT = {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": None}
DIT |= {"num_layers": 28, "sample_size": 32, "patch_size": 2, "num_embeds_ada_norm": 1000}
DIT_FIXED = {"norm_type": ("ada_norm_zero",), "attention_bias": (True,), "norm_elementwise_affine": (False,)}
DIT_FIXED |= {"activation_fn": ("gelu-approximate",), "cross_attention_dim": (None,), "dropout": (0, 0.0)}
DIT_FIXED |= {
    "num_vector_embeds": (None,),
    "only_cross_attention": (False,),
    "double_self_attention": (False,),
}
DIT_FIXED |= {"attention_type": ("default",), "caption_channels": (None,), "norm_eps": (1e-5, 1e-6)}

IGNORED = {"num_train_timesteps", "norm_num_groups", "upcast_attention", "use_linear_projection"}
"""Settings of these models that have no effect on what they return."""

SCHEDULER = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
SCHEDULER |= {"prediction_type": "epsilon"}
SCHEDULER_FIXED = {"trained_betas": (None, []), "rescale_betas_zero_snr": (False,)}
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}


def load(path: str | Path) -> tuple[ParametricScore, Any, Params]:
    """Returns score(params, x, sigma, condition=None), the network, and the parameters.

    Args:
        path: the folder of a model or of a pipeline; or a file in the folder of a model.

    Raises ValueError, in one line, if a file is damaged, or if the model is another or has a setting that our
    network does not have; ImportError if safetensors is not installed, and OSError if a file cannot be read.
    """
    description, params = read(path)
    return *build(description), params


def read(path: str | Path) -> tuple[Description, Params]:
    """Returns the description of a model and its parameters. Raises what `load` raises."""
    folder = find(Path(path))
    settings = safetensors.config(folder / "config.json")
    try:
        description = describe(settings, scheduler(folder))
        state = arrays(folder)
        _, network = build(description)
        return description, fill(network, description.event, named(state, description))
    except (ValueError, TypeError, KeyError) as error:
        text = " ".join(str(error).split())
        raise ValueError(text if text.startswith(str(folder)) else f"{folder}: {text}") from None


def find(path: Path) -> Path:
    """Returns the folder with the model's config.json. Raises ValueError if there is none."""
    folder = path if path.is_dir() else path.parent
    for part in PARTS:
        if (folder / part / "config.json").is_file():
            return folder / part
    raise ValueError(f"{path}: there is no config.json of a model")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a model by name. Raises ValueError if there is no file of them."""
    for name in FILES:
        if (folder / name).is_file():
            if name.endswith(".safetensors"):
                return safetensors.arrays(folder / name)
            return {key: pickles.array(each) for key, each in dict(pickles.read(folder / name)).items()}
    raise ValueError(f"there is none of {', '.join(FILES)}")


# The settings ---------------------------------------------------------------------------------


def scheduler(folder: Path) -> dict[str, Any]:
    """Returns the settings of the scheduler beside the model, or beside its folder; {} if there are none."""
    for place in (folder, folder.parent / "scheduler"):
        if (place / "scheduler_config.json").is_file():
            return safetensors.config(place / "scheduler_config.json")
    return {}


def describe(settings: Mapping[str, Any], schedule: Mapping[str, Any]) -> Description:
    """Returns the description of a model. Raises ValueError for settings that are not supported.

    Args:
        settings: config.json.
        schedule: scheduler_config.json, or {}.
    """
    kind = settings.get("_class_name")
    if kind not in MODELS:
        raise ValueError(f"it is a {kind or 'model without a class'}; known are {', '.join(MODELS)}")
    given = {name: value for name, value in settings.items() if name[0] != "_"}
    network, fields, event = (_u_net if kind == "UNet2DModel" else _transformer)(given)
    constants = noise_levels(schedule)
    table = {name: constants[name] for name in ("steps", "beta_start", "beta_end")}
    levels = noise.ddpm_levels(noise.ddpm_betas(constants["betas"], **table))
    sigmas = float(levels[0]), min(80.0, float(levels[-1]))
    return Description(network, fields, "ddpm", constants, event, *sigmas)


def noise_levels(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the constants of the preconditioning `ddpm`, from the settings of a scheduler.

    Settings of sampling, such as the spacing of the steps, are ignored. Raises ValueError for others.
    """
    given = {name: schedule[name] for name in (*SCHEDULER, *SCHEDULER_FIXED) if name in schedule}
    kind = schedule.get("_class_name", "DDPMScheduler")
    if "Flow" in kind or "EDM" in kind or "Karras" in kind or schedule.get("use_flow_sigmas"):
        raise ValueError(f"its scheduler is {kind}, whose noise levels are not those of betas")
    found = honoured(given, SCHEDULER, SCHEDULER_FIXED, kind)
    for name, known in (("beta_schedule", BETAS), ("prediction_type", PREDICTIONS)):
        if found[name] not in known:
            raise ValueError(f"{kind} has {name} = {found[name]!r}; supported: {', '.join(known)}")
    constants = {"steps": found["num_train_timesteps"], "betas": BETAS[found["beta_schedule"]]}
    constants |= {name: found[name] for name in ("beta_start", "beta_end")}
    return constants | {"prediction": PREDICTIONS[found["prediction_type"]]}


def _u_net(given: Mapping[str, Any]) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    ddpm = {"norm_eps": (1e-6,), "freq_shift": (1,), "flip_sin_to_cos": (False,), "downsample_padding": (0,)}
    given = {name: value for name, value in given.items() if name != "num_train_timesteps"}
    found = honoured(given, U_NET, U_NET_FIXED, "UNet2DModel")
    honoured({name: found[name] for name in ddpm}, {}, ddpm, "UNet2DModel")
    widths, down = (
        found["block_out_channels"],
        [kind.startswith("Attn") for kind in found["down_block_types"]],
    )
    kinds = {*found["down_block_types"], *found["up_block_types"]}
    up = [kind.startswith("Attn") for kind in found["up_block_types"]]
    known = {"DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"}
    if not kinds <= known or up != down[::-1] or not len(down) == len(widths):
        raise ValueError(
            f"UNet2DModel has the blocks {', '.join(sorted(kinds))} in an order that is not supported"
        )
    if found["out_channels"] != found["in_channels"] or any(width % widths[0] for width in widths):
        raise ValueError(
            f"UNet2DModel has channels that are not supported: {widths}, {found['out_channels']} out"
        )
    fields = {"channels": widths[0], "multipliers": tuple(width // widths[0] for width in widths)}
    fields |= {"blocks": found["layers_per_block"], "dropout": found["dropout"]}
    fields |= {"attention": tuple(i for i, attends in enumerate(down) if attends)}
    fields |= {"groups": found["norm_num_groups"], "head": found["attention_head_dim"]}
    return "DDPM", fields, (*_sides(found["sample_size"] or 32), found["in_channels"])


def _transformer(given: Mapping[str, Any]) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    given = {name: value for name, value in given.items() if name not in IGNORED}
    found = honoured(given, DIT, DIT_FIXED, "DiTTransformer2DModel")
    heads, channels = found["num_attention_heads"], found["in_channels"]
    fields = {"width": heads * found["attention_head_dim"], "depth": found["num_layers"], "heads": heads}
    fields |= {"patch": found["patch_size"], "classes": found["num_embeds_ada_norm"], "own_embeddings": True}
    fields |= {"outputs": found["out_channels"] or channels}
    return "DiT", fields, (*_sides(found["sample_size"]), channels)


def _sides(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


# The arrays -----------------------------------------------------------------------------------


def named(state: Mapping[str, np.ndarray], description: Description) -> dict[str, Weight]:
    """Returns the arrays of a model, with the names of diffusers, by our names."""
    return _ddpm(state, description) if description.network == "DDPM" else _dit(state)


def _dit(state: Mapping[str, np.ndarray]) -> dict[str, Weight]:
    found = renamed({name: w for name, w in state.items() if name != "pos_embed.pos_embed"}, DIT_RULES)
    for path, (name, w) in found.items():
        if name.endswith("embedding_table.weight"):
            found[path] = Weight(name, w.T)  # a row for each class, as in the file
        elif path == "in/kernel":
            found[path] = Weight(name, w.reshape(-1, w.shape[-1]))
    return joined(found)


def _ddpm(state: Mapping[str, np.ndarray], description: Description) -> dict[str, Weight]:
    """The file counts the levels of the way up from the lowest one, and we from the highest one."""
    levels = len(description.fields["multipliers"])
    rules = [("conv_in", "in"), ("conv_norm_out", "out_norm0"), ("conv_out", "out0")]
    rules += [(rf"time_embedding\.linear_{i + 1}", f"layer{i}") for i in range(2)]
    places = [("mid_block", r"middle\1")]
    for level in range(levels):
        above = levels - 1 - level
        places += [
            (rf"down_blocks\.{level}", rf"encoder{level}_\1"),
            (rf"up_blocks\.{above}", rf"decoder{level}_\1"),
        ]
        rules += [(rf"down_blocks\.{level}\.downsamplers\.0\.conv", f"down{level + 1}")]
        rules += [(rf"up_blocks\.{above}\.upsamplers\.0\.conv", f"up{level - 1}")]
    for place, ours in places:
        rules += [(rf"{place}\.resnets\.(\d+)\.{old}", f"{ours}/{new}") for old, new in RESNET.items()]
        rules += [
            (rf"{place}\.attentions\.(\d+)\.{old}", f"{ours}/attention/{new}")
            for old, new in ATTENTION.items()
        ]
    return joined(renamed({re.sub(r"^module\.", "", k): w for k, w in state.items()}, rules))
