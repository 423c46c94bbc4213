"""The patch `codes`: the language model makes no audio codes for a LEGO request; they would replace the context.

With `thinking` on, upstream's LEGO becomes a cover of what the language model made up, and the WAV is not read; until
14c0211 (2026-08-16), which leaves the language model out.
"""

from __future__ import annotations

import ast

from ..engine.find import assignments_of, behind, require_parameters, the_function
from ..engine.patch import Edit, Found
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, OtherCode, UpstreamFix
from .one_block import Lines, one_block

_NAME = "need_audio_codes"
_LINE = f'{_NAME} = {_NAME} and params.task_type != "lego"'


def find(source: Source, lines: Lines) -> Found:
    function = the_function(source, "generate_music")
    require_parameters(function, "params")
    assigned = assignments_of(function, _NAME)
    skipped = assignments_of(function, "skip_lm_tasks")
    for statement in skipped:
        if ast.unparse(statement.value) == "DIRECT_CONDITIONING_TASKS":
            return UpstreamFix("skip_lm_tasks is DIRECT_CONDITIONING_TASKS")
    for statement in [*assigned, *skipped]:
        if any(isinstance(node, ast.Constant) and node.value == "lego" for node in nodes_of(statement.value)):
            return OtherCode(f"line {statement.lineno} has a rule of its own for LEGO")
    if len(assigned) != 1:
        raise CannotEdit(
            f"expected one assignment of {_NAME} in generate_music, found {len(assigned) or 'none'}"
        )
    return Edit(f"{_NAME} does not depend on the task", [behind(source, assigned[0], lines)])


PATCH = one_block(
    "codes",
    "acestep/inference.py",
    "the language model makes no audio codes for LEGO",
    find,
    (": LEGO takes its context in place of audio codes.", _LINE),
    "# LEGO: codes of the language model would take the context audio's place.",
    ("", _LINE),
)
