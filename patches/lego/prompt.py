"""The patch `prompt`: a LEGO request that gives no instruction gets LEGO's, not that of text2music.

The public API's default instruction is text2music's, whatever the task. Without a track's name it is the instruction
that names none.
"""

from __future__ import annotations

import ast

from ..engine.find import bound_names, in_front_of, require_parameters, the_function
from ..engine.patch import Edit, Found
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, OtherCode
from .one_block import Lines, one_block

_FUNCTION = "_resolve_generate_music_task"
_TEXTS = "TASK_INSTRUCTIONS"
_NEW = (
    ": the default instruction is text2music's.",
    f'default = (None, "", {_TEXTS}["text2music"])',
    'if task_type == "lego" and instruction in default:',
    f'    instruction = {_TEXTS}.get("lego_default", instruction)',
)
_OLD = (
    "",
    f'if task_type == "lego" and instruction in (None, "", {_TEXTS}["text2music"]):',
    f'    instruction = {_TEXTS}.get("lego_default", instruction)',
)


def find(source: Source, lines: Lines) -> Found:
    function = the_function(source, _FUNCTION)
    if any(isinstance(node, ast.Constant) and node.value == "lego" for node in nodes_of(function)):
        return OtherCode(f"{_FUNCTION} has a branch of its own for LEGO")
    require_parameters(function, "task_type", "instruction")
    if not any(isinstance(node, ast.Name) and node.id == _TEXTS for node in nodes_of(function)):
        raise CannotEdit(f"{_FUNCTION} does not use {_TEXTS}")
    if "default" in bound_names(function):
        raise CannotEdit(f"{_FUNCTION} uses the name default for something else")
    body = function.body
    if ast.get_docstring(function, clean=False) is not None and len(body) > 1:
        body = body[1:]
    return Edit(f"{_FUNCTION} has no branch for LEGO", [in_front_of(source, body[0], lines)])


PATCH = one_block(
    "prompt",
    "acestep/core/generation/handler/generate_music_request.py",
    "a LEGO request without an instruction gets LEGO's prompt",
    find,
    _NEW,
    "# LEGO: the default instruction is text2music's, and the model follows it.",
    _OLD,
)
