"""Few steps from any trained run: samples in one step and in two.

    make digits
    python -m experiments.distill
    python -m experiments.distill --method consistency --workdir runs/consistency

The run's parameters are the teacher, and the start of the student. By `reflow` (Liu et al. 2023) the student
learns the straight lines between noise and the samples that the teacher makes of it. By `consistency` (Song
et al. 2023) it learns to go to the end of the teacher's probability flow at once. The student's folder is a
run like any other; it needs the teacher's folder, whose data and units it shares. It learns the score as it
is, without guidance.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from experiments.common.runs import opened
from jaxscore import consistency, launch, noise, objectives, samplers
from jaxscore.data import pixels
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Experiment, Optimizer
from jaxscore.launch.evaluate import examples
from jaxscore.launch.flags import Count, Levels, Positive, require, require_sigmas
from jaxscore.score import from_denoiser
from jaxscore.types import Array, Key, ParametricScore, Params

Learn = Callable[[Params, Params, dict[str, Array], Key, Array], Array]
"""learn(teacher, own, given, key, x) -> losses; `given` has the condition of each x, or nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """One step and two instead of many: a student learns from a trained run."""

    run: Path = Path("runs/digits")
    """Folder of a trained run whose experiment says what its score is."""
    module: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/distill")
    method: Literal["reflow", "consistency"] = "reflow"
    """What the student learns: straight lines to the teacher's samples, or the teacher's flow."""
    steps: int = 2000
    batch: int = 256
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=1e-3, decay=0.7))
    ema_decay: float = 0.99
    levels: Levels = 8
    """reflow: number of levels of Heun's method, by which the teacher makes a sample."""
    copies: Count = 4
    """reflow: number of noise levels at which a sample is used; a batch has batch / copies of them."""
    shift: Positive = 20.0
    """reflow: shift of the noise levels of the training, as in `noise.flow`, in standard deviations of x."""
    cells: Annotated[int, Meta(ge=2, le=consistency.MOST)] = 40
    """consistency: number of noise levels; the student learns to agree at neighbouring ones."""
    sigma_min: Positive = 0.02
    """Smallest noise level, in the units of the score."""
    sigma_max: float = 40.0
    """Largest noise level, where sampling starts."""
    sigma_middle: Positive = 2.0
    """Noise level between the two steps of the second sampler."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        inside = self.sigma_min < self.sigma_middle < self.sigma_max
        require(inside, "sigma_middle", self.sigma_middle, "must lie between --sigma-min and --sigma-max")
        part = self.batch // self.microbatches
        divides = self.method != "reflow" or part % self.copies == 0
        require(divides, "copies", self.copies, f"must divide --batch / --microbatches, which is {part}")
        itself = self.run.resolve() == self.workdir.resolve()
        require(not itself, "run", self.run, "is the --workdir; name another folder for the student")


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises launch.Refusal if --run has no score."""
    run = opened(config.run, config.module)
    teacher = run.experiment
    x = np.asarray(teacher.units.encode(examples(teacher, 10_000)))
    moments, event = samplers.moments(x), x.shape[1:]
    if config.method == "reflow":
        learn, student = straight(config, teacher.score, moments, float(x.std())), teacher.score
    else:
        function = consistency.from_score(teacher.score, config.sigma_min)
        learn, student = consistent(config, teacher.score, function), score_of(function)

    def loss(params, context, batch):
        given = {} if teacher.conditions is None else {"condition": condition_of(batch)}
        x = teacher.units.encode(pixels.unit(batch["x"]))
        losses = learn(params["teacher"], params["network"], given, context.key, x)
        return losses.mean(), {"untrained": {"teacher": params["teacher"]}}

    def draw(sigmas, params, keys, condition=None):
        score = partial(student, params, **({} if condition is None else {"condition": condition}))
        x = samplers.generate(keys, event, sigmas, score, sampler(config), moments=moments)
        return teacher.units.decode(x)

    return Experiment(
        name="distill",
        config=config,
        init=lambda key: {"network": run.params, "teacher": run.params},
        loss=loss,
        untrained=("teacher",),
        averaged=lambda params: params["network"],
        batches=teacher.batches,
        data=teacher.data,
        reference=teacher.reference,
        samplers={name: partial(draw, sigmas) for name, sigmas in grids(config).items()},
        score=student,
        units=teacher.units,
        description=teacher.description if config.method == "reflow" else None,
        conditions=teacher.conditions,
        compiler_options=teacher.compiler_options,
    )


def grids(config: Config) -> dict[str, Array]:
    """Returns the levels of each sampler."""
    first, middle = config.sigma_max, config.sigma_middle
    return {"one step": jnp.array([first, 0.0]), "two steps": jnp.array([first, middle, 0.0])}


def sampler(config: Config) -> samplers.Sampler:
    """Returns the sampler that takes the steps."""
    return samplers.euler() if config.method == "reflow" else consistency.renoise(config.sigma_min)


def straight(config: Config, score: ParametricScore, moments: samplers.Moments, sigma_data: float) -> Learn:
    """Returns the losses of reflow. The teacher makes samples for the first batch / copies conditions."""
    sigmas = noise.levels(noise.karras(config.sigma_min, config.sigma_max), config.levels)
    shift = config.shift * sigma_data
    fits = 1e-3 < shift / config.sigma_max < 900
    remedy = f"times the standard deviation of x is {shift:.3g}, too far from --sigma-max {config.sigma_max}"
    require(fits, "shift", config.shift, remedy)
    training = noise.flow(shift=shift, t_max=config.sigma_max / (config.sigma_max + shift))
    weight = objectives.edm(sigma_data)

    def learn(teacher, own, given, key, x):
        key_pairs, key_levels = jax.random.split(key)
        shape = (len(x) // config.copies, *x.shape[1:])
        given = {name: condition[: shape[0]] for name, condition in given.items()}
        teacher = partial(score, teacher, **given)
        made = consistency.pairs(key_pairs, shape, sigmas, teacher, samplers.heun(), moments=moments)
        ends, n, given = jax.tree.map(lambda a: jnp.repeat(a, config.copies, axis=0), (*made, given))
        objective = objectives.over_levels(consistency.reflow(n), training, weight=weight)
        return objective(partial(score, own, **given), key_levels, ends)

    return learn


def consistent(config: Config, score: ParametricScore, function: ParametricScore) -> Learn:
    """Returns the losses of consistency distillation; every cell of the grid is drawn equally often."""
    cells = consistency.cells(config.cells, config.sigma_min, config.sigma_max)
    training = noise.karras(config.sigma_min, config.sigma_max)

    def learn(teacher, own, given, key, x):
        objective = consistency.distillation(partial(score, teacher, **given), cells)
        return objectives.over_levels(objective, training)(partial(function, own, **given), key, x)

    return learn


def score_of(function: ParametricScore) -> ParametricScore:
    """Returns the score whose denoiser is the consistency function."""
    return lambda params, x, sigma, **given: from_denoiser(partial(function, params, **given))(x, sigma)


def condition_of(batch: dict[str, Array]) -> Array:
    """Returns the conditions of a batch, by the name that the run's experiment gives them."""
    return batch["condition"] if "condition" in batch else batch["label"]


if __name__ == "__main__":
    launch.main(build, Config())
