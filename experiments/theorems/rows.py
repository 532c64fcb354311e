"""The rows of theorems.json: each row has an estimate and its standard error.

models.py has the densities and the families of models; run.py prints and draws the rows.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.theorems.models import PAIRS, Family, densities, families
from jaxscore import keys as streams
from jaxscore import mixtures, noise, objectives
from jaxscore.keys import Stream

Row = dict[str, Any]


# The two theorems -----------------------------------------------------------------------------

THEOREMS = {"implicit": "explicit", "denoising": "explicit at sigma"}
"""Each objective and its reference. A theorem says that their difference does not depend on the model."""

CONSTANT, SLOPES = "difference, from its mean over theta", "difference of the slopes in theta"


def block_means(mixture, family: Family, config, key, theta) -> dict[str, jax.Array]:
    """Mean of each objective over one block of draws, for the model at theta.

    Args:
        mixture: the density of x.
        family: the line of models.
        config: number of draws, and noise level of denoising score matching.
        key: random key of the block.
        theta: place of the model on the line.
    """
    key_x, key_n = jax.random.split(key)
    x = mixtures.draw(key_x, mixture, config.draws)
    sigma, none = jnp.full(config.draws, config.sigma), jnp.zeros(config.draws)
    # `denoising` draws the same noise from key_n, so both sides of Vincent's theorem see the same points.
    noisy = x + config.sigma * noise.normal(key_n, x.shape)
    # In the theorems a model is one vector field, so its noise level is the same for all objectives.
    score = lambda x, _: family.at(theta)(x, sigma)
    explicit = objectives.explicit(partial(mixtures.score, mixture))
    return {
        "explicit": explicit(score, key, x, none).mean(),
        "implicit": objectives.implicit(score, key, x, none).mean(),
        "explicit at sigma": explicit(score, key, noisy, sigma).mean(),
        "denoising": objectives.denoising(score, key_n, x, sigma).mean(),
    }


def along(key, mixture, family: Family, config) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Mean of each objective in every block at every theta, and its derivative in theta: [blocks, thetas].

    Args:
        key: random key; each block has its own.
        mixture: the density of x.
        family: the line of models.
        config: numbers of blocks, draws and models, and noise level of denoising score matching.
    """

    @jax.jit
    def everything(key):
        def at(key, theta):
            # With the same draws at every theta, noise that the models have in common cancels in differences.
            means = partial(block_means, mixture, family, config, jax.random.clone(key))
            # One forward pass gives the values and the derivatives along the line.
            return jax.jvp(means, (theta,), (jnp.ones_like(theta),))

        block = lambda number: jax.lax.map(partial(at, jax.random.fold_in(key, number)), line(config))
        return jax.lax.map(block, jnp.arange(config.blocks))

    return jax.tree.map(lambda a: np.asarray(a, float), everything(key))


def line(config) -> jax.Array:
    """Values of theta of the models: evenly spaced from -1 to 1."""
    return jnp.linspace(-1.0, 1.0, config.thetas)


def theorems(values: dict, slopes: dict, config, pair: str) -> list[Row]:
    """Rows for every theta: the value of each objective, and two estimates that the theorems say are 0.

    CONSTANT: difference from the reference, minus its mean over theta.
    SLOPES: derivative of the difference in theta.

    Args:
        values: mean of each objective, [blocks, thetas].
        slopes: derivative of each objective in theta, [blocks, thetas].
        config: number of models on the line.
        pair: title of the rows.
    """
    rows = []
    for objective, reference in THEOREMS.items():
        difference = values[reference] - values[objective]
        deviation = difference - difference.mean(axis=1, keepdims=True)
        slope = slopes[reference] - slopes[objective]
        for k, theta in enumerate(line(config).tolist()):
            size = values[reference][:, k].mean()
            at = {"pair": pair, "theta": theta}
            for name in (reference, objective):
                rows.append({"quantity": "value", "objective": name, **at, **estimate(values[name][:, k])})
            at["objective"] = objective
            rows.append({"quantity": CONSTANT, **at, **null(deviation[:, k], size)})
            rows.append({"quantity": SLOPES, **at, **null(slope[:, k], size)})
    return rows


def estimate(values: np.ndarray) -> Row:
    """Mean of independent values, and its standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return {"estimate": float(values.mean()), "standard_error": float(error)}


def null(values: np.ndarray, size: float) -> Row:
    """Estimate of a quantity that should be 0.

    errors_off: estimate / standard error. error_share: standard error / |size|.
    """
    row = estimate(values)
    error = row["standard_error"]
    return row | {"errors_off": row["estimate"] / error, "error_share": error / abs(float(size))}


# Sliced score matching ------------------------------------------------------------------------

SLICED = {"sliced": objectives.sliced, "variance-reduced": objectives.sliced_variance_reduced}
PROBES = (1, 2, 4, 8, 16, 32)
BIAS = "sliced - implicit"


def slices(key, mixture, family: Family, config, pair: str) -> list[Row]:
    """Rows for the bias and the variance of sliced objectives about the implicit one, for K probes.

    All objectives see the same points. Each row is about one kind of slices and one K of PROBES.

    Args:
        key: random key of the points and of the probes.
        mixture: the density of x.
        family: the line of models, of which the model at theta = 0.3 is taken.
        config: number of draws (ten times as many are used), and noise level.
        pair: title of the rows.
    """
    n, score = 10 * config.draws, family.at(jnp.float32(0.3))
    sigma = jnp.full(n, config.sigma)
    explicit = objectives.explicit(lambda x, _: mixtures.score(mixture, x, jnp.zeros(n)))

    @jax.jit
    def deviations(key):
        key_x, key_v = jax.random.split(key)
        x = mixtures.draw(key_x, mixture, n)
        exact = objectives.implicit(score, key, x, sigma)
        # K probes are the first K of 32 probes, so that each probe is computed only once.
        kinds = {}
        for kind, objective in SLICED.items():
            one = lambda k, objective=objective: objective(score, jax.random.fold_in(key_v, k), x, sigma)
            each = jax.lax.map(one, jnp.arange(max(PROBES)))
            kinds[kind] = jnp.stack([each[:probes].mean(axis=0) - exact for probes in PROBES])
        return kinds, explicit(score, key, x, sigma).mean()

    found, size = deviations(key)
    rows = []
    for kind, values in found.items():
        for probes, value in zip(PROBES, np.asarray(values, float), strict=True):
            # For given x the estimate is unbiased, so its variance is the mean square of the deviation.
            square = estimate(value**2)
            row = {"quantity": BIAS, "objective": kind, "pair": pair, "probes": probes, **null(value, size)}
            rows.append(row | {f"variance_{k}": v for k, v in square.items()})
    return rows


# The limit of small noise ---------------------------------------------------------------------

LIMIT, EXACT, LEARNED = "relative RMS distance from s(x)", "the score of p_sigma", "learnt by denoising"


def small_noise(key, mixture, config, pair: str) -> list[Row]:
    """Rows for the distance from the data's score s(x): of p_sigma's score, and of the learned score.

    The model is linear in its parameters: s = sum_k r_k(x) (A_k x + b_k), r_k being the responsibilities at
    sigma. It contains p_sigma's score. The minimum of denoising score matching is therefore the solution of a
    least-squares problem, which is solved on 10 x `draws` points in each of ten blocks.

    Args:
        key: random key of all draws.
        mixture: the density of the data.
        config: number of draws.
        pair: title of the rows.
    """
    n, blocks = 10 * config.draws, 10

    def features(x, sigma):
        r = mixtures.responsibilities(mixture, x, sigma)
        affine = jnp.concatenate([x, jnp.ones((n, 1))], axis=1)
        return (r[:, :, None] * affine[:, None, :]).reshape(n, -1)

    @jax.jit
    def distances(key, sigma):
        keys, at = jax.random.split(key, 3), jnp.full(n, sigma)
        x, z = mixtures.draw(keys[0], mixture, n), noise.normal(keys[1], (n, 2))
        seen = features(x + sigma * z, at)
        parameters = jnp.linalg.solve(seen.T @ seen, seen.T @ (-z / sigma))
        x = mixtures.draw(keys[2], mixture, n)
        truth = mixtures.score(mixture, x, jnp.zeros(n))
        distance = lambda s: jnp.sqrt(jnp.sum((s - truth) ** 2) / jnp.sum(truth**2))
        return distance(mixtures.score(mixture, x, at)), distance(features(x, at) @ parameters)

    rows = []
    for number, sigma in enumerate(np.geomspace(2.0, 0.02, 13)):
        keys = jax.random.split(jax.random.fold_in(key, number), blocks)
        found = np.asarray([distances(key, jnp.float32(sigma)) for key in keys], float)
        for objective, values in zip((EXACT, LEARNED), found.T, strict=True):
            row = {"quantity": LIMIT, "objective": objective, "pair": pair, "sigma": float(sigma)}
            rows.append(row | estimate(values))
    return rows


def all_rows(config, say: Callable[[str], None]) -> list[Row]:
    """All rows. Calls `say` with a line of progress after each pair."""
    given, rows = densities(), []
    keys = jax.random.split(streams.stream(config.seed, Stream.EVALUATE), (len(PAIRS) + 1, 2))
    for number, (pair, (density, family)) in enumerate(PAIRS.items()):
        mixture = given[density]
        models = families(mixture.means.shape[1])[family]
        rows += theorems(*along(keys[number, 0], mixture, models, config), config, pair)
        if family == "network":
            rows += slices(keys[number, 1], mixture, models, config, pair)
        say(f"{pair}: done")
    return rows + small_noise(keys[-1, 0], given["mixture"], config, "mixture, linear in its parameters")
