"""A fast BLAS for mlx on Linux, whose wheel computes matmuls with the reference one.

A library is put in front of another when a program starts: a child is started so, the benchmark starts itself again.
"""

import ctypes
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

PLACES = ("/usr/lib/*/openblas*/libblas.so.3", "/usr/lib/*/libopenblas*.so*", "/usr/lib*/libopenblas*.so*")
NONE_FOUND = (
    "no OpenBLAS on this machine: mlx's matmuls run on reference BLAS, about 70 times slower; "
    "install it (Debian, Ubuntu: apt-get install libopenblas0-pthread; Fedora: dnf install openblas) and run again"
)


def find_openblas() -> Path | None:
    """A library that holds OpenBLAS's matmuls under the names that mlx asks for."""
    for pattern in PLACES:
        for path in sorted(Path("/").glob(pattern.removeprefix("/"))):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:  # of another architecture, or cut short
                continue
            if hasattr(library, "cblas_sgemm") and hasattr(library, "openblas_get_config"):
                return path
    return None


def openblas_environment() -> tuple[dict[str, str], str | None]:
    """What a process that computes with mlx is to be started with, and what to tell the user where there is none.

    Both are empty where nothing is to be done: not on Linux, no mlx for the CPU, or a BLAS is in front already.
    """
    before = os.environ.get("LD_PRELOAD", "")
    if sys.platform != "linux" or "blas" in before or not mlx_is_for_the_cpu():
        return {}, None
    library = find_openblas()
    if library is None:
        return {}, NONE_FOUND
    return {"LD_PRELOAD": f"{library}:{before}".rstrip(":")}, None


def mlx_is_for_the_cpu() -> bool:
    """Of mlx's builds for Linux."""
    try:
        version("mlx-cpu")
    except PackageNotFoundError:
        return False
    return True


def use_openblas() -> str | None:
    """Starts this program again with OpenBLAS in front; returns what to tell the user where there is none."""
    environment, note = openblas_environment()
    if environment:
        start_again_with(environment)
    return note


def start_again_with(environment: dict[str, str]) -> NoReturn:
    """This program anew, with its arguments."""
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **environment})


if __name__ == "__main__":  # for the Makefile: what to set LD_PRELOAD to
    print(openblas_environment()[0].get("LD_PRELOAD", os.environ.get("LD_PRELOAD", "")))
