"""Whether a schedule with further parameters, such as a fork's `scheduler`, lets custom timesteps go before them.

Then a branch for custom timesteps in front of the function's own code switches none of them off.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..engine.source import nodes_of
from ..engine.states import CannotEdit


def require_custom_timesteps_first(schedule: ast.FunctionDef, further: Sequence[str]) -> None:
    """Raises CannotEdit unless the parameters `further` are read only where custom timesteps gave no schedule.

    That is: in the else of `if timesteps is not None`, or behind it where it ends in a return; or below an `if` whose
    condition holds `timesteps is None`, or `x is None` for an x that such a branch before it assigns.
    """
    no_timesteps = {"timesteps is None"}
    for statement in schedule.body:
        reached: list[ast.stmt] = [statement]  # with custom timesteps
        given: list[ast.stmt] = []
        match statement:
            case ast.If(test=test, body=body, orelse=orelse) if not no_timesteps.isdisjoint(
                _conditions(test)
            ):
                reached = orelse
            case ast.If(test=test, body=body) if ast.unparse(test) == "timesteps is not None":
                reached = given = body
        read = sorted(set(further) & {node.id for node in _names(reached)})
        if read:
            raise CannotEdit(
                f"{schedule.name} also takes {', '.join(read)} and reads it where timesteps may be given, so that "
                "custom timesteps in front would switch it off; verify shows what its own code does with the steps"
            )
        if given and isinstance(given[-1], ast.Return):
            return
        no_timesteps |= {f"{node.id} is None" for node in _names(given) if isinstance(node.ctx, ast.Store)}


def _conditions(test: ast.expr) -> set[str]:
    """What has to hold for the test to hold, as far as `and` joins it."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    return {ast.unparse(part) for part in parts}


def _names(statements: Sequence[ast.stmt]) -> list[ast.Name]:
    """Every name that is read or assigned somewhere in the statements."""
    return [node for statement in statements for node in nodes_of(statement) if isinstance(node, ast.Name)]
