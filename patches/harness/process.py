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

from ..checkout import Checkout
from ..verify.cases import Case, Observation
from .imports import CannotProbe

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
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
    answer = _answer(run_module("verify.probe", request, time_limit), time_limit)
    if "cannot" in answer:
        raise CannotProbe(answer["cannot"])
    return Answer(
        observations=tuple(Observation.from_json(data) for data in answer["observations"]),
        versions=answer["versions"],
    )


@dataclass(frozen=True)
class Talk:
    """What a probe process said on both its outputs, and how it ended: a status, None if its time was up."""

    output: str
    noise: str
    status: int | None

    @property
    def end(self) -> str:
        """How it ended, in words that follow 'the probe'."""
        if self.status is None:
            return "was still running when its time was up"
        how = f"was killed by {signal.Signals(-self.status).name}" if self.status < 0 else ""
        return f"{how or f'ended with status {self.status}'}: {_last_line(self.noise)}"


def run_module(module: str, request: dict[str, Any], time_limit: float) -> Talk:
    """One module of ours in a process of its own, in an empty folder, with `request` on its standard input."""
    with (
        tempfile.TemporaryDirectory(prefix="acestep-verify-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(
            [sys.executable, "-P", "-B", str(PACKAGE_FOLDER), "_child", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_environment(),
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        try:
            output, noise = process.communicate(json.dumps(request), timeout=time_limit)
        except BaseException as stop:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(stop, subprocess.TimeoutExpired):
                raise
            output, noise = process.communicate()
            return Talk(output, noise, None)
    return Talk(output, noise, process.returncode)


def _answer(talk: Talk, time_limit: float) -> dict[str, Any]:
    if talk.status is None:
        raise CannotProbe(f"its three files were still running after {time_limit:g} s")
    try:
        answer = json.loads(talk.output)
    except ValueError:
        raise CannotProbe(f"the probe {talk.end}") from None
    if not isinstance(answer, dict):
        raise CannotProbe(f"the probe answered {talk.output[:80]!r}")
    return answer


def _environment() -> dict[str, str]:
    """The caller's environment, without progress bars."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8", "TQDM_DISABLE": "1"}


def _last_line(noise: str) -> str:
    lines = [line.strip() for line in noise.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
