"""Insertions into parameter lists, argument lists and blocks, each behind a mark, and their exact removal.

A mark is a comment line that begins with `# LEGO patch (NAME)`, or `# LEGO patch (NAME) 1 of 3` where the patch has
several parts in the file. What follows is part of the format:

    # LEGO patch (NAME)                   the next lines are the inserted items
    # LEGO patch (NAME), comma added      the same, and the item before got its comma
    # LEGO patch (NAME), was: (a, b)      the list stood on one line (or, as a JSON string, on several)
    # LEGO patch (NAME): ...              the next lines are an inserted block

Every form is stable under Black and `ruff format` at line lengths from 79 to 120 where the file was formatted before.
"""

from __future__ import annotations

import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .lists import Item, ItemList
from .source import Source
from .states import CannotEdit

_REST_OF_LINE = re.compile(r"[ \t\f]*(?:#[^\n]*?)?(?=\r?\n|\Z)")
_COMMA_ADDED = ", comma added"
_WAS = ", was: "


@dataclass(frozen=True)
class Splice:
    """Replace text[start:end] by `new`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class AddItems:
    """`new` items for a list, to stand behind the item `after` (None: the list is empty)."""

    target: ItemList
    after: Item | None
    new: tuple[str, ...]


@dataclass(frozen=True)
class AddBlock:
    """Lines to stand behind the line that ends at `at`.

    The first line ends the mark's line; the leading "    " of each further line is one `unit` of indentation.
    """

    at: int
    indent: str
    unit: str
    lines: tuple[str, ...]


Insertion = AddItems | AddBlock


def mark_of(name: str) -> str:
    """How each inserted part of the patch `name` begins."""
    return f"# LEGO patch ({name})"


def apply_splices(text: str, splices: Sequence[Splice]) -> str:
    """The text after all splices; several insertions at one place keep their order."""
    parts, at = [], 0
    for splice in sorted(splices, key=lambda s: (s.start, s.end)):
        parts += [text[at : splice.start], splice.new]
        at = splice.end
    return "".join([*parts, text[at:]])


def insert(source: Source, mark: str, insertions: Sequence[Insertion]) -> str:
    """The text of `source` with the insertions, each behind `mark`. Raises CannotEdit.

    Several are numbered, so that a file that lost one of the marks cannot be taken for one that never had it.
    """
    splices: list[Splice] = []
    ordered = sorted(insertions, key=lambda i: i.at if isinstance(i, AddBlock) else i.target.open)
    for number, insertion in enumerate(ordered, 1):
        numbered = f"{mark} {number} of {len(ordered)}" if len(ordered) > 1 else mark
        if isinstance(insertion, AddBlock):
            splices.append(_block(source.text, numbered, insertion))
        else:
            splices += _items(source.text, numbered, insertion)
    return apply_splices(source.text, splices)


def remove(source: Source, mark: str, items: Sequence[str], block_sizes: Mapping[str, int]) -> str | None:
    """The text of `source` without what `insert` put in behind `mark`.

    `items`: the names of all items that the patch may insert; `block_sizes`: the number of lines of each block, by
    what its first line says behind the mark. None where something else stands there. Only inserting again proves that
    the result is the text before.
    """
    splices: list[Splice] = []
    for found in re.finditer(rf"(?m)^[ \t\f]*{re.escape(mark)}(?: \d+ of \d+)?(.*?)(?=\r?$)", source.text):
        form = found.group(1)
        start = break_before(source.text, found.start())
        if form in block_sizes:
            splices.append(_without_block(source.text, start, found.end(), block_sizes[form]))
            continue
        if form.startswith(_WAS):
            removed = _restored(source, start, form[len(_WAS) :])
        else:
            removed = _without_items(source, start, found.end(), form, items)
        if removed is None:
            return None
        splices += removed
    return apply_splices(source.text, splices)


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
    """The white space between the beginning of the line and `offset`; None if something else is there."""
    before = text[text.rfind("\n", 0, offset) + 1 : offset]
    return before if not before.strip() else None


def break_before(text: str, offset: int) -> int:
    """The offset of the newline that ends the line before that of `offset` (0 in the first line)."""
    at = text.rfind("\n", 0, offset)
    return at - 1 if at > 0 and text[at - 1] == "\r" else max(at, 0)


def unit_of(indent: str) -> str:
    """One level of indentation in a file where `indent` was found."""
    return "\t" if indent.startswith("\t") else "    "


def _block(text: str, mark: str, block: AddBlock) -> Splice:
    newline = newline_at(text, block.at)
    lines = [mark + block.lines[0], *block.lines[1:]]
    return Splice(
        block.at, block.at, "".join(newline + line for line in _indented(lines, block.indent, block.unit))
    )


def _indented(lines: Sequence[str], indent: str, unit: str) -> list[str]:
    made = []
    for line in lines:
        bare = line.lstrip(" ")
        made.append(indent + unit * ((len(line) - len(bare)) // 4) + bare)
    return made


def _items(text: str, mark: str, add: AddItems) -> list[Splice]:
    after, target = add.after, add.target
    if after is not None and indent_before(text, after.start) is not None:
        if after.comma is None:
            return _behind_last(text, mark, add, after)
        at = end_of_line(text, after.comma)
        if at is not None:
            lines = [mark, *(f"{item}," for item in add.new)]
            return [Splice(at, at, _lines(text, after, lines))]
    if target.has_comments:
        raise CannotEdit("the list of items holds comments in a form that cannot be edited safely")
    return [_exploded(text, mark, add)]


def _behind_last(text: str, mark: str, add: AddItems, after: Item) -> list[Splice]:
    """Lines behind the last item, which has no comma yet and stays the style of the list."""
    at = end_of_line(text, after.end)
    at = after.end if at is None else at
    lines = [mark + _COMMA_ADDED, *(f"{item}," for item in add.new)]
    return [Splice(after.end, after.end, ","), Splice(at, at, _lines(text, after, lines).removesuffix(","))]


def _lines(text: str, after: Item, lines: Sequence[str]) -> str:
    indent = indent_before(text, after.start) or ""
    newline = newline_at(text, break_before(text, after.start))
    return "".join(newline + indent + line for line in lines)


def _exploded(text: str, mark: str, add: AddItems) -> Splice:
    """The whole list with one item a line, the form that formatters keep."""
    target = add.target
    was = text[target.open : target.close + 1]
    line = text[text.rfind("\n", 0, target.open) + 1 : target.open]
    base = line[: len(line) - len(line.lstrip())]
    at = 0 if add.after is None else target.items.index(add.after) + 1
    old = [item.text for item in target.items]
    if any("\n" in item for item in old):
        raise CannotEdit(
            "the list of items has an item of several lines in a form that cannot be edited safely"
        )
    written = was if "\n" not in was else json.dumps(was.replace("\r\n", "\n"))
    lines = [*old[:at], *add.new, *old[at:]]
    made = ["(", f"{mark}{_WAS}{written}", *(f"{item}," for item in lines)]
    newline = newline_at(text, target.open)
    return Splice(
        target.open, target.close + 1, f"{newline}{base}{unit_of(base)}".join(made) + f"{newline}{base})"
    )


def _restored(source: Source, start: int, was: str) -> list[Splice] | None:
    """The list that was, in place of the brackets around the mark; `start` is the newline before the mark."""
    opening = len(source.text[:start].rstrip()) - 1
    index = source.token_index(opening)
    if source.text[opening] != "(" or index not in source.brackets:
        return None
    try:
        text = json.loads(was) if was.startswith('"') else was
    except ValueError:
        return None
    text = str(text).replace("\n", newline_at(source.text, opening))
    return [Splice(opening, source.tokens[source.brackets[index]].end, text)]


def _without_block(text: str, start: int, end: int, lines: int) -> Splice:
    for _ in range(lines - 1):
        end = text.find("\n", end + 1 if text.startswith("\r", end) else end)
        end = text.find("\n", end + 1) if end >= 0 else -1
        if end < 0:
            end = len(text)
            break
        end -= text[end - 1] == "\r"
    return Splice(start, end, "")


def _without_items(
    source: Source, start: int, end: int, form: str, names: Sequence[str]
) -> list[Splice] | None:
    if form not in ("", _COMMA_ADDED):
        return None
    index = source.token_index(end)
    while source.tokens[index].text in names:
        while source.tokens[index].text not in (",", ")"):
            index = max(index, source.brackets.get(index, 0)) + 1
        if source.tokens[index].text == ")":
            break
        index += 1
    inserted = source.tokens[index - 1]
    cut = [Splice(start, max(inserted.end, end), "")]
    if form != _COMMA_ADDED:
        return cut
    index = source.token_index(start) - 1
    while source.tokens[index].kind == tokenize.COMMENT:
        index -= 1
    comma = source.tokens[index]
    return [Splice(comma.start, comma.end, ""), *cut] if comma.text == "," else None
