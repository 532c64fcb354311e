"""Diffusion models as in EDM (Karras et al. 2022): a network of the field, class labels, guidance.

    python -m experiments.edm --preset fashion
    python -m experiments.edm --preset cifar10 --data-dir ~/tensorflow_datasets

The network is trained by denoising score matching with EDM's preconditioning, at noise levels whose logarithm
is normal, and sampled on the probability flow. Presets (presets.py) are the published recipes, and one for
small machines, `fashion`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.edm import report, sources
from experiments.edm.config import Config
from experiments.edm.models import network_of
from experiments.edm.presets import PRESETS
from jaxscore import data, diagnostics, guidance, importers, launch, networks, noise, objectives, samplers
from jaxscore.checkpoint import CheckpointError
from jaxscore.launch import Experiment, Units, balanced, console, flags, workdir
from jaxscore.launch.compiler import compiler_options
from jaxscore.networks import edm2
from jaxscore.score import preconditioned
from jaxscore.types import Array, Condition, Key, NetFn, Params, Schedule, ScoreFn


class Model(NamedTuple):
    """A network, and the data that it is a model of."""

    net: NetFn
    classes: int
    """The number of classes, which as a class number means "no class"; 0 if there are none."""
    event: tuple[int, ...]
    moments: samplers.Moments | None
    """Mean and covariance of the data, with which samplers start; None if they are absent."""
    units: Units = sources.PIXELS
    guide: launch.Run | None = None
    """The run whose model guides, if it is not this one without classes."""


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe.

    Raises data.DataError if the data are absent, and FlagError for a class that they do not have.
    """
    source = sources.load(config)
    event = source.event
    classes = sources.classes_of(config, source) if config.conditional else 0
    if source.classes > 1 and not config.conditional and config.mode in ("all", "train"):
        console.say(f"--no-conditional: the {source.classes} classes of {config.data!r} are not used")
    config = dataclasses.replace(config, shape=event, classes=classes)  # so that config.json has them
    network = network_of(config, classes)
    units = sources.units_of(config, source)
    moments = sources.moments_of(source, units)
    model = Model(network.apply, classes, event, moments, units, guide_of(config, classes, event))
    number = config.sampling.label
    drawn = jax.jit(partial(sample, config, model), compiler_options=compiler_options())
    return Experiment(
        name="edm",
        config=config,
        init=init(config, networks.init(network, event)),
        loss=partial(loss, config, model),
        batches=partial(data.batches, {"x": source.examples, "label": source.labels}),
        data=source,
        samplers={"samples": partial(sample, config, model)},
        score=partial(score, config, model),
        description=description(config, network),
        units=units,
        conditions=balanced(classes, number) if classes else None,
        **judged(config, source, drawn),
        compiler_options=compiler_options(),
        sampled=partial(with_guide, model),
        constraint=edm2.forced() if config.network.kind == "edm2" else None,
    )


# Data and model -------------------------------------------------------------------------------


def judged(
    config: Config, source: data.Dataset, drawn: Callable[..., Array]
) -> dict[str, Callable[..., Any]]:
    """Returns how samples are judged and drawn, by fields of the experiment; latents as by default."""
    if sources.latents(config):
        return {"report": partial(report.latents, source)}
    return {
        "evaluate": partial(report.evaluate, config, evaluations(config), source),
        "table": report.table,
        "report": partial(report.report, config, source, drawn),
    }


def guide_of(config: Config, classes: int, event: tuple[int, ...]) -> launch.Run | None:
    """Returns the run of --sampling.guide. Raises FlagError if it has other classes or images."""
    given = config.sampling
    if given.guide is None or config.mode == "train":
        return None
    try:
        found = launch.open_run(given.guide, build, Config, step=given.guide_step)
    except (workdir.Refusal, CheckpointError, NotADirectoryError) as error:
        raise flags.FlagError(f"--sampling.guide: {error}") from None
    theirs = found.experiment.config
    same = (theirs.classes, theirs.shape) == (classes, event)
    remedy = f"has {theirs.classes} classes and images of {theirs.shape}, not {classes} and {event}"
    flags.require(same, "sampling.guide", given.guide, remedy)
    return found


def with_guide(model: Model, params: Params) -> Params:
    """Returns what the samplers get: the parameters, and those of the guide if there is one."""
    return params if model.guide is None else {"model": params, "guide": model.guide.params}


def description(config: Config, network: nn.Module) -> importers.Description | None:
    """Returns the description of the network, for exports; None if its uncertainty is learnt beside it."""
    if config.weight == "uncertainty":
        return None
    return importers.describe(network, "edm", config.shape, sigma_data=config.sigma_data)


def init(config: Config, network: Callable[[Key], Params]) -> Callable[[Key], Params]:
    """Returns init(key) -> the parameters of the network, and of its uncertainty if that is learnt."""
    if config.weight != "uncertainty":
        return network

    def both(key: Key) -> Params:
        key_network, key_uncertainty = jax.random.split(key)
        return {
            "network": network(key_network),
            "uncertainty": edm2.Uncertainty().init(key_uncertainty, jnp.zeros(1)),
        }

    return both


def score(
    config: Config, model: Model, params: Params, x: Array, sigma: Array, condition: Condition = None
) -> Array:
    """Returns the score of data in -1..1, with EDM's preconditioning."""
    params = params.get("model", params)
    params = params.get("network", params)
    return preconditioned(model.net, config.sigma_data)(params, x, sigma, condition)


# Training -------------------------------------------------------------------------------------


def schedule(config: Config) -> Schedule:
    """Returns the distribution of sigma in training."""
    if config.weight == "likelihood":
        return noise.geometric(config.sampling.sigma_min, config.sampling.sigma_max)
    return noise.lognormal(config.sigma_mean, config.sigma_std)


def weight(config: Config) -> objectives.Weight:
    """Returns the weight of the loss with the name --weight."""
    edm = objectives.edm(config.sigma_data)
    span = np.log(config.sampling.sigma_max / config.sampling.sigma_min)
    return {
        "edm": edm,
        "uniform": objectives.sigma_squared,
        "min_snr": objectives.min_snr(),
        "soft_min_snr": objectives.soft_min_snr(config.sigma_data**-2),
        "sigmoid": objectives.sigmoid(),
        "likelihood": lambda sigma: objectives.likelihood(1 / (sigma * span))(sigma),
        "uncertainty": edm,
    }[config.weight]


def loss(config: Config, model: Model, params: Params, context, batch):
    """Denoising score matching over ln sigma ~ N(sigma_mean, sigma_std^2), weighted as --weight says."""
    key, key_flip, key_augment, key_drop, key_dropout = jax.random.split(context.key, 5)
    x, condition = model.units.encode(data.pixels.unit(batch["x"])), {}
    x = data.pixels.flip(key_flip, x) if config.flip else x
    if config.augment:
        x, condition["augment"] = data.augment.augmented(key_augment, x, config.augment)
    if model.classes:
        label = guidance.drop(key_drop, batch["label"], none=model.classes, probability=config.p_uncond)
        condition["label"] = label
    net = partial(model.net, train=True, rngs={"dropout": key_dropout})
    given = partial(score, config, model._replace(net=net), params, condition=condition or None)
    objective = objectives.over_levels(objectives.noise_conditional, schedule(config), weight=weight(config))
    losses, sigma = objective(given, key, x, with_sigma=True)
    edges = np.exp(config.sigma_mean + config.sigma_std * np.array([-1.5, -0.5, 0.5, 1.5]))
    metrics = {"by_sigma": diagnostics.by_sigma(losses, sigma, edges)}
    if config.weight == "uncertainty":
        u = edm2.Uncertainty().apply(params["uncertainty"], jnp.log(sigma) / 4)
        losses = objectives.uncertain(losses, u, x[0].size)
    return losses.mean(), metrics


# Sampling -------------------------------------------------------------------------------------


def solver(config: Config) -> samplers.Sampler:
    """Returns the solver of the probability flow, with churn if there is any."""
    given = config.sampling
    step = getattr(samplers, given.solver)()
    if not given.churn:
        return step
    between = {"sigma_min": given.churn_min, "sigma_max": given.churn_max}
    return samplers.churn(given.churn, step, steps=given.levels, noise_scale=given.churn_noise, **between)


def evaluations(config: Config) -> int:
    """Returns the evaluations of the score for a sample; with guidance each of them is of two networks."""
    return samplers.evaluations(solver(config), config.sampling.levels)


def at_scale(
    config: Config, model: Model, params: Params, condition: Condition, scale: float | Array
) -> ScoreFn:
    """Returns the score with parameters and condition, guided with this scale."""
    conditional = partial(score, config, model, params, condition=condition)
    if model.guide is None:
        nothing = jnp.full_like(condition, model.classes)
        weak = partial(score, config, model, params, condition=nothing)
    else:
        weak = partial(model.guide.experiment.score, params["guide"], condition=condition)
    return guidance.classifier_free(conditional, weak, scale, config.sampling.interval)


def sample(
    config: Config,
    model: Model,
    params: Params,
    keys: Key,
    condition: Condition = None,
    scale: float | Array | None = None,
) -> Array:
    """Returns images in 0..1, one for each key, guided with the scale of the flags or this one."""
    recipe, scale = config.sampling, config.sampling.scale if scale is None else scale
    sigmas = noise.levels(noise.karras(recipe.sigma_min, recipe.sigma_max), recipe.levels)
    guided = partial(score, config, model, params, condition=condition)
    if not (isinstance(scale, float) and scale == 1):
        guided = at_scale(config, model, params, condition, scale)
    x = samplers.generate(keys, model.event, sigmas, guided, solver(config), moments=model.moments)
    return model.units.decode(x)


def main() -> None:
    """Parse flags on top of the preset's, and run."""
    with launch.one_line_errors():
        preset = flags.choose("preset", PRESETS, Config.preset)
        config = flags.parse(PRESETS[preset])
        with launch.running(config):
            launch.run(build(config), config.workdir, mode=config.mode, recipe=PRESETS[preset])
