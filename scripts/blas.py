"""A fast BLAS for mlx on Linux, whose wheel computes matrix products with the reference one.

Imported before mlx: a library is put in front of another when a program starts, so the program is started again.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import NoReturn

PLACES = ("/usr/lib/*/openblas*/libblas.so.3", "/usr/lib/*/libopenblas*.so*", "/usr/lib*/libopenblas*.so*")
NONE_FOUND = (
    "no OpenBLAS on this machine: mlx's matrix products run on reference BLAS, about 70 times slower; "
    "install it (Debian, Ubuntu: apt-get install libopenblas0-pthread; Fedora: dnf install openblas) and run again"
)


def find_openblas() -> Path | None:
    """A library that holds OpenBLAS's products under the names that mlx asks for."""
    for pattern in PLACES:
        for path in sorted(Path("/").glob(pattern.removeprefix("/"))):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:  # of another architecture, or cut short
                continue
            if hasattr(library, "cblas_sgemm") and hasattr(library, "openblas_get_config"):
                return path
    return None


def use_openblas() -> str | None:
    """Starts this program again with OpenBLAS in front; returns what to tell the user where there is none.

    Returns None where nothing is to be done: not on Linux, or a BLAS is in front already.
    """
    if sys.platform != "linux" or "blas" in os.environ.get("LD_PRELOAD", ""):
        return None
    path = find_openblas()
    if path is not None:
        start_again_with(path)
    return NONE_FOUND


def start_again_with(library: Path) -> NoReturn:
    """This program anew, with its arguments, `library` loaded before all others."""
    preload = f"{library}:{os.environ.get('LD_PRELOAD', '')}".rstrip(":")
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "LD_PRELOAD": preload})
