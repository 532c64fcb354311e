"""The main job: a noise-conditional score network on real handwritten digits.

    python -m experiments.digits
    python -m experiments.digits --conditional --label 3 --workdir runs/digits-conditional

One residual network learns the score of 1,797 digits of 8x8 pixels at every noise level. Two samplers draw
from it: Heun's method on the probability flow, and annealed Langevin dynamics. The samples of both are
compared with the real digits: Frechet distance, precision, recall and class frequencies in the features of
a classifier, and the distance to the nearest training digit, which shows whether the samples are copies.
With --conditional the network is given the class of each digit, and samples have the classes that are
asked for.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.langevin import advise
from experiments.common.runs import held_out
from experiments.digits import report
from experiments.digits.config import Config, Heun
from jaxscore import (
    data,
    diagnostics,
    guidance,
    importers,
    likelihood,
    networks,
    noise,
    objectives,
    samplers,
)
from jaxscore.launch import Experiment, Units, balanced
from jaxscore.launch.flags import require
from jaxscore.networks import MLP
from jaxscore.score import denoise, preconditioned
from jaxscore.types import Array, Condition, Key, ParametricScore, Params, ScoreFn


class Digits(NamedTuple):
    """The data of the experiment, as all its functions see them."""

    images: np.ndarray
    """[n, h, w, c] in 0..1."""
    labels: np.ndarray
    condition: np.ndarray
    """What each image is conditioned on: the number of its class [n], or a vector [n, k]."""
    classes: np.ndarray
    """The labels that occur, in order, if the condition is the class; otherwise none.

    The network numbers the classes from 0 on, without gaps.
    """
    sigma_data: float
    source: data.Dataset
    moments: samplers.Moments | None = None
    """Mean and covariance of the centred images, with which samplers start."""
    cells: int | None = None
    """Number of grey values whose cells --dequantise fills with noise."""

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of an image."""
        return self.images.shape[1:]

    def centred(self, images: np.ndarray) -> np.ndarray:
        """Returns images in the units of the network: twice their difference from the mean image."""
        return 2 * (images - self.images.mean(axis=0, keepdims=True))

    def pixels(self, x: Array) -> Array:
        """Returns the images in 0..1 that `centred` has made x of; grey values, if these were dequantised."""
        images = jnp.clip(x / 2 + self.images.mean(axis=0, keepdims=True), 0, 1)
        if self.cells is None:
            return images
        return jnp.minimum(jnp.floor(images * self.cells), self.cells - 1) / (self.cells - 1)

    @property
    def none(self) -> float:
        """The condition that means "no condition": the number of classes, or a vector of zeros."""
        return len(self.classes) or 0.0

    def number(self, label: int | None) -> int | None:
        """Returns the network's number of the class with this label."""
        return None if label is None else int(np.searchsorted(self.classes, label))


def load(config: Config) -> Digits:
    """Returns the data. Raises data.DataError if they are absent, FlagError for a label that they lack."""
    source = data.load(config.data, size=config.size, conditions=config.conditions)
    images, labels, further = source
    images, n = images[:], len(images)  # small enough for an array
    classes, numbers = np.unique(labels, return_inverse=True)
    found = Digits(images, labels, numbers.astype(np.int32), classes, 0.0, source)
    if further:
        vectors = [array.reshape(n, -1).astype(np.float32) for array in further.values()]
        found = found._replace(condition=np.concatenate(vectors, axis=1), classes=classes[:0])
        given = " ".join(config.conditions)
        require(found.condition.size > 0, "conditions", given, "the arrays are empty; name others")
    centred = found.centred(images)
    left = n - len(held_out(n, config.held_out))
    require(left > 0, "held-out", config.held_out, f"leaves none of {n} images for the training")
    sigma_data = float(centred.std())
    cells = config.grey_values + 1 if config.dequantise else None
    if sigma_data == 0:
        raise data.DataError(f"--data {config.data}: all images are the same; there is nothing to learn")
    known = ", ".join(map(str, classes[:10])) + (", ..." if len(classes) > 10 else "")
    inside = config.label is None or config.label in found.classes
    require(inside, "label", config.label, f"must be one of {known}, the classes of --data")
    return found._replace(sigma_data=sigma_data, moments=samplers.moments(centred), cells=cells)


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises what `load` raises."""
    digits, dynamics = load(config), config.langevin
    advise(dynamics.step_size, dynamics.sigma_min, dynamics.sigma_max, dynamics.levels, dynamics.steps)
    classes = len(digits.classes) if config.conditional else 0
    kept = np.delete(np.arange(len(digits.images)), held_out(len(digits.images), config.held_out))
    network = MLP(
        width=config.width, depth=config.depth, dropout=config.dropout, classes=classes, remat=config.remat
    )
    score = preconditioned(network.apply, digits.sigma_data)
    given = conditions(config, digits) if config.conditional else None

    def score_of(params: Params, numbers: Array) -> ScoreFn:
        return bound(config, score, digits, params, given and given(numbers))

    def sampler(draw):
        guided = partial(bound, config, score, digits)
        return lambda params, keys, condition=None: draw(config, digits, guided(params, condition), keys)

    return Experiment(
        name="digits",
        config=config,
        init=networks.init(network, digits.event, digits.condition if config.conditional else None),
        loss=partial(loss, config, network, digits),
        batches=partial(data.batches, {"x": digits.images[kept], "condition": digits.condition[kept]}),
        data=digits.source,
        reference=digits.images if config.label is None else digits.images[report.asked_for(config, digits)],
        samplers={"heun": sampler(sample_heun), "langevin": sampler(sample_langevin)},
        score=score,
        units=Units(digits.centred, digits.pixels),
        description=description(config, digits, network),
        conditions=given,
        evaluate=lambda *found: report.evaluate(config, digits, evaluations(config), *found),
        table=report.table,
        report=partial(report.report, config, digits, score_of, sigma_grid(config.heun)),
    )


def loss(config: Config, network: MLP, digits: Digits, params: Params, context, batch):
    """Denoising score matching over ln sigma ~ N(sigma_mean, sigma_std^2), with EDM's weight.

    With --weight likelihood it is sigma^2 at levels uniform in ln sigma: the likelihood's weight, with the
    importance sampling of Song, Durkan et al. 2021; see `objectives.likelihood`.
    """
    key, key_dropout, key_drop, key_cells = jax.random.split(context.key, 4)
    net = partial(network.apply, train=True, rngs={"dropout": key_dropout})
    score = partial(preconditioned(net, digits.sigma_data), params)
    if config.conditional:
        kept = guidance.drop(key_drop, batch["condition"], none=digits.none, probability=config.p_uncond)
        score = partial(score, condition=kept)
    x = digits.centred(batch["x"])
    if digits.cells is not None:
        x = likelihood.dequantise(key_cells, batch["x"], values=digits.cells, encode=digits.centred).x
    schedule, weight = noise.lognormal(config.sigma_mean, config.sigma_std), objectives.edm(digits.sigma_data)
    if config.weight == "likelihood":
        schedule, weight = noise.geometric(config.heun.sigma_min, config.heun.sigma_max), None
    objective = objectives.over_levels(objectives.noise_conditional, schedule, weight=weight)
    losses, sigma = objective(score, key, x, with_sigma=True)
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, report.BIN_EDGES)}


def description(config: Config, digits: Digits, network: MLP) -> importers.Description | None:
    """Returns the description of the network, for exports; None if its condition is a vector."""
    if config.conditional and not len(digits.classes):
        return None
    sigmas = config.heun.sigma_min, config.heun.sigma_max
    return importers.describe(network, "edm", digits.event, sigmas, sigma_data=digits.sigma_data)


def conditions(config: Config, digits: Digits):
    """Returns conditions(numbers[b]): the class of each sample, or the condition of an image of the data."""
    if len(digits.classes):
        return balanced(len(digits.classes), digits.number(config.label))
    return lambda numbers: jnp.asarray(digits.condition)[numbers % len(digits.condition)]


def bound(
    config: Config, score: ParametricScore, digits: Digits, params: Params, condition: Condition
) -> ScoreFn:
    """Returns the score with parameters and condition, guided if --guidance-scale is not 1."""
    if condition is None:
        return partial(score, params)
    conditional = partial(score, params, condition=condition)
    if config.guidance_scale == 1:
        return conditional
    unconditional = partial(score, params, condition=jnp.full_like(condition, digits.none))
    return guidance.classifier_free(conditional, unconditional, config.guidance_scale)


def sample_heun(config: Config, digits: Digits, score: ScoreFn, keys: Key) -> dict[str, Array]:
    """Returns images by Heun's method on the probability flow, one for each key."""
    sigmas, heun = sigma_grid(config.heun), samplers.heun()
    x = samplers.generate(keys, digits.event, sigmas, score, heun, moments=digits.moments)
    return {"heun": digits.pixels(x)}


def sample_langevin(config: Config, digits: Digits, score: ScoreFn, keys: Key) -> dict[str, Array]:
    """Returns images by annealed Langevin dynamics with and without the final denoising, one for each key."""
    recipe, keys = config.langevin, noise.fold_in(keys, 2)  # not the noise of Heun's method
    sigmas, sampler = recipe.sigma_grid(), recipe.sampler()
    x = samplers.generate(keys, digits.event, sigmas, score, sampler, moments=digits.moments)
    denoised = denoise(score, x, jnp.full(len(x), recipe.sigma_min))
    return {"langevin": digits.pixels(denoised), "langevin_without_denoising": digits.pixels(x)}


def evaluations(config: Config) -> dict[str, int]:
    """Returns the evaluations of the score for each array of samples."""
    heun = samplers.evaluations(samplers.heun(), config.heun.levels)
    langevin = samplers.evaluations(config.langevin.sampler(), config.langevin.levels)
    return {"heun": heun, "langevin": langevin + 1, "langevin_without_denoising": langevin}


def sigma_grid(recipe: Heun) -> Array:
    """Returns the levels of Heun's method, sigma_1 > ... > sigma_n > 0."""
    return noise.levels(noise.karras(recipe.sigma_min, recipe.sigma_max), recipe.levels)
