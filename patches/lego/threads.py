"""The patch `threads`: the decoder's tables are computed where it is loaded, so that any thread may use it.

Since mlx 0.32 an array belongs to the thread that it was made in until it is computed. Upstream computed the weights
at load and left the tables of the positions lazy, until 612835b (2026-04-30).
"""

from __future__ import annotations

import ast

from ..engine.find import behind
from ..engine.patch import Edit, Found
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, UpstreamFix
from .one_block import Lines, one_block

_LINE = "mx.eval(self._cos, self._sin)"


def find(source: Source, lines: Lines) -> Found:
    if any(isinstance(node, ast.Call) and ast.unparse(node) == _LINE for node in nodes_of(source.tree)):
        return UpstreamFix(f"calls {_LINE}")
    found = [node for node in nodes_of(source.tree) if isinstance(node, ast.FunctionDef) and _tables(node)]
    if len(found) != 1:
        raise CannotEdit(
            f"expected one method that makes self._cos and self._sin, found {len(found) or 'none'}"
        )
    if not any(isinstance(node, ast.Import) and _is_mlx(node) for node in nodes_of(source.tree)):
        raise CannotEdit("mlx.core is not imported as mx")
    return Edit(
        "the tables of the positions are not evaluated",
        [behind(source, _tables(found[0])[-1], lines)],
    )


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


PATCH = one_block(
    "threads",
    "decoder",
    "the MLX decoder can be used from any thread, also with mlx 0.32",
    find,
    (": lazy tables could not be used from another thread.", _LINE),
    "# Computed here: a table that is still lazy cannot be used from another thread.",
    ("", _LINE),
)
