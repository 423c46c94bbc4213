"""Start the probe in a process of its own, and turn whatever becomes of it into an answer or one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from patches.checkout import Checkout
from patches.probe_imports import CannotProbe
from patches.probe_protocol import Case, Observation

TIME_LIMIT = 120.0  # seconds; a cold torch import on a slow disk is what takes long


@dataclass(frozen=True)
class Answer:
    """One observation for each case that was asked for, and the versions that ran them."""

    observations: tuple[Observation, ...]
    versions: dict[str, str]


def run_probe(checkout: Checkout, cases: Sequence[Case], time_limit: float = TIME_LIMIT) -> Answer:
    """Drive `cases` through the three files of a checkout.

    The process writes no byte code into the checkout and works in an empty folder of its own.
    Raises CannotProbe if there is no answer: what is missing, what does not import, a crash, the time limit.
    """
    request = {
        "root": str(checkout.root.absolute()),
        "execute": str(checkout.execute.absolute()),
        "diffusion": str(checkout.diffusion.absolute()),
        "generate": str(checkout.generate.absolute()),
        "cases": [asdict(case) for case in cases],
    }
    with tempfile.TemporaryDirectory(prefix="acestep-verify-", ignore_cleanup_errors=True) as folder:
        answer = _converse(json.dumps(request), Path(folder), time_limit)
    if "cannot" in answer:
        raise CannotProbe(answer["cannot"])
    return Answer(
        observations=tuple(Observation.from_json(data) for data in answer["observations"]),
        versions=answer["versions"],
    )


def _converse(request: str, folder: Path, time_limit: float) -> dict[str, Any]:
    with subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", "patches.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=_environment(),
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, noise = process.communicate(request, timeout=time_limit)
        except BaseException as stop:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(stop, subprocess.TimeoutExpired):
                raise
            process.communicate()
            raise CannotProbe(f"its three files were still running after {time_limit:g} s") from None
    try:
        answer = json.loads(output)
    except ValueError:
        raise CannotProbe(f"the probe {_end(process.returncode)}: {_last_line(noise)}") from None
    if not isinstance(answer, dict):
        raise CannotProbe(f"the probe answered {output[:80]!r}")
    return answer


def _environment() -> dict[str, str]:
    """The caller's environment, with the folder that holds `patches` on the path and no bars drawn."""
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONIOENCODING": "utf-8",
        "TQDM_DISABLE": "1",
    }


def _end(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _last_line(noise: str) -> str:
    lines = [line.strip() for line in noise.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
