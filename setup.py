"""Puts the scripts and the fork into the wheel, as data of `acestep_lego`; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COPIED = (
    "ACE-Step-1.5/acestep",
    "scripts/smoke",
    "scripts/blas.py",
    "scripts/command_line.py",
    "scripts/lego_smoke.py",
    "scripts/smoke.wav",
)


class BuildWithFork(build_py):
    """`build_py`, and what the command `acestep-lego` runs."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the clone is used as it is
            return
        for name in COPIED:
            target = Path(self.build_lib, "acestep_lego", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(name).is_dir():
                shutil.copytree(
                    name, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(name, target)


setup(cmdclass={"build_py": BuildWithFork})
