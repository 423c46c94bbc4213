"""SIGTERM and SIGHUP end a verb as Ctrl-C does: by an exception, on whose way out files are put back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = [s for name in ("SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None]


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """In the block, the first SIGTERM or SIGHUP raises Ended; further ones would interrupt what it puts back, and are
    ignored. One that is ignored already, as under nohup, stays so."""

    def end(number: int, _frame: FrameType | None) -> None:
        for one in handlers:
            signal.signal(one, signal.SIG_IGN)
        raise Ended(number)

    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    try:
        for number in handlers:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
