"""Inserting into, and cutting out of, comma-separated lists and blocks, as text: what is not named stays.

Each insertion has an exact inverse here; `revert` relies on nothing else, and proves each cut by inserting again.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_REST_OF_LINE = re.compile(r"[ \t\f]*(?:#[^\n]*?)?(?=\r?\n|\Z)")


@dataclass(frozen=True)
class Splice:
    """Replace text[start:end] by `new`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Item:
    """One parameter or argument: its name ("" if it has none), its span, the offset behind its comma if any."""

    name: str
    text: str
    start: int
    end: int
    comma: int | None
    stars: str = ""


@dataclass(frozen=True)
class ItemList:
    """The parameters of a function or the arguments of a call; `close` is the offset of the closing bracket."""

    items: tuple[Item, ...]
    close: int

    def named(self, name: str) -> Item | None:
        return next((item for item in self.items if item.name == name), None)

    @property
    def last(self) -> Item | None:
        """The last one that a further keyword may follow: all but `**x`."""
        return next((item for item in reversed(self.items) if item.stars != "**"), None)


def apply_splices(text: str, splices: Sequence[Splice]) -> str:
    """Raises ValueError if two splices overlap; several insertions at one place keep their order."""
    parts, at = [], 0
    for splice in sorted(splices, key=lambda s: (s.start, s.end)):
        if splice.start < at:
            raise ValueError("overlapping edits")
        parts += [text[at : splice.start], splice.new]
        at = splice.end
    return "".join([*parts, text[at:]])


def newline_at(text: str, offset: int) -> str:
    """The newline that ends the line of `offset` (of the line before it, if it is the last one)."""
    end = text.find("\n", offset)
    if end < 0:
        end = text.rfind("\n", 0, offset)
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


def end_of_line(text: str, offset: int) -> int | None:
    """Where the line of `offset` ends, if only white space or a comment follows `offset`; else None."""
    rest = _REST_OF_LINE.match(text, offset)
    return rest.end() if rest else None


def indent_before(text: str, offset: int) -> str | None:
    """The white space that `offset` is behind on its line, or None if something else is before it."""
    before = text[text.rfind("\n", 0, offset) + 1 : offset]
    return before if not before.strip() else None


def add_items(text: str, target: ItemList, after: Item | None, new: Sequence[str]) -> list[Splice]:
    """Adds `new` behind `after`, formatted as `after` is: on lines of their own, or on the same line."""
    if after is None:
        return [Splice(target.close, target.close, ", ".join(new))]
    indent = indent_before(text, after.start)
    stop = after.end if after.comma is None else after.comma
    line_end = end_of_line(text, stop)
    if indent is None or (line_end is None and stop != target.close and text[stop : target.close].strip()):
        if after.comma is None:
            return [Splice(stop, stop, "".join(f", {item}" for item in new))]
        return [Splice(stop, stop, "".join(f" {item}," for item in new))]
    newline = newline_at(text, after.start - len(indent) - 1)
    at = stop if line_end is None else line_end
    lines = [f"{newline}{indent}{item}" for item in new]
    if after.comma is not None:
        return [Splice(at, at, "".join(f"{line}," for line in lines))]
    return [Splice(stop, stop, ","), Splice(at, at, ",".join(lines))]


def cut_items(text: str, target: ItemList, names: Sequence[str]) -> list[Splice]:
    """Cuts the named items out, the way `add_items` puts them in behind their neighbour."""
    splices: list[Splice] = []
    items = target.items
    at = 0
    while at < len(items):
        run = at
        while run < len(items) and items[run].name in names:
            run += 1
        if run > at:
            splices += _cut_run(text, items[at - 1] if at else None, items[at:run])
        at = run + 1
    return splices


def _cut_run(text: str, before: Item | None, run: Sequence[Item]) -> list[Splice]:
    first, last = run[0], run[-1]
    if before is None:
        return [Splice(first.start, last.comma or last.end, "")]
    if indent_before(text, first.start) is None:
        if last.comma is None:
            return [Splice(before.end, last.end, "")]
        return [Splice(before.comma or before.end, last.comma, "")]
    cuts = [Splice(_break_before(text, item.start), item.comma or item.end, "") for item in run]
    if last.comma is None and before.comma is not None:
        cuts.insert(0, Splice(before.comma - 1, before.comma, ""))
    return cuts


def _break_before(text: str, offset: int) -> int:
    """The offset of the newline that the line of `offset` comes after."""
    at = text.rfind("\n", 0, offset)
    return at - 1 if at > 0 and text[at - 1] == "\r" else max(at, 0)
