"""The process between `run_module` and the child that runs code of a checkout: it holds the child to its limits.

It is a process of its own so that the child and all that descends from it are ended and the child's folder is removed
even when the process that wanted the answer is killed: its end of the pipe to us closes then.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from .process_table import LINUX, Descendants, become_subreaper

KEPT_OUTPUT = 16 * 1024  # bytes of what the checkout printed last; the rest is read and dropped
KEPT_ANSWERS = 64 * 1024 * 1024
MOST_PROCESSES = 64
CHECK_EVERY = 0.1 if LINUX else 1.0  # seconds between two looks at the process table; `ps` takes its time


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    become_subreaper()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        result = _run(order, folder)
    json.dump(result, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


def _run(order: dict[str, Any], folder: str) -> dict[str, Any]:
    answers_in, answers_out = os.pipe()
    request = {"request": order["request"], "word": order["word"], "answers": answers_out}
    child = subprocess.Popen(
        order["command"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **order["environment"]},
        pass_fds=(answers_out,),
        start_new_session=True,
    )
    os.close(answers_out)
    assert child.stdin is not None
    assert child.stdout is not None
    descendants = Descendants()
    with contextlib.suppress(BrokenPipeError), child.stdin:
        child.stdin.write(json.dumps(request).encode() + b"\n")
    printed, answers = _Pipe(child.stdout.fileno(), KEPT_OUTPUT), _Pipe(answers_in, KEPT_ANSWERS)
    stopped = None
    for event in _events(child, printed, answers, order["seconds"]):
        stopped = event or _beyond_limits(descendants, order["memory"])
        if stopped:
            break
    status = child.poll()
    left = descendants.kill()
    printed.read_all()
    answers.read_all()
    return {
        "stopped": stopped,
        "status": status,
        "printed": bytes(printed.kept).decode("utf-8", "replace"),
        "answers": bytes(answers.kept).decode("utf-8", "replace"),
        "left": left,
    }


def _events(
    child: subprocess.Popen[bytes], printed: _Pipe, answers: _Pipe, seconds: float
) -> Iterator[str | None]:
    """Read both pipes until the child ends. Yields None to have the limits checked, or why to stop.

    The child's end counts, not the end of its pipes: a process that it started may hold them open.
    """
    deadline = time.monotonic() + seconds
    next_check = time.monotonic() + CHECK_EVERY
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        for pipe in (printed, answers):
            selector.register(pipe.descriptor, selectors.EVENT_READ, pipe)
        while child.poll() is None:
            now = time.monotonic()
            if now >= deadline:
                yield "time"
            if now >= next_check:
                yield None
                next_check = time.monotonic() + CHECK_EVERY
            for key, _ in selector.select(0.02):
                if key.data is None:
                    yield "caller"  # nothing more is ever sent: this is the end of the pipe
                elif not key.data.read():
                    selector.unregister(key.fileobj)


def _beyond_limits(descendants: Descendants, memory: int) -> str | None:
    alive = descendants.alive()
    if sum(process.memory for process in alive) > memory:
        return "memory"
    return "processes" if len(alive) > MOST_PROCESSES else None


class _Pipe:
    """Reads without waiting, and keeps the last `limit` bytes."""

    def __init__(self, descriptor: int, limit: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor, self.kept, self._limit = descriptor, bytearray(), limit

    def read(self) -> bool:
        """Read once. Returns False at the end of the pipe."""
        try:
            data = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return True
        self.kept += data
        del self.kept[: -self._limit]
        return bool(data)

    def read_all(self) -> None:
        """Read what the pipe holds now; nobody is left to write more, or at most 1 MiB if somebody is."""
        for _ in range(16):
            if not self.read():
                break


if __name__ == "__main__":
    main()
