"""The doctor's child process: runs the checks on a checkout, and answers with one line of JSON for each.

One line at a time, so that a check that ends the process does not lose the findings before it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ..harness.child import Reply, serve, without_garbage_collection


def main() -> None:
    serve(answer)


def answer(request: dict[str, Any], reply: Reply) -> None:
    from ..harness.imports import CannotProbe

    try:
        _run_checks(request, reply)
    except CannotProbe as reason:
        reply({"cannot": str(reason)})


def _run_checks(request: dict[str, Any], reply: Reply) -> None:
    from ..verify.probe import require, versions

    require("mlx", "numpy", "torch")
    with without_garbage_collection():
        import torch

        from ..harness.imports import CannotProbe, describe
        from .checkout import LoadedCheckout
        from .finding import skipped
    from .registry import select

    torch.set_num_threads(1)  # tiny tensors gain nothing from more, and lose much on a busy machine
    reply({"versions": versions()})
    files = {role: Path(path) for role, path in request["files"].items()}
    checkout = LoadedCheckout(Path(request["root"]), files)
    for check in select(request["checks"]):
        try:
            finding = import_module(f".checks.{check.module}", __package__).run(checkout)
        except CannotProbe as reason:
            finding = skipped(str(reason))
        except (Exception, SystemExit) as error:
            finding = skipped(f"the check raises {describe(error)}")
        reply({"name": check.name, "finding": finding.to_json()})
