"""Run one of our modules, and with it code of a checkout, in a child process with limits.

Three processes: this one, a supervisor (`supervisor.py`) and the child (`child.py`). The supervisor holds the child to
its limits, ends everything that descends from it, and does so too when this process is ended or killed. What the
system allows:

- time and printed output: everywhere. Printed output is read and dropped; its last 16 KiB are kept.
- memory: resident, of the child and its descendants together, checked every 0.1 s on Linux, every second elsewhere.
- descendants: on Linux none is missed, however it detached itself; elsewhere one that is started and orphaned between
  two looks at the process table is.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
SUPERVISOR_TIME = 20.0  # seconds beyond the limit after which the supervisor itself is taken to hang
# TF32 would change float32 results on M5 and NVIDIA; mlx reads this when it is imported.
ENVIRONMENT = {"MLX_ENABLE_TF32": "0", "PYTHONIOENCODING": "utf-8"}


@dataclass(frozen=True)
class Limits:
    """Wall time in seconds (a cold import of torch from a slow disk is what takes long), resident memory in bytes."""

    seconds: float = 120.0
    memory: int = 4 * 1024**3


@dataclass(frozen=True)
class ChildResult:
    """`answers`: the objects that the child replied with, in order. `end`: how it ended, in words that follow 'the
    child process'; None if it ended by itself with status 0."""

    answers: tuple[dict[str, Any], ...]
    end: str | None


def run_module(module: str, request: dict[str, Any], limits: Limits | None = None) -> ChildResult:
    """Run `MODULE.main()` of this package, which calls `child.serve`, in an empty folder, with `request`.

    module: dotted name below this package, for example "verify.probe".
    """
    limits = limits or Limits()
    word = secrets.token_hex(16)
    order = {
        "command": _command(module),
        "request": request,
        "word": word,
        "environment": ENVIRONMENT,
        "seconds": limits.seconds,
        "memory": limits.memory,
    }
    result = _supervised(order, limits.seconds + SUPERVISOR_TIME)
    if result is None:
        return ChildResult((), "was lost: its supervisor ended without a result")
    return ChildResult(_answers(str(result["answers"]), word), _end(result, limits))


def _command(module: str) -> list[str]:
    # -P: nothing of the current directory is imported; -B: no byte code is written into the checkout
    return [sys.executable, "-P", "-B", str(PACKAGE_FOLDER), "_child", module]


def _supervised(order: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The supervisor's result; None if it gave none."""
    process = subprocess.Popen(
        _command("harness.supervisor"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then closes the pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()  # and left open: its end tells the supervisor that this process is gone
        result = json.loads(process.stdout.read())
    except (BrokenPipeError, ValueError):
        return None
    finally:
        timer.cancel()
        _close(process)
    return result if isinstance(result, dict) else None


def _close(process: subprocess.Popen[bytes]) -> None:
    """Have the supervisor end the child, and wait for both."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]
    try:
        process.wait(SUPERVISOR_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()  # type: ignore[union-attr]


def _answers(text: str, word: str) -> tuple[dict[str, Any], ...]:
    """The whole lines that carry the word; anything else on that pipe is none of the child's."""
    lines = [line.removeprefix(f"{word} ") for line in text.split("\n")[:-1] if line.startswith(f"{word} ")]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return tuple(answer for answer in found if isinstance(answer, dict))


def _end(result: dict[str, Any], limits: Limits) -> str | None:
    stopped = {
        "time": f"was still running after {limits.seconds:g} s and was stopped",
        "memory": f"used more than {limits.memory / 1024**3:.3g} GiB of memory and was stopped",
        "processes": "started too many processes and was stopped",
    }
    status: int = result["status"] or 0
    if result["stopped"]:
        end = stopped.get(result["stopped"], "was stopped")
    elif status < 0:
        end = f"was killed by {_signal_name(-status)}: {_last_line(result['printed'])}"
    elif status > 0:
        end = f"ended with status {status}: {_last_line(result['printed'])}"
    else:
        return None
    return f"{end}; {result['left']} of its processes could not be ended" if result["left"] else end


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(printed: str) -> str:
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "it printed nothing"
