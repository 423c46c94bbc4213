"""A Python script in a fork of the process of the tests, which has imported PyTorch and diffusers long ago.

In a process of its own the script would import them anew, which takes 2.5 s of the CPU. For tests whose point is not
how it starts, and for scripts that compute with PyTorch alone: what MLX has started does not survive a fork.
"""

import gc
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def run_in_a_fork(
    command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, **_: Any
) -> "subprocess.CompletedProcess[str]":
    """In place of `subprocess.run` of [python, script, arguments], with what both streams received as text."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(command, env, cwd, out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(command, status, *texts)


def _become(command: Sequence[str], env: Mapping[str, str], cwd: Path | None, out: int, err: int) -> None:
    """The script's process from its start to its end; never returns."""
    status = 1
    try:
        gc.disable()  # a collection would copy every page
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
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
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
