"""Ctrl-C and SIGTERM: noted at once, acted on between steps, by all processes after the same step."""

import os
import signal

import jax


class Interrupted(Exception):
    """A signal asked the run to stop, and the run has saved its state."""


class Signals:
    """Context in which the first Ctrl-C or SIGTERM is noted, and a second one has its usual effect.

    With several processes, a signal to one of them (such as a pod's preemption notice) stops all of them
    after the same step: JAX's coordination service listens for SIGTERM and agrees on the step.
    """

    def __init__(self):
        self.received, self.shared, self.asked = False, jax.process_count() > 1, 0

    def stop(self) -> bool:
        """Whether to stop now. All processes must call it equally often, and all get the same answer."""
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
        except ValueError:  # not the main thread, which alone may handle signals
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
