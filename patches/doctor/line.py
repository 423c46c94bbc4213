"""What a line of the doctor's table is: a known defect, and what one checkout does about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FINE, DEFECT, UNSEEN = "fine", "DEFECT", "cannot be looked at"

BASE_PATCHES = "python -m patches apply {root}"
SERIES = "python -m patches apply {root} --series lego"


@dataclass(frozen=True)
class Line:
    """A known defect. `since` and `until`: upstream's commits and dates, "" where it still had it when last seen
    (8567e33, 2026-05-04; a copy of August 2026). `remedy`: the command that closes it, or the workaround.
    """

    name: str
    since: str
    until: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """What a checkout does. `got` is the reason where it cannot be looked at; `where` is file:function."""

    verdict: str
    asked: str
    got: str
    where: str
    by_reading: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        return cls(**data)


def found(wrong: bool, asked: str, got: str, where: str) -> Finding:
    return Finding(DEFECT if wrong else FINE, asked, got, where)


def unseen(reason: str) -> Finding:
    return Finding(UNSEEN, "", reason, "")
