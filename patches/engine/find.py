"""Functions, calls and statements in a source, and the places around them where lines can be inserted."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache

from .edits import AddBlock, break_before, end_of_line, indent_before, unit_of
from .lists import parameters_of
from .local_names import binds, calls_by_local_name
from .source import Source, nodes_of
from .states import CannotEdit


def functions_named(source: Source, name: str) -> list[ast.FunctionDef]:
    """The definitions of `name` that can run: not those for type checkers alone."""
    return [node for node in _running_functions(source.tree) if node.name == name and not _is_overload(node)]


def the_function(source: Source, name: str) -> ast.FunctionDef:
    """Raises CannotEdit unless there is exactly one definition."""
    found = functions_named(source, name)
    if len(found) != 1:
        raise CannotEdit(f"expected one definition of {name}, found {len(found) or 'none'}")
    return found[0]


def calls_of(source: Source, name: str, inside: ast.AST | None = None) -> list[ast.Call]:
    """Calls by their last name: `self.f(...)`, `module.f(...)`, `f(...)`, `g(...)` after `import f as g`, and `g(...)`
    after `g = self.f` in a function that does nothing else with `g`."""
    aliases = {
        alias.asname: alias.name
        for node in nodes_of(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    by_local_name = {id(call) for call in calls_by_local_name(source, name)}
    found = []
    for node in nodes_of(inside or source.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=called)):
                pass
            case ast.Call(func=ast.Name(id=called)):
                called = aliases.get(called, called)
            case _:
                continue
        if called == name or id(node) in by_local_name:
            found.append(node)
    return found


def assignments_of(function: ast.FunctionDef, name: str) -> list[ast.Assign]:
    """The statements `name = ...` in a function; `name` may have dots."""
    return [
        node
        for node in nodes_of(function)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
    ]


def parameter_names(function: ast.FunctionDef) -> list[str]:
    """Positional and keyword parameters, without `*args` and `**kwargs`."""
    a = function.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def require_parameters(function: ast.FunctionDef, *names: str) -> None:
    """Raises CannotEdit where a parameter is missing."""
    missing = [name for name in names if name not in parameter_names(function)]
    if missing:
        raise CannotEdit(f"{function.name} has no parameter {' and no parameter '.join(missing)}")


def bound_names(node: ast.AST) -> frozenset[str]:
    """Every name that is given a value somewhere below `node`: assigned, imported, defined or a parameter.

    Kept with the node, as `nodes_of` is.
    """
    kept: frozenset[str] | None = vars(node).get("bound_names")
    if kept is None:
        names = frozenset(name for inner in nodes_of(node) for name in binds(inner))
        kept = vars(node)["bound_names"] = names
    return kept


def outer_names(function: ast.FunctionDef) -> set[str]:
    """Names that a function reads from its module, or declares to be the module's."""
    read = {n.id for n in nodes_of(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    declared = {
        name for n in nodes_of(function) if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names
    }
    return (read - bound_names(function)) | declared


def statement_lists(node: ast.AST) -> list[list[ast.stmt]]:
    """Every list of statements below `node`, its own included."""
    found = []
    for inner in nodes_of(node):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(inner, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                found.append(body)
    return found


def same_code(one: ast.AST, other: ast.AST) -> bool:
    """Whether two expressions read the same, loaded or stored."""
    return ast.unparse(one) == ast.unparse(other)


def at_start_of(source: Source, function: ast.FunctionDef, lines: Sequence[str]) -> AddBlock:
    """A block in front of the first statement of a function, behind its docstring. Raises CannotEdit."""
    first = function.body[0]
    indent = indent_before(source.text, source.span(first)[0])
    if indent is None:
        raise CannotEdit(f"the body of {function.name} does not begin on a line of its own")
    if ast.get_docstring(function, clean=False) is not None:
        return behind(source, first, lines)
    index = source.token_index(parameters_of(source, function).close)
    while source.tokens[index].text != ":":
        index = max(index, source.brackets.get(index, 0)) + 1
    at = end_of_line(source.text, source.tokens[index].end)
    if at is None:
        raise CannotEdit(f"the body of {function.name} does not begin on a line of its own")
    return AddBlock(at, indent, unit_of(indent), tuple(lines))


def behind(source: Source, node: ast.stmt, lines: Sequence[str]) -> AddBlock:
    """A block on the lines after the statement `node`. Raises CannotEdit where it shares its lines."""
    start, end = source.span(node)
    indent, stop = indent_before(source.text, start), end_of_line(source.text, end)
    if indent is None or stop is None:
        raise CannotEdit(f"line {node.lineno} holds more than one statement")
    return AddBlock(stop, indent, unit_of(indent), tuple(lines))


def in_front_of(source: Source, node: ast.stmt, lines: Sequence[str]) -> AddBlock:
    """A block on the lines before the statement `node`. Raises CannotEdit where it shares its line."""
    start = source.span(node)[0]
    indent = indent_before(source.text, start)
    if indent is None:
        raise CannotEdit(f"line {node.lineno} holds more than one statement")
    return AddBlock(break_before(source.text, start), indent, unit_of(indent), tuple(lines))


@lru_cache(maxsize=64)
def _running_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """All functions but those below `if TYPE_CHECKING:`."""
    found = []
    waiting: list[ast.AST] = [tree]
    for node in waiting:
        if isinstance(node, ast.FunctionDef):
            found.append(node)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _is_overload(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(d) in ("overload", "typing.overload") for d in function.decorator_list)
