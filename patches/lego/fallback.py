"""`fallback`: a LEGO request that fails on MLX fails, with the reason; PyTorch is not run in its place.

Upstream catches whatever MLX raises, runs PyTorch and reports success, in all its states.
"""

from __future__ import annotations

import ast

from ..names import RUN
from ..outcomes import CannotEdit
from ..source import Source
from .block import Block, before, parameters
from .words import LEGO_WORDS

NAME = "fallback"
FILE = "execute"
WHAT = "a LEGO request that fails on MLX fails with the reason; PyTorch does not run in silence"
COMMENT = "# LEGO: a failure of MLX is one; PyTorch is not run in its place."
SIZE = 3


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if no handler around the MLX run goes on."""
    tries = _tries(source)
    if tries and not any(_handlers(node) for _, node in tries):
        return "lets what MLX raises through"
    if not tries and any(_calls(node, RUN) for node in ast.walk(source.tree)):
        return "lets what MLX raises through"
    return None


def place(source: Source) -> Block:
    found = [(function, handler) for function, node in _tries(source) for handler in _handlers(node)]
    if len(found) != 1:
        raise CannotEdit(f"expected one handler that goes on where MLX fails, found {len(found) or 'none'}")
    function, handler = found[0]
    if "payload" not in parameters(function):
        raise CannotEdit(f"{function.name} takes no payload, so a LEGO request cannot be told there")
    if handler.name is None:
        raise CannotEdit("the handler that goes on gives what it caught no name")
    question = f'if "{LEGO_WORDS}" in str(payload.get("text_inputs")).lower():'
    reason = f'"LEGO failed on MLX, and PyTorch was not run in its place: {{}}".format({handler.name})'
    return before(
        source, handler.body[0], [COMMENT, question, f"    raise RuntimeError({reason}) from {handler.name}"]
    )


def _tries(source: Source) -> list[tuple[ast.FunctionDef, ast.Try]]:
    """The innermost try statements around a call of the MLX run, each with its function."""
    found = []
    for function in (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Try) and any(
                _calls(inner, RUN) for s in node.body for inner in ast.walk(s)
            ):
                found.append((function, node))
    return found


def _handlers(node: ast.Try) -> list[ast.ExceptHandler]:
    """Those that go on with the request, whatever they do then: all that do not end in a raise."""
    return [handler for handler in node.handlers if not isinstance(handler.body[-1], ast.Raise)]


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
