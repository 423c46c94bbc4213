"""Lines put into a source at one place, and taken out again.

A block begins with a comment line that nothing else has, and has a fixed number of lines: that is how it is
found again. What is cut out is proved by putting it in once more (`patches.lego.series`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..outcomes import CannotEdit
from ..source import Source
from ..splice import Splice, apply_splices, end_of_line, indent_before, newline_at


@dataclass(frozen=True)
class Block:
    """Lines to stand behind the line that ends at `at`; the leading "    " of each is one `unit` of indentation."""

    at: int
    indent: str
    unit: str
    lines: Sequence[str]


def insert(text: str, block: Block) -> str:
    newline = newline_at(text, block.at)
    made = []
    for line in block.lines:
        bare = line.lstrip(" ")
        made.append(newline + block.indent + block.unit * ((len(line) - len(bare)) // 4) + bare)
    return apply_splices(text, [Splice(block.at, block.at, "".join(made))])


def cut(text: str, comment: str, size: int) -> str | None:
    """The text without the block that begins with the line `comment`; None if there is not exactly one."""
    if text.count(comment) != 1:
        return None
    at = text.index(comment)
    if indent_before(text, at) is None:
        return None
    start = text.rfind("\n", 0, at)
    if start < 0:
        return None
    end = at
    for _ in range(size):
        end = text.find("\n", end + 1)
        if end < 0:
            end = len(text)
            break
    return text[:start] + text[end:]  # from one newline to the next, whichever kind they are


def behind(source: Source, node: ast.stmt, lines: Sequence[str]) -> Block:
    """A block on the lines after the statement `node`. Raises CannotEdit where it shares its lines."""
    start = offset(source, node.lineno, node.col_offset)
    end = offset(source, node.end_lineno or node.lineno, node.end_col_offset or 0)
    indent, stop = indent_before(source.text, start), end_of_line(source.text, end)
    if indent is None or stop is None:
        raise CannotEdit(f"line {node.lineno} holds more than the one statement")
    return Block(stop, indent, _unit(source, indent), lines)


def before(source: Source, node: ast.stmt, lines: Sequence[str]) -> Block:
    """A block on the lines before the statement `node`. Raises CannotEdit where it shares its line."""
    start = offset(source, node.lineno, node.col_offset)
    indent = indent_before(source.text, start)
    if indent is None:
        raise CannotEdit(f"line {node.lineno} holds more than the one statement")
    at = start - len(indent) - 1
    return Block(at - 1 if source.text[at - 1 : at] == "\r" else at, indent, _unit(source, indent), lines)


def offset(source: Source, line: int, column: int) -> int:
    """Where ast's line (from 1) and column (in UTF-8 bytes) are in the text."""
    starts = [0, *(at.end() for at in re.finditer("\n", source.text))]
    start = starts[line - 1]
    end = starts[line] if line < len(starts) else len(source.text)
    return start + len(source.text[start:end].encode()[:column].decode())


def _unit(source: Source, indent: str) -> str:
    return "\t" if indent.startswith("\t") else "    "


def functions_named(source: Source, name: str) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef) and n.name == name]


def the_function(source: Source, name: str) -> ast.FunctionDef:
    """Raises CannotEdit unless there is exactly one."""
    found = functions_named(source, name)
    if len(found) != 1:
        raise CannotEdit(f"expected one {name}, found {len(found) or 'none'}")
    return found[0]


def parameters(function: ast.FunctionDef) -> list[str]:
    a = function.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def want_parameters(function: ast.FunctionDef, *names: str) -> None:
    missing = [name for name in names if name not in parameters(function)]
    if missing:
        raise CannotEdit(f"{function.name} takes no {' and no '.join(missing)}")


def bodies(node: ast.AST) -> list[list[ast.stmt]]:
    """Every list of statements below `node`, its own included."""
    found = []
    for inner in ast.walk(node):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(inner, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                found.append(body)
    return found


def same(one: ast.AST, other: ast.AST) -> bool:
    """Whether two expressions read the same, loaded or stored."""
    return ast.unparse(one) == ast.unparse(other)
