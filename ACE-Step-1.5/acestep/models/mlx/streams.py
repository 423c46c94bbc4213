"""CPU streams, reused from run to run.

On the CPU mlx starts a thread of the operating system for each stream and never ends it, and each Python thread has
a default stream of its own: without reuse, a server that answers every request in a new thread collects threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from acestep.models.mlx.cpu_math import is_on_cpu

_free: list[Any] = []


@contextmanager
def reused_stream() -> Iterator[None]:
    """Inside the `with` block mlx computes on a CPU stream that nothing else uses meanwhile, and that is used again.

    Nothing changes where the thread's default stream serves as well: on a GPU, and with mlx before 0.32, whose streams
    cannot be used by another thread than the one that made them.
    """
    if not is_on_cpu() or not hasattr(mx, "new_thread_unsafe_stream"):
        yield
        return
    try:
        stream = _free.pop()
    except IndexError:
        stream = mx.new_thread_unsafe_stream(mx.cpu)
    try:
        with mx.stream(stream):
            yield
    finally:
        _free.append(stream)
