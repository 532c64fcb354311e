"""From the arrays of a PyTorch file to the parameters of a network: layout, names, and what is left over.

    flat = {"down1/conv0/kernel": Weight("model.enc.16x16_down.conv0.weight", kernel(w)), ...}
    params = fill(network, (32, 32, 3), flat)

Every array of the file is used once, and every parameter is filled once; anything else is an error that lists
the names. PyTorch's layouts become Flax's:

    convolution [out, in, height, width]     kernel [height, width, in, out]; [in, out] if it is 1x1
    linear layer [out, in]                   kernel [in, out]
    embedding table [classes, out]           kernel [classes, out], as it is
    norm [c]                                 scale [c]
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import networks
from jaxscore.types import Key, Params

SHOWN = 4
"""Number of names that an error lists for each kind of difference."""


class Weight(NamedTuple):
    """An array in Flax's layout, and its name in the file."""

    name: str
    value: np.ndarray


def kernel(w: np.ndarray) -> np.ndarray:
    """Returns the weight [out, in, ...] of a PyTorch layer as Flax's kernel [..., in, out].

    A convolution with a window of one position becomes the kernel [in, out] of a dense layer.
    """
    w = np.moveaxis(w, (1, 0), (-2, -1))
    return w.reshape(w.shape[-2:]) if w.size == w.shape[-1] * w.shape[-2] else w


def leaf(name: str, w: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns Flax's name and layout of a layer's array that PyTorch calls weight or bias."""
    if name == "weight":
        return ("kernel", kernel(w)) if w.ndim > 1 else ("scale", w)
    return name, w


def renamed(state: Mapping[str, np.ndarray], rules: Iterable[tuple[str, str]]) -> dict[str, Weight]:
    """Returns the arrays by our names.

    Args:
        state: arrays by their names LAYER.weight, LAYER.bias and so on.
        rules: pairs of a pattern, which matches LAYER as a whole, and our name of the layer.

    Raises:
        ValueError: if two arrays get the same name. Names without a rule stay as they are.
    """
    rules, found = list(rules), {}
    for name, w in state.items():
        layer, _, last = name.rpartition(".")
        ours = next((match.expand(new) for old, new in rules if (match := re.fullmatch(old, layer))), None)
        last, value = leaf(last, w)
        path = name if ours is None else f"{ours}/{last}"
        if path in found:
            raise ValueError(f"{name} and {found[path].name} are both {path}")
        found[path] = Weight(name, value)
    return found


def joined(flat: dict[str, Weight], parts: str = "qkv") -> dict[str, Weight]:
    """Returns the arrays with q, k and v of each attention as one array, qkv: first q, then k, then v.

    Attentions that lack one of the three stay as they are.

    Args:
        flat: arrays by our names, LAYER/q/kernel and so on.
        parts: the names of the parts.
    """
    found = dict(flat)
    for path in flat:
        layer, _, rest = path.rpartition("/")
        layer, _, part = layer.rpartition("/")
        each = [f"{layer}/{name}/{rest}" for name in parts]
        if part == parts[0] and all(name in found for name in each):
            taken = [found.pop(name) for name in each]
            if len({w.value.shape for w in taken}) > 1:
                raise ValueError(f"{taken[0].name} has another shape than {taken[1].name}")
            value = np.concatenate([w.value for w in taken], axis=-1)
            found[f"{layer}/{parts}/{rest}"] = Weight(taken[0].name, value)
    return found


def side_by_side(value: np.ndarray) -> np.ndarray:
    """Returns qkv with q, k and v one after the other, from one where each channel has all three in turn."""
    return np.moveaxis(value.reshape(*value.shape[:-1], -1, 3), -1, -2).reshape(value.shape)


def fill(network: Any, event: tuple[int, ...], flat: Mapping[str, Weight]) -> Params:
    """Returns the parameters of the network as float32.

    Args:
        network: a module of `jaxscore.networks`.
        event: shape of an example, channels last.
        flat: the arrays by our names, such as "down1/conv0/kernel".

    Raises:
        ValueError: in one line, with the names that are missing, left over, of another shape, or without
            finite real numbers; or if no network has these fields.
    """
    try:
        shapes = jax.eval_shape(initial(network, event), jax.random.key(0))["params"]
    except (TypeError, ValueError, ArithmeticError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ValueError(f"the fields of {type(network).__name__} do not fit x {event}: {first}") from None
    wanted = {path: leaf.shape for path, leaf in flattened(shapes).items()}
    other = [
        f"{flat[path].name} {flat[path].value.shape}, which should be {shape}"
        for path, shape in wanted.items()
        if path in flat and flat[path].value.shape != shape
    ]
    differences = {
        "missing": sorted(wanted.keys() - flat.keys()),
        "left over": [flat[path].name for path in sorted(flat.keys() - wanted.keys())],
        "of another shape": other,
        "without finite real numbers": [
            flat[path].name for path in wanted if path in flat and not _real(flat[path])
        ],
    }
    if any(differences.values()):
        raise ValueError(f"the file does not fit {type(network).__name__}: {listed(differences)}")
    arrays = {path: jnp.asarray(flat[path].value, jnp.float32) for path in wanted}
    return {"params": nested(arrays)}


def _real(weight: Weight) -> bool:
    """Returns whether the array has floating-point numbers that are finite in float32."""
    if not jnp.issubdtype(weight.value.dtype, jnp.floating):
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(weight.value.astype(np.float32)).all())


def initial(network: Any, event: tuple[int, ...]) -> Callable[[Key], Params]:
    """Returns init(key) -> params of the network, with class numbers if it has classes."""
    classes = getattr(network, "classes", 0)
    return networks.init(network, event, jnp.zeros(1, jnp.int32) if classes else None)


def flattened(tree: Any) -> dict[str, Any]:
    """Returns the leaves of nested dictionaries by their path, such as "params/out0/kernel"."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dictionaries that `flattened` made flat."""
    found: dict[str, Any] = {}
    for path, leaf in flat.items():
        *folders, last = path.split("/")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaf
    return found


def listed(differences: Mapping[str, list[str]]) -> str:
    """Returns one line: how many names of each kind there are, and the first of them."""
    parts = []
    for kind, names in differences.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {kind} ({', '.join(names[:SHOWN])}{more})")
    return "; ".join(parts)


def honoured(given: Mapping[str, Any], known: Mapping[str, Any], fixed: Mapping[str, Any], what: str) -> dict:
    """Returns the settings that a network takes, with the defaults of the software that wrote them.

    Args:
        given: settings by name, as stored.
        known: names that the network takes, with their defaults.
        fixed: names that the network does not take, with the tuple of values that mean what it does.
        what: whose settings they are, for the message.

    Raises:
        ValueError: if a setting is not known, or has a value that the network cannot express.
    """
    for name, value in given.items():
        if name not in known and name not in fixed:
            raise ValueError(f"{what} has {name} = {value!r}, which is not supported")
    for name, values in fixed.items():
        if name in given and given[name] not in values:
            raise ValueError(
                f"{what} has {name} = {given[name]!r}, not supported; known: {', '.join(map(repr, values))}"
            )
    return {name: given.get(name, default) for name, default in known.items()}
