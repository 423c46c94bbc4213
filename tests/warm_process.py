"""A Python script in a fork of the process of the tests, which has imported PyTorch and diffusers long ago.

In a process of its own the script would import them anew, which takes 2.5 s of the CPU. For tests whose point is not
how it starts, and for scripts that compute with PyTorch alone: what MLX has started does not survive a fork. Where
processes do not survive it at all, on macOS, the names below are those of `subprocess`.
"""

import contextlib
import gc
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

SECONDS = 120  # until a process that hangs is ended, so that its test fails


class Fork:
    """In place of `subprocess.Popen` of [python, script, arguments]: what the smoke run asks of one."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._status: int | None = None
        self.stdin: IO[bytes] | None = None
        nothing = os.open(os.devnull, os.O_RDWR)
        given, ours = os.pipe() if stdin == subprocess.PIPE else (nothing, None)
        streams = [given, *(nothing if isinstance(to, int) else to.fileno() for to in (stdout, stderr))]
        self._child = os.fork()
        if self._child == 0:
            _become(command, env, cwd, streams, pass_fds)
        for descriptor in {given, nothing}:
            os.close(descriptor)
        if ours is not None:
            self.stdin = os.fdopen(ours, "wb")

    def wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return self._status

    def kill(self) -> None:
        if self._status is None:
            os.kill(self._child, signal.SIGKILL)


def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, **_: Any) -> Any:
    """In place of `subprocess.run` of the same, with what both streams received as text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = Fork(command, env=env, cwd=cwd, stdout=out, stderr=err).wait()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(command, status, *texts)


SURVIVES_A_FORK = sys.platform == "linux"
subprocess_by_fork = SimpleNamespace(
    run=run if SURVIVES_A_FORK else subprocess.run,
    Popen=Fork if SURVIVES_A_FORK else subprocess.Popen,
    PIPE=subprocess.PIPE,
    DEVNULL=subprocess.DEVNULL,
)


def _become(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None,
    streams: Sequence[int],
    kept: Sequence[int],
) -> NoReturn:
    """The script's process from its start to its end."""
    status = 1
    try:
        signal.alarm(SECONDS)
        gc.disable()  # a collection would copy every page
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
        edges = sorted({2, *kept})
        for low, high in zip(edges, [*edges[1:], 4096], strict=True):
            os.closerange(low + 1, high)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.clear()
        os.environ.update(env)
        if cwd is not None:
            os.chdir(cwd)
        sys.argv[:] = command[1:]
        runpy.run_path(command[1], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
