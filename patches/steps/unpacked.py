"""Which keywords a call passes as `**name`, where the function makes that dict and no other code can change it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..engine.find import bound_names
from ..engine.lists import ItemList
from ..engine.local_names import bindings_of, enclosing_function
from ..engine.source import Source, nodes_of


def unknown_unpacked(source: Source, call: ast.Call, arguments: ItemList, names: Sequence[str]) -> list[str]:
    """The unpacked arguments of a call that may hold one of `names`, as they stand in the file."""
    function = None if "dict" in bound_names(source.tree) else enclosing_function(source, call)
    found = []
    for item in arguments.items:
        if item.stars:
            keys = None if item.stars == "*" or function is None else _keys(function, item.name, item.text)
            if keys is None or keys & set(names):
                found.append(item.text)
    return found


def _keys(function: ast.FunctionDef, name: str, text: str) -> set[str] | None:
    """Every key that the local dict `name` can hold; None where that cannot be told.

    It is bound once, to `{"key": value}` or `dict(key=value)`. Otherwise it is unpacked or subscripted with a literal
    key, and never passed on, so that nothing else can add a key.
    """
    made = bindings_of(function, name)
    if text != f"**{name}" or len(made) != 1:
        return None
    keys = _literal_keys(made[0])
    parents = {child: node for node in nodes_of(function) for child in ast.iter_child_nodes(node)}
    for node in nodes_of(function):
        if keys is None:
            return None
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            match parents[node]:
                case ast.keyword(arg=None):
                    pass
                case ast.Subscript(value=value, slice=ast.Constant(value=str(key))) if value is node:
                    keys |= {key}
                case _:
                    return None
    return keys


def _literal_keys(value: ast.expr | None) -> set[str] | None:
    match value:
        case ast.Dict(keys=keys):
            found = [
                key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
            return set(found) if len(found) == len(keys) else None
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            names = [keyword.arg for keyword in keywords if keyword.arg is not None]
            return set(names) if len(names) == len(keywords) else None
    return None
