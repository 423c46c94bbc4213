"""The patch `context`: the decoder gets the context audio also in the frames where the stem is to be generated.

Upstream replaced them by silence until d4ffe89 .. 7f6e615 (2026-03-11): with the usual request, over the whole length,
the context gave nothing but its duration.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..engine.find import behind, bound_names, require_parameters, same_code, statement_lists, the_function
from ..engine.patch import Edit, Found, OlderForm, Patch
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, OtherCode, UpstreamFix
from .words import LEGO_WORDS

_FUNCTION = "_build_chunk_masks_and_src_latents"
_FIRST = ": LEGO keeps the context where the stem is generated."
_UPSTREAM_TESTS = ("task_type == 'lego'", "_LEGO_INSTRUCTION_MARKER in instruction_i.lower()")


def find(source: Source) -> Found:
    """Raises CannotEdit where there is no single place at which the source latents are silenced."""
    function = the_function(source, _FUNCTION)
    present = _lego_branch(function)
    if present:
        return present
    if "text" in bound_names(function):
        raise CannotEdit(f"{_FUNCTION} uses the name text for something else")
    silencing, made, index = _silencing(function)
    return Edit(
        "source latents become silence, whatever the task",
        [
            behind(
                source,
                silencing,
                (
                    _FIRST,
                    f'text = "".join((instructions or [])[{index} : {index} + 1]).lower()',
                    f'if "{LEGO_WORDS}" in text:',
                    f"    {source.code(made)}",
                ),
            )
        ],
    )


def find_0_1(source: Source) -> Found:
    function = the_function(source, _FUNCTION)
    silencing, _, index = _silencing(function)
    target = silencing.targets[0]
    assert isinstance(target, ast.Subscript)
    question = f'if "{LEGO_WORDS}" in "".join((instructions or [])[{index} : {index} + 1]).lower():'
    kept = f"    {ast.unparse(target)} = target_latents[{index}][{ast.unparse(target.slice)}]"
    return Edit("", [behind(source, silencing, ("", question, kept))])


def _lego_branch(function: ast.FunctionDef) -> UpstreamFix | OtherCode | None:
    """The condition in front of the silencing, if it asks for LEGO."""
    for node in nodes_of(function):
        if not isinstance(node, ast.If) or not _silencings([node]):
            continue
        test = ast.unparse(node.test)
        if test == "not is_lego" and _is_lego(function) in _UPSTREAM_TESTS:
            return UpstreamFix("the silencing depends on is_lego")
        if "lego" in test.lower() or "audio context" in test.lower():
            return OtherCode(f"the silencing depends on `{test}`")
    return None


def _is_lego(function: ast.FunctionDef) -> str:
    values = [
        ast.unparse(node.value)
        for node in nodes_of(function)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["is_lego"]
    ]
    return values[0] if len(values) == 1 else ""


def _silencing(function: ast.FunctionDef) -> tuple[ast.Assign, ast.Assign, str]:
    """The statement that silences, the one that made its target of `target_latents[index]`, and that index."""
    require_parameters(function, "instructions", "target_latents", "silence_latent_tiled")
    found = _silencings([function])
    if len(found) != 1:
        raise CannotEdit(f"expected one place where the source is silenced, found {len(found) or 'none'}")
    statement, body = found[0]
    target = statement.targets[0]
    assert isinstance(target, ast.Subscript)
    for earlier in body:
        match earlier:
            case ast.Assign(targets=[made], value=value) if same_code(made, target.value):
                for node in nodes_of(value):
                    match node:
                        case ast.Subscript(value=ast.Name(id="target_latents"), slice=ast.Name(id=index)):
                            return statement, earlier, index
    raise CannotEdit(f"what is silenced in {function.name} was not made of target_latents there")


def _silencings(nodes: Sequence[ast.AST]) -> list[tuple[ast.Assign, list[ast.stmt]]]:
    """`x[a:b] = silence_latent_tiled[a:b]`, each with the statements that it stands among."""
    found = []
    for body in (body for node in nodes for body in statement_lists(node)):
        for statement in body:
            match statement:
                case ast.Assign(
                    targets=[ast.Subscript(slice=ast.Slice() as into)],
                    value=ast.Subscript(value=ast.Name(id="silence_latent_tiled"), slice=ast.Slice() as out),
                ) if same_code(into, out):
                    found.append((statement, body))
    return found


PATCH = Patch(
    name="context",
    target="acestep/core/generation/handler/conditioning_masks.py",
    summary="LEGO keeps its context audio where the stem is generated",
    find=find,
    block_sizes={_FIRST: 4},
    older=OlderForm("# LEGO: the decoder hears the context also where it is to generate.", find_0_1, {"": 3}),
)
