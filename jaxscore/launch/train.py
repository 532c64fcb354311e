"""The launcher's training: batches onto the devices, steps, and what is logged and saved between them."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import jax

import jaxscore
from jaxscore import checkpoint, sharding, trainer
from jaxscore.launch import console, metrics_log, programs, workdir
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.metrics_log import Logbook, NonFinite
from jaxscore.launch.signals import Interrupted, Signals


class Batches:
    """The experiment's batches from a step on, on the devices; each process reads its own rows of them.

    The loop queues some steps before it waits for one, so that batches are fetched and on their way while
    the devices compute. `waited` is for how many seconds they had nothing to compute: the time of those
    fetches at whose end `running`, a metric of the newest step, was there already (an upper bound).
    """

    def __init__(self, experiment: Experiment, mesh, start: int):
        self.where, self.n = sharding.batched(mesh), experiment.config.batch
        self.rows = sharding.rows_here(self.where, self.n)
        alone = len(self.rows) == self.n
        self.source = experiment.batches(start) if alone else experiment.batches(start, self.rows)
        self.running: jax.Array | None = None
        self.waited = 0.0

    def __iter__(self) -> Iterator[jax.Array]:
        while True:
            begin = time.perf_counter()
            local = next(self.source)
            batch = sharding.place(local, self.where, self.rows, self.n)
            if self.running is None or self.running.is_ready():
                self.waited += time.perf_counter() - begin
            yield batch


def train(experiment: Experiment, folder: Path, state, mesh, checkpoints, signals: Signals):
    """The state after config.steps steps, from `state`, or from the beginning if that is None.

    Raises NonFinite, Interrupted after a signal, and CheckpointError.
    """
    config, root = experiment.config, jax.random.key(experiment.config.seed)
    if state is None:
        state = programs.make_init(experiment, mesh)(jax.random.fold_in(root, programs.INIT))
    start = int(state.step)
    if start == config.steps:
        return state
    book = Logbook(
        folder / "metrics.jsonl",
        start,
        events=folder / "tensorboard" if config.tensorboard else None,
        writes=jax.process_index() == 0,
    )
    batches, step = Batches(experiment, mesh, start), programs.make_step(experiment, mesh)
    key, saver = jax.random.fold_in(root, programs.TRAIN), Saver(experiment, folder, checkpoints, start)
    try:
        with console.TrainingDisplay(start, config.steps) as display:
            for state, metrics in trainer.fit(key, state, step, batches, steps=config.steps):  # noqa: B020
                number, batches.running = book.append(metrics), metrics["loss"]
                display.advance(number)
                stop = signals.stop()
                last = stop or number == config.steps
                if number % config.log_every == 0 or last:
                    _log(book, display, batches, number)
                if number % config.save_every == 0 or last:
                    saver.save(state, book)
                saver.snapshot(state, number, last=number == config.steps)
                if stop and number < config.steps:
                    checkpoint.wait_until_saved(checkpoints)
                    raise Interrupted(f"stopped at step {number}, saved in {checkpoints.directory}")
    except NonFinite as error:
        checkpoint.wait_until_saved(checkpoints)
        newest = checkpoint.newest_step(checkpoints)
        good = "none yet" if newest is None else checkpoints.directory / str(newest)
        remedy = "lower --optimizer.learning-rate, or --nonfinite skip"
        raise NonFinite(f"{error}; newest good checkpoint: {good}; {remedy}") from None
    finally:
        book.close()
        batches.source.close()
        saver.close()
    checkpoint.wait_until_saved(checkpoints)
    return state


def _log(book: Logbook, display: console.TrainingDisplay, batches: Batches, number: int) -> None:
    row = book.close_interval()
    speed = display.update(number, float("nan") if row["loss"] is None else row["loss"], batches.waited)
    pace = float(f"{speed:.4g}")  # four digits, of steps that take minutes too
    book.write({"step": number, "steps_per_second": pace, "input_wait": round(batches.waited, 3), **row})
    batches.waited = 0.0


class Saver:
    """Checkpoints of what is finite, and snapshots of the averages, if the run keeps some."""

    def __init__(self, experiment: Experiment, folder: Path, checkpoints, start: int):
        self.about = workdir.describe(experiment.name, experiment.config) | {"jaxscore": jaxscore.__version__}
        self.checkpoints, self.every = checkpoints, experiment.config.snapshot_every
        self.stack = contextlib.ExitStack()
        if self.every:
            self.snapshots = self.stack.enter_context(checkpoint.snapshots(folder / "snapshots"))
            checkpoint.forget_after(self.snapshots, start)

    def save(self, state: trainer.TrainState, book: Logbook) -> None:
        """Raises NonFinite for a state that is not finite, and CheckpointError."""
        loss = book.loss_since_save()
        metrics_log.require_finite(state)
        checkpoint.save(self.checkpoints, state, metric=loss, about=self.about)

    def snapshot(self, state: trainer.TrainState, number: int, *, last: bool) -> None:
        """Keep the averages, if it is time to, and at the last step. Raises CheckpointError."""
        if self.every and (number % self.every == 0 or last):
            metrics_log.require_finite(state)
            checkpoint.save_snapshot(self.snapshots, state, about=self.about)

    def close(self) -> None:
        """Wait for the snapshots that are being written."""
        self.stack.close()
