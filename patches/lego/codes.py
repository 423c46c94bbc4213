"""The patch `codes`: the language model makes no audio codes for a LEGO request; they would replace the context.

With `thinking` on, upstream's LEGO becomes a cover of what the language model made up, and the WAV is not read; until
14c0211 (2026-08-16), which leaves the language model out.
"""

from __future__ import annotations

import ast

from ..engine.find import behind, require_parameters, the_function
from ..engine.patch import Edit, Found, OlderForm, Patch
from ..engine.source import Source
from ..engine.states import CannotEdit, OtherCode, UpstreamFix

_NAME = "need_audio_codes"
_FIRST = ": LEGO takes its context in place of audio codes."
_LINE = f'{_NAME} = {_NAME} and params.task_type != "lego"'


def find(source: Source) -> Found:
    return _edit(source, (_FIRST, _LINE))


def find_0_1(source: Source) -> Found:
    return _edit(source, ("", _LINE))


def _edit(source: Source, lines: tuple[str, ...]) -> Found:
    function = the_function(source, "generate_music")
    require_parameters(function, "params")
    assigned = _assignments(function, _NAME)
    for statement in _assignments(function, "skip_lm_tasks"):
        if ast.unparse(statement.value) == "DIRECT_CONDITIONING_TASKS":
            return UpstreamFix("skip_lm_tasks is DIRECT_CONDITIONING_TASKS")
    for statement in [*assigned, *_assignments(function, "skip_lm_tasks")]:
        if any(isinstance(node, ast.Constant) and node.value == "lego" for node in ast.walk(statement.value)):
            return OtherCode(f"line {statement.lineno} has a rule of its own for LEGO")
    if len(assigned) != 1:
        raise CannotEdit(
            f"expected one assignment of {_NAME} in generate_music, found {len(assigned) or 'none'}"
        )
    return Edit(f"{_NAME} does not depend on the task", [behind(source, assigned[0], lines)])


def _assignments(function: ast.FunctionDef, name: str) -> list[ast.Assign]:
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
    ]


PATCH = Patch(
    name="codes",
    target="acestep/inference.py",
    summary="the language model makes no audio codes for LEGO",
    find=find,
    block_sizes={_FIRST: 2},
    older=OlderForm(
        "# LEGO: codes of the language model would take the context audio's place.", find_0_1, {"": 2}
    ),
)
