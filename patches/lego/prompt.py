"""`prompt`: a LEGO request that gives no instruction gets LEGO's, not that of text2music.

The public API's default instruction is text2music's, whatever the task; only a caller that fills in the field
gets another one. Without a track's name it is the instruction that names none.
"""

from __future__ import annotations

import ast

from ..outcomes import CannotEdit
from ..source import Source
from .block import Block, before, the_function, want_parameters

NAME = "prompt"
FILE = "acestep/core/generation/handler/generate_music_request.py"
WHAT = "a LEGO request without an instruction gets LEGO's prompt"
COMMENT = "# LEGO: the default instruction is text2music's, and the model follows it."
SIZE = 3
_FUNCTION = "_resolve_generate_music_task"
_TEXTS = "TASK_INSTRUCTIONS"


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if the function asks for LEGO already."""
    for node in ast.walk(the_function(source, _FUNCTION)):
        match node:
            case ast.Compare(left=ast.Name(id="task_type"), comparators=[ast.Constant(value="lego")]):
                return "has a prompt of its own for LEGO"
    return None


def place(source: Source) -> Block:
    function = the_function(source, _FUNCTION)
    want_parameters(function, "task_type", "instruction")
    if not any(isinstance(node, ast.Name) and node.id == _TEXTS for node in ast.walk(function)):
        raise CannotEdit(f"{_FUNCTION} does not know {_TEXTS}")
    body = function.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and len(body) > 1:
        body = body[1:]
    question = f'if task_type == "lego" and instruction in (None, "", {_TEXTS}["text2music"]):'
    return before(
        source, body[0], [COMMENT, question, f'    instruction = {_TEXTS}.get("lego_default", instruction)']
    )
