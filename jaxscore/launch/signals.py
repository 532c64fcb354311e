"""Ctrl-C and SIGTERM: noted when they come, acted on when the state is whole, by all processes at once."""

import os
import signal

import jax


class Interrupted(Exception):
    """A signal asked the run to stop, and what it has done is saved."""


class Signals:
    """While it is entered, the first Ctrl-C or SIGTERM is noted and the second one acts.

    Where several processes share the run, a signal to one of them (a pod's preemption notice) stops all of
    them after the same step: JAX's coordination service listens for SIGTERM and agrees on it.
    """

    def __init__(self):
        self.received, self.shared, self.asked = False, jax.process_count() > 1, 0

    def stop(self) -> bool:
        """Whether to stop now; every process must ask equally often, and all get the same answer."""
        if self.shared and not self.received:
            from jax.experimental.multihost_utils import reached_preemption_sync_point

            self.asked += 1
            self.received = reached_preemption_sync_point(self.asked)
        return self.received

    def __enter__(self):
        numbers = (signal.SIGINT,) if self.shared else (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number in self.before:
                signal.signal(number, self._note)
        except ValueError:  # not the main thread: the caller's signals are the caller's
            self.before = {}
        return self

    def _note(self, number, frame):
        if self.shared:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.received = True
        self._restore()

    def _restore(self):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception):
        self._restore()
