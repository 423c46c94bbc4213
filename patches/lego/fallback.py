"""The patch `fallback`: a LEGO request that fails on MLX fails with the reason; PyTorch does not run in its place.

Upstream catches whatever MLX raises, runs PyTorch and reports success, in all its known states.
"""

from __future__ import annotations

import ast

from ..engine.find import bound_names, calls_of, in_front_of, parameter_names
from ..engine.patch import Edit, Found, OlderForm, Patch
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, NotAffected
from ..steps.names import RUN
from .words import LEGO_WORDS

_FIRST = ": a failure of MLX ends a LEGO request."


def find(source: Source) -> Found:
    found = _handler(source)
    if isinstance(found, NotAffected):
        return found
    function, handler = found
    if "text" in bound_names(function):
        raise CannotEdit(f"{function.name} uses the name text for something else")
    lines = (
        _FIRST,
        'text = str(payload.get("text_inputs")).lower()',
        f'if "{LEGO_WORDS}" in text:',
        f'    raise RuntimeError(f"MLX failed: {{{handler.name}}}") from {handler.name}',
    )
    return Edit(f"a handler around the call of {RUN} goes on", [in_front_of(source, handler.body[0], lines)])


def find_0_1(source: Source) -> Found:
    found = _handler(source)
    if isinstance(found, NotAffected):
        return found
    handler = found[1]
    reason = f'"LEGO failed on MLX, and PyTorch was not run in its place: {{}}".format({handler.name})'
    lines = (
        "",
        f'if "{LEGO_WORDS}" in str(payload.get("text_inputs")).lower():',
        f"    raise RuntimeError({reason}) from {handler.name}",
    )
    return Edit("", [in_front_of(source, handler.body[0], lines)])


def _handler(source: Source) -> tuple[ast.FunctionDef, ast.ExceptHandler] | NotAffected:
    """The one handler around the MLX run that goes on with the request, and its function."""
    found = [(function, handler) for function, node in _tries(source) for handler in _continuing(node)]
    if not found and calls_of(source, RUN):
        return NotAffected(f"no handler around the call of {RUN} goes on")
    if len(found) != 1:
        raise CannotEdit(f"expected one handler that goes on where MLX fails, found {len(found) or 'none'}")
    function, handler = found[0]
    if "payload" not in parameter_names(function):
        raise CannotEdit(f"{function.name} takes no payload, so a LEGO request cannot be recognised there")
    if handler.name is None:
        raise CannotEdit("the handler that goes on does not name what it caught")
    return function, handler


def _tries(source: Source) -> list[tuple[ast.FunctionDef, ast.Try]]:
    """The innermost try statements around a call of the MLX run, each with its function."""
    return [
        (function, node)
        for function in nodes_of(source.tree)
        if isinstance(function, ast.FunctionDef)
        for node in nodes_of(function)
        if isinstance(node, ast.Try) and any(calls_of(source, RUN, statement) for statement in node.body)
    ]


def _continuing(node: ast.Try) -> list[ast.ExceptHandler]:
    """The handlers that go on with the request: all that do not end in a raise."""
    return [handler for handler in node.handlers if not isinstance(handler.body[-1], ast.Raise)]


PATCH = Patch(
    name="fallback",
    target="execute",
    summary="a LEGO request that fails on MLX fails with the reason; PyTorch does not run in its place",
    find=find,
    block_sizes={_FIRST: 4},
    older=OlderForm("# LEGO: a failure of MLX is one; PyTorch is not run in its place.", find_0_1, {"": 3}),
)
