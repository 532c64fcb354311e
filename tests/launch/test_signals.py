"""Signals: the first one stops the run where it can go on from, the second one acts at once."""

import signal
import threading
from functools import cache

import pytest

from jaxscore import launch
from jaxscore.launch import Interrupted
from jaxscore.launch.signals import Signals
from tests.grids import rest
from tests.launch import tiny
from tests.launch.tiny import Config, assert_identical, kill, newest, rows, saved_steps


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 0), (signal.SIGINT, 6), rest(signal.SIGTERM, 10)]
)
def test_a_stopped_run_ends_with_the_same_bits(finished, tmp_path, number, step):
    """The step whose batch was under way is finished and saved, and the next run goes on from there.

    The signal comes once, though the first batch is also read for the rehearsal.
    """
    folder, handlers = tmp_path / "run", [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as caught:
        launch.run(tiny.build(Config(), tiny.hooks(before={step: cache(kill(number))})), folder)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    stopped = saved_steps(folder)[-1]
    assert step + 1 <= stopped <= step + 2  # a signal to oneself may come a moment late
    assert str(caught.value) == f"stopped at step {stopped}, saved in {folder / 'checkpoints'}"
    assert not (folder / "samples.npz").exists()
    logged = {stopped, *(n for n in (4, 8, 12) if n <= stopped)}
    assert [row["step"] for row in rows(folder)] == sorted(logged)

    experiment = tiny.build(Config())
    metrics = launch.run(experiment, folder)
    assert metrics["mean"] == finished.metrics["mean"]
    assert_identical(newest(folder, experiment), newest(finished.folder, experiment))
    assert [row["step"] for row in rows(folder)] == sorted({stopped, 4, 8, 12})


def test_the_second_signal_acts():
    # Shells have jobs in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Signals() as signals:
            assert not signals.stop()
            signal.raise_signal(signal.SIGINT)
            assert signals.stop()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Signals() as signals:
            seen.append((signals.stop(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
