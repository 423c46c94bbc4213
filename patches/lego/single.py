"""The one assignment of a name that a patch goes behind."""

from __future__ import annotations

import ast

from ..outcomes import CannotEdit


def assignment(function: ast.FunctionDef, name: str, value: str) -> ast.Assign:
    """The one `name = value` in a function. Raises CannotEdit where there is none, or more."""
    found = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and [ast.unparse(target) for target in node.targets] == [name]
        and ast.unparse(node.value) == value
    ]
    if len(found) != 1:
        raise CannotEdit(f"expected one `{name} = {value}` in {function.name}, found {len(found) or 'none'}")
    return found[0]


def names_in(node: ast.AST) -> set[str]:
    """Every name and dotted name in an expression."""
    return {ast.unparse(n) for n in ast.walk(node) if isinstance(n, (ast.Name, ast.Attribute))}
