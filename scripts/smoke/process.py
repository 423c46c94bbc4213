"""Runs of source trees in processes of their own: started, waited for, never left behind."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from acestep.errors import BackendError
from smoke.request import Request
from smoke.run import Run, Tree, read_runs

DRIVER = Path(__file__).with_name("drive.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def start(
    tree: Tree, requests: Sequence[Request], folder: Path, quiet: bool = False
) -> "subprocess.Popen[bytes]":
    """The runs of a tree, in a process under its own interpreter; its bars go to the terminal unless quiet.

    The requests differ in track and seed alone.
    """
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
    command = [tree.python, str(DRIVER), str(tree.root.absolute()), json.dumps(order), str(folder.absolute())]
    try:
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if quiet else None,
            cwd=tree.folder,
            env={**os.environ, **OFFLINE, **tree.environment},
        )
    except OSError as error:
        raise BackendError(f"{tree.python} cannot be started ({error.strerror})") from None


def finish(process: "subprocess.Popen[bytes]", requests: Sequence[Request], folder: Path) -> list[Run]:
    """Waits for runs; BackendError with their own sentence where they were refused, failed or died."""
    _, errors = process.communicate()
    if not (folder / "run.json").is_file():
        last = (errors or b"").decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BackendError(f"the run died with status {process.returncode} ({last[0]})")
    return read_runs(requests, folder)


def run_all(
    trees: Mapping[str, tuple[Tree, Sequence[Request]]], scratch: Path, together: bool
) -> dict[str, list[Run]]:
    """The runs of each tree; what the last one shows on its way goes to the terminal.

    together: side by side, which halves the wait for imports and doubles the memory: for tiny weights.
    """
    folders = {name: scratch / f"run{i}" for i, name in enumerate(trees)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    runs = {}
    try:
        for name, (tree, requests) in trees.items():
            folders[name].mkdir()
            processes[name] = start(tree, requests, folders[name], quiet=name != list(trees)[-1])
            if not together:
                runs[name] = finish(processes[name], requests, folders[name])
        for name in trees.keys() - runs.keys():
            runs[name] = finish(processes[name], trees[name][1], folders[name])
    finally:
        for process in processes.values():
            process.kill()
    return {name: runs[name] for name in trees}
