"""What a name may hold while `patches.interpret` follows a checkout's code: origins, and what is known of it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Origin(Enum):
    """Where a value comes from, as far as it matters here."""

    STEPS = "the asked-for number of steps"
    CUSTOM = "the asked-for timesteps"
    TABLE = "a fixed list of numbers in the code"
    CUT = "a shortened list"
    UNSEEN = "the result of code that is not at hand"


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Value:
    """A value of which something is known: its constant, else whether it is true or None; its origins."""

    origins: frozenset[Origin] = frozenset()
    known: object = UNKNOWN
    true: bool | None = None
    none: bool | None = None
    entries: Mapping[str, Value] | None = None  # of a dict whose keys are all known
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None

    @property
    def truth(self) -> bool | None:
        return self.true if self.known is UNKNOWN else bool(self.known)

    @property
    def is_none(self) -> bool | None:
        return self.none if self.known is UNKNOWN else self.known is None


NOTHING_KNOWN = Value()


def constant(known: object, *origins: Origin) -> Value:
    return Value(frozenset(origins), known)


def something(*values: Value, true: bool | None = None) -> Value:
    """A value that is not None and is made of `values`."""
    return Value(origins_of(*values), true=true, none=False)


def origins_of(*values: Value) -> frozenset[Origin]:
    return frozenset().union(*(value.origins for value in values))


def either(one: Value, other: Value) -> Value:
    """What is known if it may be the one or the other."""
    if one == other:
        return one
    same = type(one.known) is type(other.known) and one.known == other.known
    entries = None
    if one.entries is not None and other.entries is not None:
        keys = {*one.entries, *other.entries}
        entries = {
            k: either(one.entries.get(k, NOTHING_KNOWN), other.entries.get(k, NOTHING_KNOWN)) for k in keys
        }
    return Value(
        origins_of(one, other),
        one.known if same else UNKNOWN,
        one.truth if one.truth is other.truth else None,
        one.is_none if one.is_none is other.is_none else None,
        entries,
        one.function if one.function is other.function else None,
    )
