"""Where things stand in a source, found with LibCST: functions, their parameters and bodies, and calls.

LibCST says what is where; the text itself is edited with `patches.splice`, so that nothing else can change.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider

from .errors import UnreadableSource
from .names import GENERATE, RUN, SCHEDULE
from .source import Source
from .splice import Item, ItemList, end_of_line, indent_before


@dataclass(frozen=True)
class Body:
    """Where a function's first statement after the docstring goes: behind the line that ends at `at`."""

    at: int
    indent: str
    unit: str


@dataclass(frozen=True)
class Function:
    name: str
    parameters: ItemList
    start: int
    end: int
    first_line: int
    last_line: int
    body: Body | None  # None: the body stands on the line of the def


@dataclass(frozen=True)
class Call:
    """A call by its last name: `self.f(...)`, `module.f(...)` and `f(...)` are all calls of f."""

    name: str
    arguments: ItemList
    start: int
    end: int


NAMES = {RUN, GENERATE, SCHEDULE}


@dataclass(frozen=True)
class Places:
    """The functions and calls of upstream's names in one source."""

    functions: Sequence[Function]
    calls: Sequence[Call]

    def functions_named(self, name: str) -> list[Function]:
        return [function for function in self.functions if function.name == name]

    def calls_named(self, name: str, inside: Function | None = None) -> list[Call]:
        calls = [call for call in self.calls if call.name == name]
        return [c for c in calls if inside.start <= c.start and c.end <= inside.end] if inside else calls


def places_of(source: Source) -> Places:
    """Reads `source`. Raises UnreadableSource if LibCST cannot carry it unchanged."""
    try:
        return _read(source.text)
    except (cst.ParserSyntaxError, RecursionError, ValueError) as error:
        raise UnreadableSource(
            f"{source.name}: expected a source that LibCST reads and writes the same, found: "
            f"{type(error).__name__}. Nothing was changed; the three edits have to be made by hand here."
        ) from error


@lru_cache(maxsize=64)  # an edit is made, taken back and judged: each text is asked for several times
def _read(text: str) -> Places:
    module = cst.parse_module(text)
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    if module.code != text:
        raise ValueError("other text than was given")
    finder = _Finder(text, module, positions)
    return Places(finder.functions, finder.calls)


class _Finder:
    """Reads the nodes out of LibCST's table of positions, which is quicker than one more walk of the tree."""

    def __init__(self, text: str, module: cst.Module, positions: Mapping[cst.CSTNode, CodeRange]) -> None:
        self.text, self.module, self.positions = text, module, positions
        self.line_starts = [0, *(at.end() for at in re.finditer("\n", text))]
        nodes = list(positions)
        self.aliases = dict(a for node in nodes if isinstance(node, cst.ImportAlias) for a in _alias(node))
        self.functions = [
            self.function(node)
            for node in nodes
            if isinstance(node, cst.FunctionDef) and node.name.value in NAMES
        ]
        self.calls = [call for node in nodes if isinstance(node, cst.Call) for call in self.call(node)]

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        where = self.positions[node]
        start = self.line_starts[where.start.line - 1] + where.start.column
        return start, self.line_starts[where.end.line - 1] + where.end.column

    def function(self, node: cst.FunctionDef) -> Function:
        start, end = self.span(node)
        p = node.params
        parts: list[cst.CSTNode] = [*p.posonly_params]
        parts += [part for part in (p.posonly_ind,) if isinstance(part, cst.ParamSlash)]
        parts += p.params
        parts += [part for part in (p.star_arg,) if isinstance(part, (cst.Param, cst.ParamStar))]
        parts += p.kwonly_params
        parts += [part for part in (p.star_kwarg,) if part]
        items = tuple(self.item(part) for part in parts)
        close = max((item.comma or item.end for item in items), default=end)
        where = self.positions[node]
        first, last = where.start.line, where.end.line
        return Function(node.name.value, ItemList(items, close), start, end, first, last, self.body(node))

    def call(self, node: cst.Call) -> Iterator[Call]:
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        if not isinstance(name, cst.Name):
            return
        called = self.aliases.get(name.value, name.value)
        if called in NAMES:
            start, end = self.span(node)
            yield Call(called, ItemList(tuple(self.item(arg) for arg in node.args), end - 1), start, end)

    def item(self, node: cst.CSTNode) -> Item:
        start, end = self.span(node)
        comma = getattr(node, "comma", None)
        behind = self.span(comma)[1] if isinstance(comma, cst.Comma) else None
        if isinstance(node, cst.Param):  # its span in the table is the name alone
            bare = node.with_changes(
                comma=cst.MaybeSentinel.DEFAULT, whitespace_after_param=cst.SimpleWhitespace("")
            )
            end = start + len(self.module.code_for_node(bare))
        elif isinstance(node, (cst.ParamStar, cst.ParamSlash)):  # their span holds the comma
            end = start + 1
        name = node.name if isinstance(node, cst.Param) else getattr(node, "keyword", None)
        stars = node.star if isinstance(node, (cst.Param, cst.Arg)) and isinstance(node.star, str) else ""
        text = self.text[start:end]
        return Item(name.value if isinstance(name, cst.Name) else "", text, start, end, behind, stars)

    def body(self, node: cst.FunctionDef) -> Body | None:
        if not isinstance(node.body, cst.IndentedBlock):
            return None
        first = node.body.body[0]
        start, end = self.span(first)
        indent = indent_before(self.text, start) or ""
        unit = node.body.indent or self.module.default_indent
        if isinstance(first, cst.SimpleStatementLine) and node.get_docstring(clean=False) is not None:
            at = end_of_line(self.text, end)
            if at is None:  # a backslash or the like behind the docstring: nothing to edit safely
                return None
            return Body(at, indent, unit)
        leading = getattr(first, "leading_lines", ())
        line = self.text.count("\n", 0, start) - len(leading)
        at = self.line_starts[line] - 1
        return Body(at - 1 if self.text[at - 1] == "\r" else at, indent, unit)


def _alias(node: cst.ImportAlias) -> Iterator[tuple[str, str]]:
    if node.asname and isinstance(node.asname.name, cst.Name) and isinstance(node.name, cst.Name):
        yield node.asname.name.value, node.name.value
