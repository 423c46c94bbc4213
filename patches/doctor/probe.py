"""The doctor's probe process: looks at a checkout line by line, and answers with one JSON object for each line.

Line by line, so that what was found is told even if a later line takes the process down.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    from ..harness.imports import CannotProbe

    try:
        _look(request, answer_to)
    except CannotProbe as reason:
        _tell(answer_to, {"cannot": str(reason)})
    sys.stderr.flush()
    os._exit(0)  # a checkout's threads and exit hooks have no say in this


def _look(request: dict[str, Any], answer_to: TextIO) -> None:
    from ..verify.probe import require, versions

    require("mlx", "numpy", "torch")
    from ..harness.imports import CannotProbe, describe
    from .line import unseen
    from .lines import LINES
    from .site import Site

    _tell(answer_to, {"versions": versions(), "lines": [vars(line) for line, _ in LINES]})
    files = {role: Path(path) for role, path in request["files"].items()}
    site = Site(Path(request["root"]), files)
    for line, look in LINES:
        try:
            finding = look(site)
        except CannotProbe as reason:
            finding = unseen(str(reason))
        except (Exception, SystemExit) as error:
            finding = unseen(f"the probe met {describe(error)}")
        _tell(answer_to, {"name": line.name, "finding": finding.to_json()})


def _tell(answer_to: TextIO, what: dict[str, Any]) -> None:
    answer_to.write(json.dumps(what) + "\n")
    answer_to.flush()


if __name__ == "__main__":
    main()
