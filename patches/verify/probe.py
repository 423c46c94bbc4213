"""The child process: runs a checkout's three files with fakes and records what the decoder gets.

Started by `verify_checkout` alone, through `harness.process.run_module`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from ..harness.child import Reply, serve, without_garbage_collection
from ..harness.imports import CannotProbe, hide_package


def main() -> None:
    serve(answer)


def answer(request: dict[str, Any], reply: Reply) -> None:
    try:
        require("mlx", "numpy", "torch")
        with without_garbage_collection():
            from .runs import run_cases

        # A checkout must not tell this run from a real one by the modules that are loaded.
        hide_package(__name__.removesuffix(".verify.probe"))
        reply(run_cases(request))
    except CannotProbe as reason:
        reply({"cannot": str(reason)})


def require(*packages: str) -> None:
    """Raise CannotProbe, with what to install, unless each of `packages` can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        # on Linux, mlx by itself comes without anything to compute with
        names = ["'mlx[cpu]'" if (name, sys.platform) == ("mlx", "linux") else name for name in missing]
        raise CannotProbe(
            f"its three files need what is not installed here: {', '.join(missing)}; "
            f"run: {sys.executable} -m pip install {' '.join(names)}"
        )


def versions() -> dict[str, str]:
    """Of the libraries that the proof rests on."""
    import mlx.core as mx
    import torch

    return {"mlx": str(getattr(mx, "__version__", "?")), "torch": torch.__version__}
