"""The patch `execute`: the call of `_mlx_run_diffusion` passes the requested number of steps.

Upstream left it out from be99eb9 (2026-02-15) until its own fix in 82a5d84 (2026-02-25); the kwargs of the request
always held `infer_steps`.
"""

from __future__ import annotations

import ast
import re

from ..engine.edits import AddItems
from ..engine.find import calls_of
from ..engine.lists import arguments_of
from ..engine.patch import Edit, Found, Patch
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, OtherCode, UpstreamFix
from .names import RUN
from .unpacked import unknown_unpacked

_DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_UPSTREAM_FIX = '.get("infer_steps")'


def find(source: Source) -> Found:
    """Raises CannotEdit where there is no single call, or no dict that holds the request."""
    calls = calls_of(source, RUN)
    if len(calls) != 1:
        raise CannotEdit(f"expected one call of {RUN}, found {len(calls) or 'none'}")
    call = calls[0]
    arguments = arguments_of(source, call)
    present = arguments.named("infer_steps")
    if present is not None:
        value = present.text.partition("=")[2].strip()
        if value in [name + _UPSTREAM_FIX for name in request_dicts(source, call)]:
            return UpstreamFix("the call passes infer_steps")
        return OtherCode(f"the call of {RUN} passes {_one_line(present.text)}")
    unpacked = unknown_unpacked(source, call, arguments, ("infer_steps",))
    if unpacked:
        return OtherCode(f"the call of {RUN} passes {', '.join(unpacked)}, which may hold infer_steps")
    names = request_dicts(source, call)
    if len(names) != 1:
        raise CannotEdit(f"expected one dict that holds the request, found {' and '.join(names) or 'none'}")
    new = f'infer_steps={names[0]}.get("infer_steps", 8)'
    after = arguments.named("timesteps") or arguments.last
    return Edit("the call passes no infer_steps", [AddItems(arguments, after, (new,))])


def request_dicts(source: Source, call: ast.Call) -> list[str]:
    """The names of the dict of the request: the call takes its timesteps from it, or PyTorch gets it as `**`."""
    for keyword in call.keywords:
        if keyword.arg == "timesteps":
            match keyword.value:
                case ast.Call(func=ast.Attribute(value=value, attr="get")) | ast.Subscript(value=value):
                    if _is_name(value):
                        return [ast.unparse(value)]
    return sorted(_given_to_pytorch(source, call))


def _given_to_pytorch(source: Source, call: ast.Call) -> set[str]:
    return {
        ast.unparse(keyword.value)
        for function in nodes_of(source.tree)
        if isinstance(function, ast.FunctionDef) and any(node is call for node in nodes_of(function))
        for other in calls_of(source, "generate_audio", function)
        for keyword in other.keywords
        if keyword.arg is None and _is_name(keyword.value)
    }


def _is_name(node: ast.expr) -> bool:
    """Whether reading the expression a second time calls nothing: `a` or `a.b`."""
    return _DOTTED_NAME.fullmatch(ast.unparse(node)) is not None


def _one_line(text: str) -> str:
    return " ".join(text.split())


PATCH = Patch(
    name="execute",
    target="execute",
    summary=f"the call of {RUN} passes the requested number of steps",
    find=find,
    items=("infer_steps",),
)
