"""Ctrl-C: the whole session ends at once, wherever it is, and puts back what it has begun.

A handler that ends the process does what an exception could not: nobody catches it on the way, nothing is waited
for, neither a thread that encodes nor a process that loads.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

NOTHING = "nothing was written"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What is to be undone when the session is stopped, and what is said then."""

    def __init__(self) -> None:
        self.name = "lego_smoke"  # of the script, in front of its messages
        self.kept: Callable[[], str] = lambda: NOTHING
        self._undo: list[Callable[[], None]] = []
        self._held = 0
        self._pending: int | None = None

    def listen(self) -> None:
        """From here on the signals end the session; one that was ignored (nohup) stays so."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    @contextmanager
    def undoing(self, undo: Callable[[], None]) -> Iterator[None]:
        """`undo` is called at the end of the block or when the session is stopped in it; it may be called twice."""
        self._undo.append(undo)
        try:
            yield
        finally:
            undo()
            self._undo.remove(undo)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A signal waits until the block is over."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._pending is not None and not self._held:
                self._end(self._pending)

    def _hear(self, number: int, _: Any) -> None:
        if self._held:
            self._pending = number
        else:
            self._end(number)

    def _end(self, number: int) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        for undo in reversed(self._undo):
            undo()
        with suppress(OSError):  # nobody can be told: the terminal is closed
            message = f"{self.name}: stopped; {self.kept()}\n"
            os.write(2, message.encode("utf-8", "backslashreplace"))  # print might be in the middle of a line
        os._exit(128 + number)


session = Stop()


def end(process: "subprocess.Popen[Any]") -> None:
    """Kills a process and waits until it is gone, so that it writes nothing more."""
    process.kill()
    process.wait()
