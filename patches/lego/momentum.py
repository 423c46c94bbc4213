"""`momentum`: guidance on MLX has PyTorch's momentum of -0.75, not a running sum.

Upstream's MLX path adds up the differences of both branches since 82a5d84 (2026-02-25), in its newest known state
too: guidance 7 is then 0.55 (relative L2) away from PyTorch.
"""

from __future__ import annotations

import ast
from itertools import pairwise

from ..names import GENERATE
from ..outcomes import CannotEdit
from ..source import Source
from .block import Block, behind, bodies, functions_named, parameters

NAME = "momentum"
FILE = GENERATE
WHAT = "guidance on MLX has PyTorch's momentum, -0.75"
COMMENT = "# PyTorch's momentum: what is kept for the next step is -0.75 of the difference, not all of it."
SIZE = 2
MOMENTUM = -0.75


def settled(source: Source) -> str | None:
    """Why there is nothing to do: no guidance on MLX, or the momentum is in already."""
    functions = functions_named(source, GENERATE)
    if len(functions) == 1 and "guidance_scale" not in parameters(functions[0]):
        return "MLX takes no guidance here, so there is no momentum to mend"
    for statement in (statement for body in bodies(source.tree) for statement in body):
        match statement:
            case ast.Assign(targets=[ast.Subscript()], value=ast.BinOp(op=ast.Mult(), left=factor)) if (
                ast.unparse(factor) == str(MOMENTUM)
            ):
                return "keeps -0.75 of the difference"
    return None


def place(source: Source) -> Block:
    found = [statement for body in bodies(source.tree) for statement in _running_sums(body)]
    if len(found) != 1:
        raise CannotEdit(
            f"expected one running sum of the branches' difference, found {len(found) or 'none'}"
        )
    kept, name = found[0]
    line = f"{ast.unparse(kept.targets[0])} = {MOMENTUM} * {name}"
    return behind(source, kept, [COMMENT, line.replace("'", '"')])


def _running_sums(body: list[ast.stmt]) -> list[tuple[ast.Assign, str]]:
    """`d = d + state.get("key", 0)` and, next, `state["key"] = d`: the latter, with the name d."""
    found = []
    for first, second in pairwise(body):
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
                found.append((second, made))
    return found
