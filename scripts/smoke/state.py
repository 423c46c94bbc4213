"""What a run folder holds while its run is unfinished, so that another run can go on from it.

unfinished/run.json names what was asked and each finished stem; unfinished/1, 2 and so on hold what the process wrote
for it: what was counted, the tensors and the recorded steps that the comparison needs. Each is complete before
run.json names it. All of it goes once the run is compared and its report is written.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smoke.folder import RunFolder
from smoke.inputs import file_hash, folder_hash

UNFINISHED, STATE = "unfinished", "run.json"


@dataclass(frozen=True)
class KeptStem:
    """A finished stem: its WAV in the run folder, that file's SHA-256, the hash of its inputs, its own folder and the
    hash of what is in that."""

    file: str
    sha256: str
    inputs: str
    folder: str
    folder_sha256: str

    def is_whole(self, run: Path) -> bool:
        """Whether all of it is in the folder of its run as it was written."""
        try:
            return (file_hash(run / self.file), folder_hash(run / self.folder)) == (
                self.sha256,
                self.folder_sha256,
            )
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False


class State:
    """Written after every stem. `run`: what `--again` needs to know of the whole run."""

    def __init__(self, folder: RunFolder, run: Mapping[str, Any]) -> None:
        self._folder, self._run = folder, run
        self._stems: list[KeptStem] = []

    def add(self, stem: Path, inputs: str, written: Path) -> Path:
        """The stem is in the run folder; `written`, the folder of its process, is moved there. Returns its place."""
        name = f"{UNFINISHED}/{len(self._stems) + 1}"
        kept = self._folder.move(written, name)
        self._stems.append(KeptStem(stem.name, file_hash(stem), inputs, name, folder_hash(kept)))
        self.write()
        return kept

    def write(self) -> None:
        """run.json, with the stems so far; before the first one, so that a folder with a stem always has it."""
        content = {"run": self._run, "stems": [asdict(kept) for kept in self._stems]}
        text = json.dumps(content, indent=2) + "\n"
        self._folder.publish(f"{UNFINISHED}/{STATE}", lambda path: path.write_text(text, encoding="utf-8"))

    def remove(self) -> None:
        """The run is finished. run.json goes first: what it names is there as long as it is."""
        folder = self._folder.path / UNFINISHED
        (folder / STATE).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def copy_of(folder: Path, copy: Path) -> Path:
    """A copy of a folder whose files are links to the same content where the file system has such."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)

    shutil.copytree(folder, copy, copy_function=link)
    return copy
