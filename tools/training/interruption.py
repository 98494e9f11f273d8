"""SIGTERM and Ctrl-C: finish the step, write the checkpoint, and end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 20  # seconds that a step may still take, as it may be waiting for a process that has ended


class Interruption:
    """Notes a signal, as a context manager in the main thread; a second Ctrl-C ends the program at once.

    hurried: whether to give up after GRACE seconds, for several processes that wait for each other.
    """

    def __init__(self, hurried: bool = False) -> None:
        self.signal: signal.Signals | None = None
        self._hurried = hurried

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def is_asked_for(self) -> bool:
        return self.signal is not None

    def exit_code(self) -> int:
        """Return the exit code of a shell for the signal; that of SIGTERM if another process got the signal."""
        return 128 + (self.signal or signal.SIGTERM)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None and self._hurried:
            timer = threading.Timer(GRACE, _give_up)
            timer.daemon = True
            timer.start()
        self.signal = signal.Signals(number)


def _give_up() -> None:
    os.write(sys.__stderr__.fileno(), b"the step did not end in time; the checkpoint before it stays as it is\n")
    os._exit(1)
