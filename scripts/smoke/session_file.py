"""A session file: the layers of a run in TOML, each with what it has of its own.

    [[layer]]
    track = "drums"
    caption = "dry kit, brushes"

    [[layer]]
    track = "vocals"
    lyrics = "la la la"
    seed = 7
    start = 8.0
    guidance_scale = 3.0
    gain_db = -3.0

What a layer does not give is the option's of the command line.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acestep.core.generation.handler.request_values import show
from acestep.errors import RequestError
from smoke.request import Request

TEXT, WHOLE_NUMBER, NUMBER = "a text", "a whole number", "a number"
KEYS = {
    "track": TEXT,
    "caption": TEXT,
    "lyrics": TEXT,
    "key": TEXT,
    "seed": WHOLE_NUMBER,
    "steps": WHOLE_NUMBER,
    "bpm": WHOLE_NUMBER,
    "start": NUMBER,
    "end": NUMBER,
    "guidance_scale": NUMBER,
    "shift": NUMBER,
    "gain_db": NUMBER,
}
TYPES: Mapping[str, tuple[type, ...]] = {TEXT: (str,), WHOLE_NUMBER: (int,), NUMBER: (int, float)}


def read_tables(path: Path) -> list[Mapping[str, Any]]:
    """The [[layer]] tables of a file, in its order; RequestError, in one sentence, where it holds something else."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise RequestError(
            f"--session {path} cannot be read as TOML (its brackets are nested too deeply)"
        ) from None
    except (OSError, ValueError) as error:  # of TOML and of UTF-8, too
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"--session {path} cannot be read as TOML ({reason})") from None
    layers = content.get("layer")
    if not isinstance(layers, list) or not layers or list(content) != ["layer"]:
        raise RequestError(
            f"--session {path} holds {names(content)}, expected [[layer]] tables and nothing else"
        )
    return layers


def layers_of_tables(tables: Sequence[Mapping[str, Any]], source: str, request: Request) -> list[Request]:
    """A request for each table, in order; RequestError, in one sentence, for the first thing that is wrong.

    source: where the tables are from, as in "--session layers.toml".
    """
    return [
        layer_of(f"{source}, layer {number}", number, layer, request)
        for number, layer in enumerate(tables, start=1)
    ]


def layer_of(where: str, number: int, layer: Any, request: Request) -> Request:
    """The request with the values of one table."""
    if not isinstance(layer, Mapping) or "track" not in layer:
        raise RequestError(f"{where}: it has no track")
    for name, value in layer.items():
        if name not in KEYS:
            raise RequestError(f"{where}: {name!r} is not known, expected {', '.join(KEYS)}")
        if not isinstance(value, TYPES[KEYS[name]]) or isinstance(value, bool):
            raise RequestError(f"{where}: {name} is {show(value)}, expected {KEYS[name]}")
    values: dict[str, Any] = {
        name: to_float(value) if KEYS[name] == NUMBER else value for name, value in layer.items()
    }
    made = replace(request, layer=number, **values)
    try:
        made.check()
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
    return made


def to_float(value: float) -> float:
    """The nearest float; of a whole number beyond all of them an infinite one, which `Request.check` refuses."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def names(content: Mapping[str, Any]) -> str:
    """The keys of a file."""
    return ", ".join(content) or "nothing"
