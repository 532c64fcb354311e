"""Ctrl-C and SIGTERM: noted when they arrive, acted on after a complete step, by all processes together."""

import os
import signal

import jax


class Interrupted(Exception):
    """A signal stopped the run; its progress is saved."""


class Signals:
    """Context manager in which the first Ctrl-C or SIGTERM is only noted; the second acts as usual.

    If several processes share the run, a signal to one of them, such as the preemption notice of a pod,
    stops all of them after the same step. JAX's coordination service listens for SIGTERM and agrees on the
    step.
    """

    def __init__(self):
        self.received, self.shared, self.asked = False, jax.process_count() > 1, 0

    def stop(self) -> bool:
        """Whether to stop now. All processes must call it equally often; they get the same answer."""
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
        except ValueError:  # only the main thread may set handlers; elsewhere the caller's stay
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
