"""The patch `momentum`: guidance on MLX has PyTorch's APG momentum of -0.75, not a running sum.

Upstream's MLX path adds up the differences of both branches since 82a5d84 (2026-02-25), in its newest known state
too: guidance 7 is then 0.55 (relative L2) away from PyTorch.
"""

from __future__ import annotations

import ast
from itertools import pairwise

from ..engine.find import behind, functions_named, parameter_names, statement_lists
from ..engine.patch import Edit, Found
from ..engine.source import Source
from ..engine.states import CannotEdit, NotAffected, OtherCode
from ..steps.names import GENERATE
from .one_block import Lines, one_block

MOMENTUM = -0.75
_LINE = f"{{kept}} = {MOMENTUM} * {{difference}}"  # the names are those of the file


def find(source: Source, lines: Lines) -> Found:
    functions = functions_named(source, GENERATE)
    if len(functions) == 1 and "guidance_scale" not in parameter_names(functions[0]):
        return NotAffected(f"{GENERATE} has no guidance")
    sums = [found for body in statement_lists(source.tree) for found in _running_sums(body)]
    if not sums and any(str(MOMENTUM) in ast.unparse(node) for node in source.tree.body):
        return OtherCode(f"{MOMENTUM} stands in code that is not known here")
    if len(sums) != 1:
        raise CannotEdit(f"expected one running sum of the branches' difference, found {len(sums) or 'none'}")
    stored, following, name = sums[0]
    if following is not None and ast.unparse(following).startswith(f"{ast.unparse(stored.targets[0])} ="):
        return OtherCode(f"line {following.lineno} stores another momentum")
    first, line = lines
    line = line.format(kept=source.code(stored.targets[0]), difference=name)
    return Edit("the momentum buffer is a running sum", [behind(source, stored, (first, line))])


def _running_sums(body: list[ast.stmt]) -> list[tuple[ast.Assign, ast.stmt | None, str]]:
    """`d = d + state.get("key", 0)` and, next, `state["key"] = d`: the latter, what follows it, and the name d."""
    found = []
    for index, (first, second) in enumerate(pairwise(body)):
        match first, second:
            case (
                ast.Assign(
                    targets=[ast.Name(id=made)],
                    value=ast.BinOp(
                        left=ast.Name(id=left),
                        op=ast.Add(),
                        right=ast.Call(
                            func=ast.Attribute(value=held, attr="get"), args=[ast.Constant(value=key), *_]
                        ),
                    ),
                ),
                ast.Assign(
                    targets=[ast.Subscript(value=state, slice=ast.Constant(value=kept))],
                    value=ast.Name(id=value),
                ),
            ) if made == left == value and key == kept and ast.unparse(held) == ast.unparse(state):
                following = body[index + 2] if index + 2 < len(body) else None
                found.append((second, following, made))
    return found


PATCH = one_block(
    "momentum",
    "generate",
    f"guidance on MLX has PyTorch's APG momentum, {MOMENTUM}",
    find,
    (f": PyTorch's momentum buffer keeps {MOMENTUM} of the difference.", _LINE),
    "# PyTorch's momentum: what is kept for the next step is -0.75 of the difference, not all of it.",
    ("", _LINE),
)
