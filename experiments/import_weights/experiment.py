"""The experiment on imported weights: Heun's method samples, and EDM's loss trains on.

The folder of the run has network.json, the `importers.Description` of the weights. Images are in -1..1 for
the network, and in 0..1 for the launcher. Arrays with other channels than images, such as latents, stay as
they are.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.import_weights.config import Config
from jaxscore import data, importers, noise, objectives, samplers
from jaxscore.importers import Description
from jaxscore.launch import Experiment, Refusal, Units, balanced, workdir
from jaxscore.launch.flags import require
from jaxscore.types import Array, Condition, Key, ParametricScore, Params

NAME = "import_weights"
NETWORK = "network.json"
"""File in the run's folder with the description of its network."""

IMAGES = Units(lambda images: 2 * images - 1, lambda x: jnp.clip((x + 1) / 2, 0, 1))


def build(config: Config) -> Experiment:
    """Returns the experiment on the weights in --workdir.

    Raises launch.Refusal if the folder has none, data.DataError if the data are absent, and FlagError if the
    data or the class do not fit the network.
    """
    return assemble(config, described(config.workdir))


def described(folder: Path) -> Description:
    """Returns the description of the weights in the folder of a run. Raises Refusal if there is none."""
    stored = workdir.read_json(folder / NETWORK)
    if stored is None:
        raise Refusal(f"--workdir {folder}: holds no imported weights; give --checkpoint too")
    try:
        return importers.from_json(stored)
    except ValueError as error:
        raise Refusal(f"{folder / NETWORK}: {error}") from None


def assemble(config: Config, description: Description) -> Experiment:
    """Returns the experiment on weights with this description. Raises what `build` raises."""
    score, network = importers.build(description, remat=config.remat)
    source, classes = load(config, description), description.fields.get("classes", 0)
    inside = config.label is None or 0 <= config.label < classes
    require(inside, "label", config.label, f"the network has {classes} classes" if classes else "it has none")
    units = IMAGES if description.event[-1] in (1, 3) else Units()
    return Experiment(
        name=NAME,
        config=config,
        init=importers.initial(network, description.event),
        loss=partial(loss, config, description, network, units),
        batches=partial(data.batches, {"x": source.examples, "label": source.labels}),
        data=source,
        samplers={"heun": partial(sample, config, description, score, units)},
        score=score,
        units=units,
        description=description,
        conditions=balanced(classes, config.label) if classes else None,
    )


def load(config: Config, description: Description) -> data.Dataset:
    """Returns the images and their labels; none without --data. Raises DataError and FlagError."""
    event, classes = description.event, description.fields.get("classes", 0)
    if config.data is None:
        return data.Dataset(np.zeros((0, *event), np.float32), np.zeros(0, np.int32))
    source = data.load(config.data, config.data_dir, size=config.size)
    shape = source.examples.shape[1:]
    text = f"has images of shape {list(shape)}, and the network those of {list(event)}"
    require(shape == event, "data", config.data, text)
    highest = int(np.max(source.labels, initial=0))
    text = f"has the class {highest}, and the network the classes 0 to {classes - 1}"
    require(not classes or highest < classes, "data", config.data, text)
    return source


def loss(
    config: Config, description: Description, network: Any, units: Units, params: Params, context, batch
) -> tuple[Array, dict[str, Array]]:
    """EDM's loss of the imported score: ln sigma ~ N(sigma_mean, sigma_std^2), and the weight of EDM."""
    key, key_dropout = jax.random.split(context.key)
    net = partial(network.apply, train=True, rngs={"dropout": key_dropout})
    score = partial(importers.preconditioned(net, description), params)
    if description.fields.get("classes", 0):
        score = partial(score, condition=batch["label"])
    schedule = noise.lognormal(config.sigma_mean, config.sigma_std)
    weight = objectives.edm(description.constants.get("sigma_data", 0.5))
    objective = objectives.over_levels(objectives.noise_conditional, schedule, weight=weight)
    return objective(score, key, units.encode(data.pixels.unit(batch["x"]))).mean(), {}


def sample(
    config: Config,
    description: Description,
    score: ParametricScore,
    units: Units,
    params: Params,
    keys: Key,
    condition: Condition = None,
) -> Array:
    """Returns one sample for each key, by Heun's method on the noise levels of the network."""
    given = {} if condition is None else {"condition": condition}
    sigmas = noise.levels(noise.karras(description.sigma_min, description.sigma_max), config.levels)
    bound = partial(score, params, **given)
    return units.decode(samplers.generate(keys, description.event, sigmas, bound, samplers.heun()))
