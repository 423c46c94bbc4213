"""CPU streams, reused from run to run.

On the CPU mlx starts a thread of the operating system for each stream and never ends it, and each Python thread has
a default stream of its own: without reuse, a server that answers every request in a new thread collects threads.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

_free: list[Any] = []


def stream_for(owner: object) -> Any:
    """A CPU stream that nothing else uses while `owner` lives.

    None where the default stream serves as well: on a GPU, and with mlx before 0.32, whose streams cannot be used
    by another thread than the one that made them.
    """
    if mx.default_device() != mx.cpu or not hasattr(mx, "new_thread_unsafe_stream"):
        return None
    try:
        stream = _free.pop()
    except IndexError:
        stream = mx.new_thread_unsafe_stream(mx.cpu)
    weakref.finalize(owner, _free.append, stream)
    return stream


class _Run:
    """Owns a stream for as long as a `with` block runs."""


@contextmanager
def reused_stream() -> Iterator[None]:
    """Inside the `with` block mlx computes on a reused stream in place of the thread's default stream."""
    run = _Run()
    stream = stream_for(run)
    if stream is None:
        yield
        return
    with mx.stream(stream):
        yield
