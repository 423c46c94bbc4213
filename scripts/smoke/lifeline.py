"""A process that ends when the one that started it does, however that one ended.

A second process of a few kilobytes waits for the end of a pipe that only the parent holds open. It needs no lock of
the interpreter, which an import or a computation may hold for seconds. Runs under a checkout's own interpreter:
standard library alone.
"""

import os
import signal

SIGNALS_OF_A_TERMINAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def die_with_parent(pipe: int) -> None:
    """Starts the waiting process; `pipe` is the reading end. To be called before threads are started."""
    process = os.getpid()
    if os.fork():
        os.close(pipe)
        return
    for number in SIGNALS_OF_A_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    os.dup2(pipe, 0)
    os.closerange(1, 1024)  # the pipes of the run, whose ends others wait for
    os.read(0, 1)
    if os.getppid() == process:
        os.kill(process, signal.SIGKILL)
    os._exit(0)
