"""Memory of arrays on the CPU, where MLX frees each array's memory and asks the C library for the next one's."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from acestep.models.mlx.cpu_math import is_on_cpu

# glibc's names and numbers, of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc takes no larger one
KEPT = 256 * 2**20  # bytes of freed memory, the arrays of a layer at 30 s
# What glibc itself arrives at in a process that has freed an array of 32 MB.
USUAL_TRIM_THRESHOLD = 2 * LARGEST_MMAP_THRESHOLD


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside the `with` block glibc keeps up to KEPT bytes of freed memory for the next arrays.

    By itself it gives large arrays back to the system at once, and the system clears the memory of the next one page by
    page: 0.06 of a step at 30 s. Nothing changes on a GPU and where the C library is not glibc.
    """
    library = glibc() if is_on_cpu() else None
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    library.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
        give_freed_memory_back()


def give_freed_memory_back() -> None:
    """To the system, also what lies between arrays that are still needed."""
    library = glibc()
    if library is not None:
        library.malloc_trim(0)


def glibc() -> Any:
    """The C library, where it is glibc; else None."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
