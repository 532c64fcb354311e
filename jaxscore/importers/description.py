"""What weights need to become a score: the network, its preconditioning and its noise levels, as JSON.

    description = describe(network, "edm", (32, 32, 3), sigma_data=0.5)
    score, network = build(description)                       # score(params, x, sigma, condition=None)

A preconditioning is a function of `jaxscore.score`, named together with its constants:

| name       | constants                                      | function            | c_noise              |
|------------|------------------------------------------------|---------------------|----------------------|
| edm        | sigma_data                                     | `preconditioned`    | ln(sigma) / 4        |
| ve         |                                                | `preconditioned_ve` | ln(sigma / 2)        |
| vp         | beta_min, beta_max, steps                      | `preconditioned_vp` | (steps - 1) t(sigma) |
| iddpm      | c_1, c_2, steps                                | `preconditioned_vp` | nearest step         |
| ddpm       | betas, beta_start, beta_end, steps, prediction | `preconditioned_vp` | step, interpolated   |
| over_sigma |                                                | `over_sigma`        | ln(sigma) / 4        |

t(sigma) is `noise.vp_time`. The nearest step is steps - 1 - j, if `iddpm_levels`[j] is nearest to sigma. The
interpolated step is `noise.ddpm_step`.

Classes follow this library: the class number n_classes means "no class".
"""

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxscore import networks, noise
from jaxscore import score as scores
from jaxscore.types import Array, NetFn, ParametricScore

COMPUTED = ("parent", "name", "dtype", "remat", "flash")
"""Fields of a network that say how it computes; the weights do not depend on them."""


ACTIVATIONS = {name: getattr(jax.nn, name) for name in ("silu", "elu", "relu", "gelu", "softplus", "tanh")}
"""Activation functions of networks, by name."""


LIMITS = {"depth": (0, 1000), "blocks": (0, 1000), "dropout": (0, 1)}
"""Fields that are numbers, and their ranges. A huge depth would keep `build` busy for hours."""


class Description(NamedTuple):
    """What a file of weights needs beside the arrays. All entries can be written as JSON."""

    network: str
    """Name of the class in `jaxscore.networks`."""
    fields: dict[str, Any]
    """Fields of the network."""
    preconditioning: str
    """Name of the preconditioning."""
    constants: dict[str, Any]
    """Constants of the preconditioning."""
    event: tuple[int, ...]
    """Shape of an example, channels last."""
    sigma_min: float = 0.002
    """Smallest noise level that the network was trained for, in the units of x."""
    sigma_max: float = 80.0
    """Largest noise level that the network was trained for."""


def describe(
    network: Any,
    preconditioning: str,
    event: tuple[int, ...],
    sigmas: tuple[float, float] = (0.002, 80.0),
    **constants: Any,
) -> Description:
    """Returns the description of a network of `jaxscore.networks`.

    Args:
        network: the module.
        preconditioning: its name.
        event: shape of an example, channels last.
        sigmas: smallest and largest noise level.
        constants: of the preconditioning.

    Raises:
        ValueError: if `build` would refuse the description.
    """
    names = [field.name for field in dataclasses.fields(network) if field.name not in COMPUTED]
    fields = {name: _stored(getattr(network, name)) for name in names}
    kind = type(network).__name__
    found = Description(kind, fields, preconditioning, constants, tuple(event), *map(float, sigmas))
    build(found)
    return found


def build(description: Description, **computed: Any) -> tuple[ParametricScore, Any]:
    """Returns score(params, x, sigma, condition=None), and the network as a Flax module.

    Args:
        description: of the weights.
        computed: fields of the network that say how it computes, such as dtype, remat or dropout.

    Raises:
        ValueError: for a network, a field, a preconditioning or a constant that is not known.
    """
    kind = getattr(networks, description.network, None)
    if not isinstance(kind, type) or not dataclasses.is_dataclass(kind):
        raise ValueError(f"there is no network {description.network!r} in jaxscore.networks")
    try:
        fields = {name: _field(name, value) for name, value in description.fields.items()}
        network = kind(**fields | computed)
        return preconditioned(network.apply, description), network
    except TypeError as error:
        raise ValueError(f"{description.network}, {description.preconditioning}: {error}") from None


def preconditioned(net: NetFn, description: Description) -> ParametricScore:
    """Returns the score made of net(params, x, c_noise, condition), as the description says.

    Training uses it with a network that drops hidden units. Raises ValueError and TypeError as `build` does.
    """
    made = PRECONDITIONINGS.get(description.preconditioning)
    if made is None:
        known = ", ".join(PRECONDITIONINGS)
        raise ValueError(f"preconditioning {description.preconditioning!r} is not known; use {known}")
    return made(net, **description.constants)


def as_json(description: Description) -> dict[str, Any]:
    """Returns the description as a dictionary for JSON."""
    return description._asdict()


def from_json(value: Any) -> Description:
    """Returns the description that `as_json` made the value of. Raises ValueError if it is none."""
    required = {name for name in Description._fields if name not in Description._field_defaults}
    names = value.keys() if isinstance(value, dict) else set()
    if not required <= names or not names <= set(Description._fields):
        raise ValueError(f"this is no description of a network; it needs {', '.join(sorted(required))}")
    kinds = {"network": str, "fields": dict, "preconditioning": str, "constants": dict, "event": list | tuple}
    for name, kind in kinds.items():
        if not isinstance(value[name], kind):
            raise ValueError(f"its {name} cannot be {value[name]!r}")
    found = Description(**value | {"event": tuple(value["event"])})
    if not found.event or not all(isinstance(side, int) and side > 0 for side in found.event):
        raise ValueError(f"event {list(found.event)} is no shape")
    for name, (least, most) in LIMITS.items():
        given = found.fields.get(name, least)
        if not isinstance(given, int | float) or not least <= given <= most:
            raise ValueError(f"its field {name} is {given!r}, not a number in {least}..{most}")
    if any(isinstance(x, float) and not math.isfinite(x) for x in found.constants.values()):
        raise ValueError(f"its constants are not finite: {found.constants}")
    lowest, highest = found.sigma_min, found.sigma_max
    if not all(isinstance(x, int | float) for x in (lowest, highest)) or not 0 < lowest < highest < math.inf:
        raise ValueError(f"sigma_min {lowest!r} and sigma_max {highest!r} are no range of noise levels")
    return found


def _stored(value: Any) -> Any:
    """Returns the value of a field as JSON has it. Raises ValueError for a function without a name here."""
    if not callable(value):
        return value
    name = next((name for name, function in ACTIVATIONS.items() if function is value), None)
    if name is None:
        raise ValueError(f"the activation {value} cannot be described; use {', '.join(ACTIVATIONS)}")
    return name


def _field(name: str, value: Any) -> Any:
    """Returns the value of a field that `_stored` made JSON of; lists become tuples, which can be hashed."""
    if name == "activation":
        if value not in ACTIVATIONS:
            raise ValueError(f"activation {value!r} is not known; use {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]
    return tuple(_field("", each) for each in value) if isinstance(value, list | tuple) else value


# Preconditionings of published weights ---------------------------------------------------------


def iddpm_levels(steps: int = 1000, c_1: float = 0.001, c_2: float = 0.008) -> np.ndarray:
    """Returns u_0 > ... > u_M = 0, the noise levels of iDDPM, with M = steps.

        u_{j-1} = sqrt((u_j^2 + 1) / max(abar_{j-1} / abar_j, c_1) - 1)
        abar_j = sin^2(pi j / (2 M (1 + c_2)))

    Source: Karras et al. 2022, table 1, column iDDPM; the schedule is that of Nichol & Dhariwal 2021.
    """
    abar = [math.sin(math.pi / 2 * j / steps / (1 + c_2)) ** 2 for j in range(steps + 1)]
    found = [0.0]
    for j in range(steps, 0, -1):
        found.append(math.sqrt((found[-1] ** 2 + 1) / max(abar[j - 1] / abar[j], c_1) - 1))
    return np.array(found[::-1])


def _vp(net: NetFn, beta_min: float = 0.1, beta_max: float = 20.0, steps: int = 1000) -> ParametricScore:
    time = partial(noise.vp_time, beta_min=beta_min, beta_max=beta_max)
    return scores.preconditioned_vp(net, lambda sigma: (steps - 1) * time(sigma))


def _iddpm(net: NetFn, c_1: float = 0.001, c_2: float = 0.008, steps: int = 1000) -> ParametricScore:
    levels = jnp.asarray(iddpm_levels(steps, c_1, c_2), jnp.float32)

    def c_noise(sigma: Array) -> Array:
        nearest = jnp.argmin(jnp.abs(sigma[:, None] - levels[None]), axis=1)
        return (steps - 1 - nearest).astype(jnp.float32)

    return scores.preconditioned_vp(net, c_noise)


def _ddpm(net: NetFn, betas: str = "linear", prediction: str = "noise", **table: Any) -> ParametricScore:
    sigmas = noise.ddpm_levels(noise.ddpm_betas(betas, **table))
    return scores.preconditioned_vp(net, partial(noise.ddpm_step, sigmas=sigmas), prediction)


PRECONDITIONINGS = {
    "edm": scores.preconditioned,
    "ve": scores.preconditioned_ve,
    "vp": _vp,
    "iddpm": _iddpm,
    "ddpm": _ddpm,
    "over_sigma": scores.over_sigma,
}
"""Each maps a network and the constants to a score."""
