"""Digits by class from a score that knows no classes: guidance by a noise-conditional classifier.

    make digits
    python -m experiments.classifier

The classifier learns p(class | x, sigma) from noisy digits, x = x0 + sigma n. The gradient of its log
probability is added to the score of an unconditional run of experiments.digits (Dhariwal & Nichol 2021):

    s(x, sigma) + scale grad_x log p(class | x, sigma)

Sample i is asked to have the class i mod 10. Other classifiers, which were trained without noise, say whether
it has this class. The folder of the classifier needs the folder of the score, whose units it shares.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from msgspec import Meta

from experiments.common import report as common
from experiments.common.features import judges
from experiments.common.runs import held_out, opened
from jaxscore import data, diagnostics, guidance, keys, launch, noise, objectives, samplers
from jaxscore.data import pixels
from jaxscore.keys import Stream
from jaxscore.launch import Config as BaseConfig
from jaxscore.launch import Experiment, Optimizer, Run, balanced, plots
from jaxscore.launch.evaluate import examples
from jaxscore.launch.flags import Count, Fraction, Levels, NonNegative, Positive, require, require_sigmas
from jaxscore.networks.layers import NoiseEmbedding, rematerialised
from jaxscore.networks.mlp import ResidualBlock
from jaxscore.types import Array, Key, Params, right

Logits = Callable[[Array, Array], Array]
"""logits(x[b, ...], sigma[b]) -> [b, classes]."""

BIN_EDGES = (0.1, 0.25, 0.6, 1.5)
"""Edges of the bins of the logged loss by noise level."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """A classifier of noisy digits, which guides the score of an unconditional run."""

    run: Path = Path("runs/digits")
    """Folder of a trained run of experiments.digits without --conditional."""
    module: str | None = None
    """Module with the run's `build` and its configuration; experiments.NAME if it is not given."""
    workdir: Path = Path("runs/classifier")
    steps: int = 2000
    batch: int = 256
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(learning_rate=1e-3, decay=0.7))
    ema_decay: float = 0.988
    samples: Annotated[int, Meta(ge=10)] = 1797  # at least one of each class
    scales: tuple[NonNegative, ...] = (0.0, 1.0, 2.0, 4.0)
    """Scales of the classifier's gradient; each is a sampler. 0 is the score without guidance."""
    held_out: Fraction = 0.2
    """Fraction of the digits that are kept from the training, to measure the classifier's accuracy."""
    width: Count = 256
    """Width of the classifier."""
    depth: Count = 2
    """Number of residual blocks of the classifier."""
    sigma_mean: float = -0.5
    """Mean of ln sigma in training; by default that of experiments.digits."""
    sigma_std: Positive = 1.3
    """Standard deviation of ln sigma in training."""
    levels: Levels = 9
    """Number of noise levels of Heun's method."""
    sigma_min: Positive = 0.02
    """Smallest noise level of Heun's method, in the units of the score."""
    sigma_max: float = 20.0
    """Largest noise level, where sampling starts."""
    grey_values: Count = 16
    """Samples are rounded to multiples of 1 / grey_values before the metrics are computed."""
    classifiers: Count = 3
    """Number of classifiers with different seeds that judge the samples; the table shows the mean metrics."""

    def __post_init__(self):
        super().__post_init__()
        require_sigmas(self.sigma_min, self.sigma_max)
        given = " ".join(map(str, self.scales))
        require(self.scales, "scales", given, "needs at least one scale")
        require(len(set(titles(self))) == len(self.scales), "scales", given, "has a scale twice")
        itself = self.run.resolve() == self.workdir.resolve()
        require(not itself, "run", self.run, "is the --workdir; name another folder for the classifier")


class Classifier(nn.Module):
    """x[b, ...], sigma[b] -> logits [b, classes]: residual blocks on x flattened, modulated by sigma.

    The layers see x / sqrt(sigma^2 + sigma_data^2) and ln(sigma) / 4, as in `score.preconditioned`. The
    output layer starts at zero, so that all classes are equally probable at first.

    Args:
        classes: number of classes.
        sigma_data: standard deviation of the clean x.
        width, depth: of the residual blocks.
        remat: keep only the inputs of the blocks for the gradient.
    """

    classes: int
    sigma_data: float
    width: int = 256
    depth: int = 2
    remat: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *event"], sigma: Float[Array, "b"]) -> Float[Array, "b classes"]:
        scaled = x / right(jnp.sqrt(sigma**2 + self.sigma_data**2), x)
        embedding = NoiseEmbedding(self.width)(jnp.log(sigma) / 4)
        h = nn.Dense(self.width)(scaled.reshape(len(x), -1))
        block = rematerialised(ResidualBlock, self.remat, static=(3,))
        for number in range(self.depth):
            h = block(name=f"ResidualBlock_{number}")(h, embedding, False)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(h))


def log_probability(
    logits: Logits, label: Int[Array, "b"], x: Float[Array, "b *event"], sigma: Float[Array, "b"]
) -> Float[Array, "b"]:
    """Returns log p(label | x, sigma): the log softmax of the logits, at the label of each row."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits(x, sigma)), label[:, None], axis=1)[:, 0]


def cross_entropy(label: Int[Array, "b"]) -> objectives.Objective:
    """Returns the objective -log p(label | x + sigma n, sigma), for `objectives.over_levels`.

    Its minimum is the mean entropy of the class given the noisy x. The classifier with the minimum is the
    posterior probability of the class.
    """

    def losses(logits: Logits, key: Key, x: Array, sigma: Array) -> Array:
        return -log_probability(logits, label, x + right(sigma, x) * noise.normal(key, x.shape), sigma)

    return losses


class Task(NamedTuple):
    """The score, the digits and the classifier, as all functions see them."""

    run: Run
    """The run whose score is guided."""
    images: np.ndarray
    """[n, 8, 8, 1] in 0..1."""
    labels: np.ndarray
    held: np.ndarray
    """Numbers of the held-out images."""
    network: Classifier
    moments: samplers.Moments
    """Mean and covariance of the run's images, with which samplers start."""

    def __repr__(self) -> str:
        # Without it, a run that is printed would print all images and weights.
        return f"Task({len(self.images)} images)"

    def score(self, params: Params, x: Array, sigma: Array, condition: Array, scale: float = 1.0) -> Array:
        """Returns the run's score at x, guided by the classifier towards the classes `condition`[b]."""
        logits = partial(self.network.apply, params["classifier"])
        own = partial(self.run.experiment.score, params["score"])
        return guidance.by(own, partial(log_probability, logits, condition), scale)(x, sigma)


def posed(config: Config) -> Task:
    """Returns the task. Raises Refusal if --run has no score, and FlagError if no classifier can guide it."""
    digits, run = data.load("digits"), opened(config.run, config.module)
    n, held = len(digits.labels), held_out(len(digits.labels), config.held_out)
    remedy = f"keeps {len(held)} of {n} digits; keep at least one, and not all"
    require(0 < len(held) < n, "held-out", config.held_out, remedy)
    remedy = "has conditions; name a run of experiments.digits that was trained without --conditional"
    require(run.experiment.conditions is None, "run", config.run, remedy)
    known = examples(run.experiment, 10_000)
    remedy = f"its examples have shape {known.shape[1:]}, and the digits have shape {digits.event}"
    require(known.shape[1:] == digits.event, "run", config.run, remedy)
    x = np.asarray(run.experiment.units.encode(known))
    network = Classifier(digits.classes, float(x.std()), config.width, config.depth, config.remat)
    return Task(run, digits.examples[:], digits.labels, held, network, samplers.moments(x))


def build(config: Config) -> Experiment:
    """Returns the experiment that the flags describe. Raises what `posed` raises."""
    task, schedule = posed(config), noise.karras(config.sigma_min, config.sigma_max)
    sigmas = noise.levels(schedule, config.levels)
    event, kept = task.images.shape[1:], np.delete(np.arange(len(task.images)), task.held)

    def draw(scale: float, params: Params, keys: Key, condition: Array) -> Array:
        guided = partial(task.score, params, condition=condition, scale=scale)
        x = samplers.generate(keys, event, sigmas, guided, samplers.heun(), moments=task.moments)
        return task.run.experiment.units.decode(x)

    return Experiment(
        name="classifier",
        config=config,
        init=lambda key: task.network.init(key, jnp.zeros((1, *event)), jnp.ones(1)),
        loss=partial(loss, config, task),
        batches=partial(data.batches, {"x": task.images[kept], "label": task.labels[kept]}),
        data=data.Dataset(task.images, task.labels),
        samplers={title: partial(draw, scale) for title, scale in titles(config).items()},
        score=task.score,
        units=task.run.experiment.units,
        conditions=balanced(task.network.classes),
        sampled=lambda average: {"classifier": average, "score": task.run.params},
        evaluate=partial(evaluate, config, task, sigmas),
        table=partial(common.table, {title: title for title in titles(config)}),
        report=partial(report, task),
    )


def titles(config: Config) -> dict[str, float]:
    """Returns the scales by the names of their samplers."""
    return {f"guided {scale:g}": scale for scale in config.scales}


def loss(config: Config, task: Task, params: Params, context, batch):
    """Cross-entropy of the class at x0 + sigma n, ln sigma ~ N(sigma_mean, sigma_std^2) as for the score."""
    schedule = noise.lognormal(config.sigma_mean, config.sigma_std)
    objective = objectives.over_levels(cross_entropy(batch["label"]), schedule)
    logits, x = partial(task.network.apply, params), task.run.experiment.units.encode(pixels.unit(batch["x"]))
    losses, sigma = objective(logits, context.key, x, with_sigma=True)
    return losses.mean(), {"by_sigma": diagnostics.by_sigma(losses, sigma, BIN_EDGES)}


def evaluate(
    config: Config, task: Task, sigmas: Array, params: Params, samples: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Returns the metrics of the samples (`common.judged`), and the accuracy of the classifier."""
    found = judges(task.images, task.labels, task.images, n=config.classifiers)
    wanted = np.arange(config.samples) % task.network.classes
    asked = lambda name, x, judge: {"agreement": float(np.mean(judge[1](x) == wanted[: len(x)]))}
    evaluations = dict.fromkeys(samples, samplers.evaluations(samplers.heun(), config.levels))
    results = common.judged(config, *found, samples, task.images, task.labels, evaluations, asked)
    rows = accuracy(config, task, sigmas[:-1], params["classifier"])
    title = f"accuracy of the classifier on {len(task.held)} held-out digits, by noise level:"
    shown = rows[:: -(-len(rows) // 9)]
    text = ", ".join(f"{row['accuracy']:.3f} at {row['sigma']:.2g}" for row in shown)
    return results | {"accuracy": rows, "notes": [*results["notes"], title, f"  {text}"]}


def accuracy(config: Config, task: Task, sigmas: Array, params: Params) -> list[dict[str, float]]:
    """Returns the accuracy of the classifier at each level, on held-out digits with ten draws of noise."""
    key, held = keys.stream(config.seed, Stream.EVALUATE), np.tile(task.held, 10)
    x = jnp.asarray(task.run.experiment.units.encode(task.images)[held])
    label = jnp.asarray(task.labels[held])

    @jax.jit
    def at(params: Params, sigma: Array) -> Array:
        noisy = x + sigma * noise.normal(key, x.shape)
        return (task.network.apply(params, noisy, jnp.full(len(x), sigma)).argmax(axis=1) == label).mean()

    return [{"sigma": float(sigma), "accuracy": float(at(params, sigma))} for sigma in sigmas]


def report(
    task: Task, params, samples: dict[str, np.ndarray], history: list[dict], folder: Path
) -> list[Path]:
    """Draws ten samples of each class for each scale, a row for each class; and the loss by noise level."""
    paths, classes = [folder / "classes.png", folder / "loss.png"], range(task.network.classes)
    with plots.page(paths[0], columns=len(samples), size=3.0, height=3.2) as axes:
        for each, (title, x) in zip(axes, samples.items(), strict=True):
            columns = min(10, len(x) // len(classes))
            grid = np.concatenate([x[label :: len(classes)][:columns] for label in classes])
            plots.images(each, grid, rows=len(classes), title=title, names=[f"{label}" for label in classes])
    with plots.page(paths[1], columns=1, size=7.0, height=4.5) as (axes,):
        plots.loss(axes, history)
    return paths


if __name__ == "__main__":
    launch.main(build, Config())
