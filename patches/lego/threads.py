"""`threads`: the decoder's tables are computed where it is loaded, so that any thread may use it.

Since mlx 0.32 an array belongs to the thread that it was made in until it is computed. Upstream computed the
weights at load and left the tables of the positions lazy, until it repaired that itself.
"""

from __future__ import annotations

import ast

from ..outcomes import CannotEdit
from ..source import Source
from .block import Block, behind

NAME = "threads"
FILE = "acestep/models/mlx/dit_model.py"
WHAT = "the MLX decoder can be used from any thread, also with mlx 0.32"
COMMENT = "# Computed here: a table that is still lazy cannot be used from another thread."
SIZE = 2


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if some call of eval already takes both tables."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="eval"), args=args):
                if {"self._cos", "self._sin"} <= {ast.unparse(arg) for arg in args}:
                    return "computes its tables itself"
    return None


def place(source: Source) -> Block:
    found = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef) and _tables(node)]
    if len(found) != 1:
        raise CannotEdit(
            f"expected one method that makes self._cos and self._sin, found {len(found) or 'none'}"
        )
    if not any(isinstance(n, ast.Import) and _is_mlx(n) for n in ast.walk(source.tree)):
        raise CannotEdit("mlx.core is not imported as mx")
    return behind(source, _tables(found[0])[-1], [COMMENT, "mx.eval(self._cos, self._sin)"])


def _tables(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of its own level that set both tables, in their order; none if one is missing."""
    made = {}
    for statement in function.body:
        if isinstance(statement, ast.Assign):
            made.update({ast.unparse(target): statement for target in statement.targets})
    names = [name for name in made if name in ("self._cos", "self._sin")]
    return [made[name] for name in names] if len(names) == 2 else []


def _is_mlx(node: ast.Import) -> bool:
    return any(alias.name == "mlx.core" and alias.asname == "mx" for alias in node.names)
