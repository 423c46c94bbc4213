"""A manifest: the songs of a batch, one a line, as JSON lines or CSV.

    {"context": "a.wav", "tracks": ["drums", "bass"], "bpm": 120}
    {"context": "b.wav", "layers": ["drums", "vocals"], "seed": 7, "gain_db": -3}

    context,tracks,layers,bpm
    a.wav,drums bass,,120

Paths are relative to the manifest's folder. What a song does not give is the default of the smoke run.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from acestep.constants import TRACK_NAMES
from acestep.core.generation.handler.request_values import show
from acestep.core.generation.handler.task_utils import track_key
from acestep.errors import RequestError
from smoke.request import ALL_TRACKS, Request, first_twice, layers_of
from smoke.session_file import KEYS, NUMBER, TEXT, TYPES, WHOLE_NUMBER, to_float

OPTIONS = {name: kind for name, kind in KEYS.items() if name != "track"}
STEMS = ("tracks", "layers")
KNOWN = ("context", *STEMS, *OPTIONS)
FORMATS = {".jsonl": "JSON lines", ".csv": "CSV"}


@dataclass(frozen=True)
class Song:
    """A context and the stems that are to be made for it; line: of the manifest, from 1."""

    line: int
    requests: tuple[Request, ...]

    @property
    def name(self) -> str:
        """As in 'a.wav: drums, bass'."""
        return f"{self.requests[0].context.name}: {', '.join(request.track for request in self.requests)}"


class ManifestError(RequestError):
    """A sentence for each line that is wrong, below one another."""


def read_manifest(path: Path, shared: Request) -> list[Song]:
    """The songs in the file's order, each request with the shared one's checkpoint, backend, device and dtype.

    ManifestError where a line cannot be understood: then nothing of the batch is to be run.
    """
    songs: list[Song] = []
    problems: list[str] = []
    for line, values in rows(path):
        try:
            songs.append(Song(line, requests_of(values, path.absolute().parent, shared)))
        except RequestError as error:
            problems.append(f"{path}, line {line}: {error}")
    if problems:
        raise ManifestError("\n".join(problems))
    if not songs:
        raise ManifestError(f"{path} names no song; give one a line, with context and tracks or layers")
    return songs


def rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and values of each song; ManifestError where the file cannot be read as what it is named."""
    if path.suffix not in FORMATS:
        raise ManifestError(f"manifest {path}: its name ends in {path.suffix!r}, expected .jsonl or .csv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                table = csv.DictReader(file, strict=True)
                if (twice := first_twice(table.fieldnames or [])) is not None:
                    raise ManifestError(f"manifest {path}: the column {twice!r} is given twice")
                yield from ((table.line_num, from_cells(row)) for row in table)
            else:
                yield from (
                    (number, from_json(line)) for number, line in enumerate(file, start=1) if line.strip()
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"manifest {path} cannot be read as {FORMATS[path.suffix]} ({reason})") from None


def from_json(line: str) -> Any:
    """The values of a line; the error itself where it is no JSON, for whoever knows the line number."""
    try:
        return json.loads(line.strip(), object_pairs_hook=once_each)
    except json.JSONDecodeError as error:
        return ValueError(f"{error.msg} at column {error.colno}")
    except ValueError as error:  # two keys, or more digits than Python reads
        return ValueError(str(error).partition(";")[0])
    except RecursionError:
        return ValueError("its brackets are nested too deeply")


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; ValueError for a key that is there twice, of which Python would take the last."""
    twice = first_twice([name for name, _ in pairs])
    if twice is not None:
        raise ValueError(f"{twice!r} is given twice")
    return dict(pairs)


def from_cells(row: Mapping[str | None, Any]) -> Any:
    """Values of a row's cells, which are texts; empty ones are left out."""
    values: dict[str, Any] = {}
    for name, cell in row.items():
        if name is None:
            return ValueError("more cells than the first line names")
        if not cell:
            continue
        kind = OPTIONS.get(name)
        try:
            values[name] = (
                cell.split()
                if name in STEMS
                else int(cell)
                if kind == WHOLE_NUMBER
                else float(cell)
                if kind == NUMBER
                else cell
            )
        except ValueError:
            values[name] = cell  # and is refused as a text
    return values


def requests_of(values: Any, folder: Path, shared: Request) -> tuple[Request, ...]:
    """What a line asks for; RequestError, in one sentence, for the first thing that is wrong."""
    if isinstance(values, ValueError):
        raise RequestError(f"it cannot be read ({values})")
    if not isinstance(values, Mapping):
        raise RequestError(f"it holds {show(values)}, expected an object with context and tracks or layers")
    for name, value in values.items():
        if name not in KNOWN:
            raise RequestError(f"{name!r} is not known, expected {', '.join(KNOWN)}")
        kind = OPTIONS.get(name, TEXT)
        if name in STEMS:
            check_names(name, value)
        elif not isinstance(value, TYPES[kind]) or isinstance(value, bool):
            raise RequestError(f"{name} is {show(value)}, expected {kind}")
    if not values.get("context"):
        raise RequestError("it has no context")
    if ("tracks" in values) == ("layers" in values):
        raise RequestError(
            f"it has {'tracks and' if 'tracks' in values else 'neither tracks nor'} layers, expected one of them"
        )
    options: dict[str, Any] = {
        name: to_float(values[name]) if kind == NUMBER else values[name]
        for name, kind in OPTIONS.items()
        if name in values
    }
    song = replace(shared, context=folder / values["context"], **options)
    if "layers" in values:
        requests = layers_of(song, values["layers"])
    elif song.gain_db:
        raise RequestError("gain_db is the gain of layers, and it has tracks")
    else:
        requests = [replace(song, track=track) for track in tracks_of(values["tracks"])]
    for request in requests:
        request.check()
    return tuple(requests)


def check_names(name: str, value: Any) -> None:
    """RequestError unless it is a list of names."""
    if not isinstance(value, list) or not value or not all(isinstance(track, str) for track in value):
        raise RequestError(f"{name} is {show(value)}, expected a list of track names")


def tracks_of(named: list[str]) -> list[str]:
    """Each track once; 'all' stands for the twelve."""
    tracks = [track for name in named for track in (TRACK_NAMES if name == ALL_TRACKS else (name,))]
    twice = first_twice([track_key(track) for track in tracks])
    if twice is not None:
        raise RequestError(f"the track {twice} is asked for twice; each gives a stem: give it once")
    return tracks
