"""The fork as it would be without the three patches: a scratch copy of it, reverted by the patch kit."""

import shutil
import subprocess
import sys
from pathlib import Path

import patches
from acestep.errors import BackendError
from smoke import stop


def reverted_copy(fork: Path, folder: Path) -> Path:
    """Copies the fork's package into `folder` and takes the three patches out of it; returns `folder`."""
    shutil.copytree(fork / "acestep", folder / "acestep", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, patches.__path__[0], "revert", str(folder.resolve())]
    with stop.session.held():
        kit = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        undoing = stop.session.undoing(lambda: stop.end(kit))
    with undoing:
        _, errors = kit.communicate()
    if kit.returncode != 0:
        raise BackendError(f"the patches cannot be reverted in a copy of {fork.name}: {errors.strip()}")
    return folder
