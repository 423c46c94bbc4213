"""`context`: the decoder hears the context audio, also in the frames where the stem is to be generated.

Upstream silenced them until d4ffe89 .. 7f6e615 (2026-03-10): with the usual request, over the whole length, the
context gave nothing but its duration.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..outcomes import CannotEdit
from ..source import Source
from .block import Block, behind, bodies, same, the_function, want_parameters
from .words import LEGO_WORDS

NAME = "context"
FILE = "acestep/core/generation/handler/conditioning_masks.py"
WHAT = "LEGO keeps its context audio where the stem is generated"
COMMENT = "# LEGO: the decoder hears the context also where it is to generate."
SIZE = 3
_ASKED_FOR = ("lego", "audio context")
_FUNCTION = "_build_chunk_masks_and_src_latents"


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if the silencing is behind a question for LEGO already."""
    function = the_function(source, _FUNCTION)
    for node in ast.walk(function):
        asks = isinstance(node, ast.If) and any(w in ast.unparse(node.test).lower() for w in _ASKED_FOR)
        if asks and _silencings([node]):
            return "tells LEGO apart in its own way"
    return None


def place(source: Source) -> Block:
    function = the_function(source, _FUNCTION)
    want_parameters(function, "instructions", "target_latents", "silence_latent_tiled")
    found = _silencings([function])
    if len(found) != 1:
        raise CannotEdit(f"expected one place where the source is silenced, found {len(found) or 'none'}")
    statement, body = found[0]
    target = statement.targets[0]
    assert isinstance(target, ast.Subscript)
    index = _item(function, body, target.value)
    question = f'if "{LEGO_WORDS}" in "".join((instructions or [])[{index} : {index} + 1]).lower():'
    kept = f"    {ast.unparse(target)} = target_latents[{index}][{ast.unparse(target.slice)}]"
    return behind(source, statement, [COMMENT, question, kept])


def _silencings(nodes: Sequence[ast.AST]) -> list[tuple[ast.Assign, list[ast.stmt]]]:
    """`heard[a:b] = silence_latent_tiled[a:b]`, each with the statements that it stands among."""
    found = []
    for body in (body for node in nodes for body in bodies(node)):
        for statement in body:
            match statement:
                case ast.Assign(
                    targets=[ast.Subscript(slice=ast.Slice() as into)],
                    value=ast.Subscript(value=ast.Name(id="silence_latent_tiled"), slice=ast.Slice() as out),
                ) if same(into, out):
                    found.append((statement, body))
    return found


def _item(function: ast.FunctionDef, body: list[ast.stmt], heard: ast.expr) -> str:
    """The name of the batch item's index: `heard` was made of `target_latents[that]`."""
    for statement in body:
        match statement:
            case ast.Assign(targets=[made], value=value) if same(made, heard):
                for node in ast.walk(value):
                    match node:
                        case ast.Subscript(value=ast.Name(id="target_latents"), slice=ast.Name(id=index)):
                            return index
    raise CannotEdit(f"what is silenced in {function.name} was not made of target_latents there")
