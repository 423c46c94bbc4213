"""What the process asks of the system for arrays that come and go, and what it keeps afterwards."""

import ctypes
import os
import resource
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from acestep.models.mlx.cpu_memory import freed_memory_kept, give_freed_memory_back
from acestep.models.mlx.loaded_parts import LoadedParts

MEGABYTE = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc"
)


@pytest.fixture
def array() -> mx.array:
    x = mx.zeros(2 * MEGABYTE)
    mx.eval(x)
    return x


def pages_taken(array: mx.array) -> int:
    """Pages that the system cleared while six arrays of 8 MB were held at once, ten times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        mx.eval([array + number for number in range(6)])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of the process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_memory_of_freed_arrays_is_used_again(array: mx.array) -> None:
    with freed_memory_kept():
        pages_taken(array)
        assert pages_taken(array) < 48 * MEGABYTE / PAGE  # less than one time of ten


def test_memory_is_given_back_at_the_end(array: mx.array) -> None:
    with freed_memory_kept():
        pass  # gives back what other tests freed
    before = resident()
    with freed_memory_kept():
        pages_taken(array)
        kept = resident()
    assert kept > before + 30 * MEGABYTE
    assert resident() < before + 15 * MEGABYTE


def test_given_back_after_an_exception_too(array: mx.array) -> None:
    def fail() -> None:
        pages_taken(array)
        raise ValueError("inside")

    with freed_memory_kept():
        pass  # gives back what other tests freed
    before = resident()
    with pytest.raises(ValueError, match="inside"), freed_memory_kept():
        fail()
    assert resident() < before + 15 * MEGABYTE


def test_a_part_that_is_released_during_a_run_is_given_back(array: mx.array) -> None:
    def load() -> list[mx.array]:
        weights = [array + number for number in range(6)]
        mx.eval(weights)
        return weights

    parts = LoadedParts({"decoder": load, "vae": lambda: None}, {"decoder": 48, "vae": 1}, limit=48)
    with freed_memory_kept():
        mx.clear_cache()  # and what other tests freed
        give_freed_memory_back()
        before = resident()
        parts.get("decoder")
        assert resident() > before + 30 * MEGABYTE
        parts.get("vae")
        assert resident() < before + 15 * MEGABYTE


@pytest.fixture
def _no_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())


@pytest.mark.usefixtures("_no_mallopt")
def test_another_c_library_is_left_alone(array: mx.array) -> None:
    with freed_memory_kept():
        assert mx.array_equal(array, mx.zeros_like(array))
