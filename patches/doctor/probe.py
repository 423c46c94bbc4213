"""The doctor's child process: runs the checks on a checkout, and answers with one line of JSON for each.

One line at a time, so that a check that ends the process does not lose the findings before it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the checkout prints does not mix with the answer
    request = json.load(sys.stdin)
    from ..harness.imports import CannotProbe

    try:
        _run_checks(request, answer)
    except CannotProbe as reason:
        _write(answer, {"cannot": str(reason)})
    sys.stderr.flush()
    os._exit(0)  # without waiting for threads and exit hooks of the checkout


def _run_checks(request: dict[str, Any], answer: TextIO) -> None:
    from ..verify.probe import require, versions

    require("mlx", "numpy", "torch")
    from ..harness.imports import CannotProbe, describe
    from .checkout import LoadedCheckout
    from .finding import skipped
    from .registry import select

    _write(answer, {"versions": versions()})
    files = {role: Path(path) for role, path in request["files"].items()}
    checkout = LoadedCheckout(Path(request["root"]), files)
    for check in select(request["checks"]):
        try:
            finding = import_module(f".checks.{check.module}", __package__).run(checkout)
        except CannotProbe as reason:
            finding = skipped(str(reason))
        except (Exception, SystemExit) as error:
            finding = skipped(f"the check raises {describe(error)}")
        _write(answer, {"name": check.name, "finding": finding.to_json()})


def _write(answer: TextIO, line: dict[str, Any]) -> None:
    answer.write(json.dumps(line) + "\n")
    answer.flush()


if __name__ == "__main__":
    main()
