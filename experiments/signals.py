"""Ctrl-C and SIGTERM: noted when they come, acted on when the state is whole."""

import signal


class Interrupted(Exception):
    """A signal asked the run to stop, and what it has done is saved."""


class Signals:
    """While it is entered, the first Ctrl-C or SIGTERM is noted and the second one acts."""

    def __init__(self):
        self.received = False

    def __enter__(self):
        self.before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in self.before:
                signal.signal(number, self._note)
        except ValueError:  # not the main thread: the caller's signals are the caller's
            self.before = {}
        return self

    def _note(self, number, frame):
        self.received = True
        self._restore()

    def _restore(self):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception):
        self._restore()
