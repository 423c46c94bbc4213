"""Runs of source trees in processes of their own: started, followed on their way, never left behind."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from acestep.errors import BackendError
from smoke import stop
from smoke.progress import Parts
from smoke.request import Request
from smoke.run import Run, Tree, read_runs
from smoke.stem import labels_of

DRIVER = Path(__file__).with_name("drive.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
NAMED = {"encoding": "encoding the context", "decoding": "decoding the stem"}


class Process:
    """The runs of a tree, in a process under its own interpreter, which is kept from writing to the terminal.

    It loads, waits to be told to go on, runs, and says on a pipe how far it is. The requests differ in track and
    seed alone. Leaving the block kills it.
    """

    def __init__(self, tree: Tree, requests: Sequence[Request], folder: Path) -> None:
        self._requests, self._folder = requests, folder
        first = requests[0]
        order = {
            "checkpoint": str(tree.checkpoint),
            "backend": first.backend,
            "device": first.device,
            "precision": first.precision_fields(),
            "worker_thread": tree.worker_thread,
            "params": {**first.params_fields(), "src_audio": str(first.context.absolute())},
            "runs": [{"track": request.track, "config": request.config_fields()} for request in requests],
        }
        reader, writer = os.pipe()
        where = [str(tree.root.absolute()), json.dumps(order), str(folder.absolute()), str(writer)]
        self._errors = folder / "errors.txt"
        self._stack = ExitStack()
        with stop.session.held(), self._errors.open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    [tree.python, str(DRIVER), *where],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd=tree.folder,
                    env={**os.environ, **OFFLINE, **tree.environment},
                    pass_fds=[writer],
                )
            except OSError as error:
                os.close(reader)
                raise BackendError(f"{tree.python} cannot be started ({error.strerror})") from None
            finally:
                os.close(writer)
            self._stack.enter_context(stop.session.undoing(lambda: stop.end(self._process)))
        self._events = self._stack.enter_context(os.fdopen(reader, encoding="utf-8"))
        if self._process.stdin is not None:
            self._stack.callback(self._process.stdin.close)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def _heard(self) -> Iterator[tuple[str, int, int]]:
        """What the process says: the part, and how many of how many."""
        for line in self._events:
            part, done, of = json.loads(line)
            yield part, done, of

    def load(self) -> None:
        """Waits until the tree has loaded its model, or has given up."""
        for part, _, _ in self._heard():
            if part == "loaded":
                return

    def finish(self, parts: Parts, named: str = "") -> list[Run]:
        """Lets it run to the end; BackendError with its own sentence where it was refused, failed or died.

        named: what is written before each part.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()  # what it waits for
        labels, number, at = labels_of(self._requests), -1, ""
        for part, done, of in self._heard():
            number += part == "encoding"
            if part != at:
                several = f"{labels[number]} ({number + 1} of {len(labels)}): " if len(labels) > 1 else ""
                counted = part == "steps"
                name = f"{of} steps" if counted else NAMED[part]
                parts.begin(f"{named}{several}{name}", of if counted else None)
                parts.stem(number, len(labels))
            parts.at(done)
            at = part
        status = self._process.wait()
        if not (self._folder / "run.json").is_file():
            said = self._errors.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
            last = said.strip().splitlines()[-1:] or ["no message"]
            raise BackendError(f"the run died with status {status} ({last[0]})")
        parts.stem(len(labels), len(labels))
        return read_runs(self._requests, self._folder)


def run_all(
    trees: Mapping[str, tuple[Tree, Sequence[Request]]], scratch: Path, parts: Parts, together: bool
) -> dict[str, list[Run]]:
    """The runs of each tree, one after the other, so that they do not slow each other down.

    together: loaded side by side, which halves the wait for imports and doubles the memory: for tiny weights.
    """
    runs = {}
    with ExitStack() as all_of_them:
        loaded: dict[str, Process] = {}
        if together:
            parts.begin("loading")
            for name in trees:
                loaded[name] = all_of_them.enter_context(started(trees, name, scratch))
            for process in loaded.values():
                process.load()
        for name in trees:
            prefix = f"{name.partition(':')[0]}: " if len(trees) > 1 else ""
            with loaded.get(name) or started(trees, name, scratch) as process:
                if not together:
                    parts.begin(f"{prefix}loading")
                    process.load()
                runs[name] = process.finish(parts, prefix)
    return runs


def started(trees: Mapping[str, tuple[Tree, Sequence[Request]]], name: str, scratch: Path) -> Process:
    """The process of one of the trees, with a folder of its own."""
    folder = scratch / f"run{list(trees).index(name)}"
    folder.mkdir()
    return Process(*trees[name], folder)
