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


@dataclass
class Batch:
    """keys: of each song, "" where it has none; problems: of the songs that have no result, by their line."""

    songs: Sequence[Song]
    out: Path
    keys: Mapping[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    results: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def kept(self) -> str:
        """For whoever stops the batch."""
        return f"{len(self.results)} results are in {self.out}; the same command makes the rest"

    def is_good(self, song: Song) -> bool:
        """Whether there is a result in which every check holds."""
        return song.line not in self.problems and bool(self.results[self.keys[song.line]]["ok"])


def prepare(batch: Batch, fork: Path, checkpoint: Path) -> dict[str, Song]:
    """Finds the results that are there; returns the songs without one, once each, by key."""
    model = model_key(fork, checkpoint)
    keys: dict[int, str] = {}
    missing: dict[str, Song] = {}
    for song in batch.songs:
        keys[song.line] = ""
        try:
            keys[song.line] = key = key_of(song, model)
            if (batch.out / key).exists():
                batch.results[key] = read_result(batch.out / key)
            else:
                missing.setdefault(key, song)
        except AceStepError as error:
            batch.problems[song.line] = str(error)
    batch.keys = keys
    return missing


def read_result(folder: Path) -> Mapping[str, Any]:
    """What a worker wrote; OutputError where a file is gone that belongs to it."""
    try:
        result: Mapping[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        files = [*(stem["file"] for stem in result["stems"]), *result["mixes"]]
    except (OSError, ValueError, KeyError):
        raise OutputError(
            f"{folder} has no {RESULT} of a batch; move it away to have it made again"
        ) from None
    gone = [name for name in files if not (folder / name).is_file()]
    if gone:
        raise OutputError(f"{folder} lacks {', '.join(gone)}; move it away to have it made again")
    return result


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
