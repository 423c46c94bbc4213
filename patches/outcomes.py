"""What became of a site, each outcome its own frozen type with its own word on the screen."""

from dataclasses import dataclass
from enum import Enum

from .source import Source


class Role(Enum):
    """The three sites, in the order in which a request passes them."""

    EXECUTE = "execute"
    DIFFUSION = "diffusion"
    GENERATE = "generate"


@dataclass(frozen=True)
class Applied:
    """The file does its part, by this kit's edit or in a way of its own."""

    detail: str
    word: str = "applied"


@dataclass(frozen=True)
class NotApplied:
    """The file does not do its part yet; `after` is the file with the edit made, `put_in` names what is new."""

    detail: str
    after: Source
    put_in: frozenset[str]
    word: str = "not applied"


@dataclass(frozen=True)
class NotApplicable:
    """The edit would be wrong or ambiguous here; `detail` says why."""

    detail: str
    word: str = "not applicable"


State = Applied | NotApplied | NotApplicable


@dataclass(frozen=True)
class Edit:
    """A file's text after a change, and the names of what was put in or taken out."""

    text: str
    names: frozenset[str]


class CannotEdit(Exception):
    """Raised by a patch where it must leave a file alone; the message becomes the reason."""
