"""Layers that several networks share."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxscore.types import AnyArray, Array, DTypeLike, right


class NoiseEmbedding(nn.Module):
    """c_noise[b] -> [b, width]: sines and cosines at geometric frequencies, then a dense layer and SiLU.

    These are Fourier features (Tancik et al. 2020) with fixed frequencies, from 1 to `frequency_max` radians
    per unit of c_noise = ln(sigma) / 4. They are computed in float32, because the phase needs the digits.
    """

    width: int
    features: int = 64
    frequency_max: float = 32.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b width"]:
        frequencies = jnp.geomspace(1.0, self.frequency_max, self.features // 2)
        phase = c_noise[:, None].astype(jnp.float32) * frequencies[None]
        waves = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
        return nn.silu(nn.Dense(self.width, dtype=self.dtype)(waves))


def waves(x: Float[Array, "b d"], octaves: int) -> Float[Array, "b e"]:
    """Fourier features: x, and cos(2^k x) and sin(2^k x) for k = 1, ..., octaves, side by side.

    The width is e = (2 octaves + 1) d; with 0 octaves the result is x. They let dense layers tell apart
    points as near as 2^-octaves (Tancik et al. 2020, section 4).
    """
    phases = [2.0**k * x for k in range(1, octaves + 1)]
    return jnp.concatenate([x, *(f(phase) for phase in phases for f in (jnp.cos, jnp.sin))], axis=1)


class Mapping(nn.Module):
    """Latent z[b, latent] -> [b, width]: `depth` layers with SiLU, after scaling each z to `|z|^2 = latent`.

    This is StyleGAN's mapping network (Karras et al. 2019, section 2); the scaling is from Karras et al.
    2018, section 4.2. Its output modulates the network that follows.
    """

    width: int
    depth: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: Float[Array, "b latent"]) -> Float[Array, "b width"]:
        h = z * jax.lax.rsqrt(jnp.mean(z**2, axis=1, keepdims=True) + 1e-8)
        for _ in range(self.depth):
            h = nn.silu(nn.Dense(self.width, dtype=self.dtype)(h))
        return h


class Waves(nn.Module):
    """c_noise[b] -> sines and cosines, [b, width], in float32, because the phase needs the digits.

    positional: the width / 2 frequencies fall geometrically from 1 to 1e-4 (Ho et al. 2020)
    half_open: the same, but 1e-4 is the one that would come next (Dhariwal & Nichol 2021)
    fourier: 2 pi times normal numbers of standard deviation 16, which are not trained (Song et al. 2021b)

    The last number is 0 if the width is odd.
    """

    width: int
    kind: str = "positional"

    @nn.compact
    def __call__(self, c_noise: Float[Array, "b"]) -> Float[Array, "b width"]:
        n = self.width // 2
        if self.kind == "fourier":
            drawn = self.param("frequencies", nn.initializers.normal(16.0), (n,))
            frequencies = 2 * jnp.pi * jax.lax.stop_gradient(drawn)
        else:
            frequencies = 1e-4 ** (jnp.arange(n) / max(n if self.kind == "half_open" else n - 1, 1))
        phase = c_noise[:, None].astype(jnp.float32) * frequencies[None]
        found = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=1)
        return jnp.pad(found, ((0, 0), (0, self.width % 2)))


class Conditions(NamedTuple):
    """What a network is conditioned on besides the noise level."""

    label: Array | None = None
    """Class numbers [b], of which `classes` means "no class"; or numbers [b, n] without `classes`."""
    augment: Array | None = None
    """[b, n]: augmentation labels."""
    image: Array | None = None
    """[b, ..., k]: further channels of the input."""


def conditions(condition: Any, x: AnyArray, classes: int) -> Conditions:
    """Returns the parts of a condition of x[b, ..., c].

    A condition is an array, or a dictionary with the entries "label", "augment" and "image". An array with as
    many axes as x is an image. With `classes`, another array is class numbers [b]; the number `classes` means
    "no class", as does no condition. Without `classes`, it is numbers, which are flattened to [b, n].

    Raises ValueError for other entries, another number of labels than of examples, class numbers out of
    range, and integers without `classes`.
    """
    if not isinstance(condition, dict):
        image = condition is not None and condition.ndim == x.ndim
        condition = {} if condition is None else {"image" if image else "label": condition}
    unknown = condition.keys() - {"label", "augment", "image"}
    if unknown:
        raise ValueError(f"the condition has {sorted(unknown)}; known are label, augment and image")
    label = condition.get("label")
    if label is not None and label.shape[:1] != x.shape[:1]:
        raise ValueError(f"labels have shape {label.shape}, but there are {len(x)} examples")
    if classes:
        label = jnp.full(len(x), classes) if label is None else label
        require_classes(label, classes)
    elif label is not None:
        if not jnp.issubdtype(label.dtype, jnp.floating):
            raise ValueError(f"the condition is {label.dtype}: give the network its number of classes")
        label = label.reshape(len(label), -1)
    return Conditions(label, condition.get("augment"), condition.get("image"))


def vector(label: Array | None, classes: int) -> Float[Array, "b n"] | None:
    """Returns the label as a vector [b, n]: of mean square 1 for a class number, zeros for "no class"."""
    return label if label is None or not classes else classes**0.5 * jax.nn.one_hot(label, classes)


class ConditionEmbedding(nn.Module):
    """Class numbers [b], or vectors [b, n] and other arrays [b, ...], -> [b, width].

    With `classes`, the condition is class numbers, looked up in a table of classes + 1 rows; the last row
    means "no class". A traced number out of range gives zeros; a known one raises ValueError, which names
    it. Without `classes`, the condition is floats, which are flattened and go through a layer and SiLU.
    """

    width: int
    classes: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, condition: Array) -> Float[Array, "b width"]:
        if self.classes:
            require_classes(condition, self.classes)
            rows = jax.nn.one_hot(condition, self.classes + 1, dtype=self.dtype)
            return nn.Dense(self.width, use_bias=False, dtype=self.dtype)(rows)
        if not jnp.issubdtype(condition.dtype, jnp.floating):
            raise ValueError(f"the condition is {condition.dtype}: give the network its number of classes")
        return nn.silu(nn.Dense(self.width, dtype=self.dtype)(condition.reshape(len(condition), -1)))


def require_classes(labels: AnyArray, n_classes: int) -> None:
    """Raises ValueError, naming label and range, unless all labels are integers in 0..n_classes.

    The number n_classes means "no class". Traced labels cannot be looked at; a network then treats a
    label out of range as no class at all.
    """
    if isinstance(labels, jax.core.Tracer):
        return
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels are {labels.dtype}: class numbers must be integers")
    # By NumPy: within jit, JAX would trace the comparison of labels that are known.
    outside = [int(label) for label in np.asarray(labels).reshape(-1) if not 0 <= label <= n_classes]
    if outside:
        raise ValueError(f"label {outside[0]} is not in 0..{n_classes - 1} (or {n_classes}, for no class)")


class MinibatchDeviation(nn.Module):
    """h[b, ..., c] -> [b, ..., c + 1]: the last channel says how much the examples of a group differ.

    The channel is the standard deviation over the group, averaged over the event (Karras et al. 2018, section
    3). A group is `group` neighbours in the batch, or the greatest common divisor of `group` and b. If the
    batch is split over devices, each group lies on one device.
    """

    group: int = 4

    @nn.compact
    def __call__(self, h: Float[Array, "b *event"]) -> Array:
        group = math.gcd(len(h), self.group)
        grouped = h.reshape(-1, group, *h.shape[1:]).astype(jnp.float32)
        deviation = jnp.sqrt(jnp.var(grouped, axis=1) + 1e-8)  # the root's slope at 0 is infinite
        each = jnp.repeat(deviation.reshape(len(h) // group, -1).mean(axis=1), group)
        channel = jnp.broadcast_to(right(each, h), (*h.shape[:-1], 1))
        return jnp.concatenate([h, channel.astype(h.dtype)], axis=-1)


class Modulation(nn.Module):
    """x (1 + scale) + shift; both are linear in the embedding and start at zero (Perez et al. 2018)."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b *space c"], embedding: Float[Array, "b e"]) -> Array:
        dense = nn.Dense(2 * x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros)
        per_example = (x.shape[0],) + (1,) * (x.ndim - 2) + (2 * x.shape[-1],)
        scale, shift = jnp.split(dense(embedding).reshape(per_example), 2, axis=-1)
        return x * (1 + scale) + shift


def rematerialised(kind: type[nn.Module], remat: bool, *, static: tuple[int, ...] = ()) -> type[nn.Module]:
    """The module; with `remat`, one that stores only its inputs and recomputes the rest for the gradient.

    It needs a quarter to a third more operations, and memory for one block instead of all (Chen et al. 2016).
    Give the module the name that it would have by itself, so that the parameters keep their names.

    Args:
        kind: class of the module.
        remat: whether to recompute.
        static: positions of arguments that are not arrays; self is 0.
    """
    return nn.remat(kind, static_argnums=static) if remat else kind
