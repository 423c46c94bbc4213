"""Somebody's ACE-Step checkout, made ready to be run without anything of it being written to.

What runs is a copy of its `acestep` package in the scratch folder, beside a `checkpoints` folder of links to the
weights: upstream keeps caches below its root, copies model code into the checkpoint and downloads what it finds
missing, and all of that has to end up, or not happen, in the scratch folder.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acestep.errors import BackendError, CheckpointError, RequestError
from acestep.models.checkpoint.precision import AUTO
from patches.checkout import locate
from patches.errors import KitError, WrongFolder
from smoke.request import Request
from smoke.run import Tree
from smoke.tree import SWITCHES

LOADED_BESIDES = ("vae", "Qwen3-Embedding-0.6B")
# Upstream wants these to be there before it loads anything, and LEGO never reads them.
NEVER_LOADED = ("acestep-v15-turbo", "acestep-5Hz-lm-1.7B")


@dataclass(frozen=True)
class Checkout:
    """A checkout to drive: its root, the interpreter that was named for it, the thread to call it from, and which of
    its defaults are switched off."""

    root: Path
    python: Path | None = None
    worker_thread: bool = False
    without: Sequence[str] = ()

    @classmethod
    def asked(
        cls, root: Path | None, python: Path | None, worker_thread: bool, without: Sequence[str]
    ) -> "Checkout | None":
        """What the options ask for; RequestError where they ask for half of it."""
        if root is not None:
            return cls(root, python, worker_thread, tuple(dict.fromkeys(without)))
        options = {"--python": python, "--worker-thread": worker_thread, "--without": without}
        for option, given in options.items():
            if given:
                raise RequestError(
                    f"{option} says how a checkout is run; name the checkout with --acestep-root"
                )
        return None

    @property
    def name(self) -> str:
        """For the table."""
        return f"checkout: {self.root.resolve().name}"

    def introduction(self) -> str:
        """What is run under which Python, and why that one."""
        python, reason = self.interpreter()
        return f"the checkout {self.root}, copied to be run, under {python} ({reason})"

    def check(self, request: Request) -> None:
        """RequestError, in one sentence, where there is nothing to drive, nothing to drive it with, or no way to."""
        if request.dtype != AUTO:
            raise RequestError(
                f"--dtype {request.dtype} is for this fork's decoder; a checkout that is run with --acestep-root "
                f"chooses its own precision: leave it out"
            )
        if request.low_memory is not None:
            raise RequestError(
                "--low-memory is for this fork; a checkout that is run with --acestep-root manages its own memory: "
                "leave it out"
            )
        try:
            locate(self.root)
        except WrongFolder as error:
            raise RequestError(f"--acestep-root {error}") from None
        except KitError:
            pass  # it cannot be patched; whether it can be run is another matter
        unknown = [name for name in self.without if name not in SWITCHES]
        if unknown:
            raise RequestError(f"--without is {unknown[0]!r}, expected {' or '.join(SWITCHES)}")
        if self.python is not None and not os.access(self.python, os.X_OK):
            raise RequestError(
                f"--python {self.python} is no program that can be started; give the path of a Python"
            )

    def interpreter(self) -> tuple[str, str]:
        """The Python that the checkout runs under, and why this one."""
        if self.python is not None:
            return str(self.python.absolute()), "named by --python"
        own = self.root / ".venv" / "bin" / "python"
        if own.exists():
            return str(own.absolute()), "its .venv"
        return sys.executable, "this one: it has no .venv, and --python names none"


def located(checkpoint: Path | None) -> Path | None:
    """The checkpoint with its name and the folders beside it, also where it was given as '.' or as a link."""
    if checkpoint is None or not checkpoint.is_dir():
        return checkpoint
    named = Path(os.path.abspath(checkpoint))
    beside = [folder.parent / LOADED_BESIDES[0] for folder in (named, named.resolve())]
    return named.resolve() if beside[1].is_dir() and not beside[0].is_dir() else named


def prepare(checkout: Checkout, checkpoint: Path, scratch: Path) -> Tree:
    """Copies the checkout's package and links the checkpoint's weights below `scratch`.

    CheckpointError where a folder is missing that a LEGO request loads: upstream would start a download.
    """
    scratch = scratch.absolute()
    folders = [checkpoint, *(checkpoint.parent / name for name in LOADED_BESIDES)]
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(
                f"checkpoint folder {folder} does not exist; put it there first: this run downloads nothing"
            )
    try:
        shutil.copytree(
            checkout.root / "acestep", scratch / "acestep", ignore=shutil.ignore_patterns("__pycache__")
        )
        for folder in folders:
            link_files(folder, scratch / "checkpoints" / folder.name)
        for name in NEVER_LOADED:
            placeholder = scratch / "checkpoints" / name
            placeholder.mkdir(exist_ok=True)
            (placeholder / "model.safetensors").touch()
    except (OSError, shutil.Error) as error:
        raise BackendError(f"the checkout cannot be copied to be run ({error})") from None
    return Tree(
        root=scratch,
        checkpoint=scratch / "checkpoints" / checkpoint.name,
        python=checkout.interpreter()[0],
        folder=scratch,
        worker_thread=checkout.worker_thread,
        without=checkout.without,
        environment={
            "ACESTEP_PROJECT_ROOT": str(scratch),
            "HF_MODULES_CACHE": str(scratch / "modules"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(checkout.root.absolute()), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        },
    )


def link_files(folder: Path, copy: Path) -> None:
    """`copy` shows the files of `folder`: links, but for model code, which upstream overwrites where it differs."""
    copy.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix == ".py":
            shutil.copy(path, copy / path.name)
        else:
            (copy / path.name).symlink_to(path.resolve())
