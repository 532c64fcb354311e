"""Training: moves batches to the devices, runs steps, and logs and saves between steps."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxscore import checkpoint, keys, sharding, trainer
from jaxscore.keys import Stream
from jaxscore.launch import console, metrics_log, processes, programs, tensorboard, validation
from jaxscore.launch.config import Config
from jaxscore.launch.experiment import Experiment
from jaxscore.launch.metrics_log import Logbook, NonFinite
from jaxscore.launch.pictures import TrainingPictures
from jaxscore.launch.signals import Interrupted, Signals
from jaxscore.launch.workdir import Refusal
from jaxscore.types import Batch, Params


class Batches:
    """The experiment's batches on the devices, from step `start` on; each process reads its own rows.

    The loop queues some steps before it waits for one, so batches are read and copied while the devices
    compute. `waited` is an upper bound of the seconds in which the devices had nothing to compute. It is the
    time of all reads that ended after `running`, a metric of the newest step, had been computed.
    """

    def __init__(self, experiment: Experiment, mesh: Mesh, start: int):
        config, self.where = experiment.config, sharding.batched(mesh)
        self.n, self.rows = config.batch, sharding.rows_here(self.where, config.batch)
        rows = None if len(self.rows) == self.n else self.rows
        self.source = experiment.batches(batch=self.n, seed=config.seed, start=start, rows=rows)
        self.running: jax.Array | None = None
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        place = lambda local: sharding.place(local, self.where, self.rows, self.n)
        while True:
            begin = time.perf_counter()
            batch = jax.tree.map(place, self._read())
            if self.running is None or self.running.is_ready():
                self.waited += time.perf_counter() - begin
            yield batch

    def _read(self) -> Batch:
        """Returns the next rows. Raises Refusal if there are none, or another number of them."""
        batch, n = next(self.source, None), len(self.rows)
        if batch is None:
            raise Refusal("experiment.batches ended; its batches must go on for ever")
        if not isinstance(batch, dict) or any(isinstance(a, dict | list | tuple) for a in batch.values()):
            kinds = {k: type(a).__name__ for k, a in batch.items()} if isinstance(batch, dict) else None
            found = kinds or type(batch).__name__
            raise Refusal(f"experiment.batches: a batch is {found}; it must be a dict of arrays by name")
        wrong = {name: len(array) for name, array in batch.items() if len(array) != n}
        if wrong:
            raise Refusal(f"experiment.batches: a batch has {wrong} rows; --batch {self.n} asks for {n}")
        return batch

    def close(self) -> None:
        """Closes the source, if it can be closed: an iterator need not be a generator."""
        getattr(self.source, "close", lambda: None)()


def train(
    experiment: Experiment,
    folder: Path,
    state,
    mesh: Mesh,
    checkpoints,
    signals: Signals,
    about: Any,
    rehearse: Callable[[Params, list[dict[str, Any]]], None] | None,
):
    """Returns the state after config.steps steps, from `state`, or from the beginning if `state` is None.

    Checkpoints are stored with `about`, the description of the run. After the first step rehearse(averages,
    history) tries what comes after training, if it is not None.

    Raises:
        NonFinite: if losses or the state are not finite.
        Interrupted: after a signal; the state is saved.
        CheckpointError: if a checkpoint cannot be written.
    """
    config = experiment.config
    state = state or programs.make_init(experiment, mesh)(keys.stream(config.seed, Stream.INIT))
    start = int(state.step)
    if start == config.steps:
        return state
    book = _logbook(folder, config, start)
    batches, step = Batches(experiment, mesh, start), programs.make_step(experiment, mesh)
    key, saver = keys.stream(config.seed, Stream.TRAIN), Saver(experiment, folder, checkpoints, start, about)
    try:
        with console.TrainingDisplay(start, config.steps) as display:
            for state, metrics in trainer.loop(key, state, step, batches, steps=config.steps):  # noqa: B020
                number, batches.running = book.append(metrics), metrics["loss"]
                if rehearse and number == start + 1:
                    with display.paused():
                        rehearse(state.ema, [*book.rows, _row(book.averages(), number, 1.0, batches.waited)])
                display.advance(number)
                last = (stop := signals.stop()) or number == config.steps
                saves = number % config.save_every == 0 or last
                held_out = saver.validation(state) if saves else {}
                if number % config.log_every == 0 or last or held_out:
                    _log(book, display, batches, number, held_out)
                if saves:
                    saver.save(state, book, **held_out)
                saver.picture(state, book, display)
                saver.snapshot(state, number, last=number == config.steps)
                if stop and number < config.steps:
                    checkpoint.wait_until_saved(checkpoints)
                    raise Interrupted(f"stopped at step {number}, saved in {checkpoints.directory}")
    except NonFinite as error:
        raise _with_checkpoint(error, checkpoints) from None
    finally:
        for each in (book, batches, saver):
            each.close()
    checkpoint.wait_until_saved(checkpoints)
    return state


def _logbook(folder: Path, config: Config, start: int) -> Logbook:
    if start:
        console.say(f"going on from step {start}")
    events = folder / tensorboard.FOLDER if config.tensorboard else None
    return Logbook(folder / "metrics.jsonl", start, events=events, writes=jax.process_index() == 0)


def _with_checkpoint(error: NonFinite, checkpoints) -> NonFinite:
    checkpoint.wait_until_saved(checkpoints)
    newest = checkpoint.newest_step(checkpoints)
    good = "none yet" if newest is None else checkpoints.directory / str(newest)
    remedy = "lower --optimizer.learning-rate, or --nonfinite skip"
    if metrics_log.NONE_YET in str(error):
        remedy = "check the data and the flags of the noise levels"
    return NonFinite(f"{error}; newest good checkpoint: {good}; {remedy}")


def _log(
    book: Logbook,
    display: console.TrainingDisplay,
    batches: Batches,
    number: int,
    held_out: dict[str, float],
) -> None:
    row = book.close_interval()
    speed = display.update(number, float("nan") if row["loss"] is None else row["loss"], batches.waited)
    book.write(_row(row, number, speed, batches.waited) | held_out)
    batches.waited = 0.0


def _row(averages: dict[str, Any], number: int, speed: float, waited: float) -> dict[str, Any]:
    """Returns a line of metrics.jsonl."""
    pace = float(f"{speed:.4g}")  # significant digits, because a step may take minutes
    ours = {"step": number, "steps_per_second": pace, "input_wait": round(waited, 3)}
    return ours | averages | ours  # a metric of the loss may have one of these names


class Saver:
    """Saves checkpoints of finite states, and snapshots and pictures of the averages if the run makes them.

    It also measures the validation loss, which is the metric of a checkpoint.
    """

    def __init__(self, experiment: Experiment, folder: Path, checkpoints, start: int, about: dict[str, Any]):
        self.pictures = TrainingPictures(experiment, folder, start)
        self.checkpoints, self.every, self.about = checkpoints, experiment.config.snapshot_every, about
        self.stack, self.validate = contextlib.ExitStack(), validation.program(experiment)
        self.tensorboard = experiment.config.tensorboard
        if self.every:
            self.snapshots = self.stack.enter_context(checkpoint.snapshots(folder / "snapshots"))
            checkpoint.forget_after(self.snapshots, start)

    def validation(self, state: trainer.TrainState) -> dict[str, float]:
        """Returns the validation loss by its name, if the experiment measures one. Raises NonFinite."""
        return validation.measured(self.validate, state)

    def save(self, state: trainer.TrainState, book: Logbook, *, validation: float | None = None) -> None:
        """Saves a checkpoint, whose metric is the validation loss if there is one, or else the training loss.

        Raises NonFinite if the state is not finite, and CheckpointError.
        """
        loss = book.loss_since_save()
        metrics_log.require_finite(state)
        metric = loss if validation is None else validation
        checkpoint.save(self.checkpoints, state, metric=metric, about=self.about)
        if self.tensorboard:  # in every process, since each has a part of the parameters
            book.histograms(processes.everywhere(state.params))

    def snapshot(self, state: trainer.TrainState, number: int, *, last: bool) -> None:
        """Saves the averages at every `snapshot_every`-th step and after the last step, if the flag is given.

        Raises NonFinite if the state is not finite, and CheckpointError.
        """
        if self.every and (number % self.every == 0 or last):
            metrics_log.require_finite(state)
            checkpoint.save_snapshot(self.snapshots, state, about=self.about)

    def picture(self, state: trainer.TrainState, book: Logbook, display: console.TrainingDisplay) -> None:
        """Draws a picture of samples at every `picture_every`-th step, if the flag is given."""
        if self.pictures.due(book.step):
            with display.paused():
                book.picture("training", self.pictures.draw(state, book.step))

    def close(self) -> None:
        """Waits until all snapshots are written."""
        self.stack.close()
