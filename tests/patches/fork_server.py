"""A process that has imported torch and MLX and forks for each job, so that many checkouts can be run quickly.

Jobs: "verify.probe" and "doctor.probe", the very code that a child process of these verbs runs, and "count", see
independent_count.py.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from patches.harness.process import ChildResult, Limits

REPOSITORY = Path(__file__).parents[2]
SECONDS = 60
COUNT = "tests.patches.independent_count"
LOADED = (
    "numpy.random",
    "patches.verify.probe",
    "patches.verify.runs",
    "patches.doctor.probe",
    "patches.doctor.checkout",
    COUNT,
)


class ForkServer:
    """The side of the tests. `ask` returns the answer of one job."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "MLX_ENABLE_TF32": "0", "OMP_NUM_THREADS": "1"},
        )

    def ask(self, job: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"job": job, **arguments}), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, answer["failed"]
        return answer["answer"]

    def run_module(self, module: str, request: dict[str, Any], limits: Limits | None = None) -> ChildResult:
        """In place of `patches.harness.process.run_module`; without its limits, and with a network."""
        from patches.harness.process import ChildResult

        answers = self.ask(module, request=request)
        return ChildResult(tuple(answers), None if answers else "ended with status 1")

    def close(self) -> None:
        self._process.communicate()


def serve() -> None:
    sys.path.insert(0, str(REPOSITORY))
    # imported before the first fork; no operation of MLX may run in this process
    for name in LOADED:
        importlib.import_module(name)

    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(tempfile.gettempdir())
    gc.disable()  # a collection in a child would copy every page, and children end soon
    for line in sys.stdin:
        os.write(answers, _in_a_fork(json.loads(line)) + b"\n")


def _in_a_fork(request: dict[str, Any]) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            signal.alarm(SECONDS)
            try:
                answer = {"answer": _do(**request)}
            except BaseException:
                answer = {"failed": traceback.format_exc()}
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return data or json.dumps({"failed": f"no answer within {SECONDS} s"}).encode()


def _do(job: str, **arguments: Any) -> Any:
    if job != "count":
        answers: list[dict[str, Any]] = []
        with contextlib.suppress(Exception):  # the real child process then ends without a further answer
            sys.modules[f"patches.{job}"].answer(arguments["request"], answers.append)
        return answers
    count = sys.modules[COUNT].count
    for name in [name for name in sys.modules if "patches" in name]:
        del sys.modules[name]  # the count is what a program without the patch kit would see
    return count(arguments["root"], arguments["requests"], **arguments["further"])


if __name__ == "__main__":
    serve()
