"""What the names in a function are bound to."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from .source import Source, nodes_of


def binds(node: ast.AST) -> Sequence[str]:
    """The names that this node itself, not one below it, gives a value."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.alias(name=name, asname=asname):
            return [asname or name.partition(".")[0]]
        case ast.arg(arg=name):
            return [name]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
    return []


def calls_by_local_name(source: Source, name: str) -> list[ast.Call]:
    """The calls of a local name that is bound once, to `self.NAME` or `NAME`, and only ever called."""
    found = []
    for function in nodes_of(source.tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for local in _names_bound_to(function, name):
            calls = [
                node
                for node in nodes_of(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == local
            ]
            uses = sum(
                isinstance(node, ast.Name) and node.id == local and isinstance(node.ctx, ast.Load)
                for node in nodes_of(function)
            )
            if uses == len(calls):
                found += calls
    return found


def _names_bound_to(function: ast.FunctionDef, name: str) -> list[str]:
    found = []
    for node in nodes_of(function):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=local)], value=ast.Attribute(attr=bound) | ast.Name(id=bound)
            ):
                if bound == name and len(bindings_of(function, local)) == 1:
                    found.append(local)
    return found


def bindings_of(function: ast.FunctionDef, name: str) -> list[ast.expr | None]:
    """What the function binds a local name to: one entry for each place, None where it is no plain assignment."""
    plain: dict[ast.AST, ast.expr] = {}
    for node in nodes_of(function):
        match node:
            case ast.Assign(targets=[ast.Name() as target], value=value):
                plain[target] = value
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                plain[target] = value
    return [plain.get(node) for node in nodes_of(function) if name in binds(node)]


def enclosing_function(source: Source, node: ast.AST) -> ast.FunctionDef | None:
    """The innermost function around a node."""
    around = [
        function
        for function in nodes_of(source.tree)
        if isinstance(function, ast.FunctionDef) and any(inner is node for inner in nodes_of(function))
    ]
    return max(around, key=lambda function: function.lineno, default=None)
