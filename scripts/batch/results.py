"""What a batch has made so far, and what is missing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acestep.errors import AceStepError, OutputError
from batch.keys import key_of, model_key
from batch.manifest import Song
from batch.worker import RESULT
from smoke.inputs import file_hash


@dataclass
class Batch:
    """keys: of each song, "" where it has none; problems: of the songs that have no result, by their line; notes: a
    sentence for each result that is no longer as it was made."""

    songs: Sequence[Song]
    out: Path
    keys: Mapping[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def kept(self) -> str:
        """For whoever stops the batch."""
        return f"{len(self.results)} results are in {self.out}; the same command makes the rest"

    def is_good(self, song: Song) -> bool:
        """Whether there is a result in which every check holds."""
        return song.line not in self.problems and bool(self.results[self.keys[song.line]]["ok"])


def prepare(batch: Batch, fork: Path, checkpoint: Path) -> dict[str, Song]:
    """Finds the results that are there; returns the songs without one, once each, by key.

    A result that is no longer as it was made counts as none, and is moved aside.
    """
    model = model_key(fork, checkpoint)
    keys: dict[int, str] = {}
    missing: dict[str, Song] = {}
    for song in batch.songs:
        keys[song.line] = ""
        try:
            keys[song.line] = key = key_of(song, model)
            if key in batch.results:
                continue
            if (batch.out / key).exists():
                try:
                    batch.results[key] = read_result(batch.out / key)
                    continue
                except OutputError as error:
                    aside = set_aside(batch.out / key)
                    batch.notes.append(f"{error}; it is now {aside.name}, and is made again")
            missing.setdefault(key, song)
        except AceStepError as error:
            batch.problems[song.line] = str(error)
    batch.keys = keys
    return missing


def read_result(folder: Path) -> Mapping[str, Any]:
    """What a worker wrote; OutputError where a file that belongs to it is gone or has another content."""
    try:
        result: Mapping[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        files = [*(stem["file"] for stem in result["stems"]), *result["mixes"]]
        expected = {name: result["sha256"][name] for name in files}
        verdict(result)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise OutputError(f"{folder} has no {RESULT} of a batch") from None
    gone = [name for name in files if not (folder / name).is_file()]
    if gone:
        raise OutputError(f"{folder} lacks {', '.join(gone)}")
    changed = [name for name, digest in expected.items() if file_hash(folder / name) != digest]
    if changed:
        raise OutputError(f"{folder}: {', '.join(changed)} changed since it was made")
    return result


def set_aside(folder: Path) -> Path:
    """Renames a folder, so that what somebody has changed in it is kept; OutputError where that cannot be."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}-changed-{number}")).exists():
        number += 1
    try:
        return folder.rename(aside)
    except OSError as error:
        raise OutputError(f"{folder} cannot be moved to {aside.name} ({error.strerror})") from None


def verdict(result: Mapping[str, Any]) -> str:
    """As in 'PASS, 50 of 50 steps' or 'FAIL: drums sound'."""
    failing = [
        f"{stem['label']} {check['name']}"
        for stem in result["stems"]
        for check in stem["checks"]
        if not check["holds"]
    ]
    counted = dict.fromkeys(f"{stem['evaluated']} of {stem['requested']} steps" for stem in result["stems"])
    return f"FAIL: {', '.join(failing)}" if failing else f"PASS, {', '.join(counted)}"
