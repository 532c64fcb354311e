"""Parameters of NCSN and NCSNv2, from PyTorch state dicts with the names of the published code.

    state = {name: pickles.array(tensor) for name, tensor in pickles.read(path)[0].items()}
    params = params(NCSNv2(channels=128), state)

Our names correspond to the published ones as follows, with N stages; our numbers start at 1:

    begin, end, norm                    begin_conv, end_conv, normalizer
    stage<i>_block<j>                   res<i>.<j - 1>
      norm1, norm2, conv1               normalize1, normalize2, conv1
      conv2, shortcut                   conv2, shortcut; conv2.conv, shortcut.conv if the block halves
    refine<i>                           refine<N + 1 - i>
      adapt<j>, out                     adapt_convs.<j - 1>, output_convs
        norm<j>_<k>, conv<j>_<k>        <j>_<k>_norm, <j>_<k>_conv
      fuse, pool                        msf, crp
        norm<j>, conv<j>                norms.<j - 1>, convs.<j - 1>
    kernel [h, w, in, out], bias        weight [out, in, h, w], bias
    gamma, alpha, beta; embedding       gamma, alpha, beta; embed.weight

With six stages the published numbers are 1, 2, 3, 31, 4, 5 for res and 1, 2, 31, 3, 4, 5 for refine. A
leading `module.` (DataParallel) is dropped, and so is the buffer `sigmas` of noise levels. `pickles`
reads files without PyTorch.

>>> torch_name(("refine1", "adapt2", "conv1_2", "kernel"), SMALL)
'refine4.adapt_convs.1.1_2_conv.weight'
"""

import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore.networks.ncsn import NCSN, NCSNv2
from jaxscore.networks.refinenet import SMALL, Stages
from jaxscore.types import Params

STAGE_NAMES = {6: ("1", "2", "3", "31", "4", "5")}
REFINE_NAMES = {6: ("1", "2", "31", "3", "4", "5")}

RENAMES = (
    (r"^begin$", "begin_conv"),
    (r"^end$", "end_conv"),
    (r"^adapt(\d+)$", lambda m: f"adapt_convs.{int(m[1]) - 1}"),
    (r"^out$", "output_convs"),
    (r"^(norm|conv)(\d+)_(\d+)$", r"\2_\3_\1"),
    (r"^fuse$", "msf"),
    (r"^pool$", "crp"),
    (r"^kernel$", "weight"),
    (r"^embedding$", "embed.weight"),
)


def params(network: NCSN | NCSNv2, state: Mapping[str, np.ndarray]) -> Params:
    """Parameters for network.apply, read from a PyTorch state dict of arrays.

    `network` determines channels, levels and stages. The state dict determines the number of image channels.

    Raises:
        ValueError: if an entry is missing, has another shape, or is left over; the message names the first
            one.
    """
    state = {name.removeprefix("module."): np.asarray(value) for name, value in state.items()}
    state.pop("sigmas", None)
    first = "begin_conv.weight"
    if first not in state or state[first].ndim != 4:
        raise ValueError(f"the state dict has no {first!r} of four axes: it is no NCSN or NCSNv2")

    side = 2 ** len(network.stages)
    x = jax.ShapeDtypeStruct((1, side, side, state[first].shape[1]), jnp.float32)
    level = jax.ShapeDtypeStruct((1,), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, level)

    def read(path: Sequence[jax.tree_util.DictKey], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # The path starts with "params" and "refinenet".
        name = torch_name([entry.key for entry in path[2:]], network.stages)
        if name not in state:
            raise ValueError(f"the state dict has no {name!r}, which {type(network).__name__} needs")
        value = state.pop(name)
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        if value.shape != leaf.shape:
            raise ValueError(f"{name!r} as {value.shape} does not fit the network's {leaf.shape}")
        return jnp.asarray(value, leaf.dtype)

    params = jax.tree_util.tree_map_with_path(read, shapes)
    if state:
        raise ValueError(f"the state dict has {min(state)!r}, which {type(network).__name__} does not")
    return params


def torch_name(path: Sequence[str], stages: Stages = SMALL) -> str:
    """PyTorch name of the parameter at `path` below our RefineNet with these stages."""
    path = list(path)
    total = len(stages)
    numbers = [str(number) for number in range(1, total + 1)]
    if stage := re.fullmatch(r"stage(\d+)_block(\d+)", path[0]):
        number, block = int(stage[1]), int(stage[2])
        path[0] = f"res{STAGE_NAMES.get(total, numbers)[number - 1]}.{block - 1}"
        halves = number > 1 and block == 1 and stages[number - 1][1] == 1
        if halves and path[1] in ("conv2", "shortcut"):
            path[1] += ".conv"
        path[1] = path[1].replace("norm", "normalize")
    elif refine := re.fullmatch(r"refine(\d+)", path[0]):
        path[0] = f"refine{REFINE_NAMES.get(total, numbers)[total - int(refine[1])]}"
    elif path[0] == "norm":
        path[0] = "normalizer"
    return ".".join(_renamed(part, within_stage=path[0].startswith("res")) for part in path)


def _renamed(part: str, *, within_stage: bool) -> str:
    for pattern, replacement in RENAMES:
        part = re.sub(pattern, replacement, part)
    if not within_stage:
        part = re.sub(r"^(norm|conv)(\d+)$", lambda m: f"{m[1]}s.{int(m[2]) - 1}", part)
    return part
