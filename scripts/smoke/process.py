"""Runs of checkouts in processes of their own: started, followed on their way, never left behind."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import BackendError, RequestError
from smoke import stop
from smoke.progress import Parts
from smoke.request import Request, with_options
from smoke.run import Run, Tree, read_run

if TYPE_CHECKING:
    import numpy as np

DRIVER = Path(__file__).with_name("drive.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
NAMED = {"encoding": "encoding the context", "decoding": "decoding the stem"}


class ProcessDied(BackendError):
    """The process ended and left no word of why: it was killed, or crashed."""


class Process:
    """A checkout with its model loaded, in a process under its own interpreter, which is kept from the terminal.

    It loads, then runs one request after another and says on a pipe how far it is. The requests have checkpoint,
    backend, device and dtype in common with the `shared` one. Leaving the block kills it.
    """

    def __init__(self, tree: Tree, shared: Request, folder: Path, record: bool = False) -> None:
        folder.mkdir()
        self._folder, self._record, self._number = folder, record, -1
        order = {
            "checkpoint": str(tree.checkpoint),
            "backend": shared.backend,
            "device": shared.device,
            "loading": shared.loading_fields(),
            "worker_thread": tree.worker_thread,
            "without": list(tree.without),
        }
        self._errors = folder / "errors.txt"
        self._stack = ExitStack()
        events, told = os.pipe()
        watched, lifeline = os.pipe()
        where = [
            str(tree.root.absolute()),
            json.dumps(order),
            str(folder.absolute()),
            str(told),
            str(watched),
        ]
        with stop.session.held(), self._errors.open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    [tree.python, str(DRIVER), *where],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd=tree.folder,
                    env={**os.environ, **OFFLINE, **tree.environment},
                    pass_fds=[told, watched],
                )
            except OSError as error:
                os.close(events)
                os.close(lifeline)
                raise BackendError(f"{tree.python} cannot be started ({error.strerror})") from None
            finally:
                os.close(told)
                os.close(watched)
            self._stack.callback(os.close, lifeline)
            self._stack.enter_context(stop.session.undoing(lambda: stop.end(self._process)))
        self._events = self._stack.enter_context(os.fdopen(events, encoding="utf-8"))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()
        if self._process.stdin is not None:
            with suppress(OSError):  # what it never read
                self._process.stdin.close()

    def _messages(self) -> Iterator[tuple[str, int, int]]:
        """What the process says: the part, and how many of how many. BackendError where it ends meanwhile."""
        for line in self._events:
            part, *values = json.loads(line)
            if part == "failed":
                problem, is_usage = values
                raise (RequestError if is_usage else BackendError)(with_options(problem))
            done, of = values
            yield part, done, of
        status = self._process.wait()
        said = self._errors.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
        last = said.strip().splitlines()[-1:] or ["no message"]
        raise ProcessDied(f"the run died with status {status} ({last[0]})")

    @property
    def written(self) -> Path:
        """The folder that holds what was written of the last run."""
        return self._folder / str(self._number)

    def load(self) -> None:
        """Waits until the checkout has loaded its model."""
        for part, _, _ in self._messages():
            if part == "loaded":
                return

    def run(self, request: Request, parts: Parts, named: str = "") -> tuple[Run, "np.ndarray"]:
        """The next run and its stem, float32 [samples, 2]; BackendError with its own sentence where it fails or dies.

        named: what is written before each part.
        """
        self._number += 1
        wanted = {
            "track": request.track,
            "params": {**request.params_fields(), "src_audio": str(request.context.absolute())},
            "config": request.config_fields(),
            "record": self._record,
        }
        if self._process.stdin is not None:
            with suppress(OSError):  # it is gone, and why is told below
                self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
                self._process.stdin.flush()
        at = ""
        for part, done, of in self._messages():
            if part == "done":
                break
            if part != at:
                counted = part == "steps"
                parts.begin(f"{named}{f'{of} steps' if counted else NAMED[part]}", of if counted else None)
            parts.at(done)
            at = part
        return read_run(request, self.written)
