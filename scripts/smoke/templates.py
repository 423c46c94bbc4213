"""The templates of the pages, with their filters; apart from the pictures: a batch has no need of matplotlib."""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from smoke import words

LOWEST_DISTANCE = 1e-9  # where the bars of the distances begin; they end at 1


@cache
def environment(*folders: Path) -> jinja2.Environment:
    """Escapes everything that is not Markup; a name that a template is not given is an error.

    folders: of templates, besides the smoke run's own.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clock=words.clock,
        dbfs=words.dbfs,
        distance=words.distance,
        file_name=file_name,
        gigabytes=words.gigabytes,
        not_silent=not_silent,
        place=place,
        seconds=words.seconds,
    )
    return made


def file_name(path: str) -> str:
    """The last part of a path of any system."""
    return path.replace("\\", "/").rpartition("/")[2]


def not_silent(stem: Mapping[str, Any]) -> bool:
    """What the check of the level found."""
    return next(check["holds"] for check in stem["checks"] if check["name"] == "sound")


def place(distance: float) -> float:
    """Where a distance is on the bars' logarithmic scale, 0 to 100 %; at the end where it is no number."""
    if not math.isfinite(distance):
        return 100.0
    return min(100.0, 100 - 100 * math.log10(max(distance, LOWEST_DISTANCE)) / math.log10(LOWEST_DISTANCE))
