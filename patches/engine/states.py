"""The states of one patch in one file, as read from its text. None of them says what runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .source import Source


@dataclass(frozen=True)
class Patched:
    """The file holds this kit's edit, byte for byte: `before` is the file without it."""

    before: Source
    detail: str
    word: ClassVar[str] = "patched"


@dataclass(frozen=True)
class UpstreamFix:
    """The file holds a known form of upstream's own that needs nothing of this kit."""

    detail: str
    word: ClassVar[str] = "upstream's fix"


@dataclass(frozen=True)
class NotAffected:
    """The file does not have the code that the patch is for."""

    detail: str
    word: ClassVar[str] = "not affected"


@dataclass(frozen=True)
class OtherCode:
    """The value is handled by code that this kit does not know; only a run can tell what it does."""

    detail: str
    word: ClassVar[str] = "other code"


@dataclass(frozen=True)
class Missing:
    """The file can be patched: `after` is the file with the edit."""

    detail: str
    after: Source
    word: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Conflict:
    """The file cannot be patched safely; `detail` is the reason."""

    detail: str
    word: ClassVar[str] = "conflict"


State = Patched | UpstreamFix | NotAffected | OtherCode | Missing | Conflict


class CannotEdit(Exception):
    """Raised by a patch where it must leave a file alone; the message becomes the reason of the conflict."""
