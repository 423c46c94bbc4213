"""Parameter lists and argument lists: their items, commas and brackets, found among the tokens of a source."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass

from .source import Source, Token


@dataclass(frozen=True)
class Item:
    """One parameter or argument.

    name: its name, "" where it has none. text, start, end: as it stands in the file. comma: the offset behind its
    comma, None without one. stars: "", "*" or "**".
    """

    name: str
    text: str
    start: int
    end: int
    comma: int | None
    stars: str = ""


@dataclass(frozen=True)
class ItemList:
    """The items between two round brackets at the offsets `open` and `close`."""

    items: tuple[Item, ...]
    open: int
    close: int
    has_comments: bool

    def named(self, name: str) -> Item | None:
        return next((item for item in self.items if item.name == name and not item.stars), None)

    @property
    def last(self) -> Item | None:
        """The last item that a further keyword may follow: any but `**name`."""
        return next((item for item in reversed(self.items) if item.stars != "**"), None)


def arguments_of(source: Source, call: ast.Call) -> ItemList:
    """The argument list of a call."""
    close = source.token_index(source.span(call)[1] - 1)
    return _list(source, source.brackets[close], close, is_call=True)


def parameters_of(source: Source, function: ast.FunctionDef) -> ItemList:
    """The parameter list of a function."""
    index = source.token_index(source.offset(function.lineno, function.col_offset))
    while source.tokens[index].text != "(":
        is_type_parameter_list = source.tokens[index].text == "["
        index = source.brackets[index] + 1 if is_type_parameter_list else index + 1
    return _list(source, index, source.brackets[index], is_call=False)


def _list(source: Source, first: int, last: int, is_call: bool) -> ItemList:
    items: list[Item] = []
    current: list[Token] = []
    comments = False
    index = first + 1
    while index <= last:
        token = source.tokens[index]
        if token.kind == tokenize.COMMENT:
            comments = True
        elif index == last or (token.kind == tokenize.OP and token.text == ","):
            if current:
                items.append(_item(source, current, None if index == last else token.end, is_call))
            current = []
        else:
            current.append(token)
            if token.kind == tokenize.OP and token.text in "([{":  # up to its partner all is one item
                partner = source.brackets[index]
                current.append(source.tokens[partner])
                comments = comments or any(t.kind == tokenize.COMMENT for t in source.tokens[index:partner])
                index = partner
        index += 1
    return ItemList(tuple(items), source.tokens[first].start, source.tokens[last].start, comments)


def _item(source: Source, tokens: Sequence[Token], comma: int | None, is_call: bool) -> Item:
    stars = tokens[0].text if tokens[0].text in ("*", "**") else ""
    rest = tokens[1:] if stars else tokens
    is_named = not is_call or stars or (len(tokens) > 1 and tokens[1].text == "=")
    name = rest[0].text if is_named and rest and rest[0].kind == tokenize.NAME else ""
    start, end = tokens[0].start, tokens[-1].end
    return Item(name, source.text[start:end], start, end, comma, stars)
